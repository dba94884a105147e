// row_mean.wgsl: sums over the threads of a workgroup, for the layer normalisation of one row a workgroup.
// Shared mem: 4 * WORKGROUP_SIZE bytes        Barriers: uniform, log2(WORKGROUP_SIZE) + 2 a sum
// These functions depend on no global declaration but their own.
// WORKGROUP_SIZE is a power of two.

var<workgroup> sums: array<f32, WORKGROUP_SIZE>;

// The sum of `value` over all threads, in the same order on every device. All threads of the workgroup must call it together.
fn sum_over_workgroup(value: f32, lane: u32) -> f32 {
    sums[lane] = value;
    workgroupBarrier();
    for (var stride = WORKGROUP_SIZE / 2u; stride > 0u; stride /= 2u) {
        if (lane < stride) {
            sums[lane] += sums[lane + stride];
        }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}

fn component_sum(value: vec4<f32>) -> f32 {
    return (value.x + value.y) + (value.z + value.w);
}
