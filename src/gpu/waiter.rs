//! Waits for the device that end, whatever becomes of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::ahead::{Ahead, Submit};
use crate::gpu::fault::Health;
#[cfg(test)]
use crate::gpu::inject::{Fault, Point};
use crate::gpu::{GpuDevice, Wait};

/// How long one poll waits: wgpu holds a lock meanwhile that others may need to submit.
const SLICE: Duration = Duration::from_millis(500);

/// How often somebody looks for what another thread is about to be told: that a buffer is mapped, or the device lost.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// How wgpu 30 panics where a wait is over before the work is, and another thread sees the end of it before this one has looked at its queue: the device
/// is well, and the work is done. Later versions do not (gfx-rs/wgpu#9958).
const RACE: &str = "If the queue is empty, the current submission index";

/// Whether a poll that panicked says nothing of the device.
pub(super) fn is_race(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.starts_with(RACE))
}

/// What waits for a device, on any thread.
#[derive(Clone)]
pub(super) struct Waiter {
    pub(super) device: wgpu::Device,
    pub(super) health: Arc<Health>,
    pub(super) ahead: Arc<Ahead>,
    /// a device that does nothing for so long hangs
    pub(super) timeout: Duration,
}

impl Waiter {
    /// Waits on this thread, until the device has done the work, is lost, or has done nothing at all for as long as it may.
    fn wait(&self, index: &wgpu::SubmissionIndex) -> Result<()> {
        let started = Instant::now();
        while !self.wait_a_slice(index, started)? {}
        Ok(())
    }

    /// Waits for [`SLICE`] at most, on behalf of somebody who has waited since `started`; whether the work is done, or will never be.
    pub(super) fn wait_a_slice(&self, index: &wgpu::SubmissionIndex, started: Instant) -> Result<bool> {
        let slice = self.timeout.min(SLICE);
        // looked at before the poll: where the whole process was stopped for long, the device gets some time to go on
        let idle = self.ahead.progressed(started).elapsed();
        match self.poll(index, slice)? {
            true => {
                self.ahead.progress();
                Ok(true)
            }
            // a caller is told why
            false if self.health.loss().is_some() => Ok(true),
            false if idle + slice >= self.timeout => Err(self.hang()),
            false => Ok(false),
        }
    }

    /// Waits for `timeout` at most; whether the work is done. A lost device makes the poll itself panic on some backends.
    fn poll(&self, index: &wgpu::SubmissionIndex, timeout: Duration) -> Result<bool> {
        let poll = || {
            #[cfg(test)]
            match self.health.pass(&self.device, Point::Wait) {
                Some(Fault::Hang) => return Ok(Err(self.hang())),
                // a panic that prints nothing
                Some(Fault::Panic) => std::panic::resume_unwind(Box::new("a poll of a lost device")),
                Some(Fault::Race) => {
                    let _ = self.device.poll(wgpu::PollType::Wait { submission_index: Some(index.clone()), timeout: Some(timeout) });
                    std::panic::resume_unwind(Box::new(format!("{RACE} (3) should be at least")));
                }
                _ => {}
            }
            self.device.poll(wgpu::PollType::Wait { submission_index: Some(index.clone()), timeout: Some(timeout) }).map(|_| Ok(true))
        };
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Ok(done)) => done,
            Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
            Ok(Err(error)) => Err(Error::new(ErrorKind::Validation, format!("the device never got the work: {error}")).with_source(error)),
            // the other thread saw an empty queue
            Err(panic) if is_race(&*panic) => Ok(true),
            Err(_) => {
                self.health.lose("the device was lost while it was waited for");
                Ok(false)
            }
        }
    }

    /// The device does nothing any more. What it was given it may still do at any time, so nothing of it is to be relied on.
    fn hang(&self) -> Error {
        let what = format!("no answer from the device within {} s", self.timeout.as_secs_f64());
        self.health.hang(&format!("{what}, so that it counts as lost"));
        Error::new(ErrorKind::Timeout, what)
    }
}

impl GpuDevice {
    /// Waits until the device has done `submit` and everything before it.
    pub(crate) async fn wait(&self, submit: Submit, wait: Wait) -> Result<()> {
        let waited = match wait {
            Wait::Block => self.waiter.wait(&submit.index),
            Wait::Async => self.wait_thread.wait(submit.clone()).await,
        };
        self.ahead.done(submit.number);
        match waited {
            // a lost device can look like one that is done
            Ok(()) => self.failed(),
            Err(error) if error.kind() == ErrorKind::Timeout => Err(error.within(self.info())),
            Err(error) => Err(self.explain(error.within(self.info()))),
        }
    }

    /// Asks for the first `bytes` bytes of `buffer` to be mapped once the submits so far that use it are done; [`Mapping::done`] says when.
    pub(crate) fn map(buffer: &wgpu::Buffer, bytes: u64, mode: wgpu::MapMode) -> Mapping {
        let mapped = Arc::new(OnceLock::new());
        let mapping = Mapping(Arc::clone(&mapped));
        buffer.map_async(mode, 0..bytes, move |result| {
            // it is told once
            let _ = mapped.set(result);
        });
        mapping
    }

    /// Waits for `submit`, which copied results to `staging`, and gives the first `bytes` bytes of them to `store`.
    pub(crate) async fn read(&self, staging: &wgpu::Buffer, bytes: u64, submit: Submit, wait: Wait, store: impl FnOnce(&[u8])) -> Result<()> {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let mapping = Self::map(staging, bytes, wgpu::MapMode::Read);
        self.wait(submit, wait).await?;
        mapping.done(self)?;
        let view = staging.get_mapped_range(0..bytes).map_err(|error| {
            self.explain(Error::new(ErrorKind::Validation, format!("{}: results cannot be read: {error}", self.info())).with_source(error))
        })?;
        store(&view);
        drop(view);
        staging.unmap();
        Ok(())
    }
}

/// A buffer that is about to be mapped.
pub(crate) struct Mapping(Arc<OnceLock<std::result::Result<(), wgpu::BufferAsyncError>>>);

impl Mapping {
    /// Comes back when the buffer is mapped. Somebody has waited for the submits that use it, so it is mapped already, or about to be by another
    /// thread that polled; a device that does neither is not waited for without end.
    pub(crate) fn done(self, device: &GpuDevice) -> Result<()> {
        let started = Instant::now();
        let failed = |kind, what: String| Error::new(kind, format!("{}: a buffer cannot be mapped: {what}", device.info()));
        #[cfg(test)]
        if device.health.pass(&device.device, Point::Map) == Some(Fault::Unmapped) {
            return Err(device.explain(failed(ErrorKind::Validation, "for a test".to_owned())));
        }
        loop {
            // asked before the result: who drops its end has told what there is to tell
            let is_given_up = Arc::strong_count(&self.0) == 1;
            if is_given_up {
                // the count is a relaxed load: with the release of the other end's drop, this puts what was told before it
                fence(Ordering::Acquire);
            }
            match self.0.get() {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(device.explain(failed(ErrorKind::Validation, error.to_string()).with_source(error.clone()))),
                None if is_given_up => return Err(device.explain(failed(ErrorKind::Validation, "the request was dropped".to_owned()))),
                None => device.still_there()?,
            }
            if started.elapsed() > device.waiter.timeout {
                return Err(device.waiter.hang().within(device.info()));
            }
            std::thread::sleep(LOOK);
        }
    }
}
