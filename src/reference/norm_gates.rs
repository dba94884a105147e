//! Layer normalisation of the input's part of the pre-activations. Twin of `shaders/norm_gates.wgsl`.

use ndarray::Array1;

use super::{Cell, input_gates::add_biases};

/// `gates_x = ln(gates_x) * gamma_ih + bias_ih + bias_hh`, `[4H]`
pub(super) fn norm_gates(gates_x: &mut [f64], gamma_ih: &Array1<f32>, cell: &Cell<'_>) {
    normalise(gates_x, epsilon(cell));
    for (gate, &gamma) in gates_x.iter_mut().zip(gamma_ih) {
        *gate *= f64::from(gamma);
    }
    add_biases(gates_x, cell);
}

/// `(values - mean) / sqrt(variance + epsilon)`, both taken over all values.
pub(super) fn normalise(values: &mut [f64], epsilon: f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    for value in values {
        *value = (*value - mean) / (variance + epsilon).sqrt();
    }
}

pub(super) fn epsilon(cell: &Cell<'_>) -> f64 {
    f64::from(cell.config.layer_norm.expect("a cell with normalisation weights has an epsilon"))
}
