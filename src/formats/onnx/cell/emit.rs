//! `LSTM` nodes in the place of cells, with weights put together from the constants that the gates name.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView2, Axis, Ix2, s};

use super::find::{Cell, rows};
use super::follow::Forms;
use super::form::{Form, Part, Place, Source};
use crate::error::Result;
use crate::formats::onnx::constants::Constants;
use crate::formats::onnx::facts::Dim;
use crate::formats::onnx::graph::Node;
use crate::formats::onnx::proto::{AttributeKind, AttributeProto, NodeProto};
use crate::network::Activation;
use crate::tensor::Tensor;

/// The opset from which on the axes of `Squeeze` and `Unsqueeze` are an input.
const AXES_INPUT_OPSET: i64 = 13;

/// Names of the weights of a node: W, R and, where there are biases, B.
pub(super) type WeightNames = [String; 3];

/// Makes nodes and constants with names that nobody has.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) constants: &'a mut Constants,
    pub(super) taken: BTreeSet<String>,
    pub(super) opset: i64,
    /// how many more numbers the weights may have
    pub(super) room: usize,
    /// weights that are there already, by what they are made of
    weights: BTreeMap<String, WeightNames>,
    pub(super) nodes: Vec<Node>,
}

/// What an `LSTM` node reads beside its weights; empty where it is left out.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub(super) x: String,
    pub(super) h_0: String,
    pub(super) c_0: String,
}

impl<'a> Maker<'a> {
    pub(super) fn new(constants: &'a mut Constants, taken: BTreeSet<String>, opset: i64, room: usize) -> Self {
        Self { constants, taken, opset, room, weights: BTreeMap::new(), nodes: Vec::new() }
    }

