// lane_sums.wgsl: the end of row_product.wgsl where K_LANES threads share a sum, through workgroup memory alone.
//   sum[row, output] = part[row, 0, output] + part[row, 1, output] + ... of the K_LANES threads, in that order
// Shared mem: 16 * ROWS * WORKGROUP_SIZE bytes where K_LANES > 1        Barriers: uniform, 1
// These functions depend on the constants of row_product.wgsl, on its `Sums`, and on `finish`.

const PARTIAL_LEN: u32 = max(1u, min(K_LANES - 1u, 1u) * ROWS * WORKGROUP_SIZE);

var<workgroup> partial: array<vec4<f32>, PARTIAL_LEN>;                  // [ROWS, K_LANES, GROUP_OUTPUTS]

fn finish_lanes(sums: ptr<function, Sums>, product: Product, row_base: u32, output_base: u32, lane: u32) {
    //: for r in ROWS
    partial[$ru * WORKGROUP_SIZE + lane] = (*sums).row_$r.high;
    //: end
    workgroupBarrier();
    for (var place = lane; place < ROWS * GROUP_OUTPUTS; place += WORKGROUP_SIZE) {
        let row = place / GROUP_OUTPUTS;
        let column = place % GROUP_OUTPUTS;
        var sum = partial[row * WORKGROUP_SIZE + column];
        for (var k_lane = 1u; k_lane < K_LANES; k_lane++) {
            sum += partial[row * WORKGROUP_SIZE + k_lane * GROUP_OUTPUTS + column];
        }
        if (output_base + column < product.num_outputs) {
            finish(product.z, row_base + row, output_base + column, Pair4(sum, vec4<f32>(0.0)));
        }
    }
}
