//! `LSTM` nodes of one step in the bodies of loops, as PyTorch writes a scripted `LSTMCell`.

use std::collections::{BTreeMap, BTreeSet};

use super::Reader;
use super::body::{Carried, Replaced, Turns};
use super::chain::Made;
use super::emit::Rows;
use super::form::Source;
use crate::error::Result;
use crate::formats::onnx::facts::Dim;
use crate::formats::onnx::graph::Node;

/// The inputs of the operator that are weights: W, R, B and the peepholes.
const WEIGHTS: [usize; 4] = [1, 2, 3, 7];

impl Reader<'_> {
    /// Makes a node of all turns of the step `node`; nothing where it is not certain that it is one.
    pub(super) fn inner(&mut self, node: &Node, turns: &Turns, number: &Dim, inside: &BTreeSet<&str>) -> Result<Option<Replaced>> {
        let plain = node.proto.attribute.iter().all(|attribute| match attribute.name.as_str() {
            "direction" => attribute.s == b"forward",
            "layout" => attribute.i == 0,
            _ => true,
        });
        let constant = WEIGHTS.iter().filter_map(|&place| node.input(place)).all(|name| self.maker.constants.contains(name));
        let (Some(x), Some(h), Some(c), None, true) = (node.input(0), node.input(5), node.input(6), node.input(4), plain && constant) else {
            return Ok(None);
        };
        let makers: BTreeMap<&str, &Node> = turns.block.nodes.iter().flat_map(|node| node.makes().map(move |name| (name, node))).collect();
        let row = match makers.get(x) {
            Some(maker) if self.only_first_axis(maker, "Unsqueeze") => maker.input(0),
            _ => None,
        };
        let Some(run) = row.and_then(|row| self.run_of(&Source::Tensor(self.forms.root(row).to_owned()), turns, number, inside)) else {
            return Ok(None);
        };
        let state = |read: &str, made: Option<&str>| self.state(read, made?, turns, &makers);
        let (Some((h, rows)), Some((c, rows_of_c))) = (state(h, node.output(1)), state(c, node.output(2))) else { return Ok(None) };
        if rows != rows_of_c {
            return Ok(None);
        }
        let Some(axes) = self.forms.facts.axes(&run.tensor, self.maker.constants).filter(|axes| axes.len() > run.axis) else { return Ok(None) };
        let of = self.forms.root(&h.next).to_owned();
        let mut proto = node.proto.clone();
        proto.input[0] = self.time_first(&run, &of);
        proto.input[5] = self.whole(&h.start, rows, &of);
        proto.input[6] = self.whole(&c.start, rows, &of);
        let [y, y_h, y_c] = ["Y", "Y_h", "Y_c"].map(|what| self.maker.fresh(&of, what));
        proto.output = vec![y.clone(), y_h.clone(), y_c.clone()];
        self.maker.nodes.push(Node { proto, ..Node::default() });
        let flat = self.maker.fresh(&of, "sequence");
        self.maker.change_axes("Squeeze", &y, &[1], flat.clone());
        let hidden = node.input(2).and_then(|r| self.forms.facts.last(r, self.maker.constants));
        self.forms.facts.set_axes(&flat, vec![run.count.clone(), axes[1 - run.axis].clone(), hidden.map_or(Dim::Unknown, Dim::Known)]);
        self.forms.facts.set_float(&flat);
        self.exact.insert(flat.clone());
        Ok(Some(Replaced { h: of, c: self.forms.root(&c.next).to_owned(), rows, made: Made { flat, y_h, y_c } }))
    }

    /// The tensor that goes from turn to turn as the state that the node reads as `read` and makes as `made`.
    fn state<'t>(&self, read: &str, made: &str, turns: &'t Turns, makers: &BTreeMap<&str, &Node>) -> Option<(&'t Carried, Rows)> {
        let (inner, rows) = match makers.get(read) {
            None => (read, Rows::Whole),
            Some(maker) if self.only_first_axis(maker, "Unsqueeze") => (maker.input(0)?, Rows::Matrix),
            Some(_) => return None,
        };
        let rank = self.forms.facts.axes(inner, self.maker.constants)?.len();
        let next = |carried: &Carried| {
            let next = self.forms.root(&carried.next);
            match (rows, makers.get(next)) {
                (Rows::Whole, _) => next == made,
                (_, Some(maker)) => self.only_first_axis(maker, "Squeeze") && maker.input(0) == Some(made),
                _ => false,
            }
        };
        let fits = rank + rows.missing().len() == 3;
        turns.carried.iter().find(|carried| fits && carried.inner == inner && next(carried)).map(|carried| (carried, rows))
    }

    /// Whether the node is `op_type` of the first axis alone.
    fn only_first_axis(&self, node: &Node, op_type: &str) -> bool {
        let axes = match node.proto.attribute("axes") {
            Some(attribute) => Some(attribute.ints.clone()),
            None => node.input(1).and_then(|name| self.forms.facts.known_integers(name, self.maker.constants)),
        };
        node.is(op_type) && axes.as_deref() == Some(&[0])
    }
}
