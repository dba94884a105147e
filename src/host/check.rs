//! What is looked at before rten sees a graph. rten computes what follows from constants alone as it loads a model, and an allocation that fails
//! ends the process; shapes whose number of elements overflows are not safe with it either.

use std::collections::{HashMap, HashSet};

use super::bounds::{self, Known, Scope};
use super::loops;
use super::operators;
use super::proto::{GraphProto, INT64, ModelProto, NodeProto, TensorProto};
use crate::error::{Error, Result};

/// A tensor that a constant asks for may have this many elements: 2 GiB of `float32`.
const MOST_ELEMENTS: u128 = 1 << 29;

/// `i64::MAX` and the like stand for "to the end"; what lies between `int32` and this is a number, which rten would clamp.
const SENTINEL: u64 = 1 << 62;

/// Nodes of a segment. With the square of their number some of rten's work grows, and sooner with that of what follows.
const MOST_NODES: usize = 1 << 16;

/// Tensors that a segment takes, and that it gives.
const MOST_TENSORS: usize = 1 << 13;

/// Tensors that the graphs of a node read from outside of themselves, and those of all nodes.
const MOST_CAPTURED: usize = 1 << 12;
const MOST_CAPTURED_IN_ALL: usize = 1 << 17;

/// Bytes that may follow from constants for each byte of the file.
const FOLDED_PER_BYTE: u64 = 16;

/// Bytes that may follow from constants however small the file is.
const FOLDED_AT_LEAST: u64 = 1 << 20;

/// Elements of lists of sizes that may be followed as symbols.
const MOST_SYMBOLS: u64 = 1 << 16;

/// How rten may prepare a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// whether it may fold constants, and change the graph otherwise
    pub(super) optimise: bool,
    /// whether it may follow shapes
    pub(super) infer_shapes: bool,
    /// nodes that follow each other: rten goes down with the machine's stack
    pub(super) depth: usize,
}

/// Refuses what rten lacks or computes wrongly, naming all of it, and what it would not survive.
pub(super) fn model(model: &ModelProto, file_len: usize) -> Result<Advice> {
    let graph = model.graph.as_ref().ok_or_else(|| Error::format("graph: missing"))?;
    let opset = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let opset = opset.map_or(i64::MAX, |set| set.version);
    let mut check = Check { opset, file_len, missing: Vec::new(), folded: Some(0), symbols: 0, nodes: 0, captured: 0, depth: 0 };
    check.graph(graph, None)?;
    if !check.missing.is_empty() {
        let list = check.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Error::config(format!("operators: the CPU does not have {list}")));
    }
    let most = (file_len as u64).saturating_mul(FOLDED_PER_BYTE).max(FOLDED_AT_LEAST);
    let optimise = check.folded.is_some_and(|folded| folded <= most);
    Ok(Advice { optimise, infer_shapes: check.symbols <= MOST_SYMBOLS, depth: check.depth })
}

struct Check {
    opset: i64,
    file_len: usize,
    missing: Vec<operators::Missing>,
    /// bytes that follow from constants; `None` where that is not known
    folded: Option<u64>,
    /// elements of lists of sizes
    symbols: u64,
    nodes: usize,
    captured: usize,
    depth: usize,
}

