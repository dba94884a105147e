//! The memory of a block of rows on its way through a stack, used again from call to call.

use ndarray::{ArrayView3, ArrayViewMut3};

use super::Stack;
use crate::cpu::panels::Aligned;

/// Sizes that the arrays of a block follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// rows of the block
    pub(super) rows: usize,
    /// steps whose input product is made at once
    pub(super) chunk: usize,
    /// chunks of the longest row
    pub(super) num_chunks: usize,
}

/// Everything that one thread needs for a block.
#[derive(Default)]
pub(super) struct Scratch {
    /// the block's rows, longest first
    pub(super) order: Vec<usize>,
    /// their lengths
    pub(super) lens: Vec<usize>,
    pub(super) cells: Vec<CellScratch>,
    /// outputs of cells, chunk by chunk: `[steps, rows, stride]`. [`Stack::outputs_of`] says whose are where.
    pub(super) outputs: Vec<Vec<Aligned<f32>>>,
    pub(super) gates: Vec<Gates>,
    /// input of a chunk: `[steps and rows, I]`
    pub(super) input: Aligned<f32>,
}

/// What belongs to one cell.
#[derive(Default)]
pub(super) struct CellScratch {
    /// hidden states where a chunk starts: `[rows, stride]`
    pub(super) h: Aligned<f32>,
    /// cell states: `[panels, rows, lanes]`
    pub(super) c: Aligned<f32>,
    /// hidden states before projection: `[rows, panels, lanes]`
    pub(super) hidden: Aligned<f32>,
}

/// Sums of a chunk that are made in advance.
#[derive(Default)]
pub(super) struct Gates {
    /// `[panels, steps and rows, 4, lanes]`
    pub(super) sums: Aligned<f32>,
    /// the first row of every step
    pub(super) starts: Vec<usize>,
}

impl Stack {
    /// Makes room in `scratch`; `at_once` cells are in work at the same time.
    pub(super) fn make_room(&self, scratch: &mut Scratch, shape: Shape, at_once: usize) {
        let Shape { rows, chunk, .. } = shape;
        let wide = self.wide_hidden();
        let (kept, dirs) = (self.kept_outputs(shape), self.config.num_directions());
        scratch.cells.resize_with(self.cells.len(), CellScratch::default);
        for cell in &mut scratch.cells {
            cell.h.make_room(rows * self.stride());
            cell.c.make_room(rows * wide);
            if self.config.proj_size.is_some() {
                cell.hidden.make_room(rows * wide);
            }
        }
        scratch.outputs.resize_with(if dirs > 1 { self.cells.len().min(2 * dirs) } else { self.cells.len() }, Vec::new);
        for outputs in &mut scratch.outputs {
            if outputs.len() < kept {
                outputs.resize_with(kept, Aligned::default);
            }
            outputs[..kept].iter_mut().for_each(|outputs| outputs.make_room(chunk * rows * self.stride()));
        }
        if scratch.gates.len() < at_once {
            scratch.gates.resize_with(at_once, Gates::default);
        }
        scratch.gates.iter_mut().for_each(|gates| gates.sums.make_room(chunk * rows * 4 * wide));
        let widest = (0..self.config.num_layers).map(|layer| self.config.layer_input_size(layer)).max().unwrap_or(0);
        scratch.input.make_room(chunk * rows * widest);
    }

    /// Where the outputs of a cell lie. Layers that keep all of theirs have two places in turns: a layer reads the one below alone.
    pub(super) fn outputs_of(&self, number: usize) -> usize {
        let dirs = self.config.num_directions();
        if dirs > 1 { number % (2 * dirs) } else { number }
    }

    /// Chunks whose outputs a cell keeps: those of a whole layer where the next one walks the other way, too.
    pub(super) fn kept_outputs(&self, shape: Shape) -> usize {
        if self.config.num_directions() > 1 { shape.num_chunks } else { 2 }
    }

    /// Brings the states `h [L*D, N, R]` and `c [L*D, N, H]` of a block in the order of `scratch`.
    pub(super) fn read_state(&self, scratch: &mut Scratch, h: &ArrayView3<'_, f32>, c: &ArrayView3<'_, f32>) {
        let (rows, lanes, stride) = (scratch.order.len(), self.lanes, self.stride());
        for (number, cell) in scratch.cells.iter_mut().enumerate() {
            for (row, &n) in scratch.order.iter().enumerate() {
                for (to, &from) in cell.h[row * stride..].iter_mut().zip(h.slice(ndarray::s![number, n, ..])) {
                    *to = from;
                }
                // what no unit is in had better not become subnormal over the calls
                let last = ((self.wide_hidden() / lanes - 1) * rows + row) * lanes;
                cell.c[last..last + lanes].fill(0.0);
                for (unit, &from) in c.slice(ndarray::s![number, n, ..]).iter().enumerate() {
                    cell.c[(unit / lanes * rows + row) * lanes + unit % lanes] = from;
                }
            }
        }
    }

    /// Brings the states back.
    pub(super) fn write_state(&self, scratch: &Scratch, h: &mut ArrayViewMut3<'_, f32>, c: &mut ArrayViewMut3<'_, f32>) {
        let (rows, lanes, stride) = (scratch.order.len(), self.lanes, self.stride());
        for (number, cell) in scratch.cells.iter().enumerate() {
            for (row, &n) in scratch.order.iter().enumerate() {
                for (to, &from) in h.slice_mut(ndarray::s![number, n, ..]).iter_mut().zip(&cell.h[row * stride..]) {
                    *to = from;
                }
                for (unit, to) in c.slice_mut(ndarray::s![number, n, ..]).iter_mut().enumerate() {
                    *to = cell.c[(unit / lanes * rows + row) * lanes + unit % lanes];
                }
            }
        }
    }
}
