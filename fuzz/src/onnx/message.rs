//! Protobuf as a tree, with as much of `onnx.proto` as tells messages from texts.

/// Messages within messages; what lies deeper stays bytes.
const MAX_DEPTH: usize = 60;

/// A message of `onnx.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
    Dimension,
    Opset,
    Entry,
}

impl Kind {
    /// The message that field `number` is.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 8) | (Self::Function, 9) => Self::Opset,
            (Self::Model, 14) | (Self::Tensor, 13) => Self::Entry,
            (Self::Model, 25) => Self::Function,
            (Self::Function | Self::Graph, 1 | 7) if (self == Self::Graph) == (number == 1) => Self::Node,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Dimension,
            _ => return None,
        })
    }

    /// Whether field `number` is the name of a tensor.
    pub(crate) fn is_name(self, number: u64) -> bool {
        matches!((self, number), (Self::Node, 1 | 2) | (Self::ValueInfo, 1) | (Self::Tensor, 8) | (Self::Function, 4 | 5))
    }

    /// Whether field `number` is an operator.
    pub(crate) fn is_operator(self, number: u64) -> bool {
        matches!((self, number), (Self::Node, 4) | (Self::Function, 1))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) fields: Vec<(u64, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Message),
}

impl Message {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, fields: Vec::new() }
    }

    /// The message that `bytes` are; `None` where they are none.
    pub(crate) fn decode(kind: Kind, bytes: &[u8], depth: usize) -> Option<Self> {
        let (mut fields, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            let number = tag >> 3;
            let value = match tag & 7 {
                0 => Value::Varint(varint(&mut rest)?),
                1 => Value::Fixed64(rest.split_off(..8)?.try_into().ok()?),
                2 => {
                    let len = usize::try_from(varint(&mut rest)?).ok()?;
                    let bytes = rest.split_off(..len)?;
                    let inner = kind.field(number).filter(|_| depth < MAX_DEPTH).and_then(|kind| Self::decode(kind, bytes, depth + 1));
                    inner.map_or_else(|| Value::Bytes(bytes.to_vec()), Value::Message)
                }
                5 => Value::Fixed32(rest.split_off(..4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push((number, value));
        }
        Some(Self { kind, fields })
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        for (number, value) in &self.fields {
            let mut tag = |wire: u64| put_varint(bytes, number << 3 | wire);
            match value {
                Value::Varint(value) => {
                    tag(0);
                    put_varint(bytes, *value);
                }
                Value::Fixed64(value) => {
                    tag(1);
                    bytes.extend(value);
                }
                Value::Fixed32(value) => {
                    tag(5);
                    bytes.extend(value);
                }
                Value::Bytes(value) => {
                    tag(2);
                    put_varint(bytes, value.len() as u64);
                    bytes.extend(value);
                }
                Value::Message(value) => {
                    tag(2);
                    let mut inner = Vec::new();
                    value.encode(&mut inner);
                    put_varint(bytes, inner.len() as u64);
                    bytes.extend(inner);
                }
            }
        }
    }

    /// Calls `visit` with this message and all within it.
    pub(crate) fn each(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        for (_, value) in &self.fields {
            if let Value::Message(inner) = value {
                inner.each(visit);
            }
        }
    }

    /// Message `place` of those that [`Message::each`] visits.
    pub(crate) fn nth(&mut self, place: &mut usize) -> Option<&mut Self> {
        if *place == 0 {
            return Some(self);
        }
        *place -= 1;
        self.fields.iter_mut().find_map(|(_, value)| match value {
            Value::Message(inner) => inner.nth(place),
            _ => None,
        })
    }

    pub(crate) fn with(mut self, number: u64, value: Value) -> Self {
        self.fields.push((number, value));
        self
    }

    pub(crate) fn with_text(self, number: u64, text: &[u8]) -> Self {
        self.with(number, Value::Bytes(text.to_vec()))
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
