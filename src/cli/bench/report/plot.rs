//! A plot with two logarithmic axes, as SVG.

use maud::{Markup, html};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// Labels that are nearer to each other run into one.
const LEAST_GAP: f64 = 30.0;

/// Sizes that all have a tick of their own.
const MAX_SIZES: usize = 12;

/// A plot with a caption.
pub(super) struct Plot {
    pub(super) title: String,
    /// what the caption adds
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// A logarithmic axis.
pub(super) struct Axis {
    name: &'static str,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

/// Points of one kind.
pub(super) struct Line {
    /// its colour
    pub(super) class: String,
    pub(super) points: Vec<Point>,
    pub(super) join: Join,
}

/// What joins points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Nothing,
    Line,
    /// a bound, not a measurement
    Roof,
}

pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// what shows where the pointer rests; without it the point itself is not drawn
    pub(super) title: Option<String>,
}

impl Axis {
    /// For sizes, all of which have a tick.
    pub(super) fn sizes(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let mut ticks: Vec<f64> = values.filter(|size| *size > 0.0).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (low, high) = (ticks.first().copied().unwrap_or(1.0), ticks.last().copied().unwrap_or(1.0));
        if ticks.len() > MAX_SIZES {
            ticks = round(low, high);
        }
        let margin = (high / low).powf(0.04).max(1.05);
        Self { name, low: low / margin, high: high * margin, ticks, label: |size| format!("{size:.0}") }
    }

    /// For measured values: from a round one to a round one.
    pub(super) fn values(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        (low, high) = (low / 1.3, high * 1.3);
        Self { name, low, high, ticks: round(low, high), label: scaled }
    }

    /// Its ends.
    pub(super) fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where `value` stands on it, 0 to 1 from one end to the other.
    fn place(&self, value: f64) -> f64 {
        (value.max(self.low * 1e-6) / self.low).ln() / (self.high / self.low).ln()
    }
}

/// Round numbers between `low` and `high`, a handful: powers of ten, and 2 and 5 times these where there are few.
fn round(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let factors: &[f64] = if decades < 1.2 {
        &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]
    } else if decades < 3.5 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    #[expect(clippy::cast_possible_truncation, reason = "powers of ten of measured values")]
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A number in a few characters: `1.5k`, `20M`.
pub(super) fn scaled(value: f64) -> String {
    let (number, prefix) = parts(value);
    format!("{number}{prefix}")
}

/// A number with its unit: `20 MFLOP/s`.
pub(super) fn with_unit(value: f64, unit: &str) -> String {
    let (number, prefix) = parts(value);
    format!("{number} {prefix}{unit}")
}

/// Three digits, and the prefix of the thousands.
fn parts(value: f64) -> (String, &'static str) {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (unit, name) = units.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    let value = value / unit;
    let text = if value >= 99.5 {
        format!("{value:.0}")
    } else if value >= 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    (text, name)
}

impl Plot {
    pub(super) fn draw(&self) -> Markup {
        let across = |value: f64| LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        html! {
            figure {
                figcaption { (self.title) @if !self.about.is_empty() { " " span { (self.about) } } }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                    @for tick in &self.x.ticks {
                        line.grid x1=(at(across(*tick))) x2=(at(across(*tick))) y1=(TOP) y2=(bottom) {}
                    }
                    @for tick in &self.y.ticks {
                        line.grid x1=(LEFT) x2=(right) y1=(at(down(*tick))) y2=(at(down(*tick))) {}
                        text x=(LEFT - 8.0) y=(at(down(*tick) + 4.0)) text-anchor="end" { ((self.y.label)(*tick)) }
                    }
                    @for tick in spread(&self.x.ticks, across) {
                        text x=(at(across(tick))) y=(bottom + 17.0) text-anchor="middle" { ((self.x.label)(tick)) }
                    }
                    line.frame x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
                    text x=(f64::midpoint(LEFT, right)) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x.name) }
                    text transform={ "translate(13 " (f64::midpoint(TOP, bottom)) ") rotate(-90)" } text-anchor="middle" { (self.y.name) }
                    @for line in &self.lines {
                        g class=(line.class) {
                            @if line.join != Join::Nothing { path.line.roof[line.join == Join::Roof] d=(path(line, across, down)) {} }
                            @for point in &line.points {
                                @if let Some(title) = &point.title {
                                    circle.point cx=(at(across(point.x))) cy=(at(down(point.y))) r="4.5" { title { (title) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Ticks whose labels do not run into each other, the first one among them.
fn spread(ticks: &[f64], across: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut kept: Vec<f64> = Vec::new();
    for &tick in ticks {
        if kept.last().is_none_or(|last| across(tick) - across(*last) >= LEAST_GAP) {
            kept.push(tick);
        }
    }
    kept
}

fn path(line: &Line, across: impl Fn(f64) -> f64, down: impl Fn(f64) -> f64) -> String {
    let point = |(number, point): (usize, &Point)| format!("{}{} {}", if number == 0 { "M" } else { "L" }, at(across(point.x)), at(down(point.y)));
    line.points.iter().enumerate().map(point).collect()
}

/// A place with one digit, which no eye can tell from more.
fn at(place: f64) -> String {
    format!("{place:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(round(0.8, 1300.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(round(1e3, 2e8), [1e3, 1e4, 1e5, 1e6, 1e7, 1e8]);
        assert_eq!(round(90.0, 210.0), [100.0, 150.0, 200.0]);
        assert_eq!(Axis::sizes("batch", [32.0, 1.0, 32.0].into_iter()).ticks, [1.0, 32.0]);
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 0.25, 1.0, 12.5, 999.0, 1000.0, 1536.0, 2e7, 3.25e9].map(scaled);
        assert_eq!(found, ["0", "0.25", "1", "12.5", "999", "1k", "1.54k", "20M", "3.25G"]);
    }

    #[test]
    fn nothing_to_measure_is_still_an_axis() {
        let axis = Axis::values("time", [f64::NAN, 0.0, f64::INFINITY].into_iter());
        assert!(axis.place(1.0).is_finite() && axis.place(0.0).is_finite());
    }
}
