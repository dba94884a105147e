//! The bounds that the functions state, on every instruction set of the machine.
//!
//! Every 1009th float32 is tried, and all of them where `CELLGATE_LONG` is set.

use rayon::prelude::*;
use rten_simd::isa::GenericIsa;
use rten_simd::ops::BitOps;
use rten_simd::{Isa, SimdOp};

use super::activation::{self, Function};
use super::cell::{Gates, standard};
use super::rows::{Each, log_softmax_row, map_slice, softmax_row};
use crate::cpu::tests::ACTIVATIONS;
use crate::network::Activation;

/// Runs an operation on each instruction set, the one that is chosen first.
macro_rules! on_every_isa {
    ($isa:ident => $operation:expr) => {{
        let $isa = "chosen";
        $operation.dispatch();
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
            let $isa = "AVX2";
            $operation.eval(isa);
        }
        let $isa = "generic";
        $operation.eval(GenericIsa::new());
    }};
}

/// The values of a function on each instruction set.
fn values<F: Function>(function: F, xs: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let mut made: Vec<(&'static str, Vec<f32>)> = Vec::new();
    on_every_isa!(name => {
        made.push((name, xs.to_vec()));
        Each(function, made.last_mut().map_or(&mut [], |(_, values)| values))
    });
    made
}

/// The distance from the exact value, in distances between float32 values there.
fn ulp(actual: f32, exact: f64) -> f64 {
    let right = |right: bool| if right { 0.0 } else { f64::INFINITY };
    if exact.is_nan() {
        return right(actual.is_nan());
    }
    if (exact as f32).is_infinite() {
        return right(actual == exact as f32);
    }
    (f64::from(actual) - exact).abs() / spacing(exact)
}

fn spacing(exact: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    let power = exact.abs().max(f64::from(f32::MIN_POSITIVE)).to_bits() & EXPONENT;
    f64::from_bits(power) * f64::from(f32::EPSILON)
}

type Worst = Vec<(&'static str, f64, f32)>;

/// Holds the largest error over all that `within` lets through to a bound; NaN has to give NaN.
fn check<F: Function + Sync>(name: &str, bound: f64, function: F, exact: fn(f64) -> f64, within: fn(f32) -> bool) {
    const BLOCK: u64 = 1 << 16;
    let long = std::env::var_os("CELLGATE_LONG").is_some_and(|value| value != "0" && !value.is_empty());
    let stride = if long { 1 } else { 1009 };
    let patterns = (1u64 << 32).div_ceil(stride);
    let block = |number: u64| -> Worst {
        let range = number * BLOCK..patterns.min((number + 1) * BLOCK);
        let xs: Vec<f32> = range.map(|place| f32::from_bits((place * stride) as u32)).collect();
        let wanted: Vec<f64> = xs.iter().map(|&x| exact(f64::from(x))).collect();
        let errors = values(function, &xs).into_iter().map(|(isa, values)| {
            let tried = xs.iter().zip(&wanted).zip(&values).filter(|((x, _), _)| x.is_nan() || within(**x));
            let worst = tried.map(|((&x, &exact), &value)| (ulp(value, exact), x)).max_by(|a, b| a.0.total_cmp(&b.0));
            let (error, x) = worst.unwrap_or_default();
            (isa, error, x)
        });
        errors.collect()
    };
    let worse = |a: Worst, b: Worst| a.into_iter().zip(b).map(|(a, b)| if b.1 > a.1 { b } else { a }).collect();
    let worst = (0..patterns.div_ceil(BLOCK)).into_par_iter().map(block).reduce_with(worse).unwrap();
    for (isa, error, x) in worst {
        println!("{name}, {isa}: {error:.3} ulp at {x:e}");
        assert!(error <= bound, "{name}, {isa}: {error} ulp at {x:e}, bound {bound}");
    }
}

#[derive(Clone, Copy)]
struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        activation::exp(isa, x)
    }
}

#[test]
fn exp_keeps_its_bound() {
    check("exp", 1.1, Exp, f64::exp, |_| true);
}

#[test]
fn sigmoid_keeps_its_bound() {
    let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
    check("sigmoid", 2.5, activation::Sigmoid, exact, |x| x >= -87.3);
    // as far from a subnormal value as from zero
    check("sigmoid far below zero", 8_388_608.0, activation::Sigmoid, exact, |x| x < -87.3);
}

#[test]
fn tanh_keeps_its_bound() {
    check("tanh", 3.0, activation::Tanh, f64::tanh, |_| true);
}

#[test]
fn the_rarer_activations_keep_their_bounds() {
    check("elu", 1.5, Activation::Elu { alpha: 1.0 }, |x| if x < 0.0 { x.exp_m1() } else { x }, |_| true);
    check("softsign", 1.5, Activation::Softsign, |x| if x.is_infinite() { x.signum() } else { x / (1.0 + x.abs()) }, |_| true);
    let softplus = |x: f64| if x < 0.0 { x.exp().ln_1p() } else { x + (-x).exp().ln_1p() };
    check("softplus", 4.0, Activation::Softplus, softplus, |_| true);
}

