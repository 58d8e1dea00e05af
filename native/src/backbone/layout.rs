//! Which tensors of a checkpoint make up an encoder: decided from names and shapes alone, before any value is read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use dinomaly_core::Error;
use dinomaly_core::config::EncoderConfig;
use dinomaly_core::weights::{Shapes, encoder_shapes, unexpected};

/// How an encoder is made from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The encoder's shape.
    pub config: EncoderConfig,
    /// One for each of our tensors.
    pub steps: Vec<Step>,
}

/// How one of our tensors is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Our name.
    pub name: String,
    /// Names in the file; several are joined along the first dimension.
    pub sources: Vec<String>,
    /// What else happens to it.
    pub fold: Fold,
}

/// What happens to a tensor besides being renamed.
#[derive(Clone, Debug, PartialEq)]
pub enum Fold {
    /// Nothing.
    Nothing,
    /// Each row (output channel) is multiplied by the value of LayerScale's vector of this name.
    LayerScale(String),
    /// A zero row is put before it: timm adds the class token's position to the token itself.
    NoClassPosition,
}

/// How a project names the tensors of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// DINO, DINOv2, timm, and ourselves.
    Original,
    /// `Dinov2Model` and `Dinov2WithRegistersModel`.
    HuggingFace,
}

/// The tensors of one encoder inside a checkpoint: under the naming's own names, with the names in the file.
struct Tensors {
    naming: Naming,
    /// What the file puts before every name.
    prefix: String,
    found: usize,
    by_name: BTreeMap<String, (String, Vec<usize>)>,
}

/// Tensors that belong to an encoder file but are not used: mask token, final norm, classifiers.
const UNUSED: [&str; 6] = ["mask_token", "embeddings.mask_token", "norm.", "layernorm.", "head.", "fc_norm."];

/// Plans the import of a checkpoint with tensors of these shapes. `name` becomes the encoder's name unless `declared` (what
/// the file says about itself) has one; `heads` overrules it too.
///
/// # Errors
/// Naming the tensor that is missing, misshapen or one too many.
pub fn plan(shapes: &Shapes, name: &str, heads: Option<usize>, declared: Option<&EncoderConfig>) -> Result<Plan> {
    let tensors = Tensors::find(shapes)?;
    let blocks = tensors.blocks();
    let mut config = tensors.config(blocks)?;
    config.name = declared.map_or(name, |d| &d.name).into();
    config.num_attention_heads = match heads.or(declared.map(|d| d.num_attention_heads)) {
        Some(heads) => heads,
        None if config.hidden_size % 64 == 0 => config.hidden_size / 64,
        None => bail!("its width {} is no multiple of 64: say how many heads it has", config.hidden_size),
    };
    if config.num_attention_heads == 0 || config.hidden_size % config.num_attention_heads != 0 {
        bail!("{} heads do not divide its width {}", config.num_attention_heads, config.hidden_size);
    }
    if let Some(declared) = declared {
        config.layer_norm_eps = declared.layer_norm_eps;
        if declared.num_hidden_layers < blocks {
            bail!("it says that it has {} blocks and holds {blocks}", declared.num_hidden_layers);
        }
        // A file may hold only the blocks that are needed.
        config.num_hidden_layers = declared.num_hidden_layers;
    }
    let steps = tensors.steps(&config, blocks)?;
    Ok(Plan { config, steps })
}

impl Tensors {
    /// Finds the one encoder in a checkpoint by its class token.
    fn find(shapes: &Shapes) -> Result<Self> {
        let at = |suffix: &str| {
            let prefixes = shapes.keys().filter_map(|name| name.strip_suffix(suffix));
            prefixes.filter(|p| p.is_empty() || p.ends_with('.')).map(str::to_owned).collect::<Vec<_>>()
        };
        let hugging_face = at("embeddings.cls_token");
        let (naming, prefixes) = if hugging_face.is_empty() {
            (Naming::Original, at("cls_token"))
        } else {
            (Naming::HuggingFace, hugging_face)
        };
        let prefix = match prefixes.as_slice() {
            [prefix] => prefix.clone(),
            [] => {
                return Err(Error::MissingTensor { name: "cls_token".into(), found: shapes.len() })
                    .context("this is no vision transformer of the DINO, DINOv2 or timm kind");
            }
            several => bail!("it holds several encoders, {}: keep one of them", several.join(", ")),
        };
        // What stands outside of the prefix are other modules: decoders, projection heads.
        let inside = shapes.iter().filter_map(|(name, shape)| Some((name.strip_prefix(&prefix)?, name, shape)));
        let by_name = inside.map(|(inner, name, shape)| (without_chunk(inner), (name.clone(), shape.clone())));
        Ok(Self { naming, found: shapes.len(), by_name: by_name.collect(), prefix })
    }