impl Check {
    fn graph(&mut self, graph: &GraphProto, outer: Option<&Scope<'_>>) -> Result<()> {
        self.nodes += graph.node.len();
        let limit = |found: usize, most: usize, what: &str| {
            if found <= most {
                Ok(())
            } else {
                Err(Error::limit(format!("segment: expected at most {most} {what} for the CPU, found {found} or more")))
            }
        };
        limit(self.nodes, MOST_NODES, "nodes")?;
        limit(graph.input.len(), MOST_TENSORS, "inputs")?;
        limit(graph.output.len(), MOST_TENSORS, "outputs")?;
        let mut scope = Scope::within(outer);
        for tensor in &graph.initializer {
            self.constant(&tensor.name, tensor, &mut scope)?;
        }
        for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
            let [name] = &node.output[..] else { continue };
            for attribute in &node.attribute {
                match (attribute.name.as_str(), &attribute.t) {
                    ("value", Some(tensor)) => self.constant(name, tensor, &mut scope)?,
                    ("value_int", _) => scope.insert(name, Known { len: 1, constant: true, values: Some(vec![attribute.i]) }),
                    ("value_ints", _) => {
                        scope.insert(name, Known { len: attribute.ints.len() as u64, constant: true, values: Some(attribute.ints.clone()) });
                    }
                    _ => {}
                }
            }
        }
        let mut depths: HashMap<&str, usize> = HashMap::new();
        for node in &graph.node {
            let scale_len = node.input(1).and_then(|name| scope.get(name)).and_then(|known| usize::try_from(known.len).ok());
            self.missing.extend(operators::missing(node, self.opset, scale_len));
            let claimed = claimed(node, &scope);
            if let Some((what, len)) = claimed.filter(|(_, len)| *len > MOST_ELEMENTS) {
                let (operator, name) = (&node.op_type, &node.name);
                return Err(Error::limit(format!("node `{name}` ({operator}): at most {MOST_ELEMENTS} elements, its {what} asks for {len}")));
            }
            let captured: HashSet<&str> = node.graphs().flat_map(GraphProto::captured).collect();
            self.captured += captured.len();
            limit(captured.len(), MOST_CAPTURED, "tensors that a node's graphs read from outside")?;
            limit(self.captured, MOST_CAPTURED_IN_ALL, "tensors that graphs read from outside")?;
            let depth = 1 + node.names().chain(captured.iter().copied()).filter_map(|name| depths.get(name)).max().copied().unwrap_or(0);
            depths.extend(node.output.iter().map(|name| (name.as_str(), depth)));
            self.depth = self.depth.max(depth);
            self.follow(node, &captured, claimed.and_then(|(_, len)| u64::try_from(len).ok()), &mut scope);
            for attribute in &node.attribute {
                if let Some(tensor) = &attribute.t {
                    self.tensor(&node.name, tensor)?;
                }
                if let Some(body) = &attribute.g {
                    if node.op_type == "Loop" {
                        loops::check(node, body, &scope)?;
                    }
                    self.graph(body, Some(&scope))?;
                }
            }
        }
        Ok(())
    }

    /// Notes what rten can know of the node's outputs before a run.
    fn follow<'a>(&mut self, node: &'a NodeProto, captured: &HashSet<&str>, claimed: Option<u64>, scope: &mut Scope<'a>) {
        if node.op_type == "Constant" {
            return;
        }
        let read: Option<Vec<&Known>> = node.names().chain(captured.iter().copied()).map(|name| scope.get(name)).collect();
        let known = read.map(|read| (read.iter().map(|known| known.len).collect::<Vec<_>>(), read.iter().all(|known| known.constant)));
        let (lens, constant) = match known {
            Some(known) => known,
            None if node.op_type == "Shape" || node.op_type == "Size" => (Vec::new(), false),
            None => return,
        };
        // a constant may be a list of sizes, too
        let listed = bounds::listed(node, &lens, claimed);
        let most = if constant { bounds::most(&node.op_type, &lens, claimed) } else { listed };
        if constant {
            // every input is looked at
            self.folded = self.folded.and_then(|folded| lens.iter().try_fold(folded, |folded, &len| folded.checked_add(len)));
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if constant {
                self.folded = self.folded.zip(most).and_then(|(folded, most)| folded.checked_add(most.checked_mul(4)?));
            }
            if !constant || node.op_type == "ConstantOfShape" {
                self.symbols = self.symbols.saturating_add(listed.unwrap_or(0));
            }
            if let Some(len) = most {
                scope.insert(name, Known { len, constant, values: None });
            }
        }
    }

    /// Notes a tensor of the file.
    fn constant<'a>(&self, name: &'a str, tensor: &TensorProto, scope: &mut Scope<'a>) -> Result<()> {
        self.tensor(name, tensor)?;
        let len = tensor.dims.iter().fold(1_u64, |len, size| len.saturating_mul(size.unsigned_abs()));
        scope.insert(name, Known { len, constant: true, values: tensor.integers() });
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
fn claimed<'a>(node: &'a NodeProto, scope: &Scope<'_>) -> Option<(&'a str, u128)> {
    let known = |k: usize| scope.values(node, k);
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
