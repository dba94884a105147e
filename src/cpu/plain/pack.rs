//! The weights of a cell as this backend multiplies them: transposed, biases summed, as wide as the arithmetic.

use ndarray::{Array, Array1, Array2, ArrayView, Dimension};

use super::real::Real;
use crate::network::{CellActivations, CellWeights, GATES, Lstm, LstmConfig};

/// One layer and direction, ready to run.
pub(super) struct PackedCell<E> {
    /// `[I, 4H]`
    pub(super) weight_ih: Array2<E>,
    /// `[R, 4H]`
    pub(super) weight_hh: Array2<E>,
    /// `[4H]`, `bias_ih + bias_hh`; zeros where there are none
    pub(super) bias: Array1<E>,
    /// `[H, P]`
    pub(super) weight_hr: Option<Array2<E>>,
    /// `[3, H]`: the rows are the peepholes of the gates i, f, o
    pub(super) peepholes: Option<Array2<E>>,
    pub(super) layer_norm: Option<PackedNorm<E>>,
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

/// The layer normalisation of a cell.
pub(super) struct PackedNorm<E> {
    /// `[4H]`
    pub(super) gamma_ih: Array1<E>,
    /// `[4H]`
    pub(super) gamma_hh: Array1<E>,
    /// `[H]`
    pub(super) gamma_c: Array1<E>,
    /// `[H]`
    pub(super) beta_c: Array1<E>,
    /// added to the variance
    pub(super) epsilon: f32,
}

/// Every cell of a stack; cell `(layer, dir)` is number `layer * D + dir`.
pub(super) fn pack<E: Real>(lstm: &Lstm) -> Vec<PackedCell<E>> {
    let (config, dirs) = (lstm.config(), lstm.config().num_directions());
    (0..config.num_cells()).map(|number| PackedCell::new(config, lstm.cell(number / dirs, number % dirs), number % dirs)).collect()
}

impl<E: Real> PackedCell<E> {
    /// Packs the weights of direction `dir`.
    fn new(config: &LstmConfig, weights: &CellWeights, dir: usize) -> Self {
        Self {
            weight_ih: transposed(&weights.weight_ih),
            weight_hh: transposed(&weights.weight_hh),
            bias: weights.bias_sum().mapv(E::nearest),
            weight_hr: weights.weight_hr.as_ref().map(transposed),
            peepholes: weights.peepholes.as_ref().map(|peepholes| row_major(peepholes.view())),
            layer_norm: weights.layer_norm.as_ref().zip(config.layer_norm).map(|(norm, epsilon)| PackedNorm {
                gamma_ih: norm.gamma_ih.mapv(E::widen),
                gamma_hh: norm.gamma_hh.mapv(E::widen),
                gamma_c: norm.gamma_c.mapv(E::widen),
                beta_c: norm.beta_c.mapv(E::widen),
                epsilon,
            }),
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
pub(super) fn transposed<E: Real>(matrix: &Array2<f32>) -> Array2<E> {
    row_major(matrix.t())
}

/// A row-major copy.
pub(super) fn row_major<E: Real, D: Dimension>(array: ArrayView<'_, f32, D>) -> Array<E, D> {
    let mut copy = Array::zeros(array.raw_dim());
    copy.zip_mut_with(&array, |copy, &value| *copy = E::widen(value));
    copy
}
