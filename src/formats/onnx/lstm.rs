//! One ONNX `LSTM` node: its attributes, and its weights in this crate's order.
//!
//! ONNX keeps the gates in the order i, o, f, c (its c is this crate's g) and the peepholes in the order i, o, f.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array, Array2, ArrayView, ArrayView2, ArrayView3, ArrayViewD, Axis, Dimension, RemoveAxis};

use super::proto::NodeProto;
use crate::error::{Error, Result};
use crate::network::{Activation, CellActivations, CellWeights, Direction, Layout, Lstm, LstmConfig};
use crate::tensor::TensorView;

/// Where the gates i, f, g, o stand among ONNX's i, o, f, c.
const GATE_BLOCKS: [usize; 4] = [0, 2, 3, 1];

/// Where the peepholes i, f, o stand among ONNX's i, o, f.
const PEEPHOLE_BLOCKS: [usize; 3] = [0, 2, 1];

/// The opset that gave the operator its attribute `layout`.
const LAYOUT_OPSET: i64 = 14;

/// What the attributes of an `LSTM` node say; the other sizes come with its weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LstmAttributes {
    /// H, where the node says it
    pub(super) hidden_size: Option<usize>,
    pub(super) direction: Direction,
    pub(super) layout: Layout,
    activations: [CellActivations; 2],
    clip: Option<f32>,
    input_forget: bool,
}

/// A tensor's name in the model and its elements.
pub(super) type Named<'a> = (&'a str, ArrayViewD<'a, f32>);

/// The weights of a node as ONNX has them, each with its name in the model.
pub(super) struct OnnxWeights<'a> {
    /// `[D, 4H, I]`
    pub(super) w: Named<'a>,
    /// `[D, 4H, H]`
    pub(super) r: Named<'a>,
    /// `[D, 8H]`: biases of the inputs, then of the recurrence
    pub(super) b: Option<Named<'a>>,
    /// `[D, 3H]`
    pub(super) p: Option<Named<'a>>,
}

/// An `LSTM` node whose weights are tensors of the call, or some of the call and some of the file.
#[derive(Clone, Debug)]
pub(crate) struct RunTimeWeights {
    pub(super) attributes: LstmAttributes,
    pub(super) w: String,
    pub(super) r: String,
    pub(super) b: Option<String>,
    pub(super) p: Option<String>,
}

impl RunTimeWeights {
    /// Names of the tensors that hold the weights.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.w), Some(&self.r), self.b.as_ref(), self.p.as_ref()].into_iter().flatten().map(String::as_str)
    }

    /// The stack that these tensors make, in this crate's gate order.
    pub(crate) fn resolve(&self, tensors: &BTreeMap<&str, TensorView<'_>>) -> Result<Lstm> {
        let find =
            |name: &str| tensors.get(name).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected the weights of an LSTM, found none")));
        let optional = |name: &Option<String>| name.as_ref().map(|name| find(name)).transpose();
        let (w, r, b, p) = (find(&self.w)?, find(&self.r)?, optional(&self.b)?, optional(&self.p)?);
        self.attributes.lstm(&OnnxWeights {
            w: (&self.w, w.float32(&self.w)?),
            r: (&self.r, r.float32(&self.r)?),
            b: self.b.as_deref().zip(b).map(|(name, b)| Ok((name, b.float32(name)?))).transpose()?,
            p: self.p.as_deref().zip(p).map(|(name, p)| Ok((name, p.float32(name)?))).transpose()?,
        })
    }
}

impl LstmAttributes {
    /// Reads the attributes of `node`; what a user should know about them goes to `notes`.
    pub(super) fn read(node: &NodeProto, opset: i64, notes: &mut Vec<String>) -> Result<Self> {
        let mut this = Self {
            hidden_size: None,
            direction: Direction::Forward,
            layout: Layout::OnnxTimeFirst,
            activations: [CellActivations::default(); 2],
            clip: None,
            input_forget: false,
        };
        let (mut names, mut alphas, mut betas): (&[Vec<u8>], &[f32], &[f32]) = (&[], &[], &[]);
        let mut seen = BTreeSet::new();
        for attribute in &node.attribute {
            if !seen.insert(&attribute.name) {
                return Err(attribute.refused("one of that name", "two"));
            }
            match attribute.name.as_str() {
                "activations" => names = attribute.strings()?,
                "activation_alpha" => alphas = attribute.floats()?,
                "activation_beta" => betas = attribute.floats()?,
                "clip" => this.clip = attribute.bound()?,
                "direction" => this.direction = attribute.direction()?,
                "hidden_size" => this.hidden_size = Some(attribute.size()?),
                "input_forget" => this.input_forget = attribute.flag()?,
                "layout" if opset < LAYOUT_OPSET => return Err(attribute.refused("opset 14 or newer", format!("opset {opset}"))),
                "layout" => this.layout = if attribute.flag()? { Layout::OnnxBatchFirst } else { Layout::OnnxTimeFirst },
                // A leftover of opset 1, which some exporters still write; which outputs there are follows from their names.
                "output_sequence" => {}
                _ => return Err(attribute.refused("an attribute of the operator LSTM", "one that it does not have")),
            }
        }
        let dirs = if this.direction == Direction::Bidirectional { 2 } else { 1 };
        this.activations = activations(names, alphas, betas, dirs, notes)?;
        Ok(this)
    }

    /// D
    pub(super) fn num_directions(&self) -> usize {
        if self.direction == Direction::Bidirectional { 2 } else { 1 }
    }

