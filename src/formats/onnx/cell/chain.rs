//! Cells that are the steps of one sequence: each takes the states of the one before, with the same weights, and rows of one tensor.

use std::collections::{BTreeMap, BTreeSet};

use super::emit::{self, Reads, Rows};
use super::find::{Cell, Readers};
use super::form::{Pick, Place, Source};
use super::{Reader, both, is_zero, same_batch};
use crate::error::Result;
use crate::formats::onnx::facts::{Dim, wrapped};
use crate::formats::onnx::graph::Node;

/// Readers of a cell state within a chain: the activation on its way out, and the forget gate of the next step.
const READERS_OF_C: usize = 2;

/// The cells as chains, by their places, in the order of their first ones; a cell that is no part of one is a chain of itself.
pub(super) fn chains(cells: &[Cell], readers: &Readers) -> Vec<Vec<usize>> {
    let by_state: BTreeMap<&str, usize> = cells.iter().enumerate().map(|(place, cell)| (cell.c.as_str(), place)).collect();
    let keys: Vec<String> = cells.iter().map(emit::key).collect();
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, cell) in cells.iter().enumerate() {
        if let Some(&before) = by_state.get(cell.c_prev.as_str())
            && cell.h_prev == Source::Tensor(cells[before].h.clone())
            && keys[before] == keys[place]
            && readers.count(&cell.c_prev) == READERS_OF_C
        {
            next.entry(before).or_default().push(place);
        }
    }
    next.retain(|_, places| places.len() == 1);
    let followers: BTreeSet<usize> = next.values().flatten().copied().collect();
    let mut chains = Vec::new();
    for first in (0..cells.len()).filter(|place| !followers.contains(place)) {
        let mut chain = vec![first];
        while let Some(&place) = chain.last().and_then(|last| next.get(last)).and_then(|places| places.first()) {
            chain.push(place);
        }
        chains.push(chain);
    }
    chains
}

/// The rows that steps take of one tensor.
pub(super) struct Run {
    pub(super) tensor: String,
    pub(super) axis: usize,
    /// the lowest of them
    pub(super) first: usize,
    /// how many there are: a number, or all of this axis
    pub(super) count: Dim,
    /// whether these are all that there are, whatever the count is at run time
    pub(super) all: bool,
    pub(super) backwards: bool,
}

/// What comes of a run.
pub(super) struct Made {
    /// `[T, N, H]`
    pub(super) flat: String,
    /// `[1, N, H]`
    pub(super) y_h: String,
    /// `[1, N, H]`
    pub(super) y_c: String,
}

