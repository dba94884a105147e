// roofline.wgsl: every element through num_rounds multiplications and additions: what memory limits with none of them, and arithmetic with many.
//   v[0] = x[i];   v[r + 1] = v[r] * FACTOR + ADDEND;   y[i] = v[num_rounds]
//   The factor is a power of two, so a product is exact, and a fused operation gives the bits of two.
// Twin:       src/reference/roofline.rs
// Dispatch:   (ceil(num_quads / (QUADS * WORKGROUP_SIZE)), 1, 1)
// Shared mem: 0 bytes        Barriers: none
// Requires:   num_quads a multiple of QUADS * WORKGROUP_SIZE, num_rounds of ROUNDS; x and y are different buffers

struct RooflineParams {
    num_rounds: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<uniform>             params: RooflineParams;
@group(0) @binding(1) var<storage, read>       x:      array<vec4<f32>>;     // [num_quads]
@group(0) @binding(2) var<storage, read_write> y:      array<vec4<f32>>;     // [num_quads]

const FACTOR = vec4<f32>(0.5);
const ADDEND = vec4<f32>(1.0);
const ROUNDS: u32 = 4u;
const QUADS: u32 = 8u;                       // in registers: as many sums do not wait for each other on any hardware

fn four_rounds(v: vec4<f32>) -> vec4<f32> {
    return fma(fma(fma(fma(v, FACTOR, ADDEND), FACTOR, ADDEND), FACTOR, ADDEND), FACTOR, ADDEND);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn roofline(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * QUADS * WORKGROUP_SIZE + lane;
    var v0 = x[first];
    var v1 = x[first + WORKGROUP_SIZE];
    var v2 = x[first + 2u * WORKGROUP_SIZE];
    var v3 = x[first + 3u * WORKGROUP_SIZE];
    var v4 = x[first + 4u * WORKGROUP_SIZE];
    var v5 = x[first + 5u * WORKGROUP_SIZE];
    var v6 = x[first + 6u * WORKGROUP_SIZE];
    var v7 = x[first + 7u * WORKGROUP_SIZE];
    for (var done = 0u; done < params.num_rounds; done += ROUNDS) {
        v0 = four_rounds(v0);
        v1 = four_rounds(v1);
        v2 = four_rounds(v2);
        v3 = four_rounds(v3);
        v4 = four_rounds(v4);
        v5 = four_rounds(v5);
        v6 = four_rounds(v6);
        v7 = four_rounds(v7);
    }
    y[first] = v0;
    y[first + WORKGROUP_SIZE] = v1;
    y[first + 2u * WORKGROUP_SIZE] = v2;
    y[first + 3u * WORKGROUP_SIZE] = v3;
    y[first + 4u * WORKGROUP_SIZE] = v4;
    y[first + 5u * WORKGROUP_SIZE] = v5;
    y[first + 6u * WORKGROUP_SIZE] = v6;
    y[first + 7u * WORKGROUP_SIZE] = v7;
}
