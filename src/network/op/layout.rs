//! The layout operators: which steps make their results.

use std::borrow::Cow;

use super::moves::Move;
use super::operands::Operands;
use super::shape;
use super::{Op, Parts, Ranges};
use crate::error::{Error, Result};

impl Op {
    /// The steps that make every result of a tensor of `sizes`; `None` for what is not a layout operator. `operands` has the tensor itself
    /// in its first place, or nothing.
    pub(super) fn moves(&self, sizes: &[usize], operands: &Operands<'_, '_>) -> Result<Option<Vec<Vec<Move>>>> {
        let one = match self {
            Self::Identity => Vec::new(),
            Self::Transpose { perm } => vec![Move::Permute(permutation(perm.as_deref(), sizes.len())?)],
            Self::Reshape { allow_zero } => vec![Move::Reshape(shape::reshape(sizes, &operands.integers(1)?, *allow_zero)?)],
            Self::Flatten { axis } => vec![Move::Reshape(flat(sizes, *axis)?)],
            Self::Squeeze { axes } => squeeze(sizes, optional(axes.as_deref(), operands)?.as_deref())?,
            Self::Unsqueeze { axes: Some(axes) } => unsqueeze(sizes, axes)?,
            Self::Unsqueeze { axes: None } => unsqueeze(sizes, &operands.integers(1)?)?,
            Self::Slice { ranges: Some(ranges) } => slice(sizes, ranges)?,
            Self::Slice { ranges: None } => slice(sizes, &Ranges::of(operands)?)?,
            Self::Split { axis, parts } => return split(sizes, *axis, parts, operands).map(Some),
            Self::Gather { axis } if operands.required(1)?.shape().is_empty() => gather(sizes, *axis, operands)?,
            Self::Expand => {
                let target = shape::sizes(&operands.integers(1)?)?;
                vec![Move::Broadcast(shape::broadcast([sizes, target.as_slice()].into_iter())?)]
            }
            Self::Tile => tile(sizes, &operands.integers(1)?)?,
            _ => return Ok(None),
        };
        Ok(Some(vec![one]))
    }
}

impl Ranges {
    /// The ranges that the inputs 1 to 4 give.
    fn of(operands: &Operands<'_, '_>) -> Result<Self> {
        let list = |place| operands.optional(place).map(|_| operands.integers(place)).transpose();
        Ok(Self { starts: operands.integers(1)?, ends: operands.integers(2)?, axes: list(3)?, steps: list(4)? })
    }
}

/// Axes of an attribute, or of input 1 where the node has one.
pub(super) fn optional<'a>(axes: Option<&'a [i64]>, operands: &Operands<'_, '_>) -> Result<Option<Cow<'a, [i64]>>> {
    match axes {
        Some(axes) => Ok(Some(Cow::Borrowed(axes))),
        None => operands.optional(1).map(|_| operands.integers(1).map(Cow::Owned)).transpose(),
    }
}

fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let wrong = || Error::shape(format!("attribute `perm`: expected every one of {rank} axes once, found {perm:?}"));
    if perm.len() != rank || perm.iter().any(|&axis| axis < 0) {
        return Err(wrong());
    }
    shape::axes(perm, rank).map_err(|_| wrong())?;
    perm.iter().map(|&axis| shape::axis(axis, rank)).collect()
}

fn flat(sizes: &[usize], axis: i64) -> Result<Vec<usize>> {
    // the end, after the last axis, counts as one
    let from_end = if axis < 0 { sizes.len() as i64 } else { 0 };
    let place = usize::try_from(axis + from_end).ok().filter(|&place| place <= sizes.len());
    let rank = sizes.len();
    let axis = place.ok_or_else(|| Error::shape(format!("attribute `axis`: expected -{rank} to {rank}, found {axis}")))?;
    let (outer, inner) = sizes.split_at(axis);
    Ok(vec![outer.iter().product(), inner.iter().product()])
}

