//! Timing several peers at the same row: each is compared with the reference first, then they take turns.

use std::time::{Duration, Instant};

use cellgate::compare::{Tolerance, compare};
use cellgate::measure::Summary;
use ndarray::{Array3, ArrayD};

use crate::Result;

/// What one call took, and what it computed.
pub struct Call {
    /// from a tensor on the host to a tensor on the host, every element of it read
    pub elapsed: Duration,
    /// `[T, N, D*H]`
    pub y: Array3<f32>,
}

/// An implementation of LSTMs, ready to run one row.
pub trait Peer {
    fn name(&self) -> &'static str;
    /// What was set that changes its speed.
    fn setting(&self) -> String;
    /// How far it may be from the reference.
    fn tolerance(&self) -> Tolerance;
    fn call(&mut self) -> Result<Call>;
}

/// How often a row is timed.
#[derive(Clone, Copy)]
pub struct Pace {
    pub repeat: usize,
    /// past this, a row ends as soon as it has `LEAST` samples of each peer
    pub cap: Duration,
}

/// Samples that even the slowest row gets.
pub const LEAST: usize = 3;

/// Calls after the verified one that are not timed: pipelines, memory pools and tuners settle.
const WARM_UP: usize = 2;

/// What became of a peer at a row.
pub struct Outcome {
    pub name: &'static str,
    pub setting: String,
    pub samples: Vec<Duration>,
    /// the largest of all of its calls
    pub max_abs_err: f64,
    /// why it was not timed to the end
    pub failure: Option<String>,
}

impl Outcome {
    /// Of the samples in seconds; `None` where it failed, or was not timed.
    pub fn summary(&self) -> Option<Summary> {
        if self.failure.is_some() { None } else { Summary::of_durations(&self.samples) }
    }
}

/// Times `peers`, which take turns. A peer that fails, or is wrong in any call, is not timed any further.
pub fn time(peers: &mut [Box<dyn Peer>], expected: &ArrayD<f64>, pace: Pace) -> Vec<Outcome> {
    let outcome = |peer: &Box<dyn Peer>| Outcome { name: peer.name(), setting: peer.setting(), samples: Vec::new(), max_abs_err: 0.0, failure: None };
    let mut outcomes: Vec<Outcome> = peers.iter().map(outcome).collect();
    let mut turn = |timed: bool| {
        for (peer, outcome) in peers.iter_mut().zip(&mut outcomes).filter(|(_, outcome)| outcome.failure.is_none()) {
            match verified(peer.as_mut(), expected) {
                Ok((elapsed, max_abs_err)) => {
                    outcome.max_abs_err = outcome.max_abs_err.max(max_abs_err);
                    outcome.samples.extend(timed.then_some(elapsed));
                }
                Err(error) => outcome.failure = Some(error.to_string()),
            }
        }
    };
    for _ in 0..=WARM_UP {
        turn(false);
    }
    let start = Instant::now();
    for sample in 0..pace.repeat {
        if sample >= LEAST && start.elapsed() > pace.cap {
            break;
        }
        turn(true);
    }
    outcomes
}

/// One call, compared with what is expected after its clock has stopped.
fn verified(peer: &mut dyn Peer, expected: &ArrayD<f64>) -> Result<(Duration, f64)> {
    let call = peer.call()?;
    let comparison = compare(call.y.view().into_dyn(), expected.view(), peer.tolerance());
    if comparison.passed() { Ok((call.elapsed, comparison.max_abs_err)) } else { Err(format!("wrong: {comparison}").into()) }
}

/// A sum that needs every element, so that none is left on its way.
pub fn sum(values: &[f32]) -> u32 {
    values.iter().fold(0, |sum: u32, value| sum.wrapping_add(value.to_bits()))
}
