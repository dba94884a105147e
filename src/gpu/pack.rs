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
//! together exceed what the device binds, each has a place of its own.

use half::f16;
use ndarray::ArrayView2;

use crate::error::{Error, Result};
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

/// A piece of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// which buffer
    pub arena: usize,
    /// first quad of direction 0
    pub base: u32,
    /// quads from direction 0 to direction 1
    pub stride: u32,
}

/// Rows `[D, H]` of a layer in `vectors`, as numbered in `shaders/shared/vectors.wgsl`.
pub(crate) const VECTOR_ROWS: usize = 8;

/// That of the input product's scales.
const SCALE_IH_ROW: usize = 6;

/// Packs the weights of `lstm`, stored in `precision`, into buffers of at most `max_arena_bytes` each.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where a matrix of one layer does not fit a buffer,
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
        return Err(too_large("biases and other vectors of all layers", packer.vectors.len() as u64 * VEC4_BYTES, max_arena_bytes));
    }
    Ok(PackedWeights { arenas: packer.arenas, vectors: packer.vectors, layout: PackedLayout { precision, layers } })
}

/// Packs the weight of a linear layer as that of an input product, quads of four outputs in the place of a unit's gates: one arena, and the rows of
/// `vectors` that such a product reads, its bias and its scales.
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
        return Err(too_large("bias and scales of a linear layer", bytes, max_arena_bytes));
    }
    Ok(PackedWeights { arenas: packer.arenas, vectors: packer.vectors, layout: PackedLayout { precision, layers: Vec::new() } })
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
        let fits = self.quads(&joined) * self.quad_bytes() <= self.max_arena_bytes;
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

    fn quad_bytes(&self) -> u64 {
        4 * self.precision.weight_bytes() as u64
    }

    fn quads(&self, matrices: &[&Quads]) -> u64 {
        matrices.iter().map(|matrix| matrix.values.len() as u64).sum()
    }

    /// Puts `matrices`, one a direction, behind what is there already, in a new arena where the last one is full.
    fn place(&mut self, name: &str, matrices: &[&Quads]) -> Result<Region> {
        let need = self.quads(matrices) * self.quad_bytes();
        if need > self.max_arena_bytes {
            return Err(too_large(name, need, self.max_arena_bytes));
        }
        if self.arenas.last().is_some_and(|arena| size_of_val(&arena[..]) as u64 + need > self.max_arena_bytes) {
            self.arenas.push(Vec::new());
        }
        let (arena, precision) = (self.arenas.len() - 1, self.precision);
        let base = index(self.arenas[arena].len() / precision.weight_bytes());
        for matrix in matrices {
            for (place, quad) in matrix.values.iter().enumerate() {
                let words = &mut self.arenas[arena];
                let half = |at: usize| u32::from(f16::from_f32(quad[at]).to_bits());
                match precision {
                    Precision::F32 => words.extend(quad.map(f32::to_bits)),
                    Precision::F16 => words.extend([half(0) | half(1) << 16, half(2) | half(3) << 16]),
                    Precision::Int8 => {
                        let scales = matrix.scales[place % matrix.scales.len()];
                        words.push(u32::from_le_bytes(std::array::from_fn(|at| to_int8(quad[at], scales[at]).to_le_bytes()[0])));
                    }
                }
            }
        }
        Ok(Region { arena, base, stride: index(matrices[0].values.len()) })
    }
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

fn too_large(name: &str, need: u64, allowed: u64) -> Error {
    Error::limit(format!("limit max_storage_buffer_binding_size: need {need} bytes for {name}, the adapter allows {allowed}"))
}

