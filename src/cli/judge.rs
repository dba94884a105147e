//! Whether the outputs of a device are those of the float64 reference.

use std::time::Instant;

use cellgate::compare::{Comparison, Element, Tolerance, compare};
use cellgate::{DeviceInfo, Network, Outputs, Port, Precision, Session, Tensor};
use serde::Serialize;

use super::Result;
use super::output::{self, Spinner};
use super::tensors::{self, HostInputs};

/// What float32 is held to: |error| <= 1e-5 * (1 + |value|).
pub(super) const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

/// How often the inputs are nudged to see what a model makes of rounding.
const NUDGES: u64 = 4;

/// By how much a device may exceed what nudged inputs do to the reference.
///
/// A nudge rounds each input of a step once. A device rounds, in each of the four gates, the sum over inputs, the sum over the hidden
/// state, the bias and the result, then the cell and the hidden state: 18 roundings of the same size and of random sign, whose sum grows with
/// their square root, 4.2; twice that leaves room for the few nudges that were tried.
const ROUNDINGS: f64 = 8.0;

/// The widest that the bound gets, |error| <= 1e-3 * (1 + |value|). A model that needs more is chaotic on these inputs: float32 and float64 go
/// different ways whatever the device does, and a bound that lets both through would let anything through.
const MAX_RATIO: f64 = 100.0;

/// What a device is held to with weights stored so. Products by cooperative matrices round the rows that they multiply as well, to what the weights are
/// rounded to, and so have the bound of that.
pub(super) fn bound(device: &DeviceInfo, precision: Precision) -> Tolerance {
    let by_matrices = precision == Precision::F16 && device.features.iter().any(|feature| feature == "cooperative-matrix");
    if by_matrices { precision.bound() } else { TOLERANCE }
}

#[derive(Serialize)]
pub(super) struct OutputReport {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) passed: bool,
    /// `null`: NaN or infinity on one side only, or shapes that differ
    pub(super) max_abs_err: Option<f64>,
    pub(super) worst: Option<ElementReport>,
    pub(super) num_outside: usize,
    /// values that are NaN or infinite on the device
    pub(super) num_non_finite: usize,
    /// where it is past the bound: by how much of it the reference moves when each input moves to the next float32
    pub(super) nudged_ratio: Option<f64>,
    /// what part of the bound it was held to: 1, or more for a model that makes much of rounding
    pub(super) allowed_ratio: f64,
    #[serde(skip)]
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct ElementReport {
    pub(super) index: Vec<usize>,
    pub(super) actual: f32,
    pub(super) expected: f64,
    pub(super) ratio: f64,
}

/// Runs the network once; its outputs and the time in milliseconds.
pub(super) fn call(session: &mut Session, inputs: &HostInputs, what: &'static str) -> Result<(Outputs, f64)> {
    let _spinner = Spinner::new(what);
    let start = Instant::now();
    let outputs = session.run(&inputs.inputs())?;
    Ok((outputs, output::milliseconds(start.elapsed())))
}

/// Where an output is past the bound: how far the reference itself moves when its inputs do by one rounding. No float32 device can be held
/// to less than a model makes of that, so the bound is widened to [`ROUNDINGS`] times as much, and that is said.
pub(super) fn allow_for_sensitivity(exact: &mut Session, inputs: &HostInputs, expected: &Outputs, outputs: &mut [OutputReport]) -> Result<()> {
    let mut moved = vec![0.0_f64; outputs.len()];
    for nudge in 1..=NUDGES {
        let (values, _) = call(exact, &inputs.nudged(nudge), "running the float64 reference again")?;
        for (most, output) in moved.iter_mut().zip(judge(exact.network(), &values, expected, TOLERANCE)?) {
            *most = most.max(output.worst.map_or(0.0, |worst| worst.ratio));
        }
    }
    for (output, moved) in outputs.iter_mut().zip(moved).filter(|(output, moved)| !output.passed && moved.is_finite()) {
        output.nudged_ratio = Some(moved);
        let note = format!("note: each input moved to the next float32 moves the reference's own `{}` by up to {moved:.3} of the bound", output.name);
        if ROUNDINGS * moved > MAX_RATIO {
            output::say(&format!("{note}: the model is chaotic on these inputs, and nothing can be judged by them"));
            continue;
        }
        output.allowed_ratio = (ROUNDINGS * moved).max(1.0);
        let within = output.worst.as_ref().is_some_and(|worst| worst.ratio <= output.allowed_ratio);
        output.passed = within && output.max_abs_err.is_some();
        output::say(&format!("{note}; no device is held to less than {ROUNDINGS} times that, {:.3}", output.allowed_ratio));
    }
    Ok(())
}

/// Every output in the model's order.
pub(super) fn judge(network: &Network, actual: &Outputs, expected: &Outputs, tolerance: Tolerance) -> Result<Vec<OutputReport>> {
    let judge = |port: &Port| {
        let name = port.name.as_str();
        let actual = actual.get(name).ok_or_else(|| format!("output `{name}`: the device did not make it"))?;
        let expected = expected.get(name).ok_or_else(|| format!("output `{name}`: the reference did not make it"))?;
        Ok(match (actual.as_f32(), expected.as_f32()) {
            (Some(values), Some(expected)) => {
                let comparison = compare(values.view(), expected.mapv(f64::from).view(), tolerance);
                OutputReport::of(name, &comparison, tensors::num_non_finite(actual))
            }
            _ => OutputReport::exact(name, actual, actual == expected),
        })
    };
    network.outputs().iter().map(judge).collect()
}

impl OutputReport {
    fn of(name: &str, comparison: &Comparison, num_non_finite: usize) -> Self {
        let element = |element: &Element| ElementReport {
            index: element.index.clone(),
            actual: element.actual,
            expected: element.expected,
            ratio: element.ratio,
        };
        let len: usize = comparison.actual_shape.iter().product();
        let outside = if comparison.passed() { String::new() } else { format!("{} of {len} values outside, ", comparison.num_outside) };
        let text = match &comparison.worst {
            Some(worst) => format!("{outside}max |error| {:.2e}, worst at {worst}", comparison.max_abs_err),
            None if comparison.passed() => "no values".to_owned(),
            None => cellgate::one_line(&comparison.to_string()),
        };
        Self {
            name: name.to_owned(),
            shape: comparison.actual_shape.clone(),
            passed: comparison.passed(),
            max_abs_err: Some(comparison.max_abs_err).filter(|error| error.is_finite()),
            worst: comparison.worst.as_ref().map(element),
            num_outside: comparison.num_outside,
            num_non_finite,
            nudged_ratio: None,
            allowed_ratio: 1.0,
            text,
        }
    }

    /// For tensors that are copied and not computed.
    fn exact(name: &str, actual: &Tensor, passed: bool) -> Self {
        let view = actual.view();
        let num_outside = if passed { 0 } else { view.shape().iter().product() };
        let text = format!("{}, {} with the reference", view.element_type(), if passed { "identical" } else { "not identical" });
        let max_abs_err = passed.then_some(0.0);
        let (name, shape) = (name.to_owned(), view.shape().to_vec());
        Self { name, shape, passed, max_abs_err, worst: None, num_outside, num_non_finite: 0, nudged_ratio: None, allowed_ratio: 1.0, text }
    }
}
