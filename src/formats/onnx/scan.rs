//! How much room the messages of a file take once they are decoded: a message of nothing has two bytes there, and hundreds in memory.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use crate::error::{Error, Result};

/// Bytes that messages may take, without what is in them, for each byte of the file; they take a third of it in the files of exporters.
const BYTES_PER_BYTE: usize = 32;

/// Bytes that messages may take however small the file is.
const BYTES_AT_LEAST: usize = 1 << 20;

/// Messages within messages; prost goes no deeper.
const MAX_DEPTH: usize = 100;

/// Refuses a file of messages that hold next to nothing. What is no protobuf is left to whoever decodes it.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let mut room = bytes.len().saturating_mul(BYTES_PER_BYTE).max(BYTES_AT_LEAST);
    if walk(Kind::Model, bytes, 0, &mut room) == Walk::NoRoom {
        return Err(Error::limit(format!("messages: expected ones that take {BYTES_PER_BYTE} times the file in memory, found too many empty ones")));
    }
    Ok(())
}

/// What is in a message.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// no message of which there are many
    Leaf,
}

impl Kind {
    /// What field `number` is, and the bytes that one takes in memory; `None` for numbers and bytes.
    fn field(self, number: u64) -> Option<(Self, usize)> {
        let text = size_of::<String>();
        Some(match (self, number) {
            (Self::Model, 7) => (Self::Graph, 0),
            (Self::Model, 8) | (Self::Function, 9) => (Self::Leaf, size_of::<OperatorSetIdProto>()),
            (Self::Model, 14) | (Self::Tensor, 13) => (Self::Leaf, size_of::<StringStringEntryProto>()),
            (Self::Model, 25) => (Self::Function, size_of::<FunctionProto>()),
            (Self::Function, 7) | (Self::Graph, 1) => (Self::Node, size_of::<NodeProto>()),
            (Self::Function, 11) | (Self::Node, 5) => (Self::Attribute, size_of::<AttributeProto>()),
            (Self::Graph, 5) | (Self::Attribute, 10) => (Self::Tensor, size_of::<TensorProto>()),
            (Self::Graph, 11..=13) => (Self::ValueInfo, size_of::<ValueInfoProto>()),
            (Self::Attribute, 5) => (Self::Tensor, 0),
            (Self::Attribute, 6 | 11) => (Self::Graph, size_of::<GraphProto>()),
            (Self::ValueInfo, 2) => (Self::Type, 0),
            (Self::Type, 1) => (Self::TensorType, 0),
            (Self::TensorType, 2) => (Self::Shape, 0),
            (Self::Shape, 1) => (Self::Leaf, size_of::<DimensionProto>()),
            (Self::Node, 1 | 2) | (Self::Function, 4 | 5) | (Self::Attribute, 9) | (Self::Tensor, 6) => (Self::Leaf, text),
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    Done,
    NoRoom,
}

/// Takes the room that the messages within one take.
fn walk(kind: Kind, mut rest: &[u8], depth: usize, room: &mut usize) -> Walk {
    if depth == MAX_DEPTH || matches!(kind, Kind::Leaf) {
        return Walk::Done;
    }
    while let Some(tag) = varint(&mut rest) {
        let len = match tag & 7 {
            0 => varint(&mut rest).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut rest),
            5 => Some(4),
            _ => None,
        };
        let Some(field) = len.and_then(|len| rest.split_off(..usize::try_from(len).ok()?)) else { return Walk::Done };
        let Some((inner, bytes)) = kind.field(tag >> 3).filter(|_| tag & 7 == 2) else { continue };
        let Some(left) = room.checked_sub(bytes) else { return Walk::NoRoom };
        *room = left;
        if walk(inner, field, depth + 1, room) == Walk::NoRoom {
            return Walk::NoRoom;
        }
    }
    Walk::Done
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
