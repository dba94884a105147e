//! Graphs of `float16` and `bfloat16` as graphs of `float32`: every value keeps its worth, and what is computed from it is rounded less.

use super::constants::Constants;
use super::graph::{Block, Node};
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::tensor::{FLOAT, decode, encode, is_half, type_name};

/// Tensors that a note lists.
const MOST_NAMES: usize = 3;

/// Changes all that is narrower; a note on it where there was something.
pub(super) fn floats<'a>(block: &mut Block, constants: &Constants, ports: impl Iterator<Item = &'a ValueInfoProto>) -> Option<String> {
    let mut changed = false;
    nodes(block, &mut changed);
    let halves: Vec<&str> = constants.halves().collect();
    let narrow = |info: &ValueInfoProto| {
        let data_type = info.value_type.as_ref()?.tensor_type.as_ref()?.elem_type;
        is_half(data_type).then(|| format!("`{}` ({})", info.name, type_name(data_type)))
    };
    let ports: Vec<String> = ports.filter_map(narrow).collect();
    if !changed && halves.is_empty() && ports.is_empty() {
        return None;
    }
    let mut parts = vec!["16-bit floats are computed in float32, in which each is worth what it was".to_owned()];
    if !halves.is_empty() {
        let named: Vec<String> = halves.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
        let more = if halves.len() > MOST_NAMES { format!(" and {} more", halves.len() - MOST_NAMES) } else { String::new() };
        parts.push(format!("tensors of the file that are such: {}{more}", named.join(", ")));
    }
    if !ports.is_empty() {
        parts.push(format!("taken and given as float32: {}", ports.join(", ")));
    }
    Some(parts.join("; "))
}

fn nodes(block: &mut Block, changed: &mut bool) {
    for Node { proto, branches, .. } in &mut block.nodes {
        node(proto, changed);
        branches.iter_mut().flat_map(|branches| branches.iter_mut()).for_each(|block| nodes(block, changed));
    }
}

fn node(node: &mut NodeProto, changed: &mut bool) {
    for attribute in &mut node.attribute {
        // casts, and makers of random and constant tensors
        let names_a_type = matches!((node.op_type.as_str(), attribute.name.as_str()), (_, "dtype" | "output_dtype") | ("Cast", "to"));
        if names_a_type && i32::try_from(attribute.i).is_ok_and(is_half) {
            (attribute.i, *changed) = (i64::from(FLOAT), true);
        }
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(|value| tensor(value, changed));
        AttributeProto::graphs_mut(attribute).for_each(|inner| graph(inner, changed));
    }
}

fn graph(graph: &mut GraphProto, changed: &mut bool) {
    graph.initializer.iter_mut().for_each(|value| tensor(value, changed));
    graph.node.iter_mut().for_each(|inner| node(inner, changed));
    for info in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if let Some(tensor_type) = info.value_type.as_mut().and_then(|value_type| value_type.tensor_type.as_mut())
            && is_half(tensor_type.elem_type)
        {
            tensor_type.elem_type = FLOAT;
        }
    }
}

/// What cannot be decoded is left to whoever reads it, who says what is wrong with it.
fn tensor(value: &mut TensorProto, changed: &mut bool) {
    if is_half(value.data_type)
        && let Ok(wide) = decode(&value.name, value)
    {
        (*value, *changed) = (encode(&value.name, &wide), true);
    }
}
