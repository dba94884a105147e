// step.wgsl: one time step of one LSTM layer in both directions, or of several layers of a wavefront; the recurrent product and the cell in one.
//   raw[gate] = gates_x[z, t, n, unit, gate] + sum_k weight_hh[z, k, unit, gate] * h_prev[z, n, k]
//   c_next, h_next from raw and c_prev: shared/cell.wgsl, through shared/plain_cell.wgsl or shared/pair_cell.wgsl
//   z is the direction, or, on a WAVEFRONT, the layer, each one time step behind the layer below. Layers from `params.hoisted` on have no gates_x:
//   raw[gate] = bias + sum_k weight_ih[z, k, unit, gate] * h_next[z - 1, n, k] + sum_k weight_hh[z, k, unit, gate] * h_prev[z, n, k]
//   PAIRS: products and cell in pairs of f32 (shared/two_float.wgsl); only h and c are rounded to f32.
//   A row whose length is reached keeps its state and gets y = 0; a group of such rows multiplies nothing.
//   RAW_ONLY: the sums alone go to out as gates_h, for norm_cell.wgsl. PROJECTED: o * output(c) goes to out as cell_out, for project.wgsl.
// Twin:       src/reference/step.rs
// Dispatch:   (ceil(num_units / GROUP_OUTPUTS), ceil(N / GROUP_ROWS), D or the layers of the wavefront), once a time step and a panel of weight_hh
// Shared mem: see shared/row_product.wgsl, shared/tile_product.wgsl        Barriers: uniform, likewise
// Requires:   batch >= 1, hidden_size >= 1, out_size >= 1; no divisibility; h_prev and h_next do not overlap; c is updated in place

struct StepParams {
    batch: u32,
    hidden_size: u32,
    out_size: u32,
    y_size: u32,
    weight_base: u32,                     // of weight_hh for z = 0, in quads, where z is hoisted
    weight_stride: u32,                   // from one z to the next
    concat_base: u32,                     // of weight_ih, weight_hh for z = 0, in quads, where z is not hoisted
    concat_stride: u32,
    vectors_base: u32,
    vectors_slot: u32,
    vectors_stride: u32,
    hoisted: u32,                         // how many z have gates_x
    gates_base: u32,                      // gates_x of this step for z = 0, in vec4
    gates_stride: u32,                    // to that of z = 1, modulo 2^32
    gates_low_offset: u32,                // from gates_x to its low parts, in vec4, with PAIRS
    t: u32,                               // this step's place in time for z = 0
    t_stride: u32,                        // to that of z = 1, modulo 2^32
    h_len: u32,                           // floats of one slot of h
    slot: u32,                            // of h_prev for z = 0
    slot_stride: u32,                     // 1 where neighbouring z are one step apart
    cell: u32,                            // number of the cell of z = 0 among all of the stack
    last_cell: u32,                       // first cell that writes y
    out_base: u32,                        // of y, cell_out or gates_h
    first_unit: u32,                      // of the panel of weight_hh that is bound
    num_units: u32,                       // of it; all H where the matrix is in one piece
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<uniform>             params:  StepParams;
@group(0) @binding(3) var<storage, read>       gates_x: array<vec4<f32>>;    // [D, T, N, H], biases included; with PAIRS the low parts behind
@group(0) @binding(4) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(5) var<storage, read_write> out:     array<f32>;          // y [T, N, D*R], or cell_out [z, N, H], or gates_h [D, N, H, 4]
@group(1) @binding(0) var<storage, read_write> state:   array<f32>;          // h [2, L*D, N, R], c [L*D, N, H]

override RAGGED: bool = false;            // rows have lengths of their own
override WAVEFRONT: bool = false;         // z is a layer
override RAW_ONLY: bool = false;
override PROJECTED: bool = false;

// Where h of the cell of `z` is before this step; `next` is 1 for after it.
fn h_base(z: u32, next: u32) -> u32 {
    let slot = (params.slot + z * params.slot_stride + next) & 1u;
    return slot * params.h_len + (params.cell + z) * params.batch * params.out_size;
}

fn row_value(z: u32, row: u32, k: u32, from_input: bool) -> f32 {
    if (row >= params.batch) {
        return 0.0;
    }
    if (WAVEFRONT && from_input) {
        // the layer below ended this time step a dispatch ago, and reads what it made then as its own h_prev now
        return state[h_base(z - 1u, 0u) + row * params.out_size + k];
    }
    return state[h_base(z, 0u) + row * params.out_size + k];
}

fn rescale(z: u32, output: u32) -> vec4<f32> {
    let unit = params.first_unit + output;
    return vector(SCALE_IH, z, unit) / vector(SCALE_HH, z, unit);
}

fn finish(z: u32, row: u32, output: u32, product: Pair4) {
    if (row >= params.batch) {
        return;
    }
    let unit = params.first_unit + output;
    let place = (z * params.batch + row) * params.hidden_size + unit;
    var sum = product;
    if (HAS_SCALES) {
        sum.high *= vector(SCALE_HH, z, unit);
    }
    if (RAW_ONLY) {
        let base = params.out_base + place * 4u;
        out[base] = sum.high.x;
        out[base + 1u] = sum.high.y;
        out[base + 2u] = sum.high.z;
        out[base + 3u] = sum.high.w;
        return;
    }
    let t = params.t + z * params.t_stride;
    let live = is_live(z, row);
    let c_place = 2u * params.h_len + (params.cell * params.batch) * params.hidden_size + place;
    var h_next = 0.0;
    if (live) {
        var gates = Pair4();
        if (WAVEFRONT && z >= params.hoisted) {
            gates.high = vector(BIAS, z, unit);
        } else {
            let gates_place = params.gates_base + z * params.gates_stride + row * params.hidden_size + unit;
            gates.high = gates_x[gates_place];
            if (PAIRS) {
                gates.low = gates_x[gates_place + params.gates_low_offset];
            }
        }
        var peephole = vec4<f32>(0.0);
        if (PEEPHOLES) {
            peephole = vector(PEEPHOLE, z, unit);
        }
        let next = step_cell(z, gates, sum, state[c_place], peephole);
        state[c_place] = next.x;
        h_next = next.y;
    }
    if (PROJECTED) {
        out[params.out_base + place] = h_next;
        return;
    }
    if (params.cell + z >= params.last_cell) {
        let feature = (params.cell + z - params.last_cell) * params.out_size + unit;
        out[params.out_base + (t * params.batch + row) * params.y_size + feature] = h_next;
    }
    let h_place = row * params.out_size + unit;
    if (!live) {
        h_next = state[h_base(z, 0u) + h_place];
    }
    state[h_base(z, 1u) + h_place] = h_next;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let z = group.z;
    var weight_ih = Source(true, 0u, 0u);
    var weight_hh = Source(false, params.out_size, params.weight_base + z * params.weight_stride);
    if (WAVEFRONT && z >= params.hoisted) {
        // the layers of a wavefront have one direction, and inputs as wide as their own h
        weight_ih = Source(true, params.out_size, params.concat_base + z * params.concat_stride);
        weight_hh.weight_base = weight_ih.weight_base + params.out_size * params.hidden_size;
    }
    run_product(Product(z, params.num_units, weight_ih, weight_hh), group, lane, any_live(z, group.y * GROUP_ROWS));
}