    /// How many blocks there are. A single stray tensor does not make one.
    fn blocks(&self) -> usize {
        let mut tensors = BTreeMap::new();
        for name in self.by_name.keys() {
            if let Some(block) = self.block(name) {
                *tensors.entry(block).or_insert(0) += 1;
            }
        }
        tensors.iter().filter(|&(_, &count)| count > 1).map(|(block, _)| block + 1).max().unwrap_or(0)
    }

    fn block(&self, name: &str) -> Option<usize> {
        let stem = match self.naming {
            Naming::Original => "blocks.",
            Naming::HuggingFace => "encoder.layer.",
        };
        name.strip_prefix(stem)?.split('.').next()?.parse().ok()
    }

    /// The shape that the tensors have, with as many heads as are not known yet.
    fn config(&self, blocks: usize) -> Result<EncoderConfig> {
        let (class, patch) = (self.names("cls_token"), self.names("patch_embed.proj.weight"));
        let registers =
            self.by_name.get(&self.names("register_tokens")[0]).and_then(|(_, shape)| shape.get(1).copied());
        let hidden_size = self.usual(".norm1.weight").or(self.shape(&class[0])?.last().copied()).unwrap_or(0);
        Ok(EncoderConfig {
            name: String::new(),
            hidden_size,
            num_attention_heads: 0,
            num_hidden_layers: blocks,
            intermediate_size: self.usual(".mlp.fc1.bias").unwrap_or(4 * hidden_size),
            patch_size: self.shape(&patch[0])?.last().copied().unwrap_or(0),
            num_register_tokens: registers.unwrap_or(0),
            position_grid: self.positions()?.0,
            layer_norm_eps: 1e-6,
        })
    }

    /// The steps to every tensor of the encoder, after which no tensor may be left over.
    fn steps(&self, config: &EncoderConfig, blocks: usize) -> Result<Vec<Step>> {
        let mut used = BTreeSet::new();
        let mut expect = |name: &str, shape: &[usize]| -> Result<String> {
            let found = self.shape(name)?;
            let file_name = &self.by_name[name].0;
            if found != shape {
                let (expected, found) = (shape.to_vec(), found.to_vec());
                return Err(Error::Shape { name: file_name.clone(), expected, found }.into());
            }
            used.insert(name.to_owned());
            Ok(file_name.clone())
        };
        let scaled = self.by_name.keys().any(|name| self.is_layer_scale(name));
        let mut steps = Vec::new();
        for (ours, mut shape) in encoder_shapes(config, blocks)? {
            let inner = ours.trim_start_matches("encoder.");
            let mut fold = Fold::Nothing;
            if inner == "pos_embed" && !self.positions()?.1 {
                shape[1] -= 1;
                fold = Fold::NoClassPosition;
            }
            if let Some(gamma) = self.layer_scale(inner).filter(|_| scaled) {
                fold = Fold::LayerScale(expect(&gamma, &[config.hidden_size])?);
            }
            let names = self.names(inner);
            shape[0] /= names.len();
            let sources = names.iter().map(|name| expect(name, &shape)).collect::<Result<_>>()?;
            steps.push(Step { name: ours, sources, fold });
        }
        let unused = |name: &str| UNUSED.iter().any(|u| name == *u || (u.ends_with('.') && name.starts_with(u)));
        match self.by_name.iter().find(|(name, _)| !used.contains(*name) && !unused(name)) {
            Some((_, (file_name, _))) => Err(unexpected(file_name).into()),
            None => Ok(steps),
        }
    }

