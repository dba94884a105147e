//! Where the time of a call goes, and samples of a quantity, summarised so that one disturbed sample does not move the result.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration for people: `1.50 ms`.
pub fn seconds_for_people(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Today, in Greenwich: `2026-11-28`.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The day so many days after 1970-01-01. Years that start in March, so that the leap day is the last (Hinnant, `chrono`-compatible low-level
/// date algorithms).
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Order statistics of a set of samples, in the samples' unit.
///
/// With `x` the samples in ascending order, counted from 1:
///
/// ```text
/// median = x[(n+1)/2]                       for odd n, the mean of x[n/2] and x[n/2 + 1] for even n
/// mad    = median of |x[k] - median|        the median absolute deviation, not scaled to a standard deviation
/// p95    = x[ceil(0.95 * n)]                the nearest rank: always one of the samples
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// how many samples there are
    pub n: usize,
    /// the middle
    pub median: f64,
    /// the median distance from the median
    pub mad: f64,
    /// the smallest
    pub min: f64,
    /// the largest
    pub max: f64,
    /// the smallest sample that at least 95 % of the samples do not exceed
    pub p95: f64,
}

impl Summary {
    /// Summarises `samples`, in any order; `None` where there are none. NaN sorts above every number.
    ///
    /// ```
    /// let summary = cellgate::measure::Summary::of(&[4.0, 1.0, 2.0]).ok_or("no samples")?;
    /// assert_eq!((summary.median, summary.mad, summary.min), (2.0, 1.0, 1.0));
    /// # Ok::<(), &str>(())
    /// ```
    pub fn of(samples: &[f64]) -> Option<Self> {
        let sorted = ascending(samples.iter().copied());
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let median = middle(&sorted);
        let deviations = ascending(sorted.iter().map(|sample| (sample - median).abs()));
        let rank = (sorted.len() * 95).div_ceil(100);
        Some(Self { n: sorted.len(), median, mad: middle(&deviations), min, max, p95: sorted[rank - 1] })
    }

    /// Summarises durations, in seconds; `None` where there are none.
    pub fn of_durations(samples: &[Duration]) -> Option<Self> {
        let seconds: Vec<_> = samples.iter().map(Duration::as_secs_f64).collect();
        Self::of(&seconds)
    }
}

/// What a device does at most, measured by [`Engine::peak`](crate::Engine::peak): the two ends of its roofline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// multiplications and additions of float32 per second, each counted as one, where nothing else is done
    pub flops_per_second: f64,
    /// bytes read and bytes written per second, together, by a copy in memory that no cache holds where the device binds as much
    pub bytes_per_second: f64,
}

impl Peak {
    /// The most operations per second that `intensity` operations for each byte from memory allow: `min(flops, intensity * bytes)`.
    ///
    /// ```
    /// let peak = cellgate::measure::Peak { flops_per_second: 1e12, bytes_per_second: 1e11 };
    /// assert_eq!((peak.roof(1.0), peak.roof(100.0)), (1e11, 1e12));
    /// ```
    pub fn roof(&self, intensity: f64) -> f64 {
        self.flops_per_second.min(intensity * self.bytes_per_second)
    }
}

/// Where the time of a session's last call on a GPU went, all LSTMs together. Made by [`Session::profile`](crate::Session::profile).
///
/// `encode` and `submit_to_done` overlap where a call has several submits. Software adapters compute while they are submitted to: there most of
/// `encode` is the device's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallProfile {
    /// the host wrote inputs and recorded and submitted commands; in a first call of its shape it made plans, buffers and pipelines as well
    pub encode: Duration,
    /// of `encode`: the host wrote inputs where the device fetches them
    pub upload: Duration,
    /// from each first submit until the host had the results in sight
    pub submit_to_done: Duration,
    /// the compute passes by the device's own clock; `None` where the adapter has no timestamps, or a call more passes than it counts
    pub device: Option<Duration>,
    /// the host stored results in its arrays
    pub readback: Duration,
}

impl CallProfile {
    /// Adds what came after.
    pub(crate) fn add(&mut self, other: &Self) {
        self.encode += other.encode;
        self.upload += other.upload;
        self.submit_to_done += other.submit_to_done;
        self.device = self.device.zip(other.device).map(|(sum, device)| sum + device);
        self.readback += other.readback;
    }
}

fn ascending(samples: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<_> = samples.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of samples that are sorted and at least one.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[7.0]), Some(Summary { n: 1, median: 7.0, mad: 0.0, min: 7.0, max: 7.0, p95: 7.0 }));
        assert_eq!(Summary::of(&[9.0, 5.0]), Some(Summary { n: 2, median: 7.0, mad: 2.0, min: 5.0, max: 9.0, p95: 9.0 }));
        assert_eq!(Summary::of(&[10.0, 1.0, 2.0]), Some(Summary { n: 3, median: 2.0, mad: 1.0, min: 1.0, max: 10.0, p95: 10.0 }));
    }

    #[test]
    fn even_and_odd() {
        let even = Summary::of(&[8.0, 1.0, 4.0, 2.0]).unwrap();
        assert_eq!((even.median, even.mad), (3.0, 1.5));
        let odd = Summary::of(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]).unwrap();
        assert_eq!((odd.median, odd.mad), (2.0, 1.0));
    }

    #[test]
    fn p95_is_the_nearest_rank() {
        let p95 = |n: u32| Summary::of(&(1..=n).rev().map(f64::from).collect::<Vec<_>>()).unwrap().p95;
        assert_eq!([19, 20, 21, 40, 100, 101].map(p95), [19.0, 19.0, 20.0, 38.0, 95.0, 96.0]);
    }

    #[test]
    fn one_wild_sample_moves_neither_median_nor_mad() {
        let calm = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let wild = Summary::of(&[1.0, 2.0, 3.0, 4.0, 1e9]).unwrap();
        assert_eq!((calm.median, calm.mad), (wild.median, wild.mad));
    }

    #[test]
    fn durations_are_in_seconds() {
        let summary = Summary::of_durations(&[Duration::from_millis(250), Duration::from_millis(750)]).unwrap();
        assert_eq!((summary.n, summary.median, summary.mad), (2, 0.5, 0.25));
        assert_eq!(Summary::of_durations(&[]), None);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, expected) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_453, "2025-12-31"), (47_540, "2100-02-28")] {
            assert_eq!(date(days), expected);
        }
        assert_eq!(date(47_541), "2100-03-01");
    }
}
