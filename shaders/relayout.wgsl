// relayout.wgsl: a tensor's elements from where they stand in one buffer to where they stand in another.
//   y[y_base + i0*y_stride_0 + .. + i3*y_stride_3] = x[x_base + i0*x_stride_0 + .. + i3*x_stride_3]
//   [i0, i1, i2, i3] is element number `i3 + size_3 * (i2 + size_2 * (i1 + size_1 * i0))`. Strides below zero are taken modulo 2^32.
// Twin:       src/network/strided.rs
// Dispatch:   (span / WORKGROUP_SIZE, ceil(len / span), 1)
// Shared mem: none        Barriers: none
// Requires:   size_1, size_2, size_3 >= 1; no divisibility; x and y are different buffers

struct RelayoutParams {
    len: u32,                             // elements
    span: u32,                            // threads along x, a multiple of WORKGROUP_SIZE
    x_base: u32,
    y_base: u32,
    size_1: u32,
    size_2: u32,
    size_3: u32,
    _pad0: u32,
    x_stride_0: u32,
    x_stride_1: u32,
    x_stride_2: u32,
    x_stride_3: u32,
    y_stride_0: u32,
    y_stride_1: u32,
    y_stride_2: u32,
    y_stride_3: u32,
}

@group(0) @binding(0) var<uniform>             params: RelayoutParams;
@group(0) @binding(1) var<storage, read>       x:      array<f32>;           // [size_0, size_1, size_2, size_3], by its strides
@group(0) @binding(2) var<storage, read_write> y:      array<f32>;           // [size_0, size_1, size_2, size_3], by others

@compute @workgroup_size(WORKGROUP_SIZE)
fn relayout(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = group.y * params.span + group.x * WORKGROUP_SIZE + lane;
    if (place >= params.len) {
        return;
    }
    let i3 = place % params.size_3;
    let place_2 = place / params.size_3;
    let i2 = place_2 % params.size_2;
    let place_1 = place_2 / params.size_2;
    let i1 = place_1 % params.size_1;
    let i0 = place_1 / params.size_1;
    let from_place = params.x_base + i0 * params.x_stride_0 + i1 * params.x_stride_1 + i2 * params.x_stride_2 + i3 * params.x_stride_3;
    let to_place = params.y_base + i0 * params.y_stride_0 + i1 * params.y_stride_1 + i2 * params.y_stride_2 + i3 * params.y_stride_3;
    y[to_place] = x[from_place];
}
