//! The eleven activation functions of the ONNX recurrent operators.

use std::fmt;

/// An element-wise activation function, with the parameters that it takes.
///
/// Definitions and default parameters follow the ONNX `LSTM` operator (opset 22).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `max(0, x)`
    Relu,
    /// `alpha * x + beta`
    Affine {
        /// slope
        alpha: f32,
        /// offset
        beta: f32,
    },
    /// `x` where `x >= 0`, else `alpha * x`
    LeakyRelu {
        /// slope below zero
        alpha: f32,
    },
    /// `x` where `x > alpha`, else 0
    ThresholdedRelu {
        /// threshold
        alpha: f32,
    },
    /// `alpha * tanh(beta * x)`
    ScaledTanh {
        /// scale of the result
        alpha: f32,
        /// scale of the argument
        beta: f32,
    },
    /// `min(max(alpha * x + beta, 0), 1)`
    HardSigmoid {
        /// slope
        alpha: f32,
        /// offset
        beta: f32,
    },
    /// `x` where `x >= 0`, else `alpha * (exp(x) - 1)`
    Elu {
        /// scale below zero
        alpha: f32,
    },
    /// `x / (1 + |x|)`
    Softsign,
    /// `log(1 + exp(x))`
    Softplus,
}

impl Activation {
    /// The activation called `name` in ONNX (case is ignored), with the operator's default parameters; `None` for any other name.
    ///
    /// `Affine` and `ScaledTanh` have no defaults in the specification; they get `alpha = 1, beta = 0` and `alpha = 1, beta = 1`,
    /// which make them the plain functions.
    pub fn from_onnx(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "affine" => Self::Affine { alpha: 1.0, beta: 0.0 },
            "leakyrelu" => Self::LeakyRelu { alpha: 0.01 },
            "thresholdedrelu" => Self::ThresholdedRelu { alpha: 1.0 },
            "scaledtanh" => Self::ScaledTanh { alpha: 1.0, beta: 1.0 },
            "hardsigmoid" => Self::HardSigmoid { alpha: 0.2, beta: 0.5 },
            "elu" => Self::Elu { alpha: 1.0 },
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return None,
        })
    }

    /// The function's name in ONNX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Relu => "Relu",
            Self::Affine { .. } => "Affine",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::ScaledTanh { .. } => "ScaledTanh",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Elu { .. } => "Elu",
            Self::Softsign => "Softsign",
            Self::Softplus => "Softplus",
        }
    }

    /// The parameters `(alpha, beta)`; 0 for one that the function does not take.
    pub fn parameters(self) -> (f32, f32) {
        match self {
            Self::Affine { alpha, beta } | Self::ScaledTanh { alpha, beta } | Self::HardSigmoid { alpha, beta } => (alpha, beta),
            Self::LeakyRelu { alpha } | Self::ThresholdedRelu { alpha } | Self::Elu { alpha } => (alpha, 0.0),
            Self::Sigmoid | Self::Tanh | Self::Relu | Self::Softsign | Self::Softplus => (0.0, 0.0),
        }
    }

    /// Whether the function takes `alpha`, and whether it takes `beta`.
    pub fn takes(self) -> (bool, bool) {
        match self {
            Self::Affine { .. } | Self::ScaledTanh { .. } | Self::HardSigmoid { .. } => (true, true),
            Self::LeakyRelu { .. } | Self::ThresholdedRelu { .. } | Self::Elu { .. } => (true, false),
            Self::Sigmoid | Self::Tanh | Self::Relu | Self::Softsign | Self::Softplus => (false, false),
        }
    }

    /// Whether the result stays within fixed bounds, whatever the argument.
    pub fn is_bounded(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Tanh | Self::ScaledTanh { .. } | Self::HardSigmoid { .. } | Self::Softsign)
    }

    /// The same function with `new_alpha` and `new_beta` in place of those parameters that it takes.
    #[must_use]
    pub fn with_parameters(self, new_alpha: f32, new_beta: f32) -> Self {
        match self {
            Self::Affine { .. } => Self::Affine { alpha: new_alpha, beta: new_beta },
            Self::ScaledTanh { .. } => Self::ScaledTanh { alpha: new_alpha, beta: new_beta },
            Self::HardSigmoid { .. } => Self::HardSigmoid { alpha: new_alpha, beta: new_beta },
            Self::LeakyRelu { .. } => Self::LeakyRelu { alpha: new_alpha },
            Self::ThresholdedRelu { .. } => Self::ThresholdedRelu { alpha: new_alpha },
            Self::Elu { .. } => Self::Elu { alpha: new_alpha },
            plain => plain,
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alpha, beta) = self.parameters();
        match self.takes() {
            (true, true) => write!(f, "{}({alpha}, {beta})", self.name()),
            (true, false) => write!(f, "{}({alpha})", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

/// The three activations of one direction: ONNX's `f`, `g` and `h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellActivations {
    /// of the input, forget and output gates (ONNX `f`)
    pub gate: Activation,
    /// of the cell candidate (ONNX `g`)
    pub candidate: Activation,
    /// of the cell state on its way out (ONNX `h`)
    pub output: Activation,
}

impl Default for CellActivations {
    /// Sigmoid, tanh, tanh.
    fn default() -> Self {
        Self { gate: Activation::Sigmoid, candidate: Activation::Tanh, output: Activation::Tanh }
    }
}
