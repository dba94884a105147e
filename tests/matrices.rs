//! Products by cooperative matrices, in every form of theirs, against the float64 reference with the same f16 weights.
//!
//! They round the rows to f16: each value is wrong by a relative 2^-11 at most, or 2^-10 where a driver rounds towards 0. That gives what exact
//! arithmetic gives with each *weight* wrong by as much, in every step anew. So the bound is measured on the reference: every weight moves by
//! 2^-11 of itself up or down, and the largest change of a result over some such copies, times 2 for those drivers, is what a device is allowed
//! beside float32's own `2e-5 * (1 + |value|)`. No number comes from a device.

mod common;

use cellgate::compare::{Tolerance, compare};
use cellgate::gpu::form::{Choice, ProductForm};
use cellgate::{CellActivations, Direction, Engine, LstmConfig, Network, Options, Precision, ScheduleName};
use common::call::{Call, Results, Rng, widen};
use common::{Case, TestDevice, by_model, conclude, golden_cases, gpus, inputs, trial};
use libtest_mimic::{Failed, Trial};

/// Half a step of f16, relative to the value.
const STEP: f32 = 1.0 / 2048.0;

const COPIES: u64 = 6;
const FACTOR: f64 = 2.0;

/// Golden cases have weights of PyTorch's or ONNX's tests: what they give moves by no more than some steps of f16.
const GOLDEN_F16: Tolerance = Tolerance { atol: 4.0 / 1024.0, rtol: 4.0 / 1024.0 };

fn main() {
    let reference = Engine::new(cellgate::DeviceChoice::Reference).expect("the reference is always there");
    let mut trials = Vec::new();
    for device in gpus() {
        for (name, call) in cases() {
            let reference = reference.clone();
            trials.push(suited(&device, &format!("fixed/{name}"), move |engine| fixed(engine, &reference, &call)));
        }
        for case in golden_cases() {
            let reference = reference.clone();
            trials.push(suited(&device, &format!("golden/{}", case.name), move |engine| golden(engine, &reference, &case)));
        }
    }
    conclude(trials);
}

/// A trial; it is ignored, visibly, where the device has no cooperative matrices. Those that it does not compute with are a failure.
fn suited(device: &TestDevice, name: &str, run: impl FnOnce(&Engine) -> Result<(), Failed> + Send + 'static) -> Trial {
    let listed = |engine: &Engine| engine.describe().device.features.iter().any(|feature| feature.starts_with("cooperative-matrix"));
    match &device.engine {
        Some(engine) if !listed(engine) => {
            Trial::test(format!("{}/{name} (no cooperative matrices)", device.name), || Ok(())).with_ignored_flag(true)
        }
        _ => trial(device, name, run),
    }
}

/// Sizes around those of matrices and of groups of them, and every option that a kernel sees.
fn cases() -> Vec<(&'static str, Call)> {
    let mut cases = Vec::new();
    let mut add = |name, config: LstmConfig, seq_len, batch, ragged: bool| {
        let mut rng = Rng::new(batch as u64);
        let mut call = Call::random(config, seq_len, batch, &mut rng).with_states(&mut rng);
        call.lens = ragged.then(|| (0..batch).map(|row| (row % (seq_len + 1)) as i64).collect());
        cases.push((name, call));
    };
    let two_ways = |config: LstmConfig| LstmConfig { direction: Direction::Bidirectional, ..config };
    let stack = |layers, config: LstmConfig| LstmConfig { num_layers: layers, ..config };
    add("whole-tiles", LstmConfig::new(64, 64), 5, 64, false);
    add("odd", LstmConfig::new(7, 33), 6, 9, false);
    add("one-unit", LstmConfig::new(1, 1), 4, 6, false);
    add("edges", LstmConfig::new(33, 50), 5, 17, true);
    add("wide-input", LstmConfig::new(300, 12), 3, 40, false);
    add("two-ways", two_ways(stack(2, LstmConfig::new(20, 40))), 6, 33, true);
    add("three-layers", stack(3, LstmConfig::new(16, 24)), 7, 20, true);
    add("reverse", LstmConfig { direction: Direction::Reverse, ..LstmConfig::new(20, 36) }, 6, 12, true);
    add("projected", stack(2, LstmConfig { proj_size: Some(10), ..LstmConfig::new(20, 40) }), 6, 20, true);
    add("projected-clip", LstmConfig { proj_size: Some(33), proj_clip: Some(0.1), ..LstmConfig::new(9, 64) }, 6, 35, false);
    add(
        "peepholes",
        LstmConfig { peepholes: true, input_forget: true, clip: Some(1.0), cell_clip: Some(0.5), ..LstmConfig::new(20, 40) },
        6,
        20,
        false,
    );
    add("no-bias", LstmConfig { bias: false, ..LstmConfig::new(20, 40) }, 6, 20, false);
    let softsign = cellgate::Activation::from_onnx("Softsign").expect("a name of ONNX");
    let activations = [CellActivations { candidate: softsign, ..CellActivations::default() }, CellActivations::default()];
    add("activations", two_ways(LstmConfig { activations, ..LstmConfig::new(20, 40) }), 6, 20, false);
    cases
}

