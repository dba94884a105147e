//! Lookups, linear layers and functions of rows: blocks of rows on the threads of the current rayon pool.

use std::sync::Mutex;

use ndarray::{Array2, ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, Axis};
use rayon::prelude::*;

use super::lanes::rows::{log_softmax_row, map_slice, softmax_row};
use super::lock;
use super::panels::{Aligned, Columns, Panels, Rows, Sums, multiply};
use crate::network::{DenseStage, Embedding, Linear, Precision, RowFunction};

/// Most rows that one thread multiplies at once: enough for the weights to be read once for many, few enough to stay in its cache.
const BLOCK_ROWS: usize = 48;

/// Fewest rows that a thread is given where there are several: a tile.
const TILE_ROWS: usize = 6;

/// Multiplications of a call that one thread has done before another has begun.
const SMALL_CALL: usize = 1 << 19;

/// What a function of a value takes, in multiplications of a product.
const FUNCTION_WORK: usize = 64;

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
    weight: Panels,
    /// in the order of the panels, zeros where there is none
    bias: Aligned<f32>,
    /// sums of earlier calls
    spare: Mutex<Vec<Aligned<f32>>>,
}

impl Packed {
    fn new(linear: &Linear, precision: Precision) -> Self {
        let columns = Columns::Plain { outputs: linear.out_features() };
        let bias = linear.bias().map_or_else(|| columns.place(|_| 0.0), |bias| columns.place(|row| bias[row]));
        Self { weight: Panels::new(linear.weight(), columns, precision), bias, spare: Mutex::default() }
    }

    /// `weight @ x + bias` for some rows.
    fn run(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
        let (rows, stride) = (x.nrows(), self.bias.len());
        let mut sums = lock(&self.spare).pop().unwrap_or_default();
        sums.make_room(rows * stride);
        sums.chunks_exact_mut(stride.max(1)).take(rows).for_each(|sums| sums.copy_from_slice(&self.bias));
        let x = Rows { data: x.as_slice().expect("inputs are row-major"), stride: x.ncols(), count: rows };
        multiply(&self.weight, 0..self.weight.count(), false, x, &mut sums, Sums { row_stride: stride, panel_stride: self.weight.width() });
        for (mut y, sums) in y.rows_mut().into_iter().zip(sums.chunks_exact(stride.max(1))) {
            y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum);
        }
        lock(&self.spare).push(sums);
    }
}

impl CpuDense {
    /// Packs the weights, stored as `precision` says.
    pub(crate) fn new(stage: &DenseStage, precision: Precision) -> Self {
        match stage {
            DenseStage::Embedding(embedding) => Self::Embedding(embedding.clone()),
            DenseStage::Linear(linear, function) => Self::Linear(Packed::new(linear, precision), *function),
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
        if let Some(y) = y.as_slice_mut() {
            let y = ArrayViewMut2::from_shape((rows, out), y).expect("as many results as there are");
            return self.run_rows(x, y);
        }
        let mut made = Array2::zeros((rows, out));
        self.run_rows(x, made.view_mut());
        y.iter_mut().zip(&made).for_each(|(y, made)| *y = *made);
    }

    fn run_rows(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
        let work = match self {
            Self::Linear(..) => x.len().saturating_mul(y.ncols()),
            _ => x.len().saturating_mul(FUNCTION_WORK),
        };
        let threads = if work < SMALL_CALL { 1 } else { rayon::current_num_threads() };
        let rows = x.nrows().div_ceil(threads).clamp(TILE_ROWS, BLOCK_ROWS);
        let blocks = || x.axis_chunks_iter(Axis(0), rows);
        if threads == 1 {
            blocks().zip(y.axis_chunks_iter_mut(Axis(0), rows)).for_each(|(x, y)| self.run_block(x, y));
        } else {
            blocks().into_par_iter().zip(y.axis_chunks_iter_mut(Axis(0), rows)).for_each(|(x, y)| self.run_block(x, y));
        }
    }

    fn run_block(&self, x: ArrayView2<'_, f32>, mut y: ArrayViewMut2<'_, f32>) {
        let function = match self {
            Self::Linear(packed, function) => {
                packed.run(x, y.view_mut());
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
