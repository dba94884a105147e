//! Which sums of two products are the cell state of an LSTM, and which tensors play which part in it.

use std::collections::{BTreeMap, BTreeSet};

use super::follow::Forms;
use super::form::{Form, Gate, Part, Source};
use crate::formats::onnx::constants::Constants;
use crate::formats::onnx::facts::Dim;
use crate::formats::onnx::graph::Node;
use crate::network::{Activation, CellActivations};

/// Readers of one tensor that are looked at; more are no cell.
const MAX_READERS: usize = 8;

/// One step of an LSTM, written as elementary operators: `c = f * c_prev + i * g`, `h = o * output(c)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// of the input, output, forget gate and the candidate, in ONNX's order
    pub(super) gates: [Form; 4],
    pub(super) activations: CellActivations,
    /// what the gates read beside `h_prev`, in the order in which it is joined
    pub(super) x: Vec<Source>,
    pub(super) h_prev: Source,
    pub(super) c_prev: String,
    pub(super) h: String,
    pub(super) c: String,
    pub(super) hidden: usize,
}

/// Who reads each tensor: how often nodes do, and which nodes, by operator.
#[derive(Debug, Default)]
pub(super) struct Readers {
    counts: BTreeMap<String, usize>,
    /// read by something else than `Shape`
    wanted: BTreeSet<String>,
}

impl Readers {
    /// Of `nodes` and whoever reads `outputs`; copies count as what they are copies of.
    pub(super) fn new<'n>(nodes: impl Iterator<Item = &'n Node>, outputs: &[String], forms: &Forms) -> Self {
        let mut this = Self::default();
        for node in nodes {
            // a copy reads nothing that its own readers do not read
            let is_copy = (node.is("Identity") || node.is("Cast")) && node.output(0).is_some_and(|name| forms.root(name) != name);
            for name in node.reads().into_iter().filter(|_| !is_copy) {
                this.read(forms.root(name), !node.is("Shape"));
            }
        }
        outputs.iter().for_each(|name| this.read(forms.root(name), true));
        this
    }

    fn read(&mut self, name: &str, wanted: bool) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
        if wanted && !self.wanted.contains(name) {
            self.wanted.insert(name.to_owned());
        }
    }

    /// How often `name` is read.
    pub(super) fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or_default()
    }

    fn only_one(&self, name: &str) -> bool {
        self.count(name) == 1
    }
}

/// The tensors that take part in one way to read a sum as a cell state.
struct Roles<'a> {
    gates: [&'a Gate; 4],
    output: Activation,
    c_prev: &'a str,
    h: &'a str,
}

/// All cells, in the order of their sums.
pub(super) fn cells(forms: &Forms, readers: &Readers, constants: &mut Constants) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    // hidden states of cells by their cell states
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    for (c, products) in &forms.sums {
        let Some(roles) = roles(forms, readers, c, products) else { continue };
        if let Some(cell) = cell(forms, &roles, c, &states, constants) {
            states.insert(cell.c.clone(), cell.h.clone());
            cells.push(cell);
        }
    }
    cells
}

/// The roles of all that `c`, the sum of `products`, is made of and makes.
fn roles<'a>(forms: &'a Forms, readers: &Readers, c: &'a str, products: &'a [String; 2]) -> Option<Roles<'a>> {
    if products[0] == products[1] || !products.iter().all(|name| readers.only_one(name)) {
        return None;
    }
    // a gate belongs to its cell alone
    let gate = |name: &'a str| forms.gate(name).filter(|_| readers.only_one(forms.root(name)));
    for [kept, added] in [[0, 1], [1, 0]] {
        let (kept, added) = (forms.products.get(&products[kept])?, forms.products.get(&products[added])?);
        for [forget, c_prev] in [[0, 1], [1, 0]] {
            for [input, candidate] in [[0, 1], [1, 0]] {
                let (Some(f), Some(i), Some(g)) = (gate(&kept[forget]), gate(&added[input]), gate(&added[candidate])) else { continue };
                if f.activation != i.activation {
                    continue;
                }
                if let Some((o, output, h)) = output_of(forms, readers, c, f.activation) {
                    return Some(Roles { gates: [i, o, f, g], output, c_prev: &kept[c_prev], h });
                }
            }
        }
    }
    None
}

