//! `cellgate verify`: a device against the float64 reference.

use std::time::Instant;

use cellgate::compare::{Comparison, Element, Tolerance, compare};
use cellgate::{DeviceChoice, DeviceKind, Engine, Network, Options, Outputs, Port, Precision, Session, Tensor};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, SessionArgs};
use super::output::{self, DeviceFields, ScheduleFields, Spinner};
use super::tensors::{self, HostInputs, InputArgs, Sizes};
use super::{Result, Verdict};

/// Compare a device with the float64 reference; exit code 1 where an output is past the tolerance
///
/// Without --input, the inputs that the model needs are made up: seeded random numbers and sequences of full length. With --precision, the
/// device is compared with the reference on the weights as they are stored, and this with the reference on the weights as given, by a wider bound.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    inputs: InputArgs,
    /// Seed of made-up inputs
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "inputs", help_heading = "Inputs")]
    seed: u64,
    /// Rows of made-up inputs
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "inputs", help_heading = "Inputs")]
    batch: usize,
    /// Steps of made-up inputs
    #[arg(long, value_name = "T", default_value_t = 32, conflicts_with = "inputs", help_heading = "Inputs")]
    seq_len: usize,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

const EXAMPLES: &str = "Examples:
  cellgate verify model.onnx
  cellgate verify model.safetensors --device gpu --batch 64 --seq-len 200
  cellgate verify model.safetensors --input x=x.npy --input h_0=h.npy";

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

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    device: DeviceFields,
    #[serde(flatten)]
    schedule: ScheduleFields,
    /// of made-up inputs
    seed: Option<u64>,
    inputs: Vec<InputReport>,
    atol: f64,
    rtol: f64,
    outputs: Vec<OutputReport>,
    precision: Precision,
    /// what storing the weights in fewer bits does; absent where they are stored as they are
    stored: Option<StoredReport>,
    passed: bool,
    device_ms: f64,
    reference_ms: f64,
}

