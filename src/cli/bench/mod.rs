//! `cellgate bench`: whole calls on every device, each verified first.

mod devices;
mod measure;
mod progress;
mod record;
mod report;
mod row;
mod sizes;
mod subject;
mod table;
mod timing;

use std::path::PathBuf;
use std::time::Duration;

use super::args::{DeviceArgs, PrecisionArg, ReadingArgs, ScheduleArgs};
use super::output;
use super::{Result, Verdict};
use record::Record;
use row::Outcome;
use sizes::Sizes;
use timing::Budget;

/// Time whole calls on every device, each compared with the float64 reference first
///
/// Every combination of the sizes is a call: of MODEL, or of an LSTM with random weights. Sizes are lists and ranges: `1,32,256`, `64-512+64`,
/// `1-1024*4`. A time is that of a whole warmed-up call, tensors on the host before and after. `--device auto` times the GPU, where there is one,
/// and the CPU, each on its own. Exit code 1 where a device is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Model file: safetensors or ONNX; without one, LSTMs with random weights of all sizes given
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// An input of MODEL from a file, in the place of random ones; may be given several times. The call has the sizes of the files then
    #[arg(long = "input", value_name = "[NAME=]FILE.npy", help_heading = "Inputs", requires = "model", conflicts_with_all = ["batch", "seq_len"])]
    inputs: Vec<String>,
    /// Rows of a call [default: 1,32,256]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes")]
    batch: Option<Sizes>,
    /// Steps of a call [default: 100]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes")]
    seq_len: Option<Sizes>,
    /// Units of a layer [default: 256]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes", conflicts_with = "model")]
    hidden: Option<Sizes>,
    /// Features of the input [default: as many as units]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes", conflicts_with = "model")]
    input_size: Option<Sizes>,
    /// Layers [default: 1]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes", conflicts_with = "model")]
    layers: Option<Sizes>,
    /// Directions, 1 or 2 [default: 1]
    #[arg(long, value_name = "SIZES", help_heading = "Sizes", conflicts_with = "model")]
    directions: Option<Sizes>,
    /// How weights are stored on the device; several with commas between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32", help_heading = "Computation")]
    precision: Vec<PrecisionArg>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Every device of this machine, the CPU among them; software adapters only with --allow-software
    #[arg(long, value_name = "all", value_parser = ["all"], conflicts_with_all = ["device", "adapter"], help_heading = "Device")]
    devices: Option<String>,
    /// Calls before those that are timed
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Time")]
    warm_up: usize,
    /// Time so many calls of each kind [default: as many as fit --duration; five at least, three where one takes two seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Time")]
    repeat: Option<u32>,
    /// Time calls of each kind for so long [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Time")]
    duration: Option<Duration>,
    /// Write a JSON object a line to FILE as rows come, in the place of what it holds; - is stdout, in the place of the table
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write the rows to FILE with commas between their values
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write a page with plots to FILE.html; it needs nothing beside itself
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Put the table in the place of what stands between `<!-- BEGIN bench -->` and `<!-- END bench -->` in FILE.md
    #[arg(long, value_name = "FILE.md", help_heading = "Output")]
    splice: Option<PathBuf>,
    /// Measure nothing: take the rows of an earlier run's --json FILE; may be given several times
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Output",
        conflicts_with_all = [
            "model", "inputs", "batch", "seq_len", "hidden", "input_size", "layers", "directions", "precision", "schedule", "tune", "device", "adapter",
            "backend", "allow_software", "devices", "config", "batch_first", "prefix", "network", "warm_up", "repeat", "duration", "json",
        ]
    )]
    from: Vec<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  cellgate bench --batch 1-1024*4 --hidden 64-512*2 --report report.html
  cellgate bench model.onnx --batch 1,32,256 --seq-len 100 --devices all --json rows.jsonl
  cellgate bench --hidden 512 --precision f32,f16,int8 --repeat 20
  cellgate bench --from laptop.jsonl --from desktop.jsonl --report both.html";

pub(super) fn run(args: &Args) -> Result<Verdict> {
    // what cannot be written is told before anything is measured
    let mut record = Record::new(args)?;
    if args.from.is_empty() {
        let measured = measure::measure(args, &mut record);
        // what there is of a run that ends early is not lost
        if !record.rows().is_empty() {
            record.finish(args)?;
        }
        measured?;
    } else {
        for file in &args.from {
            record.read(file, args.from.len() > 1)?;
        }
        record.finish(args)?;
    }
    let rows = record.rows();
    let count = |outcome: Outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    if count(Outcome::Wrong) > 0 {
        output::say(&format!("{} of {} rows differ from the float64 reference, and were not timed", count(Outcome::Wrong), rows.len()));
        return Ok(Verdict::CheckFailed);
    }
    match rows.iter().find_map(|row| row.failure.as_ref()) {
        Some(why) if count(Outcome::Verified) == 0 => Err(format!("no call could be timed: {why}").into()),
        _ => Ok(Verdict::Good),
    }
}

impl Args {
    fn budget(&self) -> Budget {
        Budget { warm_up: self.warm_up, repeat: self.repeat.map(|repeat| repeat as usize), duration: self.duration }
    }
}

/// The sizes that were given, or the usual ones.
fn lengths(given: Option<&Sizes>, usual: &[usize]) -> Vec<usize> {
    given.map_or_else(|| usual.to_vec(), |Sizes(sizes)| sizes.clone())
}

/// A time in seconds.
fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| "expected a number above 0".to_owned())
}
