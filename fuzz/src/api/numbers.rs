//! Arrays of numbers that a seed makes, and copies of them that are a rounding away.

use ndarray::{ArrayD, Axis, IxDyn};

use super::draw::Draw;
use crate::rng::Rng;

/// What can be said of results, by the numbers that went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    /// all are finite and of the size that networks have: a bound holds
    #[default]
    Moderate,
    /// some are NaN or infinite, the others moderate: NaN and infinity stand where the reference has them
    NonFinite,
    /// float32 may overflow where float64 does not: nothing but shapes
    Wild,
}

/// The numbers of one array.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    seed: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Kind {
    /// from -1 to 1
    #[default]
    Random,
    Zeros,
    /// up to 1e4, which drives gates to their ends
    Saturated,
    NonFinite,
    Huge,
}

/// A copy of a plan, all of whose numbers are some float32 steps up or down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) copy: u32,
    pub(super) steps: u32,
}

impl Numbers {
    /// Numbers for an input or a state.
    pub(super) fn draw(draw: &mut Draw<'_>) -> Self {
        use Kind::{Huge, NonFinite, Random, Saturated, Zeros};
        let kind = draw
            .pick(&[Random, Random, Random, Random, Random, Random, Random, Random, Random, Random, Zeros, Saturated, Saturated, NonFinite, Huge]);
        Self { seed: draw.seed(), kind }
    }

    /// Numbers for weights, which are mostly like those of a network.
    pub(super) fn of_weights(draw: &mut Draw<'_>) -> Self {
        let kind = draw.maybe(8, |draw| draw.pick(&[Kind::Zeros, Kind::NonFinite, Kind::Huge])).unwrap_or(Kind::Random);
        Self { seed: draw.seed(), kind }
    }

    pub(super) fn level(self) -> Level {
        match self.kind {
            Kind::Random | Kind::Zeros | Kind::Saturated => Level::Moderate,
            Kind::NonFinite => Level::NonFinite,
            Kind::Huge => Level::Wild,
        }
    }

    /// The numbers of another array that is drawn like this one.
    pub(super) fn next(self, number: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "part of a seed")]
        let seed = self.seed.wrapping_mul(31).wrapping_add(number as u32 + 1);
        Self { seed, ..self }
    }

    /// An array of numbers up to `scale`, row-major.
    pub(super) fn array(self, shape: &[usize], scale: f32, moved: Option<Moved>) -> ArrayD<f32> {
        let mut rng = Rng::new(self.seed);
        let array = ArrayD::from_shape_simple_fn(IxDyn(shape), || self.number(&mut rng, scale));
        match moved {
            Some(moved) => moved.array(array, self.seed),
            None => array,
        }
    }

    /// As [`Numbers::array`], with the axes in another order in memory, some of them backwards.
    pub(super) fn strided(self, shape: &[usize], moved: Option<Moved>) -> ArrayD<f32> {
        let turned: Vec<usize> = shape.iter().rev().copied().collect();
        let mut array = self.array(&turned, 1.0, moved).reversed_axes();
        if let Some(axis) = shape.len().checked_sub(1) {
            array.invert_axis(Axis(axis));
        }
        array
    }

    fn number(self, rng: &mut Rng, scale: f32) -> f32 {
        const NON_FINITE: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        const HUGE: [f32; 6] = [f32::MAX, f32::MIN, 1e30, -1e30, f32::NAN, f32::INFINITY];
        let random = scale * ((rng.next() >> 40) as f32 / (1 << 23) as f32 - 1.0);
        match self.kind {
            Kind::Random => random,
            Kind::Zeros => [0.0, -0.0][rng.below(2)],
            Kind::Saturated => 1e4 * random,
            Kind::NonFinite if rng.below(16) == 0 => NON_FINITE[rng.below(3)],
            Kind::Huge if rng.below(8) == 0 => HUGE[rng.below(6)],
            Kind::NonFinite | Kind::Huge => random,
        }
    }
}

impl Moved {
    /// `array` with every number that many steps up or down. Zero has no relative neighbour: who multiplies by it makes no error.
    fn array(self, array: ArrayD<f32>, seed: u32) -> ArrayD<f32> {
        let mut rng = Rng::new(seed.wrapping_mul(97).wrapping_add(self.copy));
        array.mapv_into(|value| {
            let up = rng.next() & 1 == 0;
            let step = |value: f32| if up { value.next_up() } else { value.next_down() };
            if value == 0.0 || !value.is_finite() { value } else { (0..self.steps).fold(value, |value, _| step(value)) }
        })
    }

    /// How far a threshold moves, on which a rounding decides between two values.
    pub(super) fn shift(self) -> f32 {
        let sign = if self.copy.is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * 32.0 * f32::EPSILON
    }
}
