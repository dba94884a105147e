//! Building a plan: which dispatches, in which order, in which submits.

use bytemuck::Pod;

use crate::gpu::form::{Choice, Schedule};
use crate::gpu::kernels::{KERNELS, KernelId};
use crate::gpu::pack::{PackedLayout, VEC4_BYTES};
use crate::gpu::plan::cost::loop_iterations;
use crate::gpu::plan::{BindGroup, BufferId, DeviceProfile, Dispatch, Plan, Request};
use crate::gpu::specialise::{Form, Shape, Specialisation, sums_pairs};
use crate::network::{GATES, LstmConfig};

/// `gates_x` need not be larger than this to make `input_gates` a good matrix product.
pub(super) const GATES_BYTES: u64 = 32 << 20;

/// The plan for `request`, which must fit the device, as [`split`](super::split) sees to, to `choice`, which must suit the stack.
///
/// # Panics
/// If an index into a buffer does not fit 32 bits, which cannot happen to a request of a split call.
pub fn build(config: &LstmConfig, layout: &PackedLayout, request: Request, choice: Choice, profile: &DeviceProfile) -> Plan {
    let chunk_steps = chunk_steps(config, request, choice, profile);
    let wavefront = matches!(choice.schedule, Schedule::Wavefront(_));
    let mut builder = Builder {
        config,
        layout,
        request,
        choice,
        shape: Shape { precision: layout.precision, ragged: request.ragged, wavefront, ..Shape::default() },
        stride: params_stride(profile),
        plan: Plan {
            request,
            choice,
            chunk_steps,
            dispatches: Vec::new(),
            submits: Vec::new(),
            params: Vec::new(),
            specialisations: Vec::new(),
            bind_groups: Vec::new(),
            buffers: buffers(config, request, wavefront, chunk_steps),
            y: BufferId::Sequence(if wavefront { 0 } else { (config.num_layers - 1) % 2 }),
        },
    };
    match choice.schedule {
        Schedule::PerStep(_) => builder.layer_by_layer(chunk_steps, Builder::steps),
        Schedule::Resident(form) => builder.layer_by_layer(chunk_steps, |builder, layer, chunk| builder.resident(layer, chunk, form)),
        Schedule::Wavefront(_) => builder.wavefront(chunk_steps),
    }
    let mut plan = builder.plan;
    let params_bytes = plan.params.len() as u64;
    plan.buffers.push((BufferId::Params, params_bytes));
    plan.submits = cut(&plan.dispatches, cost_factor(config), profile);
    plan
}

/// Steps whose input product is made in one dispatch: as many as memory, a submit's length, the driver's loops and the grid allow.
fn chunk_steps(config: &LstmConfig, request: Request, choice: Choice, profile: &DeviceProfile) -> usize {
    let (dirs, hidden, batch) = (config.num_directions(), config.hidden_size, request.batch);
    let step_bytes = (dirs * batch * hidden * gates_parts(config)) as u64 * VEC4_BYTES;
    let by_memory = (GATES_BYTES.min(profile.max_binding_bytes) / step_bytes).max(1) as usize;
    let resident = matches!(choice.schedule, Schedule::Resident(_));
    let largest_input = config.input_size.max(if config.num_layers > 1 { config.y_size() } else { 0 });
    // a dispatch that walks over time must end in time as well
    let widest = if resident { largest_input.max(hidden) } else { largest_input };
    let step_flops = (2 * GATES * dirs * batch * hidden * widest) as f64 * cost_factor(config);
    let by_time = (profile.flops_per_submit() / step_flops).max(1.0) as usize;
    let by_loops = match choice.schedule {
        Schedule::Resident(form) => {
            let (once, step) = loop_iterations::resident(config, form);
            usize::try_from(profile.max_loop_iterations.saturating_sub(once) / step).unwrap_or(usize::MAX).max(1)
        }
        _ => usize::MAX,
    };
    // norm_gates takes a workgroup a row
    let by_grid = (profile.max_workgroups as usize / batch).max(1);
    by_memory.min(by_time).min(by_loops).min(by_grid).min(request.seq_len).max(1)
}

