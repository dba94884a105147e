// row_activation.wgsl: an activation of every feature, from rows with gaps between them to rows without.
//   y[first_row + row, k] = activation(x[x_base + row * x_stride + k])
// Twin:       src/reference/row_function.rs
// Dispatch:   (span / WORKGROUP_SIZE, ceil(num_rows * features / span), 1)
// Shared mem: none        Barriers: none
// Requires:   num_rows >= 1, features >= 1; no divisibility; x and y are different buffers

struct RowFunctionParams {
    num_rows: u32,
    features: u32,
    x_base: u32,
    x_stride: u32,                        // from row to row of x
    first_row: u32,                       // of y
    span: u32,                            // threads along x, a multiple of WORKGROUP_SIZE
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params: RowFunctionParams;
@group(0) @binding(1) var<storage, read>       x:      array<f32>;           // [num_rows, F], rows x_stride apart
@group(0) @binding(2) var<storage, read_write> y:      array<f32>;           // [rows, F]

override KIND: u32 = 0u;                  // sigmoid
override ALPHA: f32 = 0.0;
override BETA: f32 = 0.0;

@compute @workgroup_size(WORKGROUP_SIZE)
fn row_activation(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = group.y * params.span + group.x * WORKGROUP_SIZE + lane;
    if (place >= params.num_rows * params.features) {
        return;
    }
    let row = place / params.features;
    let k = place % params.features;
    y[(params.first_row + row) * params.features + k] = activate(KIND, ALPHA, BETA, x[params.x_base + row * params.x_stride + k]);
}
