//! What a call would do, without doing it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::device::Selection;
use crate::engine::Engine;
use crate::engine::runner::Runner;
use crate::error::{Error, Result};
use crate::gpu::GpuLstm;
use crate::gpu::plan::{BufferId, Plan, Request};
use crate::network::LstmNode;

/// What a call of a session would do. Made by [`Session::explain`](crate::Session::explain).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// the device, and why it was chosen
    pub selection: Selection,
    /// rows of the call
    pub batch: usize,
    /// steps of the call
    pub seq_len: usize,
    /// every LSTM, in the order in which they run
    pub lstms: Vec<LstmExplanation>,
}

/// What one LSTM of a call would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmExplanation {
    /// its node name
    pub node: String,
    /// L
    pub num_layers: usize,
    /// D
    pub num_directions: usize,
    /// I
    pub input_size: usize,
    /// H
    pub hidden_size: usize,
    /// R
    pub out_size: usize,
    /// the schedule's name
    pub schedule: String,
    /// why this schedule
    pub why: String,
    /// blocks of rows that run one after the other
    pub row_blocks: usize,
    /// segments of time that run one after the other
    pub time_segments: usize,
    /// steps whose input product is made in one dispatch
    pub chunk_steps: usize,
    /// submits of the whole call
    pub submits: usize,
    /// dispatches of the whole call, by kernel
    pub dispatches: Vec<KernelCount>,
    /// multiplications and additions of the matrix products
    pub flops: u64,
    /// bytes that the dispatches read and write if each touches everything once
    pub bytes: u64,
    /// bytes that must move at least: weights, `x` and `y` once
    pub floor_bytes: u64,
    /// memory on the device
    pub memory: Vec<MemoryUse>,
}

/// How often a kernel is dispatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCount {
    /// its name
    pub kernel: String,
    /// how often
    pub count: usize,
}

/// Memory that a call needs on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// what for
    pub name: String,
    /// how much
    pub bytes: u64,
}

impl LstmExplanation {
    /// Dispatches of all kernels.
    pub fn num_dispatches(&self) -> usize {
        self.dispatches.iter().map(|kernel| kernel.count).sum()
    }

    /// Bytes of all memory on the device.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(|memory| memory.bytes).sum()
    }
}

pub(super) fn explain<'a>(
    engine: &Engine,
    nodes: impl Iterator<Item = (&'a LstmNode, Option<&'a Runner>)>,
    batch: usize,
    seq_len: usize,
) -> Result<Explanation> {
    let lstms = nodes.map(|(node, runner)| {
        let runner = runner.ok_or_else(|| {
            Error::config(format!("{}: nothing to explain before the weights are there, found weights given with each call", node.name))
        })?;
        explain_lstm(node, runner, batch, seq_len).map_err(|error| error.within(&node.name))
    });
    Ok(Explanation { selection: engine.describe().clone(), batch, seq_len, lstms: lstms.collect::<Result<_>>()? })
}

fn explain_lstm(node: &LstmNode, runner: &Runner, batch: usize, seq_len: usize) -> Result<LstmExplanation> {
    let config = runner.config();
    if batch.checked_mul(seq_len).and_then(|rows| rows.checked_mul(config.input_size.max(config.y_size()) * 4)).is_none() {
        return Err(Error::limit(format!("batch {batch} times seq_len {seq_len}: more than this machine can address")));
    }
    let floats = (config.num_parameters() + seq_len * batch * (config.input_size + config.y_size())) as u64;
    let mut explanation = LstmExplanation {
        node: node.name.clone(),
        num_layers: config.num_layers,
        num_directions: config.num_directions(),
        input_size: config.input_size,
        hidden_size: config.hidden_size,
        out_size: config.out_size(),
        schedule: "rows over threads".to_owned(),
        why: "the only schedule of this device".to_owned(),
        row_blocks: 1,
        time_segments: 1,
        chunk_steps: seq_len,
        submits: 0,
        dispatches: Vec::new(),
        flops: config.flops_per_step() * (seq_len * batch) as u64,
        bytes: floats * 4,
        floor_bytes: floats * 4,
        memory: Vec::new(),
    };
    match runner.gpu() {
        _ if batch * seq_len == 0 => {
            explanation.schedule = "nothing".to_owned();
            explanation.why = "the call has no rows or no steps; states pass through".to_owned();
        }
        Some(gpu) => explain_gpu(&mut explanation, gpu, batch, seq_len)?,
        None => {}
    }
    Ok(explanation)
}

/// Makes the plan of every block and segment, and adds them up.
fn explain_gpu(explanation: &mut LstmExplanation, gpu: &GpuLstm, batch: usize, seq_len: usize) -> Result<()> {
    let split = gpu.split(batch, seq_len)?;
    let pieces = |whole: usize, piece: usize| (0..whole).step_by(piece).map(move |start| piece.min(whole - start));
    // equal blocks and segments have equal plans
    let mut plans: BTreeMap<(usize, usize), Plan> = BTreeMap::new();
    let mut memory: BTreeMap<BufferId, u64> = BTreeMap::new();
    let mut counts: Vec<KernelCount> = Vec::new();
    (explanation.flops, explanation.bytes) = (0, 0);
    for rows in pieces(batch, split.rows) {
        for steps in pieces(seq_len, split.steps) {
            let request = Request { batch: rows, seq_len: steps, ragged: false, start_slot: 0 };
            let plan = plans.entry((rows, steps)).or_insert_with(|| gpu.plan(request));
            explanation.flops += plan.flops();
            explanation.bytes += plan.bytes();
            explanation.submits += plan.submits.len();
            explanation.chunk_steps = plan.chunk_steps;
            plan.schedule.clone_into(&mut explanation.schedule);
            for (kernel, count) in plan.counts() {
                let kernel = kernel.kernel().name;
                match counts.iter_mut().find(|known| known.kernel == kernel) {
                    Some(known) => known.count += count,
                    None => counts.push(KernelCount { kernel: kernel.to_owned(), count }),
                }
            }
        }
    }
    for (&(rows, _), plan) in &plans {
        for &(id, bytes) in &plan.buffers {
            let known = memory.entry(id).or_default();
            *known = match id {
                // every block has its states, every kept plan its uniforms
                BufferId::State => *known + bytes * pieces(batch, split.rows).filter(|&piece| piece == rows).count() as u64,
                BufferId::Params => *known + bytes,
                _ => bytes.max(*known),
            };
        }
    }
    explanation.row_blocks = pieces(batch, split.rows).count();
    explanation.time_segments = pieces(seq_len, split.steps).count();
    explanation.dispatches = counts;
    explanation.memory = vec![MemoryUse { name: "weights".to_owned(), bytes: gpu.weight_bytes() }];
    explanation.memory.extend(memory.into_iter().map(|(id, bytes)| MemoryUse { name: id.name(), bytes }));
    explanation.memory.push(MemoryUse { name: "staging".to_owned(), bytes: gpu.staging_bytes(split.rows.min(batch), split.steps.min(seq_len)) });
    "the only schedule of this version: one fused dispatch a step".clone_into(&mut explanation.why);
    Ok(())
}
