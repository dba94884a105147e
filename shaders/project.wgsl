// project.wgsl: the projection of LSTMP.
//   h_next[dir, n, p] = proj_clip(sum_unit weight_hr[dir, p, unit] * cell_out[dir, n, unit])
//   A row whose length is reached keeps its state and gets y = 0.
// Twin:       src/reference/project.rs
// Dispatch:   (ceil(ceil(P / 4) / (WORKGROUP_SIZE / K_LANES)), ceil(N / ROWS), D), once a time step, after step.wgsl or norm_cell.wgsl
// Shared mem: 16 * (K_TILE + WORKGROUP_SIZE) = 2048 bytes at 64 threads        Barriers: uniform, see shared/row_product.wgsl
// Requires:   batch >= 1, hidden_size >= 1, proj_size >= 1; no divisibility; h_prev and h_next do not overlap

struct ProjectParams {
    batch: u32,
    hidden_size: u32,
    proj_size: u32,
    y_size: u32,
    weight_base: u32,                     // of direction 0, in vec4; direction 1 follows
    cell_out_base: u32,                   // in scratch
    t_0: u32,                             // this step's place in time for direction 0
    t_1: u32,
    h_prev_base: u32,                     // in state, of direction 0; direction 1 follows
    h_next_base: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params:  ProjectParams;
@group(0) @binding(1) var<storage, read>       weights: array<vec4<f32>>;    // weight_hr [D, H, ceil(P/4)], four outputs an element
@group(0) @binding(2) var<storage, read>       scratch: array<f32>;          // cell_out [D, N, H]
@group(0) @binding(3) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(4) var<storage, read_write> y:       array<f32>;          // [T, N, D*P]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, P], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own
override PROJ_CLIP: f32 = 0.0;            // 0: no bound

fn row_value(dir: u32, row: u32, k: u32) -> f32 {
    if (row < params.batch) {
        return scratch[params.cell_out_base + (dir * params.batch + row) * params.hidden_size + k];
    }
    return 0.0;
}

fn finish(dir: u32, row: u32, quad: u32, pair: Pair4) {
    if (row >= params.batch) {
        return;
    }
    let sum = pair.high + pair.low;
    let t = select(params.t_0, params.t_1, dir == 1u);
    var live = true;
    if (RAGGED) {
        live = t < lens[row];
    }
    let h_row = (dir * params.batch + row) * params.proj_size;
    let y_row = (t * params.batch + row) * params.y_size + dir * params.proj_size;
    for (var i = 0u; i < 4u; i++) {
        let output = quad * 4u + i;
        if (output < params.proj_size) {
            var h_next = sum[i];
            // by comparisons, which NaN passes
            if (PROJ_CLIP > 0.0 && h_next > PROJ_CLIP) {
                h_next = PROJ_CLIP;
            }
            if (PROJ_CLIP > 0.0 && h_next < -PROJ_CLIP) {
                h_next = -PROJ_CLIP;
            }
            if (live) {
                y[y_row + output] = h_next;
                state[params.h_next_base + h_row + output] = h_next;
            } else {
                y[y_row + output] = 0.0;
                state[params.h_next_base + h_row + output] = state[params.h_prev_base + h_row + output];
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn project(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let dir = group.z;
    let quads = WORKGROUP_SIZE / K_LANES;
    let quad = group.x * quads + (lane & (quads - 1u));
    let num_quads = (params.proj_size + 3u) / 4u;
    let row_base = group.y * ROWS;
    let weight_base = params.weight_base + dir * params.hidden_size * num_quads;
    let sums = row_product(dir, row_base, quad, num_quads, params.hidden_size, weight_base, lane);
    if (lane < quads && quad < num_quads) {
        finish(dir, row_base, quad, sums[0]);
        if (ROWS == 4u) {
            finish(dir, row_base + 1u, quad, sums[1]);
            finish(dir, row_base + 2u, quad, sums[2]);
            finish(dir, row_base + 3u, quad, sums[3]);
        }
    }
}
