//! `cellgate inspect`: what a model is, and where it would run.

use std::path::PathBuf;

use cellgate::{AxisSize, CellActivations, Lstm, LstmConfig, Network, Port};
use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs};
use super::output::{self, DeviceFields};
use super::{Result, Verdict};

/// Show a model: layers, shapes, parameters, inputs and outputs, what runs where and why
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Report {
    path: PathBuf,
    format: String,
    num_parameters: usize,
    inputs: Vec<PortReport>,
    outputs: Vec<PortReport>,
    lstms: Vec<LstmReport>,
    #[serde(flatten)]
    device: DeviceFields,
    notes: Vec<String>,
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
    let network = args.model.read(false)?;
    let engine = args.device.open()?;
    if args.json {
        output::print_json(&Report::of(args, &network, DeviceFields::of(engine.describe())))?;
    } else {
        output::print(&describe(args, &network, &engine.describe().to_string()))?;
    }
    Ok(Verdict::Good)
}

impl Report {
    fn of(args: &Args, network: &Network, device: DeviceFields) -> Self {
        Self {
            path: args.model.path.clone(),
            format: network.format().to_owned(),
            num_parameters: network.num_parameters(),
            inputs: network.inputs().iter().map(PortReport::of).collect(),
            outputs: network.outputs().iter().map(PortReport::of).collect(),
            lstms: network.lstms().map(|(node, lstm)| LstmReport::of(node, lstm)).collect(),
            device,
            notes: network.notes().to_vec(),
        }
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
fn describe(args: &Args, network: &Network, runs_on: &str) -> String {
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
    if !network.notes().is_empty() {
        let notes: Vec<String> = network.notes().iter().map(|note| format!("  {note}")).collect();
        parts.push(format!("notes\n{}", notes.join("\n")));
    }
    parts.join("\n\n")
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
