//! `cellgate explain`: the plan of a call, without the call.

use cellgate::{Alternative, DeviceKind, Explanation, LstmExplanation, LstmTuning, Session, SideExplanation, SidesExplanation, TuneReport};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, SessionArgs};
use super::output::{self, DeviceFields, Spinner};
use super::{Result, Verdict};

/// Show the plan of a call: GPU or CPU, schedule and what else could run, dispatches, bytes moved, FLOPs, floor, memory
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    /// Rows of the call
    #[arg(long, value_name = "N")]
    batch: usize,
    /// Steps of the call
    #[arg(long, value_name = "T")]
    seq_len: usize,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

const EXAMPLES: &str = "Examples:
  cellgate explain model.onnx --batch 32 --seq-len 1000
  cellgate explain model.onnx --batch 32 --seq-len 1000 --device gpu
  cellgate explain model.onnx --batch 32 --seq-len 1000 --tune";

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    device: DeviceFields,
    batch: usize,
    seq_len: usize,
    lstms: &'a [LstmExplanation],
    /// of all LSTMs, each once
    schedule: String,
    /// what was measured, with `--tune`
    tuning: Option<&'a TuneReport>,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let network = args.model.open()?;
    let engine = args.device.open_and_say()?;
    let mut session = engine.session(&network, args.session.options())?;
    let tuning = if args.session.tune() { Some(tune(args, &mut session)?) } else { None };
    output::say_notes(session.notes());
    let explanation = session.explain(args.batch, args.seq_len)?;
    let Explanation { selection, batch, seq_len, lstms } = &explanation;
    if args.json {
        let mut names: Vec<&str> = lstms.iter().map(|lstm| lstm.schedule.as_str()).collect();
        names.dedup();
        let (device, schedule) = (DeviceFields::of(selection), names.join("; "));
        output::print_json(&Report { device, batch: *batch, seq_len: *seq_len, lstms, schedule, tuning: tuning.as_ref() })?;
        return Ok(Verdict::Good);
    }
    output::print(&format!("{selection}\nbatch {batch}, seq_len {seq_len}"))?;
    for refused in selection.device.features.iter().filter(|feature| feature.contains("(not used: ")) {
        output::print(refused)?;
    }
    for lstm in lstms {
        output::print(&describe(lstm))?;
    }
    Ok(Verdict::Good)
}

/// Measures, and says what was not.
fn tune(args: &Args, session: &mut Session) -> Result<TuneReport> {
    let spinner = Spinner::new("measuring schedules");
    let report = session.tune(args.batch, args.seq_len)?;
    drop(spinner);
    if report.lstms.is_empty() {
        output::say(&format!("note: nothing to measure: {} has one schedule", session.engine().describe().device));
    }
    for LstmTuning { node, rows, seq_len, candidates, sides, seconds, .. } in &report.lstms {
        let timed = candidates.iter().filter(|candidate| candidate.n > 0).count();
        let calls = format!("{timed} of {} candidates timed on calls of {rows} rows and {seq_len} steps", candidates.len());
        output::say(&format!("measured `{node}`: {calls}, in {seconds:.1} s"));
        if let Some(sides) = sides {
            let [gpu, cpu] = [sides.gpu_seconds, sides.cpu_seconds].map(output::seconds);
            output::say(&format!("measured `{node}`: whole calls take {gpu} on the GPU, {cpu} on the CPU ({})", sides.cpu));
        }
        for candidate in candidates {
            // that the model did not think much of the others needs no line each
            if let Some(why) = candidate.why_not.as_ref().filter(|_| candidate.n == 0 && candidate.tried) {
                output::say(&format!("note: {} was left out: {why}", candidate.schedule));
            }
        }
    }
    if let Some(path) = &report.records {
        output::say(&format!("recorded in {}", path.display()));
    }
    Ok(report)
}

