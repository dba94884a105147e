//! How far a float32 device may lie from the float64 reference.
//!
//! The bound is `1e-5 * (1 + |value|)`, for every value of every case, unless the case is chaotic: unless rounding the weights
//! differently would move the result itself by about as much. Then the bound is derived from how far it does move:
//!
//! A float32 device that adds up `n` products gets the exact sum of products whose weights are wrong by a relative `sqrt(n) * 2^-24`
//! or so (Higham and Mary 2019, a probabilistic bound; the certain one is `n * 2^-24`). So what it computes is what *exact*
//! arithmetic computes from slightly different weights, and its error is how much the result depends on them. That is measured:
//! the reference runs on copies of the call in which every weight, input and initial state is moved by one float32 step up or down,
//! which is a relative `2^-24` to `2^-23`. The largest change of a result over the copies, times `max(8, sqrt(n))`, is what a device
//! is allowed: `sqrt(n)` because it rounds that much more often than the copies do, and at least 8 because few copies do not find the
//! worst case, and because `exp` may be wrong by some units in the last place by itself. A large change is not proportional to its
//! cause, so other copies are moved by that many steps at once, and their change counts as it is. No number comes from a device.
//!
//! Where the derived bound reaches a tenth of the values, the case judges nothing any more. It is then run with half its steps, and so
//! on, until it does.
//!
//! An activation with a jump (`ThresholdedRelu`) turns the smallest rounding into a whole step for a value that lies on the jump. The
//! copies move its threshold up and down as well, by as much as the sums may be wrong.

use cellgate::compare::{Tolerance, compare};
use cellgate::{Activation, Engine};
use libtest_mimic::Failed;
use ndarray::{Array1, Array3, Axis, Zip};

use crate::common::call::{Call, Results, Rng, widen};

/// For every value of a case that is not chaotic.
pub(crate) const PLAIN: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

/// Moved copies of a case whose bound is derived: half of them by one step, half by as many as a device may be wrong by.
const COPIES: u64 = 12;

/// A derived bound of so many times the plain one is a tenth of the value: the case is undetermined.
pub(crate) const UNDETERMINED: f64 = 1e4;

/// How a device did on one case.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// of the worst value to its bound
    pub(crate) ratio: f64,
    /// the largest derived bound in units of the plain one, where the case is chaotic
    pub(crate) chaotic: Option<f64>,
    /// what is outside the plain bound
    message: String,
}

impl Verdict {
    /// Whether the reference itself moves so far that nothing can be judged.
    pub(crate) fn undetermined(&self) -> bool {
        self.chaotic.is_some_and(|loosest| loosest > UNDETERMINED)
    }

    /// An error where a value is outside its bound.
    pub(crate) fn passed(self) -> Result<Self, Failed> {
        if self.ratio <= 1.0 { Ok(self) } else { Err(format!("{:.3} of the derived bound; by the plain bound: {}", self.ratio, self.message).into()) }
    }
}

/// Judges `actual`; the derived bound is only looked at where the plain one is exceeded.
pub(crate) fn judge(call: &Call, reference: &Engine, actual: &Results, expected: &Results) -> Result<Verdict, Failed> {
    let mut verdict = Verdict { ratio: 0.0, chaotic: None, message: String::new() };
    for ((name, actual), (_, expected)) in actual.tensors().into_iter().zip(expected.tensors()) {
        let comparison = compare(actual.view().into_dyn(), widen(expected).view(), PLAIN);
        verdict.ratio = verdict.ratio.max(comparison.worst.as_ref().map_or(0.0, |worst| worst.ratio));
        if !comparison.passed() {
            verdict.message = format!("{}\n{name}: {comparison}", verdict.message);
        }
    }
    if verdict.message.is_empty() {
        return Ok(verdict);
    }
    let (mut ratio, mut loosest) = (0.0_f64, 1.0_f64);
    let tensors = actual.tensors().into_iter().zip(expected.tensors()).zip(derived_bounds(call, reference, expected)?);
    for (((_, actual), (_, expected)), derived) in tensors {
        Zip::from(actual).and(expected).and(&derived).for_each(|&actual, &expected, &derived| {
            let (actual, expected) = (f64::from(actual), f64::from(expected));
            let plain = PLAIN.bound(expected);
            let of_bound = (actual - expected).abs() / plain.max(derived);
            loosest = loosest.max(derived / plain);
            ratio = ratio.max(if of_bound.is_nan() { f64::INFINITY } else { of_bound });
        });
    }
    Ok(Verdict { ratio, chaotic: Some(loosest), ..verdict })
}

