//! The judge: whether the numbers that a device computed are those of the reference, and if not, where.
//!
//! An element passes where
//!
//! ```text
//! |actual - expected| <= atol + rtol * |expected|        both finite; computed in float64
//! actual and expected are both NaN                       at the same index
//! actual and expected are both infinite                  of the same sign
//! ```
//!
//! and everything passes where the shapes are equal and every element passes. The bound grows with `expected`, not with `actual`,
//! so the two may not be swapped.

use std::fmt;

use ndarray::ArrayViewD;

/// How many failures a [`Comparison`] keeps.
const MAX_FAILURES: usize = 5;

/// How far a value may lie from the expected one: `atol + rtol * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// the part that does not depend on the value
    pub atol: f64,
    /// the part that grows with the value
    pub rtol: f64,
}

impl Tolerance {
    /// The largest error that passes beside `expected`.
    pub fn bound(self, expected: f64) -> f64 {
        self.atol + self.rtol * expected.abs()
    }
}

/// One element of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// its place, one number an axis
    pub index: Vec<usize>,
    /// what was computed
    pub actual: f32,
    /// what should have been
    pub expected: f64,
    /// `|actual - expected| / bound`: above 1 it fails; infinite where only one is finite, or the bound is 0
    pub ratio: f64,
}

/// What [`compare`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// the shape of what was computed
    pub actual_shape: Vec<usize>,
    /// the shape of what should have been; where it differs from the other, no values are compared
    pub expected_shape: Vec<usize>,
    /// what was allowed
    pub tolerance: Tolerance,
    /// how many elements fail; all of them where the shapes differ
    pub num_outside: usize,
    /// the element with the largest ratio, the first of several; `None` where there is none or the shapes differ
    pub worst: Option<Element>,
    /// the first failures in row-major order, at most 5
    pub failures: Vec<Element>,
    /// the largest `|actual - expected|`; infinite where a NaN or an infinity stands on one side only, or the shapes differ
    pub max_abs_err: f64,
}

/// Compares element by element.
///
/// ```
/// use cellgate::compare::{Tolerance, compare};
///
/// let actual = ndarray::arr1(&[1.0f32, 2.0]).into_dyn();
/// let expected = ndarray::arr1(&[1.0f64, 2.5]).into_dyn();
/// let comparison = compare(actual.view(), expected.view(), Tolerance { atol: 1e-5, rtol: 1e-5 });
/// assert!(!comparison.passed());
/// assert_eq!(comparison.worst.map(|element| element.index), Some(vec![1]));
/// ```
pub fn compare(actual: ArrayViewD<'_, f32>, expected: ArrayViewD<'_, f64>, tolerance: Tolerance) -> Comparison {
    let mut comparison = Comparison {
        actual_shape: actual.shape().to_vec(),
        expected_shape: expected.shape().to_vec(),
        tolerance,
        num_outside: 0,
        worst: None,
        failures: Vec::new(),
        max_abs_err: 0.0,
    };
    if actual.shape() != expected.shape() {
        comparison.num_outside = actual.len().max(expected.len());
        comparison.max_abs_err = f64::INFINITY;
        return comparison;
    }
    let mut worst_ratio = f64::NEG_INFINITY;
    for (position, (&actual_value, &expected_value)) in actual.iter().zip(&expected).enumerate() {
        let (abs_err, bound) = judge(f64::from(actual_value), expected_value, tolerance);
        let inside = abs_err <= bound;
        let ratio = ratio(abs_err, bound);
        let element = || Element { index: unravel(position, actual.shape()), actual: actual_value, expected: expected_value, ratio };
        comparison.max_abs_err = comparison.max_abs_err.max(abs_err);
        comparison.num_outside += usize::from(!inside);
        if ratio > worst_ratio {
            worst_ratio = ratio;
            comparison.worst = Some(element());
        }
        if !inside && comparison.failures.len() < MAX_FAILURES {
            comparison.failures.push(element());
        }
    }
    comparison
}

/// The error of one element and its bound.
fn judge(actual: f64, expected: f64, tolerance: Tolerance) -> (f64, f64) {
    if actual.is_finite() && expected.is_finite() {
        return ((actual - expected).abs(), tolerance.bound(expected));
    }
    let same = actual == expected || (actual.is_nan() && expected.is_nan());
    (if same { 0.0 } else { f64::INFINITY }, 0.0)
}

