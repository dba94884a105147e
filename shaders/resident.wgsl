// resident.wgsl: many time steps of one LSTM layer in one dispatch, both directions; a workgroup owns ROWS rows and all of their units.
//   raw[gate] = gates_x[dir, t, n, unit, gate] + sum_k weight_hh[dir, k, unit, gate] * h[dir, n, k], then shared/cell.wgsl, for every step in turn
//   h stays in workgroup memory, c in registers; weights come from shared/held_weights.wgsl or shared/streamed_weights.wgsl. No workgroup waits for another.
//   K_LANES threads share a sum, and each of them finishes every K_LANES-th row of its unit.
//   A row whose length is reached keeps its state and gets y = 0; a workgroup computes no step that none of its rows has.
// Twin:       src/reference/step.rs
// Dispatch:   (ceil(N / ROWS), D, 1), once a chunk of time steps; UNITS * WORKGROUP_SIZE / K_LANES >= H
// Shared mem: 4 * ROWS * INPUTS bytes, and 16 * ROWS * K_LANES * GROUP_UNITS more where K_LANES > 1        Barriers: uniform, 2 a time step and 2 before
// Requires:   batch >= 1, no projection; INPUTS >= hidden_size, a multiple of 4 * K_LANES; state and gates_x of other rows are not touched

struct ResidentParams {
    batch: u32,
    hidden_size: u32,
    y_size: u32,
    num_steps: u32,
    weight_base: u32,                     // of direction 0, in quads
    weight_stride: u32,                   // from direction to direction
    vectors_base: u32,
    vectors_slot: u32,
    vectors_stride: u32,
    gates_base: u32,                      // gates_x of the first step for direction 0, in vec4
    gates_stride: u32,                    // to that of direction 1, modulo 2^32
    t: u32,                               // the first step's place in time for direction 0
    t_stride: u32,                        // to that of direction 1, modulo 2^32
    t_step: u32,                          // 1 where direction 0 walks forward, else -1, modulo 2^32
    t_step_stride: u32,                   // to that of direction 1, modulo 2^32
    h_len: u32,                           // floats of one slot of h
    slot: u32,                            // of h before the first step
    next_slot: u32,                       // of h after the last step
    cell: u32,                            // number of the cell of direction 0 among all of the stack
    _pad0: u32,
}

@group(0) @binding(0) var<uniform>             params:  ResidentParams;
@group(0) @binding(3) var<storage, read>       gates_x: array<vec4<f32>>;    // [D, T, N, H], biases included
@group(0) @binding(4) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(5) var<storage, read_write> y:       array<f32>;          // [T, N, D*H]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, H], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own

const UNIT_THREADS: u32 = WORKGROUP_SIZE / K_LANES;
const GROUP_UNITS: u32 = UNIT_THREADS * UNITS;
const K_SLICE: u32 = INPUTS / K_LANES;    // of a thread
const PARTIAL_LEN: u32 = max(1u, min(K_LANES - 1u, 1u) * ROWS * K_LANES * GROUP_UNITS);

var<workgroup> h_tile: array<f32, ROWS * INPUTS>;                            // [ROWS, INPUTS], zeros past H
var<workgroup> partial: array<vec4<f32>, PARTIAL_LEN>;                       // [ROWS, K_LANES, GROUP_UNITS]

struct Sums {
    //: for r in ROWS
    //: for u in UNITS
    at_$r_$u: vec4<f32>,
    //: end
    //: end
}

