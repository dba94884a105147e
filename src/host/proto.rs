//! The messages of `onnx.proto` that tell whether rten may have a graph. Weights are not copied: what is long is a view of the file's bytes,
//! and fields that nobody asks for are skipped. Lists are packed where `onnx.proto` says so: rten reads `dims` and `ints` in no other form.

use std::collections::HashSet;

use prost::Message;
use prost::bytes::Bytes;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    /// a model without it is none, says rten
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

/// `GraphProto`: of the whole model, or of a branch or loop body.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
}

/// `ValueInfoProto`: its name alone.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int64, tag = "3")]
    pub(super) i: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) s: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub(super) g: Option<GraphProto>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
}

/// `TensorProto`: its shape, and its elements where they are whole numbers or `raw_data`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(int32, repeated, tag = "5")]
    pub(super) int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) raw_data: Bytes,
}

/// `TensorProto.DataType`, those that are named here.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const BOOL: i32 = 9;

impl GraphProto {
    /// The names that the graph reads and does not make.
    pub(super) fn captured(&self) -> Vec<&str> {
        let made = self.node.iter().flat_map(|node| &node.output).chain(self.input.iter().map(|input| &input.name));
        let made: HashSet<&str> = made.chain(self.initializer.iter().map(|tensor| &tensor.name)).map(String::as_str).collect();
        let read = self.node.iter().flat_map(|node| node.names().chain(node.graphs().flat_map(Self::captured)));
        let read = read.chain(self.output.iter().map(|output| output.name.as_str()));
        read.filter(|name| !made.contains(name)).collect()
    }
}

impl NodeProto {
    /// The attribute called `name`.
    pub(super) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// The names of the inputs that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.input.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The graphs among the attributes.
    pub(super) fn graphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attribute.iter().filter_map(|attribute| attribute.g.as_ref())
    }

    /// The name of input `k`; `None` where the node leaves it out.
    pub(super) fn input(&self, k: usize) -> Option<&str> {
        self.input.get(k).map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl TensorProto {
    /// The elements, where they are `int32`, `int64` or `bool`.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let raw = &self.raw_data;
        match self.data_type {
            INT64 if raw.is_empty() => Some(self.int64_data.clone()),
            INT64 => Some(raw.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()),
            BOOL if !raw.is_empty() => Some(raw.iter().copied().map(i64::from).collect()),
            INT32 | BOOL if raw.is_empty() => Some(self.int32_data.iter().copied().map(i64::from).collect()),
            INT32 => Some(raw.as_chunks::<4>().0.iter().map(|&bytes| i64::from(i32::from_le_bytes(bytes))).collect()),
            _ => None,
        }
    }
}
