//! Functions of whole slices: of every value, or of a row of scores.

use rten_simd::functional::simd_map;
use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, Simd, SimdIterable, SimdOp};

use super::activation::{Function, Sigmoid, Tanh, exp};
use crate::network::Activation;

/// Replaces every value by the function's.
pub(in crate::cpu) struct Each<'a, F>(pub(in crate::cpu) F, pub(in crate::cpu) &'a mut [f32]);

impl<F: Function> SimdOp for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(function, values) = self;
        simd_map(
            isa.f32(),
            values,
            #[inline(always)]
            |x| function.at(isa, x),
        );
    }
}

/// Replaces every value by the activation's.
pub(in crate::cpu) fn map_slice(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Sigmoid => Each(Sigmoid, values).dispatch(),
        Activation::Tanh => Each(Tanh, values).dispatch(),
        other => Each(other, values).dispatch(),
    }
}

/// What [`softmax_row`] and [`log_softmax_row`] share: the largest value is subtracted, so that the largest power is 1.
struct Softmax<'a> {
    row: &'a mut [f32],
    log: bool,
}

impl SimdOp for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let Self { row, log } = self;
        let largest = row.simd_iter(ops).fold(
            ops.splat(f32::NEG_INFINITY),
            #[inline(always)]
            |largest, x| ops.max(largest, x),
        );
        // NaN may get lost here, but it comes back with the sum
        let largest = ops.splat(largest.to_array().into_iter().fold(f32::NEG_INFINITY, f32::max));
        simd_map(
            ops,
            &mut *row,
            #[inline(always)]
            |x| {
                let x = ops.sub(x, largest);
                if log { x } else { exp(isa, x) }
            },
        );
        let sum = row.simd_iter(ops).fold(
            ops.zero(),
            #[inline(always)]
            |sum, x| ops.add(sum, if log { exp(isa, x) } else { x }),
        );
        let sum: f32 = sum.to_array().into_iter().sum();
        let sum = ops.splat(if log { sum.ln() } else { sum });
        simd_map(
            ops,
            row,
            #[inline(always)]
            |x| if log { ops.sub(x, sum) } else { ops.div(x, sum) },
        );
    }
}

/// `exp(x) / sum(exp(x))` over the row; NaN throughout where one value is NaN or the largest infinite.
///
/// The sum's order depends on the row's length and the machine's vectors only.
pub(in crate::cpu) fn softmax_row(row: &mut [f32]) {
    Softmax { row, log: false }.dispatch();
}

/// `x - ln(sum(exp(x)))` over the row, otherwise as [`softmax_row`].
pub(in crate::cpu) fn log_softmax_row(row: &mut [f32]) {
    Softmax { row, log: true }.dispatch();
}
