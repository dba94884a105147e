//! Tensors of the command line: `NAME=FILE` arguments, the files behind them, and inputs made up where none are given.

use std::path::Path;

use cellgate::formats::npy;
use cellgate::{AxisSize, ElementType, Inputs, Network, Port, Tensor};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::random::Random;
use super::{Result, output};

/// `--input`.
#[derive(Debug, clap::Args)]
pub(super) struct InputArgs {
    /// An input from a file; a model with one input takes FILE.npy without a name. May be given several times
    #[arg(long = "input", value_name = "[NAME=]FILE.npy", help_heading = "Inputs")]
    pub(super) inputs: Vec<String>,
}

/// Input tensors that own their elements, in the order in which they were given or made.
#[derive(Debug)]
pub(super) struct HostInputs(Vec<(String, Tensor)>);

impl HostInputs {
    /// Reads the files of `--input` arguments.
    pub(super) fn read(network: &Network, arguments: &[String]) -> Result<Self> {
        let mut inputs: Vec<(String, Tensor)> = Vec::new();
        for argument in arguments {
            let (name, file) = match split(argument, network.inputs())? {
                (Some(name), file) => (name, file),
                (None, file) => {
                    let is_file = Path::new(file).exists();
                    if let Some((name, _)) = file.split_once('=').filter(|_| !is_file) {
                        let names = names(network.inputs());
                        return Err(format!("--input {argument}: the model has no input `{name}`, it has {names}; nor is there a file {file}").into());
                    }
                    (only_input(network, argument)?, file)
                }
            };
            if inputs.iter().any(|(known, _)| known == name) {
                return Err(format!("--input {argument}: input `{name}` is given twice").into());
            }
            let tensor = npy::read(Path::new(file)).map_err(|error| format!("input `{name}`: {error}"))?;
            if let Some(port) = network.inputs().iter().find(|port| port.name == name) {
                check_type(port, &tensor).map_err(|error| format!("input `{name}`: {file}: {error}"))?;
            }
            inputs.push((name.to_owned(), tensor));
        }
        let missing = |port: &&Port| !port.optional && inputs.iter().all(|(name, _)| *name != port.name);
        if let Some(port) = network.inputs().iter().find(missing) {
            let axes: Vec<String> = port.axes.iter().map(ToString::to_string).collect();
            let axes = if axes.is_empty() { String::new() } else { format!(" [{}]", axes.join(", ")) };
            let name = &port.name;
            return Err(format!("input `{name}`: missing, expected {}{axes}: --input {name}=FILE.npy", expected_type(port)).into());
        }
        Ok(Self(inputs))
    }

    /// Makes up every input that is not optional: numbers as from a standard normal distribution, ids of all kinds, and full lengths.
    pub(super) fn generate(network: &Network, sizes: Sizes, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        // Run-time weights as large as inputs would saturate every gate; a fixed size along each axis tells them from sequences.
        let run_time_weights = network.lstms().any(|(_, lstm)| lstm.is_none());
        let make = |port: &Port| {
            let shape = sizes.shape(port)?;
            let tensor: Tensor = match port.element_type {
                ElementType::F32 => {
                    let fixed = port.axes.iter().all(|axis| matches!(axis, AxisSize::Fixed(_)));
                    let fan_in = if run_time_weights && fixed { shape.last().copied().unwrap_or(1).max(1) } else { 1 };
                    normal(&shape, fan_in, &mut random).into()
                }
                _ if port.element_type != ElementType::F32 && network.num_ids(&port.name).is_some() => {
                    ids(&shape, port.element_type, network.num_ids(&port.name).unwrap_or(1), &mut random)
                }
                ElementType::I32 | ElementType::I64 => {
                    let len = i64::try_from(sizes.longest(network, port))?;
                    ArrayD::from_elem(IxDyn(&shape), len).into()
                }
                other => return Err(format!("input `{}`: {other} cannot be made up; give the inputs with --input", port.name).into()),
            };
            Ok((port.name.clone(), tensor))
        };
        network.inputs().iter().filter(|port| !port.optional).map(make).collect::<Result<_>>().map(Self)
    }

    /// One input that is at hand.
    pub(super) fn one(name: &str, tensor: Tensor) -> Self {
        Self(vec![(name.to_owned(), tensor)])
    }

