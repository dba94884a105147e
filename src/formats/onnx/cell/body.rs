//! Loops over a sequence whose body is a cell: `Loop` that gathers one row after the other, and `Scan`.
//!
//! A loop is taken only where the number of its turns is provably that of the rows, where nothing but the cells decides what comes out, and where
//! nothing is masked.

use std::collections::{BTreeMap, BTreeSet};

use super::Reader;
use super::chain::{Made, Run};
use super::emit::Rows;
use super::find::{self, Cell, Readers};
use super::form::{Pick, Place, Source};
use crate::error::Result;
use crate::formats::onnx::facts::Dim;
use crate::formats::onnx::graph::{self, Block, Node};
use crate::formats::onnx::proto::GraphProto;
use crate::formats::onnx::simplify::Simplifier;
use crate::tensor::TensorView;

/// The opset from which on `Scan` has no axis for the batch.
const SCAN_OPSET: i64 = 9;

/// Conditions that are looked at; more are no counter.
const MAX_CONDITIONS: usize = 16;

/// A tensor that goes from turn to turn.
pub(super) struct Carried {
    /// what it is called in the body
    pub(super) inner: String,
    /// where it starts
    pub(super) start: String,
    /// what the body makes of it
    pub(super) next: String,
    /// where it ends
    end: String,
}

/// What stands in the place of a step in a body.
pub(super) struct Replaced {
    /// what the body calls the states after it
    pub(super) h: String,
    pub(super) c: String,
    /// how it has their axes
    pub(super) rows: Rows,
    pub(super) made: Made,
}

/// A loop with its body.
pub(super) struct Turns {
    pub(super) block: Block,
    pub(super) carried: Vec<Carried>,
    /// what is gathered over all turns: in the body, outside
    gathered: Vec<(String, String)>,
    /// by how much tensors are above the number of the turn
    positions: BTreeMap<String, i64>,
    /// what the number of the turn is called
    turn: String,
    /// whether it turns as often as there are rows by what it is
    all: bool,
}

