//! `cellgate run`: a model, input files, output files.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use cellgate::formats::npy;
use cellgate::{Network, Outputs};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, SessionArgs};
use super::output::{self, DeviceFields, ScheduleFields, Spinner};
use super::tensors::{self, HostInputs, InputArgs};
use super::{Result, Verdict};

/// Run a model on input files and write its outputs as files
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
    /// Folder for the outputs, each as NAME.npy; made if missing
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    out: Option<PathBuf>,
    /// Write this output to FILE.npy and only what is named so; without a file: to --out. May be given several times
    #[arg(long = "output", value_name = "NAME[=FILE.npy]", help_heading = "Outputs")]
    outputs: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

const EXAMPLES: &str = "Examples:
  cellgate run model.safetensors --input x.npy --out results
  cellgate run model.safetensors --input x=x.npy --input sequence_lens=lens.npy --output y=y.npy
  cellgate run model.onnx --input X=x.npy --out results --device gpu --adapter radeon";

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    device: DeviceFields,
    #[serde(flatten)]
    schedule: ScheduleFields,
    outputs: Vec<OutputReport>,
    /// one call, its host work and the warm-up of its kernels included
    ms: f64,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    file: PathBuf,
}

/// An output and the file that it goes to.
struct Target {
    name: String,
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    if args.out.is_none() && args.outputs.is_empty() {
        return Err("outputs: expected --out DIR for all of them or --output NAME=FILE.npy for one, found neither".into());
    }
    let network = args.model.open()?;
    let targets = targets(args, &network)?;
    for target in &targets {
        output::check_writable(&target.file, args.out.as_deref())?;
    }
    let inputs = HostInputs::read(&network, &args.inputs.inputs)?;
    let engine = args.device.open_and_say()?;
    let mut session = engine.session(&network, args.session.options())?;
    let spinner = Spinner::new("running");
    let start = Instant::now();
    let outputs = session.run(&inputs.inputs())?;
    let ms = output::milliseconds(start.elapsed());
    drop(spinner);
    let schedule = ScheduleFields::say(&session);
    for target in &targets {
        tensors::note_non_finite(&target.name, outputs.get(&target.name).map_or(0, tensors::num_non_finite));
    }
    let outputs = write(args, &targets, &outputs)?;
    output::say(&format!("ran in {ms:.3} ms, the warm-up of a first call included"));
    if args.json {
        output::print_json(&Report { device: DeviceFields::of(engine.describe()), schedule, outputs, ms })?;
        return Ok(Verdict::Good);
    }
    let row = |output: &OutputReport| [output.name.clone(), output.dtype.clone(), format!("{:?}", output.shape), output.file.display().to_string()];
    output::print(&output::table(&outputs.iter().map(row).collect::<Vec<_>>(), ""))?;
    Ok(Verdict::Good)
}

/// What goes where: every output to the folder, or what is named.
fn targets(args: &Args, network: &Network) -> Result<Vec<Target>> {
    let ports = network.outputs();
    let mut targets = Vec::new();
    for argument in &args.outputs {
        let (name, file) = match tensors::split(argument, ports)? {
            (Some(name), file) => (name, PathBuf::from(file)),
            (None, name) if ports.iter().all(|port| port.name != name) => {
                let name = name.split_once('=').map_or(name, |(name, _)| name);
                return Err(format!("--output {argument}: the model has no output `{name}`, it has {}", tensors::names(ports)).into());
            }
            (None, name) => match &args.out {
                Some(folder) => (name, in_folder(folder, name)?),
                None => return Err(format!("--output {argument}: expected {argument}=FILE.npy, or --out DIR beside it").into()),
            },
        };
        targets.push(Target { name: name.to_owned(), file });
    }
    if let (true, Some(folder)) = (args.outputs.is_empty(), &args.out) {
        for port in ports {
            targets.push(Target { name: port.name.clone(), file: in_folder(folder, &port.name)? });
        }
    }
    for (number, target) in targets.iter().enumerate() {
        let place = place(&target.file);
        if let Some(other) = targets[..number].iter().find(|other| self::place(&other.file) == place) {
            return Err(format!("outputs `{}` and `{}` would both go to {}", other.name, target.name, target.file.display()).into());
        }
    }
    Ok(targets)
}

/// `DIR/NAME.npy`. A name that would lead out of the folder, or into one below it, is refused: a model file has no say in where files go.
fn in_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_file_name = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(one)] if one == name);
    // `\` and `:` lead elsewhere on Windows only
    let elsewhere = name.contains(['/', '\0']) || (cfg!(windows) && name.contains(['\\', ':']));
    if !is_file_name || elsewhere {
        return Err(format!("output `{}` cannot be a file's name; say where it goes: --output NAME=FILE.npy", name.escape_debug()).into());
    }
    Ok(folder.join(format!("{name}.npy")))
}

/// Where `file` lies or would lie, the same for every way to write its path; only what exists can be followed.
fn place(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let known = absolute.ancestors().find_map(|ancestor| Some((fs::canonicalize(ancestor).ok()?, absolute.strip_prefix(ancestor).ok()?)));
    known.map_or_else(|| absolute.clone(), |(ancestor, rest)| ancestor.join(rest))
}

/// Writes the outputs: all of them or none.
fn write(args: &Args, targets: &[Target], outputs: &Outputs) -> Result<Vec<OutputReport>> {
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder).map_err(|error| format!("{}: cannot create: {error}", folder.display()))?;
    }
    let mut reports = Vec::new();
    let mut files = Vec::new();
    for Target { name, file } in targets {
        let tensor = outputs.get(name).ok_or_else(|| format!("output `{name}`: the run did not make it"))?;
        files.push((file.as_path(), tensor));
        let view = tensor.view();
        let (shape, dtype) = (view.shape().to_vec(), view.element_type().to_string());
        reports.push(OutputReport { name: name.clone(), shape, dtype, file: file.clone() });
    }
    npy::write_all(&files)?;
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let folder = Path::new("out");
        let file = |name| in_folder(folder, name).ok();
        assert_eq!(file("y"), Some(PathBuf::from("out/y.npy")));
        assert_eq!(file("lstm output.1"), Some(PathBuf::from("out/lstm output.1.npy")));
        for name in ["", ".", "..", "../y", "/y", "a/b", "a/", "a/../b", "a\0b"] {
            assert_eq!(file(name), None, "{name:?}");
        }
    }
}
