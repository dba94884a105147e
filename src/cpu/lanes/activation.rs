//! The activation functions on SIMD vectors.
//!
//! An error of 1 ulp is the distance between the float32 values around the exact one. The bounds stated here hold for every float32, with
//! fused multiply-adds and without. A result that would be subnormal may be zero where it is said so. NaN gives NaN.

use rten_simd::ops::{BitOps, FloatOps, IntOps, NumOps};
use rten_simd::{Isa, Simd};

use crate::network::Activation;

/// `ln 2` in two parts; the first has so few digits that its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];

/// Adding it rounds to an integer, which then stands in the low bits: `1.5 * 2^23`.
const ROUND: f32 = 12_582_912.0;

/// The exponent's bias.
const BIAS: i32 = 127;

/// `(exp(r) - 1 - r) / r^2` for `|r| <= ln(2) / 2`, from the constant up.
const EXP: [f32; 5] = [0.499_999_85, 0.166_664_72, 0.041_669_536, 0.008_373_124_5, 0.001_378_059_4];

/// `tanh` is 1 from here on.
const TANH_END: f32 = 9.02;

/// `(2 * atanh(s) / s - 2) / s^2` in `s^2` for `0 <= s <= 1/3`, from the constant up.
const LN_1P: [f32; 5] = [0.666_666_7, 0.399_997_06, 0.285_923_58, 0.217_065_76, 0.232_243_29];

/// `x` where it is NaN or `<= bound`, else `bound`.
#[inline(always)]
pub(in crate::cpu) fn at_most<I: Isa>(isa: I, x: I::F32, bound: f32) -> I::F32 {
    let ops = isa.f32();
    let bound = ops.splat(bound);
    // Vectors of more than four are x86's, whose `min` gives the second operand where one is NaN: one instruction instead of two.
    if ops.len() > 4 { ops.min(bound, x) } else { ops.select(bound, x, ops.gt(x, bound)) }
}

/// `x` where it is NaN or `>= bound`, else `bound`.
#[inline(always)]
pub(in crate::cpu) fn at_least<I: Isa>(isa: I, x: I::F32, bound: f32) -> I::F32 {
    let ops = isa.f32();
    let bound = ops.splat(bound);
    if ops.len() > 4 { ops.max(bound, x) } else { ops.select(bound, x, ops.lt(x, bound)) }
}

/// One step of every vector before the next step of any. The steps of one vector wait for each other; another's fill the time.
///
/// The vectors named first say how many, no more. A closure would not do: it has to be inlined for the vector instructions' sake.
macro_rules! each {
    ($vectors:expr, $at:ident => $step:expr) => {{
        let mut made = $vectors;
        let mut $at = 0;
        while $at < made.len() {
            made[$at] = $step;
            $at += 1;
        }
        made
    }};
}
pub(in crate::cpu) use each;

/// Several vectors.
pub(in crate::cpu) type Vectors<I, const N: usize> = [<I as Isa>::F32; N];

/// `x` as `k * ln 2 + r`, with an integer `k` and `|r| <= ln(2) / 2`: `r`, and floats with `k + offset` in their low bits.
#[inline(always)]
fn reduced<I: Isa, const N: usize>(isa: I, x: Vectors<I, N>, offset: f32) -> (Vectors<I, N>, Vectors<I, N>) {
    let ops = isa.f32();
    let round = ops.splat(ROUND + offset);
    let shifted = each!(x, at => ops.mul_add(x[at], ops.splat(std::f32::consts::LOG2_E), round));
    let k = each!(x, at => ops.sub(shifted[at], round));
    let r = each!(x, at => ops.mul_add(k[at], ops.splat(-LN_2[0]), x[at]));
    (each!(x, at => ops.mul_add(k[at], ops.splat(-LN_2[1]), r[at])), shifted)
}

