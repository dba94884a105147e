//! From a step's sums to the new states: [`LstmConfig`](crate::LstmConfig)'s equations on vectors of units.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::pack::FusedCell;
use crate::cpu::lanes::activation::{Vectors, apply, at_least, at_most};
use crate::cpu::lanes::cell::{Gates, standard};
use crate::network::{CellActivations, GATES};

/// The sums of a step, and the states that they change.
pub(super) struct Update<'a> {
    /// panels that are updated
    pub(super) which: Range<usize>,
    /// rows that have the step
    pub(super) rows: usize,
    /// sums: those of row `r` and panel `p` start at `p * gates_stride + r * 4 * lanes`
    pub(super) gates: &'a [f32],
    pub(super) gates_stride: usize,
    /// cell states: those of row `r` and panel `p` start at `p * c_stride + r * lanes`
    pub(super) c: &'a mut [f32],
    pub(super) c_stride: usize,
    /// hidden states before projection: those of row `r` and panel `p` start at `r * h_stride + p * lanes`
    pub(super) h: &'a mut [f32],
    pub(super) h_stride: usize,
}

impl FusedCell {
    /// Updates the states.
    pub(super) fn update(&self, update: Update<'_>) {
        if self.is_standard() { Kernel::<true>(self, update).dispatch() } else { Kernel::<false>(self, update).dispatch() }
    }

    /// Whether nothing but sums and the usual activations make the states.
    fn is_standard(&self) -> bool {
        self.activations == CellActivations::default()
            && self.peepholes.is_none()
            && !self.input_forget
            && self.clip.is_none()
            && self.cell_clip.is_none()
    }
}

struct Kernel<'a, const STANDARD: bool>(&'a FusedCell, Update<'a>);

impl<const STANDARD: bool> SimdOp for Kernel<'_, STANDARD> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(cell, mut update) = self;
        let (panels, rows) = (update.which.clone(), update.rows);
        let (first, count) = (panels.start, panels.len() * rows);
        // most of a cell's time is waiting: two at once take less than one after the other
        for number in 0..count / 2 {
            let [a, b] = [2 * number, 2 * number + 1];
            step::<I, 2, STANDARD>(isa, cell, &mut update, [[first + a / rows, a % rows], [first + b / rows, b % rows]]);
        }
        if count % 2 == 1 {
            step::<I, 1, STANDARD>(isa, cell, &mut update, [[panels.end - 1, rows - 1]]);
        }
    }
}

/// The units of `N` panels and rows.
#[inline(always)]
fn step<I: Isa, const N: usize, const STANDARD: bool>(isa: I, cell: &FusedCell, update: &mut Update<'_>, places: [[usize; 2]; N]) {
    let ops = isa.f32();
    let lanes = ops.len();
    let zero = [ops.zero(); N];
    let (mut gates, mut c) = (Gates { i: zero, f: zero, g: zero, o: zero }, zero);
    for (at, [panel, row]) in places.into_iter().enumerate() {
        let sums = &update.gates[panel * update.gates_stride + row * GATES * lanes..][..GATES * lanes];
        [gates.i[at], gates.f[at], gates.g[at], gates.o[at]] = ops.load_many(sums);
        c[at] = ops.load(&update.c[panel * update.c_stride + row * lanes..]);
    }
    let (c_next, h_next) = if STANDARD { standard(isa, gates, c) } else { general(isa, cell, places, gates, c) };
    for (at, [panel, row]) in places.into_iter().enumerate() {
        ops.store(c_next[at], &mut update.c[panel * update.c_stride + row * lanes..]);
        ops.store(h_next[at], &mut update.h[row * update.h_stride + panel * lanes..]);
    }
}

/// Every option but layer normalisation.
#[inline(always)]
fn general<I: Isa, const N: usize>(
    isa: I,
    cell: &FusedCell,
    places: [[usize; 2]; N],
    gates: Gates<I, N>,
    c: Vectors<I, N>,
) -> (Vectors<I, N>, Vectors<I, N>) {
    let ops = isa.f32();
    let CellActivations { gate, candidate, output } = cell.activations;
    let (mut c_next, mut h_next) = (c, c);
    for (at, [panel, _]) in places.into_iter().enumerate() {
        let i = apply(isa, gate, bounded(isa, peephole(isa, cell, 0, panel, gates.i[at], c[at]), cell.clip));
        let f = if cell.input_forget {
            ops.sub(ops.one(), i)
        } else {
            apply(isa, gate, bounded(isa, peephole(isa, cell, 1, panel, gates.f[at], c[at]), cell.clip))
        };
        let g = apply(isa, candidate, bounded(isa, gates.g[at], cell.clip));
        c_next[at] = bounded(isa, ops.mul_add(f, c[at], ops.mul(i, g)), cell.cell_clip);
        let o = apply(isa, gate, bounded(isa, peephole(isa, cell, 2, panel, gates.o[at], c_next[at]), cell.clip));
        h_next[at] = ops.mul(o, apply(isa, output, c_next[at]));
    }
    (c_next, h_next)
}

#[inline(always)]
fn bounded<I: Isa>(isa: I, value: I::F32, bound: Option<f32>) -> I::F32 {
    match bound {
        Some(bound) => at_most(isa, at_least(isa, value, -bound), bound),
        None => value,
    }
}

/// The sum of a gate with the peephole's part, where the cell has any.
#[inline(always)]
fn peephole<I: Isa>(isa: I, cell: &FusedCell, number: usize, panel: usize, sum: I::F32, c: I::F32) -> I::F32 {
    let ops = isa.f32();
    match &cell.peepholes {
        Some(peepholes) => ops.mul_add(ops.load(&peepholes[number][panel * ops.len()..]), c, sum),
        None => sum,
    }
}
