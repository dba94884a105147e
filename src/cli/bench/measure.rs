//! Every combination of sizes on every device.

use cellgate::measure::{Peak, Summary, today};
use cellgate::{DeviceKind, ErrorKind, Outputs, PartRun, Precision, Session};

use super::devices::{self, Device, Sessions};
use super::progress::Progress;
use super::record::Record;
use super::row::{Outcome, Row};
use super::subject::{Call, Dims, Expected, Subject};
use super::timing::{Phases, Times, time, time_phases};
use super::{Args, lengths, table};
use crate::cli::{Result, judge, output, tensors};

/// More kinds of calls are a slip.
const MOST_CALLS: usize = 10_000;

/// What the same rows of every device have in common.
struct Context<'a> {
    call: &'a Call,
    expected: &'a Expected,
    precision: Precision,
}

/// Times everything that `args` ask for.
pub(super) fn measure(args: &Args, record: &mut Record) -> Result<()> {
    if cfg!(debug_assertions) {
        output::say("note: this program was not built for speed (cargo build --release): its times say little");
    }
    let mut plan = Plan::of(args)?;
    let mut devices = devices::open(args)?;
    let mut precisions: Vec<Precision> = args.precision.iter().map(|&precision| precision.into()).collect();
    let mut seen = Vec::new();
    precisions.retain(|precision| {
        !seen.contains(precision) && {
            seen.push(*precision);
            true
        }
    });
    let progress = Progress::new(args.budget());
    plan.subjects.iter().for_each(|subject| progress.expect(subject, &plan.calls, precisions.len(), devices.len()));
    for subject in &mut plan.subjects {
        subject.begin()?;
        let mut sessions = Sessions::new(args, subject.network());
        for &(batch, seq_len) in &plan.calls {
            let call = if args.inputs.is_empty() { subject.call(batch, seq_len)? } else { subject.given(&args.inputs)? };
            for &precision in &precisions {
                progress.say("the reference");
                let expected = subject.expected(&call, precision)?;
                progress.compared(subject, batch, seq_len);
                let context = Context { call: &call, expected: &expected, precision };
                let mut cpu_ms = None;
                for (number, device) in devices.iter_mut().enumerate() {
                    let row = blank(subject, device, &context);
                    progress.say(&format!("{}: {}", device.engine.describe().device, table::describe(&row)));
                    let row = fill(args, subject, (number, device), &mut sessions, &context, (row, cpu_ms))?;
                    if row.device == DeviceKind::Cpu {
                        cpu_ms = row.median_ms;
                    }
                    progress.row_done();
                    progress.aside(|| record.add(row))?;
                }
            }
        }
        subject.end();
    }
    Ok(())
}

/// What there is to time: calls of every network.
struct Plan {
    subjects: Vec<Subject>,
    /// rows and steps
    calls: Vec<(usize, usize)>,
}

impl Plan {
    fn of(args: &Args) -> Result<Self> {
        let subjects = if let Some(path) = &args.model {
            vec![Subject::model(args.reading.open(path)?, path.display().to_string())?]
        } else {
            args.reading.refuse("without MODEL")?;
            random(args)?
        };
        let calls = calls(args, &subjects)?;
        match calls.len().checked_mul(subjects.len()) {
            Some(len) if len <= MOST_CALLS => Ok(Self { subjects, calls }),
            len => Err(format!("sizes: expected at most {MOST_CALLS} kinds of calls, found {}", len.unwrap_or(usize::MAX)).into()),
        }
    }
}

/// Networks with random weights, of all sizes that `args` list.
fn random(args: &Args) -> Result<Vec<Subject>> {
    let directions = lengths(args.directions.as_ref(), &[1]);
    if let Some(wrong) = directions.iter().find(|directions| **directions > 2) {
        return Err(format!("--directions: expected 1 or 2, found {wrong}").into());
    }
    let mut subjects = Vec::new();
    for layers in lengths(args.layers.as_ref(), &[1]) {
        for &directions in &directions {
            for hidden_size in lengths(args.hidden.as_ref(), &[256]) {
                for input_size in lengths(args.input_size.as_ref(), &[hidden_size]) {
                    subjects.push(Subject::random(Dims { layers, directions, input_size, hidden_size })?);
                }
            }
        }
    }
    Ok(subjects)
}

