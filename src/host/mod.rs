//! What stands between the LSTMs of an ONNX model, on the CPU: the only room in which `rten` appears.
//!
//! A [`Segment`] is a model of its own. rten folds constants and fuses operators as it loads one; what it lacks, computes wrongly or would not
//! survive is refused before that (`operators`, `loops`, `check`).
//!
//! All segments of a process share one pool of threads, as many as rayon has where the first of them runs; `RTEN_NUM_THREADS`
//! holds for loading alone. rten enters its pool for every run, which takes some microseconds from a thread that is not the pool's.

mod bounds;
mod check;
mod loops;
mod operators;
mod proto;
mod value;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use prost::Message;
use prost::bytes::Bytes;
use rten::{LoadErrorKind, Model, ModelOptions, NodeId, RunErrorKind, RunOptions, ShapeInferenceMode, ThreadPool};

pub(crate) use self::operators::missing_operators;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{ElementType, Tensor, TensorView};

/// The threads of all segments of this process.
fn threads() -> Arc<ThreadPool> {
    static THREADS: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    THREADS.get_or_init(|| Arc::new(ThreadPool::with_num_threads(rayon::current_num_threads()))).clone()
}

/// A part of an ONNX model, prepared for the CPU.
pub(crate) struct Segment {
    model: Model,
    inputs: Vec<(String, NodeId)>,
    outputs: Vec<Output>,
    /// what rten is asked for: it takes every node once
    computed: Vec<NodeId>,
    /// nodes that follow each other
    depth: usize,
}

