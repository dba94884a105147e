//! What a call would do, without doing it.

use serde::Serialize;

use crate::device::{DeviceKind, Selection};
use crate::engine::Engine;
use crate::engine::choices::{ChoiceReason, Choices, NAMED};
use crate::engine::runner::Runner;
use crate::engine::sides::{self, Crossover};
use crate::error::{Error, Result};
use crate::gpu::form::{Choice, ScheduleName};
use crate::gpu::plan::{Request, Split};
use crate::gpu::{GpuLstm, pieces};
use crate::network::LstmNode;

/// Candidates that are listed; the chosen one is in any case.
const MAX_ALTERNATIVES: usize = 12;

const F32: u64 = size_of::<f32>() as u64;

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
    /// the schedule and its form
    pub schedule: String,
    /// why this schedule
    pub why: String,
    /// the same as data
    pub reason: ChoiceReason,
    /// how the input's product is made; `None`: as the device always does
    pub input_product: Option<String>,
    /// what a GPU could run, the chosen one included: what was measured, fastest first, then others, cheapest first by the cost model; a dozen at most
    pub alternatives: Vec<Alternative>,
    /// how many candidates there are
    pub num_candidates: usize,
    /// schedules that do not suit the stack
    pub refused: Vec<RefusedSchedule>,
    /// what the cost model expects of the whole call
    pub predicted_seconds: Option<f64>,
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
    /// what arithmetic and these bytes take at least at the rates of a typical GPU of this kind
    pub floor_seconds: Option<f64>,
    /// memory on the device
    pub memory: Vec<MemoryUse>,
    /// the GPU and the CPU side by side, for [`DeviceChoice::Auto`](crate::DeviceChoice::Auto); the rest is of the side that is chosen
    pub sides: Option<SidesExplanation>,
}

/// What a call would take on the GPU and on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SidesExplanation {
    /// the GPU
    pub gpu: SideExplanation,
    /// the CPU
    pub cpu: SideExplanation,
    /// where the call would run
    pub chosen: DeviceKind,
    /// why there
    pub why: String,
    /// from which batch on the GPU is expected to be the faster, for as many steps; `None` where there is no GPU
    pub crossover: Option<Crossover>,
}

/// What a call would take on one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideExplanation {
    /// the schedule and its form
    pub schedule: Option<String>,
    /// what a whole call is expected to take, tensors on the host before and after
    pub seconds: Option<f64>,
    /// why the call cannot run there, if it cannot
    pub unable: Option<String>,
}

/// A candidate for the largest blocks of rows of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// what calls would be built to
    pub choice: Choice,
    /// the schedule and its form
    pub schedule: String,
    /// whether it is what calls are built to
    pub chosen: bool,
    /// what the cost model expects of one block and segment of the call
    pub predicted_seconds: f64,
    /// what calls of `measured_steps` steps took, where it was measured
    pub measured_seconds: Option<f64>,
    /// steps of these
    pub measured_steps: Option<usize>,
}

/// A schedule that does not suit a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedSchedule {
    /// which
    pub schedule: ScheduleName,
    /// the rule, and what was found
    pub reason: String,
}

/// How often a kernel is dispatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCount {
    /// its name
    pub kernel: String,
    /// how often
    pub count: usize,
}

/// Memory that a call needs on the device. Calls of the same session share it.
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
    choices: &Choices,
    nodes: impl Iterator<Item = (&'a LstmNode, Option<&'a Runner>)>,
    batch: usize,
    seq_len: usize,
) -> Result<Explanation> {
    let lstms = nodes.map(|(node, runner)| {
        let runner = runner.ok_or_else(|| {
            Error::config(format!("{}: nothing to explain before the weights are there, found weights given with each call", node.name))
        })?;
        explain_lstm(engine, node, runner, choices, batch, seq_len).map_err(|error| error.within(&node.name))
    });
    Ok(Explanation { selection: engine.describe().clone(), batch, seq_len, lstms: lstms.collect::<Result<_>>()? })
}

