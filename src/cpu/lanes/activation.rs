//! The activation functions on SIMD vectors.
//!
//! An error of 1 ulp is the distance between the exact value's float32 neighbours. The bounds stated here hold for every float32, with
//! fused multiply-adds; where an instruction set has none, the bounds in brackets do. Results that would be subnormal may be zero where it
//! is said so. NaN gives NaN.

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

/// `log1p(x) = 2 * atanh(s)` with `s = x / (2 + x)`: the series `(2 * atanh(s) / s - 2) / s^2` in `s^2`, for `s <= 1/3`.
const LN_1P: [f32; 5] = [0.666_666_67, 0.399_997_06, 0.285_923_58, 0.217_065_76, 0.232_243_29];

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

/// `c[0] + x * (c[1] + x * (c[2] + ...))`
#[inline(always)]
fn polynomial<I: Isa, const N: usize>(isa: I, x: I::F32, coefficients: [f32; N]) -> I::F32 {
    let ops = isa.f32();
    let mut sum = ops.splat(coefficients[N - 1]);
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = ops.mul_add(sum, x, ops.splat(coefficient));
    }
    sum
}

/// `x` as `k * ln 2 + r`, with an integer `k` and `|r| <= ln(2) / 2`: `r`, and `k + offset` in the low bits of a float's.
#[inline(always)]
fn reduced<I: Isa>(isa: I, x: I::F32, offset: i16) -> (I::F32, I::I32) {
    let ops = isa.f32();
    let round = ops.splat(ROUND + f32::from(offset));
    let shifted = ops.mul_add(x, ops.splat(std::f32::consts::LOG2_E), round);
    let k = ops.sub(shifted, round);
    let r = ops.mul_add(k, ops.splat(-LN_2[0]), x);
    (ops.mul_add(k, ops.splat(-LN_2[1]), r), shifted.reinterpret_cast())
}

/// `exp(r) - 1` for what [`reduced`] leaves. In pairs rather than after Horner, because the chain of dependent steps is what takes time.
#[inline(always)]
fn exp_m1_near_zero<I: Isa>(isa: I, r: I::F32) -> I::F32 {
    let ops = isa.f32();
    let square = ops.mul(r, r);
    let low = ops.mul_add(ops.splat(EXP[1]), r, ops.splat(EXP[0]));
    let high = ops.mul_add(ops.splat(EXP[3]), r, ops.splat(EXP[2]));
    let high = ops.mul_add(ops.splat(EXP[4]), square, high);
    ops.mul_add(ops.mul_add(high, square, low), square, r)
}

/// The power of two whose biased exponent stands in the low bits: 0 gives zero, 255 infinity.
#[inline(always)]
fn power<I: Isa>(isa: I, biased: I::I32) -> I::F32 {
    isa.i32().shift_left::<23>(biased).reinterpret_cast()
}

/// `exp(x)`: 1.1 ulp, subnormal results included.
#[inline(always)]
pub(in crate::cpu) fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let (ops, int) = (isa.f32(), isa.i32());
    let x = at_most(isa, at_least(isa, x, -104.5), 89.0);
    let (r, k) = reduced(isa, x, 0);
    let series = ops.add(exp_m1_near_zero(isa, r), ops.one());
    // the power of two as a product of two, each of them normal
    let k = int.sub(k, ops.splat(ROUND).reinterpret_cast());
    let half = int.shift_right::<1>(k);
    let bias = int.splat(BIAS);
    let scaled = ops.mul(series, power(isa, int.add(half, bias)));
    ops.mul(scaled, power(isa, int.add(int.sub(k, half), bias)))
}

/// `exp(x)` in fewer steps: 1.1 ulp between -87 and 88.3, zero below -88.1 and infinity above 88.4.
#[inline(always)]
pub(in crate::cpu) fn exp_normal<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (r, k) = reduced(isa, at_most(isa, at_least(isa, x, -88.1), 89.0), 127);
    ops.mul(ops.add(exp_m1_near_zero(isa, r), ops.one()), power(isa, k))
}

/// `exp(x) - 1` for `-87 <= x <= 88`: 2 ulp, near zero too.
#[inline(always)]
fn exp_m1<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (r, k) = reduced(isa, x, 127);
    let scale = power(isa, k);
    ops.mul_add(scale, exp_m1_near_zero(isa, r), ops.sub(scale, ops.one()))
}

/// `ln(1 + x)` for `0 <= x <= 1`: 3 ulp, near zero too.
#[inline(always)]
fn ln_1p<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let s = ops.div(x, ops.add(x, ops.splat(2.0)));
    let square = ops.mul(s, s);
    ops.mul(s, ops.mul_add(polynomial(isa, square, LN_1P), square, ops.splat(2.0)))
}

/// `1 + exp(-x)`, of which [`sigmoid`] is the reciprocal.
#[inline(always)]
pub(super) fn sigmoid_denominator<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.add(ops.one(), exp_normal(isa, ops.neg(x)))
}

/// `1 / (1 + exp(-x))`: 2.5 ulp, relative to the value far below zero too, but zero below -88.3, where it would be subnormal.
#[inline(always)]
pub(in crate::cpu) fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.f32().reciprocal(sigmoid_denominator(isa, x))
}

/// `exp(2x) - 1` and `exp(2x) + 1`, of which [`tanh`] is the quotient: within `-1..=6.9e7` and 2 more.
#[inline(always)]
pub(super) fn tanh_fraction<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32) {
    let ops = isa.f32();
    let x = at_most(isa, at_least(isa, x, -TANH_END), TANH_END);
    let numerator = exp_m1(isa, ops.add(x, x));
    (numerator, ops.add(numerator, ops.splat(2.0)))
}

/// `tanh(x)`: 3 ulp, near zero too; never beyond 1.
#[inline(always)]
pub(in crate::cpu) fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let (numerator, denominator) = tanh_fraction(isa, x);
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
        Activation::Elu { .. } => above_zero_or(isa, x, ops.mul(alpha, exp_m1(isa, at_most(isa, at_least(isa, x, -80.0), 0.0)))),
        Activation::Softsign => softsign(isa, x),
        Activation::Softplus => softplus(isa, x),
    }
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
