//! An executor that computes nothing: it records the operations of a forward pass as a graph.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use dinomaly_core::tensor::HostTensor;
use dinomaly_core::{Error, Result};

use super::graph::{Argument, Graph, Storage, Value};
use super::proto::DataType;

/// Records operations as those of ONNX.
pub struct Recorder {
    graph: RefCell<Graph>,
    /// Names of the tensors that will be uploaded, in this order.
    names: RefCell<VecDeque<String>>,
    /// Version of the set of operators.
    pub(super) opset: i64,
    /// Whether products with weights in int8 are computed in int8.
    pub(super) int8: bool,
}

impl Recorder {
    /// An empty graph for this set of operators; `names` are those of the tensors that will be uploaded.
    pub fn new(opset: i64, int8: bool, names: Vec<String>) -> Self {
        Self { graph: RefCell::default(), names: RefCell::new(names.into()), opset, int8 }
    }

    /// The recorded graph.
    pub(super) fn into_graph(self) -> Graph {
        self.graph.into_inner()
    }

    /// The graph so far.
    pub(super) fn graph(&self) -> Graph {
        self.graph.borrow().clone()
    }

    /// An input of the graph.
    pub(super) fn input(&self, name: &str, shape: impl Into<Vec<usize>>) -> Value {
        plain(name.into(), &shape.into())
    }

    /// Records an operation with one result of this shape.
    pub(super) fn node(
        &self,
        operator: &'static str,
        inputs: &[&Value],
        arguments: &[(&str, Argument)],
        shape: impl Into<Vec<usize>>,
    ) -> Value {
        let mut results = self.nodes(operator, inputs, arguments, &[shape.into()]);
        results.remove(0)
    }

    /// Records an operation with results of these shapes.
    pub(super) fn nodes(
        &self,
        operator: &'static str,
        inputs: &[&Value],
        arguments: &[(&str, Argument)],
        shapes: &[Vec<usize>],
    ) -> Vec<Value> {
        let inputs = inputs.iter().map(|value| &*value.name).collect::<Vec<_>>();
        let names = self.graph.borrow_mut().node(operator, &inputs, arguments, shapes.len());
        names.into_iter().zip(shapes).map(|(name, shape)| plain(name, shape)).collect()
    }

    /// The same values under another name.
    pub(super) fn named(&self, value: &Value, name: &str) -> Value {
        self.graph.borrow_mut().identity(&value.name, name);
        plain(name.into(), &value.shape)
    }

    /// A constant of single-precision values.
    pub(super) fn numbers(&self, shape: &[usize], values: &[f32]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        plain(self.graph.borrow_mut().constant(DataType::Float, shape, raw), shape)
    }

    /// A single number.
    pub(super) fn number(&self, value: f32) -> Value {
        self.numbers(&[], &[value])
    }

    /// A constant of whole numbers.
    pub(super) fn integers(&self, shape: &[usize], values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        plain(self.graph.borrow_mut().constant(DataType::Int64, shape, raw), shape)
    }

    /// A line of whole numbers.
    pub(super) fn line(&self, values: &[usize]) -> Value {
        self.integers(&[values.len()], &values.iter().map(|&value| value as i64).collect::<Vec<_>>())
    }

    /// Adds a tensor of the model under its name, in single precision.
    pub(super) fn tensor(&self, tensor: &HostTensor) -> Value {
        let raw = tensor.to_f32().iter().flat_map(|value| value.to_le_bytes()).collect();
        self.stored(&self.next_name(), DataType::Float, &tensor.shape, raw)
    }

    /// Adds a constant under a name.
    pub(super) fn stored(&self, name: &str, data_type: DataType, shape: &[usize], raw: Vec<u8>) -> Value {
        plain(self.graph.borrow_mut().named(name.into(), data_type, shape, raw), shape)
    }

    /// Name of the tensor that is uploaded now. Operations upload small ones of their own after those of the model.
    pub(super) fn next_name(&self) -> String {
        let name = self.names.borrow_mut().pop_front();
        name.unwrap_or_else(|| format!("uploaded_{}", self.graph.borrow().constants.len()))
    }

    /// The same values in another shape, which holds [`BATCH`](super::graph::BATCH) where it is unchanged.
    pub(super) fn reshape(&self, x: &Value, shape: impl Into<Vec<usize>>) -> Value {
        let shape: Vec<usize> = shape.into();
        self.node("Reshape", &[x, &self.line(&shape)], &[], shape)
    }

    /// The axes in another order.
    pub(super) fn transpose(&self, x: &Value, order: &[usize]) -> Value {
        let shape = order.iter().map(|&axis| x.shape[axis]).collect::<Vec<_>>();
        let order = Argument::Ints(order.iter().map(|&axis| axis as i64).collect());
        self.node("Transpose", &[x], &[("perm", order)], shape)
    }

