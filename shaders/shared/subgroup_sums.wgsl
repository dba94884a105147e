// subgroup_sums.wgsl: the end of row_product.wgsl where K_LANES threads share a sum: within subgroups first, and from one to the next through
// workgroup memory.
//   sum[row, output] = ((part 0 + part 1) + (part 2 + part 3)) + ...: neighbours in pairs, then pairs in pairs, until one is left
//   The order is the same whatever the size of a subgroup, which a driver may choose for each pipeline anew: so are the bits.
//   Subgroups are runs of neighbouring threads; where a driver makes others, `gpu::trial` sees it and does without.
// Shared mem: 16 * ROWS * WORKGROUP_SIZE bytes        Barriers: uniform, 1
// These functions depend on the constants of row_product.wgsl, on its `Sums`, and on `finish`.

var<workgroup> partial: array<vec4<f32>, ROWS * WORKGROUP_SIZE>;        // [ROWS, runs, GROUP_OUTPUTS]

fn finish_lanes(sums: ptr<function, Sums>, product: Product, row_base: u32, output_base: u32, lane: u32) {
    // threads of this subgroup, a power of two; all of them are here
    let subgroup_len = subgroupAdd(1u);
    var stride = GROUP_OUTPUTS;
    //: for r in ROWS
    var sum_$r = (*sums).row_$r.high;
    //: end
    for (; stride < subgroup_len; stride *= 2u) {
        //: for r in ROWS
        sum_$r += subgroupShuffleXor(sum_$r, stride);
        //: end
    }
    // every run of `stride` threads has the sums of its own inputs, in each of its threads that have the same output
    let runs = WORKGROUP_SIZE / stride;
    let column = lane % GROUP_OUTPUTS;
    if (runs > 1u) {
        if (lane % stride < GROUP_OUTPUTS) {
            //: for r in ROWS
            partial[($ru * runs + lane / stride) * GROUP_OUTPUTS + column] = sum_$r;
            //: end
        }
    }
    // outside of the condition, which is the same for all threads only where all subgroups are
    workgroupBarrier();
    for (var row = lane / GROUP_OUTPUTS; row < ROWS; row += K_LANES) {
        var sum = vec4<f32>(0.0);
        if (runs > 1u) {
            // these places are this thread's own from here on
            let base = row * runs * GROUP_OUTPUTS + column;
            for (var width = 1u; width < runs; width *= 2u) {
                for (var run = 0u; run < runs; run += 2u * width) {
                    partial[base + run * GROUP_OUTPUTS] += partial[base + (run + width) * GROUP_OUTPUTS];
                }
            }
            sum = partial[base];
        } else {
            //: for r in ROWS
            if (row == $ru) {
                sum = sum_$r;
            }
            //: end
        }
        if (output_base + column < product.num_outputs) {
            finish(product.z, row_base + row, output_base + column, Pair4(sum, vec4<f32>(0.0)));
        }
    }
}
