//! Building a plan of the schedule `per-step`.

use bytemuck::Pod;

use crate::gpu::kernels::{InputGatesParams, KERNELS, KernelId, NormCellParams, NormGatesParams, ProjectParams, StepParams};
use crate::gpu::pack::{PackedLayer, VEC4_BYTES};
use crate::gpu::plan::{BindGroup, BufferId, DeviceProfile, Dispatch, Plan, Request};
use crate::gpu::specialise::{Shape, Specialisation, WORKGROUP_SIZE, sums_pairs};
use crate::network::{GATES, LstmConfig};

/// Rows and units of a workgroup of `input_gates`.
const INPUT_TILE: (usize, usize) = (32, 16);

/// `gates_x` need not be larger than this to make `input_gates` a good matrix product.
const GATES_BYTES: u64 = 32 << 20;

/// The plan for `request`, which must fit the device, as [`split`](super::split) sees to.
///
/// # Panics
/// If an index into a buffer does not fit 32 bits, which cannot happen to a request of a split call.
pub fn build(config: &LstmConfig, layers: &[PackedLayer], request: Request, profile: &DeviceProfile) -> Plan {
    let shape = shape(config, request, profile);
    let chunk_steps = chunk_steps(config, request, profile);
    let mut builder = Builder {
        config,
        layers,
        request,
        shape,
        stride: KERNELS.iter().map(|kernel| kernel.params_size).max().unwrap_or(0).next_multiple_of(profile.uniform_alignment as usize),
        plan: Plan {
            request,
            schedule: "per-step",
            chunk_steps,
            dispatches: Vec::new(),
            submits: Vec::new(),
            params: Vec::new(),
            specialisations: Vec::new(),
            bind_groups: Vec::new(),
            buffers: buffers(config, request, chunk_steps),
            y: BufferId::Sequence((config.num_layers - 1) % 2),
        },
    };
    for layer in 0..config.num_layers {
        for first in (0..request.seq_len).step_by(chunk_steps) {
            builder.chunk(layer, first, chunk_steps.min(request.seq_len - first));
        }
    }
    let mut plan = builder.plan;
    let params_bytes = plan.params.len() as u64;
    plan.buffers.push((BufferId::Params, params_bytes));
    plan.submits = submits(config, &plan.dispatches, profile);
    plan
}

/// Rows a workgroup and threads a sum: few rows leave a device idle unless the sums are split.
fn shape(config: &LstmConfig, request: Request, profile: &DeviceProfile) -> Shape {
    let rows = if request.batch == 1 { 1 } else { 4 };
    let tiles = config.hidden_size.div_ceil(WORKGROUP_SIZE as usize) * request.batch.div_ceil(rows) * config.num_directions();
    let mut k_lanes = 1;
    // pairs are summed by one thread
    while !sums_pairs(config) && k_lanes < 16 && tiles * k_lanes < profile.fill_workgroups as usize && config.out_size() >= 8 * k_lanes {
        k_lanes *= 2;
    }
    Shape { ragged: request.ragged, rows: rows as u32, k_lanes: k_lanes as u32 }
}

