//! Which tensors of a checkpoint make up an encoder: decided from names and shapes alone, before any value is read. A file
//! for each family of names says where our tensors come from.

mod convention;
mod dinov3;
mod hugging_face;
mod original;
mod part;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use dinomaly_core::Error;
use dinomaly_core::model::config::{EncoderConfig, Mlp, Positions};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::named::{Shapes, unexpected};

use convention::Naming;
use part::{Part, Ways};

/// How an encoder is made from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportPlan {
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
    /// What it is made from; several are joined along the first dimension.
    pub sources: Vec<Source>,
    /// What else happens to it.
    pub fold: Fold,
}

/// Where a tensor, or a part of it, comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The file's tensor of this name.
    Tensor(String),
    /// Zeros of this shape: the file's encoder has no such part.
    Zeros(Vec<usize>),
    /// So many periods of rotary positions, which the file leaves to its reader.
    Periods(usize),
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
    /// The middle third becomes zero: DINOv3 masks the bias of the keys.
    NoKeyBias,
}

/// The tensors of one encoder inside a checkpoint: under the naming's own names, with the names in the file.
struct Tensors {
    naming: Naming,
    /// What the file puts before every name.
    prefix: String,
    found: usize,
    by_name: BTreeMap<String, (String, Vec<usize>)>,
}

/// Plans the import of a checkpoint with tensors of these shapes. `name` becomes the encoder's name unless `declared` (what
/// the file says about itself) has one; `heads` overrules it too.
///
/// # Errors
/// Naming the tensor that is missing, misshapen or one too many.
pub fn plan(shapes: &Shapes, name: &str, heads: Option<usize>, declared: Option<&EncoderConfig>) -> Result<ImportPlan> {
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
    Ok(ImportPlan { config, steps })
}

impl Tensors {
    /// Finds the one encoder in a checkpoint by its class token.
    fn find(shapes: &Shapes) -> Result<Self> {
        let at = |suffix: &str| {
            let prefixes = shapes.keys().filter_map(|name| name.strip_suffix(suffix));
            prefixes.filter(|p| p.is_empty() || p.ends_with('.')).map(str::to_owned).collect::<Vec<_>>()
        };
        let hugging_face = at("embeddings.cls_token");
        let mut prefixes = if hugging_face.is_empty() { at("cls_token") } else { hugging_face.clone() };
        // MoCo v3 keeps a slower copy beside the encoder that it publishes.
        if let [base, momentum] = prefixes.as_slice()
            && base.ends_with("base_encoder.")
            && momentum.ends_with("momentum_encoder.")
        {
            prefixes.truncate(1);
        }
        let prefix = match prefixes.as_slice() {
            [prefix] => prefix.clone(),
            [] => {
                return Err(Error::MissingTensor { name: "cls_token".into(), found: shapes.len() })
                    .context("this is no vision transformer of a kind that is read: DINO, DINOv2, DINOv3, iBOT, MoCo v3, MAE, DeiT, BEiT, D-iGPT or timm's");
            }
            several => bail!("it holds several encoders, {}: keep one of them", several.join(", ")),
        };
        // What stands outside of the prefix are other modules: decoders, projection heads.
        let inside = shapes.iter().filter_map(|(name, shape)| Some((name.strip_prefix(&prefix)?, name, shape)));
        let inside = inside.map(|(inner, name, shape)| (canonical(inner), (name.clone(), shape.clone())));
        let by_name: BTreeMap<_, _> = inside.collect();
        let naming = match hugging_face.is_empty() {
            true => Naming::Original,
            false if by_name.keys().any(|name| name.starts_with(Naming::Dinov3.stem())) => Naming::Dinov3,
            false => Naming::HuggingFace,
        };
        Ok(Self { naming, found: shapes.len(), by_name, prefix })
    }

    /// How many blocks there are. A single stray tensor does not make one.
    fn blocks(&self) -> usize {
        let mut tensors = BTreeMap::new();
        for name in self.by_name.keys() {
            if let Some((block, _)) = self.in_block(name) {
                *tensors.entry(block).or_insert(0) += 1;
            }
        }
        tensors.iter().filter(|&(_, &count)| count > 1).map(|(block, _)| block + 1).max().unwrap_or(0)
    }