    /// A name that nobody has.
    pub(super) fn fresh(&mut self, of: &str, what: &str) -> String {
        let plain = format!("{of}.{what}");
        let numbered = (2..).map(|number| format!("{plain}.{number}"));
        let name = std::iter::once(plain.clone()).chain(numbered).find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    /// Adds a node that makes `output`.
    pub(super) fn node(&mut self, op_type: &str, input: Vec<String>, output: Vec<String>, attribute: Vec<AttributeProto>) {
        let proto = NodeProto { op_type: op_type.to_owned(), input, output, attribute, ..NodeProto::default() };
        self.nodes.push(Node { proto, ..Node::default() });
    }

    /// Adds a node that makes one tensor, whose name comes back.
    pub(super) fn made(&mut self, op_type: &str, input: Vec<String>, of: &str, what: &str, attribute: Vec<AttributeProto>) -> String {
        let output = self.fresh(of, what);
        self.node(op_type, input, vec![output.clone()], attribute);
        output
    }

    /// A constant of whole numbers.
    pub(super) fn numbers(&mut self, values: &[i64], of: &str) -> String {
        let name = self.fresh(of, "axes");
        self.constants.insert_made(&name, Array1::from(values.to_vec()).into_dyn().into());
        name
    }

    /// Adds `Squeeze` or `Unsqueeze` to `output`.
    pub(super) fn change_axes(&mut self, op_type: &str, input: &str, axes: &[i64], output: String) {
        if self.opset < AXES_INPUT_OPSET {
            self.node(op_type, vec![input.to_owned()], vec![output], vec![ints("axes", axes)]);
        } else {
            let axes = self.numbers(axes, &output);
            self.node(op_type, vec![input.to_owned(), axes], vec![output], Vec::new());
        }
    }

    /// `count` places of an axis, from `first` on.
    pub(super) fn sliced(&mut self, input: &str, axis: usize, first: usize, count: usize, of: &str) -> String {
        /// the opset from which on the ranges are inputs
        const RANGES_INPUT_OPSET: i64 = 10;
        let [axis, start, end] = [axis, first, first.saturating_add(count)].map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        if self.opset < RANGES_INPUT_OPSET {
            let attributes = vec![ints("starts", &[start]), ints("ends", &[end]), ints("axes", &[axis])];
            return self.made("Slice", vec![input.to_owned()], of, "rows", attributes);
        }
        let ranges = [start, end, axis].map(|value| self.numbers(&[value], of));
        self.made("Slice", [vec![input.to_owned()], ranges.to_vec()].concat(), of, "rows", Vec::new())
    }

    /// The tensor that `source` stands for.
    pub(super) fn tensor(&mut self, source: &Source, of: &str) -> String {
        match source {
            Source::Tensor(name) => name.clone(),
            Source::Pick(pick) => {
                let place = match &pick.at {
                    Place::Tensor(name) => name.clone(),
                    Place::Number(place) => {
                        let name = self.fresh(of, "place");
                        self.constants.insert_made(&name, ndarray::arr0(*place).into_dyn().into());
                        name
                    }
                };
                let axis = i64::try_from(pick.axis).unwrap_or(i64::MAX);
                self.made("Gather", vec![pick.tensor.clone(), place], of, "row", vec![int("axis", axis)])
            }
        }
    }

    /// The `LSTM` node of a cell, with these weights; the names of `Y`, `Y_h` and `Y_c` come back.
    pub(super) fn lstm(&mut self, cell: &Cell, weights: &WeightNames, reads: Reads, reverse: bool) -> [String; 3] {
        let outputs = ["Y", "Y_h", "Y_c"].map(|what| self.fresh(&cell.h, what));
        let [w, r, b] = weights.clone();
        let mut input = vec![reads.x, w, r, b, String::new(), reads.h_0, reads.c_0];
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let mut attribute = vec![int("hidden_size", i64::try_from(cell.hidden).unwrap_or(i64::MAX))];
        let functions = [cell.activations.gate, cell.activations.candidate, cell.activations.output];
        if functions != [Activation::Sigmoid, Activation::Tanh, Activation::Tanh] {
            attribute.push(strings("activations", &functions.map(Activation::name)));
            let taken = |which: fn(&Activation) -> Option<f32>| functions.iter().filter_map(which).collect::<Vec<f32>>();
            attribute.push(floats("activation_alpha", taken(|function| function.takes().0.then_some(function.parameters().0))));
            attribute.push(floats("activation_beta", taken(|function| function.takes().1.then_some(function.parameters().1))));
        }
        if reverse {
            attribute.push(AttributeProto { s: b"reverse".to_vec(), ..named("direction", AttributeKind::String) });
        }
        let name = format!("cell of {}", cell.h);
        let proto = NodeProto { op_type: "LSTM".to_owned(), name, input, output: outputs.to_vec(), attribute, ..NodeProto::default() };
        self.nodes.push(Node { proto, ..Node::default() });
        outputs
    }

    /// W, R and B of a cell, made where no cell before had the same; `None` where there is no room for them.
    pub(super) fn weights(&mut self, cell: &Cell) -> Result<Option<WeightNames>> {
        let key = key(cell);
        if let Some(names) = self.weights.get(&key) {
            let names = names.clone();
            let numbers: usize = names.iter().filter_map(|name| self.constants.bytes(name)).map(|bytes| bytes / size_of::<f32>()).sum();
            // every node has a copy in the end
            let Some(room) = self.room.checked_sub(numbers) else { return Ok(None) };
            self.room = room;
            return Ok(Some(names));
        }
        let hidden = cell.hidden;
        let width = |source: &Source| cell.gates[0].parts.iter().find(|part| part.source.as_ref() == Some(source)).map_or(0, |part| part.inputs);
        let input: usize = cell.x.iter().map(width).sum();
        let numbers = input.checked_add(hidden).and_then(|both| both.checked_add(2)?.checked_mul(4 * hidden));
        let Some(room) = numbers.and_then(|numbers| self.room.checked_sub(numbers)) else { return Ok(None) };
        self.room = room;
        let mut w = Array3::zeros((1, 4 * hidden, input));
        let mut r = Array3::zeros((1, 4 * hidden, hidden));
        let mut b = Array2::zeros((1, 8 * hidden));
        for (gate, form) in cell.gates.iter().enumerate() {
            let outputs = gate * hidden..(gate + 1) * hidden;
            let mut biases = b.slice_mut(s![0, outputs.clone()]);
            biases += form.offset;
            for part in &form.parts {
                let Some(source) = &part.source else {
                    biases += &self.vector(part, hidden)?;
                    continue;
                };
                let matrix = self.matrix(part, hidden)?;
                if *source == cell.h_prev {
                    let mut place = r.slice_mut(s![0, outputs.clone(), ..]);
                    place += &matrix;
                    continue;
                }
                let first: usize = cell.x.iter().take_while(|other| *other != source).map(width).sum();
                let mut place = w.slice_mut(s![0, outputs.clone(), first..first + part.inputs]);
                place += &matrix;
            }
        }
        let mut put = |what: &str, array: ArrayD<f32>| {
            let name = self.fresh(&cell.h, what);
            self.constants.insert_made(&name, Tensor::from(array));
            name
        };
        let has_biases = cell.gates.iter().any(|form| form.offset != 0.0 || form.parts.iter().any(|part| part.source.is_none()));
        let (w, r) = (put("W", w.into_dyn()), put("R", r.into_dyn()));
        let b = if has_biases { put("B", b.into_dyn()) } else { String::new() };
        let names = [w, r, b];
        self.weights.insert(key, names.clone());
        Ok(Some(names))
    }

    /// The part of a matrix, `[H, inputs]`.
    fn matrix(&mut self, part: &Part, hidden: usize) -> Result<Array2<f32>> {
        let array = self.constants.float32(&part.constant)?;
        let view: ArrayView2<'_, f32> = array.view().into_dimensionality::<Ix2>().map_err(|error| crate::error::Error::format(error.to_string()))?;
        let view = if part.turned { view } else { view.reversed_axes() };
        let outputs = part.first_output..part.first_output + hidden;
        let inputs = part.first_input..part.first_input + part.inputs;
        if outputs.end > view.len_of(Axis(0)) || inputs.end > view.len_of(Axis(1)) {
            return Err(crate::error::Error::shape(format!("tensor `{}`: expected a matrix of at least {inputs:?} by {outputs:?}", part.constant)));
        }
        Ok(view.slice(s![outputs, inputs]).mapv(|value| value * part.scale))
    }

    /// The part of a vector of biases, `[H]`.
    fn vector(&mut self, part: &Part, hidden: usize) -> Result<Array1<f32>> {
        let array = self.constants.float32(&part.constant)?;
        Ok(array.iter().skip(part.first_output).take(hidden).map(|value| value * part.scale).collect())
    }
}

/// What the weights of a cell are made of, apart from what they are multiplied with.
pub(super) fn key(cell: &Cell) -> String {
    let form = |form: &Form| {
        let part = |part: &Part| {
            let place = match &part.source {
                None => "bias".to_owned(),
                Some(source) if *source == cell.h_prev => "h".to_owned(),
                Some(source) => format!("x{}", cell.x.iter().take_while(|other| *other != source).count()),
            };
            let Part { constant, turned, first_input, inputs, first_output, scale, .. } = part;
            format!("{place} {constant:?} {turned} {first_input} {inputs} {first_output} {}", scale.to_bits())
        };
        let mut parts: Vec<String> = form.parts.iter().map(part).collect();
        parts.sort();
        format!("{parts:?} {} {}", form.offset.to_bits(), form.width)
    };
    format!("{:?} {:?}", cell.gates.each_ref().map(form), cell.activations)
}

/// How the axes of a tensor become those that an LSTM takes, or become its own again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// `[N, ..]`
    Matrix,
    /// one row without an axis of its own
    Vector,
    /// as the LSTM has it
    Whole,
}