    /// The first `rows` rows of a batch, of tensors whose axis 1 they are.
    pub(super) fn rows(&self, rows: usize) -> Self {
        let first = |array: &ArrayD<f32>| array.slice_axis(Axis(1), Slice::from(..rows)).to_owned();
        let cut = |tensor: &Tensor| tensor.as_f32().map_or_else(|| tensor.clone(), |array| first(array).into());
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), cut(tensor))).collect())
    }

    /// The tensors as a session takes them.
    pub(super) fn inputs(&self) -> Inputs<'_> {
        self.0.iter().fold(Inputs::new(), |inputs, (name, tensor)| inputs.with(name.as_str(), tensor.view()))
    }

    /// The same tensors with every float32 moved to one of its neighbours.
    pub(super) fn nudged(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut nudge = |value: f32| if random.uniform() < 0.5 { value.next_up() } else { value.next_down() };
        let nudged = self.0.iter().map(|(name, tensor)| match tensor {
            Tensor::F32(array) => (name.clone(), array.mapv(&mut nudge).into()),
            other => (name.clone(), other.clone()),
        });
        Self(nudged.collect())
    }

    /// Names and tensors.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, Tensor)> {
        self.0.iter()
    }
}

/// The types that `port` takes, in words.
fn expected_type(port: &Port) -> String {
    match port.element_type {
        ElementType::I32 | ElementType::I64 => "int32 or int64".to_owned(),
        other => other.to_string(),
    }
}

fn check_type(port: &Port, tensor: &Tensor) -> std::result::Result<(), String> {
    let is_integer = |element_type| matches!(element_type, ElementType::I32 | ElementType::I64);
    let (expected, found) = (port.element_type, tensor.view().element_type());
    if expected == found || (is_integer(expected) && is_integer(found)) {
        return Ok(());
    }
    Err(format!("expected {}, found {found}; in numpy: .astype(numpy.{expected})", expected_type(port)))
}

/// Takes `NAME=FILE` apart, where NAME is one of `ports`; an argument that starts with no name of a port has none.
pub(super) fn split<'a>(argument: &'a str, ports: &'a [Port]) -> Result<(Option<&'a str>, &'a str)> {
    let named = |port: &'a Port| Some((port.name.as_str(), argument.strip_prefix(&port.name)?.strip_prefix('=')?));
    // Names of ONNX tensors may hold `=` themselves.
    let (name, file) = match ports.iter().filter_map(named).max_by_key(|(name, _)| name.len()) {
        Some((name, file)) => (Some(name), file),
        None => (None, argument),
    };
    if file.is_empty() {
        return Err(format!("`{argument}`: expected NAME=FILE.npy, found no file").into());
    }
    Ok((name, file))
}

/// The names of `ports`, quoted, with commas.
pub(super) fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ")
}

/// The one input that a call must give.
fn only_input<'a>(network: &'a Network, argument: &str) -> Result<&'a str> {
    let required: Vec<&Port> = network.inputs().iter().filter(|port| !port.optional).collect();
    match (&required[..], network.inputs()) {
        ([one], _) => Ok(&one.name),
        ([], [one]) => Ok(&one.name),
        _ => Err(format!("--input {argument}: the model has the inputs {}; say which: NAME={argument}", names(network.inputs())).into()),
    }
}

/// The sizes of a call that is made up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) seq_len: usize,
}

/// What a named axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Batch,
    Steps,
}

/// Whether calls of the model may differ in their number of rows, and in their number of steps: whether required inputs have axes of such names.
pub(super) fn open_sizes(network: &Network) -> (bool, bool) {
    let has = |what: Counted| network.inputs().iter().any(|port| !port.optional && port.axes.iter().any(|axis| counted(axis) == Some(what)));
    (has(Counted::Batch), has(Counted::Steps))
}

/// More than this is no check but a strain on the machine.
pub(super) const MAX_ELEMENTS: usize = 1 << 30;

impl Sizes {
    fn shape(self, port: &Port) -> Result<Vec<usize>> {
        if port.axes.is_empty() {
            return Err(format!("input `{}`: the model does not say its shape; give the inputs with --input", port.name).into());
        }
        let size = |axis: &AxisSize| match (axis, counted(axis)) {
            (AxisSize::Fixed(size), _) => Ok(*size),
            (_, Some(Counted::Batch)) => Ok(self.batch),
            (_, Some(Counted::Steps)) => Ok(self.seq_len),
            (AxisSize::Named(name), None) => {
                Err(format!("input `{}`: `{name}` of its axes is neither batch nor time; give the inputs with --input", port.name))
            }
        };
        let shape = port.axes.iter().map(size).collect::<std::result::Result<Vec<_>, _>>()?;
        match shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)) {
            Some(len) if len <= MAX_ELEMENTS => Ok(shape),
            _ => Err(format!("input `{}`: {shape:?} is too large to be made up, expected at most {MAX_ELEMENTS} numbers", port.name).into()),
        }
    }

    /// How many steps the sequences have whose lengths `lens` gives: the axis beside the batch of the first sequence of the model.
    fn longest(self, network: &Network, lens: &Port) -> usize {
        let beside = |port: &Port| {
            let [first, second, _] = &port.axes[..] else { return None };
            let rows = lens.axes.first()?;
            let steps = if counted(first) == Some(Counted::Steps) || second == rows { first } else { second };
            Some(if let AxisSize::Fixed(size) = steps { *size } else { self.seq_len })
        };
        let sequences = network.inputs().iter().filter(|port| !port.optional && port.element_type == ElementType::F32);
        sequences.filter_map(beside).next().unwrap_or(self.seq_len)
    }
}

