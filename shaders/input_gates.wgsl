// input_gates.wgsl: the input's part of the pre-activations, for many time steps at once.
//   gates_x[dir, row, unit, gate] = bias[dir, unit, gate] + sum_k weight_ih[dir, k, unit, gate] * x[x_row[dir] + row, k]
//   PAIRS: sums in pairs of f32 (shared/two_float.wgsl); the low parts go to gates_x behind the high ones.
//   A row is one (t, n); rows of consecutive steps follow each other. RAGGED: tiles of padding alone are skipped, and gates_x stays as it is there.
//   A linear layer is the same with D = 1: its quads are four neighbouring outputs instead of the gates of a unit, and H of them are ceil(F / 4).
// Twin:       src/reference/input_gates.rs
// Twin:       src/reference/linear.rs
// Dispatch:   (ceil(num_outputs / GROUP_OUTPUTS), ceil(num_rows / GROUP_ROWS), D), once a chunk of time steps and a panel of weight_ih
// Shared mem: see shared/row_product.wgsl, shared/tile_product.wgsl, shared/matrix_product.wgsl        Barriers: uniform, likewise
// Requires:   num_rows >= 1, hidden_size >= 1, input_size >= 1; no divisibility

struct InputGatesParams {
    num_rows: u32,
    batch: u32,
    input_size: u32,
    hidden_size: u32,
    weight_base: u32,                     // of direction 0, in quads
    weight_stride: u32,                   // from direction to direction
    vectors_base: u32,
    vectors_slot: u32,
    vectors_stride: u32,
    gates_stride: u32,                    // in vec4, from direction to direction
    gates_low_offset: u32,                // from gates_x to its low parts, in vec4, with PAIRS
    x_row: u32,                           // first row of `x` for direction 0
    x_row_stride: u32,                    // to that of direction 1, modulo 2^32
    gates_base: u32,                      // of row 0 of direction 0, in vec4
    first_output: u32,                    // of the panel of weight_ih that is bound
    num_outputs: u32,                     // of it; all H where the matrix is in one piece
}

@group(0) @binding(0) var<uniform>             params:  InputGatesParams;
@group(0) @binding(3) var<storage, read>       x:       array<f32>;          // [T, N, I]
@group(0) @binding(4) var<storage, read>       lens:    array<u32>;          // [N]
@group(0) @binding(5) var<storage, read_write> gates_x: array<vec4<f32>>;    // [D, num_rows, H], with PAIRS twice

override RAGGED: bool = false;            // rows have lengths of their own
override HAS_BIAS: bool = true;

fn row_value(z: u32, row: u32, k: u32, from_input: bool) -> f32 {
    if (row < params.num_rows) {
        return x[(params.x_row + z * params.x_row_stride + row) * params.input_size + k];
    }
    return 0.0;
}

fn rescale(z: u32, unit: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn finish(z: u32, row: u32, output: u32, sum: Pair4) {
    if (row >= params.num_rows) {
        return;
    }
    let unit = params.first_output + output;
    let place = params.gates_base + z * params.gates_stride + row * params.hidden_size + unit;
    var total = sum;
    if (HAS_SCALES) {
        total.high *= vector(SCALE_IH, z, unit);
    }
    if (PAIRS) {
        if (HAS_BIAS) {
            total = add4(total, Pair4(vector(BIAS, z, unit), vector(BIAS_LOW, z, unit)));
        }
        gates_x[place + params.gates_low_offset] = total.low;
    } else if (HAS_BIAS) {
        total.high += vector(BIAS, z, unit);
    }
    gates_x[place] = total.high;
}

// Whether a row of the group's tile is within its length.
fn any_live(z: u32, row_base: u32) -> bool {
    let first = params.x_row + z * params.x_row_stride + row_base;
    var t = first / params.batch;
    var n = first % params.batch;
    var live = false;
    for (var row = row_base; row < min(row_base + GROUP_ROWS, params.num_rows); row++) {
        live = live || t < lens[n];
        n++;
        if (n == params.batch) {
            n = 0u;
            t++;
        }
    }
    return live;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn input_gates(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let z = group.z;
    let weight_ih = Source(false, params.input_size, params.weight_base + z * params.weight_stride);
    var live = true;
    if (RAGGED) {
        live = any_live(z, group.y * GROUP_ROWS);
    }
    if (live) {
        run_product(Product(z, params.num_outputs, Source(true, 0u, 0u), weight_ih), group, lane, true);
    }
}
