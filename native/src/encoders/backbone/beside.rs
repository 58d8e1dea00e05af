//! What the files beside the weights, or their name, say of an encoder: `config.json` and `preprocessor_config.json` of transformers,
//! `config.json` of timm, timm's table of names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::{Mlp, Positions};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::told::Origin;
use super::{Backbone, timm};

/// Base of the periods of rotary positions, see `positions::rotary`.
const ROPE_THETA: f64 = 100.0;

/// What is said of an encoder beside its tensors.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Beside {
    /// Number of attention heads.
    pub(super) heads: Option<usize>,
    /// The library that wrote the files.
    pub(super) origin: Option<Origin>,
    layer_norm_eps: Option<f64>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    activation: Option<String>,
}

/// `config.json` of transformers or of timm.
#[derive(Deserialize)]
struct Config {
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    /// Name of timm's model.
    architecture: Option<String>,
    #[serde(default)]
    model_args: ModelArgs,
    #[serde(default)]
    pretrained_cfg: PretrainedConfig,
}

/// Options that timm makes a model with.
#[derive(Default, Deserialize)]
struct ModelArgs {
    num_heads: Option<usize>,
}

#[derive(Default, Deserialize)]
struct PretrainedConfig {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

#[derive(Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    do_normalize: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
}

impl Beside {
    /// Reads `config.json` and `preprocessor_config.json` beside weights with a name of Hugging Face.
    ///
    /// # Errors
    /// If one is there and is no JSON of such values, or says what is not supported.
    pub(super) fn of(file: &Path) -> Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let starts = |stem: &&str| name.strip_prefix(*stem).is_some_and(|rest| rest.starts_with(['.', '-']));
        let is_theirs = ["model", "pytorch_model"].iter().any(starts)
            && [".safetensors", ".bin"].iter().any(|ending| name.ends_with(ending));
        if !is_theirs {
            return Ok(Self::default());
        }
        let mut said = Self::default();
        if let Some(config) = read_json::<Config>(&file.with_file_name("config.json"))? {
            said = config.said()?;
        }
        if let Some(pixels) = read_json::<Preprocessor>(&file.with_file_name("preprocessor_config.json"))? {
            pixels.check()?;
            (said.mean, said.std) = match pixels.do_normalize {
                Some(false) => (Some([0.0; 3]), Some([1.0; 3])),
                _ => (pixels.image_mean.or(said.mean), pixels.image_std.or(said.std)),
            };
        }
        if let Some(std) = said.std.iter().flatten().find(|std| !(**std > 0.0 && std.is_finite())) {
            bail!("the file beside it has the standard deviation {std}, which must be positive");
        }
        Ok(said)
    }

    /// Adds what timm's table says of models of this name, where no file says it.
    ///
    /// # Errors
    /// If timm's model of this name computes what is not supported.
    pub(super) fn or_timm(&mut self, name: &str) -> Result<()> {
        timm::refuse_unsupported(name)?;
        if let Some(known) = timm::find(name) {
            self.heads = self.heads.or(known.heads);
            if let (None, Some((mean, std))) = (self.mean, known.pixels()) {
                println!(
                    "pixels of {name} are normalised as timm says: mean {mean:?}, std {std:?} (--mean and --std say otherwise)"
                );
                (self.mean, self.std) = (Some(mean), Some(std));
            }
        }
        Ok(())
    }

    /// Sets in an encoder what is said of it.
    ///
    /// # Errors
    /// If its activation is another one than is computed.
    pub(super) fn apply(&self, backbone: &mut Backbone) -> Result<()> {
        let config = &mut backbone.config;
        if let Some(activation) = &self.activation {
            // DINOv2's SwiGLU has SiLU, also where the file says GELU.
            let computed: &[&str] = match (config.mlp, config.positions) {
                (Mlp::Gelu, _) => &["gelu"],
                (Mlp::SwiGlu, Positions::Rotary) => &["silu", "swish"],
                (Mlp::SwiGlu, _) => &["gelu", "silu", "swish"],
            };
            if !computed.contains(&activation.as_str()) {
                bail!(
                    "config.json beside it says hidden_act {activation:?}, and only {computed:?} is supported in such a model"
                );
            }
        }
        config.layer_norm_eps = self.layer_norm_eps.unwrap_or(config.layer_norm_eps);
        (backbone.mean, backbone.std) = (self.mean.unwrap_or(backbone.mean), self.std.unwrap_or(backbone.std));
        Ok(())
    }
}