struct Output {
    name: String,
    element_type: Option<ElementType>,
    /// its place in `computed`
    place: usize,
    /// whether no later one has that place
    last: bool,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Segment {
    /// Prepares `model`, an encoded `ModelProto`. `inputs` are the inputs of its graph in the order in which `run` takes them, `outputs` those
    /// that `run` returns, with their element types where the model declares them.
    ///
    /// # Errors
    /// - `Format`: not a model, or a graph whose parts do not fit
    /// - `Config`: operators or variants that the CPU does not have, all of them named
    /// - `Limit`: a constant asks for a tensor of more than 2 GiB
    pub(crate) fn new(model: Vec<u8>, inputs: Vec<String>, outputs: Vec<(String, Option<ElementType>)>) -> Result<Self> {
        let bytes = Bytes::from(model);
        let proto = proto::ModelProto::decode(bytes.clone()).map_err(|error| Error::format("segment: not an ONNX model").with_source(error))?;
        let advice = check::model(&proto, bytes.len())?;
        let declared = proto.graph.into_iter().flat_map(|graph| graph.output).enumerate().map(|(place, output)| (output.name, place));
        let declared = declared.collect::<HashMap<_, _>>();
        let bytes = Vec::from(bytes);
        // rten asserts and indexes where a node does not fit its inputs, in loading too. Nothing of this crate is half-changed by such a panic,
        // and what rten held is dropped with it.
        let load = || {
            let shapes = if advice.infer_shapes { ShapeInferenceMode::On } else { ShapeInferenceMode::Off };
            ModelOptions::with_all_ops().enable_optimization(advice.optimise).shape_inference(shapes).load(bytes)
        };
        let model = with_stack(advice.depth, || catch_unwind(AssertUnwindSafe(load)))?.map_err(|panic| panicked(&*panic))?.map_err(load_error)?;

        let takes = model.input_ids().iter().copied().collect::<HashSet<_>>();
        let inputs = inputs.into_iter().map(|name| match model.find_node(&name).filter(|id| takes.contains(id)) {
            Some(id) => Ok((name, id)),
            None => Err(Error::format(format!("tensor `{name}`: not an input of its segment"))),
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let given = inputs.iter().map(|(_, id)| *id).collect::<HashSet<_>>();
        if let Some(id) = model.input_ids().iter().find(|id| !given.contains(id)) {
            let name = model.node_info(*id).and_then(|node| node.name().map(str::to_owned)).unwrap_or_default();
            return Err(Error::format(format!("tensor `{name}`: an input of the segment that nobody gives")));
        }

        // a folded or fused output is another node than the one that has its name
        let (mut computed, mut places) = (Vec::new(), HashMap::new());
        let outputs = outputs.into_iter().map(|(name, element_type)| {
            let id = declared.get(&name).and_then(|&place| model.output_ids().get(place).copied());
            let id = id.ok_or_else(|| Error::format(format!("tensor `{name}`: not an output of its segment")))?;
            let place = *places.entry(id).or_insert_with(|| {
                computed.push(id);
                computed.len() - 1
            });
            Ok(Output { name, element_type, place, last: true })
        });
        let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
        let mut later = HashSet::new();
        outputs.iter_mut().rev().for_each(|output| output.last = later.insert(output.place));
        Ok(Self { model, inputs, outputs, computed, depth: advice.depth })
    }

    /// Computes the outputs from the inputs, both in the order that [`Segment::new`] was given.
    ///
    /// # Errors
    /// - `Shape`: an input, or a tensor within, has a shape, an element type or a value that does not do
    /// - `Config`: a variant of an operator that shows in a run only
    pub(crate) fn run(&self, inputs: &[TensorView<'_>]) -> Result<Vec<Tensor>> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::shape(format!("segment: expected {} inputs, found {}", self.inputs.len(), inputs.len())));
        }
        let given = self.inputs.iter().zip(inputs).map(|((name, id), tensor)| Ok((*id, value::to_rten(name, tensor)?)));
        let given = given.collect::<Result<Vec<_>>>()?;
        let options = RunOptions::default().with_thread_pool(Some(threads()));
        // see `new`; a run changes nothing in the model but the plan that it keeps, which is whole or not there
        let run = || catch_unwind(AssertUnwindSafe(|| self.model.run(given, &self.computed, Some(options))));
        let values = with_stack(self.depth, run)?.map_err(|panic| panicked(&*panic))?.map_err(run_error)?;

        let mut values = values.into_iter().map(Some).collect::<Vec<_>>();
        let take = self.outputs.iter().map(|output| {
            let value = if output.last { values[output.place].take() } else { values[output.place].clone() };
            value::from_rten(&output.name, value.expect("taken by the last output that has it"), output.element_type)
        });
        take.collect()
    }
}

/// Does `work`, in which rten goes down a graph of `depth` nodes that follow each other, where the stack suffices for it.
fn with_stack<T: Send>(depth: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    /// any thread's stack has room for this many
    const MOST_HERE: usize = 1 << 9;
    const BYTES_PER_NODE: usize = 1 << 12;
    if depth <= MOST_HERE {
        return Ok(work());
    }
    let failed =
        |error| Error::limit(format!("segment: {depth} nodes follow each other, and there is no room to go down to them")).with_source(error);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(depth * BYTES_PER_NODE + (1 << 20)).spawn_scoped(scope, work).map_err(failed)?;
        thread.join().map_err(|panic| panicked(&*panic))
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Error::config(format!("segment: the CPU cannot compute it: {}", crate::error::one_line(text.unwrap_or("no reason given"))))
}

fn load_error(error: rten::LoadError) -> Error {
    let kind = match error.kind() {
        LoadErrorKind::OperatorInvalid | LoadErrorKind::OptimizeError | LoadErrorKind::ShapeInferenceFailed => ErrorKind::Config,
        _ => ErrorKind::Format,
    };
    let text = error.to_string();
    let text = match error.node() {
        Some(node) => format!("node `{node}`: {}", text.strip_prefix(&format!("in node \"{node}\": ")).unwrap_or(&text)),
        None => format!("segment: {text}"),
    };
    Error::new(kind, text).with_source(error)
}

fn run_error(error: rten::RunError) -> Error {
    let text = error.to_string();
    let (subject, what) = match text.split_once(" failed: ") {
        Some((_, what)) => (error.node_path().into_iter().flatten().collect::<Vec<_>>().join("/"), what.replacen(". Inputs were (", "; inputs (", 1)),
        None => (error.node_path().into_iter().flatten().collect::<Vec<_>>().join("/"), text.clone()),
    };
    let kind = match error.kind() {
        RunErrorKind::OperatorError if what.starts_with("unsupported") => ErrorKind::Config,
        RunErrorKind::OperatorError | RunErrorKind::InvalidInput => ErrorKind::Shape,
        _ => ErrorKind::Format,
    };
    let message = if subject.is_empty() { format!("segment: {what}") } else { format!("node `{subject}`: {what}") };
    Error::new(kind, message).with_source(error)
}
