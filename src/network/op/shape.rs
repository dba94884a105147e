//! Shapes, axes and the room for results.

use super::element::Element;
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// How many axes a tensor may have here. Some work grows with the square of it.
const MAX_AXES: usize = 64;

/// Results from this many bytes on are tried first: where there is no room for them the process would end.
const LARGE: usize = 1 << 20;

/// How many bytes results may still take.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// Takes the room for a result of `shape` away; an error, before anything is allocated, where it is not there.
    pub(super) fn take<T: Element>(&mut self, shape: &[usize]) -> Result<()> {
        let need = len(shape)?.saturating_mul(size_of::<T>());
        let found = self.0;
        self.0 = found
            .checked_sub(need)
            .ok_or_else(|| Error::limit(format!("result of {}, {shape:?}: expected at most {found} bytes, found {need}", T::TYPE)))?;
        if need >= LARGE && Vec::<T>::new().try_reserve_exact(need / size_of::<T>()).is_err() {
            return Err(Error::limit(format!("result of {}, {shape:?}: more than this machine can hold", T::TYPE)));
        }
        Ok(())
    }
}

/// How many elements a tensor of `shape` has; an error where no tensor has that shape.
pub(super) fn len(shape: &[usize]) -> Result<usize> {
    check_rank(shape)?;
    // also of a tensor that is empty: the steps between its elements have to be numbers too
    let len = shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size.max(1)));
    len.filter(|&len| isize::try_from(len.saturating_mul(size_of::<f64>())).is_ok())
        .map(|len| if shape.contains(&0) { 0 } else { len })
        .ok_or_else(|| Error::limit(format!("shape {shape:?}: expected a size that memory can have, found more")))
}

/// Checks the number of axes.
pub(super) fn check_rank(shape: &[usize]) -> Result<()> {
    if shape.len() <= MAX_AXES {
        return Ok(());
    }
    Err(Error::limit(format!("shape: expected at most {MAX_AXES} axes, found {}", shape.len())))
}

/// The axis `value` of `rank` axes; negative ones count from the last.
pub(super) fn axis(value: i64, rank: usize) -> Result<usize> {
    index(value, rank).ok_or_else(|| Error::shape(format!("axis: expected -{rank} or more and less than {rank}, found {value}")))
}

/// The axes `values` of `rank` axes, each at most once, in ascending order.
pub(super) fn axes(values: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut found = values.iter().map(|&value| axis(value, rank)).collect::<Result<Vec<_>>>()?;
    found.sort_unstable();
    if found.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::shape(format!("axes: expected each axis once, found {values:?}")));
    }
    Ok(found)
}

/// The index `value` among `size`; negative ones count from the end. `None` where it is outside.
pub(super) fn index(value: i64, size: usize) -> Option<usize> {
    let from_end = if value < 0 { i64::try_from(size).ok()? } else { 0 };
    usize::try_from(value + from_end).ok().filter(|&index| index < size)
}

/// Sizes of axes, none negative.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>> {
    let size = |&value: &i64| usize::try_from(value).map_err(|_| Error::shape(format!("sizes: expected 0 or more each, found {value}")));
    values.iter().map(size).collect()
}

/// The shape to which all of `shapes` broadcast.
pub(super) fn broadcast<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Result<Vec<usize>> {
    let mut result: Vec<usize> = Vec::new();
    for shape in shapes {
        let new = shape.len().saturating_sub(result.len());
        result.splice(0..0, shape[..new].iter().copied());
        let first = result.len() - shape.len();
        for (axis, &size) in shape.iter().enumerate() {
            let at = &mut result[first + axis];
            match (*at, size) {
                (1, _) => *at = size,
                (_, 1) => {}
                (expected, _) if expected == size => {}
                _ => return Err(Error::shape(format!("shapes: expected ones that broadcast together, found {shape:?} beside {result:?}"))),
            }
        }
    }
    len(&result)?;
    Ok(result)
}

/// The shape that `Reshape` makes of `shape`: where `allow_zero` is not set 0 stands for the size that the axis had, and -1 for what is left.
pub(super) fn reshape(shape: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let wrong = |rule: &str| Error::shape(format!("shape: expected {rule}, found {target:?} for {shape:?}"));
    let rest = target.iter().filter(|&&size| size == -1).count();
    if rest > 1 || (rest == 1 && allow_zero && target.contains(&0)) {
        return Err(wrong(if rest > 1 { "at most one -1" } else { "no 0 beside -1 where allowzero is set" }));
    }
    let mut sizes = Vec::with_capacity(target.len());
    for (axis, &size) in target.iter().enumerate() {
        sizes.push(match size {
            -1 => 1,
            0 if !allow_zero => *shape.get(axis).ok_or_else(|| wrong("0 only where the input has that axis"))?,
            _ => usize::try_from(size).map_err(|_| wrong("sizes of 0 or more, or -1"))?,
        });
    }
    let (from, to) = (len(shape)?, len(&sizes)?);
    let fits = if rest == 1 { to != 0 && from % to == 0 } else { from == to };
    if !fits {
        return Err(wrong("as many elements as there are"));
    }
    if let Some(axis) = target.iter().position(|&size| size == -1) {
        sizes[axis] = from / to;
    }
    len(&sizes)?;
    Ok(sizes)
}

/// The elements of a list of whole numbers; one number is a list of one.
pub(super) fn integers(tensor: &TensorView<'_>) -> Result<Vec<i64>> {
    let found = tensor.element_type();
    if tensor.shape().len() > 1 {
        return Err(Error::shape(format!("expected a list, found {:?}", tensor.shape())));
    }
    match tensor {
        TensorView::I64(view) => Ok(view.iter().copied().collect()),
        TensorView::I32(view) => Ok(view.iter().map(|&value| i64::from(value)).collect()),
        _ => Err(Error::shape(format!("expected int32 or int64, found {found}"))),
    }
}