fn explain_lstm(engine: &Engine, node: &LstmNode, runner: &Runner, choices: &Choices, batch: usize, seq_len: usize) -> Result<LstmExplanation> {
    let config = runner.config();
    let too_large = || Error::limit(format!("batch {batch} times seq_len {seq_len}: too large, its numbers exceed 64 bits"));
    let steps = (batch as u64).checked_mul(seq_len as u64).ok_or_else(too_large)?;
    let count = |per_step: u64, once: u64| steps.checked_mul(per_step).and_then(|sum| sum.checked_add(once)).ok_or_else(too_large);
    let floor_bytes = count((config.input_size + config.y_size()) as u64 * F32, config.num_parameters() as u64 * F32)?;
    let mut explanation = LstmExplanation {
        node: node.name.clone(),
        num_layers: config.num_layers,
        num_directions: config.num_directions(),
        input_size: config.input_size,
        hidden_size: config.hidden_size,
        out_size: config.out_size(),
        schedule: runner.host_schedule(batch, seq_len),
        why: ChoiceReason::Only.to_string(),
        reason: ChoiceReason::Only,
        input_product: None,
        alternatives: Vec::new(),
        num_candidates: 0,
        refused: Vec::new(),
        predicted_seconds: None,
        row_blocks: 1,
        time_segments: 1,
        chunk_steps: seq_len,
        submits: 0,
        dispatches: Vec::new(),
        flops: count(config.flops_per_step(), 0)?,
        bytes: floor_bytes,
        floor_bytes,
        floor_seconds: None,
        memory: Vec::new(),
        sides: None,
    };
    match runner.gpu() {
        _ if steps == 0 => {
            explanation.schedule = "nothing".to_owned();
            explanation.why = "the call has no rows or no steps; states pass through".to_owned();
        }
        gpu => {
            explanation.sides = explain_sides(engine, runner, choices, batch, seq_len);
            let on_gpu = explanation.sides.as_ref().is_none_or(|sides| sides.chosen == DeviceKind::Gpu);
            let Some(gpu) = gpu.filter(|_| on_gpu) else {
                if let Some(sides) = &explanation.sides {
                    explanation.why.clone_from(&sides.why);
                    explanation.predicted_seconds = sides.cpu.seconds;
                }
                return Ok(explanation);
            };
            let split = gpu.split(batch, seq_len)?;
            explain_gpu(&mut explanation, gpu, choices, split, batch, seq_len).ok_or_else(too_large)?;
            list_alternatives(&mut explanation, gpu, choices, split.rows.min(batch), split.steps.min(seq_len));
            if let Some(sides) = &explanation.sides {
                explanation.why = format!("{}; {}", sides.why, explanation.why);
            } else if choices.options_name_the_gpu() {
                explanation.why = format!("{NAMED}; {}", explanation.why);
            }
        }
    }
    Ok(explanation)
}

/// Both sides of an engine that holds them, or would if there were a GPU.
fn explain_sides(engine: &Engine, runner: &Runner, choices: &Choices, batch: usize, seq_len: usize) -> Option<SidesExplanation> {
    let cpu = |seconds| SideExplanation { schedule: Some(runner.host_schedule(batch, seq_len)), seconds: Some(seconds), unable: None };
    let unable = |why: &str| SideExplanation { schedule: None, seconds: None, unable: Some(why.to_owned()) };
    if let Some(why) = engine.why_no_gpu() {
        let cpu = cpu(sides::cpu_seconds(runner.config(), batch, seq_len));
        return Some(SidesExplanation { gpu: unable(why), cpu, chosen: DeviceKind::Cpu, why: format!("CPU: {why}"), crossover: None });
    }
    if runner.only_side().is_some() {
        return None;
    }
    let estimate = sides::estimate(choices, runner, batch, seq_len);
    let gpu = match (&estimate.gpu, runner.gpu()) {
        (Ok(seconds), Some(gpu)) => {
            let rows = gpu.split(batch, seq_len).map_or(batch, |split| split.rows.min(batch));
            let schedule = choices.look(gpu, rows).choice.schedule.to_string();
            SideExplanation { schedule: Some(schedule), seconds: Some(*seconds), unable: None }
        }
        (gpu, _) => unable(gpu.as_ref().err().map_or("it is not there", String::as_str)),
    };
    let wins = |batch| sides::estimate(choices, runner, batch, seq_len).side() == DeviceKind::Gpu;
    let crossover = runner.gpu().map(|_| Crossover::find(wins));
    Some(SidesExplanation { gpu, cpu: cpu(estimate.cpu), chosen: estimate.side(), why: estimate.why(), crossover })
}

