//! A model → a file for ONNX Runtime, OpenVINO and others: from pixels to anomaly map and score in one graph.

mod check;
mod file;
mod graph;
mod operations;
mod proto;
mod recorder;
mod run;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::score::{MAP_SIDE, MapLayout, top_count};
use dinomaly_core::model::network::{Looked, Network};
use dinomaly_core::ops::Ops;
use dinomaly_core::photo::preprocess::Resized;
use dinomaly_core::quant::{self, Format};
use dinomaly_core::tensor::Data;

pub use check::Difference;
pub use graph::{DEFAULT_OPSET, FIRST_OPSET, LAST_OPSET};
pub use recorder::Recorder;

use super::moments;
use super::quantize::PICTURES;
use crate::model_dir;
use crate::system::atomic::check_file;
use file::{PRODUCER, described, shown, write};
use graph::{BATCH, Graph, Value};
use proto::{DataType, ValueInfoProto};

/// First operation of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Pixels, resized and cropped: `photo`, `[batch, side, side, 3]`; bytes, or floats of models that do not round resized values.
    #[default]
    Photo,
    /// Normalised pixels of patches: `patches`, `[batch, grid², 3·patch²]`, each by channel, row and column.
    Patches,
}

/// The model to export, and how.
#[derive(Clone, Debug)]
pub struct ExportPlan {
    /// Model folder.
    pub model: PathBuf,
    /// File to write, which ends in `.onnx`.
    pub out: PathBuf,
    /// Set of operators, [`FIRST_OPSET`] to [`LAST_OPSET`].
    pub opset: i64,
    /// First operation of the graph.
    pub input: Input,
    /// Whether linear layers are computed in int8, as ONNX Runtime's dynamic quantization does.
    pub int8: bool,
    /// Whether the constants lie in a file of their own, `NAME.onnx.data`. Above 2 GB they always do.
    pub external: bool,
    /// Whether the written file is run on the self-test picture and compared.
    pub check: bool,
}

impl ExportPlan {
    /// In single precision, from pixels, unchecked.
    pub fn new(model: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            out: out.into(),
            opset: DEFAULT_OPSET,
            input: Input::Photo,
            int8: false,
            external: false,
            check: false,
        }
    }
}

/// A written file.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Number of operations.
    pub operations: usize,
    /// Files with their sizes in bytes.
    pub files: Vec<(PathBuf, usize)>,
    /// Input and outputs: name, type and shape, for people.
    pub signature: Vec<String>,
    /// What the file computes of the self-test picture, against the processor.
    pub difference: Option<Difference>,
}

/// Writes a model as ONNX.
///
/// # Errors
/// If the model is unusable or looks at photos in tiles; if a file of others is in the way, or an earlier one of weights; if the written
/// file computes something else, which then stays to be looked at.
pub fn export(plan: &ExportPlan) -> Result<Exported> {
    check_target(&plan.out)?;
    if !(FIRST_OPSET..=LAST_OPSET).contains(&plan.opset) {
        bail!("operator set {} is not supported: choose one from {FIRST_OPSET} to {LAST_OPSET}", plan.opset);
    }
    let mut model = model_dir::read(&plan.model)?;
    if model.preprocessor.tiles.is_some() {
        bail!(
            "model {} looks at photos in tiles, whose number depends on the photo: a graph has one input of one size; \
             train or make a model without --tile-size",
            plan.model.display()
        );
    }
    if plan.int8 && !model.weights.0.values().any(|tensor| matches!(tensor.data, Data::Int8 { .. })) {
        model.weights = quant::quantize_to(&model.weights, Format::Int8, &moments::of_generated(&model, PICTURES)?)?.0;
    }
    let (graph, inputs, outputs) = record(&model, plan)?;
    let (operations, signature) = (graph.nodes.len(), inputs.iter().chain(&outputs).map(shown).collect());
    let files = write(&model, plan, graph, inputs, outputs)?;
    let difference = plan.check.then(|| check::check(&model, plan)).transpose()?;
    Ok(Exported { operations, files, signature, difference })
}

/// Checks that the file can be written, and that nothing of others is there.
fn check_target(out: &Path) -> Result<()> {
    if out.extension().is_none_or(|extension| extension != "onnx") {
        bail!("{} does not end in .onnx: name a file that does", out.display());
    }
    check_file(out)?;
    let mut start = Vec::new();
    if let Ok(file) = File::open(out) {
        file.take(64).read_to_end(&mut start).with_context(|| format!("{} cannot be read", out.display()))?;
        if !start.windows(PRODUCER.len()).any(|bytes| bytes == PRODUCER.as_bytes()) {
            bail!("{} is there already, and not a file that `export` wrote: name another place", out.display());
        }
    }
    Ok(())
}

