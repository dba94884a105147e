// input_gates.wgsl: the input's part of the pre-activations, for many time steps at once.
//   gates_x[dir, row, unit, gate] = bias[dir, unit, gate] + sum_k weight_ih[dir, k, unit, gate] * x[x_row[dir] + row, k]
//   PAIRS: sums in pairs of f32 (shared/two_float.wgsl); the low parts go to gates_x behind the high ones.
//   A row is one (t, n); rows of consecutive steps follow each other.
// Twin:       src/reference/input_gates.rs
// Dispatch:   (ceil(H / 16), ceil(num_rows / 32), D), once a chunk of time steps
// Shared mem: 16 * (K_TILE * 8 + K_TILE * 16) = 6144 bytes        Barriers: uniform, 2 a tile of K_TILE
// Requires:   num_rows >= 1, hidden_size >= 1, input_size >= 1; no divisibility

struct InputGatesParams {
    num_rows: u32,
    input_size: u32,
    hidden_size: u32,
    weight_base: u32,                     // of direction 0, in vec4; direction 1 follows
    bias_base: u32,                       // of direction 0, in vec4; direction 1 follows
    gates_stride: u32,                    // in vec4, from direction to direction
    x_row_0: u32,                         // first row of `x` for direction 0
    x_row_1: u32,
    gates_low_offset: u32,                // from gates_x to its low parts, in vec4, with PAIRS
    bias_low_base: u32,                   // what f32 loses of the bias, with PAIRS; of direction 0, in vec4; direction 1 follows
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform>             params:  InputGatesParams;
@group(0) @binding(1) var<storage, read>       weights: array<vec4<f32>>;    // weight_ih [D, I, H], bias [D, H], its low parts [D, H]
@group(0) @binding(2) var<storage, read>       x:       array<f32>;          // [T, N, I]
@group(0) @binding(3) var<storage, read_write> gates_x: array<vec4<f32>>;    // [D, num_rows, H], with PAIRS twice

override HAS_BIAS: bool = true;
override PAIRS: bool = false;             // sum in pairs of f32

const K_TILE: u32 = 16u;
const UNITS: u32 = 16u;                   // of a workgroup, one a thread
const ROW_QUADS: u32 = 8u;                // of a workgroup, two a thread

var<workgroup> x_tile: array<vec4<f32>, 128>;         // [K_TILE, ROW_QUADS], four rows an element
var<workgroup> weight_tile: array<vec4<f32>, 256>;    // [K_TILE, UNITS]

fn x_value(row: u32, k: u32, x_row: u32) -> f32 {
    if (row < params.num_rows && k < params.input_size) {
        return x[(x_row + row) * params.input_size + k];
    }
    return 0.0;
}

// Four rows of sums.
struct RowSums {
    high: mat4x4<f32>,
    low: mat4x4<f32>,                     // zero without PAIRS
}

// Column r of the result: sums[r] + weight * rows[r]
fn add_outer_product(sums: RowSums, weight: vec4<f32>, rows: vec4<f32>) -> RowSums {
    if (PAIRS) {
        let sum_0 = add_product4(Pair4(sums.high[0], sums.low[0]), weight, vec4<f32>(rows.x));
        let sum_1 = add_product4(Pair4(sums.high[1], sums.low[1]), weight, vec4<f32>(rows.y));
        let sum_2 = add_product4(Pair4(sums.high[2], sums.low[2]), weight, vec4<f32>(rows.z));
        let sum_3 = add_product4(Pair4(sums.high[3], sums.low[3]), weight, vec4<f32>(rows.w));
        return RowSums(mat4x4<f32>(sum_0.high, sum_1.high, sum_2.high, sum_3.high), mat4x4<f32>(sum_0.low, sum_1.low, sum_2.low, sum_3.low));
    }
    return RowSums(
        mat4x4<f32>(
            fma(weight, vec4<f32>(rows.x), sums.high[0]),
            fma(weight, vec4<f32>(rows.y), sums.high[1]),
            fma(weight, vec4<f32>(rows.z), sums.high[2]),
            fma(weight, vec4<f32>(rows.w), sums.high[3]),
        ),
        mat4x4<f32>(),
    );
}

// Adds the bias and stores one sum.
fn store(place: u32, high: vec4<f32>, low: vec4<f32>, bias: Pair4) {
    if (PAIRS) {
        let sum = add4(Pair4(high, low), bias);
        gates_x[place] = sum.high;
        gates_x[place + params.gates_low_offset] = sum.low;
    } else {
        gates_x[place] = high + bias.high;
    }
}

@compute @workgroup_size(64)
fn input_gates(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let dir = group.z;
    let x_row = select(params.x_row_0, params.x_row_1, dir == 1u);
    let weight_base = params.weight_base + dir * params.input_size * params.hidden_size;
    let group_row = group.y * ROW_QUADS * 4u;
    let group_unit = group.x * UNITS;
    let unit_lane = lane % UNITS;
    let row_lane = lane / UNITS;          // 0 to 3: owns the row quads row_lane and row_lane + 4
    var sum_0 = RowSums();
    var sum_1 = RowSums();

    for (var tile_base = 0u; tile_base < params.input_size; tile_base += K_TILE) {
        for (var i = lane; i < K_TILE * ROW_QUADS; i += 64u) {
            // neighbouring threads read neighbouring k of the same rows
            let k = tile_base + i % K_TILE;
            let quad = i / K_TILE;
            let row = group_row + quad * 4u;
            x_tile[(i % K_TILE) * ROW_QUADS + quad] =
                vec4<f32>(x_value(row, k, x_row), x_value(row + 1u, k, x_row), x_value(row + 2u, k, x_row), x_value(row + 3u, k, x_row));
        }
        for (var i = lane; i < K_TILE * UNITS; i += 64u) {
            let k = tile_base + i / UNITS;
            let unit = group_unit + i % UNITS;
            var weight = vec4<f32>(0.0);
            if (k < params.input_size && unit < params.hidden_size) {
                weight = weights[weight_base + k * params.hidden_size + unit];
            }
            weight_tile[i] = weight;
        }
        workgroupBarrier();
        for (var k = 0u; k < K_TILE; k++) {
            let weight = weight_tile[k * UNITS + unit_lane];
            let rows_0 = x_tile[k * ROW_QUADS + row_lane];
            let rows_1 = x_tile[k * ROW_QUADS + row_lane + 4u];
            sum_0 = add_outer_product(sum_0, weight, rows_0);
            sum_1 = add_outer_product(sum_1, weight, rows_1);
        }
        workgroupBarrier();
    }

    let unit = group_unit + unit_lane;
    if (unit < params.hidden_size) {
        var bias = Pair4();
        if (HAS_BIAS) {
            bias.high = weights[params.bias_base + dir * params.hidden_size + unit];
            if (PAIRS) {
                bias.low = weights[params.bias_low_base + dir * params.hidden_size + unit];
            }
        }
        let gates_base = dir * params.gates_stride + unit;
        let row_0 = group_row + row_lane * 4u;
        let row_1 = row_0 + 16u;
        for (var i = 0u; i < 4u; i++) {
            if (row_0 + i < params.num_rows) {
                store(gates_base + (row_0 + i) * params.hidden_size, sum_0.high[i], sum_0.low[i], bias);
            }
            if (row_1 + i < params.num_rows) {
                store(gates_base + (row_1 + i) * params.hidden_size, sum_1.high[i], sum_1.low[i], bias);
            }
        }
    }
}