/// Makes the plan of every kind of block and segment, and adds them up, each as often as it runs. `None` where a sum overflows.
fn explain_gpu(explanation: &mut LstmExplanation, gpu: &GpuLstm, choices: &Choices, split: Split, batch: usize, seq_len: usize) -> Option<()> {
    let mut counts: Vec<KernelCount> = Vec::new();
    let (mut flops, mut bytes, mut submits, mut predicted) = (0_u64, 0_u64, 0_usize, 0.0);
    (explanation.row_blocks, explanation.time_segments) = (batch.div_ceil(split.rows), seq_len.div_ceil(split.steps));
    // the largest pieces come last, and are what the report shows of a plan
    for (rows, blocks) in pieces(batch, split.rows) {
        let chosen = choices.look(gpu, rows);
        (explanation.why, explanation.reason) = (chosen.reason.to_string(), chosen.reason);
        for (steps, segments) in pieces(seq_len, split.steps) {
            let times = blocks.checked_mul(segments)?;
            let plan = gpu.plan(Request { batch: rows, seq_len: steps, ragged: false, start_slot: 0 }, chosen.choice);
            predicted += times as f64 * gpu.predict(rows, steps, chosen.choice).seconds();
            flops = flops.checked_add(plan.flops().checked_mul(times as u64)?)?;
            bytes = bytes.checked_add(plan.bytes().checked_mul(times as u64)?)?;
            submits = submits.checked_add(plan.submits.len().checked_mul(times)?)?;
            explanation.chunk_steps = plan.chunk_steps;
            explanation.schedule = plan.choice.schedule.to_string();
            explanation.input_product = Some(plan.choice.input.to_string());
            for (kernel, count) in plan.counts() {
                let (kernel, count) = (kernel.kernel().name, count.checked_mul(times)?);
                match counts.iter_mut().find(|known| known.kernel == kernel) {
                    Some(known) => known.count = known.count.checked_add(count)?,
                    None => counts.push(KernelCount { kernel: kernel.to_owned(), count }),
                }
            }
        }
    }
    (explanation.flops, explanation.bytes, explanation.submits) = (flops, bytes, submits);
    explanation.predicted_seconds = Some(predicted);
    explanation.floor_seconds = Some(gpu.floor_seconds(flops, explanation.floor_bytes));
    explanation.dispatches = counts;
    explanation.memory = vec![MemoryUse { name: "weights".to_owned(), bytes: gpu.weight_bytes() }];
    let memory = gpu.memory(split, [batch, seq_len], |rows| choices.look(gpu, rows).choice)?;
    explanation.memory.extend(memory.into_iter().map(|(name, bytes)| MemoryUse { name, bytes }));
    explanation.memory.iter().try_fold(0_u64, |sum, memory| sum.checked_add(memory.bytes))?;
    explanation.dispatches.iter().try_fold(0_usize, |sum, kernel| sum.checked_add(kernel.count))?;
    Some(())
}

/// What else a block of `rows` rows and a segment of `steps` steps could be built to, and what it could not.
fn list_alternatives(explanation: &mut LstmExplanation, gpu: &GpuLstm, choices: &Choices, rows: usize, steps: usize) {
    let (chosen, candidates) = (choices.look(gpu, rows), gpu.candidates(rows));
    explanation.num_candidates = candidates.len();
    let measured = |choice: Choice| chosen.measured.iter().find(|measurement| measurement.choice == choice);
    let others = candidates.into_iter().map(|(choice, _)| choice).filter(|choice| measured(*choice).is_none());
    let mut listed: Vec<Choice> = chosen.measured.iter().map(|measurement| measurement.choice).chain(others).collect();
    let place = listed.iter().position(|choice| *choice == chosen.choice);
    // the chosen one keeps its place, or is the last
    if place.is_none_or(|place| place >= MAX_ALTERNATIVES) {
        listed.truncate(MAX_ALTERNATIVES - 1);
        listed.push(chosen.choice);
    }
    listed.truncate(MAX_ALTERNATIVES);
    let alternative = |choice: Choice| {
        let measured = measured(choice);
        Alternative {
            choice,
            schedule: choice.schedule.to_string(),
            chosen: choice == chosen.choice,
            predicted_seconds: gpu.predict(rows, steps, choice).seconds(),
            measured_seconds: measured.map(|measurement| measurement.seconds),
            measured_steps: measured.map(|_| chosen.measured_steps),
        }
    };
    explanation.alternatives = listed.into_iter().map(alternative).collect();
    let refused = |(schedule, reason)| RefusedSchedule { schedule, reason };
    explanation.refused = gpu.refusals().into_iter().map(refused).collect();
}