    /// Part `from..to` of an axis.
    pub(super) fn slice(&self, x: &Value, axis: usize, from: usize, to: usize) -> Value {
        let mut shape = x.shape.clone();
        shape[axis] = to - from;
        self.node("Slice", &[x, &self.line(&[from]), &self.line(&[to]), &self.line(&[axis])], &[], shape)
    }

    /// Equal parts of an axis.
    pub(super) fn split<const N: usize>(&self, x: &Value, axis: usize) -> [Value; N] {
        let mut shape = x.shape.clone();
        shape[axis] /= N;
        let parts = self.line(&[shape[axis]; N]);
        let parts = self.nodes("Split", &[x, &parts], &[("axis", Argument::Int(axis as i64))], &vec![shape; N]);
        parts.try_into().expect("as many as were asked for")
    }

    /// All values along an axis, one operand after the other.
    pub(super) fn concat(&self, xs: &[&Value], axis: usize) -> Value {
        let mut shape = xs[0].shape.clone();
        shape[axis] = xs.iter().map(|x| x.shape[axis]).sum();
        self.node("Concat", xs, &[("axis", Argument::Int(axis as i64))], shape)
    }

    /// So many entries of a value before and after those of an axis.
    pub(super) fn padded(&self, x: &Value, axis: usize, [before, after]: [usize; 2], value: f32) -> Value {
        let (axes, mut shape) = (x.shape.len(), x.shape.clone());
        shape[axis] += before + after;
        let mut pads = vec![0; 2 * axes];
        (pads[axis], pads[axes + axis]) = (before, after);
        self.node("Pad", &[x, &self.line(&pads), &self.number(value)], &[], shape)
    }

    /// Sum, mean or largest value along an axis, which stays with one entry.
    pub(super) fn reduce(&self, operator: &'static str, x: &Value, axis: usize) -> Value {
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        // ReduceSum takes its axes as an input since 13, the others since 18.
        if operator == "ReduceSum" || self.opset >= 18 {
            return self.node(operator, &[x, &self.line(&[axis])], &[], shape);
        }
        self.node(operator, &[x], &[("axes", Argument::Ints(vec![axis as i64]))], shape)
    }

    /// Element-wise operation of two operands, of which the second may have fewer axes or a single entry along some.
    pub(super) fn both(&self, operator: &'static str, a: &Value, b: &Value) -> Value {
        let missing = a.shape.len().saturating_sub(b.shape.len());
        let shape = a.shape.iter().enumerate().map(|(axis, &extent)| {
            let other = if axis < missing { 1 } else { b.shape[axis - missing] };
            if extent == 1 { other } else { extent }
        });
        let shape = shape.collect::<Vec<_>>();
        self.node(operator, &[a, b], &[], shape)
    }

    /// Element-wise operation of one operand.
    pub(super) fn each(&self, operator: &'static str, x: &Value) -> Value {
        self.node(operator, &[x], &[], x.shape.clone())
    }

    /// Product of matrices along the last two axes. `b` is a matrix or has as many axes as `a`.
    pub(super) fn product(&self, a: &Value, b: &Value) -> Value {
        let mut shape = a.shape.clone();
        let last = shape.len() - 1;
        shape[last] = b.shape[b.shape.len() - 1];
        self.node("MatMul", &[a, b], &[], shape)
    }

    /// Values of this type.
    pub(super) fn cast(&self, x: &Value, to: DataType) -> Value {
        self.node("Cast", &[x], &[("to", Argument::Int(i32::from(to).into()))], x.shape.clone())
    }

    /// Rows `indices` along an axis.
    pub(super) fn gather(&self, x: &Value, indices: &Value, axis: usize) -> Value {
        let mut shape = x.shape.clone();
        shape.splice(axis..=axis, indices.shape.iter().copied());
        self.node("Gather", &[x, indices], &[("axis", Argument::Int(axis as i64))], shape)
    }

    /// The `k` largest values along the last axis, largest first, and their indices.
    pub(super) fn largest(&self, x: &Value, k: usize) -> [Value; 2] {
        let mut shape = x.shape.clone();
        *shape.last_mut().expect("a line of values") = k;
        let found = self.nodes("TopK", &[x, &self.line(&[k])], &[], &[shape.clone(), shape]);
        found.try_into().expect("values and indices")
    }
}

fn plain(name: Rc<str>, shape: &[usize]) -> Value {
    Value { name, shape: shape.to_vec(), storage: Storage::Plain }
}

/// `[batch, tokens, channels]` of activations.
pub(super) fn rows(name: &str, x: &Value) -> Result<[usize; 3]> {
    match x.shape[..] {
        [batch, tokens, channels] => Ok([batch, tokens, channels]),
        _ => Err(Error::Tensor {
            name: name.into(),
            reason: format!("expected [batch, tokens, channels], found shape {:?}", x.shape),
        }),
    }
}

/// Checks the shape of an operand.
pub(super) fn expect(name: &str, x: &Value, shape: &[usize]) -> Result<()> {
    if x.shape == shape {
        return Ok(());
    }
    Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found: x.shape.clone() })
}
