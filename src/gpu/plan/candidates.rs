//! The schedules and forms that suit a stack and a batch on a device.

use std::fmt;

use crate::gpu::form::{Choice, MatrixForm, ProductForm, ResidentForm, RowForm, Schedule, ScheduleName, TileForm};
use crate::gpu::pack::PackedLayout;
use crate::gpu::plan::cost::{input_seconds, loop_iterations};
use crate::gpu::plan::misfit::product_misfit;
use crate::gpu::plan::{Cost, DeviceProfile, cost};
use crate::gpu::specialise::sums_pairs;
use crate::network::{Direction, LstmConfig, Precision};

/// Why a schedule does not suit a stack: the rule, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn tile(row_threads: u32, unit_threads: u32, row_quads: u32, units: u32) -> TileForm {
    TileForm { row_threads, unit_threads, row_quads, units }
}

/// Tiles: with one thread along the rows, weights go straight into registers, and every thread of a subgroup reads the same rows; with more,
/// weights pass through workgroup memory. From the one that makes the most workgroups to the one that multiplies most for each value read.
pub const TILES: [TileForm; 10] = [
    tile(8, 8, 1, 1),
    tile(1, 64, 1, 1),
    tile(4, 16, 1, 2),
    tile(4, 16, 2, 1),
    tile(1, 64, 2, 1),
    tile(4, 16, 2, 2),
    tile(1, 64, 4, 1),
    tile(8, 16, 2, 2),
    tile(1, 64, 4, 2),
    tile(1, 32, 4, 4),
];

/// Quads of outputs that a thread keeps where sums are pairs, which take twice the registers.
const MAX_PAIR_TILE: u32 = 8;

/// Threads of a workgroup of `row_product`, its rows, and threads a sum.
const ROW_WORKGROUP: u32 = 64;
const ROWS: [u32; 2] = [1, 4];
const K_LANES: [u32; 5] = [1, 2, 4, 8, 16];

/// Cooperative matrices of a subgroup along the rows and the columns, and subgroups of a workgroup along both.
const MATRICES: [(u32, u32, u32, u32); 3] = [(1, 1, 1, 4), (1, 2, 2, 2), (2, 2, 2, 2)];

/// Steps of a typical chunk.
const INPUT_STEPS: usize = 32;

/// Whether `name` does not suit the stack, whatever the batch, and why.
pub fn refusal(name: ScheduleName, config: &LstmConfig, layout: &PackedLayout, profile: &DeviceProfile) -> Option<Refusal> {
    let refuse = |rule: &str, found: &str| Some(Refusal(format!("schedule {name}: needs {rule}, found {found}")));
    match name {
        ScheduleName::PerStep => None,
        _ if sums_pairs(config) => refuse("bounded gates and outputs", "activations that amplify rounding"),
        _ if config.layer_norm.is_some() => refuse("no layer normalisation", "a layer-normalised stack"),
        ScheduleName::Wavefront if config.num_layers == 1 => refuse("two layers or more", "one"),
        ScheduleName::Wavefront if config.direction == Direction::Bidirectional => refuse("one direction", "a bidirectional stack"),
        ScheduleName::Wavefront if !lie_evenly(layout) => refuse("the weights of all layers in one buffer", "several"),
        ScheduleName::Wavefront => None,
        ScheduleName::Resident if config.proj_size.is_some() => refuse("no projection", "one"),
        ScheduleName::Resident if layout.layers.iter().any(|layer| layer.weight_hh.is_split()) => {
            refuse("weight_hh of a layer in one buffer", "several")
        }
        ScheduleName::Resident if resident_forms(config, layout, 1, profile).is_empty() => {
            refuse("a hidden state that fits a workgroup's memory", &format!("hidden_size = {}", config.hidden_size))
        }
        ScheduleName::Resident => None,
    }
}

/// Whether one step can reach the weights of all layers by adding: those above the first in one buffer, evenly apart.
fn lie_evenly(layout: &PackedLayout) -> bool {
    let layers = &layout.layers;
    let one_buffer = |arena: usize| layers.iter().all(|layer| layer.joined && layer.weight_ih.arena == arena && layer.weight_hr.arena == arena);
    let evenly = layers.windows(3).all(|three| three[1].vectors - three[0].vectors == three[2].vectors - three[1].vectors)
        && layers.windows(4).all(|four| four[2].weight_ih.base - four[1].weight_ih.base == four[3].weight_ih.base - four[2].weight_ih.base);
    one_buffer(layers[0].weight_ih.arena) && evenly
}

