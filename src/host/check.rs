//! What is looked at before rten sees a graph. rten computes what follows from constants alone as it loads a model, and an allocation that fails
//! ends the process; shapes whose number of elements overflows are not safe with it either.

use std::collections::HashMap;

use super::loops::AtLoad;
use super::operators;
use super::proto::{GraphProto, INT64, ModelProto, NodeProto, TensorProto};
use crate::error::{Error, Result};

/// A tensor that a constant asks for may have this many elements: 2 GiB of `float32`.
const MOST_ELEMENTS: u128 = 1 << 29;

/// `i64::MAX` and the like stand for "to the end"; what lies between `int32` and this is a number, which rten would clamp.
const SENTINEL: u64 = 1 << 62;

/// The whole numbers that are known before a run, by name.
type Constants<'a> = HashMap<&'a str, Vec<i64>>;

/// Refuses what rten lacks or computes wrongly, naming all of it, and what it would not survive.
pub(super) fn model(model: &ModelProto, file_len: usize) -> Result<()> {
    let graph = model.graph.as_ref().ok_or_else(|| Error::format("graph: missing"))?;
    let opset = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let mut check = Check { opset: opset.map_or(i64::MAX, |set| set.version), file_len, missing: Vec::new() };
    check.graph(graph, &Constants::new(), &AtLoad::default())?;
    if check.missing.is_empty() {
        return Ok(());
    }
    let list = check.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::config(format!("operators: the CPU does not have {list}")))
}

struct Check {
    opset: i64,
    file_len: usize,
    missing: Vec<operators::Missing>,
}

impl Check {
    fn graph(&mut self, graph: &GraphProto, outer: &Constants<'_>, at_load: &AtLoad<'_>) -> Result<()> {
        let mut constants = outer.iter().map(|(name, values)| (*name, values.clone())).collect::<Constants<'_>>();
        let mut lens = HashMap::new();
        let mut at_load = at_load.enter(graph);
        for tensor in &graph.initializer {
            self.tensor(&tensor.name, tensor)?;
            lens.insert(tensor.name.as_str(), tensor.dims.iter().product::<i64>());
            constants.extend(tensor.integers().map(|values| (tensor.name.as_str(), values)));
        }
        for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
            let [name] = &node.output[..] else { continue };
            for attribute in &node.attribute {
                match (attribute.name.as_str(), &attribute.t) {
                    ("value", Some(tensor)) => {
                        self.tensor(name, tensor)?;
                        lens.insert(name, tensor.dims.iter().product::<i64>());
                        constants.extend(tensor.integers().map(|values| (name.as_str(), values)));
                    }
                    ("value_int", _) => drop(constants.insert(name, vec![attribute.i])),
                    ("value_ints", _) => drop(constants.insert(name, attribute.ints.clone())),
                    _ => {}
                }
            }
        }
        for node in &graph.node {
            let known = at_load.note(node);
            let scale_len = node.input(1).and_then(|name| lens.get(name)).and_then(|&len| usize::try_from(len).ok());
            self.missing.extend(operators::missing(node, self.opset, scale_len));
            if let Some((what, len)) = claimed(node, &constants).filter(|(_, len)| *len > MOST_ELEMENTS) {
                let (operator, name) = (&node.op_type, &node.name);
                return Err(Error::limit(format!("node `{name}` ({operator}): at most {MOST_ELEMENTS} elements, its {what} asks for {len}")));
            }
            for attribute in &node.attribute {
                if let Some(tensor) = &attribute.t {
                    self.tensor(&node.name, tensor)?;
                }
                if let Some(body) = &attribute.g {
                    let inside = if node.op_type == "Loop" { at_load.body(node, body, known, &constants)? } else { at_load.clone() };
                    self.graph(body, &constants, &inside)?;
                }
            }
        }
        Ok(())
    }

    /// A tensor has no more elements than its file has bytes; rten multiplies sizes without looking.
    fn tensor(&self, name: &str, tensor: &TensorProto) -> Result<()> {
        let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
        let len = sizes.clone().filter(|size| *size != Some(0)).try_fold(1_usize, |len, size| len.checked_mul(size?));
        let empty = tensor.dims.contains(&0);
        if !len.is_some_and(|len| isize::try_from(len).is_ok() && (empty || len <= self.file_len)) {
            return Err(Error::format(format!("tensor `{name}`: shape {:?} does not fit a file of {} bytes", tensor.dims, self.file_len)));
        }
        let values = if tensor.data_type == INT64 { tensor.integers().unwrap_or_default() } else { Vec::new() };
        match values.into_iter().find(|&value| i32::try_from(value).is_err() && value.unsigned_abs() < SENTINEL) {
            Some(value) => Err(Error::config(format!("tensor `{name}`: the CPU computes int64 as int32, found {value}"))),
            None => Ok(()),
        }
    }
}

/// How many elements, at least, a constant makes a node's output have, and which input or attribute says so.
fn claimed<'a>(node: &'a NodeProto, constants: &Constants<'_>) -> Option<(&'a str, u128)> {
    let known = |k: usize| node.input(k).and_then(|name| constants.get(name));
    let times = |sizes: &[i64]| sizes.iter().fold(1_u128, |len, &size| len.saturating_mul(u128::from(size.max(1).unsigned_abs())));
    // begin and end of one axis stand half a list apart
    let padded = |pads: &[i64]| {
        let (begin, end) = pads.split_at(pads.len() / 2);
        begin
            .iter()
            .zip(end)
            .fold(1_u128, |len, (&b, &e)| len.saturating_mul(1 + u128::from(b.max(0).unsigned_abs()) + u128::from(e.max(0).unsigned_abs())))
    };
    match node.op_type.as_str() {
        "ConstantOfShape" => known(0).map(|sizes| ("shape", times(sizes))),
        "Expand" => known(1).map(|sizes| ("shape", times(sizes))),
        "Tile" => known(1).map(|sizes| ("repeats", times(sizes))),
        "DFT" => known(1).map(|len| ("dft_length", times(len))),
        "OneHot" => known(1).map(|sizes| ("depth", times(sizes))),
        "Resize" => known(3).map(|sizes| ("sizes", times(sizes))),
        "Range" => {
            let [start, limit, delta] = [0, 1, 2].map(|k| known(k)?.first().copied());
            let (span, step) = (i128::from(limit?) - i128::from(start?), i128::from(delta?));
            Some(("limit", u128::try_from(span.checked_div(step)?).unwrap_or(0)))
        }
        "Pad" if known(1).is_some() => known(1).map(|pads| ("pads", padded(pads))),
        "Pad" | "Conv" | "ConvInteger" | "MaxPool" | "AveragePool" => node.attribute("pads").map(|pads| ("pads", padded(&pads.ints))),
        "ConvTranspose" => {
            let given = ["strides", "dilations", "output_padding"].map(|name| node.attribute(name).map_or(1, |attribute| times(&attribute.ints)));
            Some(("strides, dilations or output_padding", given.into_iter().max().unwrap_or(1)))
        }
        _ => None,
    }
}
