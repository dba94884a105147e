//! LSTMs of which one reads nothing but what the other makes, with the axes moved at most, become the layers of one stack.
//!
//! Whether the axes come out as a stack has them is tried with sizes that are told apart, as if the tensor were there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::constants::Constants;
use super::cut::{Item, Kind, moves_axes};
use super::graph::Node;
use super::proto::NodeProto;
use crate::error::Result;
use crate::network::op::{Op, Parts};
use crate::network::{Layout, Lstm, LstmConfig, LstmNode, Strided, Weights};
use crate::tensor::{Tensor, TensorView};

/// Sizes of time and batch for the trial: what holds for these holds for all.
const TRIAL: (usize, usize) = (7, 11);

/// Joins all that can be joined among `items`; `outputs` are read from outside.
pub(super) fn join(items: &mut Vec<Item>, outputs: &[String], constants: &mut Constants) -> Result<()> {
    while let Some(pair) = find(items, outputs, constants) {
        merge(items, pair)?;
    }
    Ok(())
}

/// Two LSTMs that follow each other, and the operators between them.
struct Pair {
    lower: usize,
    upper: usize,
    between: Vec<usize>,
}

fn find(items: &[Item], outputs: &[String], constants: &mut Constants) -> Option<Pair> {
    let mut makers = BTreeMap::new();
    let mut readers: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        makers.extend(item.node.makes().map(|name| (name, place)));
        for name in item.node.reads().into_iter().collect::<BTreeSet<_>>() {
            *readers.entry(name).or_default() += 1;
        }
    }
    for name in outputs {
        *readers.entry(name).or_default() += 1;
    }
    let only_reader = |name: &str| readers.get(name) == Some(&1);
    for upper in 0..items.len() {
        let Kind::Lstm(above) = &items[upper].kind else { continue };
        let (mut name, mut between) = (above.x.as_str(), Vec::new());
        let lower = loop {
            let Some(&place) = makers.get(name).filter(|_| only_reader(name)) else { break None };
            match &items[place].kind {
                Kind::Lstm(below) if below.y.as_deref() == Some(name) => break Some((place, below)),
                Kind::Op(_) if moves_axes(&items[place].node) => {
                    between.push(place);
                    name = items[place].node.input(0)?;
                }
                _ => break None,
            }
        };
        let Some((lower, below)) = lower else { continue };
        between.reverse();
        let independent = [&above.h_0, &above.c_0, &above.sequence_lens].into_iter().flatten().all(|name| !depends(name, lower, items, &makers));
        let trial = Trial { items, makers: &makers };
        if independent && fits(below, above) && trial.keeps_the_axes(below, above, &between, constants) {
            return Some(Pair { lower, upper, between });
        }
    }
    None
}

/// Whether the tensor `name` needs anything that the item at `place` makes.
fn depends(name: &str, place: usize, items: &[Item], makers: &BTreeMap<&str, usize>) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
    while let Some(name) = open.pop() {
        let Some(&maker) = makers.get(name) else { continue };
        if maker == place {
            return true;
        }
        if seen.insert(maker) {
            open.extend(items[maker].node.reads());
        }
    }
    false
}

/// Whether the two could be layers of one stack, but for the axes between them.
fn fits(below: &LstmNode, above: &LstmNode) -> bool {
    let (Weights::Constant(lower), Weights::Constant(upper)) = (&below.weights, &above.weights) else { return false };
    let alike = |config: &LstmConfig| LstmConfig { input_size: 1, num_layers: 1, ..config.clone() };
    alike(lower.config()) == alike(upper.config())
        && upper.config().input_size == lower.config().y_size()
        && below.sequence_lens == above.sequence_lens
        && below.h_0.is_some() == above.h_0.is_some()
        && below.c_0.is_some() == above.c_0.is_some()
        && (below.layout == Layout::OnnxBatchFirst) == (above.layout == Layout::OnnxBatchFirst)
}

/// Follows the axes of a tensor that is not there.
struct Trial<'a> {
    items: &'a [Item],
    makers: &'a BTreeMap<&'a str, usize>,
}

