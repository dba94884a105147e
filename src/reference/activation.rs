//! The eleven activations, from the ONNX operator's definitions. Twin of `shaders/shared/sigmoid_tanh.wgsl`, `shaders/shared/activations.wgsl`,
//! `shaders/shared/any_activations.wgsl` and `shaders/shared/usual_activations.wgsl`.

use crate::network::Activation;

pub(super) fn activate(activation: Activation, x: f64) -> f64 {
    let (alpha, beta) = activation.parameters();
    let (alpha, beta) = (f64::from(alpha), f64::from(beta));
    match activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu => {
            if x > 0.0 || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        Activation::Affine { .. } => alpha * x + beta,
        Activation::LeakyRelu { .. } => {
            if x >= 0.0 {
                x
            } else {
                alpha * x
            }
        }
        Activation::ThresholdedRelu { .. } => {
            if x > alpha || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        Activation::ScaledTanh { .. } => alpha * (beta * x).tanh(),
        Activation::HardSigmoid { .. } => (alpha * x + beta).clamp(0.0, 1.0),
        Activation::Elu { .. } => {
            if x >= 0.0 {
                x
            } else {
                alpha * x.exp_m1()
            }
        }
        // the limit at infinity, where the quotient would be NaN
        Activation::Softsign if x.is_infinite() => x.signum(),
        Activation::Softsign => x / (1.0 + x.abs()),
        // log(1 + exp(x)) without overflow for large x
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    /// Values worked out by hand from the ONNX operator's text.
    #[test]
    fn values_of_every_function() {
        let cases = [
            (Activation::Sigmoid, 0.0, 0.5),
            (Activation::Sigmoid, 2.0, 0.880_797_077_977_882_3),
            (Activation::Tanh, 0.5, 0.462_117_157_260_009_8),
            (Activation::Relu, -1.0, 0.0),
            (Activation::Relu, 3.0, 3.0),
            (Activation::Affine { alpha: 2.0, beta: -0.5 }, 3.0, 5.5),
            (Activation::LeakyRelu { alpha: 0.25 }, -4.0, -1.0),
            (Activation::LeakyRelu { alpha: 0.25 }, 4.0, 4.0),
            (Activation::ThresholdedRelu { alpha: 1.0 }, 1.0, 0.0),
            (Activation::ThresholdedRelu { alpha: 1.0 }, 1.5, 1.5),
            (Activation::ScaledTanh { alpha: 2.0, beta: 0.5 }, 1.0, 0.924_234_314_520_019_6),
            (Activation::HardSigmoid { alpha: 0.5, beta: 0.25 }, 0.5, 0.5),
            (Activation::HardSigmoid { alpha: 0.5, beta: 0.25 }, 9.0, 1.0),
            (Activation::HardSigmoid { alpha: 0.5, beta: 0.25 }, -9.0, 0.0),
            (Activation::Elu { alpha: 2.0 }, -1.0, -1.264_241_117_657_115_4),
            (Activation::Elu { alpha: 2.0 }, 1.0, 1.0),
            (Activation::Softsign, -3.0, -0.75),
            (Activation::Softsign, f64::NEG_INFINITY, -1.0),
            (Activation::Softplus, 0.0, std::f64::consts::LN_2),
            (Activation::Softplus, 1000.0, 1000.0),
        ];
        for (activation, x, expected) in cases {
            assert_relative_eq!(activate(activation, x), expected, max_relative = 1e-14);
        }
    }
}