/// How many floats `gates_x` holds for a value: one, or a pair.
pub(super) fn gates_parts(config: &LstmConfig) -> usize {
    if sums_pairs(config) { 2 } else { 1 }
}

/// How many operations stand for one of a matrix product: pairs take 21 for a multiplication and 14 for an addition, one of each otherwise.
pub(super) fn cost_factor(config: &LstmConfig) -> f64 {
    if sums_pairs(config) { 17.0 } else { 1.0 }
}

/// Floats of one `h` slot of the state and of all of `c`.
pub(crate) fn state_lens(config: &LstmConfig, batch: usize) -> (usize, usize) {
    (config.num_cells() * batch * config.out_size(), config.num_cells() * batch * config.hidden_size)
}

/// Floats of `gates_h` and of `cell_out` in the scratch buffer, where the variant has them, for `cells` cells at once.
pub(super) fn scratch_lens(config: &LstmConfig, cells: usize, batch: usize) -> (usize, usize) {
    let values = cells * batch * config.hidden_size;
    (if config.layer_norm.is_some() { values * GATES } else { 0 }, if config.proj_size.is_some() { values } else { 0 })
}

fn buffers(config: &LstmConfig, request: Request, wavefront: bool, chunk_steps: usize) -> Vec<(BufferId, u64)> {
    let floats = |count: usize| (count * size_of::<f32>()) as u64;
    let rows = request.seq_len * request.batch;
    let (h_len, c_len) = state_lens(config, request.batch);
    let cells = if wavefront { config.num_layers } else { config.num_directions() };
    let (gates_h_len, cell_out_len) = scratch_lens(config, cells, request.batch);
    let mut buffers = vec![(BufferId::X, floats(rows * config.input_size))];
    let sequences = if wavefront { 1 } else { config.num_layers.min(2) };
    buffers.extend((0..sequences).map(|which| (BufferId::Sequence(which), floats(rows * config.y_size()))));
    let gates = gates_parts(config) * config.num_directions() * chunk_steps * request.batch * config.hidden_size;
    buffers.push((BufferId::GatesX, gates as u64 * VEC4_BYTES));
    if gates_h_len + cell_out_len > 0 {
        buffers.push((BufferId::Scratch, floats(gates_h_len + cell_out_len)));
    }
    buffers.push((BufferId::Lens, floats(request.batch)));
    buffers.push((BufferId::State, floats(2 * h_len + c_len)));
    buffers
}

/// Bytes from one dispatch's uniforms to the next one's.
pub(super) fn params_stride(profile: &DeviceProfile) -> usize {
    KERNELS.iter().map(|kernel| kernel.params_size).max().unwrap_or(0).next_multiple_of(profile.uniform_alignment as usize)
}

/// Cuts the dispatches where a submit would run longer than the profile allows; `factor` operations stand for one of a product.
pub(super) fn cut(dispatches: &[Dispatch], factor: f64, profile: &DeviceProfile) -> Vec<std::ops::Range<usize>> {
    let mut submits = Vec::new();
    let (mut start, mut seconds) = (0, 0.0);
    for (number, dispatch) in dispatches.iter().enumerate() {
        let arithmetic = dispatch.flops as f64 * factor / profile.flops_per_second;
        let cost = profile.seconds_per_dispatch + arithmetic.max(dispatch.bytes as f64 / profile.bytes_per_second);
        if number > start && seconds + cost > profile.seconds_per_submit {
            submits.push(start..number);
            (start, seconds) = (number, 0.0);
        }
        seconds += cost;
    }
    if start < dispatches.len() {
        submits.push(start..dispatches.len());
    }
    submits
}

pub(super) struct Builder<'a> {
    pub(super) config: &'a LstmConfig,
    pub(super) layout: &'a PackedLayout,
    pub(super) request: Request,
    pub(super) choice: Choice,
    shape: Shape,
    /// bytes from one dispatch's uniforms to the next one's
    stride: usize,
    pub(super) plan: Plan,
}

