//! The element-wise half of a cell. Twin of `shaders/shared/cell.wgsl`, and of `shaders/shared/pair_cell.wgsl` and
//! `shaders/shared/two_float.wgsl`, whose pairs of f32 stand in for f64.

use super::{Cell, activation::activate, clip};
use crate::network::Gate;

/// `c_next` and the pre-activation of the output gate, peephole included, from the pre-activations `raw[gate]` of one unit.
pub(super) fn next_cell(raw: [f64; 4], c_prev: f64, unit: usize, cell: &Cell<'_>) -> (f64, f64) {
    let gate = |value| activate(cell.activations.gate, clip(value, cell.config.clip));
    // rows i, f, o; a peephole that is not there is no product with 0, which would be NaN where c is infinite
    let peephole = |row: usize, c: f64| cell.weights.peepholes.as_ref().map_or(0.0, |peepholes| f64::from(peepholes[[row, unit]]) * c);
    let i = gate(raw[Gate::I as usize] + peephole(0, c_prev));
    let f = if cell.config.input_forget { 1.0 - i } else { gate(raw[Gate::F as usize] + peephole(1, c_prev)) };
    let g = activate(cell.activations.candidate, clip(raw[Gate::G as usize], cell.config.clip));
    let c_next = clip(f * c_prev + i * g, cell.config.cell_clip);
    (c_next, raw[Gate::O as usize] + peephole(2, c_next))
}

/// `h_next = o * output(c)`, where `c` is the new cell state or its normalised form.
pub(super) fn output(o_raw: f64, c: f64, cell: &Cell<'_>) -> f64 {
    activate(cell.activations.gate, clip(o_raw, cell.config.clip)) * activate(cell.activations.output, c)
}
