//! The axes of what operators make.

use super::{Axes, Dim, Facts, LIKE_FIRST, wrapped};
use crate::formats::onnx::constants::Constants;
use crate::formats::onnx::graph::{Node, is_onnx};
use crate::network::op::Op;

/// Operators beside [`LIKE_FIRST`] whose result has the axes of their first input.
const SAME_AXES: [&str; 13] =
    ["Cast", "Not", "BatchNormalization", "InstanceNormalization", "Dropout", "Floor", "Ceil", "Round", "Sign", "Selu", "HardSwish", "Gelu", "Mish"];

/// Operators of two inputs or more that spread them over each other.
const SPREAD: [&str; 15] = ["Add", "Sub", "Mul", "Div", "Pow", "Where", "Equal", "Less", "Greater", "And", "Or", "Xor", "Min", "Max", "Sum"];

impl Facts {
    /// The axes of every result of `node`.
    pub(super) fn results(&self, node: &Node, op: Option<&Op>, constants: &mut Constants) -> Option<Vec<Vec<Dim>>> {
        let op_type = node.proto.op_type.as_str();
        if !is_onnx(&node.proto.domain) {
            return None;
        }
        let first = || self.axes(node.input(0)?, constants);
        if LIKE_FIRST.contains(&op_type) || SAME_AXES.contains(&op_type) {
            return Some(vec![first()?]);
        }
        if SPREAD.contains(&op_type) || op_type.ends_with("OrEqual") {
            let mut axes = first()?;
            for name in &node.proto.input[1..] {
                axes = spread(&axes, &self.axes(name, constants)?);
            }
            return Some(vec![axes]);
        }
        Some(match op_type {
            "MatMul" => vec![product(first()?, &self.axes(node.input(1)?, constants)?)?],
            "Gemm" => {
                let turned = |name: &str| node.proto.attribute(name).is_some_and(|attribute| attribute.i != 0);
                let (left, right) = (first()?, self.axes(node.input(1)?, constants)?);
                let rows = left.get(usize::from(turned("transA")))?.clone();
                vec![vec![rows, right.get(usize::from(!turned("transB")))?.clone()]]
            }
            "Conv" | "ConvTranspose" => {
                let weights = constants.shape(node.input(1)?)?;
                let batch = first().and_then(|axes| axes.first().cloned()).unwrap_or(Dim::Unknown);
                let channels = if op_type == "Conv" { Dim::Known(*weights.first()?) } else { Dim::Unknown };
                let mut axes = vec![Dim::Unknown; weights.len()];
                let [first, second, ..] = axes.as_mut_slice() else { return None };
                (*first, *second) = (batch, channels);
                vec![axes]
            }
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => {
                let mut axes = first()?;
                axes.iter_mut().skip(2).for_each(|dim| *dim = Dim::Unknown);
                vec![axes]
            }
            "Pad" => vec![vec![Dim::Unknown; first()?.len()]],
            "LSTM" => {
                let (x, r) = (first()?, constants.shape(node.input(2)?)?);
                let (dirs, hidden) = (Dim::Known(*r.first()?), Dim::Known(*r.get(2)?));
                if node.proto.attribute("layout").is_some_and(|attribute| attribute.i != 0) {
                    return None;
                }
                let state = vec![dirs.clone(), x.get(1)?.clone(), hidden.clone()];
                vec![vec![x[0].clone(), dirs, x.get(1)?.clone(), hidden], state.clone(), state]
            }
            _ => return self.moved(node, op?, constants),
        })
    }

