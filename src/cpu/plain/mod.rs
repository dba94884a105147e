//! Stacks in plain loops and [`ndarray`]'s products, row by row: layer-normalised ones, and those that need float64.
//!
//! The arithmetic of stacks whose rounding errors grow from step to step ([`LstmConfig::amplifies_rounding`]) is float64 within a step.

pub(super) mod activation;
mod cell;
mod pack;
mod real;
mod walk;

use ndarray::{Array2, ArrayRef, ArrayView3, ArrayViewMut, ArrayViewMut3, ArrayViewMut4, Axis, Dimension, s};
use rayon::prelude::*;

use crate::network::{Lstm, LstmCall, LstmConfig, LstmState};
use pack::{PackedCell, pack, row_major};
use real::Real;
use walk::Walk;

/// Fewer rows in a block would be slower than more on one thread: every block goes through all weights at every step.
const MIN_BLOCK_ROWS: usize = 4;

/// Blocks of rows in which a call runs, a thread each.
pub(super) fn blocks(batch: usize, threads: usize) -> usize {
    batch.div_ceil(block_rows(batch, threads))
}

fn block_rows(batch: usize, threads: usize) -> usize {
    batch.div_ceil(threads.max(1)).max(MIN_BLOCK_ROWS)
}

/// A stack with its weights packed, as wide as its arithmetic.
pub(super) struct Stack<E> {
    config: LstmConfig,
    cells: Vec<PackedCell<E>>,
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

impl<E: Real> Stack<E> {
    /// Packs the weights.
    pub(super) fn new(lstm: &Lstm) -> Self {
        Self { config: lstm.config().clone(), cells: pack(lstm) }
    }

    /// Runs the stack from `state`, which is left as it is after each row's last step, and writes `y [T, N, D, R]` where it is wanted.
    pub(super) fn run(&self, call: &LstmCall<'_>, state: &mut LstmState, mut y: Option<ArrayViewMut4<'_, f32>>) {
        let batch = call.batch();
        let rows = block_rows(batch, rayon::current_num_threads());
        let parts = state.h.axis_chunks_iter_mut(Axis(1), rows).zip(state.c.axis_chunks_iter_mut(Axis(1), rows));
        let mut y_parts = y.as_mut().map(|y| y.axis_chunks_iter_mut(Axis(1), rows));
        let blocks = parts.enumerate().map(|(number, (h, c))| {
            let first = number * rows;
            let end = first + h.len_of(Axis(1));
            let y = y_parts.as_mut().and_then(Iterator::next);
            Block { x: call.x.slice(s![.., first..end, ..]), lens: (first..end).map(|n| call.len(n)).collect(), h, c, y }
        });
        let blocks: Vec<_> = blocks.collect();
        blocks.into_par_iter().for_each(|block| self.run_block(block));
    }

    /// Every layer in turn, over the steps that any row of the block has.
    fn run_block(&self, block: Block<'_>) {
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
            let jobs: Vec<_> = self.cells[numbers].iter().zip(states).enumerate().collect();
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
