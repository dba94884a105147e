//! What a layout operator does to a tensor, in steps that an array on the host and a place in a device's buffer both know.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use super::shape;
use crate::error::{Error, Result};
use crate::network::Strided;

/// One step. Axes and indices are inside the tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// the axes in this order
    Permute(Vec<usize>),
    /// on `axis` the `len` indices `start`, `start + step`, ...
    Slice { axis: usize, start: usize, len: usize, step: isize },
    /// one index of an axis, without the axis
    At { axis: usize, index: usize },
    /// a new axis of size 1
    Insert { axis: usize },
    /// every axis of size 1 as often as this shape says, which may have more axes in front
    Broadcast(Vec<usize>),
    /// the same elements under other axes
    Reshape(Vec<usize>),
}

/// The shape after `moves`; an error where no tensor has it, or has one of those between.
pub(super) fn shape_after(shape: &[usize], moves: &[Move]) -> Result<Vec<usize>> {
    let mut shape = shape.to_vec();
    for step in moves {
        match step {
            Move::Permute(perm) => shape = perm.iter().map(|&axis| shape[axis]).collect(),
            Move::Slice { axis, len, .. } => shape[*axis] = *len,
            Move::At { axis, .. } => drop(shape.remove(*axis)),
            Move::Insert { axis } => shape.insert(*axis, 1),
            Move::Broadcast(target) | Move::Reshape(target) => shape.clone_from(target),
        }
        shape::len(&shape)?;
    }
    Ok(shape)
}

/// The place after `moves`; `None` where the elements would have to move.
pub(super) fn relaid(place: &Strided, moves: &[Move]) -> Option<Strided> {
    moves.iter().try_fold(place.clone(), |place, step| {
        Some(match step {
            Move::Permute(perm) => place.permuted(perm),
            Move::Slice { axis, start, len, step } => place.sliced(*axis, *start, *len, *step),
            Move::At { axis, index } => place.at(*axis, *index),
            Move::Insert { axis } => place.inserted(*axis),
            Move::Broadcast(shape) => place.broadcast(shape),
            Move::Reshape(shape) => place.reshaped(shape)?,
        })
    })
}

fn stepped<'a, T>(mut view: ArrayViewD<'a, T>, step: &Move) -> Option<ArrayViewD<'a, T>> {
    Some(match step {
        Move::Permute(perm) => view.permuted_axes(perm.as_slice()),
        Move::Slice { axis, start, len, step } => {
            view.slice_axis_inplace(Axis(*axis), range(*start, *len, *step));
            view
        }
        Move::At { axis, index } => view.index_axis_move(Axis(*axis), *index),
        Move::Insert { axis } => view.insert_axis(Axis(*axis)),
        // a broadcast view of ndarray lives no longer than the view it is made of
        Move::Broadcast(_) => return None,
        Move::Reshape(shape) => view.into_shape_with_order(shape.as_slice()).ok()?,
    })
}

/// The same for ndarray, which first takes a part and then walks it backwards.
fn range(start: usize, len: usize, step: isize) -> Slice {
    let Some(more) = len.checked_sub(1) else { return Slice::new(0, Some(0), 1) };
    let reach = more * step.unsigned_abs();
    let (low, high) = if step < 0 { (start - reach, start) } else { (start, start + reach) };
    Slice::new(low.cast_signed(), Some(high.cast_signed() + 1), step)
}

/// A copy of what `moves` make of `view`, in row-major order.
pub(super) fn copied<T: Copy>(view: ArrayViewD<'_, T>, moves: &[Move]) -> Result<ArrayD<T>> {
    let Some((step, rest)) = moves.split_first() else {
        return Ok(view.as_standard_layout().into_owned());
    };
    let impossible = |shape: &[usize]| Error::shape(format!("shape: expected one to turn into {shape:?}, found {:?}", view.shape()));
    match step {
        Move::Broadcast(shape) => copied(view.broadcast(IxDyn(shape)).ok_or_else(|| impossible(shape))?, rest),
        Move::Reshape(shape) => {
            let reshaped = view.to_shape(shape.as_slice()).map_err(|error| impossible(shape).with_source(error))?;
            // what had to be copied for this is the result already
            if rest.is_empty() && !reshaped.is_view() { Ok(reshaped.into_owned()) } else { copied(reshaped.view(), rest) }
        }
        _ => match stepped(view, step) {
            Some(view) => copied(view, rest),
            None => Err(Error::shape(format!("layout: expected a step that makes a view, found {step:?}"))),
        },
    }
}