impl Reader<'_> {
    /// Makes nodes in the place of a loop; whether it could. `read` are the tensors that are read around it.
    pub(super) fn looped(&mut self, node: &Node, read: &BTreeSet<String>) -> Result<bool> {
        let Some(body) = node.proto.attribute("body").and_then(|attribute| attribute.g.as_deref()) else {
            return Ok(false);
        };
        let nested = body.node.iter().flat_map(|node| &node.attribute).any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
        if nested || !body.sparse_initializer.is_empty() {
            return Ok(false);
        }
        let outer = std::mem::take(&mut self.forms.sums);
        let already = self.maker.nodes.len();
        let made = self.turns(node, body, read);
        self.forms.sums = outer;
        if !matches!(made, Ok(Some(()))) {
            self.maker.nodes.truncate(already);
        }
        Ok(made?.is_some())
    }

    fn turns(&mut self, node: &Node, body: &GraphProto, read: &BTreeSet<String>) -> Result<Option<()>> {
        let Some(block) = self.opened(body) else { return Ok(None) };
        let scans = if node.is("Scan") { scan_inputs(node, self.maker.opset) } else { Some(0) };
        let Some(scans) = scans else { return Ok(None) };
        let inputs: Vec<String> = body.input.iter().map(|info| info.name.clone()).collect();
        // a loop has its number and its condition before its states
        let before = if node.is("Loop") { 2 } else { 0 };
        let conditions = before / 2;
        let Some(count) = inputs.len().checked_sub(before + scans).filter(|_| node.proto.input.len() == inputs.len()) else { return Ok(None) };
        if block.outputs.len() < conditions + count || node.proto.output.len() + conditions > block.outputs.len() {
            return Ok(None);
        }
        let end = |place: usize| node.output(place).unwrap_or_default().to_owned();
        let carried = |place: usize| Carried {
            inner: inputs[before + place].clone(),
            start: self.forms.root(&node.proto.input[before + place]).to_owned(),
            next: block.outputs[conditions + place].clone(),
            end: end(place),
        };
        let carried: Vec<Carried> = (0..count).map(carried).collect();
        let gathered = (count..block.outputs.len() - conditions).map(|place| (block.outputs[conditions + place].clone(), end(place))).collect();
        let turn = if node.is("Loop") { inputs[0].clone() } else { self.maker.fresh(&inputs[0], "turn") };
        let mut turns = Turns { block, carried, gathered, positions: BTreeMap::new(), turn, all: node.is("Scan") };
        for (info, carried) in body.input[before..].iter().zip(&turns.carried) {
            self.forms.facts.input(info);
            self.forms.facts.like(&carried.inner, &carried.start, self.maker.constants);
        }
        for (inner, outer) in inputs[before + count..].iter().zip(&node.proto.input[before + count..]) {
            let outer = self.forms.root(outer).to_owned();
            let Some(axes) = self.forms.facts.axes(&outer, self.maker.constants).filter(|axes| !axes.is_empty()) else { return Ok(None) };
            self.forms.facts.like(inner, &outer, self.maker.constants);
            self.forms.facts.set_axes(inner, axes[1..].to_vec());
            self.forms.set_pick(inner, Pick { tensor: outer, axis: 0, at: Place::Tensor(turns.turn.clone()) });
        }
        self.follow(&mut turns, &inputs[..before]);
        let number = if node.is("Loop") {
            self.number_of_turns(node, &turns, &inputs[1])
        } else {
            let first = node.proto.input.get(before + count).and_then(|name| self.forms.facts.axes(self.forms.root(name), self.maker.constants));
            first.and_then(|axes| axes.first().cloned()).filter(|dim| *dim != Dim::Unknown)
        };
        let Some(number) = number else { return Ok(None) };
        self.replace(&turns, &number, read)
    }

    /// The nodes of a body, simplified; its constants go to the others.
    fn opened(&mut self, body: &GraphProto) -> Option<Block> {
        let mut nodes = Vec::with_capacity(body.node.len());
        body.initializer.iter().try_for_each(|tensor| self.maker.constants.insert(tensor.clone())).ok()?;
        for proto in &body.node {
            let node = Node { proto: proto.clone(), ..Node::default() };
            if node.is("Constant") {
                self.maker.constants.insert_node(&node.proto).ok()?;
            } else {
                nodes.push(node);
            }
        }
        let block = Block { nodes: graph::in_order(nodes, |node| node).ok()?, outputs: body.output.iter().map(|info| info.name.clone()).collect() };
        self.simplified(block)
    }

    /// What is left of a body when what is known is folded.
    fn simplified(&mut self, block: Block) -> Option<Block> {
        let mut simplifier = Simplifier::new(self.maker.constants, self.maker.opset, self.folding);
        let block = simplifier.block(block).ok();
        self.folding = simplifier.budget;
        block
    }

    /// Looks at all nodes of a body, with what never changes called by its name outside, and with what counts the turns known. `own` are the number
    /// and the condition of a `Loop`.
    fn follow(&mut self, turns: &mut Turns, own: &[String]) {
        let constant: BTreeMap<&str, &str> = turns
            .carried
            .iter()
            .filter(|carried| carried.inner == carried.next)
            .map(|carried| (carried.inner.as_str(), carried.start.as_str()))
            .collect();
        for node in &mut turns.block.nodes {
            node.rename_reads(&|name| constant.get(name).map(|&start| start.to_owned()));
        }
        let renamed = Block { nodes: std::mem::take(&mut turns.block.nodes), outputs: turns.block.outputs.clone() };
        if let Some(block) = self.simplified(renamed.clone()) {
            turns.block.nodes = block.nodes;
        } else {
            turns.block.nodes = renamed.nodes;
        }
        for name in own {
            self.forms.facts.set_axes(name, Vec::new());
        }
        turns.positions.insert(turns.turn.clone(), 0);
        for carried in &turns.carried {
            let add = turns.block.nodes.iter().find(|node| node.is("Add") && node.output(0) == Some(&carried.next));
            let Some(add) = add else { continue };
            let is_one = |name: &str, this: &mut Self| this.forms.facts.integers(name, this.maker.constants).as_deref() == Some(&[1]);
            let counts = match add.proto.input.as_slice() {
                [left, right] if *left == carried.inner => is_one(right, self),
                [left, right] if *right == carried.inner => is_one(left, self),
                _ => false,
            };
            let start = self.forms.facts.integers(&carried.start, self.maker.constants);
            if let (true, Some(&[start])) = (counts, start.as_deref()) {
                turns.positions.insert(carried.inner.clone(), start);
            }
        }
        for node in &turns.block.nodes {
            self.forms.note(node, self.maker.constants);
            let (Some(output), Some(input)) = (node.output(0), node.input(0)) else { continue };
            let at = |name: &str| turns.positions.get(name).copied();
            let position = if ["Cast", "Identity", "Squeeze", "Unsqueeze"].iter().any(|op_type| node.is(op_type)) {
                at(input)
            } else if let (true, Some(other)) = (node.is("Add"), node.input(1)) {
                let mut plus = |name: &str, other: &str| match self.forms.facts.integers(other, self.maker.constants)?.as_slice() {
                    &[number] => at(name)?.checked_add(number),
                    _ => None,
                };
                plus(input, other).or_else(|| plus(other, input))
            } else {
                None
            };
            if let Some(position) = position {
                turns.positions.insert(output.to_owned(), position);
            }
        }
    }

    /// How often a `Loop` turns: a number, or as often as an axis has places.
    fn number_of_turns(&mut self, node: &Node, turns: &Turns, condition: &str) -> Option<Dim> {
        let mut bounds: Vec<(Dim, i64)> = Vec::new();
        if let Some(most) = node.input(0) {
            let most = self.forms.root(most).to_owned();
            bounds.push((self.forms.facts.number(&most, self.maker.constants)?, 0));
        }
        let goes_on = turns.block.outputs[0].clone();
        if goes_on != condition {
            for [left, right] in self.comparisons(&goes_on)? {
                // goes on after turn i where i + position < bound
                let position = *turns.positions.get(&left)?;
                bounds.push((self.forms.facts.number(&right, self.maker.constants)?, 1_i64.checked_sub(position)?));
            }
        }
        let number = least(&bounds)?;
        if let Some(starts) = node.input(1) {
            let starts = self.forms.root(starts).to_owned();
            for [left, right] in self.comparisons(&starts)? {
                let zero = self.forms.facts.number(&left, self.maker.constants)? == Dim::Known(0);
                if !zero || self.forms.facts.number(&right, self.maker.constants)? != number {
                    return None;
                }
            }
        }
        (number != Dim::Known(0)).then_some(number)
    }

    /// All that has to be less than something for `name` to hold; nothing where it holds anyway.
    fn comparisons(&mut self, name: &str) -> Option<Vec<[String; 2]>> {
        let (mut found, mut open) = (Vec::new(), vec![name.to_owned()]);
        while let Some(name) = open.pop() {
            if found.len() + open.len() > MAX_CONDITIONS {
                return None;
            }
            if let Some(both) = self.forms.ands.get(&name) {
                open.extend(both.iter().cloned());
            } else if let Some(pair) = self.forms.less.get(&name) {
                // a cast of a counter counts as that counter
                found.push(pair.clone());
            } else if !(self.maker.constants.contains(&name)
                && matches!(self.maker.constants.get(&name), Ok(TensorView::Bool(values)) if values.first() == Some(&true)))
            {
                return None;
            }
        }
        Some(found)
    }

    /// Makes the nodes of the cells in a body, and what else is read of the loop.
    fn replace(&mut self, turns: &Turns, number: &Dim, read: &BTreeSet<String>) -> Result<Option<()>> {
        let readers = Readers::new(turns.block.nodes.iter(), &turns.block.outputs, &self.forms);
        let inside: BTreeSet<&str> =
            turns.block.nodes.iter().flat_map(Node::makes).chain(turns.carried.iter().map(|carried| carried.inner.as_str())).collect();
        let mut made: Vec<Replaced> = Vec::new();
        for cell in find::cells(&self.forms, &readers, self.maker.constants) {
            let [source] = cell.x.as_slice() else { return Ok(None) };
            let Some(run) = self.run_of(source, turns, number, &inside) else { return Ok(None) };
            let start = |inner: &str, next: &str| {
                let is_it = |carried: &&Carried| carried.inner == inner && self.forms.root(&carried.next) == next;
                turns.carried.iter().find(is_it).map(|carried| carried.start.clone())
            };
            let Source::Tensor(h_prev) = &cell.h_prev else { return Ok(None) };
            let (Some(h_0), Some(c_0)) = (start(h_prev, &cell.h), start(&cell.c_prev, &cell.c)) else { return Ok(None) };
            // the weights are told apart by the state inside, which is another one outside
            let h_0 = Source::Tensor(h_0);
            let gates = cell.gates.clone().map(|mut form| {
                let parts = form.parts.iter_mut().filter(|part| part.source.as_ref() == Some(&cell.h_prev));
                parts.for_each(|part| part.source = Some(h_0.clone()));
                form
            });
            let first = Cell { gates, h_prev: h_0, c_prev: c_0, ..cell.clone() };
            let Some(results) = self.run(&first, &cell, &run)? else { return Ok(None) };
            self.forms.set_pick(&cell.h, Pick { tensor: results.flat.clone(), axis: 0, at: Place::Tensor(turns.turn.clone()) });
            made.push(Replaced { h: cell.h, c: cell.c, rows: Rows::Matrix, made: results });
        }
        for node in turns.block.nodes.iter().filter(|node| node.is("LSTM")) {
            let Some(replaced) = self.inner(node, turns, number, &inside)? else { return Ok(None) };
            made.push(replaced);
        }
        if made.is_empty() {
            return Ok(None);
        }
        for carried in turns.carried.iter().filter(|carried| read.contains(&carried.end)) {
            let next = self.forms.root(&carried.next).to_owned();
            if carried.next == carried.inner {
                self.maker.node("Identity", vec![carried.start.clone()], vec![carried.end.clone()], Vec::new());
            } else if let Some(step) = made.iter().find(|step| step.h == next) {
                self.give(&step.made.y_h, step.rows, &carried.end);
            } else if let Some(step) = made.iter().find(|step| step.c == next) {
                self.give(&step.made.y_c, step.rows, &carried.end);
            } else {
                return Ok(None);
            }
        }
        for (inner, outer) in turns.gathered.iter().filter(|(_, outer)| read.contains(outer)) {
            let next = self.forms.root(inner);
            let Some(step) = made.iter().find(|step| step.h == next && step.rows == Rows::Matrix) else { return Ok(None) };
            self.maker.node("Identity", vec![step.made.flat.clone()], vec![outer.clone()], Vec::new());
            self.exact.insert(outer.clone());
        }
        Ok(Some(()))
    }

    /// The rows that a step in a body takes as `source`, turn by turn, if that is what it does.
    pub(super) fn run_of(&self, source: &Source, turns: &Turns, number: &Dim, inside: &BTreeSet<&str>) -> Option<Run> {
        let pick = self.forms.pick(source)?;
        let Place::Tensor(place) = &pick.at else { return None };
        let axes = self.forms.facts.axes(&pick.tensor, self.maker.constants)?;
        let in_turn = turns.positions.get(place) == Some(&0) && axes.len() == 3 && pick.axis <= 1 && !inside.contains(pick.tensor.as_str());
        let fits = match number {
            Dim::Known(_) => true,
            of => axes[pick.axis] == *of,
        };
        (in_turn && fits).then(|| Run {
            tensor: pick.tensor.clone(),
            axis: pick.axis,
            first: 0,
            count: number.clone(),
            all: turns.all,
            backwards: false,
        })
    }
}

