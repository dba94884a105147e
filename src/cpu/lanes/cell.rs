//! One step of LSTM units, from the pre-activations on, with the usual activations.

use rten_simd::Isa;
use rten_simd::ops::{FloatOps, NumOps};

use super::activation::{Vectors, each, sigmoid_denominators, tanh_fractions};

/// The pre-activations of `N` vectors of units.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Gates<I: Isa, const N: usize> {
    /// input
    pub(in crate::cpu) i: Vectors<I, N>,
    /// forget
    pub(in crate::cpu) f: Vectors<I, N>,
    /// candidate
    pub(in crate::cpu) g: Vectors<I, N>,
    /// output
    pub(in crate::cpu) o: Vectors<I, N>,
}

/// `c_next = sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h_next = sigmoid(o) * tanh(c_next)`, as `(c_next, h_next)`.
///
/// Each product is one quotient, so that there are three divisions instead of five. `c_next` is within 6 ulp of the sum of its terms'
/// absolute values, and `h_next` within 6 ulp of what belongs to `c_next` as it was rounded; both within 1e-30 where that is more, because
/// a gate that is as good as shut may be zero. Random numbers came to 4.5. `|h_next|` is never beyond 1.
///
/// Two vectors at once take less time than one after the other, since most of it is waiting; more than four have no registers.
#[inline(always)]
pub(in crate::cpu) fn standard<I: Isa, const N: usize>(isa: I, gates: Gates<I, N>, c: Vectors<I, N>) -> (Vectors<I, N>, Vectors<I, N>) {
    let ops = isa.f32();
    let forget = sigmoid_denominators(isa, gates.f);
    let input = sigmoid_denominators(isa, gates.i);
    let (numerators, denominators) = tanh_fractions(isa, gates.g);
    let denominators = each!(c, at => ops.mul(denominators[at], input[at]));
    let added = each!(c, at => ops.div(numerators[at], denominators[at]));
    let kept = each!(c, at => ops.div(c[at], forget[at]));
    let c_next = each!(c, at => ops.add(kept[at], added[at]));
    let output = sigmoid_denominators(isa, gates.o);
    let (numerators, denominators) = tanh_fractions(isa, c_next);
    let denominators = each!(c, at => ops.mul(denominators[at], output[at]));
    (c_next, each!(c, at => ops.div(numerators[at], denominators[at])))
}
