//! How a call is spread over threads.

use std::fmt;

use crate::cpu::cost::{CpuRates, walk_seconds};
use crate::network::LstmConfig;

/// A call that is over before a sleeping thread is awake.
const SHORT_CALL: f64 = 40e-6;

/// Who does what in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) struct Plan {
    /// blocks of rows, a thread each
    pub(in crate::cpu) blocks: usize,
    /// threads that share every step of the only block
    pub(in crate::cpu) members: usize,
    /// whether the others are asked to join only where they are awake
    pub(in crate::cpu) is_short: bool,
}

impl Plan {
    /// What is expected to be over first on `threads` threads: all of the call on one, blocks of rows on all of them, or all of them at every step.
    pub(in crate::cpu) fn new(config: &LstmConfig, batch: usize, seq_len: usize, threads: usize, rates: &CpuRates) -> Self {
        let threads = threads.max(1);
        let alone = Self { blocks: 1, members: 1, is_short: false };
        let spread = Self { blocks: batch.clamp(1, threads), ..alone };
        let shared = Self { members: config.hidden_size.div_ceil(rates.lanes).clamp(1, threads), ..alone };
        let candidates = [alone, spread, shared].map(|plan| (plan.seconds(config, batch, seq_len, rates), plan));
        let is_short = candidates[0].0 < SHORT_CALL;
        let (_, fastest) = candidates.into_iter().reduce(|best, other| if other.0 < best.0 { other } else { best }).unwrap_or((0.0, alone));
        Self { is_short, ..fastest }
    }

    /// What the call is expected to take.
    pub(in crate::cpu) fn seconds(self, config: &LstmConfig, batch: usize, seq_len: usize, rates: &CpuRates) -> f64 {
        match self {
            Self { blocks: 1, members, .. } => walk_seconds(config, batch, seq_len, members, rates),
            Self { blocks, .. } => rates.spread_seconds + walk_seconds(config, batch.div_ceil(blocks), seq_len, 1, rates),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { blocks: 1, members: 1, .. } => f.write_str("one thread"),
            Self { blocks: 1, members, is_short: true } => write!(f, "{members} threads share every step if they are awake"),
            Self { blocks: 1, members, .. } => write!(f, "{members} threads share every step"),
            Self { blocks, .. } => write!(f, "{blocks} blocks of rows, a thread each"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_spread_by_what_is_expected_of_them() {
        let plan = |hidden, batch, seq_len, threads| {
            Plan::new(&LstmConfig::new(hidden, hidden), batch, seq_len, threads, &CpuRates::typical(16)).to_string()
        };
        assert_eq!(plan(16, 1, 1, 8), "one thread");
        assert_eq!(plan(64, 1, 100, 1), "one thread");
        assert_eq!(plan(64, 1, 100, 2), "2 threads share every step");
        assert_eq!(plan(64, 1, 100, 8), "4 threads share every step");
        assert_eq!(plan(256, 1, 1, 2), "2 threads share every step if they are awake");
        assert_eq!(plan(256, 3, 10, 8), "8 threads share every step");
        assert_eq!(plan(256, 8, 100, 2), "2 blocks of rows, a thread each");
        // weights that do not fit a core's own cache are better divided
        assert_eq!(plan(1024, 8, 100, 16), "16 threads share every step");
        assert_eq!(plan(256, 1000, 10, 8), "8 blocks of rows, a thread each");
        assert_eq!(plan(1, 1000, 0, 8), "one thread");
        assert!(plan(1 << 20, usize::MAX >> 30, usize::MAX >> 30, 3).starts_with("3 "));
    }
}
