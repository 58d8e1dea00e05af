//! A graph that grows operation by operation.

use std::collections::HashMap;
use std::rc::Rc;

use super::proto::{AttributeProto, AttributeType, DataType, Entry, NodeProto, TensorProto};

/// Extent of the batch in shapes: each run chooses it. ONNX's `Reshape` reads the same number as "unchanged".
pub const BATCH: usize = 0;

/// Smallest set of operators: the first with `LayerNormalization`.
pub const FIRST_OPSET: i64 = 17;

/// Largest set of operators that was tried.
pub const LAST_OPSET: i64 = 22;

/// Set of operators, if not asked otherwise: what runtimes have known for years.
pub const DEFAULT_OPSET: i64 = FIRST_OPSET;

/// Number of bytes from which a constant may lie in a file of its own.
const SMALL: usize = 1024;

/// Offsets in that file are multiples of it.
const ALIGNMENT: usize = 4096;

/// [`TensorProto::data_location`] of values in a file beside the graph's.
const EXTERNAL: i32 = 1;

/// Result of an operation, input or constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name in the graph.
    pub name: Rc<str>,
    /// Shape; that of a linear layer's weight is `[out, in]` in every [`Storage`].
    pub shape: Vec<usize>,
    /// Storage of a linear layer's weight.
    pub storage: Storage,
}

/// How the value of a name stands to its shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// As the shape says.
    Plain,
    /// `[in, out]`, ready for a product.
    Transposed,
    /// Signed bytes `[in, out]`, with a scale for each output.
    Int8 {
        /// Name of the scales `[out]`.
        scales: Rc<str>,
    },
}

/// A fixed argument of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A real number.
    Float(f32),
}

/// Operations and constants so far.
#[derive(Clone, Default)]
pub struct Graph {
    /// Operations in the order of their execution.
    pub nodes: Vec<NodeProto>,
    /// Constants.
    pub constants: Vec<TensorProto>,
    /// Number of operations of each operator, for their names.
    counts: HashMap<&'static str, usize>,
    /// Names of unnamed constants by type, shape and content, so that equal ones are written once.
    known: HashMap<(DataType, Vec<usize>, Vec<u8>), Rc<str>>,
}

impl Graph {
    /// Adds an operation with so many results, which are named after it.
    pub fn node(
        &mut self,
        operator: &'static str,
        inputs: &[&str],
        arguments: &[(&str, Argument)],
        results: usize,
    ) -> Vec<Rc<str>> {
        let count = self.counts.entry(operator).or_default();
        let name = format!("{operator}_{count}");
        *count += 1;
        let output = (0..results).map(|i| if results == 1 { name.clone() } else { format!("{name}_{i}") });
        let output = output.collect::<Vec<_>>();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.clone(),
            name,
            op_type: operator.into(),
            attribute: arguments.iter().map(|(name, argument)| attribute(name, argument)).collect(),
        });
        output.into_iter().map(Rc::from).collect()
    }

    /// Gives a value another name.
    pub fn identity(&mut self, value: &str, name: &str) {
        self.nodes.push(NodeProto {
            input: vec![value.into()],
            output: vec![name.into()],
            name: format!("Identity_{name}"),
            op_type: "Identity".into(),
            attribute: Vec::new(),
        });
    }

    /// Adds a constant of this name.
    pub fn named(&mut self, name: String, data_type: DataType, shape: &[usize], raw: Vec<u8>) -> Rc<str> {
        self.constants.push(TensorProto {
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            data_type: data_type.into(),
            name: name.clone(),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
        name.into()
    }

    /// Moves the values of constants out of the graph, into the content of a file of this name beside it. Small ones stay, because
    /// readers need them to know shapes.
    pub fn move_out(&mut self, file: &str) -> Vec<u8> {
        let mut content = Vec::new();
        for constant in &mut self.constants {
            let Some(raw) = constant.raw_data.take_if(|raw| raw.len() >= SMALL) else { continue };
            // Aligned as mapped files need it.
            content.resize(content.len().next_multiple_of(ALIGNMENT), 0);
            let entry = |key: &str, value: String| Entry { key: key.into(), value };
            constant.external_data = vec![
                entry("location", file.into()),
                entry("offset", content.len().to_string()),
                entry("length", raw.len().to_string()),
            ];
            constant.data_location = Some(EXTERNAL);
            content.extend(raw);
        }
        content
    }

    /// A constant without a name of its own.
    pub fn constant(&mut self, data_type: DataType, shape: &[usize], raw: Vec<u8>) -> Rc<str> {
        let key = (data_type, shape.to_vec(), raw);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let name = self.named(format!("constant_{}", self.known.len()), data_type, shape, key.2.clone());
        self.known.insert(key, name.clone());
        name
    }
}

fn attribute(name: &str, argument: &Argument) -> AttributeProto {
    let empty = AttributeProto { name: name.into(), ..AttributeProto::default() };
    match argument {
        Argument::Int(i) => AttributeProto { i: Some(*i), r#type: AttributeType::Int.into(), ..empty },
        Argument::Ints(ints) => AttributeProto { ints: ints.clone(), r#type: AttributeType::Ints.into(), ..empty },
        Argument::Float(f) => AttributeProto { f: Some(*f), r#type: AttributeType::Float.into(), ..empty },
    }
}
