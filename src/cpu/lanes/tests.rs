//! The bounds that the functions state, on every instruction set of the machine.
//!
//! Every 1009th float32 is tried, and all of them where `CELLGATE_LONG` is set.

use rayon::prelude::*;
use rten_simd::isa::GenericIsa;
use rten_simd::{Isa, SimdOp};

use super::activation::{self, Function};
use super::rows::{Each, log_softmax_row, map_slice, softmax_row};
use crate::network::Activation;

/// The values of a function on each instruction set, the one that is chosen first.
fn on_every_isa<F: Function>(function: F, values: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let mut of = Vec::new();
    let mut add = |name, run: &dyn Fn(&mut [f32])| {
        let mut values = values.to_vec();
        run(&mut values);
        of.push((name, values));
    };
    add("chosen", &|values| Each(function, values).dispatch());
    #[cfg(target_arch = "x86_64")]
    if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
        add("AVX2", &|values| Each(function, values).eval(isa));
    }
    add("generic", &|values| Each(function, values).eval(GenericIsa::new()));
    of
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
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (f64::from(actual) - exact).abs() / (exponent - 23.0).exp2()
}

/// Holds the largest error over all that `within` lets through to a bound; NaN has to give NaN.
fn check<F: Function + Sync>(name: &str, bound: f64, function: F, exact: fn(f64) -> f64, within: fn(f32) -> bool) {
    const BLOCK: u64 = 1 << 16;
    let long = std::env::var_os("CELLGATE_LONG").is_some_and(|value| value != "0" && !value.is_empty());
    let stride = if long { 1 } else { 1009 };
    let patterns = (1u64 << 32).div_ceil(stride);
    let block = |number: u64| {
        let range = number * BLOCK..patterns.min((number + 1) * BLOCK);
        let xs: Vec<f32> = range.map(|place| f32::from_bits((place * stride) as u32)).collect();
        let wanted: Vec<f64> = xs.iter().map(|&x| exact(f64::from(x))).collect();
        let errors = on_every_isa(function, &xs).into_iter().map(|(isa, values)| {
            let errors = xs.iter().zip(&wanted).zip(&values).filter(|((x, _), _)| x.is_nan() || within(**x));
            let worst = errors.map(|((&x, &exact), &value)| (ulp(value, exact), x)).max_by(|a, b| a.0.total_cmp(&b.0));
            (isa, worst.unwrap_or_default())
        });
        errors.collect::<Vec<_>>()
    };
    let worse = |a: Vec<(&'static str, (f64, f32))>, b: Vec<_>| {
        let pairs = a.into_iter().zip(b);
        pairs.map(|(a, b): ((&str, (f64, f32)), (&str, (f64, f32)))| if b.1.0 > a.1.0 { b } else { a }).collect()
    };
    let worst = (0..patterns.div_ceil(BLOCK)).into_par_iter().map(block).reduce_with(worse).unwrap();
    for (isa, (error, x)) in worst {
        println!("{name}, {isa}: {error:.3} ulp at {x:e}");
        assert!(error <= bound, "{name}, {isa}: {error} ulp at {x:e}, bound {bound}");
    }
}

/// A function of this module that is no [`Activation`].
macro_rules! function {
    ($name:ident, $of:path) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn at<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
                $of(isa, x)
            }
        }
    };
}

function!(Exp, activation::exp);
function!(ExpNormal, activation::exp_normal);

#[test]
fn exp_keeps_its_bound() {
    check("exp", 1.1, Exp, f64::exp, |_| true);
    check("exp_normal", 1.1, ExpNormal, f64::exp, |x| (-87.0..88.3).contains(&x));
}

#[test]
fn sigmoid_keeps_its_bound() {
    check("sigmoid", 2.5, activation::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), |x| x >= -87.3);
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