fn index(quads: usize) -> u32 {
    u32::try_from(quads).expect("an arena has at most 2^31 bytes, so its quads count fits u32")
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::error::ErrorKind;
    use crate::network::{Direction, LstmConfig};

    fn numbered(config: &LstmConfig) -> Lstm {
        let (gates, hidden) = (GATES * config.hidden_size, config.hidden_size);
        let cells = (0..config.num_cells()).map(|number| {
            let base = number as f32 * 1e4;
            CellWeights {
                weight_ih: Array2::from_shape_fn((gates, config.input_size), |(row, k)| base + (row * 10 + k) as f32),
                weight_hh: Array2::from_shape_fn((gates, config.out_size()), |(row, k)| base + 5e3 + (row * 10 + k) as f32),
                bias_ih: Some(Array1::from_shape_fn(gates, |row| base + row as f32)),
                bias_hh: Some(Array1::from_elem(gates, 0.5)),
                weight_hr: config.proj_size.map(|proj| Array2::from_shape_fn((proj, hidden), |(p, unit)| base + (p * 100 + unit) as f32)),
                peepholes: None,
                layer_norm: None,
            }
        });
        Lstm::new(config.clone(), cells.collect()).expect("a valid stack")
    }

    fn floats(packed: &PackedWeights, region: Region, dir: u32, element: usize) -> [f32; 4] {
        let quad = (region.base + dir * region.stride) as usize + element;
        std::array::from_fn(|at| f32::from_bits(packed.arenas[region.arena][4 * quad + at]))
    }

    #[test]
    fn element_k_unit_holds_the_four_gates() {
        let config = LstmConfig { direction: Direction::Bidirectional, proj_size: Some(2), ..LstmConfig::new(3, 5) };
        let packed = pack(&numbered(&config), Precision::F32, 1 << 20).expect("it fits");
        let layer = &packed.layout.layers[0];
        let (k, unit) = (2, 4);
        // row gate*H + unit of weight_ih holds row * 10 + k
        assert_eq!(floats(&packed, layer.weight_ih, 0, k * 5 + unit), [42.0, 92.0, 142.0, 192.0]);
        assert_eq!(floats(&packed, layer.weight_ih, 1, k * 5 + unit), [10042.0, 10092.0, 10142.0, 10192.0]);
        assert_eq!(floats(&packed, layer.weight_hh, 0, 5 + unit), [5041.0, 5091.0, 5141.0, 5191.0]);
        assert_eq!(floats(&packed, layer.weight_hr, 0, unit), [4.0, 104.0, 0.0, 0.0]);
        assert_eq!(packed.vectors[layer.vectors as usize + unit], [4.5, 9.5, 14.5, 19.5]);
        // weight_hh follows weight_ih
        assert!(layer.joined && layer.weight_hh.base == layer.weight_ih.base + 3 * 5 && layer.weight_hh.stride == (3 + 2) * 5);
    }

    #[test]
    fn a_linear_layer_is_packed_as_an_input_product() {
        let weight = Array2::from_shape_fn((5, 3), |(row, k)| (10 * row + k) as f32);
        let linear = Linear::new(weight, Some(Array1::from_shape_fn(5, |row| row as f32))).expect("a valid layer");
        let packed = pack_linear(&linear, Precision::F32, 1 << 20).expect("it fits");
        let quad = |at: usize| -> [f32; 4] { std::array::from_fn(|part| f32::from_bits(packed.arenas[0][4 * at + part])) };
        // two quads of outputs for every input
        assert_eq!([quad(0), quad(1), quad(4)], [[0.0, 10.0, 20.0, 30.0], [40.0, 0.0, 0.0, 0.0], [2.0, 12.0, 22.0, 32.0]]);
        assert_eq!(packed.vectors[..2], [[0.0, 1.0, 2.0, 3.0], [4.0, 0.0, 0.0, 0.0]]);
        let packed = pack_linear(&linear, Precision::Int8, 1 << 20).expect("it fits");
        assert_eq!(packed.vectors[SCALE_IH_ROW * 2 + 1], [42.0 / 127.0, 1.0, 1.0, 1.0]);
        let error = pack_linear(&linear, Precision::F32, 64).expect_err("it does not fit");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }

    #[test]
    fn every_precision_stores_what_the_network_says_it_is_worth() {
        let config = LstmConfig { proj_size: Some(3), ..LstmConfig::new(3, 5) };
        let lstm = numbered(&config);
        for precision in [Precision::F16, Precision::Int8] {
            let packed = pack(&lstm, precision, 1 << 20).expect("it fits");
            let worth = lstm.stored_as(precision).expect("it can be stored");
            let layer = packed.layout.layers[0];
            for k in 0..3 {
                for unit in 0..5 {
                    let quad = layer.weight_ih.base as usize + k * 5 + unit;
                    let words = &packed.arenas[0][quad * precision.weight_bytes()..][..precision.weight_bytes()];
                    let scales = packed.vectors[layer.vectors as usize + 6 * 5 + unit];
                    for gate in 0..GATES {
                        let stored = match precision {
                            Precision::F16 => f16::from_bits((words[gate / 2] >> (16 * (gate % 2))) as u16).to_f32(),
                            _ => f32::from(words[0].to_le_bytes()[gate] as i8) * scales[gate],
                        };
                        assert_eq!(stored, worth.cell(0, 0).weight_ih[[gate * 5 + unit, k]], "{precision}: k {k}, unit {unit}, gate {gate}");
                    }
                }
            }
        }
    }

    #[test]
    fn matrices_part_and_go_to_further_arenas_where_one_is_full() {
        let config = LstmConfig { num_layers: 3, ..LstmConfig::new(5, 5) };
        let whole = pack(&numbered(&config), Precision::F32, 1 << 20).expect("it fits");
        assert!(whole.arenas.len() == 1 && whole.layout.layers.iter().all(|layer| layer.joined));
        // all layers are alike, and a step over several of them counts on it
        let bases: Vec<_> = whole.layout.layers.iter().map(|layer| (layer.weight_ih.base, layer.vectors)).collect();
        assert_eq!(bases, [(0, 0), (50, 40), (100, 80)]);
        let vectors = (3 * VECTOR_ROWS * 5) as u64 * VEC4_BYTES;
        let split = pack(&numbered(&config), Precision::F32, vectors).expect("every matrix fits an arena");
        assert!(split.arenas.len() > 1 && split.layout.layers.iter().all(|layer| layer.joined));
        assert_eq!(split.bytes(), whole.bytes());
        let error = pack(&numbered(&config), Precision::F32, vectors - 1).expect_err("the vectors do not fit");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("max_storage_buffer_binding_size"), "{error}");
        // a wide input: either matrix fits, both together do not
        let wide = LstmConfig::new(60, 60);
        let parted = pack(&numbered(&wide), Precision::F32, 60 * 60 * VEC4_BYTES).expect("each matrix fits");
        assert!(!parted.layout.layers[0].joined && parted.arenas.len() == 2);
    }
}
