//! One cell over time: the input product for many steps at once, then step by step the recurrent product and the rows.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::cell::{clamp, normalise};
use super::pack::PackedCell;
use super::real::Real;
use crate::network::GATES;

/// The pre-activations of the time steps that are in work at once take no more than this, unless a single step does.
const GATES_BYTES: usize = 16 << 20;

/// What all directions of a layer have in common, for a block of rows.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a, E> {
    /// `[T*N, I]`, row `t * N + n`
    pub(super) input: ArrayView2<'a, E>,
    /// `[N]`; a row's steps from its length on leave its state alone and give 0
    pub(super) lens: &'a [usize],
    /// T
    pub(super) seq_len: usize,
}

/// Memory of a walk, used again at every step.
struct Scratch<E> {
    /// `[chunk*N, 4H]`
    gates: Array2<E>,
    /// `[N, 4H]`: the recurrent product, where it is normalised by itself
    recurrent: Array2<E>,
    /// `[N, H]`
    hidden: Array2<E>,
    /// `[N, P]`
    projected: Array2<E>,
}

impl<E> Walk<'_, E> {
    fn rows(&self) -> usize {
        self.lens.len()
    }

    /// Rows of the input and of the output that belong to these steps.
    fn range(&self, steps: &Range<usize>) -> Range<usize> {
        steps.start * self.rows()..steps.end * self.rows()
    }
}

impl<E: Real> PackedCell<E> {
    /// Walks over all steps, backwards where `reversed`: updates `h [N, R]` and `c [N, H]`, writes `y [T*N, R]`, which must be zero before.
    pub(super) fn walk(&self, walk: Walk<'_, E>, reversed: bool, h: ArrayViewMut2<'_, E>, c: ArrayViewMut2<'_, E>, y: ArrayViewMut2<'_, E>) {
        let rows = walk.rows();
        let step_bytes = rows * self.bias.len() * size_of::<E>();
        let chunk = (GATES_BYTES / step_bytes.max(1)).clamp(1, walk.seq_len.max(1));
        let with_norm = if self.layer_norm.is_some() { rows } else { 0 };
        let scratch = Scratch {
            gates: Array2::zeros((chunk * rows, self.bias.len())),
            recurrent: Array2::zeros((with_norm, self.bias.len())),
            hidden: Array2::zeros((rows, self.hidden_size())),
            projected: Array2::zeros((rows, if self.weight_hr.is_some() { self.out_size() } else { 0 })),
        };
        let num_chunks = walk.seq_len.div_ceil(chunk);
        let chunks = (0..num_chunks).map(|number| number * chunk..walk.seq_len.min((number + 1) * chunk));
        let mut direction = DirectionWalk { cell: self, walk, scratch, h, c, y };
        if reversed {
            chunks.rev().for_each(|steps| direction.chunk(steps, true));
        } else {
            chunks.for_each(|steps| direction.chunk(steps, false));
        }
    }
}

/// One cell on its way.
struct DirectionWalk<'a, 'w, E> {
    cell: &'a PackedCell<E>,
    walk: Walk<'w, E>,
    scratch: Scratch<E>,
    /// `[N, R]`
    h: ArrayViewMut2<'a, E>,
    /// `[N, H]`
    c: ArrayViewMut2<'a, E>,
    /// `[T*N, R]`
    y: ArrayViewMut2<'a, E>,
}

impl<E: Real> DirectionWalk<'_, '_, E> {
    fn chunk(&mut self, steps: Range<usize>, reversed: bool) {
        self.input_gates(&steps);
        if reversed {
            steps.clone().rev().for_each(|t| self.step(t, t - steps.start));
        } else {
            steps.clone().for_each(|t| self.step(t, t - steps.start));
        }
    }

    /// `weight_ih @ x + bias` for all these steps and rows.
    fn input_gates(&mut self, steps: &Range<usize>) {
        let (cell, range) = (self.cell, self.walk.range(steps));
        let mut gates = self.scratch.gates.slice_mut(s![..range.len(), ..]);
        let input = self.walk.input.slice(s![range, ..]);
        if let Some(norm) = &cell.layer_norm {
            general_mat_mul(E::one(), &input, &cell.weight_ih, E::zero(), &mut gates);
            for mut row in gates.rows_mut() {
                normalise(row.as_slice_mut().expect("the scratch is row-major"), norm.epsilon);
                row *= &norm.gamma_ih;
                row += &cell.bias;
            }
        } else {
            gates.assign(&cell.bias);
            general_mat_mul(E::one(), &input, &cell.weight_ih, E::one(), &mut gates);
        }
    }

    /// Step `t`, which is step `local` of the chunk.
    fn step(&mut self, t: usize, local: usize) {
        let (cell, rows) = (self.cell, self.walk.rows());
        let mut gates = self.scratch.gates.slice_mut(s![local * rows..(local + 1) * rows, ..]);
        if let Some(norm) = &cell.layer_norm {
            let recurrent = &mut self.scratch.recurrent;
            general_mat_mul(E::one(), &self.h, &cell.weight_hh, E::zero(), recurrent);
            for (mut row, mut gates) in recurrent.rows_mut().into_iter().zip(gates.rows_mut()) {
                normalise(row.as_slice_mut().expect("the scratch is row-major"), norm.epsilon);
                row *= &norm.gamma_hh;
                gates += &row;
            }
        } else {
            general_mat_mul(E::one(), &self.h, &cell.weight_hh, E::one(), &mut gates);
        }
        let live = |n: &usize| t < self.walk.lens[*n];
        for n in (0..rows).filter(live) {
            let (mut gates, mut c, mut hidden) = (gates.row_mut(n), self.c.row_mut(n), self.scratch.hidden.row_mut(n));
            let slices = (gates.as_slice_mut(), c.as_slice_mut(), hidden.as_slice_mut());
            let (Some(gates), Some(c), Some(hidden)) = slices else { unreachable!("scratch and state are row-major") };
            debug_assert_eq!(gates.len(), GATES * hidden.len());
            cell.finish_row(gates, c, hidden);
            c.iter_mut().for_each(|c| *c = c.rounded());
        }
        let h_next = if let Some(weight_hr) = &cell.weight_hr {
            general_mat_mul(E::one(), &self.scratch.hidden, weight_hr, E::zero(), &mut self.scratch.projected);
            clamp(cell.proj_clip, self.scratch.projected.as_slice_mut().expect("the scratch is row-major"));
            &self.scratch.projected
        } else {
            &self.scratch.hidden
        };
        for n in (0..rows).filter(live) {
            let mut h = self.h.row_mut(n);
            h.zip_mut_with(&h_next.row(n), |h, next| *h = next.rounded());
            self.y.row_mut(t * rows + n).assign(&h);
        }
    }
}
