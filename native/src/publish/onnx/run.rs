//! Graphs run by an ONNX runtime that knows nothing of this project.

use dinomaly_core::ops::Read;
use dinomaly_core::{Error, Result};
use prost::Message;
use rten::{Model, ModelOptions, ValueOrView, op_registry};
use rten_tensor::AsView;

use super::file::{described, encoded};
use super::graph::Value;
use super::proto::DataType;
use super::recorder::Recorder;

/// How the runtime reads graphs: with the operations that exported ones have. With all that it knows the program would be some
/// megabytes larger.
pub fn reading() -> ModelOptions {
    ModelOptions::with_ops(op_registry!(
        Add,
        Cast,
        Concat,
        Conv,
        Div,
        DynamicQuantizeLinear,
        Elu,
        Equal,
        Erf,
        Gather,
        Gelu,
        Identity,
        LayerNormalization,
        MatMul,
        MatMulInteger,
        Max,
        Min,
        Mul,
        Neg,
        OneHot,
        Pad,
        ReduceMax,
        ReduceMean,
        ReduceSum,
        Reshape,
        Sigmoid,
        Slice,
        Softmax,
        Split,
        Sqrt,
        Sub,
        TopK,
        Transpose
    ))
}

/// Runs a graph, and copies these outputs of single-precision values.
///
/// # Errors
/// [`Error::Device`] with what the runtime says.
pub fn run(graph: &Model, input: Option<ValueOrView<'_>>, outputs: &[&str]) -> Result<Vec<Vec<f32>>> {
    let inputs = graph.input_ids().iter().copied().zip(input).collect();
    let ids =
        outputs.iter().map(|name| graph.node_id(name)).collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    let found = graph.run(inputs, &ids, None).map_err(failed)?;
    let values = |value: rten::Value| value.into_tensor::<f32>().map(|tensor| tensor.to_vec());
    found.into_iter().map(|value| values(value).ok_or_else(|| failed("an output is not in single precision"))).collect()
}

/// A failure of the runtime.
pub fn failed(reason: impl ToString) -> Error {
    Error::Device { executor: "the ONNX runtime", reason: reason.to_string() }
}

/// What was recorded so far is run as a whole: for tests, which compare each operation with that of other executors.
impl Read for Recorder {
    async fn read_back(&self, tensors: &[&Value]) -> Result<Vec<Vec<f32>>> {
        let output = tensors.iter().map(|value| described(value, DataType::Float, "")).collect();
        let file = encoded(self.graph(), "recorded", self.opset, Vec::new(), output);
        let graph = reading().load(file.encode_to_vec()).map_err(failed)?;
        run(&graph, None, &tensors.iter().map(|value| &*value.name).collect::<Vec<_>>())
    }
}