/// How many inputs a `Scan` goes through, if it goes through all of them forwards on their first axes.
fn scan_inputs(node: &Node, opset: i64) -> Option<usize> {
    let mut count = None;
    for attribute in &node.proto.attribute {
        match attribute.name.as_str() {
            "body" => {}
            "num_scan_inputs" => count = usize::try_from(attribute.i).ok(),
            _ if attribute.ints.iter().all(|&value| value == 0) && !attribute.ints.is_empty() => {}
            _ => return None,
        }
    }
    count.filter(|&count| count > 0 && opset >= SCAN_OPSET)
}

/// The least of numbers that are so much above sizes, where it can be told.
fn least(bounds: &[(Dim, i64)]) -> Option<Dim> {
    // as good as no bound
    let endless = |dim: &Dim| matches!(dim, Dim::Known(size) if i32::try_from(*size).map_or(true, |size| size == i32::MAX));
    let bounds: Vec<&(Dim, i64)> = bounds.iter().filter(|(dim, _)| !endless(dim)).collect();
    let (first, _) = bounds.first()?;
    if let Dim::Known(_) = first {
        let value = |(dim, above): &(Dim, i64)| if let Dim::Known(size) = dim { i64::try_from(*size).ok()?.checked_add(*above) } else { None };
        let values = bounds.iter().map(|bound| value(bound)).collect::<Option<Vec<i64>>>()?;
        return usize::try_from(*values.iter().min()?).ok().map(Dim::Known);
    }
    let alike = bounds.iter().all(|(dim, above)| dim == first && *above >= 0) && bounds.iter().any(|(_, above)| *above == 0);
    (alike && matches!(first, Dim::Of(..))).then(|| first.clone())
}
