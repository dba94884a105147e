//! What a choice is expected to cost: arithmetic, bytes and latency of its dispatches, from the figures of a typical device of its kind.

use serde::Serialize;

use crate::gpu::form::{Choice, MatrixForm, ProductForm, ResidentForm, Schedule};
use crate::gpu::plan::build::cost_factor;
use crate::gpu::plan::{CostModel, DeviceProfile};
use crate::network::{GATES, LstmConfig, Precision};

/// What a call is expected to take on the device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// the input product of all layers and steps
    pub input_seconds: f64,
    /// everything else
    pub recurrent_seconds: f64,
}

impl Cost {
    /// All of it.
    pub fn seconds(&self) -> f64 {
        self.input_seconds + self.recurrent_seconds
    }
}

impl CostModel {
    /// What a call with tensors on the host takes beside its dispatches, `bytes` of them to and from the device.
    pub(crate) fn transfer_seconds(&self, bytes: u64) -> f64 {
        self.submit_seconds + bytes as f64 / self.transfer_bytes
    }
}

/// Threads that keep a compute unit busy.
const FULL_UNIT_THREADS: f64 = 256.0;

/// What a wave loses because its layers are not alike: the lowest multiplies half as much as the others, and units that have it wait.
const UNEVEN: f64 = 1.1;

/// Depth of a tile of `tile_product.wgsl`.
const K_TILE: f64 = 16.0;

/// What `choice` is expected to take for `batch` rows and `seq_len` steps.
pub fn cost(config: &LstmConfig, precision: Precision, batch: usize, seq_len: usize, choice: Choice, profile: &DeviceProfile) -> Cost {
    let (model, dirs) = (&profile.model, config.num_directions() as f64);
    let (layers, steps) = (config.num_layers as f64, seq_len as f64);
    let input = |layer: usize| {
        let product = Product { num_k: config.layer_input_size(layer), outputs: config.hidden_size, rows: seq_len.saturating_mul(batch), z: dirs };
        product_seconds(config, precision, choice.input, product, model)
    };
    let step = |form: ProductForm, num_k: usize, z: f64| {
        let gates = Product { num_k, outputs: config.hidden_size, rows: batch, z };
        let mut seconds = product_seconds(config, precision, form, gates, model);
        if let Some(proj) = config.proj_size {
            let projection = Product { num_k: config.hidden_size, outputs: proj.div_ceil(4), rows: batch, z };
            seconds += product_seconds(config, precision, form, projection, model);
        }
        if config.layer_norm.is_some() {
            seconds += 2.0 * model.dispatch_seconds;
        }
        seconds
    };
    let all_inputs = || (0..config.num_layers).map(input).sum();
    match choice.schedule {
        Schedule::PerStep(form) => Cost { input_seconds: all_inputs(), recurrent_seconds: layers * steps * step(form, config.out_size(), dirs) },
        Schedule::Wavefront(form) => {
            // layer 0 has its input product already, the others multiply twice as much
            let num_k = config.out_size() * (2 * config.num_layers - 1) / config.num_layers;
            Cost { input_seconds: input(0), recurrent_seconds: UNEVEN * (steps + layers - 1.0) * step(form, num_k, layers) }
        }
        Schedule::Resident(form) => {
            let recurrent_seconds = layers * (steps * resident_step_seconds(config, precision, batch, form, model) + model.dispatch_seconds);
            Cost { input_seconds: all_inputs(), recurrent_seconds }
        }
    }
}

/// What the input product of `rows` rows of layer 0 is expected to take.
pub(super) fn input_seconds(config: &LstmConfig, precision: Precision, rows: usize, form: ProductForm, model: &CostModel) -> f64 {
    let product = Product { num_k: config.input_size, outputs: config.hidden_size, rows, z: config.num_directions() as f64 };
    product_seconds(config, precision, form, product, model)
}

/// A product: `rows` by `num_k` times `num_k` by `outputs` quads, `z` times.
struct Product {
    num_k: usize,
    outputs: usize,
    rows: usize,
    z: f64,
}

fn product_seconds(config: &LstmConfig, precision: Precision, form: ProductForm, product: Product, model: &CostModel) -> f64 {
    let (group_rows, group_outputs) = form.group();
    let groups = product.outputs.div_ceil(group_outputs as usize) as f64 * product.rows.div_ceil(group_rows as usize) as f64 * product.z;
    let num_k = product.num_k as f64;
    let quad_bytes = (4 * precision.weight_bytes()) as f64;
    let (rows, outputs) = (f64::from(group_rows), f64::from(group_outputs));
    let (threads, reads, latency) = match form {
        ProductForm::Rows(form) => {
            let batches = num_k / f64::from(16 * form.k_lanes);
            // sums that subgroups make leave little, or nothing, to be added up behind a barrier
            let gather = if form.subgroups { 0.5 } else { 1.0 };
            let latency = batches * (model.load_seconds + 2.0 * model.barrier_seconds) + gather * model.barrier_seconds;
            (form.workgroup_size, outputs * (1.0 + rows), latency)
        }
        ProductForm::Tile(form) => {
            let reads = f64::from(form.workgroup_size()) * f64::from(form.row_quads + form.units);
            // what passes through workgroup memory is read and written once more
            let staged = if form.row_threads > 1 { 2.0 * (rows + outputs) } else { 2.0 * rows };
            (form.workgroup_size(), reads + staged, num_k / K_TILE * (model.load_seconds + 2.0 * model.barrier_seconds))
        }
        ProductForm::Matrix(form) => {
            // rows pass through workgroup memory; a load brings a thread of a subgroup its part of a matrix
            let chunks = f64::from(form.group_rows() * form.column_chunks + form.group_columns() * form.row_chunks) / 4.0;
            let tiles = num_k / f64::from(MatrixForm::K_TILE);
            (form.workgroup_size(), 2.0 * rows + chunks, tiles * (model.load_seconds + 2.0 * model.barrier_seconds))
        }
    };
    let rate = if matches!(form, ProductForm::Matrix(_)) { model.matrix_rate } else { 1.0 };
    let turns = (groups / model.units).ceil();
    let busy = (f64::from(threads) * turns / FULL_UNIT_THREADS).min(1.0).max(model.least_busy);
    let flops = rows * outputs * 2.0 * GATES as f64 * num_k * cost_factor(config);
    let bytes = num_k * (outputs * quad_bytes + rows * 4.0);
    let arithmetic = turns * (flops / (model.unit_flops * rate) + reads * num_k * model.read_seconds + rows * outputs * model.cell_seconds) / busy;
    let stream = (turns * bytes / model.unit_bytes).max(groups * bytes / model.shared_bytes);
    model.dispatch_seconds + arithmetic.max(stream).max(latency)
}

