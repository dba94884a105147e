//! Operators that make one element of many.

use ndarray::{ArrayViewD, Axis, IxDyn};

use super::element::{Element, Number, cast_element, collect, each_number};
use super::shape::{self, Budget};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorView};

/// How elements become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Prod,
    Min,
    Max,
    Mean,
}

impl Reduction {
    /// What ONNX calls the operator.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum => "ReduceSum",
            Self::Prod => "ReduceProd",
            Self::Min => "ReduceMin",
            Self::Max => "ReduceMax",
            Self::Mean => "ReduceMean",
        }
    }

    /// Over `axes`. Where there are none: over all, or, with `none_is_none`, over none.
    pub(super) fn run(self, tensor: &TensorView<'_>, axes: &[i64], keep_dims: bool, none_is_none: bool, budget: &mut Budget) -> Result<Tensor> {
        let rank = tensor.shape().len();
        let axes = if axes.is_empty() && !none_is_none { (0..rank).collect() } else { shape::axes(axes, rank)? };
        each_number!(tensor, view => self.number(view, &axes, keep_dims, budget))
    }

    fn number<T: Number>(self, view: &ArrayViewD<'_, T>, axes: &[usize], keep_dims: bool, budget: &mut Budget) -> Result<Tensor> {
        let sizes = view.shape();
        let kept: Vec<usize> = (0..sizes.len()).filter(|axis| !axes.contains(axis)).collect();
        let outer: Vec<usize> = kept.iter().map(|&axis| sizes[axis]).collect();
        let shape = if keep_dims { (0..sizes.len()).map(|axis| if axes.contains(&axis) { 1 } else { sizes[axis] }).collect() } else { outer.clone() };
        budget.take::<T>(&shape)?;
        let count: usize = axes.iter().map(|&axis| sizes[axis]).product();
        if self == Self::Mean && count == 0 && shape::len(&shape)? > 0 {
            return Err(Error::shape(format!("axes {axes:?}: expected elements to take the mean of, found none in {sizes:?}")));
        }
        // One result at a time, from the part of the input that is its own.
        let results = ndarray::indices(IxDyn(&outer)).into_iter().map(|index| {
            let mut part = view.view();
            kept.iter().enumerate().for_each(|(place, &axis)| part.collapse_axis(Axis(axis), index[place]));
            self.one(&part, count)
        });
        collect(&shape, results).map(Element::tensor)
    }

    /// One element of all elements of `part`, which are `count`.
    fn one<T: Number>(self, part: &ArrayViewD<'_, T>, count: usize) -> T {
        let wide =
            |start: i64, fold: fn(T::Wide, T::Wide) -> T::Wide| part.iter().fold(T::Wide::from_i64(start), |sum, &value| fold(sum, value.wide()));
        match self {
            Self::Sum => cast_element(wide(0, T::Wide::add)),
            Self::Prod => cast_element(wide(1, T::Wide::mul)),
            Self::Min => part.iter().fold(T::HIGHEST, |least, &value| least.min(value)),
            Self::Max => part.iter().fold(T::LOWEST, |most, &value| most.max(value)),
            Self::Mean => cast_element(wide(0, T::Wide::add).div(T::Wide::from_i64(count.cast_signed() as i64))),
        }
    }
}