/// `exp(r) - 1` for what [`reduced`] leaves. The polynomial goes by pairs, because a chain of dependent steps is what takes time.
#[inline(always)]
fn exp_m1_near_zero<I: Isa, const N: usize>(isa: I, r: Vectors<I, N>) -> Vectors<I, N> {
    let ops = isa.f32();
    let square = each!(r, at => ops.mul(r[at], r[at]));
    let low = each!(r, at => ops.mul_add(ops.splat(EXP[1]), r[at], ops.splat(EXP[0])));
    let high = each!(r, at => ops.mul_add(ops.splat(EXP[3]), r[at], ops.splat(EXP[2])));
    let high = each!(r, at => ops.mul_add(ops.splat(EXP[4]), square[at], high[at]));
    let all = each!(r, at => ops.mul_add(high[at], square[at], low[at]));
    each!(r, at => ops.mul_add(all[at], square[at], r[at]))
}

/// The power of two whose biased exponent stands in the low bits: 0 gives zero, 255 infinity.
#[inline(always)]
fn power<I: Isa>(isa: I, biased: I::I32) -> I::F32 {
    isa.i32().shift_left::<23>(biased).reinterpret_cast()
}

/// `exp(x)` as `(1 + m) * scale`, for `-88.1 <= x <= 89`: `m` and `scale`. The scale is zero below -88.1 and infinite above 88.4.
#[inline(always)]
fn exp_parts<I: Isa, const N: usize>(isa: I, x: Vectors<I, N>) -> (Vectors<I, N>, Vectors<I, N>) {
    let (r, shifted) = reduced(isa, x, BIAS as f32);
    (exp_m1_near_zero(isa, r), each!(x, at => power(isa, shifted[at].reinterpret_cast())))
}

/// `exp(x)`: 1.1 ulp, subnormal results included.
#[inline(always)]
pub(in crate::cpu) fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let (ops, int) = (isa.f32(), isa.i32());
    let ([r], [shifted]) = reduced(isa, [at_most(isa, at_least(isa, x, -104.5), 89.0)], 0.0);
    let [m] = exp_m1_near_zero(isa, [r]);
    // the power of two as a product of two, each of them normal
    let k = int.sub(shifted.reinterpret_cast(), ops.splat(ROUND).reinterpret_cast());
    let half = int.shift_right::<1>(k);
    let bias = int.splat(BIAS);
    let scaled = ops.mul(ops.add(m, ops.one()), power(isa, int.add(half, bias)));
    ops.mul(scaled, power(isa, int.add(int.sub(k, half), bias)))
}

/// `exp(x) - 1` for `-87 <= x <= 88`: 1.5 ulp, near zero too.
#[inline(always)]
fn exp_m1<I: Isa, const N: usize>(isa: I, x: Vectors<I, N>) -> Vectors<I, N> {
    let ops = isa.f32();
    let (m, scale) = exp_parts(isa, x);
    let less = each!(x, at => ops.sub(scale[at], ops.one()));
    each!(x, at => ops.mul_add(m[at], scale[at], less[at]))
}

/// `ln(1 + x)`, which is `2 * atanh(x / (2 + x))`, for `0 <= x <= 1`: 3 ulp, near zero too.
#[inline(always)]
fn ln_1p<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let s = ops.div(x, ops.add(x, ops.splat(2.0)));
    let square = ops.mul(s, s);
    let mut series = ops.splat(LN_1P[4]);
    for coefficient in [LN_1P[3], LN_1P[2], LN_1P[1], LN_1P[0], 2.0] {
        series = ops.mul_add(series, square, ops.splat(coefficient));
    }
    ops.mul(s, series)
}

/// `1 + exp(-x)`, of which [`sigmoid`] is the reciprocal.
#[inline(always)]
pub(super) fn sigmoid_denominators<I: Isa, const N: usize>(isa: I, x: Vectors<I, N>) -> Vectors<I, N> {
    let ops = isa.f32();
    let x = each!(x, at => at_most(isa, at_least(isa, ops.neg(x[at]), -88.1), 89.0));
    let (m, scale) = exp_parts(isa, x);
    let m = each!(x, at => ops.add(m[at], ops.one()));
    each!(x, at => ops.mul_add(m[at], scale[at], ops.one()))
}

