//! Running a network's program: step by step, tensors by name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::device::DeviceKind;
use crate::engine::choices::Choices;
use crate::engine::dense::{DenseRunner, run_dense};
use crate::engine::node::{Carried, NodeRunner, Shared, Value, Values, run_node};
use crate::engine::runner::Runner;
use crate::engine::state::State;
use crate::engine::{Backend, Options};
use crate::error::{Error, Result};
use crate::gpu::Wait;
use crate::network::{DenseStage, HostNode, IfNode, Lstm, LstmConfig, Network, OpNode, PartKind, Program, Step};
use crate::tensor::{Outputs, Tensor, TensorView};

/// Bytes that the result of a small operator may take: what the host has room for.
const MOST_BYTES: usize = isize::MAX.cast_unsigned();

/// One call of a session, under way.
pub(super) struct Execution<'c, 'n> {
    pub(super) backend: &'c Backend,
    pub(super) options: &'c Options,
    pub(super) network: &'n Network,
    pub(super) choices: &'c mut Choices,
    pub(super) nodes: &'c mut [NodeRunner],
    pub(super) dense: &'c mut [DenseRunner],
    /// tensors that had better stay on the device
    pub(super) kept: &'c BTreeSet<String>,
    pub(super) state: Option<&'c mut State>,
    /// what LSTMs make, whose arrays are used again
    pub(super) made_by_lstms: &'c BTreeSet<String>,
    /// arrays of earlier calls
    pub(super) spare: &'c mut Outputs,
    /// arrays that LSTMs made in this call and nobody needs any more
    pub(super) between: &'c mut Outputs,
    pub(super) wait: Wait,
    /// where what each part took goes, if somebody asks
    pub(super) trace: Option<&'c mut Vec<PartRun>>,
}

/// A part of a network that a call ran.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartRun {
    /// the part's name
    pub name: String,
    /// what it is
    pub kind: PartKind,
    /// T and N of a stack's call; `None` for other parts
    pub seq_len_and_batch: Option<(usize, usize)>,
    /// multiplications and additions of its matrix products and convolutions; of a part on the CPU, where the network counts them
    pub flops: u64,
    /// how long the host was at it; what the device is left to do meanwhile is not in it
    pub time: Duration,
}

