//! Submits, and how far the host may run ahead of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::error::Result;
use crate::gpu::device::lock;
use crate::gpu::{GpuDevice, Wait};

/// Submits that may be under way before the host waits for the first of them.
const MAX_SUBMITS_AHEAD: usize = 3;

/// Work that was given to the device.
#[derive(Clone, Debug)]
pub(crate) struct Submit {
    pub(super) index: wgpu::SubmissionIndex,
    /// of all submits of a device, in the order in which it got them
    pub(super) number: u64,
}

/// The submits of a device that nobody has waited for, in their order.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// the last number, held while work is given to the device: who is done with one number is done with all before it
    turn: Mutex<u64>,
    /// those that succeeded; one that is added after its successor is done stays until the next one is
    submits: Mutex<BTreeMap<u64, wgpu::SubmissionIndex>>,
    /// when somebody last heard that one is done
    progressed: Mutex<Option<Instant>>,
}

impl Ahead {
    /// When somebody last heard that a submit is done, or `since`, if that is later.
    pub(super) fn progressed(&self, since: Instant) -> Instant {
        lock(&self.progressed).map_or(since, |progressed| progressed.max(since))
    }

    /// A submit is done.
    pub(super) fn progress(&self) {
        *lock(&self.progressed) = Some(Instant::now());
    }

    /// Has `submit` give work to the device while nobody else does; gives its number as well.
    fn in_turn<T>(&self, submit: impl FnOnce() -> T) -> (T, u64) {
        let mut number = lock(&self.turn);
        let submitted = submit();
        *number += 1;
        (submitted, *number)
    }

    /// Submit `number` has succeeded.
    fn add(&self, index: wgpu::SubmissionIndex, number: u64) -> Submit {
        lock(&self.submits).insert(number, index.clone());
        Submit { index, number }
    }

    /// The first submit, where there are too many.
    fn first_of_too_many(&self) -> Option<Submit> {
        let submits = lock(&self.submits);
        let (number, index) = submits.first_key_value().filter(|_| submits.len() > MAX_SUBMITS_AHEAD)?;
        Some(Submit { index: index.clone(), number: *number })
    }

    /// Submit `number` and those before it are done, or will never be.
    pub(super) fn done(&self, number: u64) {
        let mut submits = lock(&self.submits);
        let later = submits.split_off(&(number + 1));
        *submits = later;
    }
}

impl GpuDevice {
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("cellgate") })
    }

    /// Gives the device what `encoder` recorded.
    pub(crate) async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<Submit> {
        let submit = || {
            let commands = encoder.finish();
            self.ahead.in_turn(|| self.queue.submit([commands]))
        };
        let (index, number) = self.checked("submit", submit).await?;
        Ok(self.ahead.add(index, number))
    }

    /// Waits until few submits are under way, so that the host does not run ahead without bound and hears of what went wrong.
    pub(crate) async fn keep_up(&self, wait: Wait) -> Result<()> {
        while let Some(submit) = self.ahead.first_of_too_many() {
            self.wait(submit, wait).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn numbers_are_in_the_order_in_which_the_device_gets_the_work() {
        let (ahead, device) = (Ahead::default(), AtomicU64::new(0));
        let submit = || {
            let place = device.fetch_add(1, Ordering::Relaxed) + 1;
            // as long as a submit takes others time to come between
            std::thread::yield_now();
            place
        };
        let work = || (0..50).all(|_| matches!(ahead.in_turn(submit), (place, number) if place == number));
        let in_order = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect::<Vec<bool>>()
        });
        assert_eq!(in_order, [true; 4]);
    }
}
