//! Weights as the products read them: columns side by side in panels of four vectors, every panel row after row.
//!
//! A panel holds the four gates of as many units as a vector has lanes, so that a cell finds all that it needs in the panel's four sums;
//! of a matrix that is not a cell's, any four vectors of outputs.

mod aligned;
mod product;

use ndarray::Array2;
use rten_simd::ops::BitOps;
use rten_simd::{Isa, SimdOp, f16};

use crate::network::{GATES, Precision, int8_scales, to_int8};
pub(super) use aligned::Aligned;
pub(super) use product::{Rows, Sums, most_rows, multiply};

/// Lanes of a vector of float32 on this machine.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl SimdOp for Lanes {
        type Output = usize;

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) -> usize {
            isa.f32().len()
        }
    }
    Lanes.dispatch()
}

/// A matrix `[K, outputs]` in panels: `[panels, K, 4, lanes]`.
pub(super) struct Panels {
    stored: Stored,
    /// K
    depth: usize,
    count: usize,
    lanes: usize,
}

/// The weights, as they are stored.
enum Stored {
    F32(Aligned<f32>),
    F16(Aligned<f16>),
    /// multiples of `scales [panels, 4, lanes]`
    Int8 {
        values: Aligned<i8>,
        scales: Aligned<f32>,
    },
}

/// Which outputs stand in a panel.
#[derive(Clone, Copy)]
pub(super) enum Columns {
    /// the rows of `[4 * hidden_size, K]`, unit by unit with its four gates
    Gates {
        /// H
        hidden_size: usize,
    },
    /// the rows of `[outputs, K]` as they come
    Plain {
        /// how many
        outputs: usize,
    },
}

impl Columns {
    /// How many panels hold them.
    fn panels(self, lanes: usize) -> usize {
        match self {
            Self::Gates { hidden_size } => hidden_size.div_ceil(lanes),
            Self::Plain { outputs } => outputs.div_ceil(GATES * lanes),
        }
    }

    /// The row of the matrix that stands at `[panel, vector, lane]`, if one does.
    fn row(self, panel: usize, vector: usize, lane: usize, lanes: usize) -> Option<usize> {
        match self {
            Self::Gates { hidden_size } => Some(panel * lanes + lane).filter(|unit| *unit < hidden_size).map(|unit| vector * hidden_size + unit),
            Self::Plain { outputs } => Some((panel * GATES + vector) * lanes + lane).filter(|row| *row < outputs),
        }
    }

    /// One value for every output in the order of panels, `[panels, 4, lanes]`; 0 where no output stands.
    pub(super) fn place<T: Copy + Default>(self, value: impl Fn(usize) -> T) -> Aligned<T> {
        let lanes = lanes();
        let mut placed = Aligned::new(self.panels(lanes) * GATES * lanes);
        for (number, placed) in placed.iter_mut().enumerate() {
            let (panel, vector, lane) = (number / (GATES * lanes), number / lanes % GATES, number % lanes);
            if let Some(row) = self.row(panel, vector, lane, lanes) {
                *placed = value(row);
            }
        }
        placed
    }
}

impl Panels {
    /// Packs `weight [outputs, K]`, stored as `precision` says.
    pub(super) fn new(weight: &Array2<f32>, columns: Columns, precision: Precision) -> Self {
        let (lanes, depth) = (lanes(), weight.ncols());
        let count = columns.panels(lanes);
        let stored = match precision {
            Precision::F32 => Stored::F32(packed(weight, columns, lanes, |_, weight| weight)),
            Precision::F16 => Stored::F16(packed(weight, columns, lanes, |_, weight| f16::from_f32(weight))),
            Precision::Int8 => {
                let scales = int8_scales(weight.view());
                let values = packed(weight, columns, lanes, |row, weight| to_int8(weight, scales[row]));
                Stored::Int8 { values, scales: columns.place(|row| scales[row]) }
            }
        };
        Self { stored, depth, count, lanes }
    }

    /// How many panels there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Sums of a panel: four vectors.
    pub(super) fn width(&self) -> usize {
        GATES * self.lanes
    }
}

fn packed<T: Copy + Default>(weight: &Array2<f32>, columns: Columns, lanes: usize, store: impl Fn(usize, f32) -> T) -> Aligned<T> {
    let (depth, width) = (weight.ncols(), GATES * lanes);
    let mut packed = Aligned::new(columns.panels(lanes) * depth * width);
    for (panel, packed) in packed.chunks_exact_mut((depth * width).max(1)).enumerate() {
        for column in 0..width {
            let Some(row) = columns.row(panel, column / lanes, column % lanes, lanes) else { continue };
            for (k, &weight) in weight.row(row).iter().enumerate() {
                packed[k * width + column] = store(row, weight);
            }
        }
    }
    packed
}
