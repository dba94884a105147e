//! Buffers that are counted: how many were made, how much memory they take.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was made on a device, and the memory that its buffers take.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) buffers: AtomicU64,
    pub(crate) bind_groups: AtomicU64,
    pub(crate) pipelines: AtomicU64,
    /// how often something was brought to the host
    pub(crate) reads: AtomicU64,
    /// bytes of the buffers that there are
    pub(crate) bytes: AtomicU64,
    /// the most that `bytes` has been
    pub(crate) peak_bytes: AtomicU64,
}

/// A buffer, counted for as long as it is there.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    buffer: wgpu::Buffer,
    counters: Arc<Counters>,
}

impl DeviceBuffer {
    pub(super) fn new(buffer: wgpu::Buffer, counters: &Arc<Counters>) -> Self {
        counters.buffers.fetch_add(1, Ordering::Relaxed);
        let bytes = counters.bytes.fetch_add(buffer.size(), Ordering::Relaxed) + buffer.size();
        counters.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
        Self { buffer, counters: Arc::clone(counters) }
    }
}

impl Deref for DeviceBuffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        self.counters.bytes.fetch_sub(self.buffer.size(), Ordering::Relaxed);
    }
}
