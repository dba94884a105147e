//! What is known of tensors before a call: their axes, small whole numbers that follow from axes, and whether they are `float32`.
//!
//! Nodes are noted in the order in which they run. Whatever is not known is left out, never guessed.

mod axes;

use std::collections::{BTreeMap, BTreeSet};

use super::constants::Constants;
use super::graph::Node;
use super::operator;
use super::proto::ValueInfoProto;
use super::tensor::{FLOAT, is_half};
use crate::network::op::{Binary, Op};
use crate::tensor::{ElementType, TensorView};

/// The size of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Known(usize),
    /// that of this axis of a tensor that a call gives or an opaque node makes
    Of(String, usize),
    Unknown,
}

/// Longer names are not kept beside what is known of other tensors: a small file must not fill the memory.
pub(super) const MAX_NAME: usize = 1 << 10;

/// Tensors of more axes are not followed.
const MAX_RANK: usize = 16;

/// What is known of the tensors of a model, by name.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) opset: i64,
    axes: BTreeMap<String, Vec<Dim>>,
    /// elements of small tensors of whole numbers with one axis at most
    numbers: BTreeMap<String, Vec<Dim>>,
    floats: BTreeSet<String>,
}

/// Operators whose result has the axes and the element type of their first input.
const LIKE_FIRST: [&str; 21] = [
    "Identity",
    "Sigmoid",
    "Tanh",
    "Relu",
    "HardSigmoid",
    "Clip",
    "Elu",
    "LeakyRelu",
    "Softsign",
    "Softplus",
    "ThresholdedRelu",
    "Neg",
    "Abs",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Erf",
    "Softmax",
    "LayerNormalization",
    "PRelu",
];

/// Operators beside these whose result has the element type of their first input.
const SAME_TYPE: [&str; 22] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Sum",
    "Min",
    "Max",
    "MatMul",
    "Gemm",
    "Conv",
    "Transpose",
    "Gather",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Concat",
    "Expand",
    "Pad",
    "LSTM",
];

impl Facts {
    pub(super) fn new(opset: i64) -> Self {
        Self { opset, ..Self::default() }
    }

