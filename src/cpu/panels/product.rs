//! `out += a @ panels`: a tile of rows times a panel in registers, one fused multiplication and addition a weight and row.
//!
//! A sum goes over K in order, whatever the other rows and panels: a result has the same bits in every tile.

use std::ops::Range;

use rten_simd::ops::{BitOps, Extend, NumOps, ToFloat};
use rten_simd::{Isa, SimdOp, f16};

use super::{Panels, Stored};
use crate::network::GATES;

/// Part of K that several tiles of rows go through while it lies in the first level of cache: 32 KiB of a panel with vectors of 16 float32.
const DEPTH_BLOCK: usize = 128;

/// Most rows of a tile: their sums, the weights of one k and a broadcast value fill 32 vector registers.
const MOST_ROWS: usize = 6;

/// Rows of the left factor: row `r` starts at `r * stride`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Rows<'a> {
    /// the elements
    pub(in crate::cpu) data: &'a [f32],
    /// from one row to the next
    pub(in crate::cpu) stride: usize,
    /// how many rows
    pub(in crate::cpu) count: usize,
}

/// Where sums lie: those of row `r` and panel `p` start at `p * panel_stride + r * row_stride`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Sums {
    /// from one row to the next
    pub(in crate::cpu) row_stride: usize,
    /// from one panel to the next
    pub(in crate::cpu) panel_stride: usize,
}

/// Adds `a @ panels` to the sums in `out` for these panels, the last one first where `backwards`.
pub(in crate::cpu) fn multiply(panels: &Panels, which: Range<usize>, backwards: bool, a: Rows<'_>, out: &mut [f32], sums: Sums) {
    if a.count == 0 || which.is_empty() {
        return;
    }
    let most = most_rows(panels.width() / GATES);
    let tiles = a.count.div_ceil(most);
    let whole = Part { panels, which: which.clone(), depth: 0..panels.depth, backwards };
    if tiles == 1 {
        return run(&whole, a, 1, a.count, out, sums);
    }
    // tiles of two sizes that differ by one row: the last ones are the smaller
    let (rows, larger) = (a.count / tiles, a.count % tiles);
    let split = larger * (rows + 1);
    let order = |place| if backwards { which.end - 1 - place } else { which.start + place };
    for panel in (0..which.len()).map(order) {
        for start in (0..panels.depth).step_by(DEPTH_BLOCK) {
            let depth = start..panels.depth.min(start + DEPTH_BLOCK);
            let part = Part { which: panel..panel + 1, depth, ..whole.clone() };
            if larger > 0 {
                run(&part, a, larger, rows + 1, out, sums);
            }
            let rest = Rows { data: &a.data[split * a.stride..], count: a.count - split, ..a };
            run(&part, rest, tiles - larger, rows, &mut out[split * sums.row_stride..], sums);
        }
    }
}

/// A tile's rows with vectors of so many lanes: as many as leave the sums in registers, of which there are 32 with wide vectors and on ARM.
pub(in crate::cpu) fn most_rows(lanes: usize) -> usize {
    if lanes >= 16 || cfg!(target_arch = "aarch64") { MOST_ROWS } else { MOST_ROWS / 2 }
}

/// What part of a matrix is multiplied.
#[derive(Clone)]
struct Part<'a> {
    panels: &'a Panels,
    which: Range<usize>,
    depth: Range<usize>,
    backwards: bool,
}

/// `tiles` tiles of `rows` rows.
fn run(part: &Part<'_>, a: Rows<'_>, tiles: usize, rows: usize, out: &mut [f32], sums: Sums) {
    match &part.panels.stored {
        Stored::F32(weights) => run_stored(part, weights, &[], a, tiles, rows, out, sums),
        Stored::F16(weights) => run_stored(part, weights, &[], a, tiles, rows, out, sums),
        Stored::Int8 { values, scales } => run_stored(part, values, scales, a, tiles, rows, out, sums),
    }
}

#[expect(clippy::too_many_arguments, reason = "they become the fields of a kernel")]
fn run_stored<W: Weight>(part: &Part<'_>, weights: &[W], scales: &[f32], a: Rows<'_>, tiles: usize, rows: usize, out: &mut [f32], sums: Sums) {
    let Part { panels, which, depth, backwards } = part.clone();
    macro_rules! tile {
        ($($rows:literal)*) => {
            match rows {
                $($rows => Kernel::<W, $rows> { weights, scales, which, full_depth: panels.depth, depth, backwards, a, tiles, out, sums }.dispatch(),)*
                _ => unreachable!("tiles have no more rows"),
            }
        };
    }
    tile!(1 2 3 4 5 6);
}

/// A weight as it is stored.
trait Weight: Copy {
    /// Four vectors of what is stored; `scales` are those of their columns, where there are any.
    fn load<I: Isa>(isa: I, from: &[Self], scales: [I::F32; GATES]) -> [I::F32; GATES];
}