// The sum over all K_LANES of a row and unit, in the same order on every device.
fn gathered(row: u32, unit: u32) -> vec4<f32> {
    var sum = partial[row * K_LANES * GROUP_UNITS + unit];
    for (var k_lane = 1u; k_lane < K_LANES; k_lane++) {
        sum += partial[(row * K_LANES + k_lane) * GROUP_UNITS + unit];
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn resident(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let dir = group.y;
    let row_base = group.x * ROWS;
    let unit_lane = lane % UNIT_THREADS;
    let k_lane = lane / UNIT_THREADS;
    let hidden_size = params.hidden_size;
    let cell_row = (params.cell + dir) * params.batch;
    let t_first = params.t + dir * params.t_stride;
    let t_step = params.t_step + dir * params.t_step_stride;

    var held = hold_weights(params.weight_base + dir * params.weight_stride, unit_lane, k_lane);

    for (var i = lane; i < ROWS * INPUTS; i += WORKGROUP_SIZE) {
        let row = row_base + i / INPUTS;
        let k = i % INPUTS;
        var value = 0.0;
        if (row < params.batch && k < hidden_size) {
            value = state[params.slot * params.h_len + (cell_row + row) * hidden_size + k];
        }
        h_tile[i] = value;
    }

    // what this thread owns: row `own` of the group and unit `unit` for every pair of the two
    //: for i in OWN_ROWS
    let own_$i = $iu * K_LANES + k_lane;
    let row_$i = row_base + own_$i;
    let row_exists_$i = own_$i < ROWS && row_$i < params.batch;
    var len_$i = 0u;
    if (RAGGED && row_exists_$i) {
        len_$i = lens[row_$i];
    }
    //: for u in UNITS
    var c_$i_$u = 0.0;
    //: end
    //: end
    //: for u in UNITS
    let unit_$u = $uu * UNIT_THREADS + unit_lane;
    var peephole_$u = vec4<f32>(0.0);
    var scale_$u = vec4<f32>(1.0);
    if (PEEPHOLES && unit_$u < hidden_size) {
        peephole_$u = vector(PEEPHOLE, dir, unit_$u);
    }
    if (HAS_SCALES && unit_$u < hidden_size) {
        scale_$u = vector(SCALE_HH, dir, unit_$u);
    }
    //: for i in OWN_ROWS
    let owned_$i_$u = row_exists_$i && unit_$u < hidden_size;
    let c_place_$i_$u = 2u * params.h_len + (cell_row + row_$i) * hidden_size + unit_$u;
    if (owned_$i_$u) {
        c_$i_$u = state[c_place_$i_$u];
    }
    //: end
    //: end

    // the steps that at least one row of the group has
    var first = 0u;
    var end = params.num_steps;
    if (RAGGED) {
        var longest = 0u;
        for (var row = row_base; row < min(row_base + ROWS, params.batch); row++) {
            longest = max(longest, lens[row]);
        }
        if (t_step == 1u) {
            end = min(end, max(longest, t_first) - t_first);
        } else {
            first = min(end, max(t_first + 1u, longest) - longest);
        }
    }
    storageBarrier();                     // another thread may write h at the end where this one has read it
    workgroupBarrier();

    for (var s = first; s < end; s++) {
        let t = t_first + s * t_step;
        let gates_base = params.gates_base + dir * params.gates_stride + s * t_step * params.batch * hidden_size;
        // asked for before the product, needed after it
        //: for i in OWN_ROWS
        //: for u in UNITS
        var gates_$i_$u = vec4<f32>(0.0);
        if (owned_$i_$u) {
            gates_$i_$u = gates_x[gates_base + row_$i * hidden_size + unit_$u];
        }
        //: end
        //: end
        var sums = Sums();
        add_product(&sums, &held, unit_lane, k_lane);
        if (K_LANES > 1u) {
            //: for r in ROWS
            //: for u in UNITS
            partial[($ru * K_LANES + k_lane) * GROUP_UNITS + unit_$u] = sums.at_$r_$u;
            //: end
            //: end
        }
        workgroupBarrier();
        //: for i in OWN_ROWS
        //: for u in UNITS
        if (owned_$i_$u) {
            var h_next = 0.0;
            if (!RAGGED || t < len_$i) {
                var sum = sums.at_$i_$u;
                if (K_LANES > 1u) {
                    sum = gathered(own_$i, unit_$u);
                }
                if (HAS_SCALES) {
                    sum *= scale_$u;
                }
                let next = next_cell(dir, gates_$i_$u + sum, c_$i_$u, peephole_$u);
                c_$i_$u = next.c_next;
                h_next = cell_output(dir, next.o_raw, next.c_next);
                h_tile[own_$i * INPUTS + unit_$u] = h_next;
            }
            y[(t * params.batch + row_$i) * params.y_size + dir * hidden_size + unit_$u] = h_next;
        }
        //: end
        //: end
        workgroupBarrier();
    }

    //: for i in OWN_ROWS
    //: for u in UNITS
    if (owned_$i_$u) {
        state[c_place_$i_$u] = c_$i_$u;
        state[params.next_slot * params.h_len + (cell_row + row_$i) * hidden_size + unit_$u] = h_tile[own_$i * INPUTS + unit_$u];
        if (RAGGED) {
            for (var s = 0u; s < params.num_steps; s++) {
                if (s < first || s >= end) {
                    y[((t_first + s * t_step) * params.batch + row_$i) * params.y_size + dir * hidden_size + unit_$u] = 0.0;
                }
            }
        }
    }
    //: end
    //: end
}