/// Steps whose input product is made in one dispatch: as many as memory, a submit's length and the grid allow.
fn chunk_steps(config: &LstmConfig, request: Request, profile: &DeviceProfile) -> usize {
    let (dirs, hidden, batch) = (config.num_directions(), config.hidden_size, request.batch);
    let step_bytes = (dirs * batch * hidden * gates_parts(config)) as u64 * VEC4_BYTES;
    let by_memory = (GATES_BYTES.min(profile.max_binding_bytes) / step_bytes).max(1) as usize;
    let largest_input = config.input_size.max(if config.num_layers > 1 { config.y_size() } else { 0 });
    let step_flops = (2 * GATES * dirs * batch * hidden * largest_input) as f64 * cost_factor(config);
    let by_time = (profile.flops_per_submit() / step_flops).max(1.0) as usize;
    // norm_gates takes a workgroup a row
    let by_grid = (profile.max_workgroups as usize / batch).max(1);
    by_memory.min(by_time).min(by_grid).min(request.seq_len).max(1)
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

/// Floats of `gates_h` and of `cell_out` in the scratch buffer, where the variant has them.
fn scratch_lens(config: &LstmConfig, batch: usize) -> (usize, usize) {
    let cells = config.num_directions() * batch * config.hidden_size;
    (if config.layer_norm.is_some() { cells * GATES } else { 0 }, if config.proj_size.is_some() { cells } else { 0 })
}

fn buffers(config: &LstmConfig, request: Request, chunk_steps: usize) -> Vec<(BufferId, u64)> {
    let floats = |count: usize| (count * size_of::<f32>()) as u64;
    let rows = request.seq_len * request.batch;
    let (h_len, c_len) = state_lens(config, request.batch);
    let (gates_h_len, cell_out_len) = scratch_lens(config, request.batch);
    let mut buffers = vec![(BufferId::X, floats(rows * config.input_size))];
    buffers.extend((0..config.num_layers.min(2)).map(|which| (BufferId::Sequence(which), floats(rows * config.y_size()))));
    let gates = gates_parts(config) * config.num_directions() * chunk_steps * request.batch * config.hidden_size;
    buffers.push((BufferId::GatesX, gates as u64 * VEC4_BYTES));
    if gates_h_len + cell_out_len > 0 {
        buffers.push((BufferId::Scratch, floats(gates_h_len + cell_out_len)));
    }
    buffers.push((BufferId::Lens, floats(request.batch)));
    buffers.push((BufferId::State, floats(2 * h_len + c_len)));
    buffers
}

/// Cuts the dispatches where a submit would run longer than the profile allows.
fn submits(config: &LstmConfig, dispatches: &[Dispatch], profile: &DeviceProfile) -> Vec<std::ops::Range<usize>> {
    let mut submits = Vec::new();
    let (mut start, mut seconds) = (0, 0.0);
    for (number, dispatch) in dispatches.iter().enumerate() {
        let arithmetic = dispatch.flops as f64 * cost_factor(config) / profile.flops_per_second;
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

struct Builder<'a> {
    config: &'a LstmConfig,
    layers: &'a [PackedLayer],
    request: Request,
    shape: Shape,
    /// bytes from one dispatch's uniforms to the next one's
    stride: usize,
    plan: Plan,
}

/// Where one step of one layer is: for each direction its time and its place in `gates_x`, and the places in the state.
struct StepPlace {
    gates_low_offset: u32,
    t: [u32; 2],
    gates: [u32; 2],
    h_prev_base: u32,
    h_next_base: u32,
    c_base: u32,
}

impl Builder<'_> {
    /// `len` steps of `layer` from the `first` on: the input product of all of them, then one by one.
    fn chunk(&mut self, layer: usize, first: usize, len: usize) {
        self.input_gates(layer, first, len);
        for s in first..first + len {
            let place = self.place(layer, s, first, len);
            self.step(layer, &place);
            if self.config.layer_norm.is_some() {
                self.norm_cell(layer, &place);
            }
            if self.config.proj_size.is_some() {
                self.project(layer, &place);
            }
        }
    }

    /// The first time step that a direction sees of the chunk, counted from the start of the sequence.
    fn chunk_start(&self, dir: usize, first: usize, len: usize) -> usize {
        if self.config.is_reversed(dir) { self.request.seq_len - first - len } else { first }
    }

    fn input_gates(&mut self, layer: usize, first: usize, len: usize) {
        let (config, input) = (self.config, self.layers[layer].input);
        let (dirs, hidden, batch) = (config.num_directions(), config.hidden_size, self.request.batch);
        let input_size = config.layer_input_size(layer);
        let rows = len * batch;
        let x_row = |dir: usize| to_u32(self.chunk_start(dir.min(dirs - 1), first, len) * batch);
        let params = InputGatesParams {
            num_rows: to_u32(rows),
            input_size: to_u32(input_size),
            hidden_size: to_u32(hidden),
            weight_base: input.weight.base,
            bias_base: input.bias_base,
            gates_stride: to_u32(len * batch * hidden),
            x_row_0: x_row(0),
            x_row_1: x_row(1),
            gates_low_offset: self.gates_low_offset(len),
            bias_low_base: input.bias_low_base,
            ..InputGatesParams::default()
        };
        let x = if layer == 0 { BufferId::X } else { BufferId::Sequence((layer - 1) % 2) };
        let groups = [hidden.div_ceil(INPUT_TILE.1), rows.div_ceil(INPUT_TILE.0), dirs];
        let flops = (2 * GATES * dirs * rows * hidden * input_size) as u64;
        let bytes = (4 * rows * input_size) as u64 + (dirs * hidden * (input_size + 1 + rows)) as u64 * VEC4_BYTES;
        let weights = BufferId::Weights(input.weight.arena);
        self.dispatch(KernelId::InputGates, layer, vec![weights, x, BufferId::GatesX], &params, groups, flops, bytes);
        if config.layer_norm.is_some() {
            let params =
                NormGatesParams { num_rows: to_u32(rows), hidden_size: to_u32(hidden), gamma_base: input.gamma_base, bias_base: input.bias_base };
            let bytes = (2 * dirs * rows * hidden) as u64 * VEC4_BYTES;
            self.dispatch(KernelId::NormGates, layer, vec![weights, BufferId::GatesX], &params, [rows, dirs, 1], 0, bytes);
        }
    }

    /// From `gates_x` of a chunk of `len` steps to its low parts, in `vec4`; they are there where sums are pairs.
    fn gates_low_offset(&self, len: usize) -> u32 {
        to_u32(self.config.num_directions() * len * self.request.batch * self.config.hidden_size)
    }

    fn place(&self, layer: usize, s: usize, first: usize, len: usize) -> StepPlace {
        let (config, request) = (self.config, self.request);
        let dirs = config.num_directions();
        let step_len = request.batch * config.hidden_size;
        let t = |dir: usize| if config.is_reversed(dir) { request.seq_len - 1 - s } else { s };
        let gates = |dir: usize| dir * len * step_len + (t(dir) - self.chunk_start(dir, first, len)) * step_len;
        let both = |of: &dyn Fn(usize) -> usize| [to_u32(of(0)), to_u32(of(dirs - 1))];
        let (h_len, _) = state_lens(config, request.batch);
        let h_base = |slot: usize| to_u32(slot % 2 * h_len + layer * dirs * request.batch * config.out_size());
        StepPlace {
            gates_low_offset: self.gates_low_offset(len),
            t: both(&t),
            gates: both(&gates),
            h_prev_base: h_base(request.start_slot + s),
            h_next_base: h_base(request.start_slot + s + 1),
            c_base: to_u32(2 * h_len + layer * dirs * step_len),
        }
    }

    fn step(&mut self, layer: usize, place: &StepPlace) {
        let (config, recurrent) = (self.config, self.layers[layer].recurrent);
        let (dirs, hidden, out, batch) = (config.num_directions(), config.hidden_size, config.out_size(), self.request.batch);
        let finishes = config.layer_norm.is_none() && config.proj_size.is_none();
        let (gates_h_len, _) = scratch_lens(config, batch);
        let params = StepParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            out_size: to_u32(out),
            y_size: to_u32(config.y_size()),
            weight_base: recurrent.weight.base,
            peephole_base: recurrent.peephole_base,
            gates_0: place.gates[0],
            gates_1: place.gates[1],
            t_0: place.t[0],
            t_1: place.t[1],
            h_prev_base: place.h_prev_base,
            h_next_base: place.h_next_base,
            c_base: place.c_base,
            // gates_h comes first in the scratch buffer, cell_out behind it
            out_base: if finishes || config.layer_norm.is_some() { 0 } else { to_u32(gates_h_len) },
            gates_low_offset: place.gates_low_offset,
            ..StepParams::default()
        };
        let out_buffer = if finishes { self.y(layer) } else { BufferId::Scratch };
        let buffers = vec![BufferId::Weights(recurrent.weight.arena), BufferId::GatesX, BufferId::Lens, out_buffer];
        let flops = (2 * GATES * dirs * batch * hidden * out) as u64;
        let bytes = (dirs * hidden * (out + batch)) as u64 * VEC4_BYTES + (4 * dirs * batch * (3 * out + 2 * hidden)) as u64;
        self.dispatch(KernelId::Step, layer, buffers, &params, self.product_groups(hidden), flops, bytes);
    }

    fn norm_cell(&mut self, layer: usize, place: &StepPlace) {
        let (config, recurrent) = (self.config, self.layers[layer].recurrent);
        let (dirs, hidden, batch) = (config.num_directions(), config.hidden_size, self.request.batch);
        let (gates_h_len, _) = scratch_lens(config, batch);
        let params = NormCellParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            y_size: to_u32(config.y_size()),
            peephole_base: recurrent.peephole_base,
            gamma_hh_base: recurrent.gamma_hh_base,
            gamma_c_base: recurrent.gamma_c_base,
            gates_0: place.gates[0],
            gates_1: place.gates[1],
            t_0: place.t[0],
            t_1: place.t[1],
            h_prev_base: place.h_prev_base,
            h_next_base: place.h_next_base,
            c_base: place.c_base,
            gates_h_base: 0,
            cell_out_base: to_u32(gates_h_len),
            ..NormCellParams::default()
        };
        let buffers = vec![BufferId::Weights(recurrent.weight.arena), BufferId::GatesX, BufferId::Lens, BufferId::Scratch, self.y(layer)];
        let bytes = (dirs * batch * hidden) as u64 * (3 * VEC4_BYTES + 16);
        self.dispatch(KernelId::NormCell, layer, buffers, &params, [batch, dirs, 1], 0, bytes);
    }

    fn project(&mut self, layer: usize, place: &StepPlace) {
        let (config, region) = (self.config, self.layers[layer].projection);
        let (dirs, hidden, proj, batch) = (config.num_directions(), config.hidden_size, config.out_size(), self.request.batch);
        let (gates_h_len, _) = scratch_lens(config, batch);
        let params = ProjectParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            proj_size: to_u32(proj),
            y_size: to_u32(config.y_size()),
            weight_base: region.base,
            cell_out_base: to_u32(gates_h_len),
            t_0: place.t[0],
            t_1: place.t[1],
            h_prev_base: place.h_prev_base,
            h_next_base: place.h_next_base,
            ..ProjectParams::default()
        };
        let buffers = vec![BufferId::Weights(region.arena), BufferId::Scratch, BufferId::Lens, self.y(layer)];
        let quads = proj.div_ceil(4);
        let flops = (2 * dirs * batch * hidden * proj) as u64;
        let bytes = (dirs * hidden * quads) as u64 * VEC4_BYTES + (4 * dirs * batch * (hidden + 3 * proj)) as u64;
        self.dispatch(KernelId::Project, layer, buffers, &params, self.product_groups(quads), flops, bytes);
    }

    fn y(&self, layer: usize) -> BufferId {
        BufferId::Sequence(layer % 2)
    }

    /// Workgroups of a kernel built on `row_product`.
    fn product_groups(&self, outputs: usize) -> [usize; 3] {
        let outputs_per_group = (WORKGROUP_SIZE / self.shape.k_lanes) as usize;
        [outputs.div_ceil(outputs_per_group), self.request.batch.div_ceil(self.shape.rows as usize), self.config.num_directions()]
    }

    #[expect(clippy::too_many_arguments, reason = "one call a kernel, each argument a column of the plan")]
    fn dispatch(&mut self, kernel: KernelId, layer: usize, buffers: Vec<BufferId>, params: &impl Pod, groups: [usize; 3], flops: u64, bytes: u64) {
        let plan = &mut self.plan;
        // one specialisation of each kernel serves all of its dispatches
        let specialisation = plan.specialisations.iter().position(|known| known.kernel == kernel).unwrap_or_else(|| {
            plan.specialisations.push(Specialisation::new(kernel, self.config, self.shape));
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
        plan.dispatches.push(Dispatch { specialisation, bind_group, params_offset, workgroups: groups.map(to_u32), layer, flops, bytes });
    }
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("a split call's buffers have at most 2^31 bytes, so every index into them fits u32")
}
