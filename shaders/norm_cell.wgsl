// norm_cell.wgsl: the cell of a layer-normalised LSTM, one row a workgroup.
//   raw    = gates_x[dir, t, n] + ln(gates_h[dir, n]) * gamma_hh[dir];   c_next from raw and c_prev: shared/cell.wgsl
//   h_next = o * output(ln(c_next) * gamma_c + beta_c)
//   ln takes mean and variance over the 4H (gates) or H (cell) values of the row, in two passes.
//   A row whose length is reached keeps its state and gets y = 0. PROJECTED: h_next goes to scratch as cell_out, for project.wgsl.
// Twin:       src/reference/norm_cell.rs
// Dispatch:   (N, D, 1), once a time step, after step.wgsl with RAW_ONLY
// Shared mem: 4 * WORKGROUP_SIZE bytes        Barriers: uniform, four sums over the workgroup
// Requires:   hidden_size >= 1; no divisibility; h_prev and h_next do not overlap; gates_h is overwritten, c is updated in place

struct NormCellParams {
    batch: u32,
    hidden_size: u32,
    out_size: u32,
    y_size: u32,
    vectors_base: u32,
    vectors_slot: u32,
    vectors_stride: u32,
    gates_base: u32,                      // gates_x of this step for direction 0, in vec4
    gates_stride: u32,                    // to that of direction 1, modulo 2^32
    t: u32,                               // this step's place in time for direction 0
    t_stride: u32,                        // to that of direction 1, modulo 2^32
    h_len: u32,                           // floats of one slot of h
    slot: u32,                            // of h_prev
    cell: u32,                            // number of the cell of direction 0 among all of the stack
    gates_h_base: u32,                    // in scratch
    cell_out_base: u32,                   // in scratch
}

@group(0) @binding(0) var<uniform>             params:  NormCellParams;
@group(0) @binding(3) var<storage, read>       gates_x: array<vec4<f32>>;    // [D, T, N, H], normalised, biases included
@group(0) @binding(4) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(5) var<storage, read_write> scratch: array<f32>;          // gates_h [D, N, H, 4], cell_out [D, N, H]
@group(0) @binding(6) var<storage, read_write> y:       array<f32>;          // [T, N, D*H]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, R], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own
override PROJECTED: bool = false;
override EPSILON: f32 = 0.00001;

fn gates_h(base: u32) -> vec4<f32> {
    return vec4<f32>(scratch[base], scratch[base + 1u], scratch[base + 2u], scratch[base + 3u]);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn norm_cell(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let dir = group.y;
    let t = params.t + dir * params.t_stride;
    var live = true;
    if (RAGGED) {
        live = t < lens[row];
    }
    let cell_base = (dir * params.batch + row) * params.hidden_size;
    let gates_h_base = params.gates_h_base + cell_base * 4u;
    let gates_x_base = params.gates_base + dir * params.gates_stride + row * params.hidden_size;
    let c_base = 2u * params.h_len + params.cell * params.batch * params.hidden_size + cell_base;
    let h_row = ((params.cell + dir) * params.batch + row) * params.hidden_size;
    let h_prev_base = params.slot * params.h_len + h_row;
    let h_next_base = (1u - params.slot) * params.h_len + h_row;
    let hidden_size = f32(params.hidden_size);

    var sum = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        sum += component_sum(gates_h(gates_h_base + unit * 4u));
    }
    let gates_mean = sum_over_workgroup(sum, lane) / (hidden_size * 4.0);
    var squares = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let difference = gates_h(gates_h_base + unit * 4u) - gates_mean;
        squares += dot(difference, difference);
    }
    let gates_scale = 1.0 / sqrt(sum_over_workgroup(squares, lane) / (hidden_size * 4.0) + EPSILON);

    sum = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let base = gates_h_base + unit * 4u;
        let gamma = vector(GAMMA_HH, dir, unit);
        let raw = gates_x[gates_x_base + unit] + (gates_h(base) - gates_mean) * gates_scale * gamma;
        let peephole = vector(PEEPHOLE, dir, unit);
        let c_prev = state[c_base + unit];
        var next = next_cell(dir, raw, c_prev, peephole);
        if (!live) {
            next.c_next = c_prev;
        }
        state[c_base + unit] = next.c_next;
        scratch[base] = next.o_raw;       // this thread's own element: read above, read again below
        sum += next.c_next;
    }
    let c_mean = sum_over_workgroup(sum, lane) / hidden_size;
    squares = 0.0;
    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let difference = state[c_base + unit] - c_mean;
        squares += difference * difference;
    }
    let c_scale = 1.0 / sqrt(sum_over_workgroup(squares, lane) / hidden_size + EPSILON);

    for (var unit = lane; unit < params.hidden_size; unit += WORKGROUP_SIZE) {
        let norm = vector(GAMMA_C, dir, unit);
        let c = (state[c_base + unit] - c_mean) * c_scale * norm.x + norm.y;
        var h_next = cell_output(dir, scratch[gates_h_base + unit * 4u], c);
        if (PROJECTED) {
            scratch[params.cell_out_base + cell_base + unit] = h_next;
        } else {
            if (!live) {
                h_next = 0.0;
            }
            y[(t * params.batch + row) * params.y_size + dir * params.hidden_size + unit] = h_next;
            if (!live) {
                h_next = state[h_prev_base + unit];
            }
            state[h_next_base + unit] = h_next;
        }
    }
}