/// How much more a device rounds than a copy is moved.
fn factor(call: &Call) -> f64 {
    let config = &call.config;
    let widest_input = config.input_size.max(if config.num_layers > 1 { config.y_size() } else { 0 });
    let products = (widest_input + config.out_size()).max(config.hidden_size);
    (products as f64).sqrt().max(8.0)
}

/// For every value: what it may be wrong by, which is how far it moves at most from copy to copy, and at least as much, for its size, as
/// what the unit of the same row and step that moves most may be wrong by. Units of one step feed each other through `weight_hh`, so
/// what moves one of them moves all.
fn derived_bounds(call: &Call, reference: &Engine, expected: &Results) -> Result<[Array3<f64>; 3], Failed> {
    let mut largest = expected.tensors().map(|(_, tensor)| Array3::<f64>::zeros(tensor.dim()));
    for copy in 0..COPIES {
        let (steps, times) = if copy < COPIES / 2 { (1, factor(call)) } else { (factor(call).round() as i32, 1.0) };
        let moved = moved(call, copy, steps).run(reference)?;
        for ((largest, (_, moved)), (_, expected)) in largest.iter_mut().zip(moved.tensors()).zip(expected.tensors()) {
            Zip::from(largest).and(moved).and(expected).for_each(|largest, &moved, &expected| {
                *largest = largest.max(times * (f64::from(moved) - f64::from(expected)).abs());
            });
        }
    }
    for (tensor, (_, expected)) in largest.iter_mut().zip(expected.tensors()) {
        let lanes = tensor.lanes_mut(Axis(2)).into_iter().zip(expected.lanes(Axis(2)));
        for (mut units, values) in lanes {
            let size = |value: &f32| 1.0 + f64::from(value.abs());
            let most = units.iter().zip(&values).fold(0.0_f64, |most, (unit, value)| most.max(unit / size(value)));
            units.zip_mut_with(&values, |unit, value| *unit = unit.max(most * size(value)));
        }
    }
    Ok(largest)
}

/// The call with every number that many float32 steps up or down.
fn moved(call: &Call, copy: u64, steps: i32) -> Call {
    let mut rng = Rng::new(0x5eed + copy);
    let mut step = |value: f32| {
        let up = rng.bits() & 1 == 0;
        // zero has no relative neighbour: a device that multiplies by it makes no error
        let next = |value: f32| {
            if value == 0.0 {
                value
            } else if up {
                value.next_up()
            } else {
                value.next_down()
            }
        };
        (0..steps).fold(value, |value, _| next(value))
    };
    let mut moved = call.clone();
    moved.x.mapv_inplace(&mut step);
    for state in [&mut moved.h_0, &mut moved.c_0].into_iter().flatten() {
        state.mapv_inplace(&mut step);
    }
    for cell in &mut moved.cells {
        cell.weight_ih.mapv_inplace(&mut step);
        cell.weight_hh.mapv_inplace(&mut step);
        for matrix in [&mut cell.weight_hr, &mut cell.peepholes].into_iter().flatten() {
            matrix.mapv_inplace(&mut step);
        }
        let norm = cell.layer_norm.as_mut().map(|norm| [&mut norm.gamma_ih, &mut norm.gamma_hh, &mut norm.gamma_c, &mut norm.beta_c]);
        let biases = [&mut cell.bias_ih, &mut cell.bias_hh].into_iter().flatten();
        biases.chain(norm.into_iter().flatten()).for_each(|vector: &mut Array1<f32>| vector.mapv_inplace(&mut step));
    }
    let sign = if copy.is_multiple_of(2) { 1.0 } else { -1.0 };
    #[expect(clippy::cast_possible_truncation, reason = "a shift that float32 rounds is as good")]
    let shift = (sign * 4.0 * factor(call) * f64::from(f32::EPSILON)) as f32;
    for activations in &mut moved.config.activations {
        for activation in [&mut activations.gate, &mut activations.candidate, &mut activations.output] {
            if let Activation::ThresholdedRelu { alpha } = activation {
                *alpha += shift;
            }
        }
    }
    moved
}