impl Rows {
    /// Of a tensor with these axes; `None` where it is neither of them.
    pub(super) fn of(axes: &[Dim]) -> Option<Self> {
        Some(match rows(axes) {
            [] if axes.len() == 1 => Self::Vector,
            [_] => Self::Matrix,
            [Dim::Known(1), _] => Self::Whole,
            _ => return None,
        })
    }

    /// The axes that are missing.
    pub(super) fn missing(self) -> &'static [i64] {
        match self {
            Self::Matrix => &[0],
            Self::Vector => &[0, 1],
            Self::Whole => &[],
        }
    }
}

/// The axes of what `source` stands for.
pub(super) fn axes(source: &Source, forms: &Forms, constants: &Constants) -> Option<Vec<Dim>> {
    match source {
        Source::Tensor(name) => forms.facts.axes(name, constants),
        Source::Pick(pick) => {
            let mut axes = forms.facts.axes(&pick.tensor, constants)?;
            (pick.axis < axes.len()).then(|| axes.remove(pick.axis))?;
            Some(axes)
        }
    }
}

fn named(name: &str, kind: AttributeKind) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: kind as i32, ..AttributeProto::default() }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..named(name, AttributeKind::Int) }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..named(name, AttributeKind::Ints) }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { floats, ..named(name, AttributeKind::Floats) }
}

fn strings(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto { strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(), ..named(name, AttributeKind::Strings) }
}
