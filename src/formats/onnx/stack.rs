//! LSTMs of which one reads nothing but what the other makes, with the axes moved at most, become the layers of one stack.
//!
//! Whether the axes come out as a stack has them is tried with sizes that are told apart, as if the tensor were there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::constants::Constants;
use super::cut::{Item, Kind, moves_axes};
use super::graph::Node;
use super::proto::NodeProto;
use crate::error::{Error, Result};
use crate::network::op::{Op, Parts};
use crate::network::{Layout, Lstm, LstmConfig, LstmNode, Strided, Weights};
use crate::tensor::{Tensor, TensorView};

/// Sizes of time and batch for the trials: small ones that are told apart, and ones that no bound of a slice reaches, nor a shape that is written out.
const TRIALS: [(usize, usize); 3] = [(7, 11), ((1 << 33) + 17, 11), (7, (1 << 33) + 17)];

/// How many tensors are followed in order to see whether one needs another; where there are more it is taken to.
const MOST_FOLLOWED: usize = 1 << 12;

/// How many tensors of shape arithmetic are followed in one trial, and how far.
const MOST_VALUES: usize = 1 << 8;
const MOST_STEPS: usize = 1 << 5;

/// Joins all that can be joined among `items`; `outputs` are read from outside.
pub(super) fn join(items: &mut Vec<Item>, outputs: &[String], constants: &mut Constants) -> Result<()> {
    let chains = chains(items, outputs, constants);
    if chains.is_empty() {
        return Ok(());
    }
    let mut taken: BTreeSet<String> = items.iter().flat_map(|item| item.node.makes().chain(item.node.reads())).map(str::to_owned).collect();
    let (mut gone, mut made) = (BTreeSet::new(), Vec::new());
    for Chain { lstms, between } in chains {
        let Some((&top, lower)) = lstms.split_last() else { continue };
        items[top] = merged(items, &lstms, &mut taken, &mut made)?;
        gone.extend(lower.iter().chain(&between).copied());
    }
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
    items.extend(made);
    *items = super::graph::in_order(std::mem::take(items), |item| &item.node)?;
    Ok(())
}

/// LSTMs of which each reads what the one before it makes, and the operators between them.
#[derive(Default)]
struct Chain {
    lstms: Vec<usize>,
    between: Vec<usize>,
}

fn chains(items: &[Item], outputs: &[String], constants: &mut Constants) -> Vec<Chain> {
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
    let trial = Trial { items, makers: &makers };
    let mut chains: Vec<Chain> = Vec::new();
    // the chain of an LSTM that is in one
    let mut joined: BTreeMap<usize, usize> = BTreeMap::new();
    for (upper, item) in items.iter().enumerate() {
        let Kind::Lstm(above) = &item.kind else { continue };
        let Some((lower, below, between)) = trial.below(above, &readers) else { continue };
        let number = joined.get(&lower).copied();
        let mut states = [&above.h_0, &above.c_0, &above.sequence_lens].into_iter().flatten();
        let independent = |name: &String| !trial.depends(name, lower, &chains, &joined);
        if !(fits(below, above) && states.all(independent) && trial.keeps_the_axes(below, above, &between, constants)) {
            continue;
        }
        let number = number.unwrap_or_else(|| {
            chains.push(Chain { lstms: vec![lower], between: Vec::new() });
            chains.len() - 1
        });
        joined.extend([(lower, number), (upper, number)]);
        chains[number].lstms.push(upper);
        chains[number].between.extend(between);
    }
    chains
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

/// Follows tensors that are not there.
struct Trial<'a> {
    items: &'a [Item],
    makers: &'a BTreeMap<&'a str, usize>,
}

impl<'a> Trial<'a> {
    /// The LSTM whose results `above` alone reads, with the operators between the two.
    fn below(&self, above: &LstmNode, readers: &BTreeMap<&str, usize>) -> Option<(usize, &'a LstmNode, Vec<usize>)> {
        let (mut name, mut between) = (above.x.as_str(), Vec::new());
        loop {
            let place = *self.makers.get(name).filter(|_| readers.get(name) == Some(&1))?;
            match &self.items[place].kind {
                Kind::Lstm(below) if below.y.as_deref() == Some(name) => {
                    between.reverse();
                    return Some((place, below, between));
                }
                Kind::Op(_) if moves_axes(&self.items[place].node) => {
                    between.push(place);
                    name = self.items[place].node.input(0)?;
                }
                _ => return None,
            }
        }
    }

