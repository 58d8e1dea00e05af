//! Messages of ONNX files.
//!
//! Format: onnx/onnx.proto of the ONNX project, in the second version of protocol buffers, which packs no lists. Only the fields that are
//! written are declared here.

use prost::Message;

/// A file: a graph with its versions.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of that program.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// How to use the graph.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Versions of the sets of operators.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetProto>,
    /// What the graph does not say.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

/// A set of operators, the default one without a domain.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetProto {
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A text with its name.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Text.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Operations in the order of their execution, and constants.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Operations.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of its inputs.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of its results.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Fixed arguments.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// A fixed argument. Single numbers are written if they are 0, too.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A real number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// A whole number.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Whole numbers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Which of the fields counts.
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
}

/// Kinds of fixed arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    /// None.
    Undefined = 0,
    /// A real number.
    Float = 1,
    /// A whole number.
    Int = 2,
    /// Whole numbers.
    Ints = 7,
}

/// A constant, in the file or in a file beside it.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Type of the values.
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Values in row-major order, little-endian; empty if they lie in a file beside this one.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    /// File beside this one, with offset and length in bytes.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 1 if the values lie in a file beside this one.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

/// Types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// None.
    Undefined = 0,
    /// Single precision.
    Float = 1,
    /// Bytes.
    Uint8 = 2,
    /// Signed bytes.
    Int8 = 3,
    /// Whole numbers of 32 bits.
    Int32 = 6,
    /// Whole numbers of 64 bits.
    Int64 = 7,
}

/// An input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type and shape.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// What it holds.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// Type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// A tensor's.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// Type of the values.
    #[prost(enumeration = "DataType", tag = "1")]
    pub elem_type: i32,
    /// Shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<ShapeProto>,
}

/// Shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct ShapeProto {
    /// Extents.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// An extent: a number, or the name of one that each run chooses.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// Number.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// Name.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
