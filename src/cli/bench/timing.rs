//! Times calls of a session, and where their time goes.

use std::time::{Duration, Instant};

use cellgate::measure::{CallProfile, Summary};
use cellgate::{Inputs, Outputs, Session};

/// So many calls at least are timed, unless fewer are asked for.
const LEAST: usize = 5;

/// Where a single call takes this long, fewer do.
const SLOW: Duration = Duration::from_secs(2);
const LEAST_SLOW: usize = 3;

/// Calls in which phases are told apart, the first of which warms up.
const PHASED: usize = 6;

/// How long calls are timed if nobody says.
const USUAL: Duration = Duration::from_secs(1);

/// When there are enough samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    /// calls before those that are timed, beside the one that is verified
    pub(super) warm_up: usize,
    pub(super) repeat: Option<usize>,
    pub(super) duration: Option<Duration>,
}

/// What the timed calls took.
pub(super) struct Times {
    /// of whole calls, in seconds
    pub(super) call: Summary,
    /// medians in seconds; `None` where they cannot be told
    pub(super) phases: Option<Phases>,
}

/// Where the time of a call on a GPU goes.
pub(super) struct Phases {
    pub(super) upload: f64,
    pub(super) compute: f64,
    pub(super) readback: f64,
    /// whether `compute` is by the device's own clock
    pub(super) device_clock: bool,
}

impl Budget {
    /// How long the timed calls of a row are expected to take, without a call's own time.
    pub(super) fn expected(self) -> Duration {
        self.duration.unwrap_or(USUAL)
    }

    /// Whether `n` calls are enough, which took `elapsed` together.
    fn is_spent(self, n: usize, elapsed: Duration) -> bool {
        let slow = n > 0 && elapsed / u32::try_from(n).unwrap_or(u32::MAX) > SLOW;
        let least = if slow { LEAST_SLOW } else { LEAST };
        match (self.repeat, self.duration) {
            (Some(repeat), None) => n >= repeat,
            (Some(repeat), Some(duration)) => n >= repeat || (n > 0 && elapsed >= duration),
            (None, duration) => n >= least && elapsed >= duration.unwrap_or(USUAL),
        }
    }
}

/// Times calls, in seconds; their results are in `outputs`.
pub(super) fn time(session: &mut Session, inputs: &Inputs<'_>, outputs: &mut Outputs, budget: Budget) -> cellgate::Result<Summary> {
    for _ in 0..budget.warm_up {
        session.run_into(inputs, outputs)?;
    }
    let (mut samples, mut elapsed) = (Vec::new(), Duration::ZERO);
    loop {
        let start = Instant::now();
        session.run_into(inputs, outputs)?;
        let sample = start.elapsed();
        samples.push(sample);
        elapsed += sample;
        if budget.is_spent(samples.len(), elapsed)
            && let Some(summary) = Summary::of_durations(&samples)
        {
            return Ok(summary);
        }
    }
}

/// Where the time of a call goes, in calls of a session that profiles; these take a little longer than others. `None` where it cannot be told.
pub(super) fn time_phases(session: &mut Session, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<Option<Phases>, String> {
    let mut profiles = Vec::new();
    for _ in 0..PHASED {
        session.run_into(inputs, outputs).map_err(|error| error.to_string())?;
        profiles.extend(session.profile());
    }
    Ok(profiles.get(1..).and_then(summarise))
}

fn summarise(profiles: &[CallProfile]) -> Option<Phases> {
    let median = |of: &dyn Fn(&CallProfile) -> Option<Duration>| {
        let samples: Option<Vec<Duration>> = profiles.iter().map(of).collect();
        Summary::of_durations(&samples?).map(|summary| summary.median)
    };
    let device = median(&|profile| profile.device).filter(|seconds| *seconds > 0.0);
    Some(Phases {
        upload: median(&|profile| Some(profile.upload))?,
        compute: match device {
            Some(seconds) => seconds,
            None => median(&|profile| Some(profile.submit_to_done))?,
        },
        readback: median(&|profile| Some(profile.readback))?,
        device_clock: device.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let (seconds, budget) = (Duration::from_secs_f64, |repeat, duration| Budget { warm_up: 0, repeat, duration });
        let usual = budget(None, None);
        assert!(!usual.is_spent(4, seconds(1.5)) && usual.is_spent(5, seconds(1.5)) && !usual.is_spent(1000, seconds(0.9)));
        assert!(!usual.is_spent(2, seconds(6.0)) && usual.is_spent(3, seconds(9.0)), "slow calls");
        let counted = budget(Some(2), None);
        assert!(!counted.is_spent(1, seconds(1e3)) && counted.is_spent(2, seconds(0.0)));
        let both = budget(Some(100), Some(seconds(0.1)));
        assert!(!both.is_spent(0, seconds(1.0)) && both.is_spent(1, seconds(0.2)) && both.is_spent(100, seconds(0.01)));
        let long = budget(None, Some(seconds(10.0)));
        assert!(!long.is_spent(50, seconds(9.0)) && long.is_spent(50, seconds(10.0)));
    }

    #[test]
    fn phases_are_those_of_a_gpu() {
        assert!(summarise(&[]).is_none());
        let ms = Duration::from_millis;
        let by_clock = CallProfile { encode: ms(5), upload: ms(1), submit_to_done: ms(9), device: Some(ms(8)), readback: ms(2) };
        let found = summarise(&[by_clock; 3]).unwrap();
        assert_eq!((found.upload, found.compute, found.readback, found.device_clock), (0.001, 0.008, 0.002, true));
        // one call without timestamps, and none can be told from the rest
        let found = summarise(&[by_clock, CallProfile { device: None, ..by_clock }]).unwrap();
        assert_eq!((found.compute, found.device_clock), (0.009, false));
    }
}
