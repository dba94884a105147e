//! Embeddings and linear layers beside LSTMs, as exporters write them: `Gather` from a table; `MatMul` and `Add`, or `Gemm`, and what follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::{Array1, Array2, Ix2};

use super::constants::Constants;
use super::graph::Node;
use super::proto::AttributeKind;
use crate::network::{Activation, DenseNode, DenseStage, Embedding, Linear, RowFunction};
use crate::tensor::TensorView;

/// The opset since which softmax is over one axis; before, it was over all axes from one on.
const ONE_AXIS_OPSET: i64 = 13;

/// A layer among the nodes of a block.
pub(super) struct Found {
    pub(super) node: DenseNode,
    /// the nodes behind the first one that are in it
    pub(super) more: Vec<usize>,
}

/// Finds layers among the nodes of a block.
pub(super) struct Finder<'a> {
    nodes: &'a [Node],
    opset: i64,
    /// for every tensor, the nodes that read it
    readers: BTreeMap<&'a str, Vec<usize>>,
    /// tensors that are read from outside
    outputs: BTreeSet<&'a str>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(nodes: &'a [Node], outputs: &'a [String], opset: i64) -> Self {
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, node) in nodes.iter().enumerate() {
            for name in node.reads().into_iter().collect::<BTreeSet<_>>() {
                readers.entry(name).or_default().push(place);
            }
        }
        Self { nodes, opset, readers, outputs: outputs.iter().map(String::as_str).collect() }
    }

    /// The embedding that a `Gather` is.
    pub(super) fn embedding(&self, node: &Node, constants: &mut Constants) -> Option<DenseNode> {
        let (table, ids) = (node.input(0)?, node.input(1)?);
        if !is_lookup(node, constants) || constants.contains(ids) || !constants.is_float32(table) {
            return None;
        }
        let table = constants.float32(table).ok()?.into_dimensionality::<Ix2>().ok()?;
        let stage = Arc::new(DenseStage::Embedding(Embedding::new(table).ok()?));
        Some(DenseNode { name: name(node), stage, x: ids.to_owned(), y: node.output(0)?.to_owned() })
    }

    /// The linear layer that begins with the node at `place`, with the bias and the function behind it; `ranks` are numbers of axes.
    pub(super) fn linear(&self, place: usize, ranks: &BTreeMap<String, usize>, constants: &mut Constants) -> Option<Found> {
        let node = &self.nodes[place];
        let (x, weight) = (node.input(0)?, node.input(1)?);
        if !(node.is("MatMul") || node.is("Gemm")) || constants.contains(x) || constants.shape(weight)?.len() != 2 {
            return None;
        }
        let (mut weight, mut bias, mut more) = (constants.float32(weight).ok()?.into_dimensionality::<Ix2>().ok()?, None, Vec::new());
        let mut y = node.output(0)?;
        if node.is("MatMul") {
            weight.swap_axes(0, 1);
            if let Some((add, values)) = self.bias(y, weight.nrows(), ranks.get(x).copied(), constants) {
                (bias, y) = (Some(values), self.nodes[add].output(0)?);
                more.push(add);
            }
        } else if node.is("Gemm") {
            let plain = |name: &str| attribute_f(node, name).is_none_or(|factor| factor == 1.0);
            if !plain("alpha") || !plain("beta") || attribute_i(node, "transA").unwrap_or(0) != 0 {
                return None;
            }
            if attribute_i(node, "transB").unwrap_or(0) == 0 {
                weight.swap_axes(0, 1);
            }
            if let Some(added) = node.input(2) {
                bias = Some(row(added, weight.nrows(), constants)?);
            }
        } else {
            return None;
        }
        let mut function = RowFunction::None;
        if let Some(next) = self.only_reader(y)
            && let Some(found) = self.function(&self.nodes[next], ranks.get(x).copied())
        {
            (function, y) = (found, self.nodes[next].output(0)?);
            more.push(next);
        }
        let weight: Array2<f32> = weight.as_standard_layout().into_owned();
        let stage = Arc::new(DenseStage::Linear(Linear::new(weight, bias).ok()?, function));
        Some(Found { node: DenseNode { name: name(node), stage, x: x.to_owned(), y: y.to_owned() }, more })
    }

    /// The `Add` of one number a feature that alone reads `name`.
    /// Where it had more axes than what it is added to, which has `rank` of them, the sum would have them, too.
    fn bias(&self, name: &str, features: usize, rank: Option<usize>, constants: &mut Constants) -> Option<(usize, Array1<f32>)> {
        let place = self.only_reader(name)?;
        let node = &self.nodes[place];
        let other = if node.input(0)? == name { node.input(1)? } else { node.input(0)? };
        (node.is("Add") && other != name).then_some(())?;
        let axes = constants.shape(other)?.len();
        (axes <= 1 || rank.is_some_and(|rank| axes <= rank)).then_some(())?;
        Some((place, row(other, features, constants)?))
    }

    /// The only node that reads `name`, where nobody outside does.
    fn only_reader(&self, name: &str) -> Option<usize> {
        match self.readers.get(name).map(Vec::as_slice) {
            Some([place]) if !self.outputs.contains(name) && self.nodes[*place].branches.is_none() => Some(*place),
            _ => None,
        }
    }

    /// What the node does to each row of a tensor with `rank` axes.
    fn function(&self, node: &Node, rank: Option<usize>) -> Option<RowFunction> {
        let softmax = match node.proto.op_type.as_str() {
            "Softmax" => Some(RowFunction::Softmax),
            "LogSoftmax" => Some(RowFunction::LogSoftmax),
            _ => None,
        };
        if !node.is(&node.proto.op_type) {
            return None;
        }
        if let Some(function) = softmax {
            let axis = attribute_i(node, "axis").unwrap_or(if self.opset < ONE_AXIS_OPSET { 1 } else { -1 });
            let last = axis == -1 || rank.is_some_and(|rank| usize::try_from(axis).is_ok_and(|axis| axis + 1 == rank));
            return last.then_some(function);
        }
        // sums over what the layer makes, and those that are no operators of their own
        let named = Activation::from_onnx(&node.proto.op_type).filter(|_| node.proto.op_type != "Affine" && node.proto.op_type != "ScaledTanh")?;
        // the operators have defaults of their own
        let (alpha, beta) = match node.proto.op_type.as_str() {
            "LeakyRelu" => (0.01, 0.0),
            "ThresholdedRelu" | "Elu" => (1.0, 0.0),
            "HardSigmoid" => (0.2, 0.5),
            _ => named.parameters(),
        };
        let (alpha, beta) = (attribute_f(node, "alpha").unwrap_or(alpha), attribute_f(node, "beta").unwrap_or(beta));
        Some(RowFunction::Activation(named.with_parameters(alpha, beta)))
    }
}

