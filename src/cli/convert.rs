//! `cellgate convert`: a model's weights as a safetensors file.

use std::fs;
use std::path::{Path, PathBuf};

use cellgate::{Precision, Saved, SavedStage};
use clap::ValueEnum;
use serde::Serialize;

use super::args::ModelArgs;
use super::output;
use super::{Result, Verdict};

/// Write a model's weights, with the configuration in the metadata, as a safetensors file
///
/// A chain of an embedding, LSTMs and linear layers becomes a model that runs; of any other, the file has the LSTMs alone, and `--prefix` chooses one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    /// File to write; one that is there is replaced
    #[arg(value_name = "OUT.safetensors")]
    out: PathBuf,
    /// How the matrices are stored
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
}

const EXAMPLES: &str = "Examples:
  cellgate convert model.onnx model.safetensors
  cellgate convert model.onnx half.safetensors --precision f16
  cellgate convert state_dict.safetensors model.safetensors --network '[{\"lstm\": \"lstm\"}, {\"linear\": \"fc\"}]'";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionArg {
    F32,
    /// weights of at most 65504, rounded to eleven bits; biases stay float32
    F16,
}

#[derive(Serialize)]
struct Report<'s> {
    path: &'s Path,
    complete: bool,
    precision: String,
    num_tensors: usize,
    num_bytes: u64,
    stages: Vec<StageReport<'s>>,
    left_out: &'s [String],
    notes: &'s [String],
}

#[derive(Serialize)]
struct StageReport<'s> {
    kind: &'static str,
    name: &'s str,
    node: &'s str,
    num_parameters: usize,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let out = args.out.display();
    if args.out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("safetensors")) {
        return Err(format!("{out}: expected a name that ends in .safetensors").into());
    }
    if is_same(&args.model.path, &args.out) {
        return Err(format!("{out}: expected another file than the model itself").into());
    }
    if args.out.is_dir() {
        return Err(format!("{out}: cannot write: it is a folder").into());
    }
    let network = args.model.open()?;
    let precision = match args.precision {
        PrecisionArg::F32 => Precision::F32,
        PrecisionArg::F16 => Precision::F16,
    };
    let saved = network.save_safetensors(&args.out, precision)?;
    say(&saved);
    if args.json {
        output::print_json(&report(&args.out, precision, &saved))?;
        return Ok(Verdict::Good);
    }
    let row = |stage: &SavedStage| {
        let name = if stage.name.is_empty() { "-".to_owned() } else { stage.name.clone() };
        [stage.kind.name().to_owned(), name, format!("{} parameters", stage.num_parameters)]
    };
    let stages = output::table(&saved.stages.iter().map(row).collect::<Vec<_>>(), "  ");
    let what = if saved.complete { "the whole network" } else { "its LSTMs alone" };
    let (count, size) = (saved.num_tensors, output::bytes(saved.num_bytes));
    output::print(&format!("{out}: {what}, {count} tensors, {size}\n{stages}"))?;
    Ok(Verdict::Good)
}

/// Says on stderr what somebody who takes the file for the model should know.
fn say(saved: &Saved) {
    saved.left_out.iter().for_each(|part| output::say(&format!("left out: {part}")));
    output::say_notes(&saved.notes);
    if !saved.complete && saved.stages.len() > 1 {
        let names: Vec<&str> = saved.stages.iter().map(|stage| stage.name.as_str()).collect();
        output::say(&format!("note: the LSTMs are not joined; --prefix takes one of {}", names.join(", ")));
    }
}

fn report<'s>(path: &'s Path, precision: Precision, saved: &'s Saved) -> Report<'s> {
    let stage =
        |stage: &'s SavedStage| StageReport { kind: stage.kind.name(), name: &stage.name, node: &stage.node, num_parameters: stage.num_parameters };
    Report {
        path,
        complete: saved.complete,
        precision: precision.to_string(),
        num_tensors: saved.num_tensors,
        num_bytes: saved.num_bytes,
        stages: saved.stages.iter().map(stage).collect(),
        left_out: &saved.left_out,
        notes: &saved.notes,
    }
}

/// Whether both paths lead to one file.
fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
