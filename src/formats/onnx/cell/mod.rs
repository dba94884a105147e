//! LSTM cells that exporters wrote as elementary operators, found by what flows where and not by names; each becomes an `LSTM` node.
//!
//! [`follow`] sees which tensors are sums of products with constant matrices, and activations of such ([`form`]); [`find`] sees which of these make a
//! cell; [`chain`] joins cells that are the steps of one sequence; [`body`] finds cells in loops over a sequence, and [`inner`] `LSTM` nodes there;
//! [`emit`] makes the nodes. What is not provably a cell stays as it is.

mod body;
mod chain;
mod emit;
mod find;
mod follow;
mod form;
mod inner;

use std::collections::{BTreeMap, BTreeSet};

use self::emit::{Maker, Reads, Rows};
use self::find::{Cell, Readers};
use self::follow::Forms;
use self::form::Source;
use super::constants::Constants;
use super::facts::{Dim, Facts};
use super::graph::{self, Block, Node};
use super::proto::ValueInfoProto;
use super::simplify::drop_dead;
use crate::error::Result;
use crate::tensor::TensorView;

/// Puts `LSTM` nodes in the place of cells in `block` and all blocks within it. `inputs` are those of a call, and `room` is how many numbers the
/// weights of all the nodes may have.
pub(super) fn recognise(block: &mut Block, constants: &mut Constants, opset: i64, inputs: &[ValueInfoProto], room: usize) -> Result<()> {
    let mut taken: BTreeSet<String> = inputs.iter().map(|info| info.name.clone()).collect();
    block.each(&mut |node| {
        taken.extend(node.makes().map(str::to_owned));
        taken.extend(node.reads().into_iter().map(str::to_owned));
    });
    let mut facts = Facts::new(opset);
    inputs.iter().for_each(|info| facts.input(info));
    let mut reader = Reader { forms: Forms::new(facts), maker: Maker::new(constants, taken, opset, room), exact: BTreeSet::new(), folding: room };
    reader.block(block)
}

/// Goes through blocks.
struct Reader<'a> {
    forms: Forms,
    maker: Maker<'a>,
    /// tensors of which a sequence takes every row by the way they are made
    exact: BTreeSet<String>,
    /// bytes that constants folded in bodies may still take
    folding: usize,
}

