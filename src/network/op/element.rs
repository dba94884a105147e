//! What the operators ask of a tensor's elements.

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::error::{Error, Result};
use crate::tensor::{ElementType, Tensor, TensorView};

/// An element of any tensor. Every conversion goes by way of `f64` from a floating point type, and by way of `i64` from another:
/// both hold what they are given without a loss.
pub(super) trait Element: Copy + PartialEq + PartialOrd + 'static {
    const TYPE: ElementType;
    const FLOAT: bool;
    fn tensor(array: ArrayD<Self>) -> Tensor;
    fn of<'a>(tensor: &TensorView<'a>) -> Option<ArrayViewD<'a, Self>>;
    fn to_f64(self) -> f64;
    fn to_i64(self) -> i64;
    /// The nearest element there is.
    fn from_f64(value: f64) -> Self;
    /// The lowest bits of `value`.
    fn from_i64(value: i64) -> Self;
}

/// An element to calculate with. Integers wrap around.
pub(super) trait Number: Element {
    /// holds sums, products and means before they are rounded
    type Wide: Number;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Towards zero for integers, whose `other` is not 0.
    fn div(self, other: Self) -> Self;
    /// What [`Number::div`] towards zero leaves: with the sign of `self`.
    fn rem(self, other: Self) -> Self;

    /// What a division towards minus infinity leaves: with the sign of `other`.
    fn modulo(self, other: Self) -> Self {
        let (rest, zero) = (self.rem(other), Self::from_i64(0));
        if rest != zero && (rest < zero) != (other < zero) { rest.add(other) } else { rest }
    }

    /// NaN where one is.
    fn min(self, other: Self) -> Self {
        if self.is_nan() || self < other { self } else { other }
    }

    /// NaN where one is.
    fn max(self, other: Self) -> Self {
        if self.is_nan() || self > other { self } else { other }
    }

    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }

    fn wide(self) -> Self::Wide {
        cast_element(self)
    }
}

macro_rules! elements {
    ($($variant:ident, $element:ty, $float:literal, $from_f64:expr, $from_i64:expr, $to_f64:expr, $to_i64:expr;)*) => {
        $(
            impl Element for $element {
                const TYPE: ElementType = ElementType::$variant;
                const FLOAT: bool = $float;
                fn tensor(array: ArrayD<Self>) -> Tensor {
                    Tensor::$variant(array)
                }
                fn of<'a>(tensor: &TensorView<'a>) -> Option<ArrayViewD<'a, Self>> {
                    if let TensorView::$variant(view) = tensor { Some(view.clone()) } else { None }
                }
                fn to_f64(self) -> f64 {
                    $to_f64(self)
                }
                fn to_i64(self) -> i64 {
                    $to_i64(self)
                }
                fn from_f64(value: f64) -> Self {
                    $from_f64(value)
                }
                fn from_i64(value: i64) -> Self {
                    $from_i64(value)
                }
            }
        )*
    };
}

elements! {
    F32, f32, true, |v| v as f32, |v| v as f32, f64::from, |v| v as i64;
    F64, f64, true, |v| v, |v| v as f64, |v| v, |v| v as i64;
    I32, i32, false, |v| v as i32, |v| v as i32, f64::from, i64::from;
    I64, i64, false, |v| v as i64, |v| v, |v| v as f64, |v| v;
    I8, i8, false, |v| v as i8, |v| v as i8, f64::from, i64::from;
    U8, u8, false, |v| v as u8, |v| v as u8, f64::from, i64::from;
    Bool, bool, false, |v| v != 0.0, |v| v != 0, |v| f64::from(u8::from(v)), i64::from;
}

macro_rules! integers {
    ($($element:ty),*) => {
        $(
            impl Number for $element {
                type Wide = i64;
                const LOWEST: Self = <$element>::MIN;
                const HIGHEST: Self = <$element>::MAX;
                fn add(self, other: Self) -> Self {
                    self.wrapping_add(other)
                }
                fn sub(self, other: Self) -> Self {
                    self.wrapping_sub(other)
                }
                fn mul(self, other: Self) -> Self {
                    self.wrapping_mul(other)
                }
                fn div(self, other: Self) -> Self {
                    self.wrapping_div(other)
                }
                fn rem(self, other: Self) -> Self {
                    self.wrapping_rem(other)
                }
            }
        )*
    };
}

macro_rules! floats {
    ($($element:ty),*) => {
        $(
            impl Number for $element {
                type Wide = f64;
                const LOWEST: Self = <$element>::NEG_INFINITY;
                const HIGHEST: Self = <$element>::INFINITY;
                fn add(self, other: Self) -> Self {
                    self + other
                }
                fn sub(self, other: Self) -> Self {
                    self - other
                }
                fn mul(self, other: Self) -> Self {
                    self * other
                }
                fn div(self, other: Self) -> Self {
                    self / other
                }
                fn rem(self, other: Self) -> Self {
                    self % other
                }
            }
        )*
    };
}

integers!(i8, u8, i32, i64);
floats!(f32, f64);

/// `$body` for a tensor of any type; in it `$view` is the array.
macro_rules! each {
    ($tensor:expr, $view:ident => $body:expr) => {
        match $tensor {
            TensorView::F32($view) => $body,
            TensorView::F64($view) => $body,
            TensorView::I32($view) => $body,
            TensorView::I64($view) => $body,
            TensorView::I8($view) => $body,
            TensorView::U8($view) => $body,
            TensorView::Bool($view) => $body,
        }
    };
}

/// As `each!`, for numbers; an error for `bool`.
macro_rules! each_number {
    ($tensor:expr, $view:ident => $body:expr) => {
        match $tensor {
            TensorView::F32($view) => $body,
            TensorView::F64($view) => $body,
            TensorView::I32($view) => $body,
            TensorView::I64($view) => $body,
            TensorView::I8($view) => $body,
            TensorView::U8($view) => $body,
            TensorView::Bool(_) => Err(Error::shape("expected numbers, found bool")),
        }
    };
}

pub(super) use {each, each_number};

/// `value` as another type.
pub(super) fn cast_element<From: Element, To: Element>(value: From) -> To {
    if From::FLOAT { To::from_f64(value.to_f64()) } else { To::from_i64(value.to_i64()) }
}

/// The array of `shape` with these elements, which are as many.
pub(super) fn collect<T>(shape: &[usize], elements: impl Iterator<Item = T>) -> Result<ArrayD<T>> {
    let elements: Vec<T> = elements.collect();
    let found = elements.len();
    ArrayD::from_shape_vec(IxDyn(shape), elements)
        .map_err(|error| Error::shape(format!("result: expected elements for {shape:?}, found {found}")).with_source(error))
}

/// The elements as another type, in row-major order.
pub(super) fn cast<To: Element>(tensor: &TensorView<'_>) -> Result<ArrayD<To>> {
    each!(tensor, view => collect(view.shape(), view.iter().map(|&value| cast_element(value))))
}
