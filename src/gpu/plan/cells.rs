//! The dispatches of the kernels: which cells each of them computes, with which uniforms and how much work.

use crate::gpu::form::{ProductForm, ResidentForm};
use crate::gpu::kernels::{InputGatesParams, KernelId, NormCellParams, NormGatesParams, ProjectParams, ResidentParams, StepParams};
use crate::gpu::pack::{VEC4_BYTES, VECTOR_ROWS};
use crate::gpu::plan::BufferId;
use crate::gpu::plan::build::{Builder, Chunk, Work, scratch_lens, state_lens, to_u32};
use crate::gpu::region::Region;
use crate::gpu::specialise::Form;
use crate::network::GATES;

/// The cells of one dispatch: the directions of one layer in one time step, or several layers, each one time step behind the one below.
/// Everything with a stride goes from one cell to the next; strides below zero are taken modulo 2^32, as the kernels' additions are.
pub(super) struct Cells {
    /// the lowest layer
    layer: usize,
    count: usize,
    /// how many of the first cells have `gates_x`
    hoisted: usize,
    /// number of the first cell among all of the stack
    first: usize,
    t: u32,
    t_stride: u32,
    gates_base: u32,
    gates_stride: u32,
    gates_low_offset: u32,
    slot: u32,
    slot_stride: u32,
    /// `weight_hh` of the first cell, where cells are hoisted
    weight_hh: Region,
    /// of `weight_ih` with `weight_hh` behind it, where they are not
    concat_base: u32,
    concat_stride: u32,
    /// `weight_hr` of the first cell
    weight_hr: Region,
    vectors_base: u32,
    vectors_stride: u32,
    scale_hr_base: u32,
    scale_hr_stride: u32,
    /// the first cell that writes y, and where to
    last_cell: usize,
    y: BufferId,
}

