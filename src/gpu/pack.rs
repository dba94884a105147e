//! Weights as the kernels read them: gate-interleaved, `vec4` by `vec4`, in as few buffers as the device's limits allow.
//!
//! A packed matrix `[K, outputs]` holds at element `k * outputs + output` the weights of four results as one `vec4`: the gates
//! i, f, g, o of one unit, or four neighbouring outputs of a projection. So neighbouring threads, which own neighbouring outputs,
//! read neighbouring 16 bytes, and a thread has everything that its cell needs in one accumulator.
//!
//! ```text
//! arena 0   | layer 0: weight_ih [D, I, H]  bias  bias_low  gamma_ih [D, H] | weight_hh [D, R, H]  peepholes  gamma_hh  gamma_c | weight_hr [D, H, P/4] | layer 1 ...
//! ```

use crate::error::{Error, Result};
use crate::network::{CellWeights, GATES, Lstm};

/// Bytes of a `vec4<f32>`.
pub(crate) const VEC4_BYTES: u64 = 16;

/// All weights of a stack, packed.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    /// the buffers' contents
    pub arenas: Vec<Vec<[f32; 4]>>,
    /// where each layer's weights are
    pub layers: Vec<PackedLayer>,
}

/// Where the weights of one layer are. Every base is in `vec4` and belongs to direction 0; direction 1 follows.
#[derive(Clone, Copy, Debug)]
pub struct PackedLayer {
    /// what `input_gates` and `norm_gates` read
    pub input: InputSide,
    /// what `step` and `norm_cell` read
    pub recurrent: RecurrentSide,
    /// what `project` reads
    pub projection: Region,
}

/// A piece of an arena.
#[derive(Clone, Copy, Debug, Default)]
pub struct Region {
    /// which buffer
    pub arena: usize,
    /// first `vec4` of it
    pub base: u32,
}

/// The input's weights of one layer.
#[derive(Clone, Copy, Debug)]
pub struct InputSide {
    /// `weight_ih [D, I, H]`
    pub weight: Region,
    /// both biases summed, `[D, H]`
    pub bias_base: u32,
    /// what `float32` loses of that sum, `[D, H]`
    pub bias_low_base: u32,
    /// `gamma_ih [D, H]`; ones where there is no normalisation
    pub gamma_base: u32,
}

/// The recurrent weights of one layer.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentSide {
    /// `weight_hh [D, R, H]`
    pub weight: Region,
    /// `(i, f, o, 0)`, `[D, H]`; zeros where there are none
    pub peephole_base: u32,
    /// `gamma_hh [D, H]`
    pub gamma_hh_base: u32,
    /// `(gamma_c, beta_c, 0, 0)`, `[D, H]`
    pub gamma_c_base: u32,
}

/// Packs the weights of `lstm` into buffers of at most `max_arena_bytes` each.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where what one kernel reads of one layer does not fit a buffer.
pub fn pack(lstm: &Lstm, max_arena_bytes: u64) -> Result<PackedWeights> {
    let config = lstm.config();
    let mut packer = Packer { arenas: vec![Vec::new()], max_arena_bytes };
    let mut layers = Vec::new();
    for layer in 0..config.num_layers {
        let cells: Vec<&CellWeights> = (0..config.num_directions()).map(|dir| lstm.cell(layer, dir)).collect();
        layers.push(PackedLayer {
            input: packer.input_side(layer, &cells)?,
            recurrent: packer.recurrent_side(layer, &cells)?,
            projection: packer.projection(layer, &cells)?,
        });
    }
    Ok(PackedWeights { arenas: packer.arenas, layers })
}

impl PackedWeights {
    /// Bytes of all arenas.
    pub fn bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.len() as u64 * VEC4_BYTES).sum()
    }
}

struct Packer {
    arenas: Vec<Vec<[f32; 4]>>,
    max_arena_bytes: u64,
}

impl Packer {
    fn input_side(&mut self, layer: usize, cells: &[&CellWeights]) -> Result<InputSide> {
        let weight: Vec<_> = cells.iter().flat_map(|cell| by_gate(cell.weight_ih.ncols(), hidden(cell), |row, k| cell.weight_ih[[row, k]])).collect();
        let bias: Vec<_> = cells.iter().flat_map(|cell| bias_sums(cell, |exact| exact as f32)).collect();
        let bias_low = cells.iter().flat_map(|cell| bias_sums(cell, |exact| (exact - f64::from(exact as f32)) as f32));
        let gamma = cells.iter().flat_map(|cell| by_gate(1, hidden(cell), |row, _| cell.layer_norm.as_ref().map_or(1.0, |norm| norm.gamma_ih[row])));
        let (weight_len, bias_len) = (weight.len(), bias.len());
        let all = weight.into_iter().chain(bias).chain(bias_low).chain(gamma).collect();
        let region = self.place(format!("weight_ih_l{layer}"), all)?;
        let bias_base = region.base + index(weight_len);
        let bias_low_base = bias_base + index(bias_len);
        Ok(InputSide { weight: region, bias_base, bias_low_base, gamma_base: bias_low_base + index(bias_len) })
    }