impl Reader<'_> {
    fn block(&mut self, block: &mut Block) -> Result<()> {
        // a cell lies in one block
        let outer = (std::mem::take(&mut self.forms.sums), std::mem::take(&mut self.maker.nodes));
        let mut replaced = BTreeSet::new();
        let read: BTreeSet<String> =
            block.nodes.iter().flat_map(Node::reads).chain(block.outputs.iter().map(String::as_str)).map(str::to_owned).collect();
        for node in &mut block.nodes {
            for branch in node.branches.iter_mut().flat_map(|branches| branches.iter_mut()) {
                self.block(branch)?;
            }
            let already = self.maker.nodes.len();
            if (node.is("Loop") || node.is("Scan")) && self.looped(node, &read)? {
                replaced.extend(node.makes().map(str::to_owned));
                self.maker.nodes[already..].iter().for_each(|node| self.forms.note(node, self.maker.constants));
            } else {
                self.forms.note(node, self.maker.constants);
            }
        }
        let readers = Readers::new(block.nodes.iter(), &block.outputs, &self.forms);
        let made: BTreeSet<&str> = block.nodes.iter().flat_map(Node::makes).collect();
        let mut cells = find::cells(&self.forms, &readers, self.maker.constants);
        cells.retain(|cell| made.contains(cell.c.as_str()) && made.contains(cell.h.as_str()));
        self.cells(&cells, &readers, block, &mut replaced)?;
        self.forms.sums = outer.0;
        let nodes = std::mem::replace(&mut self.maker.nodes, outer.1);
        if !replaced.is_empty() {
            block.nodes.retain(|node| !node.makes().any(|name| replaced.contains(name)));
            block.nodes.extend(nodes);
            block.nodes = graph::in_order(std::mem::take(&mut block.nodes), |node| node)?;
            drop_dead(block);
        }
        Ok(())
    }

    /// Makes the nodes; `replaced` are tensors whose makers are to go.
    fn cells(&mut self, cells: &[Cell], readers: &Readers, block: &Block, replaced: &mut BTreeSet<String>) -> Result<()> {
        let makers: BTreeMap<&str, &Node> = block.nodes.iter().flat_map(|node| node.makes().map(move |name| (name, node))).collect();
        for steps in chain::chains(cells, readers) {
            let steps: Vec<&Cell> = steps.into_iter().map(|place| &cells[place]).collect();
            let joined = steps.len() > 1 && self.sequence(&steps, &makers, replaced)?;
            if joined {
                continue;
            }
            for cell in steps {
                if self.step(cell)? {
                    replaced.extend([cell.h.clone(), cell.c.clone()]);
                }
            }
        }
        Ok(())
    }

    /// Makes the node of one step; whether it could.
    fn step(&mut self, cell: &Cell) -> Result<bool> {
        let constants = &*self.maker.constants;
        let axes = |source: &Source| emit::axes(source, &self.forms, constants);
        let states = [cell.h_prev.clone(), Source::Tensor(cell.c_prev.clone())];
        let (Some(x), Some([h, c])) = (cell.x.iter().map(axes).collect::<Option<Vec<_>>>(), both(states.each_ref().map(axes))) else {
            return Ok(false);
        };
        let results = [&cell.h, &cell.c].map(|name| self.forms.facts.axes(name, constants).and_then(|axes| Rows::of(&axes)));
        let Some(results) = both(results) else { return Ok(false) };
        let zero = states.each_ref().map(|source| is_zero(source, self.maker.constants));
        let Some(rows) = x.iter().map(|axes| Rows::of(axes)).collect::<Option<Vec<_>>>() else { return Ok(false) };
        let one_kind = rows.iter().all(|kind| *kind == rows[0]) && x.iter().all(|axes| same_batch(&x[0], axes));
        let fits = |axes: &[Dim], zero: bool| zero || (Rows::of(axes).is_some() && same_batch(&x[0], axes));
        if !one_kind || !fits(&h, zero[0]) || !fits(&c, zero[1]) {
            return Ok(false);
        }
        let Some(weights) = self.maker.weights(cell)? else { return Ok(false) };
        let x = self.joined(cell);
        let x = self.whole(&x, rows[0], &cell.h);
        let [h_0, c_0] = [(&states[0], &h, zero[0]), (&states[1], &c, zero[1])].map(|(source, axes, zero)| match Rows::of(axes).filter(|_| !zero) {
            Some(rows) => {
                let state = self.maker.tensor(source, &cell.h);
                self.whole(&state, rows, &cell.h)
            }
            None => String::new(),
        });
        let [_, y_h, y_c] = self.maker.lstm(cell, &weights, Reads { x, h_0, c_0 }, false);
        self.give(&y_h, results[0], &cell.h);
        self.give(&y_c, results[1], &cell.c);
        Ok(true)
    }

    /// What a cell reads, as one tensor.
    fn joined(&mut self, cell: &Cell) -> String {
        let names: Vec<String> = cell.x.iter().map(|source| self.maker.tensor(source, &cell.h)).collect();
        match names.as_slice() {
            [alone] => alone.clone(),
            _ => self.maker.made("Concat", names, &cell.h, "x", vec![emit::int("axis", -1)]),
        }
    }

    /// A tensor with all the axes that an LSTM takes.
    fn whole(&mut self, name: &str, rows: Rows, of: &str) -> String {
        if rows.missing().is_empty() {
            return name.to_owned();
        }
        let output = self.maker.fresh(of, "in");
        self.maker.change_axes("Unsqueeze", name, rows.missing(), output.clone());
        output
    }

    /// Makes the tensor `output` from a state of an LSTM.
    fn give(&mut self, state: &str, rows: Rows, output: &str) {
        if rows.missing().is_empty() {
            self.maker.node("Identity", vec![state.to_owned()], vec![output.to_owned()], Vec::new());
        } else {
            self.maker.change_axes("Squeeze", state, rows.missing(), output.to_owned());
        }
    }
}

fn both<T>([left, right]: [Option<T>; 2]) -> Option<[T; 2]> {
    Some([left?, right?])
}

/// Whether two tensors may be taken to have as many rows: of a size that is not known nothing else is said, but one row is never spread over others.
fn same_batch(left: &[Dim], right: &[Dim]) -> bool {
    let batch = |axes: &[Dim]| find::rows(axes).last().cloned().unwrap_or(Dim::Known(1));
    match (batch(left), batch(right)) {
        (Dim::Known(left), Dim::Known(right)) => left == right,
        (Dim::Known(1), _) | (_, Dim::Known(1)) => false,
        _ => true,
    }
}

/// Whether a state is a constant of zeros, which is the same for every row.
fn is_zero(source: &Source, constants: &mut Constants) -> bool {
    let Source::Tensor(name) = source else { return false };
    constants.contains(name) && matches!(constants.get(name), Ok(TensorView::F32(values)) if values.iter().all(|&value| value == 0.0))
}