impl Builder<'_> {
    fn dirs(&self) -> usize {
        self.config.num_directions()
    }

    /// The first time step that a direction sees of the chunk, counted from the start of the sequence.
    fn chunk_start(&self, dir: usize, chunk: Chunk) -> usize {
        if self.config.is_reversed(dir) { self.request.seq_len - chunk.first - chunk.len } else { chunk.first }
    }

    /// The time of the `s`-th step that a direction walks.
    fn time(&self, dir: usize, s: usize) -> usize {
        if self.config.is_reversed(dir) { self.request.seq_len - 1 - s } else { s }
    }

    /// Where `gates_x` of the `s`-th step is for a direction, in `vec4`.
    fn gates_place(&self, dir: usize, s: usize, chunk: Chunk) -> u32 {
        let step_len = self.request.batch * self.config.hidden_size;
        to_u32((dir * chunk.len + self.time(dir, s) - self.chunk_start(dir, chunk)) * step_len)
    }

    /// From `gates_x` of a chunk to its low parts, in `vec4`; they are there where sums are pairs.
    fn gates_low_offset(&self, chunk: Chunk) -> u32 {
        to_u32(self.dirs() * chunk.len * self.request.batch * self.config.hidden_size)
    }

    /// From one row of a layer's vectors to the next.
    fn vectors_slot(&self) -> u32 {
        to_u32(self.dirs() * self.config.hidden_size)
    }

    fn slot(&self, s: usize) -> u32 {
        to_u32((self.request.start_slot + s) % 2)
    }

    /// Both directions of `layer` in the `s`-th step that they walk.
    pub(super) fn layer_cells(&self, layer: usize, s: usize, chunk: Chunk) -> Cells {
        let (dirs, packed) = (self.dirs(), self.layout.layers[layer]);
        let last = dirs - 1;
        let both = |of: &dyn Fn(usize) -> u32| (of(0), of(last).wrapping_sub(of(0)));
        let (t, t_stride) = both(&|dir| to_u32(self.time(dir, s)));
        let (gates_base, gates_stride) = both(&|dir| self.gates_place(dir, s, chunk));
        Cells {
            layer,
            count: dirs,
            hoisted: dirs,
            first: layer * dirs,
            t,
            t_stride,
            gates_base,
            gates_stride,
            gates_low_offset: self.gates_low_offset(chunk),
            slot: self.slot(s),
            slot_stride: 0,
            weight_hh: packed.weight_hh,
            concat_base: 0,
            concat_stride: 0,
            weight_hr: packed.weight_hr,
            vectors_base: packed.vectors,
            vectors_stride: to_u32(self.config.hidden_size),
            scale_hr_base: packed.vectors + to_u32(VECTOR_ROWS) * self.vectors_slot(),
            scale_hr_stride: to_u32(self.config.out_size().div_ceil(4)),
            last_cell: layer * dirs,
            y: self.y(layer),
        }
    }

    /// Step `wave - layer` of every layer that has such a step. The layers above the first lie evenly apart in the packed weights.
    pub(super) fn wave_cells(&self, wave: usize, chunk: Chunk) -> Cells {
        let (layers, seq_len) = (self.config.num_layers, self.request.seq_len);
        let (lowest, highest) = ((wave + 1).saturating_sub(seq_len), wave.min(layers - 1));
        let hoisted = usize::from(lowest == 0);
        let packed = &self.layout.layers;
        let (first, second) = (packed[0], packed[1]);
        let stride = if layers > 2 { packed[2].weight_ih.base - second.weight_ih.base } else { 0 };
        let vectors_stride = second.vectors - first.vectors;
        Cells {
            layer: lowest,
            count: highest - lowest + 1,
            hoisted,
            first: lowest,
            t: to_u32(self.time(0, wave - lowest)),
            t_stride: if self.config.is_reversed(0) { 1 } else { u32::MAX },
            gates_base: if hoisted == 1 { self.gates_place(0, wave, chunk) } else { 0 },
            gates_stride: 0,
            gates_low_offset: 0,
            slot: self.slot(wave - lowest),
            slot_stride: 1,
            weight_hh: Region { stride: 0, ..first.weight_hh },
            // that of layer 1, as many layers on as the lowest one is above it
            concat_base: second.weight_ih.base.wrapping_add(stride.wrapping_mul(to_u32(lowest).wrapping_sub(1))),
            concat_stride: stride,
            weight_hr: Region { stride: second.weight_hr.base - first.weight_hr.base, ..packed[lowest].weight_hr },
            vectors_base: packed[lowest].vectors,
            vectors_stride,
            scale_hr_base: packed[lowest].vectors + to_u32(VECTOR_ROWS) * self.vectors_slot(),
            scale_hr_stride: vectors_stride,
            last_cell: layers - 1,
            y: self.plan.y,
        }
    }

    /// The input product of a chunk of steps of one layer, and its normalisation.
    pub(super) fn input_gates(&mut self, layer: usize, chunk: Chunk) {
        let (config, packed) = (self.config, self.layout.layers[layer]);
        let (dirs, hidden, batch) = (self.dirs(), config.hidden_size, self.request.batch);
        let input_size = config.layer_input_size(layer);
        let rows = chunk.len * batch;
        let x_row = |dir: usize| to_u32(self.chunk_start(dir, chunk) * batch);
        let params = InputGatesParams {
            num_rows: to_u32(rows),
            batch: to_u32(batch),
            input_size: to_u32(input_size),
            hidden_size: to_u32(hidden),
            vectors_base: packed.vectors,
            vectors_slot: self.vectors_slot(),
            vectors_stride: to_u32(hidden),
            gates_stride: to_u32(rows * hidden),
            gates_low_offset: self.gates_low_offset(chunk),
            x_row: x_row(0),
            x_row_stride: x_row(dirs - 1).wrapping_sub(x_row(0)),
            ..InputGatesParams::default()
        };
        let x = if layer == 0 { BufferId::X } else { BufferId::Sequence((layer - 1) % 2) };
        let form = self.choice.input;
        let (group_rows, group_outputs) = form.group();
        for panel in packed.weight_ih.panels(hidden) {
            let units = panel.outputs;
            let (weight_base, weight_stride) = (panel.base, panel.stride);
            let params = InputGatesParams { weight_base, weight_stride, first_output: to_u32(panel.first), num_outputs: to_u32(units), ..params };
            let work = Work {
                groups: [units.div_ceil(group_outputs as usize), rows.div_ceil(group_rows as usize), dirs],
                flops: (2 * GATES * dirs * rows * units * input_size) as u64,
                bytes: (4 * rows * input_size) as u64 + self.weight_bytes(dirs * units * input_size) + (dirs * units * rows) as u64 * VEC4_BYTES,
            };
            let buffers = vec![BufferId::Weights(panel.arena), BufferId::Vectors, x, BufferId::Lens, BufferId::GatesX];
            self.dispatch(KernelId::input_gates(form), Form::Product(form), layer, buffers, &params, work);
        }
        if config.layer_norm.is_some() {
            let params = NormGatesParams {
                num_rows: to_u32(rows),
                hidden_size: to_u32(hidden),
                gates_stride: to_u32(rows * hidden),
                vectors_base: packed.vectors,
                vectors_slot: self.vectors_slot(),
                vectors_stride: to_u32(hidden),
                ..NormGatesParams::default()
            };
            let work = Work { groups: [rows, dirs, 1], flops: 0, bytes: (2 * dirs * rows * hidden) as u64 * VEC4_BYTES };
            self.dispatch(KernelId::NormGates, Form::Only, layer, vec![BufferId::Vectors, BufferId::GatesX], &params, work);
        }
    }

    pub(super) fn step(&mut self, cells: &Cells) {
        let (config, batch) = (self.config, self.request.batch);
        let (hidden, out) = (config.hidden_size, config.out_size());
        let finishes = config.layer_norm.is_none() && config.proj_size.is_none();
        let (gates_h_len, _) = scratch_lens(config, cells.count, batch);
        let params = StepParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            out_size: to_u32(out),
            y_size: to_u32(config.y_size()),
            concat_base: cells.concat_base,
            concat_stride: cells.concat_stride,
            vectors_base: cells.vectors_base,
            vectors_slot: self.vectors_slot(),
            vectors_stride: cells.vectors_stride,
            hoisted: to_u32(cells.hoisted),
            gates_base: cells.gates_base,
            gates_stride: cells.gates_stride,
            gates_low_offset: cells.gates_low_offset,
            t: cells.t,
            t_stride: cells.t_stride,
            h_len: to_u32(state_lens(config, batch).0),
            slot: cells.slot,
            slot_stride: cells.slot_stride,
            cell: to_u32(cells.first),
            last_cell: to_u32(cells.last_cell),
            // gates_h comes first in the scratch buffer, cell_out behind it
            out_base: if finishes || config.layer_norm.is_some() { 0 } else { to_u32(gates_h_len) },
            ..StepParams::default()
        };
        let inputs = cells.hoisted * out + (cells.count - cells.hoisted) * 2 * out;
        let (out_buffer, product) = (if finishes { cells.y } else { BufferId::Scratch }, self.product());
        for panel in cells.weight_hh.panels(hidden) {
            let units = panel.outputs;
            let (weight_base, weight_stride) = (panel.base, panel.stride);
            let params = StepParams { weight_base, weight_stride, first_unit: to_u32(panel.first), num_units: to_u32(units), ..params };
            let work = Work {
                groups: self.product_groups(units, cells.count),
                flops: (2 * GATES * batch * units * inputs) as u64,
                bytes: self.weight_bytes(units * inputs)
                    + (cells.hoisted * units * batch) as u64 * VEC4_BYTES
                    + (4 * cells.count * batch * (3 * out + 2 * units)) as u64,
            };
            let buffers = vec![BufferId::Weights(panel.arena), BufferId::Vectors, BufferId::GatesX, BufferId::Lens, out_buffer];
            self.dispatch(KernelId::step(product), Form::Product(product), cells.layer, buffers, &params, work);
        }
    }

    pub(super) fn norm_cell(&mut self, cells: &Cells) {
        let (config, batch) = (self.config, self.request.batch);
        let (hidden, dirs) = (config.hidden_size, cells.count);
        let (gates_h_len, _) = scratch_lens(config, dirs, batch);
        let params = NormCellParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            out_size: to_u32(config.out_size()),
            y_size: to_u32(config.y_size()),
            vectors_base: cells.vectors_base,
            vectors_slot: self.vectors_slot(),
            vectors_stride: cells.vectors_stride,
            gates_base: cells.gates_base,
            gates_stride: cells.gates_stride,
            t: cells.t,
            t_stride: cells.t_stride,
            h_len: to_u32(state_lens(config, batch).0),
            slot: cells.slot,
            cell: to_u32(cells.first),
            gates_h_base: 0,
            cell_out_base: to_u32(gates_h_len),
        };
        let buffers = vec![BufferId::Vectors, BufferId::GatesX, BufferId::Lens, BufferId::Scratch, cells.y];
        let work = Work { groups: [batch, dirs, 1], flops: 0, bytes: (dirs * batch * hidden) as u64 * (3 * VEC4_BYTES + 16) };
        self.dispatch(KernelId::NormCell, Form::Only, cells.layer, buffers, &params, work);
    }

    pub(super) fn project(&mut self, cells: &Cells) {
        let (config, batch) = (self.config, self.request.batch);
        let (hidden, proj) = (config.hidden_size, config.out_size());
        let (gates_h_len, _) = scratch_lens(config, cells.count, batch);
        let params = ProjectParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            proj_size: to_u32(proj),
            y_size: to_u32(config.y_size()),
            scale_base: cells.scale_hr_base,
            scale_stride: cells.scale_hr_stride,
            cell_out_base: to_u32(gates_h_len),
            t: cells.t,
            t_stride: cells.t_stride,
            h_len: to_u32(state_lens(config, batch).0),
            slot: cells.slot,
            slot_stride: cells.slot_stride,
            cell: to_u32(cells.first),
            last_cell: to_u32(cells.last_cell),
            ..ProjectParams::default()
        };
        let product = self.product();
        for panel in cells.weight_hr.panels(proj.div_ceil(4)) {
            let (quads, outputs) = (panel.outputs, (4 * panel.outputs).min(proj - 4 * panel.first));
            let (weight_base, weight_stride) = (panel.base, panel.stride);
            let params = ProjectParams { weight_base, weight_stride, first_quad: to_u32(panel.first), num_quads: to_u32(quads), ..params };
            let work = Work {
                groups: self.product_groups(quads, cells.count),
                flops: (2 * cells.count * batch * hidden * outputs) as u64,
                bytes: self.weight_bytes(cells.count * hidden * quads) + (4 * cells.count * batch * (hidden + 3 * outputs)) as u64,
            };
            let buffers = vec![BufferId::Weights(panel.arena), BufferId::Vectors, BufferId::Scratch, BufferId::Lens, cells.y];
            self.dispatch(KernelId::project(product), Form::Product(product), cells.layer, buffers, &params, work);
        }
    }

    /// All steps of a chunk of one layer.
    pub(super) fn resident(&mut self, layer: usize, chunk: Chunk, form: ResidentForm) {
        let (config, batch, dirs) = (self.config, self.request.batch, self.dirs());
        let hidden = config.hidden_size;
        let cells = self.layer_cells(layer, chunk.first, chunk);
        let t_step = |dir: usize| if config.is_reversed(dir) { u32::MAX } else { 1 };
        let params = ResidentParams {
            batch: to_u32(batch),
            hidden_size: to_u32(hidden),
            y_size: to_u32(config.y_size()),
            num_steps: to_u32(chunk.len),
            weight_base: cells.weight_hh.base,
            weight_stride: cells.weight_hh.stride,
            vectors_base: cells.vectors_base,
            vectors_slot: self.vectors_slot(),
            vectors_stride: cells.vectors_stride,
            gates_base: cells.gates_base,
            gates_stride: cells.gates_stride,
            t: cells.t,
            t_stride: cells.t_stride,
            t_step: t_step(0),
            t_step_stride: t_step(dirs - 1).wrapping_sub(t_step(0)),
            h_len: to_u32(state_lens(config, batch).0),
            slot: cells.slot,
            next_slot: self.slot(chunk.first + chunk.len),
            cell: to_u32(cells.first),
            ..ResidentParams::default()
        };
        let groups = batch.div_ceil(form.rows as usize);
        // a group reads its weights in every step, or once
        let weight_reads = if form.held { groups } else { groups * chunk.len };
        let work = Work {
            groups: [groups, dirs, 1],
            flops: (2 * GATES * dirs * batch * hidden * hidden * chunk.len) as u64,
            bytes: self.weight_bytes(weight_reads * dirs * hidden * hidden)
                + (chunk.len * dirs * batch * hidden) as u64 * (VEC4_BYTES + 4)
                + (4 * dirs * batch * 4 * hidden) as u64,
        };
        let buffers = vec![BufferId::Weights(cells.weight_hh.arena), BufferId::Vectors, BufferId::GatesX, BufferId::Lens, cells.y];
        let kernel = if form.held { KernelId::ResidentHeld } else { KernelId::Resident };
        self.dispatch(kernel, Form::Resident(form), layer, buffers, &params, work);
    }

    fn product(&self) -> ProductForm {
        self.choice.schedule.product().unwrap_or_else(|| unreachable!("a schedule that steps has a product"))
    }

    fn y(&self, layer: usize) -> BufferId {
        BufferId::Sequence(layer % 2)
    }

    /// Bytes of as many packed quads.
    fn weight_bytes(&self, quads: usize) -> u64 {
        (quads * 4 * self.layout.precision.weight_bytes()) as u64
    }

    /// Workgroups of a step's product.
    fn product_groups(&self, outputs: usize, cells: usize) -> [usize; 3] {
        let (group_rows, group_outputs) = self.product().group();
        [outputs.div_ceil(group_outputs as usize), self.request.batch.div_ceil(group_rows as usize), cells]
    }
}
