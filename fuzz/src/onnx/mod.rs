//! Mutations of an ONNX model as a model: most of what they make is still read as one.

mod message;

use self::message::{Kind, Message, Value};
use crate::rng::Rng;

/// Operators with how many inputs they like to have.
const OPERATORS: &[(&str, usize)] = &[
    ("Abs", 1),
    ("Add", 2),
    ("And", 2),
    ("ArgMax", 1),
    ("AveragePool", 1),
    ("BatchNormalization", 5),
    ("Cast", 1),
    ("Clip", 3),
    ("Concat", 2),
    ("Constant", 0),
    ("ConstantOfShape", 1),
    ("Conv", 3),
    ("ConvTranspose", 2),
    ("CumSum", 2),
    ("DepthToSpace", 1),
    ("DequantizeLinear", 3),
    ("Div", 2),
    ("Dropout", 1),
    ("DynamicQuantizeLinear", 1),
    ("Einsum", 2),
    ("Equal", 2),
    ("Expand", 2),
    ("EyeLike", 1),
    ("Flatten", 1),
    ("GRU", 3),
    ("Gather", 2),
    ("GatherElements", 2),
    ("GatherND", 2),
    ("Gemm", 3),
    ("Greater", 2),
    ("GridSample", 2),
    ("Identity", 1),
    ("If", 1),
    ("InstanceNormalization", 3),
    ("LSTM", 8),
    ("LayerNormalization", 3),
    ("Less", 2),
    ("Log", 1),
    ("LogSoftmax", 1),
    ("Loop", 3),
    ("MatMul", 2),
    ("MatMulInteger", 4),
    ("Max", 2),
    ("MaxPool", 1),
    ("Mean", 2),
    ("Min", 2),
    ("Mod", 2),
    ("Mul", 2),
    ("Neg", 1),
    ("NonMaxSuppression", 4),
    ("NonZero", 1),
    ("Not", 1),
    ("OneHot", 3),
    ("Pad", 3),
    ("Pow", 2),
    ("QuantizeLinear", 3),
    ("Range", 3),
    ("ReduceMax", 2),
    ("ReduceMean", 2),
    ("ReduceSum", 2),
    ("Relu", 1),
    ("Reshape", 2),
    ("Resize", 4),
    ("ReverseSequence", 2),
    ("Round", 1),
    ("Scan", 2),
    ("Scatter", 3),
    ("ScatterElements", 3),
    ("ScatterND", 3),
    ("SequenceAt", 2),
    ("SequenceConstruct", 2),
    ("Shape", 1),
    ("Sigmoid", 1),
    ("Size", 1),
    ("Slice", 5),
    ("Softmax", 1),
    ("Split", 2),
    ("SplitToSequence", 2),
    ("Sqrt", 1),
    ("Squeeze", 2),
    ("Sub", 2),
    ("Sum", 2),
    ("Tanh", 1),
    ("Tile", 2),
    ("TopK", 2),
    ("Transpose", 1),
    ("Trilu", 2),
    ("Unsqueeze", 2),
    ("Upsample", 2),
    ("Where", 3),
    ("Xor", 2),
];

/// Attributes, with the number of the field that holds the value and what stands in `type`.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("alpha", 2, 1),
    ("auto_pad", 4, 3),
    ("axes", 8, 7),
    ("axis", 3, 2),
    ("batch_axis", 3, 2),
    ("blocksize", 3, 2),
    ("dilations", 8, 7),
    ("direction", 4, 3),
    ("end", 3, 2),
    ("group", 3, 2),
    ("hidden_size", 3, 2),
    ("keepdims", 3, 2),
    ("kernel_shape", 8, 7),
    ("largest", 3, 2),
    ("layout", 3, 2),
    ("mode", 4, 3),
    ("num_outputs", 3, 2),
    ("output_padding", 8, 7),
    ("pads", 8, 7),
    ("perm", 8, 7),
    ("sizes", 8, 7),
    ("split", 8, 7),
    ("start", 3, 2),
    ("strides", 8, 7),
    ("time_axis", 3, 2),
    ("to", 3, 2),
    ("transB", 3, 2),
    ("value_int", 3, 2),
    ("value_ints", 8, 7),
];

