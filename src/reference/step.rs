//! One time step of a cell without layer normalisation. Twin of `shaders/step.wgsl` and `shaders/shared/plain_cell.wgsl`,
//! and of every step of `shaders/resident.wgsl`.

use super::{Cell, cell, dot};
use crate::network::GATES;

/// `h_next [H]` from `gates_x [4H]` and `h_prev [R]`; `c [H]` is updated in place.
pub(super) fn step(gates_x: &[f64], h_prev: &[f64], c: &mut [f64], cell: &Cell<'_>) -> Vec<f64> {
    let hidden_size = cell.config.hidden_size;
    let raw = recurrent_gates(h_prev, cell);
    let next = |unit: usize| {
        let raw: [f64; GATES] = std::array::from_fn(|gate| gates_x[gate * hidden_size + unit] + raw[gate * hidden_size + unit]);
        let (c_next, o_raw) = cell::next_cell(raw, c[unit], unit, cell);
        c[unit] = c_next;
        cell::output(o_raw, c_next, cell)
    };
    (0..hidden_size).map(next).collect()
}

/// `weight_hh @ h_prev`, `[4H]`
pub(super) fn recurrent_gates(h_prev: &[f64], cell: &Cell<'_>) -> Vec<f64> {
    cell.weights.weight_hh.rows().into_iter().map(|row| dot(row, h_prev)).collect()
}