/// Rows and steps of every call. A model may fix them.
fn calls(args: &Args, subjects: &[Subject]) -> Result<Vec<(usize, usize)>> {
    let (mut batches, mut seq_lens) = (lengths(args.batch.as_ref(), &[1, 32, 256]), lengths(args.seq_len.as_ref(), &[100]));
    if let [subject] = subjects
        && subject.model.is_some()
    {
        let (open_batch, open_seq_len) = tensors::open_sizes(subject.network());
        for (list, given, is_open, flag) in
            [(&mut batches, &args.batch, open_batch, "--batch"), (&mut seq_lens, &args.seq_len, open_seq_len, "--seq-len")]
        {
            if is_open && args.inputs.is_empty() {
                continue;
            }
            if given.is_some() {
                return Err(format!("{flag}: expected a model that leaves this size open, found one that fixes it").into());
            }
            *list = vec![1];
        }
    }
    Ok(batches.iter().flat_map(|&batch| seq_lens.iter().map(move |&seq_len| (batch, seq_len))).collect())
}

/// Compares, then times. What a device says against it becomes the row's failure; one that is lost is not asked again.
fn fill(
    args: &Args,
    subject: &mut Subject,
    (number, device): (usize, &mut Device),
    sessions: &mut Sessions<'_>,
    context: &Context<'_>,
    (mut row, cpu_ms): (Row, Option<f64>),
) -> Result<Row> {
    if let Some(why) = &device.lost {
        return Ok(failed(row, why));
    }
    let mut told = |row: Row, error: &cellgate::Error| {
        let why = cellgate::one_line(&error.to_string());
        if matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Timeout) {
            device.lost = Some(why.clone());
        }
        Ok(failed(row, &why))
    };
    let (engine, peak) = (&device.engine, device.peak);
    let inputs = context.call.inputs.inputs();
    let bound = judge::bound(&engine.describe().device, context.precision);
    let session = match sessions.get(number, engine, context.precision, false) {
        Ok(session) => session,
        Err(error) => return Ok(failed(row, &cellgate::one_line(&error.to_string()))),
    };
    let (mut outputs, parts) = match session.trace(&inputs) {
        Ok(made) => made,
        Err(error) => return told(row, &error),
    };
    (row.schedule, row.why) = ran(session, &parts);
    let mut check = |row: &mut Row, outputs: &Outputs| {
        let judgement = subject.judge(context.call, outputs, context.expected, context.precision, bound)?;
        row.max_abs_err = Some(judgement.max_abs_err.max(row.max_abs_err.unwrap_or(0.0)));
        row.outcome = if judgement.failure.is_none() { Outcome::Verified } else { Outcome::Wrong };
        (row.verified, row.failure) = (judgement.failure.is_none(), judgement.failure);
        Ok::<bool, Box<dyn std::error::Error>>(row.verified)
    };
    if !check(&mut row, &outputs)? {
        return Ok(row);
    }
    let call = match time(session, &inputs, &mut outputs, args.budget()) {
        Ok(call) => call,
        Err(error) => return told(row, &error),
    };
    // calls that come later are as right as the first
    if !check(&mut row, &outputs)? {
        return Ok(row);
    }
    let mut phases = None;
    if row.device == DeviceKind::Gpu && !context.expected.has_others {
        let profiled = sessions.get(number, engine, context.precision, true);
        match profiled.as_mut().map_err(|error| error.to_string()).and_then(|session| time_phases(session, &inputs, &mut outputs)) {
            Ok(found) => phases = found,
            // the row has its times, and keeps them
            Err(why) => output::say(&format!("note: phases of {} are not known: {}", engine.describe().device, cellgate::one_line(&why))),
        }
    }
    put(&mut row, &Times { call, phases }, context.expected, peak, cpu_ms);
    Ok(row)
}