fn squeeze(sizes: &[usize], axes: Option<&[i64]>) -> Result<Vec<Move>> {
    let axes = match axes {
        Some(axes) if !axes.is_empty() => shape::axes(axes, sizes.len())?,
        _ => (0..sizes.len()).filter(|&axis| sizes[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| sizes[axis] != 1) {
        return Err(Error::shape(format!("axis {axis}: expected size 1 in order to leave it out, found {}", sizes[axis])));
    }
    Ok(axes.into_iter().rev().map(|axis| Move::At { axis, index: 0 }).collect())
}

fn unsqueeze(sizes: &[usize], axes: &[i64]) -> Result<Vec<Move>> {
    let axes = shape::axes(axes, sizes.len() + axes.len())?;
    Ok(axes.into_iter().map(|axis| Move::Insert { axis }).collect())
}

fn slice(sizes: &[usize], ranges: &Ranges) -> Result<Vec<Move>> {
    let Ranges { starts, ends, axes, steps } = ranges;
    let counts = [Some(starts), Some(ends), axes.as_ref(), steps.as_ref()].map(|list| list.map_or(starts.len(), Vec::len));
    if counts.iter().any(|&count| count != starts.len()) || starts.len() > sizes.len() {
        return Err(Error::shape(format!("starts, ends, axes and steps: expected one each for an axis of {sizes:?}, found {counts:?}")));
    }
    let axes = match axes {
        Some(axes) => axes.iter().map(|&axis| shape::axis(axis, sizes.len())).collect::<Result<Vec<_>>>()?,
        None => (0..starts.len()).collect(),
    };
    shape::axes(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>(), sizes.len())?;
    let range = |(place, axis): (usize, usize)| {
        let step = steps.as_ref().map_or(1, |steps| steps[place]);
        let (start, len) = clamped(sizes[axis], starts[place], ends[place], step)?;
        // of a single element the step does not matter, and may be larger than any tensor
        let step = if len > 1 { isize::try_from(step).unwrap_or(1) } else { 1 };
        Ok(Move::Slice { axis, start, len, step })
    };
    axes.into_iter().enumerate().map(range).collect()
}

/// The first index of a range on an axis of `size`, and how many there are.
fn clamped(size: usize, start: i64, end: i64, step: i64) -> Result<(usize, usize)> {
    if step == 0 {
        return Err(Error::shape("steps: expected another step than 0, found 0"));
    }
    let (size, step) = (size as i128, i128::from(step));
    let inside = |value: i64, low: i128, high: i128| (i128::from(value) + if value < 0 { size } else { 0 }).max(low).min(high);
    // backwards a start before the axis is its first index, other than in NumPy
    let (start, end) =
        if step > 0 { (inside(start, 0, size), inside(end, 0, size)) } else { (inside(start, 0, size - 1), inside(end, -1, size - 1)) };
    let len = ((end - start + step - step.signum()) / step).max(0);
    // both lie on the axis, whose size is a usize
    Ok((usize::try_from(start).unwrap_or(0), usize::try_from(len).unwrap_or(0)))
}

fn split(sizes: &[usize], axis: i64, parts: &Parts, operands: &Operands<'_, '_>) -> Result<Vec<Vec<Move>>> {
    let axis = shape::axis(axis, sizes.len())?;
    let (size, outputs) = (sizes[axis], parts.outputs);
    let given = optional(parts.sizes.as_deref(), operands)?;
    let lens = match given {
        Some(given) => {
            let lens = shape::sizes(&given)?;
            if lens.len() != outputs || lens.iter().try_fold(0_usize, |sum, &len| sum.checked_add(len)) != Some(size) {
                return Err(Error::shape(format!("split: expected {outputs} sizes that add up to {size}, found {given:?}")));
            }
            lens
        }
        None => {
            let len = size.div_ceil(outputs.max(1));
            let last = (len * outputs.saturating_sub(1) <= size).then(|| size - len * outputs.saturating_sub(1));
            match last.filter(|&last| last == len || parts.uneven) {
                Some(last) if outputs > 0 => (0..outputs).map(|part| if part + 1 == outputs { last } else { len }).collect(),
                _ => return Err(Error::shape(format!("axis {axis}: expected a size to split into {outputs} parts, found {size}"))),
            }
        }
    };
    let starts = lens.iter().scan(0, |end, len| {
        *end += len;
        Some(*end - len)
    });
    Ok(starts.zip(&lens).map(|(start, &len)| vec![Move::Slice { axis, start, len, step: 1 }]).collect())
}

fn gather(sizes: &[usize], axis: i64, operands: &Operands<'_, '_>) -> Result<Vec<Move>> {
    let axis = shape::axis(axis, sizes.len())?;
    let index = operands.integers(1)?.first().copied().unwrap_or(0);
    let found = shape::index(index, sizes[axis]).ok_or_else(|| outside(index, axis, sizes[axis]))?;
    Ok(vec![Move::At { axis, index: found }])
}

/// The error for an index that an axis does not have.
pub(super) fn outside(index: i64, axis: usize, size: usize) -> Error {
    Error::shape(format!("indices: expected -{size} or more and less than {size} for axis {axis}, found {index}"))
}

fn tile(sizes: &[usize], repeats: &[i64]) -> Result<Vec<Move>> {
    let repeats = shape::sizes(repeats)?;
    if repeats.len() != sizes.len() {
        return Err(Error::shape(format!("repeats: expected one for each axis of {sizes:?}, found {}", repeats.len())));
    }
    let target = sizes.iter().zip(&repeats).map(|(&size, &repeat)| size.checked_mul(repeat)).collect::<Option<Vec<_>>>();
    let target = target.ok_or_else(|| Error::limit(format!("repeats: expected a size that memory can have, found {repeats:?} of {sizes:?}")))?;
    shape::len(&target)?;
    // only where something repeats, for each such axis needs a second one on the way
    let repeated: Vec<usize> = (0..sizes.len()).filter(|&axis| repeats[axis] != 1).collect();
    let mut moves: Vec<Move> = repeated.iter().rev().map(|&axis| Move::Insert { axis }).collect();
    if !moves.is_empty() {
        let with_repeats =
            sizes.iter().zip(&repeats).flat_map(|(&size, &repeat)| Some(repeat).filter(|&repeat| repeat != 1).into_iter().chain([size]));
        moves.extend([Move::Broadcast(with_repeats.collect()), Move::Reshape(target)]);
    }
    Ok(moves)
}
