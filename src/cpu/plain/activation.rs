//! The activation functions over whole slices, so that the choice of the function stands outside the loop.

use super::real::Real;
use crate::network::Activation;

/// Replaces every value by the activation's.
pub(in crate::cpu) fn apply<E: Real>(activation: Activation, values: &mut [E]) {
    let (alpha, beta) = activation.parameters();
    let (alpha, beta, zero, one) = (E::widen(alpha), E::widen(beta), E::zero(), E::one());
    match activation {
        Activation::Sigmoid => each(values, sigmoid),
        Activation::Tanh => each(values, E::tanh),
        Activation::Relu => each(values, |x| if x < zero { zero } else { x }),
        Activation::Affine { .. } => each(values, |x| alpha * x + beta),
        Activation::LeakyRelu { .. } => each(values, |x| if x >= zero { x } else { alpha * x }),
        Activation::ThresholdedRelu { .. } => each(values, |x| if x <= alpha { zero } else { x }),
        Activation::ScaledTanh { .. } => each(values, |x| alpha * (beta * x).tanh()),
        Activation::HardSigmoid { .. } => each(values, |x| (alpha * x + beta).clamp(zero, one)),
        Activation::Elu { .. } => each(values, |x| if x >= zero { x } else { alpha * x.exp_m1() }),
        Activation::Softsign => each(values, softsign),
        Activation::Softplus => each(values, softplus),
    }
}

fn each<E: Real>(values: &mut [E], function: impl Fn(E) -> E) {
    for value in values {
        *value = function(*value);
    }
}

/// 0 and 1 far out, where `exp` overflows to infinity or vanishes.
fn sigmoid<E: Real>(x: E) -> E {
    E::one() / (E::one() + (-x).exp())
}

/// The limit at infinity, where the quotient would be NaN.
fn softsign<E: Real>(x: E) -> E {
    if x.is_infinite() { x.signum() } else { x / (E::one() + x.abs()) }
}

/// `log(1 + exp(x))`, in a form whose `exp` cannot overflow.
fn softplus<E: Real>(x: E) -> E {
    x.max(E::zero()) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::ACTIVATIONS;

    /// The definitions of [`Activation`], written out in float64.
    fn definition(activation: Activation, x: f64) -> f64 {
        let (alpha, beta) = activation.parameters();
        let (alpha, beta) = (f64::from(alpha), f64::from(beta));
        match activation {
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Relu => x.max(0.0),
            Activation::Affine { .. } => alpha * x + beta,
            Activation::LeakyRelu { .. } => x.max(0.0) + alpha * x.min(0.0),
            Activation::ThresholdedRelu { .. } => x * f64::from(u8::from(x > alpha)),
            Activation::ScaledTanh { .. } => alpha * (beta * x).tanh(),
            Activation::HardSigmoid { .. } => (alpha * x + beta).clamp(0.0, 1.0),
            Activation::Elu { .. } => x.max(0.0) + alpha * (x.min(0.0).exp() - 1.0),
            Activation::Softsign => x / (1.0 + x.abs()),
            Activation::Softplus => {
                if x > 30.0 {
                    x
                } else {
                    (1.0 + x.exp()).ln()
                }
            }
        }
    }

    fn at<E: Real>(activation: Activation, x: E) -> E {
        let mut values = [x];
        apply(activation, &mut values);
        values[0]
    }

    #[test]
    fn every_function_follows_its_definition() {
        for activation in ACTIVATIONS {
            for step in -4000i16..=4000 {
                let x = f32::from(step) / 40.0;
                let expected = definition(activation, f64::from(x));
                for (actual, precision) in [(f64::from(at(activation, x)), 4e-7), (at(activation, f64::from(x)), 1e-13)] {
                    let bound = precision * (1.0 + expected.abs());
                    assert!((actual - expected).abs() <= bound, "{activation} at {x}: {actual}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_limits_and_nan_stays() {
        let limits = |activation| (at(activation, f32::NEG_INFINITY), at(activation, f32::INFINITY));
        assert_eq!(limits(Activation::Sigmoid), (0.0, 1.0));
        assert_eq!(limits(Activation::Tanh), (-1.0, 1.0));
        assert_eq!(limits(Activation::Softsign), (-1.0, 1.0));
        assert_eq!(limits(Activation::Softplus), (0.0, f32::INFINITY));
        assert_eq!(limits(Activation::Elu { alpha: 0.5 }), (-0.5, f32::INFINITY));
        assert_eq!(limits(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }), (0.0, 1.0));
        for activation in ACTIVATIONS {
            assert!(at(activation, f32::NAN).is_nan(), "{activation}");
        }
    }
}
