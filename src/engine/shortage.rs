//! A GPU that had no memory left for something: the CPU does it meanwhile.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::gpu::GpuDevice;

/// A GPU without memory is asked again after so long: nobody tells when another program has freed some.
const ASKED_AGAIN: Duration = Duration::from_secs(60);

/// Something for which there was no memory.
pub(super) struct Shortage {
    why: String,
    /// bytes that it needs
    need: u64,
    /// bytes of all buffers of the device then
    taken: u64,
    since: Instant,
}

impl Shortage {
    /// Of what needs so many bytes on `device`, as `error` says.
    pub(super) fn new(device: &GpuDevice, need: u64, error: &Error) -> Self {
        let why = format!("{error}; it is asked again when so much has been freed, or after {} s", ASKED_AGAIN.as_secs());
        Self { why, need, taken: device.usage().buffer_bytes, since: Instant::now() }
    }

    /// Why the GPU cannot, and until when.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Whether it is worth asking again.
    pub(super) fn may_be_over(&self, device: &GpuDevice) -> bool {
        self.may_be_over_after(self.since.elapsed(), device.usage().buffer_bytes)
    }

    fn may_be_over_after(&self, elapsed: Duration, taken: u64) -> bool {
        elapsed >= ASKED_AGAIN || taken.saturating_add(self.need) <= self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_asked_again_once_so_much_is_free_or_after_a_while() {
        let shortage = Shortage { why: String::new(), need: 10, taken: 100, since: Instant::now() };
        let soon = Duration::from_secs(1);
        assert!(!shortage.may_be_over_after(soon, 100) && !shortage.may_be_over_after(soon, 91) && !shortage.may_be_over_after(soon, 200));
        assert!(shortage.may_be_over_after(soon, 90) && shortage.may_be_over_after(ASKED_AGAIN, 200));
    }
}
