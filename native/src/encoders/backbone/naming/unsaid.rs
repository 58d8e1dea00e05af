//! What the names of tensors hardly say of an encoder: whose it is, and whether it computes something that is not supported.

use anyhow::{Result, bail};
use dinomaly_core::model::config::{EncoderConfig, Mlp, Positions};

use super::Tensors;
use super::convention::Naming;
use super::part::Part;
use crate::encoders::backbone::told::Origin;

/// End of the prefix of anomalib's encoders since 2.5.1.
const ANOMALIB: &str = "feature_extractor.";

/// Width of EVA-02-E.
const EVA02_E_WIDTH: usize = 1792;

impl Tensors {
    /// The library that the names of tensors tell; of the others the names are those of the original project.
    pub(super) fn origin(&self) -> Option<Origin> {
        match self.naming {
            Naming::HuggingFace => Some(Origin::Transformers),
            _ if self.prefix.ends_with(ANOMALIB) => Some(Origin::Anomalib),
            _ if self.by_name.contains_key("reg_token") => Some(Origin::Timm),
            _ => None,
        }
    }

    /// Refuses encoders that compute what their names and shapes hardly say: timm's files hold nothing of rotary positions.
    pub(super) fn refuse_unsupported(&self, config: &EncoderConfig, name: &str, origin: Option<Origin>) -> Result<()> {
        if config.positions != Positions::Table {
            return Ok(());
        }
        let has = |tensor: &str| self.in_any_block(tensor);
        let separate = has("attn.q_bias") || has("attn.q_proj.bias");
        if separate && (config.mlp == Mlp::SwiGlu || has("mlp.fc1_g.weight")) {
            bail!("it is EVA-02, whose rotary positions beside a table are not supported (q_bias and SwiGLU tell it)");
        }
        if separate && config.hidden_size == EVA02_E_WIDTH {
            bail!(
                "it is EVA-02-E, whose norms after attention and MLP are not supported (q_bias and its width tell it)"
            );
        }
        if has("gamma_1") && !name.to_ascii_lowercase().contains("deit") && origin != Some(Origin::Original) {
            bail!(
                "it is DeiT III, or timm's vit_…_rope_ape, which has the same tensors and rotary positions that are not supported: \
                 if it is DeiT III, say so with --origin original"
            );
        }
        Ok(())
    }

    /// Whether a block of a file with the original names has this tensor.
    pub(super) fn in_any_block(&self, tensor: &str) -> bool {
        self.naming == Naming::Original && self.has(&[Part::Block(tensor.into())])
    }
}
