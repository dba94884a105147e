//! Sums of products with constant matrices, and activations of such: what the gates of a cell are made of.
//!
//! A form is symbolic: it names matrices and says which part of them, and nothing is multiplied.

use crate::formats::onnx::graph::Node;
use crate::formats::onnx::proto::AttributeKind;
use crate::network::Activation;

/// More parts than any cell has.
pub(super) const MAX_PARTS: usize = 16;

/// One place on an axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Number(i64),
    /// the element of a tensor
    Tensor(String),
}

/// What is at one place on an axis of a tensor; the axis is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) tensor: String,
    pub(super) axis: usize,
    pub(super) at: Place,
}

/// What is multiplied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Tensor(String),
    Pick(Pick),
}

/// A part of a constant: of a matrix, or without a source of a vector of biases.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) source: Option<Source>,
    pub(super) constant: String,
    /// whether the constant is `[outputs, inputs]`
    pub(super) turned: bool,
    pub(super) first_input: usize,
    pub(super) inputs: usize,
    pub(super) first_output: usize,
    pub(super) scale: f32,
}

/// The sum of all parts and of `offset`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) parts: Vec<Part>,
    pub(super) offset: f32,
    /// size of the last axis
    pub(super) width: usize,
}

impl Form {
    pub(super) fn plus(&self, other: &Self) -> Option<Self> {
        let parts = [self.parts.as_slice(), &other.parts].concat();
        (self.width == other.width && parts.len() <= MAX_PARTS).then_some(Self { parts, offset: self.offset + other.offset, width: self.width })
    }

    pub(super) fn times(&self, factor: f32) -> Self {
        let parts = self.parts.iter().map(|part| Part { scale: part.scale * factor, ..part.clone() }).collect();
        Self { parts, offset: self.offset * factor, width: self.width }
    }

    pub(super) fn columns(&self, first: usize, width: usize) -> Option<Self> {
        let fits = width > 0 && first.checked_add(width)? <= self.width;
        let parts = self.parts.iter().map(|part| Part { first_output: part.first_output + first, ..part.clone() }).collect();
        fits.then_some(Self { parts, offset: self.offset, width })
    }
}

/// An activation of a form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gate {
    pub(super) form: Form,
    pub(super) activation: Activation,
}

/// `factor * clip(form, 0, bound)`, which is a hard sigmoid where it reaches up to 1.
pub(super) fn hard_sigmoid(form: &Form, bound: f32, factor: f32) -> Option<Gate> {
    /// what rounding leaves of a sixth times six
    const ROUNDING: f32 = 1e-6;
    /// that of the operator
    const BETA: f32 = 0.5;
    if (factor * bound - 1.0).abs() > ROUNDING {
        return None;
    }
    let mut scales = form.parts.iter().filter(|part| part.source.is_some()).map(|part| part.scale);
    let scale = scales.next().filter(|&scale| scale > 0.0 && scales.all(|other| other == scale)).unwrap_or(1.0);
    let alpha = factor * scale;
    let plain = form.times(1.0 / scale);
    let offset = plain.offset - BETA / alpha;
    let offset = if offset.abs() <= ROUNDING * (BETA / alpha) { 0.0 } else { offset };
    let parts = plain.parts.iter().zip(&form.parts);
    let parts = parts.map(|(part, old)| Part { scale: if old.scale == scale { 1.0 } else { part.scale }, ..part.clone() }).collect();
    Some(Gate { form: Form { parts, offset, width: form.width }, activation: Activation::HardSigmoid { alpha, beta: BETA } })
}

/// The activation that the node is, if an LSTM has it.
pub(super) fn activation(node: &Node) -> Option<Activation> {
    let known = ["Sigmoid", "Tanh", "Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"];
    let activation = known.contains(&node.proto.op_type.as_str()).then(|| Activation::from_onnx(&node.proto.op_type))??;
    let (mut alpha, mut beta) = activation.parameters();
    for attribute in &node.proto.attribute {
        attribute.expect(AttributeKind::Float, "a float").ok()?;
        match attribute.name.as_str() {
            "alpha" => alpha = attribute.f,
            "beta" => beta = attribute.f,
            _ => return None,
        }
    }
    Some(activation.with_parameters(alpha, beta))
}
