//! How long compute passes take by the device's own clock.

use std::time::Duration;

use crate::error::Result;
use crate::gpu::GpuDevice;
use crate::gpu::buffer::DeviceBuffer;

const TIMESTAMP: u64 = size_of::<u64>() as u64;

/// Timestamps at the two ends of every pass of a segment. Exists where the adapter has them.
#[derive(Default)]
pub(super) struct Timer {
    queries: Option<Queries>,
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: DeviceBuffer,
    passes: u32,
}

impl Timer {
    /// A timer, where the device has timestamps.
    pub(super) fn new(device: &GpuDevice) -> Option<Self> {
        device.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(Self::default)
    }

    /// Makes room for the timestamps of `passes` passes; where there are more than a query set holds, they are not timed.
    pub(super) async fn reserve(&mut self, device: &GpuDevice, passes: usize) -> Result<()> {
        let Some(count) = u32::try_from(2 * passes).ok().filter(|&count| count <= wgpu::QUERY_SET_MAX_QUERIES) else {
            self.queries = None;
            return Ok(());
        };
        if self.queries.as_ref().is_none_or(|queries| queries.passes < count / 2) {
            let descriptor = wgpu::QuerySetDescriptor { label: Some("cellgate.timer"), ty: wgpu::QueryType::Timestamp, count };
            let set = device.checked("timestamps", || device.device.create_query_set(&descriptor)).await?;
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            self.queries = Some(Queries { set, resolved: device.buffer("timer", u64::from(count) * TIMESTAMP, usage).await?, passes: count / 2 });
        }
        Ok(())
    }

    /// What pass `number` is to write.
    pub(super) fn writes(&self, number: usize) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let queries = self.queries.as_ref()?;
        let first = u32::try_from(2 * number).ok()?;
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &queries.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// Copies the timestamps of `passes` passes to byte `offset` of `download`; returns how many bytes they are.
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder, passes: usize, download: &wgpu::Buffer, offset: u64) -> u64 {
        let (Some(queries), Ok(count)) = (&self.queries, u32::try_from(2 * passes)) else { return 0 };
        let bytes = u64::from(count) * TIMESTAMP;
        encoder.resolve_query_set(&queries.set, 0..count, &queries.resolved, 0);
        encoder.copy_buffer_to_buffer(&queries.resolved, 0, download, offset, bytes);
        bytes
    }

    /// Bytes that the timestamps of `passes` passes take in a download.
    pub(super) fn bytes(passes: usize) -> u64 {
        2 * passes as u64 * TIMESTAMP
    }
}

/// What the passes took together whose timestamps these are, of `period` nanoseconds each.
pub(super) fn elapsed(timestamps: &[u8], period: f32) -> Duration {
    let ends: Vec<u64> = bytemuck::pod_collect_to_vec(timestamps);
    let ticks: u64 = ends.chunks_exact(2).map(|ends| ends[1].saturating_sub(ends[0])).sum();
    Duration::from_secs_f64(ticks as f64 * f64::from(period) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_added_and_what_lies_between_is_not() {
        let timestamps = [100_u64, 300, 1000, 1500];
        assert_eq!(elapsed(bytemuck::cast_slice(&timestamps), 2.0), Duration::from_nanos(1400));
        assert_eq!(elapsed(&[], 1.0), Duration::ZERO);
    }
}