impl Weight for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[Self], _: [I::F32; GATES]) -> [I::F32; GATES] {
        isa.f32().load_many(from)
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[Self], _: [I::F32; GATES]) -> [I::F32; GATES] {
        let ops = isa.f16();
        let [low, high]: [I::F16; 2] = ops.load_many(from);
        [ops.extend_low(low), ops.extend_high(low), ops.extend_low(high), ops.extend_high(high)]
    }
}

impl Weight for i8 {
    /// The product with the scale is rounded to float32, as in [`Lstm::stored_as`](crate::Lstm::stored_as).
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[Self], scales: [I::F32; GATES]) -> [I::F32; GATES] {
        let (ops, bytes, shorts, ints) = (isa.f32(), isa.i8(), isa.i16(), isa.i32());
        let all = bytes.load(from);
        let (low, high) = (bytes.extend_low(all), bytes.extend_high(all));
        [
            ops.mul(ints.to_float(shorts.extend_low(low)), scales[0]),
            ops.mul(ints.to_float(shorts.extend_high(low)), scales[1]),
            ops.mul(ints.to_float(shorts.extend_low(high)), scales[2]),
            ops.mul(ints.to_float(shorts.extend_high(high)), scales[3]),
        ]
    }
}

/// Tiles of `R` rows times panels.
struct Kernel<'a, W, const R: usize> {
    /// `[panels, K, 4, lanes]`
    weights: &'a [W],
    /// `[panels, 4, lanes]`, or nothing
    scales: &'a [f32],
    which: Range<usize>,
    /// K
    full_depth: usize,
    depth: Range<usize>,
    backwards: bool,
    a: Rows<'a>,
    tiles: usize,
    out: &'a mut [f32],
    sums: Sums,
}

impl<W: Weight, const R: usize> SimdOp for Kernel<'_, W, R> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { weights, scales, which, full_depth, depth, backwards, a, tiles, out, sums } = self;
        let width = GATES * isa.f32().len();
        for place in 0..which.len() {
            let panel = if backwards { which.end - 1 - place } else { which.start + place };
            let first = panel * full_depth;
            let weights = &weights[(first + depth.start) * width..(first + depth.end) * width];
            let scales = if scales.is_empty() { [isa.f32().zero(); GATES] } else { isa.f32().load_many(&scales[panel * width..]) };
            for tile in 0..tiles {
                let a = &a.data[tile * R * a.stride + depth.start..];
                let out = &mut out[panel * sums.panel_stride + tile * R * sums.row_stride..];
                multiply_tile::<I, W, R>(isa, weights, scales, a, self.a.stride, out, sums.row_stride);
            }
        }
    }
}

/// One tile and panel. Values are moved by loops over arrays of constant length alone: closures that might panic would keep the sums in memory.
#[inline(always)]
fn multiply_tile<I: Isa, W: Weight, const R: usize>(
    isa: I,
    weights: &[W],
    scales: [I::F32; GATES],
    a: &[f32],
    stride: usize,
    out: &mut [f32],
    row_stride: usize,
) {
    let ops = isa.f32();
    let width = GATES * ops.len();
    let depth = weights.len() / width;
    let mut rows: [&[f32]; R] = [&[]; R];
    let mut sums = [[ops.zero(); GATES]; R];
    for r in 0..R {
        rows[r] = &a[r * stride..][..depth];
        sums[r] = ops.load_many(&out[r * row_stride..]);
    }
    // a short loop pays for its end at every turn; with more rows it is long enough, and unrolled would spill
    let unrolled = if R <= 4 { depth / 4 * 4 } else { 0 };
    if R <= 4 {
        for (number, weights) in weights.chunks_exact(4 * width).enumerate() {
            let mut four = [[0.0; 4]; R];
            for r in 0..R {
                four[r] = *rows[r][4 * number..].first_chunk::<4>().expect("a whole chunk");
            }
            for k in 0..4 {
                let weight = W::load(isa, &weights[k * width..(k + 1) * width], scales);
                for r in 0..R {
                    let value = ops.splat(four[r][k]);
                    for g in 0..GATES {
                        sums[r][g] = ops.mul_add(value, weight[g], sums[r][g]);
                    }
                }
            }
        }
    }
    for (k, weights) in (unrolled..depth).zip(weights[unrolled * width..].chunks_exact(width)) {
        let weight = W::load(isa, weights, scales);
        for r in 0..R {
            let value = ops.splat(rows[r][k]);
            for g in 0..GATES {
                sums[r][g] = ops.mul_add(value, weight[g], sums[r][g]);
            }
        }
    }
    for r in 0..R {
        for g in 0..GATES {
            ops.store(sums[r][g], &mut out[r * row_stride + g * ops.len()..]);
        }
    }
}