    /// Whether the tensor `name` needs anything that the LSTM at `place` makes, or one of its chain. LSTMs of one chain need what any of them does.
    fn depends(&self, name: &str, place: usize, chains: &[Chain], joined: &BTreeMap<usize, usize>) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
        while let Some(name) = open.pop() {
            let Some(&maker) = self.makers.get(name) else { continue };
            let (alone, chain) = ([maker], joined.get(&maker));
            if maker == place || (chain.is_some() && chain == joined.get(&place)) {
                return true;
            }
            for &maker in chain.map_or(&alone[..], |&number| &chains[number].lstms) {
                if seen.len() == MOST_FOLLOWED {
                    return true;
                }
                if seen.insert(maker) {
                    open.extend(self.items[maker].node.reads());
                }
            }
        }
        false
    }

    /// Whether what `above` reads is `y [T, N, D*R]` of `below` in the order that it takes.
    fn keeps_the_axes(&self, below: &LstmNode, above: &LstmNode, between: &[usize], constants: &mut Constants) -> bool {
        TRIALS.into_iter().all(|sizes| self.keeps_the_axes_at(sizes, below, above, between, constants))
    }

    fn keeps_the_axes_at(
        &self,
        (seq_len, batch): (usize, usize),
        below: &LstmNode,
        above: &LstmNode,
        between: &[usize],
        constants: &mut Constants,
    ) -> bool {
        let Weights::Constant(lstm) = &below.weights else { return false };
        let config = lstm.config();
        let inside = Strided::contiguous(&[seq_len, batch, config.num_directions(), config.out_size()]);
        let order: &[usize] = if below.layout == Layout::OnnxBatchFirst { &[1, 0, 2, 3] } else { &[0, 2, 1, 3] };
        let mut values = BTreeMap::new();
        let mut places = BTreeMap::from([(below.y.clone().unwrap_or_default(), inside.permuted(order))]);
        for &place in between {
            let (node, Kind::Op(op)) = (&self.items[place].node, &self.items[place].kind) else { return false };
            let Some(input) = node.input(0).and_then(|name| places.get(name)).cloned() else { return false };
            let mut others = Vec::new();
            for place in 1..node.proto.input.len() {
                others.push(match node.input(place) {
                    None => None,
                    Some(name) => match self.value(name, &places, constants, &mut values, 0) {
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

    /// The elements of a small tensor that follow from constants and from the shapes on the way; `known` are those so far.
    fn value(
        &self,
        name: &str,
        places: &BTreeMap<String, Strided>,
        constants: &mut Constants,
        known: &mut BTreeMap<String, Option<Tensor>>,
        step: usize,
    ) -> Option<Tensor> {
        if let Some(value) = known.get(name) {
            return value.clone();
        }
        if known.len() == MOST_VALUES || step == MOST_STEPS {
            return None;
        }
        let value = self.computed(name, places, constants, known, step);
        known.insert(name.to_owned(), value.clone());
        value
    }

    fn computed(
        &self,
        name: &str,
        places: &BTreeMap<String, Strided>,
        constants: &mut Constants,
        known: &mut BTreeMap<String, Option<Tensor>>,
        step: usize,
    ) -> Option<Tensor> {
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
                Some(name) => Some(self.value(name, places, constants, known, step + 1)?),
            });
        }
        let inputs: Vec<Option<TensorView<'_>>> = inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
        let made = op.run(&inputs, MOST_BYTES).ok()?;
        node.proto.output.iter().zip(made).find(|(output, _)| *output == name).map(|(_, value)| value)
    }
}

/// One stack of `lstms`, the lowest first. The operators that join and part the states go to `made`, under names that are not `taken`.
fn merged(items: &[Item], lstms: &[usize], taken: &mut BTreeSet<String>, made: &mut Vec<Item>) -> Result<Item> {
    let nodes: Vec<&LstmNode> =
        lstms.iter().filter_map(|&place| if let Kind::Lstm(lstm) = &items[place].kind { Some(&**lstm) } else { None }).collect();
    let stacks: Vec<&Lstm> = nodes.iter().filter_map(|node| node.constant_weights()).collect();
    let (Some(lowest), Some(top), Some(first)) = (nodes.first(), nodes.last(), stacks.first()) else {
        return Err(Error::config("stack: expected LSTMs with constant weights, found none"));
    };
    let mut config = first.config().clone();
    config.num_layers = stacks.iter().map(|stack| stack.config().num_layers).sum();
    let lstm = Lstm::new(config, stacks.iter().flat_map(|stack| stack.cells()).cloned().collect())?;
    let name = nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" + ");
    let axis = if lowest.layout == Layout::OnnxBatchFirst { 1 } else { 0 };
    let mut fresh = |what: &str| {
        let mut fresh = format!("{name}.{what}");
        while !taken.insert(fresh.clone()) {
            fresh.push('_');
        }
        fresh
    };
    // initial states of all, one behind the other
    let mut join_states = |parts: Vec<&Option<String>>, what: &str| -> Option<String> {
        let parts = parts.into_iter().cloned().collect::<Option<Vec<_>>>()?;
        let joined = fresh(what);
        made.push(operator("Concat", Op::Concat { axis }, parts, vec![joined.clone()]));
        Some(joined)
    };
    let h_0 = join_states(nodes.iter().map(|node| &node.h_0).collect(), "h_0");
    let c_0 = join_states(nodes.iter().map(|node| &node.c_0).collect(), "c_0");
    let sizes: Vec<i64> = stacks.iter().map(|stack| i64::try_from(stack.config().num_cells()).unwrap_or(i64::MAX)).collect();
    let mut part_states = |parts: Vec<&Option<String>>, what: &str| -> Option<String> {
        parts.iter().any(|part| part.is_some()).then(|| {
            let joined = fresh(what);
            let op = Op::Split { axis, parts: Parts { sizes: Some(sizes.clone()), outputs: parts.len(), uneven: false } };
            let outputs = parts.into_iter().map(|part| part.clone().unwrap_or_default()).collect();
            made.push(operator("Split", op, vec![joined.clone()], outputs));
            joined
        })
    };
    let h_n = part_states(nodes.iter().map(|node| &node.h_n).collect(), "h_n");
    let c_n = part_states(nodes.iter().map(|node| &node.c_n).collect(), "c_n");
    let node = LstmNode {
        merged: nodes.iter().map(|node| node.merged).sum(),
        weights: Weights::Constant(Arc::new(lstm)),
        x: lowest.x.clone(),
        h_0,
        c_0,
        h_n,
        c_n,
        name,
        ..(*top).clone()
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
    Ok(Item { node: Node { proto, ..Node::default() }, kind: Kind::Lstm(Box::new(node)) })
}

/// A node that no file has.
fn operator(op_type: &str, op: Op, input: Vec<String>, output: Vec<String>) -> Item {
    let proto = NodeProto { op_type: op_type.to_owned(), input, output, ..NodeProto::default() };
    Item { node: Node { proto, ..Node::default() }, kind: Kind::Op(op) }
}
