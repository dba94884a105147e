//! What is known of a device that fails. Every error of the graphics API comes by here, so that a lost device is called that, whatever it shows as, and
//! stays lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::device::DeviceInfo;
use crate::error::{Error, ErrorKind, Result, one_line};
use crate::gpu::GpuDevice;
use crate::gpu::waiter::{LOOK, is_race};

/// How long a device that shows an error may take to finish its work: a destroyed one says so only then.
const LAST_WORK: Duration = Duration::from_secs(1);

/// What is known of a device.
pub(crate) struct Health {
    /// how errors call it
    device: String,
    /// why it is of no use any more, in a line: the first reason, for ever
    lost: OnceLock<String>,
    /// whether that is because it does not answer
    hangs: AtomicBool,
    #[cfg(test)]
    pub(crate) inject: super::inject::Inject,
}

impl Health {
    pub(super) fn new(info: &DeviceInfo) -> Self {
        Self {
            device: info.to_string(),
            lost: OnceLock::new(),
            hangs: AtomicBool::new(false),
            #[cfg(test)]
            inject: super::inject::Inject::default(),
        }
    }

    /// The device is of no use any more.
    pub(super) fn lose(&self, why: &str) {
        // the first reason is the one that explains the others
        let _ = self.lost.set(one_line(why).trim_end_matches('.').to_owned());
    }

    /// The device does not answer, and is of no use any more.
    pub(super) fn hang(&self, why: &str) {
        self.hangs.store(true, Ordering::Relaxed);
        self.lose(why);
    }

    /// Whether it has not answered once.
    pub(super) fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Relaxed)
    }

    /// What every call on a lost device is told.
    pub(super) fn loss(&self) -> Option<Error> {
        self.lost.get().map(|why| Error::new(ErrorKind::DeviceLost, format!("{}: {why}", self.device)))
    }
}

impl GpuDevice {
    /// That the device is lost, where that is known.
    pub(crate) fn failed(&self) -> Result<()> {
        self.health.loss().map_or(Ok(()), Err)
    }

    /// What an error of the graphics API comes down to: a lost device shows as all kinds of them.
    pub(super) fn explain(&self, error: Error) -> Error {
        self.look(wgpu::PollType::Poll);
        if error.kind() == ErrorKind::Validation {
            let asked = Instant::now();
            self.look(wgpu::PollType::Wait { submission_index: None, timeout: Some(LAST_WORK) });
            // another thread that polls may have been told, and be about to say so
            while self.health.loss().is_none() && asked.elapsed() < LAST_WORK {
                std::thread::sleep(LOOK);
            }
        }
        match self.health.loss() {
            Some(loss) => loss.with_source(error),
            None => error,
        }
    }

    /// That the device is lost, where it is. Some losses are known only once somebody has polled.
    pub(crate) fn still_there(&self) -> Result<()> {
        self.look(wgpu::PollType::Poll);
        self.failed()
    }

    /// Polls once, unless the device is known to be lost.
    fn look(&self, how: wgpu::PollType) {
        if self.health.loss().is_some() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(how))) {
            Err(panic) if !is_race(&*panic) => self.health.lose("the device was lost, as a poll found"),
            _ => {}
        }
    }
}

pub(super) fn kind_of(error: &wgpu::Error) -> ErrorKind {
    match error {
        wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => ErrorKind::Validation,
    }
}