impl<'n> Execution<'_, 'n> {
    /// Runs `program` on what is in `values`, and adds what it makes.
    pub(super) async fn program(&mut self, program: &'n Program, values: &mut Values<'n>) -> Result<()> {
        for (step, done) in program.steps.iter().zip(&program.done) {
            let started = self.trace.as_ref().map(|_| Instant::now());
            let (flops, size) = if started.is_some() { (self.flops(step, values), self.size(step, values)) } else { (0, None) };
            match step {
                Step::Lstm(number) => self.lstm(*number, values).await?,
                Step::Dense(number) => self.dense(*number, values).await?,
                Step::Op(node) => self.op(node, values).await.map_err(|error| error.within(&node.name))?,
                Step::Host(node) => self.host(node, values).await.map_err(|error| error.within(&node.name))?,
                Step::If(node) => Box::pin(self.branch(node, values)).await?,
            }
            if let (Some(started), Some(trace)) = (started, &mut self.trace) {
                let time = started.elapsed();
                let part = |name: &str, kind, flops| PartRun { name: name.to_owned(), kind, seq_len_and_batch: size, flops, time };
                match step {
                    Step::Lstm(number) => trace.push(part(&self.network.nodes[*number].name, PartKind::Lstm, flops)),
                    Step::Dense(number) => {
                        let node = &self.network.dense[*number];
                        trace.push(part(&node.name, PartKind::of(&node.stage), flops));
                    }
                    Step::Host(node) => {
                        let len = |name: &String| values.get(name.as_str()).map_or(0, |value| value.shape().iter().product::<usize>() as u64);
                        let flops = node.outputs.iter().zip(&node.work).map(|(name, work)| len(name).saturating_mul(*work)).sum();
                        trace.push(part(&node.name, PartKind::Cpu, flops));
                    }
                    // what is within an If is there already, and the others compute nothing
                    Step::Op(_) | Step::If(_) => {}
                }
            }
            for name in done {
                if let Some(Value::Made(tensor)) = values.remove(name.as_str())
                    && self.made_by_lstms.contains(name)
                {
                    self.between.insert(name.clone(), tensor);
                }
            }
        }
        Ok(())
    }

    /// T and N of what a stack reads.
    fn size(&self, step: &Step, values: &Values<'n>) -> Option<(usize, usize)> {
        let Step::Lstm(number) = step else { return None };
        let node = &self.network.nodes[*number];
        node.layout.seq_len_and_batch(values.get(node.x.as_str())?.shape())
    }

    /// Multiplications and additions of a step on the device, which follow from the shape of what it reads.
    fn flops(&self, step: &Step, values: &Values<'n>) -> u64 {
        let rows = |name: &str| {
            let shape = values.get(name).map(|value| value.shape().to_vec()).unwrap_or_default();
            shape.split_last().map_or(0, |(_, rows)| rows.iter().product::<usize>() as u64)
        };
        match step {
            Step::Lstm(number) => {
                let node = &self.network.nodes[*number];
                let runner = self.nodes[*number].runner.as_ref();
                let config = node.constant_weights().map(Lstm::config).or_else(|| Some(runner?.config()));
                rows(&node.x).saturating_mul(config.map_or(0, LstmConfig::flops_per_step))
            }
            Step::Dense(number) => {
                let node = &self.network.dense[*number];
                let DenseStage::Linear(linear, _) = &*node.stage else { return 0 };
                rows(&node.x).saturating_mul(2 * (linear.in_features() * linear.out_features()) as u64)
            }
            Step::Op(_) | Step::Host(_) | Step::If(_) => 0,
        }
    }

    async fn lstm(&mut self, number: usize, values: &mut Values<'n>) -> Result<()> {
        let network = self.network;
        let node = &network.nodes[number];
        let carried = match &mut self.state {
            Some(State { batch, nodes, torn, .. }) => nodes[number].as_mut().map(|state| Carried { state, batch: *batch, torn }),
            None => None,
        };
        for name in node.reads().filter(|name| *name != node.x) {
            fetch(name, values, self.wait).await?;
        }
        let keeps_y = node.y.as_ref().is_some_and(|name| self.kept.contains(name));
        let Self { backend, options, choices, spare, wait, .. } = self;
        let runner = &mut self.nodes[number];
        let made = async {
            runner.take_weights(node, backend, options, values).await?;
            let x_shape = values.get(node.x.as_str()).map(Value::shape).and_then(|shape| node.layout.seq_len_and_batch(shape));
            let side = match (&carried, x_shape) {
                (Some(carried), _) => carried.state.side(),
                (None, Some((seq_len, batch))) if seq_len * batch > 0 => runner.side(&node.name, choices, [batch, seq_len], *wait).await?,
                // nothing runs
                (None, _) => runner.runner.as_ref().and_then(Runner::only_side).unwrap_or(DeviceKind::Cpu),
            };
            if side != DeviceKind::Gpu {
                fetch(&node.x, values, *wait).await?;
            }
            run_node(node, runner, side, Shared { choices, spare, wait: *wait, allowed: options.max_call_bytes }, values, carried, keeps_y).await
        };
        let made = made.await.map_err(|error| if network.nodes.len() > 1 { error.within(&node.name) } else { error })?;
        values.extend(made);
        Ok(())
    }

    async fn dense(&mut self, number: usize, values: &mut Values<'n>) -> Result<()> {
        let node = &self.network.dense[number];
        let runner = &mut self.dense[number];
        let made = run_dense(node, runner, values, self.kept.contains(&node.y), (self.choices, self.options.max_call_bytes), self.wait)
            .await
            .map_err(|error| error.within(&node.name))?;
        values.insert(&node.y, made);
        Ok(())
    }

    /// Runs an operator where its tensors are.
    async fn op(&mut self, node: &'n OpNode, values: &mut Values<'n>) -> Result<()> {
        for name in node.inputs.iter().skip(1).filter(|name| !name.is_empty()) {
            fetch(name, values, self.wait).await?;
        }
        if let Some(Value::Device(tensor, None)) = node.inputs.first().and_then(|name| values.get(name.as_str())) {
            let others = inputs(&node.inputs[1..], values)?;
            let made: Vec<Value<'n>> = if let Some(shape) = node.op.of_shape(tensor.shape()) {
                vec![Value::Made(shape)]
            } else if let Some(places) = node.op.relayout(tensor.layout(), &others)? {
                places.into_iter().map(|place| Ok(Value::Device(tensor.with_layout(place)?, None))).collect::<Result<_>>()?
            } else {
                Vec::new()
            };
            if !made.is_empty() {
                values.extend(node.outputs.iter().map(String::as_str).zip(made).filter(|(name, _)| !name.is_empty()));
                return Ok(());
            }
        }
        if let Some(name) = node.inputs.first().filter(|name| !name.is_empty()) {
            fetch(name, values, self.wait).await?;
        }
        let given = inputs(&node.inputs, values)?;
        let made = match same_integers(&given) {
            None => node.op.run(&given, MOST_BYTES)?,
            Some(wide) => node.op.run(&wide.iter().map(|input| input.as_ref().map(Tensor::view)).collect::<Vec<_>>(), MOST_BYTES)?,
        };
        values.extend(node.outputs.iter().zip(made).filter(|(name, _)| !name.is_empty()).map(|(name, tensor)| (name.as_str(), Value::Made(tensor))));
        Ok(())
    }

    async fn host(&mut self, node: &'n HostNode, values: &mut Values<'n>) -> Result<()> {
        for name in &node.inputs {
            fetch(name, values, self.wait).await?;
        }
        let inputs = node.inputs.iter().map(|name| value(name, values)).collect::<Result<Vec<_>>>()?;
        let made = node.segment.run(&inputs)?;
        values.extend(node.outputs.iter().zip(made).map(|(name, tensor)| (name.as_str(), Value::Made(tensor))));
        Ok(())
    }

    /// Runs the branch that the condition names; its results get the names that they have outside.
    async fn branch(&mut self, node: &'n IfNode, values: &mut Values<'n>) -> Result<()> {
        fetch(&node.condition, values, self.wait).await?;
        let condition = value(&node.condition, values).and_then(|value| truth(&node.condition, &value)).map_err(|error| error.within(&node.name))?;
        let branch = &node.branches[usize::from(!condition)];
        self.program(branch, values).await?;
        let made = branch.outputs.iter().map(|name| {
            Ok(match values.get(name.as_str()) {
                Some(Value::Device(tensor, None)) => Value::Device(tensor.clone(), None),
                Some(value) => Value::Made(value.view()?.to_owned()),
                None => return Err(Error::shape(format!("{}: tensor `{name}`: missing", node.name))),
            })
        });
        let made = made.collect::<Result<Vec<Value<'n>>>>()?;
        values.extend(node.outputs.iter().map(String::as_str).zip(made).filter(|(name, _)| !name.is_empty()));
        Ok(())
    }
}

