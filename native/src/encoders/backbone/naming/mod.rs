//! Maps a checkpoint's tensors to an encoder, from names and shapes only, before any value is read. Each family of names has a file
//! with the sources of our tensors.

mod convention;
mod dinov3;
mod hugging_face;
mod original;
mod part;
mod unsaid;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use dinomaly_core::Error;
use dinomaly_core::model::config::{EncoderConfig, Mlp, Positions, Resampling};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::named::{Shapes, unexpected};

use super::told::{Told, usual_heads};
use convention::Naming;
use part::{Part, Ways};

/// Tensors of the norm after the last block, which few heads need: files may lack it, and what is published without need drops it.
const FINAL_NORM: [&str; 2] = ["norm.weight", "norm.bias"];

/// How to make an encoder from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlan {
    /// Config of the encoder.
    pub config: EncoderConfig,
    /// One step per tensor of ours.
    pub steps: Vec<Step>,
    /// Tensors of LoRA adapters that change nothing if they are zero.
    pub adapters: Vec<String>,
}

/// How to make one of our tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of our tensor.
    pub name: String,
    /// Its sources, joined along the first dimension.
    pub sources: Vec<Source>,
    /// A change of its values.
    pub fold: Fold,
}

/// Source of a tensor or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The file's tensor with this name.
    Tensor(String),
    /// Zeros of this shape: the file's encoder has no such part.
    Zeros(Vec<usize>),
    /// This number of periods of rotary positions, which the file does not store.
    Periods(usize),
}

/// A change of a tensor's values.
#[derive(Clone, Debug, PartialEq)]
pub enum Fold {
    /// No change.
    Nothing,
    /// Multiplies each row (output channel) by its value in the LayerScale vector with this name.
    LayerScale(String),
    /// Adds a zero row before the first, because timm adds the class token's position to the token itself.
    NoClassPosition,
    /// Sets the middle third to zero, because DINOv3 masks the bias of the keys.
    NoKeyBias,
}

/// The tensors of one encoder in a checkpoint, by their names without prefix, with their names in the file.
struct Tensors {
    naming: Naming,
    /// Prefix of every name in the file.
    prefix: String,
    found: usize,
    by_name: BTreeMap<String, (String, Vec<usize>)>,
    /// Names in the file of the second factors of LoRA adapters, and of all else that belongs to them.
    adapters: Vec<String>,
}

