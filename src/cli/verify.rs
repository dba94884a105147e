//! `cellgate verify`: a device against the float64 reference.

use cellgate::compare::Tolerance;
use cellgate::{DeviceChoice, DeviceKind, Engine, Options, Precision, Tensor};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, SessionArgs};
use super::judge::{self, OutputReport, TOLERANCE};
use super::output::{self, DeviceFields, ScheduleFields};
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
    let (actual, device_ms) = judge::call(&mut session, &inputs, "running on the device")?;
    let schedule = ScheduleFields::say(&session);
    let reference = |options| Engine::new(DeviceChoice::Reference)?.session(&network, options);
    let mut exact = reference(args.session.reference_options())?;
    let (expected, reference_ms) = judge::call(&mut exact, &inputs, "running the float64 reference")?;
    let tolerance = judge::bound(&engine.describe().device, args.session.precision());
    let mut outputs = judge::judge(&network, &actual, &expected, tolerance)?;
    if tolerance == TOLERANCE && outputs.iter().any(|output| !output.passed) {
        judge::allow_for_sensitivity(&mut exact, &inputs, &expected, &mut outputs)?;
    }
    let stored = match args.session.precision() {
        Precision::F32 => None,
        precision => {
            let (given, _) = judge::call(&mut reference(Options::default())?, &inputs, "running the float64 reference on the weights as given")?;
            let bound = precision.bound();
            Some(StoredReport { atol: bound.atol, rtol: bound.rtol, outputs: judge::judge(&network, &expected, &given, bound)? })
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
            atol: tolerance.atol,
            rtol: tolerance.rtol,
            outputs,
            precision: args.session.precision(),
            stored,
            passed,
            device_ms,
            reference_ms,
        })?;
    } else {
        print_outputs(&outputs)?;
        let bound = describe_bound(tolerance);
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
