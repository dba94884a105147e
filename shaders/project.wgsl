// project.wgsl: the projection of LSTMP.
//   h_next[z, n, p] = proj_clip(sum_unit weight_hr[z, p, unit] * cell_out[z, n, unit])
//   z is the direction, or, on a wavefront, the layer, as in step.wgsl. A row whose length is reached keeps its state and gets y = 0.
// Twin:       src/reference/project.rs
// Dispatch:   (ceil(num_quads / GROUP_OUTPUTS), ceil(N / GROUP_ROWS), D or layers), once a time step and a panel of weight_hr, after step.wgsl or
//             norm_cell.wgsl
// Shared mem: see shared/row_product.wgsl, shared/tile_product.wgsl        Barriers: uniform, likewise
// Requires:   batch >= 1, hidden_size >= 1, proj_size >= 1; no divisibility; h_prev and h_next do not overlap

struct ProjectParams {
    batch: u32,
    hidden_size: u32,
    proj_size: u32,
    y_size: u32,
    weight_base: u32,                     // for z = 0, in quads
    weight_stride: u32,
    scale_base: u32,                      // of int8 weights, for z = 0, in `vectors`, four outputs an element
    scale_stride: u32,
    cell_out_base: u32,                   // in scratch
    t: u32,                               // this step's place in time for z = 0
    t_stride: u32,                        // to that of z = 1, modulo 2^32
    h_len: u32,                           // floats of one slot of h
    slot: u32,                            // of h_prev for z = 0
    slot_stride: u32,
    cell: u32,                            // number of the cell of z = 0 among all of the stack
    last_cell: u32,                       // first cell that writes y
    first_quad: u32,                      // of the panel of weight_hr that is bound
    num_quads: u32,                       // of it; all ceil(P / 4) where the matrix is in one piece
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params:  ProjectParams;
@group(0) @binding(2) var<storage, read>       vectors: array<vec4<f32>>;    // scales of weight_hr [z, ceil(P/4)]
@group(0) @binding(3) var<storage, read>       scratch: array<f32>;          // cell_out [z, N, H]
@group(0) @binding(4) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(5) var<storage, read_write> y:       array<f32>;          // [T, N, D*P]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, P], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own
override PROJ_CLIP: f32 = 0.0;            // 0: no bound

fn row_value(z: u32, row: u32, k: u32, from_input: bool) -> f32 {
    if (row < params.batch) {
        return scratch[params.cell_out_base + (z * params.batch + row) * params.hidden_size + k];
    }
    return 0.0;
}

fn rescale(z: u32, output: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn finish(z: u32, row: u32, panel_quad: u32, pair: Pair4) {
    if (row >= params.batch) {
        return;
    }
    let quad = params.first_quad + panel_quad;
    var sum = pair.high + pair.low;
    if (HAS_SCALES) {
        sum *= vectors[params.scale_base + z * params.scale_stride + quad];
    }
    let t = params.t + z * params.t_stride;
    let live = is_live(z, row);
    let slot = (params.slot + z * params.slot_stride) & 1u;
    let h_row = ((params.cell + z) * params.batch + row) * params.proj_size;
    let h_prev = slot * params.h_len + h_row;
    let h_next = (1u - slot) * params.h_len + h_row;
    for (var i = 0u; i < 4u; i++) {
        let output = quad * 4u + i;
        if (output < params.proj_size) {
            var value = sum[i];
            // by comparisons, which NaN passes
            if (PROJ_CLIP > 0.0 && value > PROJ_CLIP) {
                value = PROJ_CLIP;
            }
            if (PROJ_CLIP > 0.0 && value < -PROJ_CLIP) {
                value = -PROJ_CLIP;
            }
            if (params.cell + z >= params.last_cell) {
                let feature = (params.cell + z - params.last_cell) * params.proj_size + output;
                y[(t * params.batch + row) * params.y_size + feature] = select(0.0, value, live);
            }
            if (!live) {
                value = state[h_prev + output];
            }
            state[h_next + output] = value;
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn project(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let z = group.z;
    let weight_hr = Source(false, params.hidden_size, params.weight_base + z * params.weight_stride);
    run_product(Product(z, params.num_quads, Source(true, 0u, 0u), weight_hr), group, lane, any_live(z, group.y * GROUP_ROWS));
}
