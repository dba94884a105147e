//! The two types of number that a stack is computed with.

use ndarray::NdFloat;

/// `f32`, or `f64` where rounding errors would grow. Inputs, weights and the states between two steps are `f32` values in both.
pub(in crate::cpu) trait Real: NdFloat + Into<f64> {
    /// The same value.
    fn widen(value: f32) -> Self;

    /// The same value.
    fn wide(self) -> f64 {
        self.into()
    }

    /// The nearest number of this type.
    fn nearest(value: f64) -> Self;

    /// The nearest `f32`.
    fn narrow(self) -> f32;

    /// What is left of the value in a state.
    fn rounded(self) -> Self {
        Self::widen(self.narrow())
    }
}

impl Real for f32 {
    fn widen(value: f32) -> Self {
        value
    }

    #[expect(clippy::cast_possible_truncation, reason = "rounding is what this is for")]
    fn nearest(value: f64) -> Self {
        value as Self
    }

    fn narrow(self) -> f32 {
        self
    }
}

impl Real for f64 {
    fn widen(value: f32) -> Self {
        Self::from(value)
    }

    fn nearest(value: f64) -> Self {
        value
    }

    #[expect(clippy::cast_possible_truncation, reason = "rounding is what this is for")]
    fn narrow(self) -> f32 {
        self as f32
    }
}