/// Every choice that suits the stack and a batch of `batch` rows; `only` leaves out other schedules.
pub fn candidates(config: &LstmConfig, layout: &PackedLayout, batch: usize, only: Option<ScheduleName>, profile: &DeviceProfile) -> Vec<Choice> {
    let mut schedules = Vec::new();
    let products = product_forms(config, layout.precision, batch, step_inputs(config), profile);
    for name in ScheduleName::ALL {
        if only.is_some_and(|only| only != name) || refusal(name, config, layout, profile).is_some() {
            continue;
        }
        match name {
            ScheduleName::PerStep => schedules.extend(products.iter().copied().map(Schedule::PerStep)),
            ScheduleName::Wavefront => schedules.extend(products.iter().copied().map(Schedule::Wavefront)),
            ScheduleName::Resident => schedules.extend(resident_forms(config, layout, batch, profile).into_iter().map(Schedule::Resident)),
        }
    }
    let input = input_form(config, layout, batch, profile);
    schedules.into_iter().map(|schedule| Choice { schedule, input }).collect()
}

/// Steps of the call for which candidates are compared. Not those of the call at hand: a sequence in pieces gives the same bits as the whole,
/// so its length must not decide in which order sums are made.
pub const TYPICAL_STEPS: usize = 100;

/// The candidates with what each is expected to cost, cheapest first. There is always one, unless `only` names a schedule that does not suit.
pub fn ranked(config: &LstmConfig, layout: &PackedLayout, batch: usize, only: Option<ScheduleName>, profile: &DeviceProfile) -> Vec<(Choice, Cost)> {
    let cost = |choice| cost(config, layout.precision, batch, TYPICAL_STEPS, choice, profile);
    let mut ranked: Vec<_> = candidates(config, layout, batch, only, profile).into_iter().map(|choice| (choice, cost(choice))).collect();
    ranked.sort_by(|(_, a), (_, b)| a.seconds().total_cmp(&b.seconds()));
    ranked
}

/// The form of the input product, for a chunk of a typical length.
fn input_form(config: &LstmConfig, layout: &PackedLayout, batch: usize, profile: &DeviceProfile) -> ProductForm {
    let rows = batch.saturating_mul(INPUT_STEPS);
    let seconds = |form: &ProductForm| input_seconds(config, layout.precision, rows, *form, &profile.model);
    let forms = product_forms(config, layout.precision, rows, largest_input(config), profile).into_iter();
    forms.min_by(|a, b| seconds(a).total_cmp(&seconds(b))).unwrap_or(ProductForm::Tile(TILES[0]))
}

/// The widest input of any layer.
pub(super) fn largest_input(config: &LstmConfig) -> usize {
    (0..config.num_layers.min(2)).map(|layer| config.layer_input_size(layer)).max().unwrap_or(0)
}

/// The most that a step multiplies by: on a wavefront its input as well.
pub(super) fn step_inputs(config: &LstmConfig) -> usize {
    config.hidden_size.max(2 * config.out_size())
}

/// Whether a thread has the registers for the tile's sums, and the device as many threads.
fn tile_fits(tile: &TileForm, config: &LstmConfig, profile: &DeviceProfile) -> bool {
    let most = if sums_pairs(config) { MAX_PAIR_TILE } else { profile.sum_quads };
    tile.row_quads * 4 * tile.units <= most && tile.workgroup_size() <= profile.max_workgroup_threads
}

/// Whether the form is one of those from which products choose, on this device or on another. Nothing is computed of sizes that are not.
pub(super) fn is_known(form: ProductForm, config: &LstmConfig, profile: &DeviceProfile) -> bool {
    match form {
        ProductForm::Rows(RowForm { workgroup_size, rows, k_lanes, .. }) => {
            workgroup_size == ROW_WORKGROUP && ROWS.contains(&rows) && K_LANES.contains(&k_lanes)
        }
        ProductForm::Tile(form) => TILES.contains(&form) && tile_fits(&form, config, profile),
        ProductForm::Matrix(form) => {
            let MatrixForm { size, row_tiles, column_tiles, row_chunks, column_chunks, .. } = form;
            let anywhere = [8, 16].contains(&size) && MATRICES.contains(&(row_tiles, column_tiles, row_chunks, column_chunks));
            // that a device has no matrices of the size is an error of its own
            anywhere && (profile.matrices != Some(size) || matrix_forms(usize::MAX, profile).contains(&form))
        }
    }
}