fn resident_step_seconds(config: &LstmConfig, precision: Precision, batch: usize, form: ResidentForm, model: &CostModel) -> f64 {
    let hidden = config.hidden_size as f64;
    let (rows, units, lanes) = (f64::from(form.rows), f64::from(form.units), f64::from(form.k_lanes));
    let threads = f64::from(form.workgroup_size);
    let groups = batch.div_ceil(form.rows as usize) as f64 * config.num_directions() as f64;
    let turns = (groups / model.units).ceil();
    let busy = (threads * turns / FULL_UNIT_THREADS).min(1.0).max(model.least_busy);
    let cells = rows * f64::from(form.group_units());
    let flops = cells * 2.0 * GATES as f64 * hidden;
    let weight_reads = if form.held { 0.0 } else { units };
    let gathers = if lanes > 1.0 { cells * lanes * 2.0 } else { 0.0 };
    // with every weight in its register, h is read at constant places, four neighbours at once
    let row_reads = if form.held { rows / 4.0 } else { rows };
    let reads = threads * hidden / lanes * (weight_reads + row_reads) + gathers;
    let weights = if form.held { 0.0 } else { hidden * hidden * (4 * precision.weight_bytes()) as f64 };
    let bytes = weights + rows * hidden * 20.0;
    let batches = hidden / (4.0 * lanes);
    let loads = if form.held { 1.0 } else { 1.0 + batches };
    let arithmetic = turns * (flops / model.unit_flops + reads * model.read_seconds + cells * model.cell_seconds) / busy;
    let stream = (turns * bytes / model.unit_bytes).max(groups * bytes / model.shared_bytes);
    arithmetic.max(stream).max(loads * model.load_seconds) + 3.0 * model.barrier_seconds
}

/// Loop iterations of a thread, the test that ends each loop included. llvmpipe counts them over all loops and ends a thread that has too many.
pub(super) mod loop_iterations {
    use super::{LstmConfig, MatrixForm, ProductForm, ResidentForm};

    /// Of `row_product.wgsl` and `tile_product.wgsl` for `num_k` inputs, and of what stands around them.
    pub(crate) fn product(form: ProductForm, num_k: usize) -> u64 {
        let num_k = num_k as u64;
        match form {
            ProductForm::Rows(form) => {
                let (threads, rows, lanes) = (u64::from(form.workgroup_size), u64::from(form.rows), u64::from(form.k_lanes));
                let stage = (rows * 16 * lanes).div_ceil(threads) + 16 + 4;
                // subgroups add up in pairs: fewer than twice as many iterations as one after the other
                let finish = (rows * u64::from(form.group_outputs())).div_ceil(threads).max(rows) * (2 * lanes + 6);
                num_k.div_ceil(16 * lanes) * stage + finish + rows + 8
            }
            ProductForm::Tile(form) => {
                let (threads, quads) = (u64::from(form.workgroup_size()), u64::from(form.group_rows() / 4));
                let stage = (16 * quads).div_ceil(threads) + (16 * u64::from(form.group_outputs())).div_ceil(threads) + 16 + 5;
                let finish = 6 * u64::from(form.row_quads * 4 * form.units);
                num_k.div_ceil(16) * stage + finish + u64::from(form.group_rows()) + 8
            }
            ProductForm::Matrix(form) => {
                let (threads, rows, columns) = (u64::from(form.workgroup_size()), u64::from(form.group_rows()), u64::from(form.group_columns()));
                // subgroups of four threads, the smallest there are, take more turns
                let turns = (u64::from(form.subgroup_threads) / 4).max(1);
                let k_tile = u64::from(MatrixForm::K_TILE);
                let stage = (rows * k_tile).div_ceil(threads) + (columns * k_tile).div_ceil(threads) + 4;
                turns.min(4) * (num_k.div_ceil(k_tile) * stage + 12) + (rows * columns / 4).div_ceil(threads) * 6 + rows + 8
            }
        }
    }

    /// Of `resident.wgsl`: once, and a time step.
    pub(crate) fn resident(config: &LstmConfig, form: ResidentForm) -> (u64, u64) {
        let (inputs, threads, lanes) = (form.inputs(config.hidden_size) as u64, u64::from(form.workgroup_size), u64::from(form.k_lanes));
        let own = u64::from(form.rows.div_ceil(form.k_lanes) * form.units);
        let once = (u64::from(form.rows) * inputs).div_ceil(threads) + u64::from(form.rows) + 8;
        let product = if form.held { 0 } else { inputs / lanes / 4 + 5 };
        let gather = if lanes > 1 { own * lanes } else { 0 };
        // the steps that no row has are walked once more, to write zeros
        (once, 1 + product + gather + own)
    }
}