/// Infinite where the bound is 0, negative or NaN, and does not allow the error.
fn ratio(abs_err: f64, bound: f64) -> f64 {
    if abs_err == 0.0 && bound == 0.0 {
        0.0
    } else if bound > 0.0 {
        abs_err / bound
    } else {
        f64::INFINITY
    }
}

/// The index of the element at `position` in row-major order.
fn unravel(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &axis) in index.iter_mut().zip(shape).rev() {
        *place = position % axis;
        position /= axis;
    }
    index
}

impl Comparison {
    /// Whether the shapes are equal and every element is within its bound.
    pub fn passed(&self) -> bool {
        self.actual_shape == self.expected_shape && self.num_outside == 0
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: actual {:e}, expected {:e}, {:.3} of the bound", self.index, self.actual, self.expected, self.ratio)
    }
}

impl fmt::Display for Comparison {
    /// One line where it passed; a line for each of the first failures where it did not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actual_shape != self.expected_shape {
            return write!(f, "shape: expected {:?}, found {:?}", self.expected_shape, self.actual_shape);
        }
        let (len, Tolerance { atol, rtol }) = (self.expected_shape.iter().product::<usize>(), self.tolerance);
        write!(f, "{} of {len} values outside {atol:e} + {rtol:e} * |expected|, largest error {:e}", self.num_outside, self.max_abs_err)?;
        if let Some(worst) = &self.worst {
            write!(f, "; worst at {worst}")?;
        }
        for failure in &self.failures {
            write!(f, "\n  at {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn, arr0, arr1};

    use super::*;

    const TOLERANCE: Tolerance = Tolerance { atol: 1e-6, rtol: 1e-5 };

    fn of(actual: &[f32], expected: &[f64]) -> Comparison {
        compare(arr1(actual).into_dyn().view(), arr1(expected).into_dyn().view(), TOLERANCE)
    }

    #[test]
    fn equal_passes_and_the_bound_belongs_to_it() {
        assert!(of(&[1.0, -2.0, 0.0], &[1.0, -2.0, 0.0]).passed());
        let half = Tolerance { atol: 0.5, rtol: 0.25 };
        let verdict = |actual: f32| compare(arr0(actual).into_dyn().view(), arr0(2.0).into_dyn().view(), half);
        assert!(verdict(3.0).passed() && verdict(1.0).passed());
        assert!(!verdict(3.0f32.next_up()).passed() && !verdict(1.0f32.next_down()).passed());
        assert_eq!(verdict(3.0).worst.map(|worst| worst.ratio), Some(1.0));
        assert_eq!(verdict(1.5).max_abs_err, 0.5);
    }

    #[test]
    fn one_wrong_lane_in_a_million_is_found() {
        let expected = ArrayD::from_shape_fn(IxDyn(&[10, 1000, 100]), |index| f64::from(u32::try_from(index[1]).unwrap()) / 1000.0);
        let mut actual = expected.mapv(|value| value as f32);
        assert!(compare(actual.view(), expected.view(), TOLERANCE).passed());
        actual[[7, 123, 45]] += 1e-4;
        let comparison = compare(actual.view(), expected.view(), TOLERANCE);
        assert!(!comparison.passed());
        assert_eq!((comparison.num_outside, comparison.failures.len()), (1, 1));
        assert_eq!(comparison.worst.as_ref().map(|worst| worst.index.clone()), Some(vec![7, 123, 45]));
        let text = comparison.to_string();
        assert!(text.starts_with("1 of 1000000 values outside 1e-6 + 1e-5 * |expected|") && text.contains("[7, 123, 45]"), "{text}");
    }

    #[test]
    fn order_is_by_index_whatever_the_strides() {
        let expected = ArrayD::from_shape_fn(IxDyn(&[2, 3]), |index| (index[0] * 3 + index[1]) as f64);
        let mut stored = expected.t().mapv(|value| value as f32);
        stored[[2, 0]] = 9.0;
        let comparison = compare(stored.t(), expected.view(), TOLERANCE);
        assert_eq!(comparison.failures[0].index, [0, 2]);
        assert_eq!((comparison.failures[0].actual, comparison.failures[0].expected), (9.0, 2.0));
    }

    #[test]
    fn the_sign_counts_for_negative_values() {
        assert!(of(&[-1.0], &[-1.0]).passed());
        assert!(!of(&[-1.0], &[-1.1]).passed());
        assert!(!of(&[-1.1], &[-1.0]).passed());
        assert!(!of(&[-1.0], &[1.0]).passed());
    }

    #[test]
    fn nan_matches_only_nan_at_the_same_place() {
        assert!(of(&[f32::NAN, 1.0], &[f64::NAN, 1.0]).passed());
        assert!(!of(&[f32::NAN, 1.0], &[1.0, f64::NAN]).passed());
        assert_eq!(of(&[f32::NAN, 1.0], &[1.0, f64::NAN]).num_outside, 2);
        for comparison in [of(&[f32::NAN], &[1.0]), of(&[1.0], &[f64::NAN]), of(&[f32::NAN], &[f64::INFINITY]), of(&[f32::INFINITY], &[f64::NAN])] {
            assert!(!comparison.passed());
            assert_eq!((comparison.max_abs_err, comparison.failures[0].ratio), (f64::INFINITY, f64::INFINITY));
        }
        let huge = Tolerance { atol: f64::INFINITY, rtol: 0.0 };
        assert!(!compare(arr0(f32::NAN).into_dyn().view(), arr0(1.0).into_dyn().view(), huge).passed());
    }

    #[test]
    fn infinity_matches_by_sign() {
        assert!(of(&[f32::INFINITY, f32::NEG_INFINITY], &[f64::INFINITY, f64::NEG_INFINITY]).passed());
        assert!(!of(&[f32::INFINITY], &[f64::NEG_INFINITY]).passed());
        assert!(!of(&[f32::NEG_INFINITY], &[f64::INFINITY]).passed());
        assert!(!of(&[f32::INFINITY], &[1e300]).passed());
        assert!(!of(&[f32::MAX], &[f64::INFINITY]).passed());
    }

    #[test]
    fn a_mismatch_outranks_every_finite_error() {
        let comparison = of(&[5.0, f32::NAN, 7.0], &[1.0, 2.0, 7.0]);
        assert_eq!(comparison.worst.as_ref().map(|worst| worst.index[0]), Some(1));
        assert_eq!(comparison.num_outside, 2);
    }

    #[test]
    fn shapes_come_first() {
        let compare_shapes =
            |actual: &[usize], expected: &[usize]| compare(ArrayD::zeros(IxDyn(actual)).view(), ArrayD::zeros(IxDyn(expected)).view(), TOLERANCE);
        for (actual, expected) in [(&[2, 3][..], &[3, 2][..]), (&[6], &[2, 3]), (&[0], &[4]), (&[4], &[0]), (&[0, 2], &[0, 3]), (&[1], &[])] {
            let comparison = compare_shapes(actual, expected);
            assert!(!comparison.passed());
            assert_eq!(comparison.to_string(), format!("shape: expected {expected:?}, found {actual:?}"));
        }
        assert!(compare_shapes(&[0, 2], &[0, 2]).passed());
        assert!(compare_shapes(&[0, 2], &[0, 2]).worst.is_none());
    }

    #[test]
    fn swapped_arguments_matter() {
        let tolerance = Tolerance { atol: 0.0, rtol: 0.1 };
        let verdict = |actual: f32, expected: f64| compare(arr0(actual).into_dyn().view(), arr0(expected).into_dyn().view(), tolerance).passed();
        assert!(verdict(90.5, 100.0));
        assert!(!verdict(100.0, 90.5));
        assert!(!verdict(1.0, 0.0));
        assert!(verdict(0.0, 0.0));
    }

    #[test]
    fn a_tolerance_that_is_no_number_fails() {
        for tolerance in [Tolerance { atol: f64::NAN, rtol: 0.0 }, Tolerance { atol: 0.0, rtol: f64::NAN }, Tolerance { atol: -1.0, rtol: 0.0 }] {
            let comparison = compare(arr1(&[1.0f32]).into_dyn().view(), arr1(&[1.0]).into_dyn().view(), tolerance);
            assert!(!comparison.passed(), "{tolerance:?}");
        }
    }

    #[test]
    fn only_the_first_failures_are_kept() {
        let comparison = of(&[1.0; 9], &[2.0; 9]);
        assert_eq!(comparison.num_outside, 9);
        assert_eq!(comparison.failures.iter().map(|failure| failure.index[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