/// Plans the import of a checkpoint with tensors of these shapes. `declared` is the file's own description, if it has one; what is
/// `told` overrides it. `name` is the encoder's name if the description has none.
///
/// # Errors
/// If a tensor is missing, unknown or of another shape, which the error names; if the encoder computes what is not supported, or the
/// tensors do not tell what it computes.
pub fn plan(
    shapes: &Shapes,
    name: &str,
    told: impl Into<Told>,
    declared: Option<&EncoderConfig>,
) -> Result<TensorPlan> {
    let Told { heads, origin } = told.into();
    let tensors = Tensors::find(shapes)?;
    let blocks = tensors.blocks()?;
    let mut config = tensors.config(blocks)?;
    tensors.refuse_unsupported(&config, name, origin)?;
    config.name = declared.map_or(name, |d| &d.name).into();
    config.num_attention_heads = match heads.or(declared.map(|d| d.num_attention_heads)) {
        Some(heads) => heads,
        None => usual_heads(&config, tensors.prefix.ends_with("base_encoder.")).or_else(|unknown| {
            // A damaged tensor is named first, as far as shapes do not depend on heads.
            let one = EncoderConfig { num_attention_heads: 1, ..config.clone() };
            if config.positions == Positions::Table {
                tensors.steps(&one, blocks).and(Err(unknown))
            } else {
                Err(unknown)
            }
        })?,
    };
    if config.positions == Positions::Table {
        config.resampling = match (origin, declared) {
            (None, Some(declared)) => declared.resampling,
            (origin, _) => match origin.or_else(|| tensors.origin()) {
                Some(origin) => origin.resampling(config.num_register_tokens),
                None => config.resampling,
            },
        };
    }
    if config.num_attention_heads == 0 || config.hidden_size % config.num_attention_heads != 0 {
        bail!("{} heads do not divide its width {}", config.num_attention_heads, config.hidden_size);
    }
    if let Some(declared) = declared {
        config.layer_norm_eps = declared.layer_norm_eps;
        if declared.num_hidden_layers < blocks {
            bail!("its description has {} blocks, but the file has {blocks}", declared.num_hidden_layers);
        }
        // A file may hold only the needed blocks.
        config.num_hidden_layers = declared.num_hidden_layers;
    }
    let steps = tensors.steps(&config, blocks)?;
    Ok(TensorPlan { config, steps, adapters: tensors.adapters })
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
        // MoCo v3's file also holds the momentum copy of the encoder.
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
                    .context("it is not a supported vision transformer: DINO, DINOv2, DINOv3, iBOT, MoCo v3, MAE, DeiT, BEiT, D-iGPT or timm's");
            }
            several => preferred(several)?,
        };
        // Tensors without the prefix belong to other modules: decoders, projection heads.
        let inside = shapes.iter().filter_map(|(name, shape)| Some((name.strip_prefix(&prefix)?, name, shape)));
        let (adapters, inside): (Vec<_>, Vec<_>) = inside.partition(|(inner, ..)| inner.contains(".lora_"));
        // An adapter changes nothing if one of its factors is zero, which untrained second ones are.
        let is_first = |name: &String| [".lora_A", ".lora_down", ".lora_embedding_A"].iter().any(|a| name.contains(a));
        let adapters = adapters.into_iter().map(|(_, name, _)| name.clone()).filter(|name| !is_first(name)).collect();
        let mut by_name = BTreeMap::new();
        for (inner, name, shape) in inside {
            let both = by_name.insert(canonical(inner), (name.clone(), shape.clone()));
            if let Some((other, _)) = both {
                bail!("{other} and {name} are the same tensor behind wrappers of training tools: keep one of them");
            }
        }
        if let Some((name, shape)) = by_name.values().find(|(_, shape): &&(String, Vec<usize>)| shape.contains(&0)) {
            bail!("tensor {name} has the shape {shape:?}: expected no extent of 0");
        }
        let naming = match hugging_face.is_empty() {
            true => Naming::Original,
            false if by_name.keys().any(|name| name.starts_with(Naming::Dinov3.stem())) => Naming::Dinov3,
            false => Naming::HuggingFace,
        };
        Ok(Self { naming, found: shapes.len(), by_name, prefix, adapters })
    }

    /// Number of blocks. A single stray tensor is not a block.
    ///
    /// # Errors
    /// If a block has a higher number than the file has tensors.
    fn blocks(&self) -> Result<usize> {
        let mut tensors = BTreeMap::new();
        for name in self.by_name.keys() {
            if let Some((block, _)) = self.in_block(name) {
                *tensors.entry(block).or_insert(0) += 1;
            }
        }
        let last = tensors.iter().rev().find(|&(_, &count)| count > 1).map(|(&block, _)| block);
        match last {
            Some(last) if last >= self.by_name.len() => {
                bail!("it has tensors of block {last}, but only {} tensors: blocks are missing", self.by_name.len())
            }
            last => Ok(last.map_or(0, |last| last + 1)),
        }
    }

    /// The block number of a tensor in the file, and its name in the block.
    fn in_block<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        let (block, tensor) = name.strip_prefix(self.naming.stem())?.split_once('.')?;
        Some((block.parse().ok()?, tensor))
    }

    /// The config that the tensors tell. The number of heads is not known yet.
    fn config(&self, blocks: usize) -> Result<EncoderConfig> {
        let shape = |ours: &str| self.shape(&self.name(&self.parts(ours, None)[0], 0));
        let registers = self.by_name.get(&self.name(&self.parts("register_tokens", None)[0], 0));
        let hidden_size = self.usual("norm1.weight", 0).or(shape("cls_token")?.last().copied()).unwrap_or(0);
        let positions = self.kind_of_positions()?;
        let parts = self.parts("mlp.w12.weight", Some(0));
        let narrowed = self.usual("mlp.w3.weight", 1);
        let widened = self.usual("mlp.w12.weight", 0).map(|rows| rows * parts.len());
        // timm names SwiGLU's two matrices as those of a plain MLP, but only SwiGLU halves the width between them.
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
            // Only DINOv3 has rotary positions.
            layer_norm_eps: if positions == Positions::Rotary { 1e-5 } else { 1e-6 },
            mlp: if gated { Mlp::SwiGlu } else { Mlp::Gelu },
            positions,
            resampling: Resampling::default(),
        })
    }

    fn kind_of_positions(&self) -> Result<Positions> {
        let has = |ours: &str, block| self.has(&self.parts(ours, block));
        // timm stores no rotary positions: registers and the missing table tell them.
        let rotary = self.naming == Naming::Dinov3
            || self.by_name.contains_key("rope_embed.periods")
            || self.by_name.contains_key("storage_tokens")
            || (self.by_name.contains_key("reg_token") && self.has(&self.naming.layer_scale(1)[1]));
        let has_table = has("pos_embed", None);
        match () {
            () if has("attn.relative_position_bias_table", Some(0)) => Ok(Positions::RelativeBias),
            () if rotary && !has_table => Ok(Positions::Rotary),
            () if self.in_any_block("gamma_1") && !has_table => {
                bail!(
                    "it is a vit_…_rope of timm, whose rotary positions are not supported (gamma_1 without a table tells it)"
                )
            }
            () => Ok(Positions::Table),
        }
    }

    /// The steps for all tensors of the encoder. No tensor of the file may be left over.
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
        let mut shapes = encoder_shapes(config, blocks)?;
        if FINAL_NORM.iter().all(|ours| self.has(&self.parts(ours, None))) {
            shapes.extend(FINAL_NORM.map(|ours| (format!("encoder.{ours}"), vec![config.hidden_size])));
        }
        for (ours, mut shape) in shapes {
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

    /// Source of one of our tensors in this file.
    fn parts(&self, ours: &str, block: Option<usize>) -> Vec<Part> {
        self.chosen(self.naming.ways(ours, block.is_some()))
    }

    /// The first alternative that the file has in any block, so that a tensor missing in one block is an error.
    fn chosen(&self, mut ways: Ways) -> Vec<Part> {
        let at = ways.iter().position(|parts| self.has(parts)).unwrap_or(0);
        ways.swap_remove(at)
    }

    /// Whether the file has all of these parts, in any block.
    fn has(&self, parts: &[Part]) -> bool {
        parts.iter().all(|part| match part {
            Part::Block(tensor) => {
                self.by_name.keys().any(|name| self.in_block(name).is_some_and(|(_, inner)| inner == tensor))
            }
            Part::Outer(name) => self.by_name.contains_key(name),
            Part::Zero => true,
        })
    }

    /// Name of a part in the file's convention.
    fn name(&self, part: &Part, block: usize) -> String {
        match part {
            Part::Block(tensor) => format!("{}{block}.{tensor}", self.naming.stem()),
            Part::Outer(name) => name.clone(),
            Part::Zero => String::new(),
        }
    }

    /// Shape of a required tensor.
    fn shape(&self, name: &str) -> Result<&[usize]> {
        match self.by_name.get(name) {
            Some((_, shape)) => Ok(shape),
            None => Err(Error::MissingTensor { name: format!("{}{name}", self.prefix), found: self.found }.into()),
        }
    }

    /// The most frequent size of a tensor's dimension over the blocks, so that a single wrong tensor is detected.
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
                let reason = format!("{rows} positions are not a square grid, with or without a class token");
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
                let reason = format!("{ways} offsets and three of the class token do not fit a square grid");
                Err(Error::Tensor { name: self.by_name.get(&name).map_or(name, |(file, _)| file.clone()), reason }
                    .into())
            }
        }
    }
}

