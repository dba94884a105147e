//! The messages of `onnx.proto`, written by hand, with every field that says what a model computes: parts of a graph are written again for
//! the library that runs them. Texts for people and hints for trainers are left out, and protobuf skips them.
//! Field numbers are those of the public `onnx.proto`, and so is what is packed.

use prost::Message;

/// `ModelProto`: the file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    /// version of the file format itself
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    /// tool that wrote the file
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    /// version of that tool
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    /// the network
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    /// versions of the operator sets that the nodes belong to
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
    /// what the file says about itself
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<StringStringEntryProto>,
    /// operators that the file defines itself
    #[prost(message, repeated, tag = "25")]
    pub(super) functions: Vec<FunctionProto>,
}

/// `FunctionProto`: an operator, made of others.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FunctionProto {
    /// operator that it defines
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// what the body calls its inputs
    #[prost(string, repeated, tag = "4")]
    pub(super) input: Vec<String>,
    /// what the body calls its outputs
    #[prost(string, repeated, tag = "5")]
    pub(super) output: Vec<String>,
    /// the body
    #[prost(message, repeated, tag = "7")]
    pub(super) node: Vec<NodeProto>,
    /// versions of the operator sets that the body belongs to
    #[prost(message, repeated, tag = "9")]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
    /// operator set that it belongs to
    #[prost(string, tag = "10")]
    pub(super) domain: String,
    /// attributes that have a value where a node gives none
    #[prost(message, repeated, tag = "11")]
    pub(super) attribute_proto: Vec<AttributeProto>,
    /// which of the functions of one name it is
    #[prost(string, tag = "13")]
    pub(super) overload: String,
}

/// `OperatorSetIdProto`: one operator set and its version.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSetIdProto {
    /// empty or `ai.onnx` for the operators of the specification
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    /// its version
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

/// `GraphProto`: nodes, and the tensors at the border.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    /// the operators
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    /// its name
    #[prost(string, tag = "2")]
    pub(super) name: String,
    /// tensors that the file holds
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    /// tensors that a call gives; up to IR version 3 the initialisers too
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    /// tensors that a call returns
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
    /// what is known of other tensors
    #[prost(message, repeated, tag = "13")]
    pub(super) value_info: Vec<ValueInfoProto>,
    /// tensors that the file holds in sparse form
    #[prost(message, repeated, tag = "15")]
    pub(super) sparse_initializer: Vec<Skipped>,
}

/// `NodeProto`: one operator. An empty name among `input` or `output` stands for an optional tensor that is not there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    /// names of the tensors it reads
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    /// names of the tensors it makes
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    /// may be empty
    #[prost(string, tag = "3")]
    pub(super) name: String,
    /// operator
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    /// settings
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
    /// operator set
    #[prost(string, tag = "7")]
    pub(super) domain: String,
    /// which of the functions of one name it is
    #[prost(string, tag = "8")]
    pub(super) overload: String,
}

/// `AttributeProto`: one setting of a node; `kind` (in `onnx.proto`: `type`) says which field holds it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    /// its name
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// of [`AttributeKind::Float`]
    #[prost(float, tag = "2")]
    pub(super) f: f32,
    /// of [`AttributeKind::Int`]
    #[prost(int64, tag = "3")]
    pub(super) i: i64,
    /// of [`AttributeKind::String`]
    #[prost(bytes = "vec", tag = "4")]
    pub(super) s: Vec<u8>,
    /// of [`AttributeKind::Tensor`]
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<TensorProto>,
    /// of [`AttributeKind::Graph`]
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) g: Option<Box<GraphProto>>,
    /// of [`AttributeKind::Floats`]
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub(super) floats: Vec<f32>,
    /// of [`AttributeKind::Ints`]
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
    /// of [`AttributeKind::Strings`]
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(super) strings: Vec<Vec<u8>>,
    /// of a list of tensors
    #[prost(message, repeated, tag = "10")]
    pub(super) tensors: Vec<TensorProto>,
    /// of a list of graphs
    #[prost(message, repeated, tag = "11")]
    pub(super) graphs: Vec<GraphProto>,
    /// an [`AttributeKind`], or one that no supported operator takes
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
    /// in the body of a function: the attribute of the node whose value this one has
    #[prost(string, tag = "21")]
    pub(super) ref_attr_name: String,
}

/// `AttributeProto.AttributeType`, as far as supported operators take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttributeKind {
    /// one `float32`
    Float = 1,
    /// one `int64`
    Int = 2,
    /// one text
    String = 3,
    /// one tensor
    Tensor = 4,
    /// one graph
    Graph = 5,
    /// a list of `float32`
    Floats = 6,
    /// a list of `int64`
    Ints = 7,
    /// a list of texts
    Strings = 8,
}

/// `TensorProto`: a tensor with its data, in `raw_data` or in the field of its element type.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    /// size of every axis
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    /// element type, see `tensor.rs`
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    /// elements of `float32`
    #[prost(float, repeated, tag = "4")]
    pub(super) float_data: Vec<f32>,
    /// elements of `int32` and narrower integers, `bool`, and the bits of `float16` and `bfloat16`
    #[prost(int32, repeated, tag = "5")]
    pub(super) int32_data: Vec<i32>,
    /// elements of texts
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(super) string_data: Vec<Vec<u8>>,
    /// elements of `int64`
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    /// its name
    #[prost(string, tag = "8")]
    pub(super) name: String,
    /// elements of any type, little-endian
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
    /// elements of `float64`
    #[prost(double, repeated, tag = "10")]
    pub(super) double_data: Vec<f64>,
    /// elements of `uint32` and `uint64`
    #[prost(uint64, repeated, tag = "11")]
    pub(super) uint64_data: Vec<u64>,
    /// where in another file the elements are
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<StringStringEntryProto>,
    /// 1 where the elements are in another file
    #[prost(int32, tag = "14")]
    pub(super) data_location: i32,
}

/// `StringStringEntryProto`: a key and its value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StringStringEntryProto {
    /// key
    #[prost(string, tag = "1")]
    pub(super) key: String,
    /// value
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `ValueInfoProto`: an input or output of the graph.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    /// its name
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// its type
    #[prost(message, optional, tag = "2")]
    pub(super) value_type: Option<TypeProto>,
}

/// `TypeProto`: the type of a value. Sequences, maps and the like are left out: they are a type without `tensor_type`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeProto {
    /// set where the value is a tensor
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorTypeProto>,
}

/// `TypeProto.Tensor`: element type and shape.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorTypeProto {
    /// element type, see `tensor.rs`
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    /// missing where nothing is known of the shape
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<TensorShapeProto>,
}

/// `TensorShapeProto`: the axes of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShapeProto {
    /// one entry for each axis
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<DimensionProto>,
}

/// `TensorShapeProto.Dimension`: one axis, with a size, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DimensionProto {
    /// its size
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
    /// its name
    #[prost(string, optional, tag = "2")]
    pub(super) dim_param: Option<String>,
}

/// A message whose presence alone matters.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Skipped {}
