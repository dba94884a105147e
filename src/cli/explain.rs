//! `cellgate explain`: the plan of a call, without the call.

use cellgate::{Explanation, LstmExplanation, Options};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs};
use super::output::{self, DeviceFields};
use super::{Result, Verdict};

/// Show the plan of a call: schedule, dispatches, bytes moved, FLOPs, floor, memory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cellgate explain model.onnx --batch 32 --seq-len 1000 --device gpu")]
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
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    device: DeviceFields,
    batch: usize,
    seq_len: usize,
    lstms: &'a [LstmExplanation],
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let network = args.model.open()?;
    let engine = args.device.open_and_say()?;
    let session = engine.session(&network, Options::default())?;
    let explanation = session.explain(args.batch, args.seq_len)?;
    let Explanation { selection, batch, seq_len, lstms } = &explanation;
    if args.json {
        output::print_json(&Report { device: DeviceFields::of(selection), batch: *batch, seq_len: *seq_len, lstms })?;
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

/// The report for people.
fn describe(lstm: &LstmExplanation) -> String {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let LstmExplanation { num_layers, num_directions, input_size, hidden_size, out_size, .. } = lstm;
    let mut rows = vec![
        row("sizes", format!("{num_layers} x {num_directions} cells, input {input_size}, hidden {hidden_size}, output {out_size}")),
        row("schedule", format!("{}: {}", lstm.schedule, lstm.why)),
    ];
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
    let floor = format!("{}, weights, input and output once: {}", output::bytes(lstm.floor_bytes), intensity(lstm.flops, lstm.floor_bytes));
    rows.extend([row("arithmetic", output::flops(lstm.flops)), row("floor", floor)]);
    let mut text = format!("\nLSTM `{}`\n{}", lstm.node, output::table(&rows, "  "));
    if !lstm.memory.is_empty() {
        let memory = lstm.memory.iter().map(|memory| row(&memory.name, output::bytes(memory.bytes)));
        let rows: Vec<_> = memory.chain([row("total", output::bytes(lstm.memory_bytes()))]).collect();
        text += &format!("\n  memory on the device\n{}", output::table(&rows, "    "));
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
