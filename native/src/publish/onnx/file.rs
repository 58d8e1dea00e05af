//! A graph as a file: inputs, outputs, metadata, and constants in a file of their own where they are large.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use prost::Message;

use super::ExportPlan;
use super::graph::{BATCH, Graph, Value};
use super::proto::{
    DataType, DimensionProto, Entry, GraphProto, ModelProto, OperatorSetProto, ShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use crate::system::atomic::write_file;

/// Program in the files, by which it knows them again.
pub const PRODUCER: &str = "dinomaly";

/// Version of the format: that of ONNX 1.12, in which the first set of operators came out.
const IR_VERSION: i64 = 8;

/// Bytes of constants in one file. Files above 2 GiB cannot be read; the rest is for operations and names.
const FILE_LIMIT: usize = 1900 << 20;

/// An input or output.
pub fn described(value: &Value, data_type: DataType, about: &str) -> ValueInfoProto {
    let extent = |&extent: &usize| match extent {
        BATCH => DimensionProto { dim_value: None, dim_param: Some("batch".into()) },
        extent => DimensionProto { dim_value: Some(extent as i64), dim_param: None },
    };
    let shape = ShapeProto { dim: value.shape.iter().map(extent).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type.into(), shape: Some(shape) };
    let tensor_type = Some(tensor_type);
    ValueInfoProto { name: value.name.to_string(), r#type: Some(TypeProto { tensor_type }), doc_string: about.into() }
}

/// An input or output for people.
pub fn shown(value: &ValueInfoProto) -> String {
    let tensor_type = value.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
    let extents = tensor_type.and_then(|of| of.shape.as_ref()).map_or(&[][..], |shape| &shape.dim);
    let extent = |extent: &DimensionProto| match (&extent.dim_param, extent.dim_value) {
        (Some(name), _) => name.clone(),
        (None, number) => number.unwrap_or_default().to_string(),
    };
    let extents = extents.iter().map(extent).collect::<Vec<_>>().join(", ");
    let bytes = tensor_type.is_some_and(|of| of.elem_type() == DataType::Uint8);
    let kind = if bytes { "uint8" } else { "float32" };
    format!("{:<10} {kind} [{extents}]: {}", value.name, value.doc_string)
}

/// Writes the file, after that of its constants if they have one; both with their sizes in bytes.
///
/// # Errors
/// Naming the file that cannot be written, or that of constants if it is there already.
pub fn write(
    model: &Model,
    plan: &ExportPlan,
    mut graph: Graph,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    let size = |graph: &Graph| graph.constants.iter().map(|c| c.raw_data.as_ref().map_or(0, Vec::len)).sum::<usize>();
    if plan.external || size(&graph) > FILE_LIMIT {
        let path = plan.out.with_extension("onnx.data");
        // An earlier graph may need it, until the new graph has taken its place.
        if path.exists() {
            bail!(
                "{} is there already, perhaps the weights of another model: remove it, or name another place",
                path.display()
            );
        }
        let name = path.file_name().context("the file has a name")?.to_string_lossy().into_owned();
        let data = graph.move_out(&name);
        write_file(&path, &data)?;
        files.push((path, data.len()));
    }
    let mut proto = encoded(graph, &model.name, plan.opset, input, output);
    proto.doc_string = about(model);
    proto.metadata_props = metadata(model)?;
    let bytes = proto.encode_to_vec();
    write_file(&plan.out, &bytes)?;
    files.push((plan.out.clone(), bytes.len()));
    Ok(files)
}

/// A graph with its inputs and outputs.
pub fn encoded(
    graph: Graph,
    name: &str,
    opset: i64,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> ModelProto {
    let Graph { nodes: node, constants: initializer, .. } = graph;
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(GraphProto { node, name: name.into(), initializer, input, output }),
        opset_import: vec![OperatorSetProto { version: opset }],
        ..ModelProto::default()
    }
}

/// How to use the graph.
fn about(model: &Model) -> String {
    format!(
        "Dinomaly anomaly detector. Photos: {}, bilinear with antialiasing as Pillow's resize. A photo is defective if its score \
         is above its class's threshold, in the metadata under dinomaly.calibration.",
        model.preprocessor.view()
    )
}

/// What the graph does not say: classes with thresholds, the photo's way to the input, and the architecture.
fn metadata(model: &Model) -> Result<Vec<Entry>> {
    let entry = |key: &str, value: String| Entry { key: format!("dinomaly.{key}"), value };
    Ok(vec![
        entry("model", model.name.clone()),
        entry("calibration", serde_json::to_string(&model.calibration)?),
        entry("preprocessor", serde_json::to_string(&model.preprocessor)?),
        entry("config", serde_json::to_string(&model.config)?),
        entry("card", model.card.clone()),
    ])
}
