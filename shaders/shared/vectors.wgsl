// vectors.wgsl: what a layer has once a unit, in f32 whatever the weights are: one block of rows [D, H] for every layer.
// These functions depend on the following global declarations:
//    * `params.vectors_base`: of the block, for z = 0; `params.vectors_stride`: from one z to the next; `params.vectors_slot`: from one row to the next

@group(0) @binding(2) var<storage, read>       vectors: array<vec4<f32>>;    // see the rows below

const BIAS: u32 = 0u;                     // both biases summed, by gate
const BIAS_LOW: u32 = 1u;                 // what f32 loses of that sum
const PEEPHOLE: u32 = 2u;                 // (i, f, o, 0)
const GAMMA_IH: u32 = 3u;                 // by gate
const GAMMA_HH: u32 = 4u;                 // by gate
const GAMMA_C: u32 = 5u;                  // (gamma_c, beta_c, 0, 0)
const SCALE_IH: u32 = 6u;                 // of int8 weights, by gate
const SCALE_HH: u32 = 7u;

fn vector(row: u32, z: u32, unit: u32) -> vec4<f32> {
    return vectors[params.vectors_base + row * params.vectors_slot + z * params.vectors_stride + unit];
}