impl Config {
    fn said(self) -> Result<Beside> {
        if let Some(theta) = self.rope_theta.filter(|theta| *theta != ROPE_THETA) {
            bail!("config.json beside it says rope_theta {theta}, and only {ROPE_THETA} is supported");
        }
        let mut said = Beside {
            heads: self.num_attention_heads,
            layer_norm_eps: self.layer_norm_eps,
            activation: self.hidden_act,
            ..Beside::default()
        };
        if let Some(architecture) = self.architecture {
            timm::refuse_unsupported(&architecture)?;
            let known = timm::find(&architecture);
            said.heads = self.model_args.num_heads.or(known.and_then(|known| known.heads));
            said.origin = Some(Origin::Timm);
            (said.mean, said.std) = (self.pretrained_cfg.mean, self.pretrained_cfg.std);
        }
        Ok(said)
    }
}

impl Preprocessor {
    fn check(&self) -> Result<()> {
        let factor = self.rescale_factor.unwrap_or(1.0 / 255.0);
        if self.do_rescale == Some(false) || (factor * 255.0 - 1.0).abs() > 1e-6 {
            bail!("preprocessor_config.json beside it does not scale pixels by 1/255, which is all that is supported");
        }
        Ok(())
    }
}

/// A JSON file; `None` if there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is not understood", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_say_what_tensors_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let model = folder.path().join("model.safetensors");
        assert_eq!(Beside::of(&model).unwrap(), Beside::default());
        write("config.json", r#"{"model_type": "vit", "num_attention_heads": 16, "layer_norm_eps": 1e-12}"#);
        write("preprocessor_config.json", r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#);
        let said = Beside {
            heads: Some(16),
            layer_norm_eps: Some(1e-12),
            mean: Some([0.5; 3]),
            std: Some([0.5; 3]),
            ..Beside::default()
        };
        assert_eq!(Beside::of(&model).unwrap(), said);
        for other in ["encoder.safetensors", "model.pth", "modelling.bin"] {
            assert_eq!(Beside::of(&folder.path().join(other)).unwrap(), Beside::default(), "{other}");
        }
        for (pixels, why) in [
            (r#"{"image_std": [0.5, 0.0, 0.5]}"#, "must be positive"),
            (r#"{"do_rescale": false}"#, "does not scale pixels by 1/255"),
            (r#"{"rescale_factor": 0.5}"#, "does not scale pixels by 1/255"),
        ] {
            write("preprocessor_config.json", pixels);
            assert!(Beside::of(&model).unwrap_err().to_string().contains(why), "{pixels}");
        }
        write("preprocessor_config.json", r#"{"do_normalize": false, "image_mean": [0.5, 0.5, 0.5]}"#);
        assert_eq!(Beside::of(&model).unwrap().mean, Some([0.0; 3]));
        write("config.json", r#"{"rope_theta": 10000.0}"#);
        assert!(Beside::of(&model).unwrap_err().to_string().contains("rope_theta 10000"));
    }

    #[test]
    fn timm_writes_the_name_of_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join("config.json"), text).unwrap();
        let model = folder.path().join("pytorch_model.bin");
        write(
            r#"{"architecture": "vit_huge_patch14_224", "num_classes": 0, "model_args": {"img_size": [224, 224]},
                "pretrained_cfg": {"tag": "", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5]}}"#,
        );
        let said = Beside::of(&model).unwrap();
        assert_eq!((said.heads, said.origin), (Some(16), Some(Origin::Timm)));
        assert_eq!((said.mean, said.std), (Some([0.5; 3]), Some([0.25, 0.5, 0.5])));
        write(r#"{"architecture": "vit_base_patch16_224", "model_args": {"num_heads": 3}}"#);
        assert_eq!(Beside::of(&model).unwrap().heads, Some(3));
        write(r#"{"architecture": "eva02_tiny_patch14_224"}"#);
        let error = Beside::of(&model).unwrap_err().to_string();
        assert!(error.contains("eva02_tiny_patch14_224 of timm"), "{error}");
    }

    #[test]
    fn names_of_timm_say_heads_and_pixels() {
        let said = |name: &str| {
            let mut said = Beside::default();
            said.or_timm(name).map(|()| said)
        };
        let huge = said("vit_huge_patch14_224.orig_in21k").unwrap();
        assert_eq!((huge.heads, huge.mean, huge.std), (Some(16), Some([0.5; 3]), Some([0.5; 3])));
        assert_eq!(said("deit_tiny_patch16_224").unwrap(), Beside::default());
        let error = said("vit_small_patch16_rope_ape_224.naver_in1k").unwrap_err().to_string();
        assert!(error.contains("rotary positions"), "{error}");
    }
}
