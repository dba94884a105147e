//! Random and chosen LSTMs, on every device against the float64 reference. `random/NUMBER` is always the same case.
//!
//! There are 100 random cases, and 1,000 larger ones where `CELLGATE_LONG` is set. Each device's worst ratio to the bound goes to
//! stderr at the end, so that slack shows.

mod bound;
#[path = "../common/mod.rs"]
mod common;
mod fixed;
mod generator;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use cellgate::{DeviceChoice, Engine};
use common::call::{Call, Results, same_bits};
use common::{TestDevice, by_model, gpus, gpus_by_form, gpus_by_schedule, suited_trial, trial};
use libtest_mimic::{Arguments, Failed, Trial};
use ndarray::Axis;
use proptest::strategy::ValueTree;

use bound::{Verdict, judge};
use generator::{LONG, NORMAL, Size, Spec};

/// No value of a reference may be larger: what grows this far within a few steps says more about its own growth than about a device.
const LARGEST: f32 = 1e3;

/// How long a failed case may be made simpler.
const SHRINK: Duration = Duration::from_secs(20);

/// What has been measured on a device.
#[derive(Default)]
struct Tally {
    cases: usize,
    chaotic: usize,
    /// the largest derived bound in units of the plain one
    loosest: (f64, String),
    worst: BTreeMap<&'static str, (f64, String)>,
}

/// Random cases for each schedule and form in the normal mode.
const SCHEDULED: u64 = 30;

type Tallies = Arc<Mutex<BTreeMap<String, Tally>>>;

/// A case with its expected results, computed once for all devices.
struct Case {
    spec: Spec,
    expected: OnceLock<Result<Expected, String>>,
    shorter: OnceLock<Box<Case>>,
}

#[derive(Debug)]
struct Expected {
    call: Call,
    results: Results,
    /// how the case was made smaller so that it has results at all
    tamed: Option<String>,
}