    /// The axes after an operator that changes them.
    fn moved(&self, node: &Node, op: &Op, constants: &mut Constants) -> Option<Vec<Vec<Dim>>> {
        let mut axes = match node.input(0) {
            Some(name) => self.axes(name, constants),
            None => None,
        };
        let rank = |axes: &Option<Vec<Dim>>| axes.as_ref().map(Vec::len);
        Some(match op {
            Op::Transpose { perm: None } => vec![axes?.into_iter().rev().collect()],
            Op::Transpose { perm: Some(perm) } => {
                let axes = axes?;
                vec![perm.iter().map(|&axis| axes.get(wrapped(axis, axes.len())?).cloned()).collect::<Option<_>>()?]
            }
            Op::Gather { axis } => {
                let axis = wrapped(*axis, rank(&axes)?)?;
                let places = self.axes(node.input(1)?, constants)?;
                axes.as_mut()?.splice(axis..=axis, places);
                vec![axes?]
            }
            Op::Squeeze { .. } => {
                let mut axes = axes?;
                match self.dropped(node, op, axes.len(), constants) {
                    Axes::Unreadable => return None,
                    Axes::These(gone) => drop_axes(&mut axes, &gone),
                    Axes::All if axes.iter().all(|dim| matches!(dim, Dim::Known(_))) => axes.retain(|dim| *dim != Dim::Known(1)),
                    Axes::All => return None,
                }
                vec![axes]
            }
            Op::Unsqueeze { .. } => {
                let mut axes = axes?;
                let added = self.axes_of(node, op, constants)?;
                let mut places = added.iter().map(|&axis| wrapped(axis, axes.len() + added.len())).collect::<Option<Vec<_>>>()?;
                places.sort_unstable();
                places.into_iter().for_each(|place| axes.insert(place.min(axes.len()), Dim::Known(1)));
                vec![axes]
            }
            Op::Slice { .. } => {
                let mut axes = axes?;
                for slice in self.slices(node, op, constants)? {
                    let axis = wrapped(slice.axis, axes.len())?;
                    axes[axis] = match axes[axis] {
                        Dim::Known(size) => slice.bounds(size).map_or(Dim::Unknown, |(start, end)| Dim::Known(end - start)),
                        Dim::Of(..) if slice.is_whole() => continue,
                        _ => Dim::Unknown,
                    };
                }
                vec![axes]
            }
            Op::Split { axis, .. } => {
                let axes = axes?;
                let axis = wrapped(*axis, axes.len())?;
                let parts = self.parts(node, op, &axes[axis], constants);
                let part = |place: usize| parts.as_ref().and_then(|parts| parts.get(place)).map_or(Dim::Unknown, |part| Dim::Known(*part));
                let with = |place: usize| axes.iter().enumerate().map(|(at, dim)| if at == axis { part(place) } else { dim.clone() }).collect();
                (0..node.proto.output.len()).map(with).collect()
            }
            Op::Concat { axis } => {
                let mut joined = axes?;
                let axis = wrapped(*axis, joined.len())?;
                for name in &node.proto.input[1..] {
                    let other = self.axes(name, constants)?;
                    joined[axis] = match (&joined[axis], other.get(axis)?) {
                        (Dim::Known(left), Dim::Known(right)) => Dim::Known(left.checked_add(*right)?),
                        _ => Dim::Unknown,
                    };
                }
                vec![joined]
            }
            Op::Reshape { .. } => vec![reshaped(axes.as_deref(), &targets(node, self, constants)?)],
            Op::ConstantOfShape { .. } => vec![self.numbers(node.input(0)?, constants)?],
            Op::Expand => vec![spread(&axes?, &self.numbers(node.input(1)?, constants)?)],
            Op::Flatten { .. } => vec![vec![Dim::Unknown; 2]],
            Op::Reduce { keep_dims, axes: gone, .. } => {
                let mut axes = axes?;
                let gone = match (gone, node.input(1)) {
                    (Some(gone), _) if !gone.is_empty() => gone.clone(),
                    (None, Some(name)) => self.integers(name, constants)?,
                    _ => return None,
                };
                let gone = gone.iter().map(|&axis| wrapped(axis, axes.len())).collect::<Option<Vec<_>>>()?;
                gone.iter().for_each(|&axis| axes[axis] = Dim::Known(1));
                if !keep_dims {
                    drop_axes(&mut axes, &gone);
                }
                vec![axes]
            }
            _ => return None,
        })
    }
}

/// The sizes that a `Reshape` asks for; `None` for one that stands for the rest or for the old one.
fn targets(node: &Node, facts: &Facts, constants: &mut Constants) -> Option<Vec<Option<Dim>>> {
    let name = node.input(1)?;
    match facts.integers(name, constants) {
        Some(values) => Some(values.into_iter().map(|value| usize::try_from(value).ok().filter(|&value| value > 0).map(Dim::Known)).collect()),
        None => Some(facts.numbers(name, constants)?.into_iter().map(|dim| (dim != Dim::Known(0)).then_some(dim)).collect()),
    }
}

fn reshaped(from: Option<&[Dim]>, to: &[Option<Dim>]) -> Vec<Dim> {
    let len = |dims: &[Dim]| dims.iter().try_fold(1_usize, |len, dim| if let Dim::Known(size) = dim { len.checked_mul(*size) } else { None });
    let mut axes: Vec<Dim> = to.iter().map(|dim| dim.clone().unwrap_or(Dim::Unknown)).collect();
    let mut open = (0..to.len()).filter(|&axis| to[axis].is_none());
    if let (Some(axis), None, Some(total)) = (open.next(), open.next(), from.and_then(len)) {
        let others: Vec<Dim> = axes.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, dim)| dim.clone()).collect();
        if let Some(others) = len(&others).filter(|&others| others > 0) {
            axes[axis] = Dim::Known(total / others);
        }
    }
    axes
}

/// The axes of a result of operands with these axes.
fn spread(left: &[Dim], right: &[Dim]) -> Vec<Dim> {
    let rank = left.len().max(right.len());
    let at = |axes: &[Dim], axis: usize| (axis + axes.len()).checked_sub(rank).map_or(Dim::Known(1), |axis| axes[axis].clone());
    let both = |axis: usize| match (at(left, axis), at(right, axis)) {
        (Dim::Known(1), dim) | (dim, Dim::Known(1)) => dim,
        // a size of which nothing is known is this one, or 1
        (Dim::Known(size), _) | (_, Dim::Known(size)) => Dim::Known(size),
        (left, right) if left == right => left,
        _ => Dim::Unknown,
    };
    (0..rank).map(both).collect()
}

fn product(mut left: Vec<Dim>, right: &[Dim]) -> Option<Vec<Dim>> {
    let columns = right.last()?.clone();
    if left.len() >= 2 && right.len() == 2 {
        *left.last_mut()? = columns;
        return Some(left);
    }
    if left.len() < 2 || right.len() < 2 {
        return None;
    }
    let rows = left[left.len() - 2].clone();
    let mut axes = spread(&left[..left.len() - 2], &right[..right.len() - 2]);
    axes.extend([rows, columns]);
    Some(axes)
}

fn drop_axes(axes: &mut Vec<Dim>, gone: &[usize]) {
    let mut place = 0;
    axes.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
}
