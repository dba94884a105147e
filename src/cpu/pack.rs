//! The weights of a cell as this backend multiplies them: transposed, biases summed.

use ndarray::{Array1, Array2};

use crate::network::{CellActivations, CellWeights, GATES, LayerNormWeights, LstmConfig};

/// One layer and direction, ready to run.
pub(super) struct PackedCell {
    /// `[I, 4H]`
    pub(super) weight_ih: Array2<f32>,
    /// `[R, 4H]`
    pub(super) weight_hh: Array2<f32>,
    /// `[4H]`, `bias_ih + bias_hh`; zeros where there are none
    pub(super) bias: Array1<f32>,
    /// `[H, P]`
    pub(super) weight_hr: Option<Array2<f32>>,
    /// `[3, H]`: the rows are the peepholes of the gates i, f, o
    pub(super) peepholes: Option<Array2<f32>>,
    /// scales, offsets, and epsilon
    pub(super) layer_norm: Option<(LayerNormWeights, f32)>,
    /// this direction's
    pub(super) activations: CellActivations,
    /// whether the forget gate is `1 - i`
    pub(super) input_forget: bool,
    /// bound on the pre-activations
    pub(super) clip: Option<f32>,
    /// bound on the new cell state
    pub(super) cell_clip: Option<f32>,
    /// bound on the projected hidden state
    pub(super) proj_clip: Option<f32>,
}

impl PackedCell {
    /// Packs the weights of direction `dir`.
    pub(super) fn new(config: &LstmConfig, weights: &CellWeights, dir: usize) -> Self {
        Self {
            weight_ih: transposed(&weights.weight_ih),
            weight_hh: transposed(&weights.weight_hh),
            bias: weights.bias_sum(),
            weight_hr: weights.weight_hr.as_ref().map(transposed),
            peepholes: weights.peepholes.as_ref().map(|peepholes| peepholes.as_standard_layout().into_owned()),
            layer_norm: weights.layer_norm.clone().zip(config.layer_norm),
            activations: config.activations[dir],
            input_forget: config.input_forget,
            clip: config.clip,
            cell_clip: config.cell_clip,
            proj_clip: config.proj_clip,
        }
    }

    /// H
    pub(super) fn hidden_size(&self) -> usize {
        self.bias.len() / GATES
    }

    /// R
    pub(super) fn out_size(&self) -> usize {
        self.weight_hh.nrows()
    }
}

/// The transposed matrix, row-major.
fn transposed(matrix: &Array2<f32>) -> Array2<f32> {
    matrix.t().as_standard_layout().into_owned()
}