    /// A tensor that a call gives.
    pub(super) fn input(&mut self, info: &ValueInfoProto) {
        let Some(tensor_type) = info.value_type.as_ref().and_then(|value_type| value_type.tensor_type.as_ref()) else { return };
        if tensor_type.elem_type == FLOAT || is_half(tensor_type.elem_type) {
            self.floats.insert(info.name.clone());
        }
        if let Some(shape) = tensor_type.shape.as_ref().filter(|shape| shape.dim.len() <= MAX_RANK) {
            let size = |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0);
            let unknown = |axis: usize| if info.name.len() > MAX_NAME { Dim::Unknown } else { Dim::Of(info.name.clone(), axis) };
            let dim = |(axis, size): (usize, Option<usize>)| size.map_or_else(|| unknown(axis), Dim::Known);
            let axes = shape.dim.iter().map(|dim| size(dim.dim_value)).enumerate().map(dim).collect();
            self.axes.insert(info.name.clone(), axes);
        }
    }

    /// A tensor like another one.
    pub(super) fn like(&mut self, name: &str, other: &str, constants: &Constants) {
        if let Some(axes) = self.axes(other, constants) {
            self.axes.insert(name.to_owned(), axes);
        }
        if self.is_float(other, constants) {
            self.floats.insert(name.to_owned());
        }
    }

    /// A tensor with these axes.
    pub(super) fn set_axes(&mut self, name: &str, axes: Vec<Dim>) {
        self.axes.insert(name.to_owned(), axes);
    }

    /// A tensor of `float32`.
    pub(super) fn set_float(&mut self, name: &str) {
        self.floats.insert(name.to_owned());
    }

    /// The axes of `name`, where their number is known.
    pub(super) fn axes(&self, name: &str, constants: &Constants) -> Option<Vec<Dim>> {
        match constants.shape(name) {
            Some(shape) => Some(shape.into_iter().map(Dim::Known).collect()),
            None => self.axes.get(name).cloned(),
        }
    }

    /// The size of the last axis of `name`.
    pub(super) fn last(&self, name: &str, constants: &Constants) -> Option<usize> {
        match self.axes(name, constants)?.last()? {
            Dim::Known(size) => Some(*size),
            _ => None,
        }
    }

    /// Whether `name` is known to be of `float32`.
    pub(super) fn is_float(&self, name: &str, constants: &Constants) -> bool {
        if constants.contains(name) { constants.is_float32(name) } else { self.floats.contains(name) }
    }

    /// The elements of a small tensor of whole numbers, as far as they are known.
    pub(super) fn numbers(&self, name: &str, constants: &mut Constants) -> Option<Vec<Dim>> {
        if !constants.contains(name) {
            return self.numbers.get(name).cloned();
        }
        let values = self.integers(name, constants)?;
        Some(values.into_iter().map(|value| usize::try_from(value).map_or(Dim::Unknown, Dim::Known)).collect())
    }

    /// The number that `name` holds, where it is a whole one.
    pub(super) fn number(&self, name: &str, constants: &mut Constants) -> Option<Dim> {
        /// up to here every whole number is a `float32`
        const MOST: f32 = 16_777_216.0;
        if constants.contains(name)
            && constants.shape(name)?.iter().all(|&size| size == 1)
            && let TensorView::F32(values) = constants.get(name).ok()?
        {
            let value = values.first().copied().filter(|value| (0.0..=MOST).contains(value) && value.fract() == 0.0)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to MOST")]
            return Some(Dim::Known(value as usize));
        }
        let [number] = self.numbers(name, constants)?.try_into().ok()?;
        Some(number)
    }

    /// Gathers what is known of the results of `node`.
    pub(super) fn note(&mut self, node: &Node, constants: &mut Constants) {
        let known = operator::read(&node.proto, self.opset).ok().flatten();
        if let Some(axes) = self.results(node, known.as_ref(), constants) {
            for (output, axes) in node.proto.output.iter().zip(axes).filter(|(output, axes)| !output.is_empty() && axes.len() <= MAX_RANK) {
                self.axes.insert(output.clone(), axes);
            }
        }
        if let (Some(op), Some(output)) = (&known, node.output(0))
            && let Some(numbers) = self.whole(node, op, constants)
        {
            self.numbers.insert(output.to_owned(), numbers);
        }
        let first = if node.is("Where") { 1 } else { 0 };
        let same = (LIKE_FIRST.contains(&node.proto.op_type.as_str()) || SAME_TYPE.contains(&node.proto.op_type.as_str()) || node.is("Where"))
            && node.input(first).is_some_and(|name| self.is_float(name, constants));
        let made = match &known {
            Some(Op::Cast { to }) => *to == ElementType::F32,
            Some(Op::ConstantOfShape { value }) => value.view().element_type() == ElementType::F32,
            Some(Op::Reduce { .. }) => node.input(0).is_some_and(|name| self.is_float(name, constants)),
            _ => same && super::graph::is_onnx(&node.proto.domain),
        };
        if made {
            self.floats.extend(node.makes().map(str::to_owned));
        }
    }

    /// Whole numbers that follow from axes.
    fn whole(&self, node: &Node, op: &Op, constants: &mut Constants) -> Option<Vec<Dim>> {
        /// more are data, not axes
        const MOST: usize = 64;
        let input = node.input(0)?;
        let made = match op {
            Op::Shape { start, end } => {
                let axes = self.axes(input, constants)?;
                let rank = i64::try_from(axes.len()).ok()?;
                let place = |value: i64| usize::try_from(if value < 0 { value.saturating_add(rank) } else { value }.clamp(0, rank)).ok();
                let (start, end) = (place(*start)?, place(end.unwrap_or(rank))?);
                axes[start.min(end)..end].to_vec()
            }
            Op::Identity | Op::Squeeze { .. } | Op::Unsqueeze { .. } => self.numbers(input, constants)?,
            Op::Cast { to: ElementType::I32 | ElementType::I64 | ElementType::F32 } => self.numbers(input, constants)?,
            Op::Gather { axis: 0 } => {
                let numbers = self.numbers(input, constants)?;
                let places = self.integers(node.input(1)?, constants)?;
                places.iter().map(|&place| Some(numbers.get(wrapped(place, numbers.len())?)?.clone())).collect::<Option<_>>()?
            }
            Op::Concat { axis: 0 } => {
                let parts = node.proto.input.iter().map(|name| self.numbers(name, constants)).collect::<Option<Vec<_>>>()?;
                parts.concat()
            }
            Op::Slice { .. } => {
                let numbers = self.numbers(input, constants)?;
                let [slice] = self.slices(node, op, constants)?.try_into().ok()?;
                let (start, end) = slice.bounds(numbers.len())?;
                numbers[start..end].to_vec()
            }
            Op::Binary(binary) => {
                let (left, right) = (self.numbers(input, constants)?, self.numbers(node.input(1)?, constants)?);
                let whole = |left: &Dim, right: &Dim| match (binary, left, right) {
                    (Binary::Add, Dim::Known(left), Dim::Known(right)) => left.checked_add(*right),
                    (Binary::Mul, Dim::Known(left), Dim::Known(right)) => left.checked_mul(*right),
                    (Binary::Div, Dim::Known(left), Dim::Known(right)) => left.checked_div(*right),
                    _ => None,
                };
                let at = |numbers: &[Dim], place: usize| numbers[if numbers.len() == 1 { 0 } else { place }].clone();
                let count = left.len().max(right.len());
                if count == 0 || [&left, &right].iter().any(|numbers| ![1, count].contains(&numbers.len())) {
                    return None;
                }
                (0..count).map(|place| whole(&at(&left, place), &at(&right, place)).map_or(Dim::Unknown, Dim::Known)).collect()
            }
            _ => return None,
        };
        (made.len() <= MOST).then_some(made)
    }

    /// As [`Facts::integers`], of what was decoded already.
    pub(super) fn known_integers(&self, name: &str, constants: &Constants) -> Option<Vec<i64>> {
        match constants.decoded(name)? {
            TensorView::I64(values) => Some(values.iter().copied().collect()),
            _ => None,
        }
    }

    /// The elements of a small tensor of whole numbers where all of them are known.
    pub(super) fn integers(&self, name: &str, constants: &mut Constants) -> Option<Vec<i64>> {
        /// axes and places are few
        const MOST_BYTES: usize = 1 << 12;
        if !constants.contains(name) {
            let known = |dim: &Dim| if let Dim::Known(size) = dim { i64::try_from(*size).ok() } else { None };
            return self.numbers.get(name)?.iter().map(known).collect();
        }
        if constants.bytes(name)? > MOST_BYTES || constants.shape(name)?.len() > 1 {
            return None;
        }
        match constants.get(name).ok()? {
            TensorView::I64(values) => Some(values.iter().copied().collect()),
            TensorView::I32(values) => Some(values.iter().map(|&value| value.into()).collect()),
            _ => None,
        }
    }

    /// What `node`, which is the `Squeeze` `op`, drops of `rank` axes.
    pub(super) fn dropped(&self, node: &Node, op: &Op, rank: usize, constants: &mut Constants) -> Axes {
        let Op::Squeeze { axes } = op else { return Axes::Unreadable };
        if axes.is_none() && node.input(1).is_none() {
            return Axes::All;
        }
        let axes = self.axes_of(node, op, constants).and_then(|axes| axes.iter().map(|&axis| wrapped(axis, rank)).collect());
        axes.map_or(Axes::Unreadable, Axes::These)
    }

    /// The axes of a `Squeeze` or `Unsqueeze` that names some.
    pub(super) fn axes_of(&self, node: &Node, op: &Op, constants: &mut Constants) -> Option<Vec<i64>> {
        match op {
            Op::Squeeze { axes: Some(axes) } | Op::Unsqueeze { axes: Some(axes) } => Some(axes.clone()),
            Op::Squeeze { .. } | Op::Unsqueeze { .. } => self.integers(node.input(1)?, constants),
            _ => None,
        }
    }

    /// What a `Slice` takes, axis by axis, where constants say it.
    pub(super) fn slices(&self, node: &Node, op: &Op, constants: &mut Constants) -> Option<Vec<Range>> {
        let Op::Slice { ranges } = op else { return None };
        let (starts, ends, axes, steps) = match ranges {
            Some(ranges) => (ranges.starts.clone(), ranges.ends.clone(), ranges.axes.clone(), ranges.steps.clone()),
            None => {
                let mut optional = |place: usize| match node.input(place) {
                    Some(name) => self.integers(name, constants).map(Some),
                    None => Some(None),
                };
                (optional(1)??, optional(2)??, optional(3)?, optional(4)?)
            }
        };
        let count = starts.len();
        let axes = axes.unwrap_or_else(|| (0..).take(count).collect());
        let steps = steps.unwrap_or_else(|| vec![1; count]);
        let lens_agree = [ends.len(), axes.len(), steps.len()].iter().all(|&len| len == count);
        lens_agree.then(|| (0..count).map(|at| Range { axis: axes[at], start: starts[at], end: ends[at], step: steps[at] }).collect())
    }

    /// The sizes of the parts of a `Split` of an axis.
    pub(super) fn parts(&self, node: &Node, op: &Op, dim: &Dim, constants: &mut Constants) -> Option<Vec<usize>> {
        let Op::Split { parts, .. } = op else { return None };
        let sizes = match (&parts.sizes, node.input(1)) {
            (Some(sizes), _) => Some(sizes.clone()),
            (None, Some(name)) => Some(self.integers(name, constants)?),
            (None, None) => None,
        };
        match (sizes, dim) {
            (Some(sizes), _) => sizes.iter().map(|&size| usize::try_from(size).ok()).collect(),
            (None, Dim::Known(size)) if size.is_multiple_of(parts.outputs.max(1)) => Some(vec![size / parts.outputs.max(1); parts.outputs]),
            _ => None,
        }
    }
}

/// The axis `axis`, which may count from the end.
pub(super) fn wrapped(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

/// What a `Squeeze` drops.
pub(super) enum Axes {
    These(Vec<usize>),
    /// all of size 1
    All,
    Unreadable,
}

/// What a `Slice` takes of one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) axis: i64,
    start: i64,
    end: i64,
    step: i64,
}

impl Range {
    /// The elements from here on and before there, of an axis of `size`; `None` for every other one or backwards.
    pub(super) fn bounds(&self, size: usize) -> Option<(usize, usize)> {
        let rank = i64::try_from(size).ok()?;
        let place = |value: i64| usize::try_from(if value < 0 { value.saturating_add(rank) } else { value }.clamp(0, rank)).ok();
        let (start, end) = (place(self.start)?, place(self.end)?);
        (self.step == 1).then_some((start.min(end), end))
    }

    /// Whether it takes all, however many there are.
    pub(super) fn is_whole(&self) -> bool {
        (self.start, self.step) == (0, 1) && self.end >= i64::from(i32::MAX)
    }
}