/// What the axis counts, by its name, which exporters choose freely: `batch`, `batch_size`, `N`; `seq_len`, `time`, `steps`, `T`.
fn counted(axis: &AxisSize) -> Option<Counted> {
    let AxisSize::Named(name) = axis else { return None };
    // The axes of several nodes have the node's name in front.
    let name = name.rsplit('.').next().unwrap_or(name).to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match name.as_str() {
        "n" | "b" | "bs" => Some(Counted::Batch),
        "t" | "s" | "l" => Some(Counted::Steps),
        _ if has(&["batch"]) => Some(Counted::Batch),
        _ if has(&["seq", "time", "step", "frame", "len"]) => Some(Counted::Steps),
        _ => None,
    }
}

/// Numbers of vectors in a table of `num_embeddings`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a table, at random")]
fn ids(shape: &[usize], element_type: ElementType, num_embeddings: usize, random: &mut Random) -> Tensor {
    let most = if matches!(element_type, ElementType::U8 | ElementType::I8) { num_embeddings.min(128) } else { num_embeddings };
    let mut id = || ((random.uniform() * most as f64) as usize).min(most - 1);
    match element_type {
        ElementType::U8 => ArrayD::from_shape_simple_fn(IxDyn(shape), || id() as u8).into(),
        ElementType::I8 => ArrayD::from_shape_simple_fn(IxDyn(shape), || id() as i8).into(),
        ElementType::I32 => ArrayD::from_shape_simple_fn(IxDyn(shape), || id() as i32).into(),
        _ => ArrayD::from_shape_simple_fn(IxDyn(shape), || id() as i64).into(),
    }
}

/// Numbers with a standard deviation of `1 / sqrt(fan_in)`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "random numbers need no more than float32")]
fn normal(shape: &[usize], fan_in: usize, random: &mut Random) -> ArrayD<f32> {
    let scale = 1.0 / (fan_in as f64).sqrt();
    ArrayD::from_shape_simple_fn(IxDyn(shape), || (random.normal() * scale) as f32)
}

/// How many numbers of the tensor are NaN or infinite.
pub(super) fn num_non_finite(tensor: &Tensor) -> usize {
    tensor.as_f32().map_or(0, |values| values.iter().filter(|value| !value.is_finite()).count())
}

/// Says on stderr that an output has such numbers, if it has any.
pub(super) fn note_non_finite(name: &str, num_non_finite: usize) {
    if num_non_finite > 0 {
        output::say(&format!("note: output `{name}` holds {num_non_finite} values that are NaN or infinite"));
    }
}

/// Every tensor's shape, by the name of its type: `float32 [5, 2, 16]`.
pub(super) fn describe(tensor: &Tensor) -> String {
    let view = tensor.view();
    format!("{} {:?}", view.element_type(), view.shape())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> Port {
        Port { name: name.to_owned(), element_type: ElementType::F32, axes: Vec::new(), optional: false }
    }

    #[test]
    fn names_may_hold_the_separator() {
        let ports = [port("x"), port("a"), port("a=b")];
        let parts = |argument| split(argument, &ports).map_err(|error| error.to_string());
        assert_eq!(parts("x=in.npy"), Ok((Some("x"), "in.npy")));
        assert_eq!(parts("a=b=in.npy"), Ok((Some("a=b"), "in.npy")));
        assert_eq!(parts("a=c=in.npy"), Ok((Some("a"), "c=in.npy")));
        assert_eq!(parts("in.npy"), Ok((None, "in.npy")));
        assert_eq!(parts("y=in.npy"), Ok((None, "y=in.npy")));
        assert_eq!(parts("x="), Err("`x=`: expected NAME=FILE.npy, found no file".to_owned()));
    }

    #[test]
    fn axes_are_known_by_their_names() {
        let named = |name: &str| counted(&AxisSize::Named(name.to_owned()));
        for name in ["batch", "batch_size", "N", "LSTM_0.batch", "Batch"] {
            assert_eq!(named(name), Some(Counted::Batch), "{name}");
        }
        for name in ["seq_len", "sequence", "LSTM_1.seq_len", "time_steps", "T"] {
            assert_eq!(named(name), Some(Counted::Steps), "{name}");
        }
        assert_eq!(named("features"), None);
    }
}
