//! `cellgate inspect`: what a model is, and where its parts would run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cellgate::{AxisSize, Branch, CellActivations, Engine, Lstm, LstmConfig, Network, Options, Part, PartKind, PartRun, Port};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs};
use super::output::{self, DeviceFields};
use super::tensors::{HostInputs, InputArgs, Sizes};
use super::{Result, Verdict};

/// Show a model: layers, shapes, parameters, inputs and outputs, what runs where and why
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
    /// Rows of made-up inputs, for one call that shows which parts it comes to and how much each computes
    #[arg(long, value_name = "N", conflicts_with = "inputs", help_heading = "Inputs")]
    batch: Option<usize>,
    /// Steps of made-up inputs
    #[arg(long, value_name = "T", conflicts_with = "inputs", help_heading = "Inputs")]
    seq_len: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

const EXAMPLES: &str = "Examples:
  cellgate inspect model.onnx
  cellgate inspect model.onnx --batch 1 --seq-len 100
  cellgate inspect model.onnx --input input=x.npy --input state=state.npy --json";

#[derive(Serialize)]
struct Report {
    path: PathBuf,
    format: String,
    num_parameters: usize,
    inputs: Vec<PortReport>,
    outputs: Vec<PortReport>,
    lstms: Vec<LstmReport>,
    parts: Vec<PartReport>,
    /// what one call came to; absent without inputs
    call: Option<CallReport>,
    #[serde(flatten)]
    device: DeviceFields,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct PartReport {
    name: String,
    kind: &'static str,
    /// the choices that a call makes before it comes to this part
    within: Vec<BranchReport>,
    operators: BTreeMap<String, usize>,
    on_device: bool,
    why: &'static str,
}

#[derive(Serialize)]
struct BranchReport {
    choice: String,
    holds: bool,
}

/// One traced call.
#[derive(Serialize)]
struct CallReport {
    inputs: BTreeMap<String, Vec<usize>>,
    parts: Vec<PartCallReport>,
    flops: u64,
    /// what part of these is on the device; absent where nothing was counted
    device_share: Option<f64>,
}

#[derive(Serialize)]
struct PartCallReport {
    name: String,
    kind: &'static str,
    flops: u64,
    ms: f64,
}

#[derive(Serialize)]
struct PortReport {
    name: String,
    element_type: String,
    axes: Vec<AxisReport>,
    optional: bool,
}

/// A number where the model fixes the size, else a name.
#[derive(Serialize)]
#[serde(untagged)]
enum AxisReport {
    Fixed(usize),
    Named(String),
}

#[derive(Serialize)]
struct LstmReport {
    node: String,
    weights: WeightsFrom,
    #[serde(flatten)]
    config: Option<ConfigReport>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum WeightsFrom {
    /// the file
    Constant,
    /// tensors of each call
    RunTime,
}

/// An [`LstmConfig`] with what follows from it.
#[derive(Serialize)]
struct ConfigReport {
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
    direction: &'static str,
    num_directions: usize,
    proj_size: Option<usize>,
    out_size: usize,
    bias: bool,
    peepholes: bool,
    layer_norm: Option<f32>,
    input_forget: bool,
    /// one for every direction
    activations: Vec<ActivationsReport>,
    clip: Option<f32>,
    cell_clip: Option<f32>,
    proj_clip: Option<f32>,
    num_parameters: usize,
}

#[derive(Serialize)]
struct ActivationsReport {
    gate: String,
    candidate: String,
    output: String,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let traced = !args.inputs.inputs.is_empty() || args.batch.is_some() || args.seq_len.is_some();
    let network = args.model.read(traced)?;
    let engine = args.device.open()?;
    let call = traced.then(|| trace(args, &network, &engine)).transpose()?;
    if args.json {
        output::print_json(&Report::of(args, &network, call, DeviceFields::of(engine.describe())))?;
    } else {
        output::print(&describe(args, &network, call.as_ref(), &engine.describe().to_string()))?;
    }
    Ok(Verdict::Good)
}

/// Runs the model once, on inputs that are given or made up.
fn trace(args: &Args, network: &Network, engine: &Engine) -> Result<CallReport> {
    let inputs = if args.inputs.inputs.is_empty() {
        HostInputs::generate(network, Sizes { batch: args.batch.unwrap_or(1), seq_len: args.seq_len.unwrap_or(1) }, 1)?
    } else {
        HostInputs::read(network, &args.inputs.inputs)?
    };
    let mut session = engine.session(network, Options::default())?;
    // kernels are compiled before anything is timed
    session.run(&inputs.inputs())?;
    let (_, runs) = session.trace(&inputs.inputs())?;
    let flops = |on_device: bool| runs.iter().filter(|run| run.kind.on_device() == on_device).map(|run| run.flops).sum::<u64>();
    let (device, host) = (flops(true), flops(false));
    #[expect(clippy::cast_precision_loss, reason = "a share is shown with three digits")]
    let device_share = (device + host > 0).then(|| device as f64 / (device + host) as f64);
    let part = |run: &PartRun| PartCallReport { name: run.name.clone(), kind: run.kind.name(), flops: run.flops, ms: output::milliseconds(run.time) };
    Ok(CallReport {
        inputs: inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect(),
        parts: runs.iter().map(part).collect(),
        flops: device + host,
        device_share,
    })
}

impl Report {
    fn of(args: &Args, network: &Network, call: Option<CallReport>, device: DeviceFields) -> Self {
        Self {
            path: args.model.path.clone(),
            format: network.format().to_owned(),
            num_parameters: network.num_parameters(),
            inputs: network.inputs().iter().map(PortReport::of).collect(),
            outputs: network.outputs().iter().map(PortReport::of).collect(),
            lstms: network.lstms().map(|(node, lstm)| LstmReport::of(node, lstm)).collect(),
            parts: network.parts().into_iter().map(PartReport::of).collect(),
            call,
            device,
            notes: network.notes().to_vec(),
        }
    }
}

impl PartReport {
    fn of(part: Part) -> Self {
        let within = part.within.into_iter().map(|branch| BranchReport { choice: branch.choice, holds: branch.holds }).collect();
        Self { name: part.name, kind: part.kind.name(), within, operators: part.operators, on_device: part.kind.on_device(), why: part.kind.why() }
    }
}

impl PortReport {
    fn of(port: &Port) -> Self {
        let axis = |axis: &AxisSize| match axis {
            AxisSize::Fixed(size) => AxisReport::Fixed(*size),
            AxisSize::Named(name) => AxisReport::Named(name.clone()),
        };
        let axes = port.axes.iter().map(axis).collect();
        Self { name: port.name.clone(), element_type: port.element_type.to_string(), axes, optional: port.optional }
    }
}

impl LstmReport {
    fn of(node: &str, lstm: Option<&Lstm>) -> Self {
        let weights = if lstm.is_some() { WeightsFrom::Constant } else { WeightsFrom::RunTime };
        Self { node: node.to_owned(), weights, config: lstm.map(|lstm| ConfigReport::of(lstm.config())) }
    }
}

impl ConfigReport {
    fn of(config: &LstmConfig) -> Self {
        let activations = config.activations[..config.num_directions()].iter().map(|functions| ActivationsReport {
            gate: functions.gate.to_string(),
            candidate: functions.candidate.to_string(),
            output: functions.output.to_string(),
        });
        Self {
            input_size: config.input_size,
            hidden_size: config.hidden_size,
            num_layers: config.num_layers,
            direction: config.direction.name(),
            num_directions: config.num_directions(),
            proj_size: config.proj_size,
            out_size: config.out_size(),
            bias: config.bias,
            peepholes: config.peepholes,
            layer_norm: config.layer_norm,
            input_forget: config.input_forget,
            activations: activations.collect(),
            clip: config.clip,
            cell_clip: config.cell_clip,
            proj_clip: config.proj_clip,
            num_parameters: config.num_parameters(),
        }
    }
}

/// The report for people.
fn describe(args: &Args, network: &Network, call: Option<&CallReport>, runs_on: &str) -> String {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let parameters = network.num_parameters();
    let about = [
        row("model", args.model.path.display().to_string()),
        row("format", network.format().to_owned()),
        row("parameters", format!("{parameters} ({} as float32)", output::bytes(parameters as u64 * 4))),
    ];
    let mut parts = vec![output::table(&about, "")];
    parts.push(format!("inputs\n{}", ports(network.inputs())));
    parts.push(format!("outputs\n{}", ports(network.outputs())));
    for (node, lstm) in network.lstms() {
        let mut rows = lstm.map_or_else(
            || vec![row("weights", "given with each call, and its sizes with them".to_owned())],
            |lstm| rows(lstm.config()).into_iter().map(|(name, value)| row(name, value)).collect(),
        );
        rows.push(row("runs on", runs_on.to_owned()));
        parts.push(format!("LSTM `{node}`\n{}", output::table(&rows, "  ")));
    }
    let all = network.parts();
    if all.len() > 1 || all.iter().any(|part| part.kind != PartKind::Lstm) {
        let table = output::table(&all.iter().map(part_row).collect::<Vec<_>>(), "  ");
        parts.push(format!("parts, in the order of a call\n{table}\n{}", reasons(&all)));
    }
    if let Some(call) = call {
        parts.push(describe_call(call));
    }
    if !network.notes().is_empty() {
        let notes: Vec<String> = network.notes().iter().map(|note| format!("  {note}")).collect();
        parts.push(format!("notes\n{}", notes.join("\n")));
    }
    parts.join("\n\n")
}

/// What a part is, what is in it, and where it runs.
fn part_row(part: &Part) -> [String; 3] {
    /// of operators that are listed
    const MOST: usize = 6;
    let mut operators: Vec<(&String, &usize)> = part.operators.iter().collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let more = operators.len().saturating_sub(MOST);
    let times = |(operator, count): &(&String, &usize)| if **count == 1 { (*operator).clone() } else { format!("{count} {operator}") };
    let mut listed: Vec<String> = operators.iter().take(MOST).map(times).collect();
    if more > 0 {
        listed.push(format!("{more} kinds more"));
    }
    let branch = |branch: &Branch| format!("{} {}", if branch.holds { "if" } else { "unless" }, branch.choice);
    let within = part.within.iter().map(branch).collect::<Vec<_>>().join(", ");
    let within = if within.is_empty() { String::new() } else { format!(" ({within})") };
    let place = match part.kind {
        PartKind::Axes => "where they are",
        kind if kind.on_device() => "device",
        _ => "CPU",
    };
    [format!("{}{within}", part.name), place.to_owned(), listed.join(", ")]
}

/// Why parts run where they do, a line for each kind that there is.
fn reasons(parts: &[Part]) -> String {
    let mut kinds: Vec<PartKind> = Vec::new();
    parts.iter().for_each(|part| kinds.extend((!kinds.contains(&part.kind)).then_some(part.kind)));
    let row = |kind: &PartKind| [format!("why {}", kind.name()), kind.why().to_owned()];
    output::table(&kinds.iter().map(row).collect::<Vec<_>>(), "  ")
}

/// What one call came to.
fn describe_call(call: &CallReport) -> String {
    let row = |part: &PartCallReport| [part.name.clone(), output::flops(part.flops), format!("{:.3} ms", part.ms)];
    let inputs: Vec<String> = call.inputs.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let share = call.device_share.map_or_else(String::new, |share| {
        format!("\n  {:.1} % of {} in matrix products and convolutions are on the device", share * 100.0, output::flops(call.flops))
    });
    let rows: Vec<_> = call.parts.iter().map(row).collect();
    format!("one call with {}\n{}{share}", inputs.join(", "), output::table(&rows, "  "))
}

fn ports(ports: &[Port]) -> String {
    let row = |port: &Port| {
        let axes: Vec<String> = port.axes.iter().map(ToString::to_string).collect();
        let axes = if axes.is_empty() { "of a shape that the model does not say".to_owned() } else { format!("[{}]", axes.join(", ")) };
        let optional = if port.optional { "optional" } else { "" };
        [port.name.clone(), port.element_type.to_string(), axes, optional.to_owned()]
    };
    output::table(&ports.iter().map(row).collect::<Vec<_>>(), "  ")
}

/// What an LSTM is, line by line.
fn rows(config: &LstmConfig) -> Vec<(&'static str, String)> {
    let layers = if config.num_layers == 1 { "1 layer".to_owned() } else { format!("{} layers", config.num_layers) };
    let mut sizes = format!("input {}, hidden {}", config.input_size, config.hidden_size);
    if let Some(size) = config.proj_size {
        sizes += &format!(", projection {size}");
    }
    let mut rows = vec![
        ("shape", format!("{layers}, {}", config.direction.name())),
        ("sizes", sizes),
        ("bias", if config.bias { "yes" } else { "no" }.to_owned()),
        ("peepholes", if config.peepholes { "yes" } else { "no" }.to_owned()),
    ];
    rows.extend(config.layer_norm.map(|epsilon| ("layer norm", format!("epsilon {epsilon}"))));
    rows.extend(config.input_forget.then(|| ("coupled", "the forget gate is 1 - the input gate".to_owned())));
    rows.extend(config.clip.map(|bound| ("clip", format!("pre-activations to {bound}"))));
    rows.extend(config.cell_clip.map(|bound| ("cell clip", format!("cell state to {bound}"))));
    rows.extend(config.proj_clip.map(|bound| ("proj clip", format!("projected hidden state to {bound}"))));
    let functions = |functions: &CellActivations| format!("gates {}, candidate {}, output {}", functions.gate, functions.candidate, functions.output);
    let mut activations: Vec<String> = config.activations[..config.num_directions()].iter().map(functions).collect();
    activations.dedup();
    rows.push(("activations", activations.join("; backwards: ")));
    rows.push(("weights", format!("constant, {} parameters", config.num_parameters())));
    rows
}