/// Forms of a product of `rows` rows with `num_k` inputs that the driver runs to their end.
pub(super) fn product_forms(config: &LstmConfig, precision: Precision, rows: usize, num_k: usize, profile: &DeviceProfile) -> Vec<ProductForm> {
    let (pairs, mut forms) = (sums_pairs(config), Vec::new());
    for group_rows in ROWS.into_iter().filter(|group_rows| *group_rows == 1 || rows > *group_rows as usize / 2) {
        for k_lanes in K_LANES {
            // pairs are summed by one thread, and a sum of few terms is not worth splitting
            if k_lanes == 1 || (!pairs && num_k >= 8 * k_lanes as usize) {
                let form = RowForm { workgroup_size: ROW_WORKGROUP, rows: group_rows, k_lanes, subgroups: false };
                forms.push(ProductForm::Rows(form));
                // neighbouring threads have neighbouring outputs: a subgroup no wider than those has nothing to add up
                if k_lanes > 1 && profile.subgroups.is_some_and(|(_, largest)| largest > form.group_outputs()) {
                    forms.push(ProductForm::Rows(RowForm { subgroups: true, ..form }));
                }
            }
        }
    }
    if rows > 4 {
        let tiles = TILES.into_iter().filter(|tile| tile_fits(tile, config, profile) && rows > tile.group_rows() as usize / 2);
        forms.extend(tiles.map(ProductForm::Tile));
    }
    forms.extend(matrix_forms(rows, profile).into_iter().map(ProductForm::Matrix));
    forms.retain(|form| product_misfit(*form, config, precision, profile).is_none());
    forms.retain(|form| loop_iterations::product(*form, num_k) <= profile.max_loop_iterations);
    forms
}

/// Forms of a product of `rows` rows by cooperative matrices, from the one that makes the most workgroups to the one that reads the least for what it
/// multiplies.
pub(crate) fn matrix_forms(rows: usize, profile: &DeviceProfile) -> Vec<MatrixForm> {
    let (Some(size), Some((_, largest))) = (profile.matrices, profile.subgroups) else { return Vec::new() };
    // some drivers name a largest subgroup that none of their adapters has
    let subgroup_threads = largest.min(64);
    let form = |(row_tiles, column_tiles, row_chunks, column_chunks)| MatrixForm {
        size,
        row_tiles,
        column_tiles,
        row_chunks,
        column_chunks,
        subgroup_threads,
    };
    let mut forms: Vec<MatrixForm> = MATRICES.map(form).to_vec();
    forms.retain(|form| {
        let fits = form.workgroup_size() <= profile.max_workgroup_threads && form.shared_bytes() <= profile.max_workgroup_bytes;
        // the first form's rows may be a quarter full, those of the others half
        fits && rows > form.group_rows() as usize / if form.row_chunks == 1 { 4 } else { 2 }
    });
    forms
}

/// Whether there is a form for every product of the stack, whatever the batch.
pub(super) fn loops_fit(config: &LstmConfig, profile: &DeviceProfile) -> bool {
    let products = [largest_input(config), step_inputs(config)];
    products.into_iter().all(|num_k| !product_forms(config, Precision::F32, 1, num_k, profile).is_empty())
}

pub(super) fn resident_forms(config: &LstmConfig, layout: &PackedLayout, batch: usize, profile: &DeviceProfile) -> Vec<ResidentForm> {
    let (hidden, most) = (config.hidden_size, profile.max_workgroup_threads as usize);
    let quad_words = layout.precision.weight_bytes();
    let mut forms = Vec::new();
    // as many threads as there are units, in whole subgroups, or as few units a thread as that allows
    let least_units = hidden.div_ceil(most);
    for units in [1, 2, 4].map(|times| times * least_units).into_iter().filter(|units| *units <= 8) {
        let threads = hidden.div_ceil(units);
        let threads = if threads < 32 { threads.next_power_of_two() } else { threads.next_multiple_of(32) };
        for k_lanes in [1, 2, 4, 8] {
            for (rows, held) in [1, 4, 8].into_iter().flat_map(|rows| [(rows, false), (rows, true)]) {
                let (units, k_lanes) = (units as u32, k_lanes as u32);
                let form = ResidentForm { workgroup_size: threads as u32 * k_lanes, rows, units, k_lanes, held };
                let splits = k_lanes == 1 || hidden >= 8 * k_lanes as usize;
                let fits = form.workgroup_size as usize <= most && form.shared_bytes(hidden) <= profile.max_workgroup_bytes as usize;
                // four weights of every unit are under way at once, and what is held leaves half as much for sums
                let sums = rows * units * units <= profile.sum_quads / if held { 4 } else { 2 };
                let registers = form.held_quads(hidden) * quad_words <= profile.held_words as usize && sums;
                if splits && fits && registers && (rows == 1 || batch > rows as usize / 2) {
                    forms.push(form);
                }
            }
        }
    }
    forms
}
