//! Copies between buffers where the elements of a tensor stand in another order, or with gaps: `relayout.wgsl`, or a plain copy where that will do.

use crate::error::{Error, Result};
use crate::gpu::GpuDevice;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::kernels::{KernelId, RelayoutParams};
use crate::gpu::plan::{DeviceProfile, grid};
use crate::gpu::specialise::{Form, Shape, Specialisation, WORKGROUP_SIZE};
use crate::network::LstmConfig;
use crate::network::Strided;

const F32: u64 = size_of::<f32>() as u64;

/// Axes of `relayout.wgsl`.
const MAX_AXES: usize = 4;

/// Copies that are kept; a call in blocks has several.
const MAX_KEPT: usize = 64;

/// Buffers that are copied from: a stack's own two, and two of other stages in turn.
const MAX_SOURCES: usize = 4;

/// A part of a buffer, and where the elements of a tensor are in it.
pub(super) struct Place<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) layout: Strided,
}

/// The copies that a stage makes, each with what the device needs for it, made at its first use.
#[derive(Default)]
pub(super) struct Relayout {
    /// most recently used last
    kept: Vec<Kept>,
}

struct Kept {
    params: RelayoutParams,
    workgroups: [u32; 3],
    buffers: [wgpu::Buffer; 2],
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    /// bound by the bind group
    _uniform: DeviceBuffer,
}

impl Relayout {
    /// Forgets what is bound to buffers, so that they can be freed.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Makes sure that what the device needs to copy between two places of one shape is there; [`Relayout::encode`] may be told of it then.
    pub(super) async fn prepare(&mut self, device: &GpuDevice, from: &Place<'_>, to: &Place<'_>) -> Result<()> {
        if is_plain(from, to) || from.layout.len() == 0 {
            return Ok(());
        }
        let (params, workgroups) = params(&from.layout, &to.layout, &device.profile)?;
        check_inside(from)?;
        check_inside(to)?;
        let buffers = [from.buffer.clone(), to.buffer.clone()];
        if let Some(found) = self.kept.iter().position(|kept| kept.params == params && kept.buffers == buffers) {
            let kept = self.kept.remove(found);
            self.kept.push(kept);
            return Ok(());
        }
        self.make_room(from.buffer);
        if self.kept.len() == MAX_KEPT {
            self.kept.remove(0);
        }
        // it has no option that a configuration decides
        let specialisation = Specialisation::new(KernelId::Relayout, Form::Only, &LstmConfig::new(1, 1), Shape::default());
        let pipeline = device.pipeline(&specialisation).await?;
        let uniform = device.uniform_buffer("relayout params", bytemuck::bytes_of(&params)).await?;
        let entries = [&*uniform, &buffers[0], &buffers[1]];
        let entries = [0, 1, 2].map(|binding| wgpu::BindGroupEntry { binding, resource: entries[binding as usize].as_entire_binding() });
        let descriptor = wgpu::BindGroupDescriptor { label: Some("relayout"), layout: device.layout(KernelId::Relayout), entries: &entries };
        let bind_group = device.checked("bind group of relayout", || device.bind_group(&descriptor)).await?;
        self.kept.push(Kept { params, workgroups, buffers, pipeline, bind_group, _uniform: uniform });
        Ok(())
    }

    /// Forgets the copies from the source that was used least lately, where there are many and `source` is none of them: it may be gone, and nobody
    /// else would free it.
    fn make_room(&mut self, source: &wgpu::Buffer) {
        let mut sources: Vec<wgpu::Buffer> = Vec::new();
        for kept in self.kept.iter().rev() {
            if !sources.contains(&kept.buffers[0]) {
                sources.push(kept.buffers[0].clone());
            }
        }
        if sources.len() >= MAX_SOURCES && !sources.contains(source) {
            self.kept.retain(|kept| Some(&kept.buffers[0]) != sources.last());
        }
    }

    /// Records a copy that is prepared.
    pub(super) fn encode(&self, device: &GpuDevice, encoder: &mut wgpu::CommandEncoder, from: &Place<'_>, to: &Place<'_>) -> Result<()> {
        let len = from.layout.len();
        if len == 0 {
            return Ok(());
        }
        if is_plain(from, to) {
            let place = |layout: &Strided| layout.offset as u64 * F32;
            encoder.copy_buffer_to_buffer(from.buffer, place(&from.layout), to.buffer, place(&to.layout), len as u64 * F32);
            return Ok(());
        }
        let (params, _) = params(&from.layout, &to.layout, &device.profile)?;
        let fits = |kept: &&Kept| kept.params == params && kept.buffers[0] == *from.buffer && kept.buffers[1] == *to.buffer;
        let kept = self.kept.iter().rev().find(fits).expect("a caller prepares what it records");
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate.relayout"), timestamp_writes: None });
        pass.set_pipeline(&kept.pipeline);
        pass.set_bind_group(0, &kept.bind_group, &[0]);
        let [x, y, z] = kept.workgroups;
        pass.dispatch_workgroups(x, y, z);
        Ok(())
    }
}

/// Whether the graphics API's own copy does it.
fn is_plain(from: &Place<'_>, to: &Place<'_>) -> bool {
    from.layout.is_contiguous() && to.layout.is_contiguous()
}

/// The kernel does not check where it reads and writes.
fn check_inside(place: &Place<'_>) -> Result<()> {
    let floats = place.buffer.size() / F32;
    if place.layout.range().is_some_and(|range| range.end as u64 <= floats) {
        return Ok(());
    }
    Err(Error::shape(format!("a tensor on the device: expected elements of its {floats} floats, found {:?}", place.layout)))
}

/// The uniforms and workgroups of the copy from `from` to `to`, of one shape.
fn params(from: &Strided, to: &Strided, profile: &DeviceProfile) -> Result<(RelayoutParams, [u32; 3])> {
    let axes = from.joint_axes(to);
    if axes.len() > MAX_AXES {
        let what = format!("limit axes of a copy on the device: need {} for {from:?}, allowed are {MAX_AXES}", axes.len());
        return Err(Error::limit(what));
    }
    // axes of one element, before the others
    let mut all = [(1, 0, 0); MAX_AXES];
    all[MAX_AXES - axes.len()..].copy_from_slice(&axes);
    let index = |value: usize| u32::try_from(value).expect("a buffer has at most 2^31 bytes, so its floats' numbers fit u32");
    // the kernel adds modulo 2^32
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32")]
    let modulo = |stride: isize| stride as u32;
    let (workgroups, span) = grid(from.len().div_ceil(WORKGROUP_SIZE as usize), WORKGROUP_SIZE, profile);
    let params = RelayoutParams {
        len: index(from.len()),
        span,
        x_base: index(from.offset),
        y_base: index(to.offset),
        size_1: index(all[1].0),
        size_2: index(all[2].0),
        size_3: index(all[3].0),
        _pad0: 0,
        x_stride_0: modulo(all[0].1),
        x_stride_1: modulo(all[1].1),
        x_stride_2: modulo(all[2].1),
        x_stride_3: modulo(all[3].1),
        y_stride_0: modulo(all[0].2),
        y_stride_1: modulo(all[1].2),
        y_stride_2: modulo(all[2].2),
        y_stride_3: modulo(all[3].2),
    };
    Ok((params, workgroups))
}