/// Changes `bytes` in up to four places; `None` where they are no model, or become too long.
pub fn mutate(bytes: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let mut model = Message::decode(Kind::Model, bytes, 0).filter(|model| !model.fields.is_empty())?;
    let mut rng = Rng::new(seed);
    for _ in 0..=rng.below(4) {
        match rng.below(10) {
            0 | 1 => add_node(&mut model, &mut rng),
            2 => graft(&mut model, &mut rng),
            3 => rewire(&mut model, &mut rng),
            _ => change(&mut model, &mut rng),
        }
    }
    let mut made = Vec::new();
    model.encode(&mut made);
    Some(made).filter(|made| !made.is_empty() && made.len() <= max_size)
}

/// A message of `model`, with an equal chance for each; of `kind` where one is asked for.
fn any<'m>(model: &'m mut Message, kind: Option<Kind>, rng: &mut Rng) -> Option<&'m mut Message> {
    let (mut places, mut count) = (Vec::new(), 0);
    model.each(&mut |message| {
        if kind.is_none_or(|kind| kind == message.kind) {
            places.push(count);
        }
        count += 1;
    });
    let mut place = *rng.pick(&places)?;
    model.nth(&mut place)
}

/// The names of all tensors.
fn names(model: &Message) -> Vec<Vec<u8>> {
    let mut names = vec![Vec::new()];
    model.each(&mut |message| {
        for (number, value) in &message.fields {
            if let (true, Value::Bytes(name)) = (message.kind.is_name(*number), value) {
                names.push(name.clone());
            }
        }
    });
    names
}

/// One field of one message becomes another, goes, comes twice, or changes its place.
fn change(model: &mut Message, rng: &mut Rng) {
    let names = names(model);
    let Some(message) = any(model, None, rng).filter(|message| !message.fields.is_empty()) else { return };
    let kind = message.kind;
    let place = rng.below(message.fields.len());
    match rng.below(8) {
        0 => drop(message.fields.remove(place)),
        1 => message.fields.insert(place, message.fields[place].clone()),
        2 => {
            let other = rng.below(message.fields.len());
            message.fields.swap(place, other);
        }
        _ => {
            let (field, value) = &mut message.fields[place];
            match value {
                Value::Varint(value) => *value = if rng.below(4) == 0 { value.wrapping_add(1) } else { rng.number().cast_unsigned() },
                Value::Fixed32(value) => *value = [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e30, 1e-40][rng.below(6)].to_le_bytes(),
                Value::Fixed64(value) => *value = rng.next().to_le_bytes(),
                Value::Bytes(value) if kind.is_name(*field) => *value = rng.pick(&names).cloned().unwrap_or_default(),
                Value::Bytes(value) if kind.is_operator(*field) => *value = OPERATORS[rng.below(OPERATORS.len())].0.into(),
                Value::Bytes(value) => scramble(value, rng),
                Value::Message(_) => {}
            }
        }
    }
}

/// Elements and texts: a few bytes become others.
fn scramble(value: &mut Vec<u8>, rng: &mut Rng) {
    if value.is_empty() || rng.below(8) == 0 {
        value.extend(rng.number().to_le_bytes());
        return;
    }
    let place = rng.below(value.len());
    match rng.below(4) {
        0 => value.truncate(place),
        1 => value[place] ^= 1 << rng.below(8),
        2 => value[place] = rng.next() as u8,
        _ => {
            let place = place / 8 * 8;
            if let Some(element) = value.get_mut(place..place + 8) {
                element.copy_from_slice(&rng.number().to_le_bytes());
            }
        }
    }
}

/// A message takes the place of another of its kind, or comes beside it.
fn graft(model: &mut Message, rng: &mut Rng) {
    let Some(scion) = any(model, None, rng).map(|message| message.clone()) else { return };
    if scion.kind == Kind::Model {
        return;
    }
    if rng.below(2) == 0 {
        if let Some(stock) = any(model, Some(scion.kind), rng) {
            *stock = scion;
        }
        return;
    }
    let (parent, fields): (Kind, &[u64]) = match scion.kind {
        Kind::Graph => (Kind::Attribute, &[6, 11]),
        Kind::Node => (Kind::Graph, &[1]),
        Kind::Attribute => (Kind::Node, &[5]),
        Kind::Tensor => (Kind::Graph, &[5]),
        Kind::ValueInfo => (Kind::Graph, &[11, 12, 13]),
        Kind::Function => (Kind::Model, &[25]),
        Kind::Dimension => (Kind::Shape, &[1]),
        _ => return,
    };
    let field = fields[rng.below(fields.len())];
    if let Some(stock) = any(model, Some(parent), rng) {
        let place = rng.below(stock.fields.len() + 1);
        stock.fields.insert(place, (field, Value::Message(scion)));
    }
}

