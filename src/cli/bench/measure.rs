//! Every combination of sizes on every device.

use std::time::Duration;

use cellgate::measure::{Peak, Summary, today};
use cellgate::{DeviceKind, Engine, ErrorKind, Options, Outputs, Precision, Session};
use indicatif::ProgressBar;

use super::record::Record;
use super::row::Row;
use super::subject::{Call, Dims, Expected, Subject};
use super::timing::{Budget, Times, time};
use super::{Args, sizes};
use crate::cli::output::{self, Spinner};
use crate::cli::{Result, judge, tensors};

/// Operations per second of the reference, for the time that is left.
const REFERENCE_RATE: f64 = 1e9;

/// What a row takes beside calls and the reference: plans, pipelines.
const PREPARATION: Duration = Duration::from_millis(200);

/// A device that is slow when it is warm should not punish the next row.
const REST: Duration = Duration::from_millis(20);

/// A device to time.
struct Device {
    engine: Engine,
    peak: Option<Peak>,
}

/// What the same rows of every device have in common.
struct Context<'a> {
    call: &'a Call,
    expected: &'a Expected,
    precision: Precision,
    budget: Budget,
}

/// Times everything that `args` ask for.
pub(super) fn measure(args: &Args, record: &mut Record) -> Result<()> {
    if cfg!(debug_assertions) {
        output::say("note: this program was not built for speed (cargo build --release): its times say little");
    }
    let mut subjects = subjects(args)?;
    let calls = calls(args, &subjects)?;
    let devices = devices(args)?;
    let precisions: Vec<Precision> = args.precision.iter().map(|&precision| precision.into()).collect();
    let progress = Progress::new(args.budget(), devices.len(), precisions.len());
    subjects.iter().for_each(|subject| calls.iter().for_each(|&(batch, seq_len)| progress.expect(subject, batch, seq_len)));
    for subject in &mut subjects {
        let mut sessions = Sessions::new(args, &devices, subject);
        for &(batch, seq_len) in &calls {
            let call = if args.inputs.is_empty() { subject.call(batch, seq_len)? } else { subject.given(&args.inputs)? };
            for &precision in &precisions {
                progress.say(&format!("{}: the reference", describe(subject, batch, seq_len, precision)));
                let expected = subject.expected(&call, precision)?;
                let context = Context { call: &call, expected: &expected, precision, budget: args.budget() };
                let mut cpu_ms = None;
                for (number, device) in devices.iter().enumerate() {
                    progress.say(&format!("{}: {}", describe(subject, batch, seq_len, precision), device.engine.describe().device));
                    let session = sessions.get(number, precision);
                    let row = row(subject, device, session, &context, cpu_ms)?;
                    if device.engine.describe().device.kind == DeviceKind::Cpu {
                        cpu_ms = row.median_ms;
                    }
                    progress.bar.suspend(|| record.add(row))?;
                    std::thread::sleep(REST);
                }
            }
            progress.done(subject, batch, seq_len);
        }
    }
    progress.bar.finish_and_clear();
    Ok(())
}

/// Rows and steps of every call. A model may have sizes of its own.
fn calls(args: &Args, subjects: &[Subject]) -> Result<Vec<(usize, usize)>> {
    let (mut batches, mut seq_lens) = (sizes(args.batch.as_ref(), &[1, 32, 256]), sizes(args.seq_len.as_ref(), &[100]));
    if let Some(model) = subjects.iter().find_map(|subject| subject.model.as_ref().map(|_| subject.network())) {
        let (open_batch, open_seq_len) = tensors::open_sizes(model);
        for (sizes, given, open, flag) in
            [(&mut batches, &args.batch, open_batch, "--batch"), (&mut seq_lens, &args.seq_len, open_seq_len, "--seq-len")]
        {
            if open && args.inputs.is_empty() {
                continue;
            }
            if given.is_some() {
                return Err(format!("{flag}: expected a model whose inputs have an axis of such a name, found one that says its sizes itself").into());
            }
            *sizes = vec![1];
        }
    }
    Ok(batches.iter().flat_map(|&batch| seq_lens.iter().map(move |&seq_len| (batch, seq_len))).collect())
}

/// What there is to time.
fn subjects(args: &Args) -> Result<Vec<Subject>> {
    if let Some(path) = &args.model {
        return Ok(vec![Subject::model(args.reading.open(path)?, path.display().to_string())?]);
    }
    let directions = sizes(args.directions.as_ref(), &[1]);
    if let Some(wrong) = directions.iter().find(|directions| **directions > 2) {
        return Err(format!("--directions: expected 1 or 2, found {wrong}").into());
    }
    let mut subjects = Vec::new();
    for layers in sizes(args.layers.as_ref(), &[1]) {
        for &directions in &directions {
            for hidden_size in sizes(args.hidden.as_ref(), &[256]) {
                for input_size in sizes(args.input_size.as_ref(), &[hidden_size]) {
                    subjects.push(Subject::random(Dims { layers, directions, input_size, hidden_size })?);
                }
            }
        }
    }
    Ok(subjects)
}