fn failed(row: Row, why: &str) -> Row {
    Row { failure: Some(why.to_owned()), verified: false, outcome: Outcome::Failed, ..row }
}

/// A row with nothing measured.
fn blank(subject: &Subject, device: &Device, context: &Context<'_>) -> Row {
    let info = &device.engine.describe().device;
    let Dims { layers, directions, input_size, hidden_size } = subject.dims;
    let Expected { batch, seq_len, flops, bytes, .. } = *context.expected;
    let debug = if cfg!(debug_assertions) { "+debug" } else { "" };
    Row {
        date: today(),
        cellgate: format!("{}{debug}", env!("CARGO_PKG_VERSION")),
        record: None,
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
        batch,
        seq_len,
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
        flops,
        bytes,
        gflops: None,
        peak_gflops: device.peak.map(|peak| peak.flops_per_second / 1e9),
        peak_gb_per_s: device.peak.map(|peak| peak.bytes_per_second / 1e9),
        peak_share: None,
        bandwidth_share: None,
        ratio_to_cpu: None,
        max_abs_err: None,
        verified: false,
        outcome: Outcome::Failed,
        failure: None,
    }
}

/// What the stacks of a call ran, each text once, and why.
fn ran(session: &Session, parts: &[PartRun]) -> (String, String) {
    let (mut schedules, mut reasons) = (Vec::new(), Vec::new());
    for part in parts {
        let Some((seq_len, batch)) = part.seq_len_and_batch else { continue };
        let of_it = session.schedules().iter().filter(|used| used.node == part.name && used.rows <= batch);
        // of blocks, the largest
        let used = of_it.filter(|used| used.seq_len.is_none_or(|steps| steps == seq_len)).max_by_key(|used| used.rows);
        let Some(used) = used else { continue };
        for (list, text) in [(&mut schedules, &used.schedule), (&mut reasons, &used.why)] {
            if !list.contains(text) {
                list.push(text.clone());
            }
        }
    }
    (schedules.join("; "), reasons.join("; "))
}

/// Puts what was measured into the row.
#[expect(clippy::cast_precision_loss, reason = "rates and shares")]
fn put(row: &mut Row, times: &Times, expected: &Expected, peak: Option<Peak>, cpu_ms: Option<f64>) {
    let Summary { n, median, mad, min, p95, .. } = times.call;
    let ms = |seconds: f64| Some(seconds * 1e3);
    row.n = n;
    (row.median_ms, row.mad_ms, row.min_ms, row.p95_ms) = (ms(median), ms(mad), ms(min), ms(p95));
    match &times.phases {
        Some(Phases { upload, compute, readback, device_clock }) => {
            (row.upload_ms, row.compute_ms, row.readback_ms) = (ms(*upload), ms(*compute), ms(*readback));
            row.device_clock = *device_clock;
        }
        None if row.device == DeviceKind::Gpu => {}
        None => row.compute_ms = ms(median),
    }
    row.us_per_step = Some(median * 1e6 / row.seq_len as f64);
    let (flops, bytes) = (row.flops as f64 / median, row.bytes as f64 / median);
    row.gflops = Some(flops / 1e9);
    // what else a network does is not counted, so that a share would say nothing
    if let Some(peak) = peak.filter(|_| !expected.has_others) {
        (row.peak_share, row.bandwidth_share) = (Some(flops / peak.flops_per_second), Some(bytes / peak.bytes_per_second));
    }
    row.ratio_to_cpu = if row.device == DeviceKind::Cpu { Some(1.0) } else { cpu_ms.map(|cpu_ms| cpu_ms / (median * 1e3)) };
}
