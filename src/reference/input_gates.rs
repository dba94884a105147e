//! The input's part of the pre-activations. Twin of `shaders/input_gates.wgsl`.

use super::{Cell, dot};

/// `weight_ih @ x + bias_ih + bias_hh`, `[4H]`; with layer normalisation the biases are added after it.
pub(super) fn input_gates(x: &[f64], cell: &Cell<'_>) -> Vec<f64> {
    let mut gates_x: Vec<f64> = cell.weights.weight_ih.rows().into_iter().map(|row| dot(row, x)).collect();
    if cell.weights.layer_norm.is_none() {
        add_biases(&mut gates_x, cell);
    }
    gates_x
}

/// Adds both biases, where there are any.
pub(super) fn add_biases(gates: &mut [f64], cell: &Cell<'_>) {
    for bias in [&cell.weights.bias_ih, &cell.weights.bias_hh].into_iter().flatten() {
        for (gate, &value) in gates.iter_mut().zip(bias) {
            *gate += f64::from(value);
        }
    }
}
