// norm_gates.wgsl: layer normalisation of the input's part of the pre-activations, in place.
//   gates_x[dir, row] = (gates_x[dir, row] - mean) / sqrt(variance + EPSILON) * gamma_ih[dir] + bias[dir]
//   Mean and variance are taken over the 4H values of a row, in two passes.
// Twin:       src/reference/norm_gates.rs
// Dispatch:   (num_rows, D, 1), once a chunk of time steps, after input_gates.wgsl
// Shared mem: 4 * WORKGROUP_SIZE bytes        Barriers: uniform, two sums over the workgroup
// Requires:   hidden_size >= 1; no divisibility

struct NormGatesParams {
    num_rows: u32,
    hidden_size: u32,
    gates_stride: u32,                    // in vec4, from direction to direction
    vectors_base: u32,
    vectors_slot: u32,
    vectors_stride: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params:  NormGatesParams;
@group(0) @binding(3) var<storage, read_write> gates_x: array<vec4<f32>>;    // [D, num_rows, H]

override EPSILON: f32 = 0.00001;

@compute @workgroup_size(WORKGROUP_SIZE)
fn norm_gates(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let dir = group.y;
    let row_base = dir * params.gates_stride + group.x * params.hidden_size;
    let count = f32(params.hidden_size) * 4.0;

    var sum = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        sum += component_sum(gates_x[row_base + unit]);
    }
    let mean = sum_over_workgroup(sum, lane) / count;

    var squares = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let difference = gates_x[row_base + unit] - mean;
        squares += dot(difference, difference);
    }
    let scale = 1.0 / sqrt(sum_over_workgroup(squares, lane) / count + EPSILON);

    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let normed = (gates_x[row_base + unit] - mean) * scale;
        gates_x[row_base + unit] = normed * vector(GAMMA_IH, dir, unit) + vector(BIAS, dir, unit);
    }
}