/// A name that a node reads or makes becomes another tensor's.
fn rewire(model: &mut Message, rng: &mut Rng) {
    let names = names(model);
    let (Some(name), Some(node)) = (rng.pick(&names), any(model, Some(Kind::Node), rng)) else { return };
    let places: Vec<usize> = (0..node.fields.len()).filter(|&place| matches!(node.fields[place].0, 1 | 2)).collect();
    match rng.pick(&places) {
        Some(&place) => node.fields[place].1 = Value::Bytes(name.clone()),
        None => node.fields.insert(0, (1, Value::Bytes(name.clone()))),
    }
}

/// A new node on an edge: it reads what a node reads, and that node reads what it makes. Its other inputs are tensors of the model or new ones.
fn add_node(model: &mut Message, rng: &mut Rng) {
    let names = names(model);
    let Some(graph) = any(model, Some(Kind::Graph), rng) else { return };
    let nodes: Vec<usize> = (0..graph.fields.len()).filter(|&place| graph.fields[place].0 == 1).collect();
    let fresh = format!("f{:x}", rng.next() & 0xff_ffff).into_bytes();
    let mut read = rng.pick(&names).cloned().unwrap_or_default();
    let place = rng.pick(&nodes).copied();
    if let Some((_, Value::Message(reader))) = place.map(|place| &mut graph.fields[place]) {
        let inputs: Vec<usize> = (0..reader.fields.len()).filter(|&place| reader.fields[place].0 == 1).collect();
        if let Some(&input) = rng.pick(&inputs)
            && let Value::Bytes(name) = &mut reader.fields[input].1
        {
            read = std::mem::replace(name, fresh.clone());
        }
    }
    let &(operator, inputs) = &OPERATORS[rng.below(OPERATORS.len())];
    let mut node = Message::new(Kind::Node).with_text(2, &fresh).with_text(4, operator.as_bytes());
    for input in 0..inputs {
        let name = match (input, rng.below(3)) {
            (0, _) => read.clone(),
            (_, 0) => rng.pick(&names).cloned().unwrap_or_default(),
            _ => {
                let name = format!("c{:x}", rng.next() & 0xff_ffff).into_bytes();
                graph.fields.push((5, Value::Message(constant(&name, rng))));
                name
            }
        };
        node = node.with_text(1, &name);
    }
    for _ in 0..rng.below(3) {
        node = node.with(5, Value::Message(attribute(rng)));
    }
    graph.fields.insert(place.unwrap_or(0), (1, Value::Message(node)));
}

/// A short list, mostly of `int64`.
fn constant(name: &[u8], rng: &mut Rng) -> Message {
    let len = rng.below(5);
    let mut tensor = Message::new(Kind::Tensor).with_text(8, name);
    if len != 1 || rng.below(2) == 0 {
        tensor = tensor.with(1, Value::Varint(len as u64));
    }
    if rng.below(4) == 0 {
        let values = (0..len).flat_map(|_| (rng.number() as f32).to_le_bytes()).collect();
        return tensor.with(2, Value::Varint(1)).with(9, Value::Bytes(values));
    }
    let values = (0..len).flat_map(|_| rng.number().to_le_bytes()).collect();
    tensor.with(2, Value::Varint(7)).with(9, Value::Bytes(values))
}

fn attribute(rng: &mut Rng) -> Message {
    let &(name, field, kind) = &ATTRIBUTES[rng.below(ATTRIBUTES.len())];
    let mut attribute = Message::new(Kind::Attribute).with_text(1, name.as_bytes()).with(20, Value::Varint(kind));
    let count = if field == 8 { rng.below(5) } else { 1 };
    for _ in 0..count {
        attribute = match field {
            2 => attribute.with(2, Value::Fixed32((rng.number() as f32).to_le_bytes())),
            4 => attribute.with_text(4, ["SAME_UPPER", "VALID", "linear", "reverse", "bidirectional", "reflect"][rng.below(6)].as_bytes()),
            _ => attribute.with(field, Value::Varint(rng.number().cast_unsigned())),
        };
    }
    attribute
}
