//! What plans may expect of an adapter, from its limits and its kind.

use crate::device::DeviceInfo;
use crate::gpu::plan::{CostModel, DeviceProfile};

/// Activations of one call stay below this, where they can be split.
const ACTIVATION_BYTES: u64 = 256 << 20;

/// What plans may expect of the adapter. The rates are low on purpose: they bound how long a submit runs, not how fast it is.
pub(super) fn profile(info: &DeviceInfo, limits: &wgpu::Limits) -> DeviceProfile {
    let (flops_per_second, bytes_per_second, seconds_per_dispatch) = if info.is_software() { (8e9, 8e9, 20e-6) } else { (200e9, 20e9, 5e-6) };
    DeviceProfile {
        // kernels count elements in 32 bits, whatever the adapter could bind
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(i32::MAX as u64),
        // adapters that report more were seen to fail with it (tracel-ai/cubecl#1388)
        max_workgroups: limits.max_compute_workgroups_per_dimension.min(65_535),
        uniform_alignment: limits.min_uniform_buffer_offset_alignment,
        activation_bytes: ACTIVATION_BYTES,
        max_workgroup_threads: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        // a quarter of what a thread can have leaves room for sums and for a second workgroup; a software adapter's registers are its stack
        held_words: if info.is_software() { 1024 } else { 64 },
        sum_quads: if info.is_software() { 256 } else { 16 },
        // until a trial has shown that they add up
        subgroups: None,
        matrices: None,
        // llvmpipe's count over all loops of a thread; other software adapters have none, but nobody needs more on those either
        max_loop_iterations: if info.is_software() { 65_535 } else { u64::MAX },
        flops_per_second,
        bytes_per_second,
        seconds_per_dispatch,
        seconds_per_submit: 0.05,
        model: CostModel::typical(info.hardware),
    }
}
