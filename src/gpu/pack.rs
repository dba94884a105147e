//! Weights as the kernels read them: gate-interleaved, quad by quad, in as few buffers as the device's limits allow.
//!
//! A packed matrix `[K, outputs]` holds at element `k * outputs + output` a quad, the weights of four results: the gates i, f, g, o of one
//! unit, or four neighbouring outputs of a projection. So neighbouring threads, which own neighbouring outputs, read neighbouring quads,
//! and a thread has everything that its cell needs in one accumulator. A quad is 16 bytes in f32, 8 in f16, 4 in int8.
//!
//! ```text
//! arena 0   | layer 0: weight_ih, weight_hh [D, I+R, H] | weight_hr [D, H, P/4] | layer 1 ...                                quads
//! vectors   | layer 0: bias  bias_low  peepholes  gamma_ih  gamma_hh  gamma_c  scale_ih  scale_hh [8, D, H]  scale_hr [D, P/4] | layer 1 ...   vec4<f32>
//! ```
//!
//! `weight_ih` and `weight_hh` of a cell follow each other, so that a step that multiplies input and state at once reads one matrix. Where both
//! together exceed what the device binds, each has a place of its own; a matrix that exceeds it alone lies in panels of outputs ([`Region`]).

use std::ops::Range;

use half::f16;
use ndarray::ArrayView2;

use crate::error::Result;
pub use crate::gpu::region::Region;
use crate::gpu::region::{beyond_a_binding, panel_outputs};
use crate::network::{CellWeights, GATES, Linear, Lstm, Precision, int8_scales, to_int8};

/// Bytes of a `vec4<f32>`.
pub(crate) const VEC4_BYTES: u64 = 16;

/// All weights of a stack, packed.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    /// the contents of the buffers with matrices
    pub arenas: Vec<Vec<u32>>,
    /// the contents of the buffer with everything else
    pub vectors: Vec<[f32; 4]>,
    /// where everything is
    pub layout: PackedLayout,
}

/// Where the weights of a stack are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayout {
    /// how the matrices are stored
    pub precision: Precision,
    /// where each layer's weights are
    pub layers: Vec<PackedLayer>,
}

/// Where the weights of one layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// `weight_ih [I, H]` of every direction
    pub weight_ih: Region,
    /// `weight_hh [R, H]` of every direction
    pub weight_hh: Region,
    /// `weight_hr [H, P/4]` of every direction
    pub weight_hr: Region,
    /// whether `weight_hh` follows `weight_ih` in every direction
    pub joined: bool,
    /// first row of the layer in `vectors`
    pub vectors: u32,
}

/// Rows `[D, H]` of a layer in `vectors`, as numbered in `shaders/shared/vectors.wgsl`.
pub(crate) const VECTOR_ROWS: usize = 8;

/// That of the input product's scales.
const SCALE_IH_ROW: usize = 6;

/// Packs the weights of `lstm`, stored in `precision`, into buffers of at most `max_arena_bytes` each.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the weights of one output, or the vectors of all layers, do not fit a buffer,
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where a weight cannot be stored in `precision`.
pub fn pack(lstm: &Lstm, precision: Precision, max_arena_bytes: u64) -> Result<PackedWeights> {
    lstm.check_stored_as(precision)?;
    let config = lstm.config();
    let mut packer = Packer { arenas: vec![Vec::new()], vectors: Vec::new(), precision, max_arena_bytes };
    let mut layers = Vec::new();
    for layer in 0..config.num_layers {
        let cells: Vec<&CellWeights> = (0..config.num_directions()).map(|dir| lstm.cell(layer, dir)).collect();
        layers.push(packer.layer(layer, &cells)?);
    }
    if packer.vectors.len() as u64 * VEC4_BYTES > max_arena_bytes {
        return Err(beyond_a_binding("biases and other vectors of all layers", packer.vectors.len() as u64 * VEC4_BYTES, max_arena_bytes));
    }
    Ok(PackedWeights { arenas: packer.arenas, vectors: packer.vectors, layout: PackedLayout { precision, layers } })
}

/// Packs the weight of a linear layer as that of an input product, quads of four outputs in the place of a unit's gates: one arena, or one for each of the
/// panels that the device needs, and the rows of `vectors` that such a product reads, its bias and its scales.
///
/// # Errors
/// As [`pack`].
pub fn pack_linear(linear: &Linear, precision: Precision, max_arena_bytes: u64) -> Result<PackedWeights> {
    linear.check_stored_as(precision)?;
    let mut packer = Packer { arenas: vec![Vec::new()], vectors: Vec::new(), precision, max_arena_bytes };
    let matrix = by_output(&linear.weight().view());
    packer.place("weight [out_features, in_features]", &[&matrix])?;
    let outputs = matrix.scales.len();
    let value = |output: usize| linear.bias().and_then(|bias| bias.get(output)).copied().unwrap_or(0.0);
    packer.vectors.extend((0..outputs).map(|quad| std::array::from_fn(|at| value(4 * quad + at))));
    // what such a product does not have lies between
    packer.vectors.resize(SCALE_IH_ROW * outputs, [0.0; 4]);
    packer.vectors.extend(&matrix.scales);
    let bytes = packer.vectors.len() as u64 * VEC4_BYTES;
    if bytes > max_arena_bytes {
        return Err(beyond_a_binding("bias and scales of a linear layer", bytes, max_arena_bytes));
    }
    Ok(PackedWeights { arenas: packer.arenas, vectors: packer.vectors, layout: PackedLayout { precision, layers: Vec::new() } })
}

