//! Lookups, linear layers and functions of rows: blocks of rows on the threads of the current rayon pool.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, Axis, s};
use rayon::prelude::*;

use super::lanes::rows::{log_softmax_row, map_slice, softmax_row};
use super::pack::transposed;
use crate::network::{DenseStage, Embedding, Linear, RowFunction};

/// Rows that one thread multiplies at once: enough for the weights to be read once for many, few enough to stay in its cache.
const BLOCK_ROWS: usize = 32;

/// A stage around the LSTMs with its weights packed for this backend.
pub(crate) enum CpuDense {
    /// by id
    Embedding(Embedding),
    /// a linear layer and a function of its rows
    Linear(Packed, RowFunction),
    /// a function alone
    Function(RowFunction),
}

/// A linear layer as this backend multiplies it.
pub(crate) struct Packed {
    /// `[I, F]`
    weight: Array2<f32>,
    /// `[F]`, zeros where there is none
    bias: Array1<f32>,
}

impl CpuDense {
    /// Packs the weights.
    pub(crate) fn new(stage: &DenseStage) -> Self {
        let packed = |linear: &Linear| Packed {
            weight: transposed(linear.weight()),
            bias: linear.bias().cloned().unwrap_or_else(|| Array1::zeros(linear.out_features())),
        };
        match stage {
            DenseStage::Embedding(embedding) => Self::Embedding(embedding.clone()),
            DenseStage::Linear(linear, function) => Self::Linear(packed(linear), *function),
            DenseStage::Function(function) => Self::Function(*function),
        }
    }

    /// The vectors of `ids`, all of them in range, into `y [.., E]`.
    pub(crate) fn embed(&self, ids: &ArrayViewD<'_, u32>, mut y: ArrayViewMutD<'_, f32>) {
        let Self::Embedding(embedding) = self else { unreachable!("a caller has seen what stage it is") };
        for (&id, mut y) in ids.iter().zip(y.rows_mut()) {
            y.assign(&embedding.table().row(id as usize));
        }
    }

    /// The stage's rows of features, `[.., F]` from `x [.., I]`, into `y`.
    pub(crate) fn run(&self, x: &ArrayViewD<'_, f32>, mut y: ArrayViewMutD<'_, f32>) {
        let features = x.shape().last().copied().unwrap_or(1);
        let rows = x.len() / features.max(1);
        let x = x.as_standard_layout();
        let x = x.view().into_shape_with_order((rows, features)).expect("a row-major array can be regrouped");
        let out = y.shape().last().copied().unwrap_or(1);
        let mut made = Array2::zeros((rows, out));
        let blocks = x.axis_chunks_iter(Axis(0), BLOCK_ROWS).into_par_iter().zip(made.axis_chunks_iter_mut(Axis(0), BLOCK_ROWS));
        blocks.for_each(|(x, y)| self.run_block(x, y));
        y.iter_mut().zip(&made).for_each(|(y, made)| *y = *made);
    }

    fn run_block(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
        let function = match self {
            Self::Linear(Packed { weight, bias }, function) => {
                y.assign(bias);
                general_mat_mul(1.0, &x, weight, 1.0, &mut y.slice_mut(s![.., ..]));
                *function
            }
            Self::Function(function) => {
                y.assign(&x);
                *function
            }
            Self::Embedding(_) => unreachable!("a caller has seen what stage it is"),
        };
        for mut row in y.rows_mut() {
            row_function(row.as_slice_mut().expect("results are row-major"), function);
        }
    }
}

/// As the reference has it, in place and in float32.
fn row_function(row: &mut [f32], function: RowFunction) {
    match function {
        RowFunction::None => {}
        RowFunction::Activation(activation) => map_slice(activation, row),
        RowFunction::Softmax => softmax_row(row),
        RowFunction::LogSoftmax => log_softmax_row(row),
    }
}