/// Splits one of our names, without `encoder.`, into block number and name in the block.
fn our_block(name: &str) -> (Option<usize>, &str) {
    let in_block = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match in_block.and_then(|(block, tensor)| Some((block.parse().ok()?, tensor))) {
        Some((block, tensor)) => (Some(block), tensor),
        None => (None, name),
    }
}

/// The block's LayerScale that follows one of our tensors, if any.
fn scaled_half(tensor: &str) -> Option<usize> {
    match tensor.rsplit_once('.')?.0 {
        "attn.proj" => Some(0),
        "mlp.fc2" | "mlp.w3" => Some(1),
        _ => None,
    }
}

/// The encoder to take of several: a teacher before its student, weights before their moving average.
fn preferred(prefixes: &[String]) -> Result<String> {
    let rank = |prefix: &String| match prefix {
        p if p.contains("student") => 3,
        p if p.contains("ema") => 2,
        p if p.contains("teacher") => 0,
        _ => 1,
    };
    let first = prefixes.iter().map(rank).min();
    match prefixes.iter().filter(|prefix| Some(rank(prefix)) == first).collect::<Vec<_>>()[..] {
        [prefix] => {
            eprintln!("dinomaly: of the encoders {} in the file {prefix} is taken", prefixes.join(", "));
            Ok(prefix.clone())
        }
        _ => bail!("it has several encoders: {}; keep one of them", prefixes.join(", ")),
    }
}

/// Parts of names that training tools wrap modules in: `torch.compile`, FSDP, activation checkpointing, LoRA.
const WRAPPERS: [&str; 4] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"];

/// Names without wrappers. `blocks.chunk.block.…` → `blocks.block.…`: DINOv2's training state groups blocks into chunks and numbers them consecutively.
/// `model.layer.…` → `layer.…`: state dict of Hugging Face's DINOv3.
fn canonical(name: &str) -> String {
    let number = |part: &str| part.parse::<usize>().is_ok();
    let name = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    match parts.as_slice() {
        ["blocks", chunk, block, rest] if number(chunk) && number(block) => format!("blocks.{block}.{rest}"),
        ["model", "layer", block, rest] => format!("layer.{block}.{rest}"),
        _ => name,
    }
}