/// The graph of a model with its inputs and outputs.
fn record(model: &Model, plan: &ExportPlan) -> Result<(Graph, Vec<ValueInfoProto>, Vec<ValueInfoProto>)> {
    let (grid, encoder) = (model.grid(), model.config.encoder());
    let (patch, side) = (encoder.patch_size, model.preprocessor.geometry.crop);
    let mut names = Vec::new();
    Network::<()>::load(&model.config, grid, &mut |name, _| {
        names.push(name.to_owned());
        Ok(())
    })?;
    let ops = Recorder::new(plan.opset, plan.int8, names);
    let network = model.weights.network(&ops, &model.config, grid)?;
    let (input, patches) = match plan.input {
        Input::Photo => {
            let photo = ops.input("photo", [BATCH, side, side, 3]);
            let about = "red, green and blue, 0 to 255, row by row: the photo resized and cropped";
            let data_type = match model.preprocessor.resized {
                Resized::Bytes => DataType::Uint8,
                Resized::Floats => DataType::Float,
            };
            (described(&photo, data_type, about), normalised_patches(&ops, &photo, model))
        }
        Input::Patches => {
            let patches = ops.input("patches", [BATCH, grid * grid, 3 * patch * patch]);
            let about = "normalised pixels of each patch by channel, row and column";
            (described(&patches, DataType::Float, about), patches)
        }
    };
    let Looked { distances, descriptor } = network.look(&ops, &patches, encoder.prefix_tokens())?;
    let layout = MapLayout {
        prefix: model.config.kept_prefix_tokens(),
        grid,
        input_side: side,
        border: model.config.map_border(),
    };
    let map = map(&ops, &distances, &layout)?;
    let [best, _] = ops.largest(
        &ops.reshape(&map, [BATCH, MAP_SIDE * MAP_SIDE]),
        top_count(MAP_SIDE * MAP_SIDE, model.config.score_share()),
    );
    let score = ops.reshape(&ops.reduce("ReduceMean", &best, 1), [BATCH]);
    let descriptor = ops.reshape(&descriptor, [BATCH, encoder.hidden_size]);
    let outputs = [
        (score, "score", "above a class's threshold: defective"),
        (map, "map", "how anomalous each place of the input is"),
        (descriptor, "descriptor", "what the photo looks like as a whole, to tell classes and unknown photos apart"),
    ];
    let outputs = outputs.map(|(value, name, about)| described(&ops.named(&value, name), DataType::Float, about));
    Ok((ops.into_graph(), vec![input], outputs.to_vec()))
}

/// Photo `[batch, side, side, 3]` of values from 0 to 255 → normalised patches `[batch, grid², 3·patch²]`; each step as in
/// [`Preprocessor::values`](dinomaly_core::photo::preprocess::Preprocessor::values).
fn normalised_patches(ops: &Recorder, photo: &Value, model: &Model) -> Value {
    let (grid, patch) = (model.grid(), model.config.encoder().patch_size);
    let photo = match model.preprocessor.resized {
        Resized::Bytes => &ops.cast(photo, DataType::Float),
        Resized::Floats => photo,
    };
    let unit = ops.both("Div", photo, &ops.number(255.0));
    let centred = ops.both("Sub", &unit, &ops.numbers(&[3], &model.preprocessor.mean));
    let normalised = ops.both("Div", &centred, &ops.numbers(&[3], &model.preprocessor.std));
    let cut = ops.reshape(&normalised, [BATCH, grid, patch, grid, patch, 3]);
    ops.reshape(&ops.transpose(&cut, &[0, 1, 3, 5, 2, 4]), [BATCH, grid * grid, 3 * patch * patch])
}

/// Distances of each group `[batch, tokens]` → blurred map `[batch, MAP_SIDE, MAP_SIDE]`, by the matrix of [`MapLayout::axis`].
fn map(ops: &Recorder, distances: &[Value], layout: &MapLayout) -> Result<Value> {
    let patches = ops.slice(&ops.mean(distances)?, 1, layout.prefix, layout.tokens());
    let patches = ops.reshape(&patches, [BATCH, layout.grid, layout.grid]);
    let axis = ops.numbers(&[MAP_SIDE, layout.grid], &layout.axis());
    let columns = ops.node("MatMul", &[&axis, &patches], &[], [BATCH, MAP_SIDE, layout.grid]);
    Ok(ops.product(&columns, &ops.transpose(&axis, &[1, 0])))
}
