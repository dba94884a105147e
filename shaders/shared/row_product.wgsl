// row_product.wgsl: ROWS rows times a packed matrix, for one output quad a thread.
//   sum[row] = sum_k weights[weight_base + k * num_outputs + output] * row_value(dir, row_base + row, k)
// Shared mem: 16 * K_TILE bytes, and 16 * WORKGROUP_SIZE more where K_LANES > 1     Barriers: uniform, 2 a tile and log2(K_LANES) a row
// These functions depend on two_float.wgsl and on the following global declarations:
//    * `weights`: array<vec4<f32>>, element (k, output) at k * num_outputs + output
//    * `row_value(dir, row, k) -> f32`, which gives 0 past the last row

override WORKGROUP_SIZE: u32 = 64u;                          // power of two
override K_LANES: u32 = 1u;                                  // threads that share one output; power of two, divides WORKGROUP_SIZE
override ROWS: u32 = 4u;                                     // 1 or 4
override PAIRS: bool = false;                                // sum in pairs of f32

const K_TILE: u32 = 64u;

var<workgroup> row_tile: array<vec4<f32>, K_TILE>;           // element k: four rows
var<workgroup> partial: array<vec4<f32>, WORKGROUP_SIZE>;    // [K_LANES, WORKGROUP_SIZE / K_LANES]

// Sums `value` over the K_LANES threads of an output; every one of them gets the sum, added in the same order on every device.
fn sum_over_lanes(value: vec4<f32>, lane: u32) -> vec4<f32> {
    partial[lane] = value;
    workgroupBarrier();
    for (var stride = WORKGROUP_SIZE / 2u; stride >= WORKGROUP_SIZE / K_LANES; stride /= 2u) {
        if (lane < stride) {
            partial[lane] += partial[lane + stride];
        }
        workgroupBarrier();
    }
    let sum = partial[lane & (WORKGROUP_SIZE / K_LANES - 1u)];
    workgroupBarrier();
    return sum;
}

fn pair_over_lanes(value: Pair4, lane: u32) -> Pair4 {
    // K_LANES is 1 where sums are pairs, so only plain sums are ever split
    if (K_LANES > 1u) {
        return Pair4(sum_over_lanes(value.high, lane), vec4<f32>(0.0));
    }
    return value;
}

// sum + weight * value
fn accumulate(sum: Pair4, weight: vec4<f32>, value: f32) -> Pair4 {
    if (PAIRS) {
        return add_product4(sum, weight, vec4<f32>(value));
    }
    return Pair4(fma(weight, vec4<f32>(value), sum.high), vec4<f32>(0.0));
}

// Element `r` of the result is the sum of row `row_base + r`. All threads of the workgroup must call it together.
fn row_product(dir: u32, row_base: u32, output: u32, num_outputs: u32, num_k: u32, weight_base: u32, lane: u32) -> array<Pair4, 4> {
    let k_lane = lane / (WORKGROUP_SIZE / K_LANES);
    var sum_0 = Pair4();
    var sum_1 = Pair4();
    var sum_2 = Pair4();
    var sum_3 = Pair4();
    for (var tile_base = 0u; tile_base < num_k; tile_base += K_TILE) {
        let tile_len = min(K_TILE, num_k - tile_base);
        for (var k = lane; k < tile_len; k += WORKGROUP_SIZE) {
            var values = vec4<f32>(row_value(dir, row_base, tile_base + k), 0.0, 0.0, 0.0);
            if (ROWS == 4u) {
                values.y = row_value(dir, row_base + 1u, tile_base + k);
                values.z = row_value(dir, row_base + 2u, tile_base + k);
                values.w = row_value(dir, row_base + 3u, tile_base + k);
            }
            row_tile[k] = values;
        }
        workgroupBarrier();
        if (output < num_outputs) {
            for (var k = k_lane; k < tile_len; k += K_LANES) {
                let weight = weights[weight_base + (tile_base + k) * num_outputs + output];
                let values = row_tile[k];
                sum_0 = accumulate(sum_0, weight, values.x);
                if (ROWS == 4u) {
                    sum_1 = accumulate(sum_1, weight, values.y);
                    sum_2 = accumulate(sum_2, weight, values.z);
                    sum_3 = accumulate(sum_3, weight, values.w);
                }
            }
        }
        workgroupBarrier();
    }
    sum_0 = pair_over_lanes(sum_0, lane);
    if (ROWS == 4u) {
        sum_1 = pair_over_lanes(sum_1, lane);
        sum_2 = pair_over_lanes(sum_2, lane);
        sum_3 = pair_over_lanes(sum_3, lane);
    }
    return array<Pair4, 4>(sum_0, sum_1, sum_2, sum_3);
}