/// Where [`pack_linear`] puts a weight `[out_features, in_features]`, of which there are `quads` of outputs.
pub(crate) fn linear_region(in_features: usize, quads: usize, precision: Precision, max_arena_bytes: u64) -> Region {
    let column_bytes = in_features as u64 * quad_bytes(precision);
    // what does not fit at all was refused when it was packed
    Region { stride: index(in_features * quads), panel: panel_outputs(quads, column_bytes, max_arena_bytes).unwrap_or(0), ..Region::default() }
}

fn quad_bytes(precision: Precision) -> u64 {
    4 * precision.weight_bytes() as u64
}

impl PackedWeights {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| size_of_val(&arena[..]) as u64).sum::<u64>() + self.vectors.len() as u64 * VEC4_BYTES
    }
}

struct Packer {
    arenas: Vec<Vec<u32>>,
    vectors: Vec<[f32; 4]>,
    precision: Precision,
    max_arena_bytes: u64,
}

impl Packer {
    fn layer(&mut self, layer: usize, cells: &[&CellWeights]) -> Result<PackedLayer> {
        let of_layer = |name: &str| format!("{name} of layer {layer}, all directions");
        let gates: fn(&ArrayView2<'_, f32>) -> Quads = by_gate;
        let matrices = |of: &dyn Fn(&CellWeights) -> ArrayView2<'_, f32>| -> Vec<Quads> { cells.iter().map(|cell| gates(&of(cell))).collect() };
        let weight_ih = matrices(&|cell| cell.weight_ih.view());
        let weight_hh = matrices(&|cell| cell.weight_hh.view());
        let vectors = self.layer_vectors(cells, &weight_ih, &weight_hh);
        let joined: Vec<&Quads> = weight_ih.iter().zip(&weight_hh).flat_map(|(ih, hh)| [ih, hh]).collect();
        let fits = quads_of(&joined) * quad_bytes(self.precision) <= self.max_arena_bytes;
        let (input_quads, cell_quads) = (weight_ih[0].values.len(), weight_ih[0].values.len() + weight_hh[0].values.len());
        let (weight_ih, weight_hh) = if fits {
            let both = self.place(&of_layer("weight_ih, weight_hh"), &joined)?;
            let both = Region { stride: index(cell_quads), ..both };
            (both, Region { base: both.base + index(input_quads), ..both })
        } else {
            (
                self.place(&of_layer("weight_ih"), &weight_ih.iter().collect::<Vec<_>>())?,
                self.place(&of_layer("weight_hh"), &weight_hh.iter().collect::<Vec<_>>())?,
            )
        };
        let weight_hr: Vec<Quads> = cells.iter().filter_map(|cell| cell.weight_hr.as_ref()).map(|weight| by_output(&weight.view())).collect();
        self.vectors.extend(weight_hr.iter().flat_map(|matrix| &matrix.scales));
        let weight_hr =
            if weight_hr.is_empty() { Region::default() } else { self.place(&of_layer("weight_hr"), &weight_hr.iter().collect::<Vec<_>>())? };
        Ok(PackedLayer { weight_ih, weight_hh, weight_hr, joined: fits, vectors })
    }

    /// Appends the layer's rows of `vectors`; gives the place of the first.
    fn layer_vectors(&mut self, cells: &[&CellWeights], weight_ih: &[Quads], weight_hh: &[Quads]) -> u32 {
        let base = index(self.vectors.len());
        let units = |cell: &CellWeights| 0..cell.weight_hh.nrows() / GATES;
        for row in 0..VECTOR_ROWS {
            for (dir, cell) in cells.iter().enumerate() {
                let gates = |values: Option<&ndarray::Array1<f32>>, default: f32, unit: usize| -> [f32; 4] {
                    std::array::from_fn(|gate| values.map_or(default, |values| values[gate * units(cell).end + unit]))
                };
                let sums = cell.bias_sum();
                let norm = cell.layer_norm.as_ref();
                let value = |unit: usize| -> [f32; 4] {
                    let sum = |gate: usize| sums[gate * units(cell).end + unit];
                    match row {
                        0 => std::array::from_fn(|gate| sum(gate) as f32),
                        1 => std::array::from_fn(|gate| (sum(gate) - f64::from(sum(gate) as f32)) as f32),
                        2 => cell.peepholes.as_ref().map_or([0.0; 4], |p| [p[[0, unit]], p[[1, unit]], p[[2, unit]], 0.0]),
                        3 => gates(norm.map(|norm| &norm.gamma_ih), 1.0, unit),
                        4 => gates(norm.map(|norm| &norm.gamma_hh), 1.0, unit),
                        5 => norm.map_or([1.0, 0.0, 0.0, 0.0], |norm| [norm.gamma_c[unit], norm.beta_c[unit], 0.0, 0.0]),
                        SCALE_IH_ROW => weight_ih[dir].scales[unit],
                        _ => weight_hh[dir].scales[unit],
                    }
                };
                self.vectors.extend(units(cell).map(value));
            }
        }
        base
    }

    /// Puts `matrices`, one a direction, behind what is there already, in a new arena where the last one is full, and in one for every panel where
    /// they are larger than any.
    fn place(&mut self, name: &str, matrices: &[&Quads]) -> Result<Region> {
        let (need, outputs) = (quads_of(matrices) * quad_bytes(self.precision), matrices[0].scales.len());
        let column = need / outputs.max(1) as u64;
        let panel = panel_outputs(outputs, column, self.max_arena_bytes)
            .ok_or_else(|| beyond_a_binding(&format!("one output of {name}"), column, self.max_arena_bytes))?;
        let last = self.arenas.last().map_or(0, |arena| size_of_val(&arena[..]) as u64);
        if last > 0 && last + need > self.max_arena_bytes {
            self.arenas.push(Vec::new());
        }
        let base = index(self.arenas[self.arenas.len() - 1].len() / self.precision.weight_bytes());
        let region = Region { arena: self.arenas.len() - 1, base, stride: index(matrices[0].values.len()), panel };
        for part in region.panels(outputs) {
            if part.first > 0 {
                self.arenas.push(Vec::new());
            }
            for matrix in matrices {
                self.store(matrix, part.first..part.first + part.outputs);
            }
        }
        Ok(region)
    }

    /// Appends these outputs of a matrix to the last arena.
    fn store(&mut self, matrix: &Quads, outputs: Range<usize>) {
        let words = self.arenas.last_mut().expect("there is always one");
        for row in matrix.values.chunks(matrix.scales.len()) {
            for (quad, scales) in row[outputs.clone()].iter().zip(&matrix.scales[outputs.clone()]) {
                let half = |at: usize| u32::from(f16::from_f32(quad[at]).to_bits());
                match self.precision {
                    Precision::F32 => words.extend(quad.map(f32::to_bits)),
                    Precision::F16 => words.extend([half(0) | half(1) << 16, half(2) | half(3) << 16]),
                    Precision::Int8 => words.push(u32::from_le_bytes(std::array::from_fn(|at| to_int8(quad[at], scales[at]).to_le_bytes()[0]))),
                }
            }
        }
    }
}

fn quads_of(matrices: &[&Quads]) -> u64 {
    matrices.iter().map(|matrix| matrix.values.len() as u64).sum()
}

/// A packed matrix before it is stored: `[K, outputs]`, and the scales that it has in int8, `[outputs]`.
struct Quads {
    values: Vec<[f32; 4]>,
    scales: Vec<[f32; 4]>,
}

/// The packed form `[K, H]` of a matrix `[4H, K]` whose rows are the gates i, f, g, o, one block after the other.
fn by_gate(matrix: &ArrayView2<'_, f32>) -> Quads {
    let (rows, num_k) = matrix.dim();
    let hidden = rows / GATES;
    quads(matrix, num_k, hidden, |unit, gate| gate * hidden + unit)
}

/// The packed form `[H, ceil(P/4)]` of a projection `[P, H]`; what is missing from the last quad is 0.
fn by_output(matrix: &ArrayView2<'_, f32>) -> Quads {
    let (proj, num_k) = matrix.dim();
    quads(matrix, num_k, proj.div_ceil(4), |quad, at| quad * 4 + at)
}

fn quads(matrix: &ArrayView2<'_, f32>, num_k: usize, outputs: usize, row: impl Fn(usize, usize) -> usize) -> Quads {
    let scales = int8_scales(matrix.view());
    let scale = |output: usize, at: usize| scales.get(row(output, at)).copied().unwrap_or(1.0);
    let mut values = Vec::with_capacity(num_k * outputs);
    for k in 0..num_k {
        for output in 0..outputs {
            values.push(std::array::from_fn(|at| matrix.get([row(output, at), k]).copied().unwrap_or(0.0)));
        }
    }
    Quads { values, scales: (0..outputs).map(|output| std::array::from_fn(|at| scale(output, at))).collect() }
}

fn index(quads: usize) -> u32 {
    u32::try_from(quads).expect("an arena has at most 2^31 bytes, so its quads count fits u32")
}

#[cfg(test)]
mod tests;
