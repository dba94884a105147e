//! One step of LSTM units, from the pre-activations on, with the usual activations.

use rten_simd::Isa;
use rten_simd::ops::{FloatOps, NumOps};

use super::activation::{sigmoid_denominator, tanh_fraction};

/// `c_next = sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h_next = sigmoid(o) * tanh(c_next)`, as `(c_next, h_next)`.
///
/// Each product is one quotient: three divisions instead of five.
#[inline(always)]
pub(in crate::cpu) fn standard<I: Isa>(isa: I, i: I::F32, f: I::F32, g: I::F32, o: I::F32, c: I::F32) -> (I::F32, I::F32) {
    let ops = isa.f32();
    let kept = ops.div(c, sigmoid_denominator(isa, f));
    let (numerator, denominator) = tanh_fraction(isa, g);
    let added = ops.div(numerator, ops.mul(denominator, sigmoid_denominator(isa, i)));
    let c_next = ops.add(kept, added);
    let (numerator, denominator) = tanh_fraction(isa, c_next);
    (c_next, ops.div(numerator, ops.mul(denominator, sigmoid_denominator(isa, o))))
}
