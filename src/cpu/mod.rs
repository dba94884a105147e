//! The CPU backend: packed weights, blocks of rows on the threads of the current rayon pool.
//!
//! The arithmetic is float32; that of stacks whose rounding errors grow from step to step
//! ([`LstmConfig::amplifies_rounding`](crate::LstmConfig::amplifies_rounding)) is float64 within a step. Between two steps every state is
//! float32, so that a sequence may be cut anywhere.
//!
//! A row's result is the same bits whatever the other rows, their number, and the number of threads: every product sums over its inner
//! axis in an order that depends on that axis alone, and everything else is row by row.

mod activation;
mod cell;
pub(crate) mod cost;
mod dense;
mod lanes;
mod pack;
mod real;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use ndarray::{Array2, ArrayRef, ArrayView3, ArrayViewMut, ArrayViewMut3, ArrayViewMut4, Axis, Dimension, s};
use rayon::prelude::*;

use crate::network::{Lstm, LstmCall, LstmConfig, LstmState};
pub(crate) use dense::CpuDense;
use pack::{PackedCell, pack, row_major};
use real::Real;
use walk::Walk;

/// Fewer rows in a block would be slower than more on one thread: every block goes through all weights at every step.
const MIN_BLOCK_ROWS: usize = 4;

/// A stack with its weights packed for this backend.
pub(crate) struct CpuLstm {
    config: LstmConfig,
    cells: Cells,
}

/// The cells of a stack, as wide as its arithmetic.
enum Cells {
    Single(Vec<PackedCell<f32>>),
    Double(Vec<PackedCell<f64>>),
}

/// Rows of a call that go through the whole stack together.
struct Block<'a> {
    /// `[T, N, I]`
    x: ArrayView3<'a, f32>,
    /// `[N]`
    lens: Vec<usize>,
    /// `[L*D, N, R]`
    h: ArrayViewMut3<'a, f32>,
    /// `[L*D, N, H]`
    c: ArrayViewMut3<'a, f32>,
    /// `[T, N, D, R]`, where it is wanted
    y: Option<ArrayViewMut4<'a, f32>>,
}

impl CpuLstm {
    /// Packs the weights.
    #[expect(clippy::needless_pass_by_value, reason = "every backend takes its share of the weights; this one keeps none after packing")]
    pub(crate) fn new(lstm: Arc<Lstm>) -> Self {
        let config = lstm.config().clone();
        let cells = if config.amplifies_rounding() { Cells::Double(pack(&lstm)) } else { Cells::Single(pack(&lstm)) };
        Self { config, cells }
    }

    /// Runs the stack from `state`, which is left as it is after each row's last step, and writes `y [T, N, D, R]` where it is wanted.
    pub(crate) fn run(&self, call: &LstmCall<'_>, state: &mut LstmState, mut y: Option<ArrayViewMut4<'_, f32>>) {
        let batch = call.batch();
        let rows = batch.div_ceil(rayon::current_num_threads()).max(MIN_BLOCK_ROWS);
        let parts = state.h.axis_chunks_iter_mut(Axis(1), rows).zip(state.c.axis_chunks_iter_mut(Axis(1), rows));
        let mut y_parts = y.as_mut().map(|y| y.axis_chunks_iter_mut(Axis(1), rows));
        let blocks = parts.enumerate().map(|(number, (h, c))| {
            let first = number * rows;
            let end = first + h.len_of(Axis(1));
            let y = y_parts.as_mut().and_then(Iterator::next);
            Block { x: call.x.slice(s![.., first..end, ..]), lens: (first..end).map(|n| call.len(n)).collect(), h, c, y }
        });
        let blocks: Vec<_> = blocks.collect();
        match &self.cells {
            Cells::Single(cells) => blocks.into_par_iter().for_each(|block| self.run_block(cells, block)),
            Cells::Double(cells) => blocks.into_par_iter().for_each(|block| self.run_block(cells, block)),
        }
    }

    /// Every layer in turn, over the steps that any row of the block has.
    fn run_block<E: Real>(&self, cells: &[PackedCell<E>], block: Block<'_>) {
        let Block { x, lens, h: h_block, c: c_block, y } = block;
        let (rows, dirs, out) = (lens.len(), self.config.num_directions(), self.config.out_size());
        let seq_len = lens.iter().copied().max().unwrap_or(0);
        let mut input = flat(x.slice(s![..seq_len, .., ..]));
        let (mut h, mut c) = (row_major::<E, _>(h_block.view()), row_major::<E, _>(c_block.view()));
        for layer in 0..self.config.num_layers {
            let mut output = Array2::zeros((seq_len * rows, self.config.y_size()));
            let walk = Walk { input: input.view(), lens: &lens, seq_len };
            let numbers = layer * dirs..(layer + 1) * dirs;
            let (mut h, mut c) = (h.slice_mut(s![numbers.clone(), .., ..]), c.slice_mut(s![numbers.clone(), .., ..]));
            let states = h.outer_iter_mut().zip(c.outer_iter_mut()).zip(output.axis_chunks_iter_mut(Axis(1), out));
            let jobs: Vec<_> = cells[numbers].iter().zip(states).enumerate().collect();
            jobs.into_par_iter().for_each(|(dir, (cell, ((h, c), y)))| cell.walk(walk, self.config.is_reversed(dir), h, c, y));
            input = output;
        }
        narrow(h_block, &h);
        narrow(c_block, &c);
        let Some(mut y) = y else { return };
        let output = input.into_shape_with_order((seq_len, rows, dirs, out)).expect("a row-major array can be regrouped");
        narrow(y.slice_mut(s![..seq_len, .., .., ..]), &output);
        y.slice_mut(s![seq_len.., .., .., ..]).fill(0.0);
    }
}

/// `[T*N, I]`, row `t * N + n`.
fn flat<E: Real>(x: ArrayView3<'_, f32>) -> Array2<E> {
    let (seq_len, rows, features) = x.dim();
    row_major(x).into_shape_with_order((seq_len * rows, features)).expect("a row-major array can be regrouped")
}

/// Writes float32 values back as what they are.
fn narrow<E: Real, D: Dimension>(mut to: ArrayViewMut<'_, f32, D>, from: &ArrayRef<E, D>) {
    to.zip_mut_with(from, |to, from| *to = from.narrow());
}