/// Brings the tensor `name` to the host, if it is on the device alone.
pub(super) async fn fetch(name: &str, values: &mut Values<'_>, wait: Wait) -> Result<()> {
    if let Some(Value::Device(tensor, host @ None)) = values.get_mut(name) {
        *host = Some(tensor.read(wait).await?.into());
    }
    Ok(())
}

/// The tensor `name`.
fn value<'v>(name: &str, values: &'v Values<'_>) -> Result<TensorView<'v>> {
    values.get(name).ok_or_else(|| Error::shape(format!("tensor `{name}`: missing")))?.view()
}

/// Whether a condition holds. Segments have integers for what is true and false.
fn truth(name: &str, condition: &TensorView<'_>) -> Result<bool> {
    let (len, truth) = match condition {
        TensorView::Bool(value) => (value.len(), value.first().copied()),
        TensorView::I32(value) => (value.len(), value.first().map(|&value| value != 0)),
        TensorView::I64(value) => (value.len(), value.first().map(|&value| value != 0)),
        other => return Err(Error::shape(format!("tensor `{name}`: expected a condition of bool, found {}", other.element_type()))),
    };
    truth.filter(|_| len == 1).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected one condition, found {len}")))
}

/// The tensors of these names on the host; an empty name stands for one that is not there.
fn inputs<'v>(names: &[String], values: &'v Values<'_>) -> Result<Vec<Option<TensorView<'v>>>> {
    names.iter().map(|name| if name.is_empty() { Ok(None) } else { value(name, values).map(Some) }).collect()
}

/// The inputs with all integers as `int64`, where some are and some are not: segments have `int32` alone, and the types of tensors between
/// nodes stand in few files.
fn same_integers(inputs: &[Option<TensorView<'_>>]) -> Option<Vec<Option<Tensor>>> {
    let is = |wanted: fn(&TensorView<'_>) -> bool| inputs.iter().flatten().any(wanted);
    if !is(|input| matches!(input, TensorView::I32(_))) || !is(|input| matches!(input, TensorView::I64(_))) {
        return None;
    }
    let wide = |input: &TensorView<'_>| match input {
        TensorView::I32(values) => values.mapv(i64::from).into(),
        other => other.to_owned(),
    };
    Some(inputs.iter().map(|input| input.as_ref().map(wide)).collect())
}

/// What a call starts with: constants and inputs.
pub(super) fn given<'n>(network: &'n Network, inputs: &'n crate::tensor::Inputs<'_>) -> Values<'n> {
    let mut values: Values<'n> = BTreeMap::new();
    values.extend(network.constants.iter().map(|(name, tensor)| (name.as_str(), Value::Given(tensor.view()))));
    values.extend(network.inputs.iter().filter_map(|port| Some((port.name.as_str(), Value::Given(inputs.get(&port.name)?.view())))));
    values
}
