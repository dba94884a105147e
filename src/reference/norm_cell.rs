//! One time step of a cell with layer normalisation. Twin of `shaders/norm_cell.wgsl`.

use super::norm_gates::{epsilon, normalise};
use super::{Cell, cell, step};
use crate::network::{GATES, LayerNormWeights};

/// `h_next [H]` from `gates_x [4H]`, normalised already, and `h_prev [R]`; `c [H]` is updated in place.
pub(super) fn norm_cell(gates_x: &[f64], h_prev: &[f64], c: &mut [f64], norm: &LayerNormWeights, cell: &Cell<'_>) -> Vec<f64> {
    let hidden_size = cell.config.hidden_size;
    let mut gates_h = step::recurrent_gates(h_prev, cell);
    normalise(&mut gates_h, epsilon(cell));

    let mut o_raw = vec![0.0; hidden_size];
    for unit in 0..hidden_size {
        let raw: [f64; GATES] = std::array::from_fn(|gate| {
            let row = gate * hidden_size + unit;
            gates_x[row] + gates_h[row] * f64::from(norm.gamma_hh[row])
        });
        (c[unit], o_raw[unit]) = cell::next_cell(raw, c[unit], unit, cell);
    }

    let mut c_normal = c.to_vec();
    normalise(&mut c_normal, epsilon(cell));
    let h = |unit: usize| {
        let c = c_normal[unit] * f64::from(norm.gamma_c[unit]) + f64::from(norm.beta_c[unit]);
        cell::output(o_raw[unit], c, cell)
    };
    (0..hidden_size).map(h).collect()
}
