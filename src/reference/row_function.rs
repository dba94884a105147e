//! Functions of a row of features. Twin of `shaders/row_activation.wgsl` and `shaders/softmax.wgsl`.

use super::activation::activate;
use crate::network::RowFunction;

/// `function(x)`: `[F]` from `[F]`
pub(super) fn row_function(x: &[f64], function: RowFunction) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = || x.iter().map(|value| (value - largest).exp()).sum::<f64>();
    match function {
        RowFunction::None => x.to_vec(),
        RowFunction::Activation(activation) => x.iter().map(|&value| activate(activation, value)).collect(),
        RowFunction::Softmax => {
            let sum = sum();
            x.iter().map(|value| (value - largest).exp() / sum).collect()
        }
        RowFunction::LogSoftmax => {
            let log_sum = sum().ln();
            x.iter().map(|value| value - largest - log_sum).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    /// Values of `scipy.special.softmax` and `log_softmax`.
    #[test]
    fn softmax_by_hand() {
        let x = [0.0, 2.0_f64.ln(), 5.0_f64.ln()];
        for (actual, expected) in row_function(&x, RowFunction::Softmax).into_iter().zip([0.125, 0.25, 0.625]) {
            assert_relative_eq!(actual, expected, max_relative = 1e-14);
        }
        for (actual, expected) in row_function(&[1000.0, 1000.0], RowFunction::LogSoftmax).into_iter().zip([-std::f64::consts::LN_2; 2]) {
            assert_relative_eq!(actual, expected, max_relative = 1e-14);
        }
        // one impossible feature is 0, and a row of nothing else is NaN, as is one with a NaN
        assert_eq!(row_function(&[f64::NEG_INFINITY, 0.0], RowFunction::Softmax), [0.0, 1.0]);
        assert!(row_function(&[f64::NEG_INFINITY; 2], RowFunction::Softmax).iter().all(|value| value.is_nan()));
        assert!(row_function(&[f64::NAN, 0.0], RowFunction::LogSoftmax).iter().all(|value| value.is_nan()));
    }
}