#[test]
fn every_activation_follows_the_scalar_one() {
    let mut xs: Vec<f32> = (-4003i16..=4000).map(|step| f32::from(step) / 40.0).collect();
    xs.extend([0.5, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN]);
    for activation in ACTIVATIONS {
        let mut wanted: Vec<f64> = xs.iter().map(|&x| f64::from(x)).collect();
        crate::cpu::plain::activation::apply(activation, &mut wanted);
        let mut mapped = xs.clone();
        map_slice(activation, &mut mapped);
        for (isa, values) in values(activation, &xs).into_iter().chain([("slice", mapped)]) {
            for ((&x, &wanted), &value) in xs.iter().zip(&wanted).zip(&values) {
                let same = f64::from(value) == wanted || f64::from(value) == f64::from(wanted as f32) || value.is_nan() && wanted.is_nan();
                let near = (f64::from(value) - wanted).abs() <= 4e-7 * (1.0 + wanted.abs());
                assert!(same || near, "{activation} on {isa} at {x}: {value}, expected {wanted}");
                assert!(!x.is_infinite() || same, "{activation} on {isa} at {x}: {value}, expected {wanted}");
            }
        }
    }
}

/// `i`, `f`, `g`, `o` and `c`, one after the other; the last two become `h_next` and `c_next`.
struct Step<'a, const N: usize>(&'a mut [Vec<f32>; 5]);

impl<const N: usize> SimdOp for Step<'_, N> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let block = N * ops.len();
        for start in (0..self.0[0].len()).step_by(block) {
            let load = |values: &[f32]| std::array::from_fn(|at| ops.load(&values[start + at * ops.len()..]));
            let [i, f, g, o, c] = self.0.each_ref().map(|values| load(values));
            let (c, h) = standard::<I, N>(isa, Gates { i, f, g, o }, c);
            for at in 0..N {
                ops.store(h[at], &mut self.0[3][start + at * ops.len()..]);
                ops.store(c[at], &mut self.0[4][start + at * ops.len()..]);
            }
        }
    }
}

/// Numbers of either sign and of every size up to 150, with zero, infinity and NaN among the gates' every now and then.
fn five_numbers(len: usize) -> [Vec<f32>; 5] {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    std::array::from_fn(|which| {
        let number = |_| match (next() * 300.0) as u32 {
            0 => 0.0,
            1 if which < 4 => f32::INFINITY,
            2 if which < 4 => f32::NEG_INFINITY,
            3 => f32::NAN,
            place => (next() * 17.0 - 12.0).exp() * if place % 2 == 0 { 1.0 } else { -1.0 },
        };
        (0..len).map(number).collect()
    })
}

#[test]
fn the_standard_cell_keeps_its_bounds() {
    const LEN: usize = 1 << 18;
    let sigmoid = |x: f32| 1.0 / (1.0 + f64::exp(-f64::from(x)));
    let [i, f, g, o, c] = five_numbers(LEN);
    let inputs = [i, f, g, o, c];
    let mut made: Vec<(&'static str, [Vec<f32>; 5])> = Vec::new();
    on_every_isa!(name => {
        made.push((name, inputs.clone()));
        Step::<1>(&mut made.last_mut().unwrap().1)
    });
    on_every_isa!(name => {
        made.push((name, inputs.clone()));
        Step::<2>(&mut made.last_mut().unwrap().1)
    });
    for (isa, [_, _, _, h_next, c_next]) in &made {
        let (mut worst_c, mut worst_h) = (0.0f64, 0.0f64);
        for at in 0..LEN {
            let [i, f, g, o, c] = inputs.each_ref().map(|values| values[at]);
            let (kept, added) = (sigmoid(f) * f64::from(c), sigmoid(i) * f64::from(g).tanh());
            let error = |actual: f32, exact: f64, size: f64| match exact.is_nan() || actual.is_nan() {
                true => ulp(actual, exact),
                false => ((f64::from(actual) - exact).abs() - 1e-30).max(0.0) / spacing(size),
            };
            let (c_error, exact_h) = (error(c_next[at], kept + added, kept.abs() + added.abs()), sigmoid(o) * f64::from(c_next[at]).tanh());
            let h_error = error(h_next[at], exact_h, exact_h);
            assert!(c_error <= 6.0 && h_error <= 6.0, "{isa}: {c_error} and {h_error} ulp at {i}, {f}, {g}, {o}, {c}");
            assert!(h_next[at].is_nan() || h_next[at].abs() <= 1.0, "{isa}: {} at {c}", h_next[at]);
            (worst_c, worst_h) = (worst_c.max(c_error), worst_h.max(h_error));
        }
        println!("{isa}: c_next {worst_c:.3} ulp, h_next {worst_h:.3} ulp");
    }
}

#[test]
fn a_row_of_scores_becomes_probabilities() {
    for len in [1, 2, 5, 16, 33, 100] {
        let scores: Vec<f32> = (0..len).map(|k| (k as f32 * 0.7).sin() * 30.0 - 200.0).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores.iter().map(|&x| f64::from(x - largest).exp()).sum();
        let (mut plain, mut logs) = (scores.clone(), scores.clone());
        softmax_row(&mut plain);
        log_softmax_row(&mut logs);
        for ((&x, &plain), &log) in scores.iter().zip(&plain).zip(&logs) {
            let exact = f64::from(x - largest) - sum.ln();
            assert!((f64::from(plain) / exact.exp() - 1.0).abs() < 1e-6, "{x} of {len}: {plain}, expected {}", exact.exp());
            assert!((f64::from(log) - exact).abs() < 1e-6 * (1.0 + exact.abs()), "{x} of {len}: {log}, expected {exact}");
        }
    }
    for odd in [f32::NAN, f32::INFINITY] {
        for place in [0, 7, 16, 19] {
            let mut row = [0.5; 20];
            row[place] = odd;
            let mut logs = row;
            softmax_row(&mut row);
            log_softmax_row(&mut logs);
            assert!(row.iter().chain(&logs).all(|value| value.is_nan()), "{odd} at {place}: {row:?}, {logs:?}");
        }
    }
}
