//! What the device will do for one block of rows and one segment of time: plain data, made and tested without a device.
//!
//! ```text
//! per-step    every layer:  a chunk of steps: input_gates, for all of them and both directions   [norm_gates]
//!                           every step:       step, both directions   [norm_cell]   [project]
//! wavefront   layer 0:      a chunk of steps: input_gates
//!             all layers:   every time step and layer - 1 more: step of all layers, each a step behind the one below   [project]
//! resident    every layer:  a chunk of steps: input_gates, then resident for all of them, both directions
//! ```

mod build;
mod candidates;
mod cells;
mod cost;
mod dense;
mod misfit;
mod split;
#[cfg(test)]
mod tests;
mod typical;

use std::ops::Range;

use crate::gpu::form::Choice;
use crate::gpu::kernels::KernelId;
use crate::gpu::specialise::Specialisation;

pub use build::build;
pub(in crate::gpu) use build::grid;
pub(crate) use build::state_lens;
pub(crate) use candidates::matrix_forms;
pub use candidates::{Refusal, TILES, TYPICAL_STEPS, candidates, ranked, refusal};
pub use cost::{Cost, cost};
pub use dense::{DenseKind, DensePlan, DenseRequest, DenseSpec, build_dense};
pub use misfit::misfit;
pub use split::{Split, is_one_segment, split};

/// What a plan needs to know about the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceProfile {
    /// bytes that one storage binding may have (`max_storage_buffer_binding_size` and `max_buffer_size`)
    pub max_binding_bytes: u64,
    /// workgroups that one dispatch may have along an axis
    pub max_workgroups: u32,
    /// multiple at which uniforms may start (`min_uniform_buffer_offset_alignment`)
    pub uniform_alignment: u32,
    /// bytes that `x`, `y` and what lies between the layers should together stay below; larger calls are split
    pub activation_bytes: u64,
    /// threads that a workgroup may have
    pub max_workgroup_threads: u32,
    /// bytes of workgroup memory that a workgroup may have
    pub max_workgroup_bytes: u32,
    /// words of weights that a thread may keep in registers
    pub held_words: u32,
    /// threads of the smallest and of the largest subgroup, where sums by subgroups can be made
    pub subgroups: Option<(u32, u32)>,
    /// rows, columns and depth of cooperative matrices, where they can be used
    pub matrices: Option<u32>,
    /// sums that a thread may keep in registers, in quads
    pub sum_quads: u32,
    /// loop iterations that one thread may run; llvmpipe ends loops silently beyond 65,535
    pub max_loop_iterations: u64,
    /// multiplications and additions a second that even a slow device of this kind reaches
    pub flops_per_second: f64,
    /// bytes a second that even a slow device of this kind moves
    pub bytes_per_second: f64,
    /// what a dispatch costs beside its arithmetic
    pub seconds_per_dispatch: f64,
    /// how long a submit may run: other users of the device wait as long, and watchdogs end what runs for seconds
    pub seconds_per_submit: f64,
    /// what a typical device of this kind reaches, for choosing between schedules
    pub model: CostModel,
}

/// What a typical device of a kind reaches. The figures decide between candidates where nothing was measured, and bound nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// compute units: workgroups that run at full speed at the same time
    pub units: f64,
    /// multiplications and additions a second of one unit
    pub unit_flops: f64,
    /// bytes a second that one unit reads from the cache that all share
    pub unit_bytes: f64,
    /// bytes a second that all units together read from that cache
    pub shared_bytes: f64,
    /// from one dispatch to the next that needs its results
    pub dispatch_seconds: f64,
    /// a barrier in a workgroup, and what waits around it
    pub barrier_seconds: f64,
    /// from asking the cache that all share for a batch of loads to having it
    pub load_seconds: f64,
    /// a thread's read of a value or a quad, from workgroup memory or the nearest cache, one unit's reads following each other
    pub read_seconds: f64,
    /// how many times as much a unit multiplies and adds by cooperative matrices
    pub matrix_rate: f64,
    /// share of its rate that a unit reaches with a single thread
    pub least_busy: f64,
    /// activations and state of one cell and row, on one unit
    pub cell_seconds: f64,
    /// from a submit to the host's knowing that it is done, what the device does left out
    pub submit_seconds: f64,
    /// bytes per second between the caller's arrays and the device, staging included
    pub transfer_bytes: f64,
}