    /// The number of the block that a tensor of the file belongs to, and its name there.
    fn in_block<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        let (block, tensor) = name.strip_prefix(self.naming.stem())?.split_once('.')?;
        Some((block.parse().ok()?, tensor))
    }

    /// The shape that the tensors have, with as many heads as are not known yet.
    fn config(&self, blocks: usize) -> Result<EncoderConfig> {
        let shape = |ours: &str| self.shape(&self.name(&self.parts(ours, None)[0], 0));
        let registers = self.by_name.get(&self.name(&self.parts("register_tokens", None)[0], 0));
        let hidden_size = self.usual("norm1.weight", 0).or(shape("cls_token")?.last().copied()).unwrap_or(0);
        let positions = self.kind_of_positions();
        let parts = self.parts("mlp.w12.weight", Some(0));
        let narrowed = self.usual("mlp.w3.weight", 1);
        let widened = self.usual("mlp.w12.weight", 0).map(|rows| rows * parts.len());
        // timm's names of SwiGLU's two matrices are those of a plain MLP, which does not halve what is between them.
        let gated = self.has(&parts) && widened != narrowed;
        let intermediate = if gated { narrowed } else { self.usual("mlp.fc1.bias", 0) };
        Ok(EncoderConfig {
            name: String::new(),
            hidden_size,
            num_attention_heads: 0,
            num_hidden_layers: blocks,
            intermediate_size: intermediate.unwrap_or(4 * hidden_size),
            patch_size: shape("patch_embed.proj.weight")?.last().copied().unwrap_or(0),
            num_register_tokens: registers.and_then(|(_, shape)| shape.get(1).copied()).unwrap_or(0),
            position_grid: match positions {
                Positions::Table => self.table()?.0,
                Positions::Rotary => 0,
                Positions::RelativeBias => self.bias_grid()?,
            },
            // All of DINOv3, and only that, has rotary positions.
            layer_norm_eps: if positions == Positions::Rotary { 1e-5 } else { 1e-6 },
            mlp: if gated { Mlp::SwiGlu } else { Mlp::Gelu },
            positions,
        })
    }

    fn kind_of_positions(&self) -> Positions {
        let has = |ours: &str, block| self.has(&self.parts(ours, block));
        // timm stores nothing of rotary positions; its registers and the lack of a table tell.
        let rotary = self.naming == Naming::Dinov3
            || self.by_name.contains_key("rope_embed.periods")
            || self.by_name.contains_key("storage_tokens")
            || (self.by_name.contains_key("reg_token") && self.has(&self.naming.layer_scale(1)[1]));
        match () {
            () if has("attn.relative_position_bias_table", Some(0)) => Positions::RelativeBias,
            () if rotary && !has("pos_embed", None) => Positions::Rotary,
            () => Positions::Table,
        }
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
        let scaled = [1, 2].map(|half| self.chosen(self.naming.layer_scale(half)));
        let scaled = scaled.iter().any(|parts| self.has(parts)).then_some(scaled);
        let mut steps = Vec::new();
        for (ours, mut shape) in encoder_shapes(config, blocks)? {
            let (block, tensor) = our_block(ours.trim_start_matches("encoder."));
            let number = block.unwrap_or(0);
            let mut fold = Fold::Nothing;
            if tensor == "pos_embed" && !self.table()?.1 {
                shape[1] -= 1;
                fold = Fold::NoClassPosition;
            }
            if let (Some(scales), Some(half)) = (&scaled, scaled_half(tensor)) {
                fold = Fold::LayerScale(expect(&self.name(&scales[half][0], number), &[config.hidden_size])?);
            }
            if tensor == "attn.qkv.bias" && config.positions == Positions::Rotary {
                fold = Fold::NoKeyBias;
            }
            let parts = self.parts(tensor, block);
            let sources = if tensor == "rope_embed.periods" && !self.has(&parts) {
                vec![Source::Periods(shape[0])]
            } else {
                shape[0] /= parts.len();
                let source = |part: &Part| match part {
                    Part::Zero => Ok(Source::Zeros(shape.clone())),
                    named => expect(&self.name(named, number), &shape).map(Source::Tensor),
                };
                parts.iter().map(source).collect::<Result<_>>()?
            };
            steps.push(Step { name: ours, sources, fold });
        }
        match self.by_name.iter().find(|(name, _)| !used.contains(*name) && !self.naming.is_unused(name)) {
            Some((_, (file_name, _))) => Err(unexpected(file_name).into()),
            None => Ok(steps),
        }
    }

    /// Where one of our tensors comes from in this file.
    fn parts(&self, ours: &str, block: Option<usize>) -> Vec<Part> {
        self.chosen(self.naming.ways(ours, block.is_some()))
    }

    /// The first of several ways that the file has, in any block: what is missing in one block only is missing.
    fn chosen(&self, mut ways: Ways) -> Vec<Part> {
        let at = ways.iter().position(|parts| self.has(parts)).unwrap_or(0);
        ways.swap_remove(at)
    }

    /// Whether the file has each of these parts, in any block.
    fn has(&self, parts: &[Part]) -> bool {
        parts.iter().all(|part| match part {
            Part::Block(tensor) => {
                self.by_name.keys().any(|name| self.in_block(name).is_some_and(|(_, inner)| inner == tensor))
            }
            Part::Outer(name) => self.by_name.contains_key(name),
            Part::Zero => true,
        })
    }

    /// The naming's name of a part.
    fn name(&self, part: &Part, block: usize) -> String {
        match part {
            Part::Block(tensor) => format!("{}{block}.{tensor}", self.naming.stem()),
            Part::Outer(name) => name.clone(),
            Part::Zero => String::new(),
        }
    }

    /// Shape of a tensor that must be there.
    fn shape(&self, name: &str) -> Result<&[usize]> {
        match self.by_name.get(name) {
            Some((_, shape)) => Ok(shape),
            None => Err(Error::MissingTensor { name: format!("{}{name}", self.prefix), found: self.found }.into()),
        }
    }

    /// The extent of a dimension that one of our tensors has in most blocks, so that a single wrong one is found out.
    fn usual(&self, ours: &str, dimension: usize) -> Option<usize> {
        let parts = self.parts(ours, Some(0));
        let mut counts = BTreeMap::new();
        for (name, (_, shape)) in &self.by_name {
            let is_first = |(_, inner): (usize, &str)| parts.first() == Some(&Part::Block(inner.into()));
            if let (Some(&extent), true) = (shape.get(dimension), self.in_block(name).is_some_and(is_first)) {
                *counts.entry(extent).or_insert(0) += 1;
            }
        }
        counts.into_iter().max_by_key(|&(_, count)| count).map(|(extent, _)| extent)
    }

    /// Side of the position table's grid, and whether the table has a row for the class token.
    fn table(&self) -> Result<(usize, bool)> {
        let name = self.name(&self.parts("pos_embed", None)[0], 0);
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

    /// Side of the grid that the relative position bias was made for.
    fn bias_grid(&self) -> Result<usize> {
        let parts = self.parts("attn.relative_position_bias_table", Some(0));
        let entries = match &parts[0] {
            Part::Outer(name) => self.shape(name)?.first().copied(),
            _ => self.usual("attn.relative_position_bias_table", 0),
        };
        let ways = entries.unwrap_or(0).saturating_sub(3);
        match ways.isqrt() {
            side if side % 2 == 1 && side * side == ways => Ok(side.div_ceil(2)),
            _ => {
                let name = self.name(&parts[0], 0);
                let reason = format!("{ways} ways and three of the class token are not those of a square grid");
                Err(Error::Tensor { name: self.by_name.get(&name).map_or(name, |(file, _)| file.clone()), reason }
                    .into())
            }
        }
    }
}

/// One of our names, without `encoder.`, as the number of its block and the name there.
fn our_block(name: &str) -> (Option<usize>, &str) {
    let in_block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match in_block.and_then(|(block, tensor)| Some((block.parse().ok()?, tensor))) {
        Some((block, tensor)) => (Some(block), tensor),
        None => (None, name),
    }
}

/// Which of a block's two LayerScales follows one of our tensors.
fn scaled_half(tensor: &str) -> Option<usize> {
    match tensor.rsplit_once('.')?.0 {
        "attn.proj" => Some(0),
        "mlp.fc2" | "mlp.w3" => Some(1),
        _ => None,
    }
}

/// `blocks.chunk.block.…` → `blocks.block.…`: DINOv2's training state keeps blocks in chunks, numbered through.
/// `model.layer.…` → `layer.…`: Hugging Face's DINOv3 in memory.
fn canonical(name: &str) -> String {
    let number = |part: &str| part.parse::<usize>().is_ok();
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    match parts.as_slice() {
        ["blocks", chunk, block, rest] if number(chunk) && number(block) => format!("blocks.{block}.{rest}"),
        ["model", "layer", block, rest] => format!("layer.{block}.{rest}"),
        _ => name.into(),
    }
}
