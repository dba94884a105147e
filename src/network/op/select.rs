//! Operators that choose elements, and those that make tensors of nothing.

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice, concatenate};

use super::arithmetic::{like, spread};
use super::element::{Element, Number, cast_element, collect, each, each_number};
use super::layout::outside;
use super::shape::{self, Budget};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorView};

pub(super) fn concat(tensors: &[&TensorView<'_>], axis: i64, budget: &mut Budget) -> Result<Tensor> {
    fn joined<T: Element>(tensors: &[&TensorView<'_>], axis: i64, first: &ArrayViewD<'_, T>, budget: &mut Budget) -> Result<Tensor> {
        let mut shape = first.shape().to_vec();
        let axis = shape::axis(axis, shape.len())?;
        let views = tensors.iter().map(|tensor| like::<T>(tensor)).collect::<Result<Vec<_>>>()?;
        for view in &views[1..] {
            let fits = view.ndim() == shape.len() && (0..shape.len()).all(|other| other == axis || view.shape()[other] == shape[other]);
            let sum = if fits { shape[axis].checked_add(view.shape()[axis]) } else { None };
            let wrong = || {
                Error::shape(format!("inputs: expected shapes that differ on axis {axis} alone, found {:?} and {:?}", first.shape(), view.shape()))
            };
            shape[axis] = sum.ok_or_else(wrong)?;
        }
        budget.take::<T>(&shape)?;
        let result = concatenate(Axis(axis), &views).map_err(|error| Error::shape(format!("inputs: {error}")))?;
        Ok(T::tensor(standard(result)))
    }
    let Some(first) = tensors.first() else { return Err(Error::config("inputs: expected 1 or more, found 0")) };
    each!(first, view => joined(tensors, axis, view, budget))
}

/// The array in row-major order.
fn standard<T: Element>(array: ArrayD<T>) -> ArrayD<T> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

pub(super) fn gather(tensor: &TensorView<'_>, indices: &TensorView<'_>, axis: i64, budget: &mut Budget) -> Result<Tensor> {
    fn gathered<T: Element>(view: &ArrayViewD<'_, T>, axis: usize, indices: &[usize], shape: &[usize], budget: &mut Budget) -> Result<Tensor> {
        budget.take::<T>(shape)?;
        let result = standard(view.select(Axis(axis), indices)).into_shape_with_order(IxDyn(shape));
        result.map(Element::tensor).map_err(|error| Error::shape(format!("result: expected {shape:?}")).with_source(error))
    }
    let sizes = tensor.shape();
    let axis = shape::axis(axis, sizes.len())?;
    let shape = [&sizes[..axis], indices.shape(), &sizes[axis + 1..]].concat();
    let found = |value: i64| shape::index(value, sizes[axis]).ok_or_else(|| outside(value, axis, sizes[axis]));
    let places = match indices {
        TensorView::I64(view) => view.iter().map(|&value| found(value)).collect::<Result<Vec<_>>>()?,
        TensorView::I32(view) => view.iter().map(|&value| found(i64::from(value))).collect::<Result<Vec<_>>>()?,
        other => return Err(Error::shape(format!("indices: expected int32 or int64, found {}", other.element_type()))),
    };
    each!(tensor, view => gathered(view, axis, &places, &shape, budget))
}

pub(super) fn choose(condition: &TensorView<'_>, yes: &TensorView<'_>, no: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
    fn chosen<T: Element>(condition: &ArrayViewD<'_, bool>, yes: &ArrayViewD<'_, T>, no: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        let no = like::<T>(no)?;
        let shape = shape::broadcast([condition.shape(), yes.shape(), no.shape()].into_iter())?;
        budget.take::<T>(&shape)?;
        let (condition, yes, no) = (spread(condition, &shape)?, spread(yes, &shape)?, spread(&no, &shape)?);
        let elements = condition.iter().zip(&yes).zip(&no).map(|((&condition, &yes), &no)| if condition { yes } else { no });
        collect(&shape, elements).map(Element::tensor)
    }
    let TensorView::Bool(condition) = condition else {
        return Err(Error::shape(format!("condition: expected bool, found {}", condition.element_type())));
    };
    each!(yes, yes => chosen(condition, yes, no, budget))
}

pub(super) fn non_zero(tensor: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
    fn places<T: Element>(view: &ArrayViewD<'_, T>, budget: &mut Budget) -> Result<Tensor> {
        let zero = T::from_i64(0);
        let count = view.iter().filter(|&&value| value != zero).count();
        let shape = [view.ndim(), count];
        budget.take::<i64>(&shape)?;
        let on_axis = |axis: usize| view.indexed_iter().filter(|&(_, &value)| value != zero).map(move |(index, _)| index[axis].cast_signed() as i64);
        collect(&shape, (0..view.ndim()).flat_map(on_axis)).map(Element::tensor)
    }
    each!(tensor, view => places(view, budget))
}

pub(super) fn reverse_sequence(
    tensor: &TensorView<'_>,
    lens: &TensorView<'_>,
    batch_axis: i64,
    time_axis: i64,
    budget: &mut Budget,
) -> Result<Tensor> {
    fn reversed<T: Element>(view: &ArrayViewD<'_, T>, lens: &[u32], batch: usize, time: usize, budget: &mut Budget) -> Result<Tensor> {
        budget.take::<T>(view.shape())?;
        let mut result = view.as_standard_layout().into_owned();
        // without the batch axis, which each row leaves behind
        let time = Axis(if batch < time { time - 1 } else { time });
        for (row, &len) in lens.iter().enumerate() {
            let mut from = view.index_axis(Axis(batch), row);
            let mut to: ArrayViewMutD<'_, T> = result.index_axis_mut(Axis(batch), row);
            let part = Slice::from(..len as usize);
            from.slice_axis_inplace(time, part);
            from.invert_axis(time);
            to.slice_axis_mut(time, part).assign(&from);
        }
        Ok(T::tensor(result))
    }
    let sizes = tensor.shape();
    let axes = (shape::axis(batch_axis, sizes.len())?, shape::axis(time_axis, sizes.len())?);
    let (batch, time) = match axes {
        (0, 1) | (1, 0) => axes,
        _ => return Err(Error::shape(format!("attributes `batch_axis` and `time_axis`: expected 0 and 1 in either order, found {axes:?}"))),
    };
    let mut checked = Vec::new();
    lens.sequence_lens("sequence_lens", sizes[batch], sizes[time], &mut checked)?;
    each!(tensor, view => reversed(view, &checked, batch, time, budget))
}

pub(super) fn constant(shape: &[usize], value: &Tensor, budget: &mut Budget) -> Result<Tensor> {
    fn filled<T: Element>(shape: &[usize], value: &ArrayViewD<'_, T>, budget: &mut Budget) -> Result<Tensor> {
        let (Some(&element), 1) = (value.first(), value.len()) else {
            return Err(Error::shape(format!("attribute `value`: expected one element, found {}", value.len())));
        };
        budget.take::<T>(shape)?;
        Ok(T::tensor(ArrayD::from_elem(IxDyn(shape), element)))
    }
    each!(value.view(), value => filled(shape, &value, budget))
}

pub(super) fn range(start: &TensorView<'_>, limit: &TensorView<'_>, delta: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
    fn one<T: Element>(tensor: &ArrayViewD<'_, T>) -> Result<T> {
        match (tensor.first(), tensor.len()) {
            (Some(&value), 1) => Ok(value),
            _ => Err(Error::shape(format!("start, limit and delta: expected one number each, found {:?}", tensor.shape()))),
        }
    }
    fn steps<T: Number>(start: &ArrayViewD<'_, T>, limit: &TensorView<'_>, delta: &TensorView<'_>, budget: &mut Budget) -> Result<Tensor> {
        let (start, limit, delta) = (one(start)?, one(&like::<T>(limit)?)?, one(&like::<T>(delta)?)?);
        let len = if T::FLOAT {
            float_len(start.to_f64(), limit.to_f64(), delta.to_f64())
        } else {
            whole_len(start.to_i64(), limit.to_i64(), delta.to_i64())
        };
        let len = len.ok_or_else(|| Error::shape("start, limit and delta: expected finite numbers and a delta other than 0, found others"))?;
        budget.take::<T>(&[len])?;
        let element = |index: usize| start.add(delta.mul(cast_element(index.cast_signed() as i64)));
        collect(&[len], (0..len).map(element)).map(Element::tensor)
    }
    each_number!(start, start => steps(start, limit, delta, budget))
}

fn float_len(start: f64, limit: f64, delta: f64) -> Option<usize> {
    let fits = [start, limit, delta].iter().all(|value| value.is_finite()) && delta != 0.0;
    // a number that is too large for usize becomes the largest, which no budget allows
    fits.then(|| ((limit - start) / delta).ceil().max(0.0) as usize)
}

fn whole_len(start: i64, limit: i64, delta: i64) -> Option<usize> {
    let (distance, delta) = (i128::from(limit) - i128::from(start), i128::from(delta));
    let len = (distance + delta - delta.signum()).checked_div(delta)?.max(0);
    Some(usize::try_from(len).unwrap_or(usize::MAX))
}