impl Reader<'_> {
    /// Makes one node of the steps of a chain; whether it could.
    pub(super) fn sequence(&mut self, steps: &[&Cell], makers: &BTreeMap<&str, &Node>, replaced: &mut BTreeSet<String>) -> Result<bool> {
        let Some(run) = self.rows(steps) else { return Ok(false) };
        // every step needs all of the tensor as it is, so that taking them together adds nothing that they wait for
        let (first, last) = (steps[0], steps[steps.len() - 1]);
        let Some(made) = self.run(first, last, &run)? else { return Ok(false) };
        for (step, cell) in steps.iter().enumerate() {
            let at = i64::try_from(if run.backwards { steps.len() - 1 - step } else { step }).unwrap_or(i64::MAX);
            let pick = Pick { tensor: made.flat.clone(), axis: 0, at: Place::Number(at) };
            if step + 1 < steps.len() {
                let row = self.maker.tensor(&Source::Pick(pick.clone()), &cell.h);
                self.maker.node("Identity", vec![row], vec![cell.h.clone()], Vec::new());
            }
            self.forms.set_pick(&cell.h, pick);
            replaced.extend([cell.h.clone(), cell.c.clone()]);
        }
        self.give(&made.y_h, Rows::Matrix, &last.h);
        self.give(&made.y_c, Rows::Matrix, &last.c);
        self.stacks(steps, &run, &made.flat, makers, replaced);
        Ok(true)
    }

    /// Makes the node of a run of steps: the states before it are those of `first`, and what comes of it is called after `last`.
    pub(super) fn run(&mut self, first: &Cell, last: &Cell, run: &Run) -> Result<Option<Made>> {
        let constants = &*self.maker.constants;
        let states = [first.h_prev.clone(), Source::Tensor(first.c_prev.clone())];
        let Some(state_axes) = both(states.each_ref().map(|source| emit::axes(source, &self.forms, constants))) else { return Ok(None) };
        let results = [&last.h, &last.c].map(|name| self.forms.facts.axes(name, constants).and_then(|axes| Rows::of(&axes)));
        let x_axes = emit::axes(&Source::Pick(Pick { tensor: run.tensor.clone(), axis: run.axis, at: Place::Number(0) }), &self.forms, constants);
        let zero = states.each_ref().map(|source| is_zero(source, self.maker.constants));
        let Some(x_axes) = x_axes else { return Ok(None) };
        let fits = |place: usize| zero[place] || (Rows::of(&state_axes[place]).is_some() && same_batch(&x_axes, &state_axes[place]));
        if results != [Some(Rows::Matrix); 2] || Rows::of(&x_axes) != Some(Rows::Matrix) || !fits(0) || !fits(1) {
            return Ok(None);
        }
        let Some(weights) = self.maker.weights(first)? else { return Ok(None) };
        let x = self.time_first(run, &last.h);
        let [h_0, c_0] = [0, 1].map(|place| match Rows::of(&state_axes[place]).filter(|_| !zero[place]) {
            Some(kind) => {
                let state = self.maker.tensor(&states[place], &last.h);
                self.whole(&state, kind, &last.h)
            }
            None => String::new(),
        });
        let [y, y_h, y_c] = self.maker.lstm(last, &weights, Reads { x, h_0, c_0 }, run.backwards);
        let flat = self.maker.fresh(&last.h, "sequence");
        self.maker.change_axes("Squeeze", &y, &[1], flat.clone());
        self.forms.facts.set_axes(&flat, vec![run.count.clone(), x_axes[0].clone(), Dim::Known(last.hidden)]);
        self.forms.facts.set_float(&flat);
        self.exact.insert(flat.clone());
        Ok(Some(Made { flat, y_h, y_c }))
    }

    /// The rows that the steps take, if they follow each other on one axis of one tensor.
    fn rows(&self, steps: &[&Cell]) -> Option<Run> {
        let mut places = Vec::with_capacity(steps.len());
        let mut of: Option<(&str, usize)> = None;
        for cell in steps {
            let [source] = cell.x.as_slice() else { return None };
            let pick = self.forms.pick(source)?;
            let Place::Number(place) = pick.at else { return None };
            let axes = self.forms.facts.axes(&pick.tensor, self.maker.constants)?;
            let place = match axes.get(pick.axis)? {
                Dim::Known(size) => wrapped(place, *size)?,
                _ => usize::try_from(place).ok()?,
            };
            if axes.len() != 3 || pick.axis > 1 || *of.get_or_insert((&pick.tensor, pick.axis)) != (&pick.tensor, pick.axis) {
                return None;
            }
            places.push(place);
        }
        let (tensor, axis) = of?;
        let ascends = places.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let descends = places.windows(2).all(|pair| pair[0] == pair[1] + 1);
        let first = *places.iter().min()?;
        (ascends || descends).then(|| Run { tensor: tensor.to_owned(), axis, first, count: Dim::Known(steps.len()), all: false, backwards: descends })
    }

    /// The rows as `x [T, N, I]`.
    pub(super) fn time_first(&mut self, run: &Run, of: &str) -> String {
        let mut x = run.tensor.clone();
        if let Dim::Known(count) = run.count
            && !self.takes_all(&x, run)
        {
            x = self.maker.sliced(&x, run.axis, run.first, count, of);
        }
        if run.axis == 0 { x } else { self.maker.made("Transpose", vec![x], of, "x", vec![emit::ints("perm", &[1, 0, 2])]) }
    }

    /// Whether the run is all that there is of `name`, by the way that is made.
    fn takes_all(&self, name: &str, run: &Run) -> bool {
        let axes = self.forms.facts.axes(name, self.maker.constants);
        run.all || self.exact.contains(name) && axes.is_some_and(|axes| axes.get(run.axis) == Some(&run.count))
    }

    /// Puts the whole sequence in the place of hidden states that are stacked again.
    fn stacks(&mut self, steps: &[&Cell], run: &Run, flat: &str, makers: &BTreeMap<&str, &Node>, replaced: &mut BTreeSet<String>) {
        let in_time: Vec<&str> =
            if run.backwards { steps.iter().rev().map(|cell| cell.h.as_str()).collect() } else { steps.iter().map(|cell| cell.h.as_str()).collect() };
        let stacks: Vec<(String, usize)> = makers
            .values()
            .filter(|node| node.is("Concat") && node.proto.input.len() == steps.len())
            .filter_map(|node| Some((node.output(0)?.to_owned(), self.stack(node, &in_time, makers)?)))
            .collect();
        for (output, axis) in stacks {
            let perm: &[i64] = match axis {
                0 => &[0, 1, 2],
                1 => &[1, 0, 2],
                _ => &[1, 2, 0],
            };
            self.maker.node("Transpose", vec![flat.to_owned()], vec![output.clone()], vec![emit::ints("perm", perm)]);
            self.exact.insert(output.clone());
            replaced.insert(output);
        }
    }

    /// The axis on which the node stacks exactly `hidden`.
    fn stack(&self, node: &Node, hidden: &[&str], makers: &BTreeMap<&str, &Node>) -> Option<usize> {
        /// of a stack `[T, N, H]`
        const RANK: usize = 3;
        let axis = wrapped(node.proto.attribute("axis")?.i, RANK)?;
        for (name, hidden) in node.proto.input.iter().zip(hidden) {
            let unsqueeze = makers.get(self.forms.root(name)).filter(|node| node.is("Unsqueeze"))?;
            let axes = match unsqueeze.proto.attribute("axes") {
                Some(attribute) => attribute.ints.clone(),
                None => self.forms.facts.known_integers(unsqueeze.input(1)?, self.maker.constants)?,
            };
            let &[added] = axes.as_slice() else { return None };
            if self.forms.root(unsqueeze.input(0)?) != *hidden || wrapped(added, RANK)? != axis {
                return None;
            }
        }
        Some(axis)
    }
}
