// lane_sums.wgsl: the end of row_product.wgsl through workgroup memory alone.
//   sum[row, output] = part[row, 0, output] + part[row, 1, output] + ... of the K_LANES threads that share it, in that order
// Shared mem: 16 * ROWS * WORKGROUP_SIZE bytes, with PAIRS twice        Barriers: uniform, 1
// These functions depend on the constants of row_product.wgsl, on its `Sums`, and on `finish`.

var<workgroup> partial: array<vec4<f32>, ROWS * WORKGROUP_SIZE>;        // [ROWS, K_LANES, GROUP_OUTPUTS]
var<workgroup> partial_low: array<vec4<f32>, LOW_LEN>;                  // the same for the low parts of the sums, with PAIRS

fn finish_lanes(sums: ptr<function, Sums>, product: Product, row_base: u32, output_base: u32, lane: u32) {
    // one call of `finish` in the text, whatever the rows: it is long, and drivers compile every copy
    //: for r in ROWS
    partial[$ru * WORKGROUP_SIZE + lane] = (*sums).row_$r.high;
    if (PAIRS) {
        partial_low[$ru * WORKGROUP_SIZE + lane] = (*sums).row_$r.low;
    }
    //: end
    workgroupBarrier();
    for (var place = lane; place < ROWS * GROUP_OUTPUTS; place += WORKGROUP_SIZE) {
        let row = place / GROUP_OUTPUTS;
        let column = place % GROUP_OUTPUTS;
        var sum = Pair4(partial[row * WORKGROUP_SIZE + column], vec4<f32>(0.0));
        for (var k_lane = 1u; k_lane < K_LANES; k_lane++) {
            sum.high += partial[row * WORKGROUP_SIZE + k_lane * GROUP_OUTPUTS + column];
        }
        if (PAIRS) {
            sum.low = partial_low[row * WORKGROUP_SIZE + column];
        }
        if (output_base + column < product.num_outputs) {
            finish(product.z, row_base + row, output_base + column, sum);
        }
    }
}
