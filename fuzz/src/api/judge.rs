//! Whether a device made of a plan what the reference makes of it.
//!
//! The bound is that of `tests/conformance/bound.rs`: `1e-5 * (1 + |value|)`, or, where a value is outside it, what the reference itself makes of
//! numbers that are a rounding away, times the roundings of a sum.

use std::collections::BTreeSet;

use cellgate::ErrorKind;
use cellgate::compare::{Tolerance, compare};
use ndarray::{ArrayD, Axis, Zip};

use super::numbers::{Level, Moved};
use super::transcript::{Entry, Made, Outcome};

const PLAIN: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

/// No value of a reference may be larger: beyond it float32 may overflow somewhere on the way.
const LARGEST: f32 = 1e3;

/// Copies of the plan, half of them moved by one step and half by [`FACTOR`] steps.
const COPIES: u32 = 12;

/// How much more a device rounds than a copy is moved: the root of the products in a sum, and at least 8.
const FACTOR: u32 = 8;

/// A derived bound of so many times the plain one is a tenth of the value, and judges nothing.
const UNDETERMINED: f64 = 1e4;

/// What the reference makes of the plan with numbers moved so, and with weights in float32.
type Play<'p> = &'p dyn Fn(Option<Moved>) -> Vec<Entry>;

/// The transcripts from which bounds are derived, made when the first is needed.
struct Copies<'p> {
    play: Play<'p>,
    made: Option<(Vec<Entry>, Vec<(f64, Vec<Entry>)>)>,
}

/// The first thing that differs by more than it may; `None` where there is none.
pub(super) fn difference(device: &[Entry], reference: &[Entry], play: Play<'_>) -> Option<String> {
    let mut copies = Copies { play, made: None };
    let mut left = BTreeSet::new();
    for (place, (actual, expected)) in device.iter().zip(reference).enumerate() {
        let differs = |why: &str| Some(format!("{place}, {}: {why}\n{:?}\nof the reference\n{:?}", expected.what, actual.outcome, expected.outcome));
        match (&actual.outcome, &expected.outcome) {
            (Outcome::Refused(ErrorKind::Limit | ErrorKind::OutOfMemory, _), Outcome::Said(_))
                if matches!(expected.what.as_str(), "explain" | "tune") => {}
            // a GPU is smaller than the host, and what would have come after is missing
            (Outcome::Refused(ErrorKind::Limit | ErrorKind::OutOfMemory, _), Outcome::Said(_) | Outcome::Made(_)) => return None,
            (Outcome::Refused(kind, _), Outcome::Refused(other, _)) if kind == other => {}
            (Outcome::Said(words), Outcome::Said(others)) if words == others => {}
            (Outcome::Nothing, Outcome::Nothing) => {}
            (Outcome::Made(actual), Outcome::Made(expected)) => {
                if let Some(why) = tensors(actual, expected, place, &mut left, &mut copies) {
                    return differs(&why);
                }
            }
            _ => return differs("another outcome"),
        }
    }
    (device.len() != reference.len()).then(|| format!("{} things came of it, {} of the reference", device.len(), reference.len()))
}

fn tensors(actual: &Made, expected: &Made, place: usize, left: &mut BTreeSet<usize>, copies: &mut Copies<'_>) -> Option<String> {
    let origin = &expected.origin;
    let names = |made: &Made| made.tensors.iter().map(|(name, array)| (name.clone(), array.shape().to_vec())).collect::<Vec<_>>();
    if names(actual) != names(expected) {
        return Some(format!("{:?}, expected {:?}", names(actual), names(expected)));
    }
    if origin.level == Level::Wild || origin.states.iter().any(|state| left.contains(state)) {
        return None;
    }
    let small = |value: &f32| value.abs() <= LARGEST || (origin.level == Level::NonFinite && !value.is_finite());
    if !expected.tensors.iter().all(|(_, array)| array.iter().all(small)) {
        left.extend(&origin.states);
        return None;
    }
    for (number, ((name, actual), (_, expected))) in actual.tensors.iter().zip(&expected.tensors).enumerate() {
        let comparison = compare(actual.view(), expected.mapv(f64::from).view(), PLAIN);
        if comparison.passed() {
            continue;
        }
        let Some(bound) = copies.bound(place, number, expected) else {
            left.extend(&origin.states);
            return None;
        };
        let outside = Zip::from(actual).and(expected).and(&bound).fold(0, |outside, &actual, &expected, &bound| {
            let (actual, expected) = (f64::from(actual), f64::from(expected));
            let same = actual == expected || (actual.is_nan() && expected.is_nan()) || (actual - expected).abs() <= bound;
            outside + usize::from(!same)
        });
        if outside > 0 {
            return Some(format!("{name}: {outside} values are outside the derived bound; by the plain one: {comparison}"));
        }
    }
    None
}

impl Copies<'_> {
    /// For every value of a tensor: what it may be wrong by. `None` where the reference does not determine it.
    fn bound(&mut self, place: usize, number: usize, expected: &ArrayD<f32>) -> Option<ArrayD<f64>> {
        let play = self.play;
        let (base, copies) = self.made.get_or_insert_with(|| {
            let copy = |copy| {
                let (steps, times) = if copy < COPIES / 2 { (1, f64::from(FACTOR)) } else { (FACTOR, 1.0) };
                (times, play(Some(Moved { copy, steps })))
            };
            (play(None), (0..COPIES).map(copy).collect())
        });
        let base = tensor(base, place, number, expected)?;
        let mut bound = ArrayD::<f64>::zeros(expected.raw_dim());
        for (times, copy) in copies.iter() {
            let moved = tensor(copy, place, number, expected)?;
            Zip::from(&mut bound).and(base).and(moved).for_each(|bound, &base, &moved| {
                let same = base == moved || (base.is_nan() && moved.is_nan());
                *bound = bound.max(if same { 0.0 } else { times * (f64::from(moved) - f64::from(base)).abs() });
            });
        }
        // units of one step feed each other: what moves one of them moves all
        let size = |value: f32| if value.is_finite() { 1.0 + f64::from(value.abs()) } else { 1.0 };
        let last = Axis(expected.ndim().checked_sub(1)?);
        for (mut units, values) in bound.lanes_mut(last).into_iter().zip(expected.lanes(last)) {
            let most = units.iter().zip(&values).fold(0.0_f64, |most, (unit, &value)| most.max(unit / size(value)));
            units.zip_mut_with(&values, |unit, &value| *unit = unit.max(most * size(value)).max(PLAIN.atol * size(value)));
        }
        let determined = Zip::from(&bound).and(expected).all(|bound, &value| *bound <= UNDETERMINED * PLAIN.atol * size(value));
        determined.then_some(bound)
    }
}

/// Tensor `number` of what came of thing `place`, where it is like `expected`.
fn tensor<'t>(transcript: &'t [Entry], place: usize, number: usize, expected: &ArrayD<f32>) -> Option<&'t ArrayD<f32>> {
    let Outcome::Made(made) = &transcript.get(place)?.outcome else { return None };
    made.tensors.get(number).map(|(_, array)| array).filter(|array| array.shape() == expected.shape())
}
