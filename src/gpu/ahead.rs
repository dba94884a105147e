//! Submits, and how far the host may run ahead of them.

use std::collections::VecDeque;
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
    /// of all submits of a device
    pub(super) number: u64,
}

/// The submits of a device that nobody has waited for, in their order.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    submits: Mutex<(u64, VecDeque<Submit>)>,
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

    fn add(&self, index: wgpu::SubmissionIndex) -> Submit {
        let (number, submits) = &mut *lock(&self.submits);
        *number += 1;
        let submit = Submit { index, number: *number };
        submits.push_back(submit.clone());
        submit
    }

    /// The first submit, where there are too many.
    fn first_of_too_many(&self) -> Option<Submit> {
        let (_, submits) = &*lock(&self.submits);
        submits.front().filter(|_| submits.len() > MAX_SUBMITS_AHEAD).cloned()
    }

    /// Submit `number` and those before it are done, or will never be.
    pub(super) fn done(&self, number: u64) {
        lock(&self.submits).1.retain(|submit| submit.number > number);
    }
}

impl GpuDevice {
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("cellgate") })
    }

    /// Gives the device what `encoder` recorded.
    pub(crate) async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<Submit> {
        let index = self.checked("submit", || self.queue.submit([encoder.finish()])).await?;
        Ok(self.ahead.add(index))
    }

    /// Waits until few submits are under way, so that the host does not run ahead without bound and hears of what went wrong.
    pub(crate) async fn keep_up(&self, wait: Wait) -> Result<()> {
        while let Some(submit) = self.ahead.first_of_too_many() {
            self.wait(submit, wait).await?;
        }
        Ok(())
    }
}