/// Steps whose input product is made at once, counted in the order in which they are walked.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub(super) first: usize,
    pub(super) len: usize,
}

/// What a dispatch does, as far as its plan's sums go.
pub(super) struct Work {
    pub(super) groups: [usize; 3],
    pub(super) flops: u64,
    pub(super) bytes: u64,
}

impl Builder<'_> {
    /// Every layer in turn, chunk by chunk: the input product, then what `recurrence` does.
    fn layer_by_layer(&mut self, chunk_steps: usize, mut recurrence: impl FnMut(&mut Self, usize, Chunk)) {
        for layer in 0..self.config.num_layers {
            for chunk in chunks(self.request.seq_len, chunk_steps) {
                self.input_gates(layer, chunk);
                recurrence(self, layer, chunk);
            }
        }
    }

    /// The steps of a chunk, one by one.
    fn steps(&mut self, layer: usize, chunk: Chunk) {
        for s in chunk.first..chunk.first + chunk.len {
            let cells = self.layer_cells(layer, s, chunk);
            self.step(&cells);
            if self.config.layer_norm.is_some() {
                self.norm_cell(&cells);
            }
            if self.config.proj_size.is_some() {
                self.project(&cells);
            }
        }
    }

    /// All layers together: wave `w` holds step `w - layer` of every layer that has such a step.
    fn wavefront(&mut self, chunk_steps: usize) {
        let (layers, seq_len) = (self.config.num_layers, self.request.seq_len);
        let mut chunk = Chunk { first: 0, len: 0 };
        for wave in 0..seq_len + layers - 1 {
            if wave < seq_len && wave == chunk.first + chunk.len {
                chunk = Chunk { first: wave, len: chunk_steps.min(seq_len - wave) };
                self.input_gates(0, chunk);
            }
            let cells = self.wave_cells(wave, chunk);
            self.step(&cells);
            if self.config.proj_size.is_some() {
                self.project(&cells);
            }
        }
    }

    pub(super) fn dispatch(&mut self, kernel: KernelId, form: Form, layer: usize, buffers: Vec<BufferId>, params: &impl Pod, work: Work) {
        let plan = &mut self.plan;
        // one specialisation of each kernel serves all of its dispatches
        let specialisation = plan.specialisations.iter().position(|known| known.kernel == kernel).unwrap_or_else(|| {
            plan.specialisations.push(Specialisation::new(kernel, form, self.config, self.shape));
            plan.specialisations.len() - 1
        });
        let group = BindGroup { kernel, buffers };
        let bind_group = plan.bind_groups.iter().position(|known| *known == group).unwrap_or_else(|| {
            plan.bind_groups.push(group);
            plan.bind_groups.len() - 1
        });
        let params_offset = to_u32(plan.params.len());
        plan.params.extend_from_slice(bytemuck::bytes_of(params));
        plan.params.resize(params_offset as usize + self.stride, 0);
        let Work { groups, flops, bytes } = work;
        plan.dispatches.push(Dispatch { specialisation, bind_group, params_offset, workgroups: groups.map(to_u32), layer, flops, bytes });
    }
}

fn chunks(seq_len: usize, chunk_steps: usize) -> impl Iterator<Item = Chunk> {
    (0..seq_len).step_by(chunk_steps).map(move |first| Chunk { first, len: chunk_steps.min(seq_len - first) })
}

/// Workgroups along x and y for `groups` of them, and how many threads a row along x has.
pub(in crate::gpu) fn grid(groups: usize, workgroup_size: u32, profile: &DeviceProfile) -> ([u32; 3], u32) {
    let x = groups.min(profile.max_workgroups as usize).max(1);
    ([to_u32(x), to_u32(groups.div_ceil(x)), 1], to_u32(x) * workgroup_size)
}

pub(super) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a split call's buffers have at most 2^31 bytes, so every index into them fits u32")
}