/// The reference on the weights as they are stored against the reference on the weights as given.
#[derive(Serialize)]
struct StoredReport {
    atol: f64,
    rtol: f64,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct InputReport {
    name: String,
    shape: Vec<usize>,
    dtype: String,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    shape: Vec<usize>,
    passed: bool,
    /// `null`: NaN or infinity on one side only, or shapes that differ
    max_abs_err: Option<f64>,
    worst: Option<ElementReport>,
    num_outside: usize,
    /// values that are NaN or infinite on the device
    num_non_finite: usize,
    /// where it is past the bound: by how much of it the reference moves when each input moves to the next float32
    nudged_ratio: Option<f64>,
    /// what part of the bound it was held to: 1, or more for a model that makes much of rounding
    allowed_ratio: f64,
    #[serde(skip)]
    text: String,
}

#[derive(Serialize)]
struct ElementReport {
    index: Vec<usize>,
    actual: f32,
    expected: f64,
    ratio: f64,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let network = args.model.open()?;
    let made_up = args.inputs.inputs.is_empty();
    let inputs = if made_up {
        HostInputs::generate(&network, Sizes { batch: args.batch, seq_len: args.seq_len }, args.seed)?
    } else {
        HostInputs::read(&network, &args.inputs.inputs)?
    };
    let engine = args.device.open_and_say()?;
    if engine.describe().device.kind == DeviceKind::Reference {
        output::say("note: the device is the reference itself; comparing it with itself shows nothing");
    }
    for (name, tensor) in inputs.iter() {
        let origin = if made_up { format!("made up with seed {}", args.seed) } else { "given".to_owned() };
        output::say(&format!("input `{name}`: {}, {origin}", tensors::describe(tensor)));
    }
    let mut session = engine.session(&network, args.session.options())?;
    let (actual, device_ms) = call(&mut session, &inputs, "running on the device")?;
    let schedule = ScheduleFields::say(&session);
    let reference = |options| Engine::new(DeviceChoice::Reference)?.session(&network, options);
    let mut exact = reference(args.session.reference_options())?;
    let (expected, reference_ms) = call(&mut exact, &inputs, "running the float64 reference")?;
    let mut outputs = judge(&network, &actual, &expected, TOLERANCE)?;
    if outputs.iter().any(|output| !output.passed) {
        allow_for_sensitivity(&mut exact, &inputs, &expected, &mut outputs)?;
    }
    let stored = match args.session.precision() {
        Precision::F32 => None,
        precision => {
            let (given, _) = call(&mut reference(Options::default())?, &inputs, "running the float64 reference on the weights as given")?;
            let bound = precision.bound();
            Some(StoredReport { atol: bound.atol, rtol: bound.rtol, outputs: judge(&network, &expected, &given, bound)? })
        }
    };
    let passed = outputs.iter().chain(stored.iter().flat_map(|stored| &stored.outputs)).all(|output| output.passed);
    for output in &outputs {
        tensors::note_non_finite(&output.name, output.num_non_finite);
    }
    if args.json {
        let describe = |(name, tensor): &(String, Tensor)| {
            let view = tensor.view();
            InputReport { name: name.clone(), shape: view.shape().to_vec(), dtype: view.element_type().to_string() }
        };
        output::print_json(&Report {
            device: DeviceFields::of(engine.describe()),
            schedule,
            seed: made_up.then_some(args.seed),
            inputs: inputs.iter().map(describe).collect(),
            atol: TOLERANCE.atol,
            rtol: TOLERANCE.rtol,
            outputs,
            precision: args.session.precision(),
            stored,
            passed,
            device_ms,
            reference_ms,
        })?;
    } else {
        print_outputs(&outputs)?;
        let bound = describe_bound(TOLERANCE);
        let widened = outputs.iter().any(|output| output.allowed_ratio > 1.0);
        let bound = if widened { format!("{bound}, widened where the model makes much of rounding") } else { bound };
        let all = |passed| if passed { "pass: every value" } else { "FAIL: not every value" };
        let of = if stored.is_some() { format!(" of the reference on {} weights", args.session.precision()) } else { String::new() };
        output::print(&format!("{} within {bound}{of}", all(outputs.iter().all(|output| output.passed))))?;
        if let Some(stored) = &stored {
            output::print(&format!("\n{} weights against those given, both by the reference", args.session.precision()))?;
            print_outputs(&stored.outputs)?;
            let bound = describe_bound(args.session.precision().bound());
            output::print(&format!("{} within {bound}", all(stored.outputs.iter().all(|output| output.passed))))?;
        }
    }
    Ok(if passed { Verdict::Good } else { Verdict::CheckFailed })
}

/// A row for every output.
fn print_outputs(outputs: &[OutputReport]) -> Result<()> {
    let row = |output: &OutputReport| {
        let verdict = match output.passed {
            true if output.allowed_ratio > 1.0 => "pass, widened bound",
            true => "pass",
            false => "FAIL",
        };
        [output.name.clone(), format!("{:?}", output.shape), verdict.to_owned(), output.text.clone()]
    };
    output::print(&output::table(&outputs.iter().map(row).collect::<Vec<_>>(), ""))
}

fn describe_bound(tolerance: Tolerance) -> String {
    format!("|error| <= {:e} + {:e} * |value|", tolerance.atol, tolerance.rtol)
}

/// Runs the network once; its outputs and the time in milliseconds.
fn call(session: &mut Session, inputs: &HostInputs, what: &'static str) -> Result<(Outputs, f64)> {
    let _spinner = Spinner::new(what);
    let start = Instant::now();
    let outputs = session.run(&inputs.inputs())?;
    Ok((outputs, output::milliseconds(start.elapsed())))
}

/// Where an output is past the bound: how far the reference itself moves when its inputs do by one rounding. No float32 device can be held
/// to less than a model makes of that, so the bound is widened to [`ROUNDINGS`] times as much, and that is said.
fn allow_for_sensitivity(exact: &mut Session, inputs: &HostInputs, expected: &Outputs, outputs: &mut [OutputReport]) -> Result<()> {
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
fn judge(network: &Network, actual: &Outputs, expected: &Outputs, tolerance: Tolerance) -> Result<Vec<OutputReport>> {
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