    /// Joins attributes and weights to a stack of one layer, in this crate's gate order.
    pub(super) fn lstm(&self, weights: &OnnxWeights<'_>) -> Result<Lstm> {
        const W_RULE: &str = "[num_directions, 4*hidden_size, input_size]";
        const R_RULE: &str = "[num_directions, 4*hidden_size, hidden_size]";
        let w: ArrayView3<'_, f32> = with_axes(&weights.w, W_RULE)?;
        let r: ArrayView3<'_, f32> = with_axes(&weights.r, R_RULE)?;
        let (dirs, input, hidden) = (self.num_directions(), w.dim().2, self.hidden_size.unwrap_or(r.dim().2));
        let mut config = LstmConfig::new(input, hidden);
        config.direction = self.direction;
        config.bias = weights.b.is_some();
        config.peepholes = weights.p.is_some();
        config.input_forget = self.input_forget;
        config.activations = self.activations;
        config.clip = self.clip;
        // Also bounds the sizes, so that their products below do not overflow.
        config.validate()?;
        expect(&weights.w, W_RULE, &[dirs, 4 * hidden, input])?;
        expect(&weights.r, R_RULE, &[dirs, 4 * hidden, hidden])?;
        let b = weights.b.as_ref().map(|b| matrix(b, "[num_directions, 8*hidden_size]", [dirs, 8 * hidden])).transpose()?;
        let p = weights.p.as_ref().map(|p| matrix(p, "[num_directions, 3*hidden_size]", [dirs, 3 * hidden])).transpose()?;
        let cell = |dir: usize| {
            let biases = b.map(|b| b.index_axis_move(Axis(0), dir).split_at(Axis(0), 4 * hidden));
            CellWeights {
                weight_ih: gates(w.index_axis(Axis(0), dir), hidden),
                weight_hh: gates(r.index_axis(Axis(0), dir), hidden),
                bias_ih: biases.map(|(bias_ih, _)| gates(bias_ih, hidden)),
                bias_hh: biases.map(|(_, bias_hh)| gates(bias_hh, hidden)),
                weight_hr: None,
                peepholes: p.map(|p| Array2::from_shape_fn((3, hidden), |(row, unit)| p[[dir, PEEPHOLE_BLOCKS[row] * hidden + unit]])),
                layer_norm: None,
            }
        };
        Lstm::new(config, (0..dirs).map(cell).collect())
    }
}

/// The rows of ONNX's gates, in the order i, f, g, o.
fn gates<D: RemoveAxis>(rows: ArrayView<'_, f32, D>, hidden: usize) -> Array<f32, D> {
    let order: Vec<usize> = GATE_BLOCKS.iter().flat_map(|block| block * hidden..(block + 1) * hidden).collect();
    rows.select(Axis(0), &order)
}

/// Checks the shape of a tensor; `rule` is the shape in words.
fn expect((name, tensor): &Named<'_>, rule: &str, expected: &[usize]) -> Result<()> {
    if tensor.shape() == expected {
        return Ok(());
    }
    Err(Error::shape(format!("tensor `{name}`: expected {rule} = {expected:?}, found {:?}", tensor.shape())))
}

/// A view with as many axes as `rule` names.
fn with_axes<'a, D: Dimension>((name, tensor): &'a Named<'_>, rule: &str) -> Result<ArrayView<'a, f32, D>> {
    let view = tensor.view().into_dimensionality();
    view.map_err(|_| Error::shape(format!("tensor `{name}`: expected {rule}, found {:?}", tensor.shape())))
}

/// A view of a tensor of the shape `expected`, which `rule` says in words.
fn matrix<'a>(tensor: &'a Named<'_>, rule: &str, expected: [usize; 2]) -> Result<ArrayView2<'a, f32>> {
    expect(tensor, rule, &expected)?;
    with_axes(tensor, rule)
}

/// The activations of both directions. `alphas` and `betas` are consumed in order, each only by a function that takes it.
fn activations(names: &[Vec<u8>], alphas: &[f32], betas: &[f32], dirs: usize, notes: &mut Vec<String>) -> Result<[CellActivations; 2]> {
    if !names.is_empty() && names.len() != 3 * dirs {
        return Err(Error::config(format!("attribute `activations`: expected 3 * num_directions = {} names, found {}", 3 * dirs, names.len())));
    }
    let mut functions = [Activation::Sigmoid, Activation::Tanh, Activation::Tanh].repeat(2);
    let (mut alphas, mut betas) = (alphas.iter(), betas.iter());
    for (function, name) in functions.iter_mut().zip(names) {
        let name = String::from_utf8_lossy(name);
        let named = Activation::from_onnx(&name)
            .ok_or_else(|| Error::config(format!("attribute `activations`: expected activations of the operator LSTM, found `{name}`")))?;
        let (alpha, beta) = named.parameters();
        let (takes_alpha, takes_beta) = named.takes();
        let alpha = if takes_alpha { alphas.next().copied().unwrap_or(alpha) } else { alpha };
        let beta = if takes_beta { betas.next().copied().unwrap_or(beta) } else { beta };
        *function = named.with_parameters(alpha, beta);
    }
    for (attribute, left) in [("activation_alpha", alphas.len()), ("activation_beta", betas.len())] {
        if left > 0 {
            notes.push(format!("attribute `{attribute}`: the last {left} values are ignored, no activation takes them"));
        }
    }
    let direction = |first: usize| CellActivations { gate: functions[first], candidate: functions[first + 1], output: functions[first + 2] };
    Ok([direction(0), direction(3)])
}