impl DeviceProfile {
    /// Multiplications and additions that one submit may hold.
    pub(crate) fn flops_per_submit(&self) -> f64 {
        self.flops_per_second * self.seconds_per_submit
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// rows
    pub batch: usize,
    /// steps
    pub seq_len: usize,
    /// rows have lengths of their own
    pub ragged: bool,
    /// which half of the state's `h` holds the state before the first step: 0 or 1
    pub start_slot: usize,
}

/// A buffer that a plan uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BufferId {
    /// packed matrices, by arena
    Weights(usize),
    /// biases, peepholes, scales and parameters of layer normalisation
    Vectors,
    /// the uniforms of all dispatches
    Params,
    /// `x [T, N, I]`
    X,
    /// outputs of layers, `[T, N, D*R]`; two take turns
    Sequence(usize),
    /// `gates_x [D, chunk, N, H]` in `vec4`
    GatesX,
    /// `gates_h [D, N, H, 4]` and `cell_out [D, N, H]`, on a wavefront `[L, N, H]`
    Scratch,
    /// lengths `[N]`
    Lens,
    /// `y [T, N, D*R]` of a call in several blocks or segments that stays on the device
    Y,
    /// ids `[rows]` of an embedding
    Ids,
    /// the result of a stage, `[rows, F]`
    Rows,
    /// a tensor of another stage
    Given,
    /// `h [2, L*D, N, R]`, `c [L*D, N, H]`
    State,
}

impl BufferId {
    /// Its name in messages and in `explain`.
    pub fn name(self) -> String {
        match self {
            Self::Weights(arena) => format!("weights {arena}"),
            Self::Vectors => "vectors".to_owned(),
            Self::Params => "params".to_owned(),
            Self::X => "x".to_owned(),
            Self::Sequence(which) => format!("sequence {which}"),
            Self::GatesX => "gates_x".to_owned(),
            Self::Scratch => "scratch".to_owned(),
            Self::Lens => "sequence_lens".to_owned(),
            Self::State => "state".to_owned(),
            Self::Y => "y".to_owned(),
            Self::Ids => "ids".to_owned(),
            Self::Rows => "rows".to_owned(),
            Self::Given => "given".to_owned(),
        }
    }
}

/// One dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dispatch {
    /// index of its specialisation in the plan
    pub specialisation: usize,
    /// index of its bind group in the plan
    pub bind_group: usize,
    /// where its uniforms start, in bytes
    pub params_offset: u32,
    /// workgroups along x, y, z
    pub workgroups: [u32; 3],
    /// layer, from 0; the lowest of a wavefront
    pub layer: usize,
    /// multiplications and additions of its matrix product
    pub flops: u64,
    /// bytes that it reads and writes if everything is touched once
    pub bytes: u64,
}

/// The buffers of one kernel's bind group 0, in the order of the kernel table's bindings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindGroup {
    /// which kernel
    pub kernel: KernelId,
    /// buffers of bindings 1, 2, ...; binding 0 is [`BufferId::Params`]
    pub buffers: Vec<BufferId>,
}

/// What the device will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// what it is for
    pub request: Request,
    /// the schedule and its forms
    pub choice: Choice,
    /// time steps whose input product is made at once
    pub chunk_steps: usize,
    /// everything that is dispatched, in order
    pub dispatches: Vec<Dispatch>,
    /// which dispatches go into which submit
    pub submits: Vec<Range<usize>>,
    /// uniforms of all dispatches
    pub params: Vec<u8>,
    /// pipelines that it needs
    pub specialisations: Vec<Specialisation>,
    /// bind groups that it needs
    pub bind_groups: Vec<BindGroup>,
    /// buffers beside the weights, and their bytes
    pub buffers: Vec<(BufferId, u64)>,
    /// where `y` is at the end
    pub y: BufferId,
}

impl Plan {
    /// Which half of the state's `h` holds the state after the last step.
    pub fn end_slot(&self) -> usize {
        (self.request.start_slot + self.request.seq_len) % 2
    }

    /// Multiplications and additions of all dispatches.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.flops).sum()
    }

    /// Bytes that all dispatches read and write.
    pub fn bytes(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.bytes).sum()
    }

    /// Bytes of all buffers beside the weights.
    pub fn buffer_bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, bytes)| bytes).sum()
    }

    /// How often each kernel is dispatched, in the order of first use.
    pub fn counts(&self) -> Vec<(KernelId, usize)> {
        let mut counts: Vec<(KernelId, usize)> = Vec::new();
        for dispatch in &self.dispatches {
            let kernel = self.specialisations[dispatch.specialisation].kernel;
            match counts.iter_mut().find(|(known, _)| *known == kernel) {
                Some((_, count)) => *count += 1,
                None => counts.push((kernel, 1)),
            }
        }
        counts
    }
}
