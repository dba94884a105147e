//! A linear layer. Twin of `shaders/input_gates.wgsl` where its quads are four outputs of such a layer.

use super::dot;
use crate::network::Linear;

/// `weight @ x + bias`: `[F]` from `[I]`
pub(super) fn linear(x: &[f64], linear: &Linear) -> Vec<f64> {
    let output = |number: usize| dot(linear.weight().row(number), x) + linear.bias().map_or(0.0, |bias| f64::from(bias[number]));
    (0..linear.out_features()).map(output).collect()
}