/// The output gate, the activation of the cell state and the hidden state that follow from the cell state `c`.
fn output_of<'a>(forms: &'a Forms, readers: &Readers, c: &str, of_gates: Activation) -> Option<(&'a Gate, Activation, &'a str)> {
    for (active, activation) in forms.activated.get(c)?.iter().take(MAX_READERS) {
        let Some(products) = forms.products_of.get(active).filter(|_| readers.only_one(active)) else { continue };
        for h in products.iter().take(MAX_READERS) {
            let [left, right] = forms.products.get(h)?;
            let other = if forms.root(left) == active { right } else { left };
            let gate = forms.gate(other).filter(|gate| gate.activation == of_gates && readers.only_one(forms.root(other)));
            if let Some(gate) = gate
                && readers.wanted.contains(h)
            {
                return Some((gate, *activation, h));
            }
        }
    }
    None
}

/// The cell of these roles, if its sizes and what its gates read are those of an LSTM.
fn cell(forms: &Forms, roles: &Roles<'_>, c: &str, states: &BTreeMap<String, String>, constants: &mut Constants) -> Option<Cell> {
    let hidden = roles.gates[0].form.width;
    if roles.gates.iter().any(|gate| gate.form.width != hidden) || !forms.facts.is_float(roles.c_prev, constants) {
        return None;
    }
    // every source with the size of its last axis
    let mut sources: Vec<(Source, usize)> = Vec::new();
    for part in roles.gates.iter().flat_map(|gate| &gate.form.parts) {
        let Some(source) = &part.source else { continue };
        match sources.iter().find(|(known, _)| known == source) {
            Some((_, inputs)) if *inputs != part.inputs => return None,
            Some(_) => {}
            None => sources.push((source.clone(), part.inputs)),
        }
    }
    let reads_all = |form: &Form| sources.iter().all(|(source, _)| form.parts.iter().any(|part: &Part| part.source.as_ref() == Some(source)));
    if sources.len() < 2 || !roles.gates.iter().all(|gate| reads_all(&gate.form)) {
        return None;
    }
    let h_prev = hidden_source(forms, &sources, roles.c_prev, hidden, states, constants)?;
    let x: Vec<Source> = sources.into_iter().map(|(source, _)| source).filter(|source| *source != h_prev).collect();
    let cell = Cell {
        gates: roles.gates.map(|gate| gate.form.clone()),
        activations: CellActivations { gate: roles.gates[0].activation, candidate: roles.gates[3].activation, output: roles.output },
        x,
        h_prev,
        c_prev: roles.c_prev.to_owned(),
        h: roles.h.to_owned(),
        c: c.to_owned(),
        hidden,
    };
    Some(cell)
}

/// Which of the sources is the hidden state. Of two that could be, either makes the same step; the one that is made like `c_prev` is taken.
fn hidden_source(
    forms: &Forms,
    sources: &[(Source, usize)],
    c_prev: &str,
    hidden: usize,
    states: &BTreeMap<String, String>,
    constants: &mut Constants,
) -> Option<Source> {
    let could_be = || sources.iter().filter(|(_, inputs)| *inputs == hidden).map(|(source, _)| source);
    let previous = states.get(c_prev).map(|h| Source::Tensor(h.clone()));
    let of_c = Source::Tensor(c_prev.to_owned());
    let axes = forms.facts.axes(c_prev, constants);
    let is_previous = |source: &&Source| previous.as_ref() == Some(*source);
    let has_origin = |source: &&Source| forms.origin(source) == forms.origin(&of_c);
    let has_axes = |source: &&Source| matches!(source, Source::Tensor(name) if axes.is_some() && forms.facts.axes(name, constants) == axes);
    let found = could_be().find(is_previous);
    let found = found.or_else(|| could_be().find(has_origin));
    found.or_else(|| could_be().rfind(has_axes)).or_else(|| could_be().next_back()).cloned()
}

/// The sizes of all axes but the last.
pub(super) fn rows(axes: &[Dim]) -> &[Dim] {
    axes.split_last().map_or(&[], |(_, rows)| rows)
}
