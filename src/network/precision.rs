//! How weights are stored, and what a stored weight is worth.

use std::fmt;

use half::f16;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::compare::Tolerance;
use crate::error::{Error, Result};
use crate::network::{CellWeights, Lstm};

/// How the weights of the matrix products are stored on the device. Biases, peepholes and the parameters of layer normalisation stay `float32`,
/// and so do all sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// `float32`
    #[default]
    F32,
    /// `float16`, rounded to the nearest
    F16,
    /// `int8`: multiples of a scale for every unit and gate (for a projection, every output), the largest weight of which is 127 scales
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Int8];

    /// Its name in the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// How far results with stored weights may be from those with the weights as given, both computed exactly, where gates and outputs are bounded:
    /// `|error| <= b * (1 + |value|)` with `b` 40 times the largest rounding of a weight, which is 2^-11 of itself in `float16` and 1/254 of the
    /// largest weight of its row in `int8`. Nothing can promise that of every model: gates that large weights drive from one end to the other
    /// amplify a rounding as often as they do. Of the golden cases, the worst reaches 0.56 of it, and PyTorch's initial weights
    /// stay below a fiftieth (`tests/precision.rs`).
    pub fn bound(self) -> Tolerance {
        let bound = match self {
            Self::F32 => 0.0,
            Self::F16 => 0.02,
            Self::Int8 => 0.16,
        };
        Tolerance { atol: bound, rtol: bound }
    }

    /// Whether every weight can be stored; `place` goes into the error.
    pub(crate) fn check(self, weights: &Array2<f32>, place: impl FnOnce() -> String) -> Result<()> {
        let stores = |weight: f32| match self {
            Self::F32 => true,
            Self::F16 => !weight.is_finite() || weight.abs() <= LARGEST_F16,
            Self::Int8 => weight.is_finite(),
        };
        let Some(weight) = weights.iter().find(|weight| !stores(**weight)) else { return Ok(()) };
        let rule = if self == Self::F16 { "weights of at most 65504" } else { "finite weights" };
        Err(Error::config(format!("precision {self}: needs {rule}, found {weight} in {}", place())))
    }

    /// Bytes of a stored weight.
    pub fn weight_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Int8 => 1,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest finite `float16`.
const LARGEST_F16: f32 = 65504.0;

/// Whole numbers that an `int8` weight is stored as reach from -127 to 127.
const LARGEST_INT8: f32 = 127.0;

/// The scale of every row of a matrix in `int8`: its largest weight divided by 127, or 1 where all are 0.
pub(crate) fn int8_scales(weights: ArrayView2<'_, f32>) -> Vec<f32> {
    let largest = |row: ndarray::ArrayView1<'_, f32>| row.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    weights.rows().into_iter().map(|row| Some(largest(row) / LARGEST_INT8).filter(|scale| *scale > 0.0).unwrap_or(1.0)).collect()
}

/// The number of scales that stands for `weight`.
#[expect(clippy::cast_possible_truncation, reason = "clamped to what int8 holds")]
pub(crate) fn to_int8(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-LARGEST_INT8, LARGEST_INT8) as i8
}

impl Lstm {
    /// The stack with every weight at the value that it has once stored in `precision`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where a weight cannot be stored: beyond 65,504 in `float16`, not finite in `int8`.
    pub fn stored_as(&self, precision: Precision) -> Result<Self> {
        self.check_stored_as(precision)?;
        let cells = (0..self.config().num_cells()).map(|number| {
            let dirs = self.config().num_directions();
            let cell = self.cell(number / dirs, number % dirs);
            CellWeights {
                weight_ih: stored(&cell.weight_ih, precision),
                weight_hh: stored(&cell.weight_hh, precision),
                weight_hr: cell.weight_hr.as_ref().map(|weight| stored(weight, precision)),
                ..cell.clone()
            }
        });
        Self::new(self.config().clone(), cells.collect())
    }

    /// Whether every weight can be stored in `precision`.
    pub(crate) fn check_stored_as(&self, precision: Precision) -> Result<()> {
        let dirs = self.config().num_directions();
        for number in 0..self.config().num_cells() {
            let cell = self.cell(number / dirs, number % dirs);
            for (name, weight) in [("weight_ih", Some(&cell.weight_ih)), ("weight_hh", Some(&cell.weight_hh)), ("weight_hr", cell.weight_hr.as_ref())]
            {
                let place = || format!("{name} of layer {}, direction {}", number / dirs, number % dirs);
                weight.map_or(Ok(()), |weight| precision.check(weight, place))?;
            }
        }
        Ok(())
    }
}

/// Every weight at the value that it has once stored.
pub(super) fn stored(weights: &Array2<f32>, precision: Precision) -> Array2<f32> {
    match precision {
        Precision::F32 => weights.clone(),
        Precision::F16 => weights.mapv(|weight| f16::from_f32(weight).to_f32()),
        Precision::Int8 => {
            let scales = int8_scales(weights.view());
            Array2::from_shape_fn(weights.dim(), |(row, k)| f32::from(to_int8(weights[[row, k]], scales[row])) * scales[row])
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn int8_keeps_the_largest_weight_of_a_row_and_halves_of_a_scale_elsewhere() {
        let weights = array![[1.27, -0.3, 0.004], [0.0, 0.0, 0.0], [-254.0, 3.0, 1.0]];
        let stored = stored(&weights, Precision::Int8);
        let expected = array![[1.27, -0.3, 0.0], [0.0, 0.0, 0.0], [-254.0, 4.0, 0.0]];
        for (stored, expected) in stored.iter().zip(&expected) {
            approx::assert_relative_eq!(stored, expected, max_relative = 1e-6);
        }
        assert_eq!(int8_scales(weights.view())[1], 1.0);
    }

    #[test]
    fn f16_keeps_eleven_bits() {
        let weights = array![[1.0 + 1.0 / 1024.0, 1.0 + 1.0 / 4096.0, 1e-9, 65504.0]];
        assert_eq!(stored(&weights, Precision::F16), array![[1.0 + 1.0 / 1024.0, 1.0, 0.0, 65504.0]]);
    }
}