fn main() {
    let arguments = Arguments::from_args();
    let long = std::env::var_os("CELLGATE_LONG").is_some_and(|value| value != "0" && !value.is_empty());
    let (count, size) = if long { (1000, LONG) } else { (100, NORMAL) };
    let reference = Engine::new(DeviceChoice::Reference).expect("the reference is always there");
    let tallies = Tallies::default();
    let mut devices = vec![TestDevice::host("cpu", DeviceChoice::Cpu)];
    devices.extend(gpus());
    devices.extend(gpus_by_schedule());
    devices.extend(gpus_by_form());

    let mut cases: Vec<(String, Option<u64>, Arc<Case>)> = Vec::new();
    for (name, spec) in fixed::specs(long) {
        cases.push((format!("fixed/{}", name.replace(' ', "-")), None, Arc::new(Case::new(spec))));
    }
    for (name, spec, lens) in fixed::with_lengths() {
        let case = Case::new(spec);
        let mut call = case.spec.call();
        call.lens = Some(lens);
        let expected = call
            .run(&reference)
            .map(|results| Expected { call, results, tamed: None })
            .map_err(|error| error.message().unwrap_or_default().to_owned());
        case.expected.set(expected).expect("it is new");
        cases.push((format!("fixed/{}", name.replace(' ', "-")), None, Arc::new(case)));
    }
    for number in 0..count {
        cases.push((format!("random/{number}"), Some(number), Arc::new(Case::new(generator::tree(number, size).current()))));
    }

    let mut trials: Vec<Trial> = Vec::new();
    for (name, number, device_case) in &cases {
        for device in &devices {
            // every kernel has every variant in its first cases; the schedules and forms that are asked for run the others in the long mode
            if device.is_choosy() && number.is_some_and(|number| number >= SCHEDULED && !long) {
                continue;
            }
            let (case, number, reference, tallies) = (Arc::clone(device_case), *number, reference.clone(), Arc::clone(&tallies));
            let (device_name, case_name) = (device.name.clone(), name.clone());
            let network = device.is_choosy().then(|| device_case.spec.call().network().ok()).flatten();
            trials.push(suited_trial(device, name, network.as_ref(), move |engine| {
                let verdict = case.run(engine, &reference).map_err(|error| explain(error, number, &case, engine, &reference, size))?;
                record(&tallies, device_name, case_name, verdict);
                Ok(())
            }));
        }
    }
    for device in &devices {
        let (reference, tallies, name) = (reference.clone(), Arc::clone(&tallies), device.name.clone());
        trials.push(trial(device, "fixed/rows-in-blocks", move |engine| {
            let rows = rows_of_several_blocks(engine)?;
            for ragged in [false, true] {
                let case = Case::new(fixed::many_rows(rows, ragged));
                record(&tallies, name.clone(), format!("fixed/rows-in-blocks, ragged: {ragged}"), case.run(engine, &reference)?);
            }
            Ok(())
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (device, tally) in tallies.lock().expect("no trial panics while it holds the tallies").iter() {
        let (loosest, loosest_case) = &tally.loosest;
        let loosest =
            if tally.chaotic == 0 { String::new() } else { format!(", with bounds up to {loosest:.1} times the plain one ({loosest_case})") };
        eprintln!("{device}: {} cases, {} of them chaotic{loosest}", tally.cases, tally.chaotic);
        for (kind, (ratio, case)) in &tally.worst {
            eprintln!("{device}: the worst {kind} is at {ratio:.4} of its bound ({case})");
        }
    }
    for (name, _, case) in &cases {
        if let Some(changes) = case.changes() {
            eprintln!("{name} ran with {changes}");
        }
    }
    conclusion.exit()
}

/// Rows that the device takes in at least three blocks; on the CPU, where there are no blocks, some.
fn rows_of_several_blocks(engine: &Engine) -> Result<usize, Failed> {
    let session = engine.session(&fixed::many_rows(1, false).call().network()?, by_model())?;
    for batch in [50, 100, 200, 500, 1000, 2000] {
        if session.explain(batch, 2)?.lstms[0].row_blocks >= 3 {
            return Ok(batch);
        }
    }
    Ok(50)
}

fn record(tallies: &Tallies, device: String, case: String, verdict: Verdict) {
    let mut tallies = tallies.lock().expect("no trial panics while it holds the tallies");
    let tally = tallies.entry(device).or_default();
    tally.cases += 1;
    if let Some(loosest) = verdict.chaotic {
        tally.chaotic += 1;
        if loosest > tally.loosest.0 {
            tally.loosest = (loosest, case.clone());
        }
    }
    let worst = tally.worst.entry(if verdict.chaotic.is_some() { "chaotic case" } else { "plain case" }).or_insert((-1.0, String::new()));
    if verdict.ratio > worst.0 {
        *worst = (verdict.ratio, case);
    }
}

impl Case {
    fn new(spec: Spec) -> Self {
        Self { spec, expected: OnceLock::new(), shorter: OnceLock::new() }
    }

    /// Runs the case, or, where the reference itself does not determine its results, a case of half its steps.
    fn run(&self, engine: &Engine, reference: &Engine) -> Result<Verdict, Failed> {
        let Expected { call, results, .. } = self.expected.get_or_init(|| tamed(&self.spec, reference)).as_ref()?;
        let actual = call.run(engine)?;
        check_padding(call, &actual)?;
        let verdict = judge(call, reference, &actual, results)?;
        let seq_len = call.seq_len() / 2;
        if verdict.undetermined() && seq_len > 0 {
            return self.shorter.get_or_init(|| Box::new(Self::new(Spec { seq_len, ..self.spec.clone() }))).run(engine, reference);
        }
        verdict.passed()
    }

    /// What had to be changed about the case.
    fn changes(&self) -> Option<String> {
        match (self.shorter.get(), self.expected.get()) {
            (Some(shorter), _) => {
                Some(shorter.changes().unwrap_or_else(|| format!("{} steps instead of more, at whose end it is chaos", shorter.spec.seq_len)))
            }
            (None, Some(Ok(Expected { tamed, .. }))) => tamed.clone(),
            _ => None,
        }
    }
}

/// The call of `spec` and its results. Activations without an upper end can blow a case up until float32 has no number for it; then
/// its inputs are not saturated, and its weights and steps are halved in turn, which is said, until every value is below [`LARGEST`].
fn tamed(spec: &Spec, reference: &Engine) -> Result<Expected, String> {
    let mut spec = spec.clone();
    for attempt in 0..40 {
        let call = spec.call();
        let results = call.run(reference).map_err(|error| error.message().unwrap_or_default().to_owned())?;
        // a NaN is not below anything
        if results.tensors().iter().all(|(_, tensor)| tensor.iter().all(|value| value.abs() < LARGEST)) {
            let inputs = if spec.saturated { "saturated" } else { "not saturated" };
            let tamed =
                (attempt > 0).then(|| format!("inputs {inputs}, weights within {} / sqrt(H), {} steps: it blows up", spec.gain, spec.seq_len));
            return Ok(Expected { call, results, tamed });
        }
        if std::mem::take(&mut spec.saturated) {
            continue;
        }
        if attempt % 2 == 0 {
            spec.seq_len = spec.seq_len.div_ceil(2);
        } else {
            spec.gain *= 0.5;
        }
    }
    Err(format!("the reference leaves {LARGEST:e} whatever the weights and steps: {spec:?}"))
}

/// What no tolerance applies to: zeros after the end of a row, and the states of a row of length 0.
fn check_padding(call: &Call, actual: &Results) -> Result<(), Failed> {
    let Some(lens) = &call.lens else { return Ok(()) };
    for (row, &len) in lens.iter().enumerate() {
        let len = len as usize;
        let y = actual.y.index_axis(Axis(1), row);
        if let Some(place) = y.indexed_iter().find_map(|((t, k), &value)| (t >= len && value != 0.0).then_some((t, k))) {
            return Err(format!("y of row {row}, whose length is {len}, is not 0 at [t, feature] = {place:?}").into());
        }
        if len == 0 {
            for (name, given, last) in [("h", &call.h_0, &actual.h_n), ("c", &call.c_0, &actual.c_n)] {
                let last = last.index_axis(Axis(1), row).to_owned();
                let given = given.as_ref().map_or_else(|| ndarray::Array2::zeros(last.dim()), |given| given.index_axis(Axis(1), row).to_owned());
                same_bits(&format!("{name} of row {row}, whose length is 0"), &last, &given)?;
            }
        }
    }
    Ok(())
}

/// The failure with its case, and with the simplest case that also fails.
fn explain(error: Failed, number: Option<u64>, case: &Case, engine: &Engine, reference: &Engine, size: Size) -> Failed {
    let message = error.message().unwrap_or_default().to_owned();
    let Some(number) = number else { return format!("{message}\n{:?}", case.spec).into() };
    let mut tree = generator::tree(number, size);
    let mut simplest = tree.current();
    let start = Instant::now();
    let mut more = tree.simplify();
    while more && start.elapsed() < SHRINK {
        let spec = tree.current();
        if Case::new(spec.clone()).run(engine, reference).is_err() {
            simplest = spec;
            more = tree.simplify();
        } else {
            more = tree.complicate();
        }
    }
    format!("{message}\nof {:?}\nthe simplest that fails as well: {simplest:?}", case.spec).into()
}