    /// Shape of a tensor that must be there.
    fn shape(&self, name: &str) -> Result<&[usize]> {
        match self.by_name.get(name) {
            Some((_, shape)) => Ok(shape),
            None => Err(Error::MissingTensor { name: format!("{}{name}", self.prefix), found: self.found }.into()),
        }
    }

    /// The extent that most of the blocks' vectors with this ending have, so that a single wrong one is found out.
    fn usual(&self, suffix: &str) -> Option<usize> {
        let mut counts = BTreeMap::new();
        for (name, (_, shape)) in &self.by_name {
            if let ([extent], true, true) = (shape.as_slice(), self.block(name).is_some(), name.ends_with(suffix)) {
                *counts.entry(*extent).or_insert(0) += 1;
            }
        }
        counts.into_iter().max_by_key(|&(_, count)| count).map(|(extent, _)| extent)
    }

    /// Side of the position table's grid, and whether the table has a row for the class token.
    fn positions(&self) -> Result<(usize, bool)> {
        let name = self.names("pos_embed").remove(0);
        let rows = self.shape(&name)?.get(1).copied().unwrap_or(0);
        let side = |rows: usize| Some(rows.isqrt()).filter(|side| rows > 0 && side * side == rows);
        match (side(rows.saturating_sub(1)), side(rows)) {
            (Some(side), _) => Ok((side, true)),
            (None, Some(side)) => Ok((side, false)),
            (None, None) => {
                let reason = format!("{rows} positions are neither a square of patches nor one with a class token");
                Err(Error::Tensor { name: self.by_name[&name].0.clone(), reason }.into())
            }
        }
    }

    /// The naming's names of one of our tensors, given without `encoder.`. timm calls its registers otherwise.
    fn names(&self, ours: &str) -> Vec<String> {
        match self.naming {
            Naming::Original if ours == "register_tokens" && self.by_name.contains_key("reg_token") => {
                vec!["reg_token".into()]
            }
            Naming::Original => vec![ours.into()],
            Naming::HuggingFace => hugging_face_names(ours),
        }
    }

    /// The naming's name of the LayerScale vector that follows the linear layer of one of our tensors.
    fn layer_scale(&self, ours: &str) -> Option<String> {
        let (block, layer) = ours.strip_prefix("blocks.")?.split_once('.')?;
        let number = match layer.rsplit_once('.')?.0 {
            "attn.proj" => 1,
            "mlp.fc2" => 2,
            _ => return None,
        };
        Some(match self.naming {
            Naming::Original => format!("blocks.{block}.ls{number}.gamma"),
            Naming::HuggingFace => format!("encoder.layer.{block}.layer_scale{number}.lambda1"),
        })
    }

    fn is_layer_scale(&self, name: &str) -> bool {
        let endings = match self.naming {
            Naming::Original => [".ls1.gamma", ".ls2.gamma"],
            Naming::HuggingFace => [".layer_scale1.lambda1", ".layer_scale2.lambda1"],
        };
        endings.iter().any(|ending| name.ends_with(ending))
    }
}

/// `Dinov2Model`'s names of one of our tensors; query, key and value are stored apart.
fn hugging_face_names(ours: &str) -> Vec<String> {
    let Some((block, tensor)) = ours.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return vec![match ours {
            "pos_embed" => "embeddings.position_embeddings".into(),
            _ => format!("embeddings.{}", ours.replace("patch_embed.proj", "patch_embeddings.projection")),
        }];
    };
    let layer = |tensor: &str| format!("encoder.layer.{block}.{tensor}");
    match tensor.strip_prefix("attn.qkv.") {
        Some(end) => ["query", "key", "value"].map(|part| layer(&format!("attention.attention.{part}.{end}"))).into(),
        None => vec![layer(&tensor.replace("attn.proj", "attention.output.dense"))],
    }
}

/// `blocks.chunk.block.…` → `blocks.block.…`: DINOv2's training state keeps blocks in chunks, numbered through.
fn without_chunk(name: &str) -> String {
    let number = |part: &str| part.parse::<usize>().is_ok();
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    match parts.as_slice() {
        ["blocks", chunk, block, rest] if number(chunk) && number(block) => format!("blocks.{block}.{rest}"),
        _ => name.into(),
    }
}