/// The devices that `args` name, the CPU first: the others are compared with it.
fn devices(args: &Args) -> Result<Vec<Device>> {
    let mut engines = Vec::new();
    if args.devices.is_some() {
        let (backend, allow_software) = args.device.every();
        for (info, engine) in Engine::all(backend, allow_software) {
            match engine {
                Ok(engine) => engines.push(engine),
                Err(error) => output::say(&format!("note: {info} is left out: {}", cellgate::one_line(&error.to_string()))),
            }
        }
    } else {
        engines = args.device.open_sides()?;
    }
    engines.sort_by_key(|engine| engine.describe().device.kind != DeviceKind::Cpu);
    let measure = |engine: Engine| {
        let peak = match engine.describe().device.kind {
            DeviceKind::Reference => None,
            _ => Some(engine.peak()?),
        };
        let most = peak.map_or_else(String::new, |Peak { flops_per_second, bytes_per_second }| {
            format!(": {:.0} GFLOP/s and {:.0} GB/s at most, as measured", flops_per_second / 1e9, bytes_per_second / 1e9)
        });
        output::say(&format!("device: {}{most}", engine.describe()));
        Ok(Device { engine, peak })
    };
    let _spinner = Spinner::new("measuring what each device does at most");
    engines.into_iter().map(measure).collect()
}

/// The sessions of one subject, made when they are first needed.
struct Sessions<'a> {
    args: &'a Args,
    devices: &'a [Device],
    network: cellgate::Network,
    made: Vec<(usize, Precision, cellgate::Result<Session>)>,
}

impl<'a> Sessions<'a> {
    fn new(args: &'a Args, devices: &'a [Device], subject: &Subject) -> Self {
        Self { args, devices, network: subject.network().clone(), made: Vec::new() }
    }

    /// The session on device `number`, or why there is none.
    fn get(&mut self, number: usize, precision: Precision) -> &mut cellgate::Result<Session> {
        let known = self.made.iter().position(|(device, stored, _)| (*device, *stored) == (number, precision));
        let place = known.unwrap_or_else(|| {
            let engine = &self.devices[number].engine;
            let mut options = Options { profile: true, ..self.args.schedule.options(precision) };
            if engine.describe().device.kind != DeviceKind::Gpu {
                // a schedule is a GPU's
                options.schedule = None;
            }
            self.made.push((number, precision, engine.session(&self.network, options)));
            self.made.len() - 1
        });
        &mut self.made[place].2
    }
}

/// Compares, then times.
fn row(subject: &mut Subject, device: &Device, session: &mut cellgate::Result<Session>, context: &Context<'_>, cpu_ms: Option<f64>) -> Result<Row> {
    let mut row = blank(subject, device, context);
    let session = match session {
        Ok(session) => session,
        Err(error) => return Ok(failed(row, &error.to_string())),
    };
    let inputs = context.call.inputs.inputs();
    let bound = judge::bound(&device.engine.describe().device, context.precision);
    let mut outputs = match session.run(&inputs) {
        Ok(outputs) => outputs,
        Err(error) if is_fatal(error.kind()) => return Err(error.into()),
        Err(error) => return Ok(failed(row, &error.to_string())),
    };
    (row.schedule, row.why) = schedule(session, context.expected);
    let mut check = |row: &mut Row, outputs: &Outputs| {
        let judgement = subject.judge(context.call, outputs, context.expected, context.precision, bound)?;
        row.max_abs_err = Some(judgement.max_abs_err.max(row.max_abs_err.unwrap_or(0.0)));
        row.verified = judgement.failure.is_none();
        row.failure = judgement.failure;
        Ok::<bool, Box<dyn std::error::Error>>(row.verified)
    };
    if !check(&mut row, &outputs)? {
        return Ok(row);
    }
    let times = time(session, &inputs, &mut outputs, context.budget)?;
    // calls that come later are as right as the first
    if check(&mut row, &outputs)? {
        fill(&mut row, &times, device.peak, cpu_ms);
    }
    Ok(row)
}

/// Whether a device that says so is of no use any more.
fn is_fatal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DeviceLost | ErrorKind::Timeout)
}

fn failed(row: Row, why: &str) -> Row {
    Row { failure: Some(cellgate::one_line(why)), ..row }
}