/// The report for people.
fn describe(lstm: &LstmExplanation) -> String {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let LstmExplanation { num_layers, num_directions, input_size, hidden_size, out_size, .. } = lstm;
    let mut rows = vec![
        row("sizes", format!("{num_layers} x {num_directions} cells, input {input_size}, hidden {hidden_size}, output {out_size}")),
        row("schedule", format!("{}: {}", lstm.schedule, lstm.why)),
    ];
    if let Some(input) = &lstm.input_product {
        rows.push(row("input product", input.clone()));
    }
    if !lstm.dispatches.is_empty() {
        let split = format!(
            "{}, {}",
            counted(lstm.row_blocks, "block of rows", "blocks of rows"),
            counted(lstm.time_segments, "segment of time", "segments of time")
        );
        rows.push(row("split", split));
        rows.push(row("chunk", format!("{}, whose input product is one dispatch", counted(lstm.chunk_steps, "step", "steps"))));
        rows.push(row("submits", lstm.submits.to_string()));
        let kernels: Vec<String> = lstm.dispatches.iter().map(|kernel| format!("{} {}", kernel.count, kernel.kernel)).collect();
        rows.push(row("dispatches", format!("{}: {}", lstm.num_dispatches(), kernels.join(", "))));
        let moved = format!("{}, if each dispatch touches everything once: {}", output::bytes(lstm.bytes), intensity(lstm.flops, lstm.bytes));
        rows.push(row("moved", moved));
    }
    let time = lstm.floor_seconds.map_or_else(String::new, |seconds| format!("; {} on a typical GPU of this kind", output::seconds(seconds)));
    let floor = format!("{}, weights, input and output once: {}{time}", output::bytes(lstm.floor_bytes), intensity(lstm.flops, lstm.floor_bytes));
    rows.extend([row("arithmetic", output::flops(lstm.flops)), row("floor", floor)]);
    rows.extend(lstm.predicted_seconds.map(|seconds| row("expected", format!("{} by the cost model", output::seconds(seconds)))));
    let mut text = format!("\nLSTM `{}`\n{}", lstm.node, output::table(&rows, "  "));
    text += &lstm.sides.as_ref().map_or_else(String::new, describe_sides);
    text += &describe_alternatives(lstm);
    if !lstm.memory.is_empty() {
        let memory = lstm.memory.iter().map(|memory| row(&memory.name, output::bytes(memory.bytes)));
        let rows: Vec<_> = memory.chain([row("total", output::bytes(lstm.memory_bytes()))]).collect();
        text += &format!("\n  memory on the device\n{}", output::table(&rows, "    "));
    }
    text
}

/// The GPU beside the CPU.
fn describe_sides(sides: &SidesExplanation) -> String {
    let row = |name: &str, kind: DeviceKind, side: &SideExplanation| {
        let marked = if kind == sides.chosen { "*" } else { "" };
        let schedule = side.schedule.clone().or_else(|| side.unable.clone()).unwrap_or_default();
        let time = side.seconds.map_or_else(String::new, |seconds| format!("{} for the whole call", output::seconds(seconds)));
        [marked.to_owned(), name.to_owned(), schedule, time]
    };
    let rows = [row("GPU", DeviceKind::Gpu, &sides.gpu), row("CPU", DeviceKind::Cpu, &sides.cpu)];
    let crossover = sides.crossover.map_or_else(String::new, |crossover| format!("\n  crossover: {crossover}"));
    format!("\n  sides\n{}{crossover}", output::table(&rows, "    "))
}

/// What else could run, and what could not.
fn describe_alternatives(lstm: &LstmExplanation) -> String {
    let mut text = String::new();
    if !lstm.alternatives.is_empty() {
        let row = |alternative: &Alternative| {
            let measured = |seconds| format!("{} measured on {} steps", output::seconds(seconds), alternative.measured_steps.unwrap_or(0));
            [
                if alternative.chosen { "*" } else { "" }.to_owned(),
                alternative.schedule.clone(),
                format!("{} expected", output::seconds(alternative.predicted_seconds)),
                alternative.measured_seconds.map_or_else(String::new, measured),
            ]
        };
        let rows: Vec<_> = lstm.alternatives.iter().map(row).collect();
        text += &format!("\n  candidates, {} of {}, for one block and segment\n{}", rows.len(), lstm.num_candidates, output::table(&rows, "    "));
    }
    for refused in &lstm.refused {
        text += &format!("\n  does not suit: {}", refused.reason);
    }
    text
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Operations for each byte.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn intensity(flops: u64, bytes: u64) -> String {
    if bytes == 0 { "no bytes".to_owned() } else { format!("{:.2} FLOP/byte", flops as f64 / bytes as f64) }
}