/// `1 / (1 + exp(-x))`: 2.5 ulp, relative to the value far below zero too, but zero below -88.4, where it is subnormal.
#[inline(always)]
pub(in crate::cpu) fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let [denominator] = sigmoid_denominators(isa, [x]);
    isa.f32().reciprocal(denominator)
}

/// `exp(2x) - 1` and `exp(2x) + 1`, of which [`tanh`] is the quotient: from -1 and 1 to 6.9e7.
#[inline(always)]
pub(super) fn tanh_fractions<I: Isa, const N: usize>(isa: I, x: Vectors<I, N>) -> (Vectors<I, N>, Vectors<I, N>) {
    let ops = isa.f32();
    let twice = each!(x, at => at_most(isa, at_least(isa, ops.add(x[at], x[at]), -2.0 * TANH_END), 2.0 * TANH_END));
    let numerators = exp_m1(isa, twice);
    (numerators, each!(x, at => ops.add(numerators[at], ops.splat(2.0))))
}

/// `tanh(x)`: 3 ulp, near zero too; never beyond 1.
#[inline(always)]
pub(in crate::cpu) fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ([numerator], [denominator]) = tanh_fractions(isa, [x]);
    isa.f32().div(numerator, denominator)
}

/// `x` where it is NaN or `>= 0`, else `below`.
#[inline(always)]
fn above_zero_or<I: Isa>(isa: I, x: I::F32, below: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(below, x, ops.lt(x, ops.zero()))
}

/// The activation's value. What to compute is chosen once for a vector; where it is known, [`Function`] chooses when compiling.
#[inline(always)]
pub(in crate::cpu) fn apply<I: Isa>(isa: I, activation: Activation, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (alpha, beta) = activation.parameters();
    let (alpha, beta) = (ops.splat(alpha), ops.splat(beta));
    match activation {
        Activation::Sigmoid => sigmoid(isa, x),
        Activation::Tanh => tanh(isa, x),
        Activation::Relu => above_zero_or(isa, x, ops.zero()),
        Activation::Affine { .. } => ops.mul_add(alpha, x, beta),
        Activation::LeakyRelu { .. } => above_zero_or(isa, x, ops.mul(alpha, x)),
        Activation::ThresholdedRelu { .. } => ops.select(ops.zero(), x, ops.le(x, alpha)),
        Activation::ScaledTanh { .. } => ops.mul(alpha, tanh(isa, ops.mul(beta, x))),
        Activation::HardSigmoid { .. } => at_most(isa, at_least(isa, ops.mul_add(alpha, x, beta), 0.0), 1.0),
        Activation::Elu { .. } => above_zero_or(isa, x, ops.mul(alpha, elu_below_zero(isa, x))),
        Activation::Softsign => softsign(isa, x),
        Activation::Softplus => softplus(isa, x),
    }
}

/// `exp(x) - 1` for `x <= 0`, and anything above. It is -1 long before the bound.
#[inline(always)]
fn elu_below_zero<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let [value] = exp_m1(isa, [at_least(isa, x, -80.0)]);
    value
}

/// `x / (1 + |x|)`: 1.5 ulp. A bound at which it is 1 keeps the quotient of infinities away.
#[inline(always)]
fn softsign<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    const END: f32 = 1_073_741_824.0;
    let x = at_most(isa, at_least(isa, x, -END), END);
    ops.div(x, ops.add(ops.one(), ops.abs(x)))
}

/// `ln(1 + exp(x))` as `max(x, 0) + ln(1 + exp(-|x|))`, whose `exp` cannot overflow: 4 ulp.
#[inline(always)]
fn softplus<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.add(above_zero_or(isa, x, ops.zero()), ln_1p(isa, exp(isa, ops.neg(ops.abs(x)))))
}

/// A function that is known when compiling, or is not.
pub(in crate::cpu) trait Function: Copy {
    /// The function's value.
    fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32;
}

/// [`sigmoid`]
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Sigmoid;

/// [`tanh`]
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Tanh;

impl Function for Sigmoid {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        sigmoid(isa, x)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        tanh(isa, x)
    }
}

impl Function for Activation {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        apply(isa, self, x)
    }
}
