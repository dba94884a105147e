// step.wgsl: one time step of one LSTM layer, both directions; the recurrent product and the cell in one.
//   raw[gate] = gates_x[dir, t, n, unit, gate] + sum_k weight_hh[dir, k, unit, gate] * h_prev[dir, n, k]
//   c_next, h_next from raw and c_prev: shared/cell.wgsl
//   PAIRS: products and cell in pairs of f32 (shared/two_float.wgsl); only h and c are rounded to f32.
//   A row whose length is reached keeps its state and gets y = 0.
//   RAW_ONLY: the sums alone go to out as gates_h, for norm_cell.wgsl. PROJECTED: o * output(c) goes to out as cell_out, for project.wgsl.
// Twin:       src/reference/step.rs
// Dispatch:   (ceil(H / (WORKGROUP_SIZE / K_LANES)), ceil(N / ROWS), D), once a time step
// Shared mem: 16 * (K_TILE + WORKGROUP_SIZE) = 2048 bytes at 64 threads        Barriers: uniform, see shared/row_product.wgsl
// Requires:   batch >= 1, hidden_size >= 1, out_size >= 1; no divisibility; h_prev and h_next do not overlap; c is updated in place

struct StepParams {
    batch: u32,
    hidden_size: u32,
    out_size: u32,
    y_size: u32,
    weight_base: u32,                     // of direction 0, in vec4; direction 1 follows
    peephole_base: u32,                   // of direction 0, in vec4; direction 1 follows
    gates_0: u32,                         // gates_x of this step, row 0, unit 0, in vec4, for direction 0
    gates_1: u32,
    t_0: u32,                             // this step's place in time for direction 0
    t_1: u32,
    h_prev_base: u32,                     // in state, of direction 0; direction 1 follows
    h_next_base: u32,
    c_base: u32,
    out_base: u32,                        // of y, cell_out or gates_h
    gates_low_offset: u32,                // from gates_x to its low parts, in vec4, with PAIRS
    _pad0: u32,
}

@group(0) @binding(0) var<uniform>             params:  StepParams;
@group(0) @binding(1) var<storage, read>       weights: array<vec4<f32>>;    // weight_hh [D, R, H], peepholes [D, H]
@group(0) @binding(2) var<storage, read>       gates_x: array<vec4<f32>>;    // [D, T, N, H], biases included; with PAIRS the low parts behind
@group(0) @binding(3) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(4) var<storage, read_write> out:     array<f32>;          // y [T, N, D*R], or cell_out [D, N, H], or gates_h [D, N, H, 4]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, R], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own
override RAW_ONLY: bool = false;
override PROJECTED: bool = false;

fn row_value(dir: u32, row: u32, k: u32) -> f32 {
    if (row < params.batch) {
        return state[params.h_prev_base + (dir * params.batch + row) * params.out_size + k];
    }
    return 0.0;
}

fn finish(dir: u32, row: u32, unit: u32, sum: Pair4) {
    if (row >= params.batch) {
        return;
    }
    let cell = (dir * params.batch + row) * params.hidden_size + unit;
    if (RAW_ONLY) {
        let base = params.out_base + cell * 4u;
        out[base] = sum.high.x;
        out[base + 1u] = sum.high.y;
        out[base + 2u] = sum.high.z;
        out[base + 3u] = sum.high.w;
        return;
    }
    let t = select(params.t_0, params.t_1, dir == 1u);
    var live = true;
    if (RAGGED) {
        live = t < lens[row];
    }
    var h_next = 0.0;
    if (live) {
        let gates = select(params.gates_0, params.gates_1, dir == 1u) + row * params.hidden_size + unit;
        var peephole = vec4<f32>(0.0);
        if (PEEPHOLES) {
            peephole = weights[params.peephole_base + dir * params.hidden_size + unit];
        }
        let c_prev = state[params.c_base + cell];
        if (PAIRS) {
            let raw = add4(Pair4(gates_x[gates], gates_x[gates + params.gates_low_offset]), sum);
            let next = next_pair_cell(dir, raw, c_prev, peephole);
            state[params.c_base + cell] = next.c_next.x;
            h_next = pair_cell_output(dir, next.o_raw, next.c_next);
        } else {
            let next = next_cell(dir, gates_x[gates] + sum.high, c_prev, peephole);
            state[params.c_base + cell] = next.c_next;
            h_next = cell_output(dir, next.o_raw, next.c_next);
        }
    }
    if (PROJECTED) {
        out[params.out_base + cell] = h_next;
        return;
    }
    out[params.out_base + (t * params.batch + row) * params.y_size + dir * params.out_size + unit] = h_next;
    if (!live) {
        h_next = state[params.h_prev_base + cell];
    }
    state[params.h_next_base + cell] = h_next;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let dir = group.z;
    let units = WORKGROUP_SIZE / K_LANES;
    let unit = group.x * units + (lane & (units - 1u));
    let row_base = group.y * ROWS;
    let weight_base = params.weight_base + dir * params.out_size * params.hidden_size;
    let sums = row_product(dir, row_base, unit, params.hidden_size, params.out_size, weight_base, lane);
    if (lane < units && unit < params.hidden_size) {
        finish(dir, row_base, unit, sums[0]);
        if (ROWS == 4u) {
            finish(dir, row_base + 1u, unit, sums[1]);
            finish(dir, row_base + 2u, unit, sums[2]);
            finish(dir, row_base + 3u, unit, sums[3]);
        }
    }
}