/// A row with nothing measured.
fn blank(subject: &Subject, device: &Device, context: &Context<'_>) -> Row {
    let info = &device.engine.describe().device;
    let Dims { layers, directions, input_size, hidden_size } = subject.dims;
    let debug = if cfg!(debug_assertions) { "+debug" } else { "" };
    Row {
        date: today(),
        cellgate: format!("{}{debug}", env!("CARGO_PKG_VERSION")),
        device: info.kind,
        adapter: info.name.clone(),
        driver: info.driver.clone(),
        backend: info.backend,
        schedule: String::new(),
        why: String::new(),
        model: subject.model.clone(),
        precision: context.precision,
        layers,
        directions,
        input_size,
        hidden_size,
        batch: context.expected.batch,
        seq_len: context.expected.seq_len,
        n: 0,
        median_ms: None,
        mad_ms: None,
        min_ms: None,
        p95_ms: None,
        upload_ms: None,
        compute_ms: None,
        readback_ms: None,
        device_clock: false,
        us_per_step: None,
        flops: context.expected.flops,
        bytes: context.expected.bytes,
        gflops: None,
        peak_gflops: device.peak.map(|peak| peak.flops_per_second / 1e9),
        peak_gb_per_s: device.peak.map(|peak| peak.bytes_per_second / 1e9),
        peak_share: None,
        bandwidth_share: None,
        ratio_to_cpu: None,
        max_abs_err: None,
        verified: false,
        failure: None,
    }
}

/// What the session ran for the call, of all LSTMs, each once, and why.
fn schedule(session: &Session, call: &Expected) -> (String, String) {
    let mut used: Vec<(String, String)> = match session.explain(call.batch, call.seq_len) {
        Ok(explanation) => explanation.lstms.into_iter().map(|lstm| (lstm.schedule, lstm.why)).collect(),
        // weights that come with the call
        Err(_) => session.schedules().iter().map(|used| (used.schedule.clone(), used.why.clone())).collect(),
    };
    used.dedup();
    let (schedules, reasons): (Vec<String>, Vec<String>) = used.into_iter().unzip();
    (schedules.join("; "), reasons.join("; "))
}

/// Puts what was measured into the row.
#[expect(clippy::cast_precision_loss, reason = "rates and shares")]
fn fill(row: &mut Row, times: &Times, peak: Option<Peak>, cpu_ms: Option<f64>) {
    let Summary { n, median, mad, min, p95, .. } = times.call;
    let ms = |seconds: f64| Some(seconds * 1e3);
    row.n = n;
    (row.median_ms, row.mad_ms, row.min_ms, row.p95_ms) = (ms(median), ms(mad), ms(min), ms(p95));
    match &times.phases {
        Some(phases) => {
            (row.upload_ms, row.compute_ms, row.readback_ms) = (ms(phases.upload), ms(phases.compute), ms(phases.readback));
            row.device_clock = phases.device_clock;
        }
        None => row.compute_ms = ms(median),
    }
    row.us_per_step = Some(median * 1e6 / row.seq_len as f64);
    let (flops, bytes) = (row.flops as f64 / median, row.bytes as f64 / median);
    row.gflops = Some(flops / 1e9);
    row.peak_share = peak.map(|peak| flops / peak.flops_per_second);
    row.bandwidth_share = peak.map(|peak| bytes / peak.bytes_per_second);
    row.ratio_to_cpu = if row.device == DeviceKind::Cpu { Some(1.0) } else { cpu_ms.map(|cpu_ms| cpu_ms / (median * 1e3)) };
}

/// What is under way, for people.
fn describe(subject: &Subject, batch: usize, seq_len: usize, precision: Precision) -> String {
    let Dims { layers, directions, hidden_size, .. } = subject.dims;
    let network = subject.model.clone().unwrap_or_else(|| format!("{layers} layers, {directions} directions, hidden {hidden_size}"));
    format!("{network}, batch {batch}, seq_len {seq_len}, {precision}")
}

/// What is left is told by expected times: a row of many steps waits long for the reference.
struct Progress {
    bar: ProgressBar,
    budget: Budget,
    /// of every size
    runs: usize,
    precisions: usize,
}

impl Progress {
    fn new(budget: Budget, devices: usize, precisions: usize) -> Self {
        Self { bar: output::timed_bar(), budget, runs: devices * precisions, precisions }
    }

    /// Adds what a subject will take, if anybody watches.
    fn expect(&self, subject: &Subject, batch: usize, seq_len: usize) {
        self.bar.inc_length(self.expected_ms(subject, batch, seq_len));
    }

    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    fn done(&self, subject: &Subject, batch: usize, seq_len: usize) {
        self.bar.inc(self.expected_ms(subject, batch, seq_len));
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
    fn expected_ms(&self, subject: &Subject, batch: usize, seq_len: usize) -> u64 {
        let reference = subject.reference_flops(batch, seq_len) as f64 / REFERENCE_RATE * self.precisions as f64;
        let rows = (PREPARATION + self.budget.expected()).as_secs_f64() * self.runs as f64;
        ((reference + rows) * 1e3) as u64
    }
}
