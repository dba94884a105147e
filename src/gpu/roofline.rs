//! What the device does at most, measured: the two ends of its roofline (Williams, Waterman and Patterson 2009).

use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::kernels::{KernelId, RooflineParams};
use crate::gpu::specialise::{Form, Shape, Specialisation, WORKGROUP_SIZE};
use crate::gpu::{GpuDevice, Wait};
use crate::measure::Peak;
use crate::network::LstmConfig;

/// `QUADS` of `roofline.wgsl`, which `tests/shader_contract` compares.
pub const QUADS: usize = 8;

const QUAD_BYTES: u64 = 16;

/// Quads of one workgroup.
const GROUP_QUADS: usize = QUADS * WORKGROUP_SIZE as usize;

/// A copy should not fit a cache, where the adapter binds as much.
const COPY_BYTES: u64 = 128 << 20;
const SOFTWARE_COPY_BYTES: u64 = 32 << 20;

/// So many workgroups at least: fewer would leave units of a large device without work.
const LEAST_GROUPS: usize = 1024;

/// By how much arithmetic has to outlast a copy of the same numbers.
const FAR_LONGER: f64 = 8.0;

/// Copies of a sample: a device that is faster than this many in [`MIN_SECONDS`] is not known.
const MOST_COPIES: usize = 1 << 12;

/// Rounds that are compared with the twin: every value is exact in float32 then.
const CHECKED_ROUNDS: u32 = 8;

/// Long enough for the start of a submit not to count, short enough for a desktop.
const MIN_SECONDS: f64 = 0.02;

/// Each is measured so often, and the best counts: what disturbs a device makes it slower.
const SAMPLES: usize = 10;

impl GpuDevice {
    /// Measures what the device does at most. `twin` is the reference's, which some results are compared with before.
    pub(crate) async fn peak(&self, twin: fn(f64, u32) -> f64, wait: Wait) -> Result<Peak> {
        let bench = Bench::new(self).await?;
        bench.check(twin, wait).await?;
        let mut times = 1;
        while bench.seconds(bench.groups, 0, times, wait).await? < MIN_SECONDS && times < MOST_COPIES {
            times *= 2;
        }
        let copy_seconds = bench.best(bench.groups, 0, times, wait).await?;
        let bytes = 2.0 * times as f64 * (bench.groups * GROUP_QUADS) as f64 * QUAD_BYTES as f64;
        // from few rounds on, so that no submit is long on any device, to so many that arithmetic takes far longer than bringing the numbers
        let groups = if self.info().is_software() { LEAST_GROUPS } else { bench.groups };
        let least = MIN_SECONDS.max(FAR_LONGER * copy_seconds / times as f64 * groups as f64 / bench.groups as f64);
        let mut rounds = CHECKED_ROUNDS;
        while bench.seconds(groups, rounds, 1, wait).await? < least && rounds < bench.most_rounds {
            rounds *= 2;
        }
        let seconds = bench.best(groups, rounds, 1, wait).await?;
        let flops = 2.0 * f64::from(rounds) * (groups * GROUP_QUADS * 4) as f64;
        Ok(Peak { flops_per_second: flops / seconds, bytes_per_second: bytes / copy_seconds })
    }
}

/// Two arrays on the device, and the kernel that goes from one to the other.
struct Bench<'a> {
    device: &'a GpuDevice,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    params: DeviceBuffer,
    y: DeviceBuffer,
    /// workgroups that the arrays have room for
    groups: usize,
    most_rounds: u32,
}

impl<'a> Bench<'a> {
    async fn new(device: &'a GpuDevice) -> Result<Self> {
        let software = device.info().is_software();
        let wanted = if software { SOFTWARE_COPY_BYTES } else { COPY_BYTES };
        let bytes = wanted.min(device.profile.max_binding_bytes);
        let groups = (bytes / QUAD_BYTES) as usize / GROUP_QUADS;
        let groups = groups.min(device.profile.max_workgroups as usize).max(LEAST_GROUPS);
        let x: Vec<f32> = (0..groups * GROUP_QUADS * 4).map(value).collect();
        let x = device.filled_buffer("roofline.x", bytemuck::cast_slice(&x)).await?;
        let y = device.storage_buffer("roofline.y", x.size()).await?;
        let params_bytes = size_of::<RooflineParams>() as u64;
        let params = device.buffer("roofline.params", params_bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST).await?;
        // what the configuration says does not matter here
        let specialisation = Specialisation::new(KernelId::Roofline, Form::Only, &LstmConfig::new(1, 1), Shape::default());
        let pipeline = device.pipeline(&specialisation).await?;
        let entries =
            [(0, &params), (1, &x), (2, &y)].map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let layout = device.layout(KernelId::Roofline);
        let descriptor = wgpu::BindGroupDescriptor { label: Some("cellgate.roofline"), layout, entries: &entries };
        let group = device.checked("bind group of roofline", || device.bind_group(&descriptor)).await?;
        // a thread's iterations are counted by some software adapters
        let most_rounds = if software { 1 << 15 } else { 1 << 24 };
        Ok(Self { device, pipeline, group, params, y, groups, most_rounds })
    }

    /// What `times` dispatches of so many workgroups and rounds take, from submit to done.
    async fn seconds(&self, groups: usize, rounds: u32, times: usize, wait: Wait) -> Result<f64> {
        let params = RooflineParams { num_rounds: rounds, ..RooflineParams::default() };
        self.device.write("roofline.params", &self.params, 0, bytemuck::bytes_of(&params)).await?;
        let mut encoder = self.device.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate.roofline"), timestamp_writes: None });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.group, &[0]);
            for _ in 0..times {
                pass.dispatch_workgroups(groups as u32, 1, 1);
            }
        }
        let start = Instant::now();
        let submit = self.device.submit(encoder).await?;
        self.device.wait(submit, wait).await?;
        Ok(start.elapsed().as_secs_f64())
    }

    async fn best(&self, groups: usize, rounds: u32, times: usize, wait: Wait) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..SAMPLES {
            best = best.min(self.seconds(groups, rounds, times, wait).await?);
        }
        Ok(best)
    }

    /// An error where the kernel does not compute what its twin does: then its time says nothing.
    async fn check(&self, twin: fn(f64, u32) -> f64, wait: Wait) -> Result<()> {
        for rounds in [0, CHECKED_ROUNDS] {
            self.seconds(self.groups, rounds, 1, wait).await?;
            // the last workgroup, which only a whole dispatch reaches
            let first = (self.groups - 1) * GROUP_QUADS * 4;
            let bytes = GROUP_QUADS as u64 * QUAD_BYTES;
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging = self.device.buffer("roofline.check", bytes, usage).await?;
            let mut encoder = self.device.encoder();
            encoder.copy_buffer_to_buffer(&self.y, first as u64 * size_of::<f32>() as u64, &staging, 0, bytes);
            let submit = self.device.submit(encoder).await?;
            let mut found: Vec<f32> = Vec::new();
            self.device.read(&staging, bytes, submit, wait, |bytes| found.extend_from_slice(bytemuck::cast_slice(bytes))).await?;
            for (place, found) in found.into_iter().enumerate() {
                let expected = twin(f64::from(value(first + place)), rounds);
                if f64::from(found) != expected {
                    let what = format!("roofline, {rounds} rounds: element {} is {found}, expected {expected}", first + place);
                    return Err(Error::new(ErrorKind::Validation, what));
                }
            }
        }
        Ok(())
    }
}

/// Element `place` of x: multiples of 1/8 below 128, which rounds halve without losing a bit.
fn value(place: usize) -> f32 {
    (place % 1024) as f32 / 8.0
}
