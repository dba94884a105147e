//! Plans with what the device needs to run them, made once for each shape of call.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::form::Choice;
use crate::gpu::plan::{BindGroup, BufferId, Dispatch, Plan, Request};
use crate::gpu::specialise::Specialisation;
use crate::gpu::timer::Timer;
use crate::gpu::{GpuDevice, GpuLstm};

/// Shapes of call whose plans are kept; a call of many lengths has several.
const MAX_PLANS: usize = 32;

/// A plan with what the device needs to run it.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pipelines: Vec<wgpu::ComputePipeline>,
    bind_groups: Vec<wgpu::BindGroup>,
    /// uniforms of all dispatches, bound by the bind groups
    _params: DeviceBuffer,
}

impl GpuLstm {
    /// The index of the prepared plan for `request`, built to `choice`, made if it is not there.
    pub(super) async fn prepare(&mut self, request: Request, choice: Choice) -> Result<usize> {
        let fits = |plan: &Plan| plan.request == request && plan.choice == choice;
        if let Some(found) = self.plans.iter().position(|prepared| fits(&prepared.plan)) {
            let prepared = self.plans.remove(found);
            self.plans.push(prepared);
            return Ok(self.plans.len() - 1);
        }
        let plan = self.plan(request, choice);
        self.grow_buffers(&plan).await?;
        let mut pipelines = Vec::new();
        for specialisation in &plan.specialisations {
            pipelines.push(self.device.pipeline(specialisation).await?);
        }
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        let params = self.device.uniform_buffer("params", &plan.params).await?;
        let buffer = |id| -> &wgpu::Buffer { self.weight_buffer(id).unwrap_or_else(|| &self.buffers[&id]) };
        let make = || plan.bind_groups.iter().map(|group| bind_group(&self.device, group, &params, buffer)).collect();
        let bind_groups = self.device.checked("bind groups", make).await?;
        self.plans.push(Prepared { plan, pipelines, bind_groups, _params: params });
        Ok(self.plans.len() - 1)
    }

    /// Checks that every buffer that `plan` runs on, `state` included, is as large as its kernels take it to be. They do not check themselves.
    pub(super) fn check_sizes(&self, plan: &Plan, state: &wgpu::Buffer) -> Result<()> {
        for &(id, bytes) in &plan.buffers {
            let found = match id {
                // made from the plan's own uniforms, and from the weights that its layers are places in
                BufferId::Params | BufferId::Weights(_) | BufferId::Vectors => continue,
                BufferId::State => state.size(),
                id => self.buffers.get(&id).map_or(0, |buffer| buffer.size()),
            };
            if found < bytes {
                return Err(Error::new(ErrorKind::Validation, format!("buffer `{}`: the plan needs {bytes} bytes, found {found}", id.name())));
            }
        }
        Ok(())
    }

    /// Makes sure that every buffer of `plan` is there and large enough. A buffer that is replaced takes the plans bound to it along.
    async fn grow_buffers(&mut self, plan: &Plan) -> Result<()> {
        for &(id, bytes) in &plan.buffers {
            let own_place = matches!(id, BufferId::State | BufferId::Params | BufferId::Weights(_) | BufferId::Vectors);
            if own_place || self.buffers.get(&id).is_some_and(|buffer| buffer.size() >= bytes) {
                continue;
            }
            // freed before its successor is made, and with it what is bound to it
            self.plans.clear();
            self.relayout.forget();
            self.buffers.remove(&id);
            let buffer = self.device.storage_buffer(&id.name(), bytes).await?;
            self.buffers.insert(id, buffer);
        }
        Ok(())
    }
}

/// The bind group 0 that `group` describes, with the buffers that `buffer` has for it.
pub(super) fn bind_group<'b>(
    device: &GpuDevice,
    group: &BindGroup,
    params: &wgpu::Buffer,
    buffer: impl Fn(BufferId) -> &'b wgpu::Buffer,
) -> wgpu::BindGroup {
    let kernel = group.kernel.kernel();
    let uniform = wgpu::BufferBinding { buffer: params, offset: 0, size: std::num::NonZeroU64::new(kernel.params_size as u64) };
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
    let own = kernel.bindings.iter().filter(|binding| binding.group == 0);
    for (binding, id) in own.zip(&group.buffers) {
        entries.push(wgpu::BindGroupEntry { binding: binding.binding, resource: buffer(*id).as_entire_binding() });
    }
    device.bind_group(&wgpu::BindGroupDescriptor { label: Some(kernel.name), layout: device.layout(group.kernel), entries: &entries })
}

impl Prepared {
    /// Encodes submit `number` as one compute pass, timed where there is a timer.
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder, number: usize, state: &wgpu::BindGroup, timer: Option<&Timer>) {
        let timestamp_writes = timer.and_then(|timer| timer.writes(number));
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate"), timestamp_writes });
        let dispatches = &self.plan.dispatches[self.plan.submits[number].clone()];
        encode(&mut pass, dispatches, (&self.plan.specialisations, &self.pipelines), &self.bind_groups, Some(state));
    }
}

/// Records dispatches, each with its pipeline and its uniforms.
pub(super) fn encode(
    pass: &mut wgpu::ComputePass<'_>,
    dispatches: &[Dispatch],
    (specialisations, pipelines): (&[Specialisation], &[wgpu::ComputePipeline]),
    bind_groups: &[wgpu::BindGroup],
    state: Option<&wgpu::BindGroup>,
) {
    let mut pipeline = None;
    for dispatch in dispatches {
        if pipeline != Some(dispatch.specialisation) {
            pass.set_pipeline(&pipelines[dispatch.specialisation]);
            // the state stays bound for all dispatches of a pipeline
            if specialisations[dispatch.specialisation].kernel.kernel().reads_state() {
                pass.set_bind_group(1, state, &[]);
            }
            pipeline = Some(dispatch.specialisation);
        }
        pass.set_bind_group(0, &bind_groups[dispatch.bind_group], &[dispatch.params_offset]);
        let [x, y, z] = dispatch.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}