/// Whether the node looks vectors up in a constant table.
pub(super) fn is_lookup(node: &Node, constants: &Constants) -> bool {
    let table = node.input(0).filter(|name| constants.contains(name)).and_then(|name| constants.shape(name));
    node.is("Gather") && table.is_some_and(|shape| shape.len() == 2) && attribute_i(node, "axis").unwrap_or(0) == 0
}

/// The constant `name` as one number a feature, whatever axes of size 1 it has.
fn row(name: &str, features: usize, constants: &mut Constants) -> Option<Array1<f32>> {
    let shape = constants.shape(name)?;
    let (last, others) = shape.split_last()?;
    if *last != features || others.iter().any(|&axis| axis != 1) {
        return None;
    }
    matches!(constants.get(name).ok()?, TensorView::F32(_)).then_some(())?;
    constants.float32(name).ok().map(|values| values.iter().copied().collect())
}

fn name(node: &Node) -> String {
    if node.proto.name.is_empty() { node.proto.output.first().cloned().unwrap_or_default() } else { node.proto.name.clone() }
}

/// The whole number that the attribute `name` has.
fn attribute_i(node: &Node, name: &str) -> Option<i64> {
    node.proto.attribute(name).filter(|attribute| attribute.kind == AttributeKind::Int as i32).map(|attribute| attribute.i)
}

/// The number that the attribute `name` has.
fn attribute_f(node: &Node, name: &str) -> Option<f32> {
    node.proto.attribute(name).filter(|attribute| attribute.kind == AttributeKind::Float as i32).map(|attribute| attribute.f)
}

/// Adds the number of axes of what the node makes, where it follows from `ranks` and constants.
pub(super) fn note_rank(node: &Node, ranks: &mut BTreeMap<String, usize>, constants: &mut Constants) {
    let of = |place: usize| node.input(place).and_then(|name| ranks.get(name)).copied();
    let axes = |constants: &mut Constants| -> Option<usize> {
        let listed = node.proto.attribute("axes").map(|attribute| attribute.ints.len());
        listed.or_else(|| constants.shape(node.input(1)?).map(|shape| shape.iter().product()))
    };
    let rank = match node.proto.op_type.as_str() {
        "LSTM" => {
            let made = [4, 3, 3].into_iter().enumerate().filter_map(|(place, rank)| Some((node.output(place)?.to_owned(), rank)));
            return ranks.extend(made);
        }
        "Transpose" | "Slice" | "Identity" | "MatMul" | "Cast" | "Split" | "Relu" | "Tanh" | "Sigmoid" => of(0),
        "Squeeze" => of(0).and_then(|rank| rank.checked_sub(axes(constants)?)),
        "Unsqueeze" => of(0).and_then(|rank| rank.checked_add(axes(constants)?)),
        "Reshape" => node.input(1).and_then(|shape| constants.shape(shape)?.first().copied()),
        "Flatten" | "Gemm" => Some(2),
        "Gather" => {
            let ids = node.input(1).and_then(|name| constants.shape(name)).map(|shape| shape.len()).or_else(|| of(1));
            of(0).zip(ids).and_then(|(rank, ids)| (rank + ids).checked_sub(1))
        }
        _ => None,
    };
    if let Some(rank) = rank {
        ranks.extend(node.makes().map(|name| (name.to_owned(), rank)));
    }
}
