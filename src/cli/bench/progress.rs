//! How much is left: a bar that counts expected time, since a row of many steps waits long for the reference.

use std::time::Duration;

use indicatif::ProgressBar;

use super::subject::Subject;
use super::timing::Budget;
use crate::cli::output;

/// Operations per second of the reference.
const REFERENCE_RATE: f64 = 1e9;

/// What a row takes beside calls and the reference: plans, pipelines, the calls that are not timed.
const PREPARATION: Duration = Duration::from_millis(300);

pub(super) struct Progress {
    bar: ProgressBar,
    row: Duration,
}

impl Progress {
    pub(super) fn new(budget: Budget) -> Self {
        Self { bar: output::timed_bar(), row: PREPARATION + budget.expected() }
    }

    /// Adds `calls` calls of every number of rows and steps, each compared once for `precisions` and timed on `devices` devices for each of these.
    pub(super) fn expect(&self, subject: &Subject, calls: &[(usize, usize)], precisions: usize, devices: usize) {
        for &(batch, seq_len) in calls {
            self.bar.inc_length(precisions as u64 * (reference_ms(subject, batch, seq_len) + devices as u64 * self.row_ms()));
        }
    }

    pub(super) fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    pub(super) fn compared(&self, subject: &Subject, batch: usize, seq_len: usize) {
        self.bar.inc(reference_ms(subject, batch, seq_len));
    }

    pub(super) fn row_done(&self) {
        self.bar.inc(self.row_ms());
    }

    /// Runs what writes to the terminal, without the bar in its way.
    pub(super) fn aside<T>(&self, run: impl FnOnce() -> T) -> T {
        self.bar.suspend(run)
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds, in milliseconds")]
    fn row_ms(&self) -> u64 {
        self.row.as_millis() as u64
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
fn reference_ms(subject: &Subject, batch: usize, seq_len: usize) -> u64 {
    (subject.reference_flops(batch, seq_len) as f64 / REFERENCE_RATE * 1e3) as u64
}