/// Every choice whose products are all made by matrices, one for each schedule and form.
fn choices(engine: &Engine, network: &Network, batch: usize) -> Result<Vec<Choice>, Failed> {
    let mut choices: Vec<Choice> = Vec::new();
    for schedule in [ScheduleName::PerStep, ScheduleName::Wavefront] {
        let options = Options { precision: Precision::F16, schedule: Some(schedule), ..by_model() };
        if engine.check(network, &options).is_err() {
            continue;
        }
        let candidates = engine.session(network, options)?.candidates(batch.max(64));
        let matrices = candidates.into_iter().filter_map(|(choice, _)| match choice.schedule.product() {
            Some(form @ ProductForm::Matrix(_)) => Some(Choice { input: form, ..choice }),
            _ => None,
        });
        choices.extend(matrices);
    }
    Ok(choices)
}

fn fixed(engine: &Engine, reference: &Engine, call: &Call) -> Result<(), Failed> {
    let network = call.network()?;
    let f16 = |choice| Options { precision: Precision::F16, choice, ..by_model() };
    let run =
        |engine: &Engine, call: &Call, options: Options| -> Result<Results, Failed> { call.run_in(&mut engine.session(&call.network()?, options)?) };
    let expected = run(reference, call, f16(None))?;
    let plain = run(reference, call, by_model())?;
    let mut most = [0.0_f64; 3];
    for copy in 0..COPIES {
        let moved = run(reference, &moved(call, copy), by_model())?;
        for (most, ((_, moved), (_, plain))) in most.iter_mut().zip(moved.tensors().into_iter().zip(plain.tensors())) {
            *most = moved.iter().zip(plain).fold(*most, |most, (a, b)| most.max(f64::from((a - b).abs())));
        }
    }
    let choices = choices(engine, &network, call.batch())?;
    if choices.is_empty() {
        return Err(format!("no form by matrices is a candidate: {:?}", engine.describe().device.features).into());
    }
    let mut worst = 0.0_f64;
    for choice in choices {
        let mut session = engine.session(&network, f16(Some(choice)))?;
        let kernels = session.explain(call.batch(), call.seq_len())?.lstms[0].dispatches.clone();
        if !kernels.iter().all(|kernel| kernel.kernel.ends_with("_matrix")) {
            return Err(format!("kernels {kernels:?}, expected products by matrices").into());
        }
        let actual = call.run_in(&mut session)?;
        for (((name, actual), (_, expected)), most) in actual.tensors().into_iter().zip(expected.tensors()).zip(most) {
            let bound = Tolerance { atol: 2e-5 + FACTOR * most, rtol: 2e-5 };
            let comparison = compare(actual.view().into_dyn(), widen(expected).view(), bound);
            worst = worst.max(comparison.worst.as_ref().map_or(0.0, |worst| worst.ratio));
            if !comparison.passed() {
                return Err(format!("{}: {name}, bound {bound:?}: {comparison}", choice.schedule).into());
            }
        }
        let again = call.run_in(&mut session)?;
        if again != actual {
            return Err(format!("{}: two runs differ", choice.schedule).into());
        }
    }
    eprintln!("the worst is at {worst:.3} of its bound, which is {:.1e} {:.1e} {:.1e}", FACTOR * most[0], FACTOR * most[1], FACTOR * most[2]);
    Ok(())
}

/// The call with every weight half a step of f16 up or down.
fn moved(call: &Call, copy: u64) -> Call {
    let mut rng = Rng::new(0x5eed + copy);
    let mut moved = call.clone();
    for cell in &mut moved.cells {
        for matrix in [Some(&mut cell.weight_ih), Some(&mut cell.weight_hh), cell.weight_hr.as_mut()].into_iter().flatten() {
            matrix.mapv_inplace(|weight| weight * if rng.bits() & 1 == 0 { 1.0 + STEP } else { 1.0 - STEP });
        }
    }
    moved
}

fn golden(engine: &Engine, reference: &Engine, case: &Case) -> Result<(), Failed> {
    let network = Network::open(&case.model)?;
    let tensors = case.read_inputs()?;
    let f16 = |choice| Options { precision: Precision::F16, choice, ..by_model() };
    if network.lstms().any(|(_, lstm)| lstm.is_none()) {
        return Ok(());
    }
    let expected = reference.session(&network, f16(None))?.run(&inputs(&tensors))?;
    // one form of each schedule: the others are compared on the cases above
    let mut choices = choices(engine, &network, 64)?;
    choices.dedup_by_key(|choice| choice.schedule.name());
    for choice in choices {
        if engine.check(&network, &f16(Some(choice))).is_err() {
            continue;
        }
        let outputs = engine.session(&network, f16(Some(choice)))?.run(&inputs(&tensors))?;
        for (name, _) in &case.outputs {
            let (actual, expected) = (outputs.get(name), expected.get(name));
            let (Some(actual), Some(expected)) = (actual.and_then(|t| t.as_f32()), expected.and_then(|t| t.as_f32())) else {
                return Err(format!("output `{name}`: missing").into());
            };
            let comparison = compare(actual.view(), expected.mapv(f64::from).view(), GOLDEN_F16);
            if !comparison.passed() {
                return Err(format!("{}: output `{name}`: {comparison}", choice.schedule).into());
            }
        }
    }
    Ok(())
}