impl Trial<'_> {
    /// Whether what `above` reads is `y [T, N, D*R]` of `below` in the order that it takes.
    fn keeps_the_axes(&self, below: &LstmNode, above: &LstmNode, between: &[usize], constants: &mut Constants) -> bool {
        let Weights::Constant(lstm) = &below.weights else { return false };
        let config = lstm.config();
        let (seq_len, batch) = TRIAL;
        let inside = Strided::contiguous(&[seq_len, batch, config.num_directions(), config.out_size()]);
        let order: &[usize] = if below.layout == Layout::OnnxBatchFirst { &[1, 0, 2, 3] } else { &[0, 2, 1, 3] };
        let mut places = BTreeMap::from([(below.y.clone().unwrap_or_default(), inside.permuted(order))]);
        for &place in between {
            let (node, Kind::Op(op)) = (&self.items[place].node, &self.items[place].kind) else { return false };
            let Some(input) = node.input(0).and_then(|name| places.get(name)).cloned() else { return false };
            let mut others = Vec::new();
            for place in 1..node.proto.input.len() {
                others.push(match node.input(place) {
                    None => None,
                    Some(name) => match self.value(name, &places, constants) {
                        Some(value) => Some(value),
                        None => return false,
                    },
                });
            }
            let others: Vec<_> = others.iter().map(|other| other.as_ref().map(Tensor::view)).collect();
            let Ok(Some(made)) = op.relayout(&input, &others) else { return false };
            places.extend(node.proto.output.iter().cloned().zip(made));
        }
        let x = Strided::contiguous(&[seq_len, batch, config.y_size()]);
        let x = if above.layout.batch_first() { x.permuted(&[1, 0, 2]) } else { x };
        places.get(&above.x) == Some(&x)
    }

    /// The elements of a small tensor that follow from constants and from the shapes on the way.
    fn value(&self, name: &str, places: &BTreeMap<String, Strided>, constants: &mut Constants) -> Option<Tensor> {
        /// shape arithmetic is small
        const MOST_BYTES: usize = 1 << 12;
        if constants.contains(name) {
            return constants.bytes(name).filter(|&bytes| bytes <= MOST_BYTES).and_then(|_| constants.get(name).ok()).map(|value| value.to_owned());
        }
        let item = &self.items[*self.makers.get(name)?];
        let (node, Kind::Op(op)) = (&item.node, &item.kind) else { return None };
        if let Some(place) = node.input(0).and_then(|name| places.get(name)) {
            return op.of_shape(&place.shape);
        }
        let mut inputs = Vec::new();
        for place in 0..node.proto.input.len() {
            inputs.push(match node.input(place) {
                None => None,
                Some(name) => Some(self.value(name, places, constants)?),
            });
        }
        let inputs: Vec<Option<TensorView<'_>>> = inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
        let made = op.run(&inputs, MOST_BYTES).ok()?;
        node.proto.output.iter().zip(made).find(|(output, _)| *output == name).map(|(_, value)| value)
    }
}

/// Puts one stack in the place of the pair.
fn merge(items: &mut Vec<Item>, pair: Pair) -> Result<()> {
    let Pair { lower, upper, between } = pair;
    let (Kind::Lstm(below), Kind::Lstm(above)) = (items[lower].kind.clone(), items[upper].kind.clone()) else { return Ok(()) };
    let (Weights::Constant(first), Weights::Constant(second)) = (&below.weights, &above.weights) else { return Ok(()) };
    let mut config = first.config().clone();
    config.num_layers += second.config().num_layers;
    let lstm = Lstm::new(config, first.cells().chain(second.cells()).cloned().collect())?;
    let name = format!("{} + {}", below.name, above.name);
    let axis = if below.layout == Layout::OnnxBatchFirst { 1 } else { 0 };
    let mut made = Vec::new();
    // initial states of both, one behind the other
    let mut join_states = |parts: [&Option<String>; 2], what: &str| -> Option<String> {
        let [Some(lower), Some(upper)] = parts else { return None };
        let joined = format!("{name}.{what}");
        made.push(operator("Concat", Op::Concat { axis }, vec![lower.clone(), upper.clone()], vec![joined.clone()]));
        Some(joined)
    };
    let h_0 = join_states([&below.h_0, &above.h_0], "h_0");
    let c_0 = join_states([&below.c_0, &above.c_0], "c_0");
    let sizes = [first.config().num_cells(), second.config().num_cells()];
    let mut part_states = |parts: [&Option<String>; 2], what: &str| -> Option<String> {
        parts.iter().any(|part| part.is_some()).then(|| {
            let joined = format!("{name}.{what}");
            let sizes = sizes.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
            let op = Op::Split { axis, parts: Parts { sizes: Some(sizes), outputs: 2, uneven: false } };
            let outputs = parts.map(|part| part.clone().unwrap_or_default()).to_vec();
            made.push(operator("Split", op, vec![joined.clone()], outputs));
            joined
        })
    };
    let h_n = part_states([&below.h_n, &above.h_n], "h_n");
    let c_n = part_states([&below.c_n, &above.c_n], "c_n");
    let node = LstmNode {
        name,
        merged: below.merged + above.merged,
        weights: Weights::Constant(Arc::new(lstm)),
        x: below.x.clone(),
        h_0,
        c_0,
        h_n,
        c_n,
        ..(*above).clone()
    };
    let names = |names: [&Option<String>; 3]| names.map(|name| name.clone().unwrap_or_default()).to_vec();
    let reads = [vec![node.x.clone()], names([&node.sequence_lens, &node.h_0, &node.c_0])].concat();
    let proto = NodeProto {
        op_type: "LSTM".to_owned(),
        name: node.name.clone(),
        input: reads,
        output: names([&node.y, &node.h_n, &node.c_n]),
        ..NodeProto::default()
    };
    items[upper] = Item { node: Node { proto, ..Node::default() }, kind: Kind::Lstm(Box::new(node)) };
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        place - 1 != lower && !between.contains(&(place - 1))
    });
    items.extend(made);
    *items = super::graph::in_order(std::mem::take(items), |item| &item.node)?;
    Ok(())
}

/// A node that no file has.
fn operator(op_type: &str, op: Op, input: Vec<String>, output: Vec<String>) -> Item {
    let proto = NodeProto { op_type: op_type.to_owned(), input, output, ..NodeProto::default() };
    Item { node: Node { proto, ..Node::default() }, kind: Kind::Op(op) }
}