    fn recurrent_side(&mut self, layer: usize, cells: &[&CellWeights]) -> Result<RecurrentSide> {
        let weight: Vec<_> = cells.iter().flat_map(|cell| by_gate(cell.weight_hh.ncols(), hidden(cell), |row, k| cell.weight_hh[[row, k]])).collect();
        let peepholes: Vec<_> = cells
            .iter()
            .flat_map(|cell| {
                (0..hidden(cell)).map(|unit| cell.peepholes.as_ref().map_or([0.0; 4], |p| [p[[0, unit]], p[[1, unit]], p[[2, unit]], 0.0]))
            })
            .collect();
        let gamma_hh: Vec<_> = cells
            .iter()
            .flat_map(|cell| by_gate(1, hidden(cell), |row, _| cell.layer_norm.as_ref().map_or(1.0, |norm| norm.gamma_hh[row])))
            .collect();
        let gamma_c = cells.iter().flat_map(|cell| {
            (0..hidden(cell)).map(|unit| cell.layer_norm.as_ref().map_or([1.0, 0.0, 0.0, 0.0], |n| [n.gamma_c[unit], n.beta_c[unit], 0.0, 0.0]))
        });
        let (weight_len, per_unit_len) = (weight.len(), peepholes.len());
        let all = weight.into_iter().chain(peepholes).chain(gamma_hh).chain(gamma_c).collect();
        let region = self.place(format!("weight_hh_l{layer}"), all)?;
        let peephole_base = region.base + index(weight_len);
        let gamma_hh_base = peephole_base + index(per_unit_len);
        Ok(RecurrentSide { weight: region, peephole_base, gamma_hh_base, gamma_c_base: gamma_hh_base + index(per_unit_len) })
    }

    fn projection(&mut self, layer: usize, cells: &[&CellWeights]) -> Result<Region> {
        let mut all = Vec::new();
        for weight_hr in cells.iter().filter_map(|cell| cell.weight_hr.as_ref()) {
            let (proj_size, hidden_size) = weight_hr.dim();
            for unit in 0..hidden_size {
                for quad in 0..proj_size.div_ceil(4) {
                    all.push(std::array::from_fn(|i| weight_hr.get([quad * 4 + i, unit]).copied().unwrap_or(0.0)));
                }
            }
        }
        if all.is_empty() { Ok(Region::default()) } else { self.place(format!("weight_hr_l{layer}"), all) }
    }

    /// Puts `values` behind what is there already, in a new arena where the last one is full.
    fn place(&mut self, name: String, values: Vec<[f32; 4]>) -> Result<Region> {
        let need = values.len() as u64 * VEC4_BYTES;
        if need > self.max_arena_bytes {
            return Err(Error::limit(format!(
                "limit max_storage_buffer_binding_size: need {need} bytes for {name} of all directions, the adapter allows {}",
                self.max_arena_bytes
            )));
        }
        let full = |arena: &Vec<_>| arena.len() as u64 * VEC4_BYTES + need > self.max_arena_bytes;
        if self.arenas.last().is_some_and(full) {
            self.arenas.push(Vec::new());
        }
        let arena = self.arenas.len() - 1;
        let base = index(self.arenas[arena].len());
        self.arenas[arena].extend(values);
        Ok(Region { arena, base })
    }
}

fn hidden(cell: &CellWeights) -> usize {
    cell.weight_hh.nrows() / GATES
}

/// The packed form `[num_k, hidden]` of a matrix whose rows are the gates i, f, g, o, one block after the other.
fn by_gate(num_k: usize, hidden: usize, value: impl Fn(usize, usize) -> f32) -> Vec<[f32; 4]> {
    let mut packed = Vec::with_capacity(num_k * hidden);
    for k in 0..num_k {
        for unit in 0..hidden {
            packed.push(std::array::from_fn(|gate| value(gate * hidden + unit, k)));
        }
    }
    packed
}

/// One packed row of what `part` takes from each bias sum.
fn bias_sums(cell: &CellWeights, part: impl Fn(f64) -> f32) -> Vec<[f32; 4]> {
    let sum = cell.bias_sum();
    by_gate(1, hidden(cell), |row, _| part(sum[row]))
}

fn index(vec4s: usize) -> u32 {
    u32::try_from(vec4s).expect("an arena has at most 2^31 bytes, so its vec4s count fits u32")
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

    #[test]
    fn element_k_unit_holds_the_four_gates() {
        let config = LstmConfig { direction: Direction::Bidirectional, proj_size: Some(2), ..LstmConfig::new(3, 5) };
        let packed = pack(&numbered(&config), 1 << 20).expect("it fits");
        let layer = &packed.layers[0];
        let at = |base: u32, element: usize| packed.arenas[0][base as usize + element];
        let (k, unit) = (2, 4);
        // row gate*H + unit of weight_ih holds row * 10 + k
        assert_eq!(at(layer.input.weight.base, k * 5 + unit), [42.0, 92.0, 142.0, 192.0]);
        assert_eq!(at(layer.input.weight.base, 3 * 5 + k * 5 + unit), [10042.0, 10092.0, 10142.0, 10192.0]);
        assert_eq!(at(layer.input.bias_base, unit), [4.5, 9.5, 14.5, 19.5]);
        assert_eq!(at(layer.recurrent.weight.base, 5 + unit), [5041.0, 5091.0, 5141.0, 5191.0]);
        assert_eq!(at(layer.projection.base, unit), [4.0, 104.0, 0.0, 0.0]);
    }

    #[test]
    fn layers_go_to_further_arenas_where_one_is_full() {
        let config = LstmConfig { num_layers: 3, ..LstmConfig::new(5, 5) };
        let whole = pack(&numbered(&config), 1 << 20).expect("it fits");
        assert_eq!(whole.arenas.len(), 1);
        // both sides hold a matrix [5, 5] and three vectors [5]
        let largest_group = (5 * 5 + 3 * 5) * VEC4_BYTES;
        let split = pack(&numbered(&config), largest_group).expect("every group fits an arena");
        assert_eq!(split.arenas.len(), 6);
        assert_eq!(split.bytes(), whole.bytes());
        let error = pack(&numbered(&config), largest_group - 1).expect_err("a group does not fit");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("max_storage_buffer_binding_size"), "{error}");
    }
}
