// row_product.wgsl: ROWS rows times a packed matrix, for few rows: one output quad a thread, and K_LANES threads a sum.
//   sum[row] = sum_k weights[weight_base + k * num_outputs + output] * row_value(z, row, k)
// Shared mem: 4 * ROWS * K_STAGE bytes, and that of lane_sums.wgsl or subgroup_sums.wgsl
// Barriers:   uniform, 2 a stage of K_STAGE inputs, and those of that part
// These functions depend on two_float.wgsl, a weights_*.wgsl, and on the following declarations:
//    * `row_value(z, row, k, from_input) -> f32`, which gives 0 past the last row
//    * `rescale(z, output) -> vec4<f32>`, from the scale of the input's weights to that of the others
//    * `finish(z, row, output, sum)`, called once for every row and output, rows past the last one included
//    * `finish_lanes(sums, product, row_base, output_base, lane)`, which adds up what K_LANES threads have and calls it

override PAIRS: bool = false;             // sum in pairs of f32; K_LANES is 1 then

const K_RUN: u32 = 16u;                   // inputs that follow each other of one thread, written out
const K_STAGE: u32 = K_RUN * K_LANES;
const GROUP_OUTPUTS: u32 = WORKGROUP_SIZE / K_LANES;
const GROUP_ROWS: u32 = ROWS;

var<workgroup> staged: array<f32, ROWS * K_STAGE>;                      // [ROWS, K_STAGE]

struct Sums {
    //: for r in ROWS
    row_$r: Pair4,
    //: end
}

// sums + rows `row_base ..` times `num_k` rows of the matrix at `weight_base`. All threads of the workgroup must call it together.
fn add_product(sums: ptr<function, Sums>, source: Source, product: Product, row_base: u32, output: u32, lane: u32) {
    let stride = product.num_outputs;
    var first = 0u;
    if (K_LANES > 1u) {
        first = lane / GROUP_OUTPUTS * K_RUN;
    }
    for (var base = 0u; base < source.num_k; base += K_STAGE) {
        for (var i = lane; i < ROWS * K_STAGE; i += WORKGROUP_SIZE) {
            // neighbouring threads read neighbouring k of the same row
            let k = base + i % K_STAGE;
            var value = 0.0;
            if (k < source.num_k) {
                value = row_value(product.z, row_base + i / K_STAGE, k, source.from_input);
            }
            staged[i] = value;
        }
        workgroupBarrier();
        if (output < product.num_outputs) {
            let column = source.weight_base + (base + first) * stride + output;
            if (base + first + K_RUN <= source.num_k) {
                //: for j in 16
                let weight_$j = unpack_quad(weights[column + $ju * stride]);
                //: end
                //: for j in 16
                //: for r in ROWS
                (*sums).row_$r = add_weighted((*sums).row_$r, weight_$j, staged[$ru * K_STAGE + first + $ju]);
                //: end
                //: end
            } else {
                for (var j = 0u; base + first + j < source.num_k; j++) {
                    let weight = unpack_quad(weights[column + j * stride]);
                    //: for r in ROWS
                    (*sums).row_$r = add_weighted((*sums).row_$r, weight, staged[$ru * K_STAGE + first + j]);
                    //: end
                }
            }
        }
        workgroupBarrier();
    }
}

fn run_product(product: Product, group: vec3<u32>, lane: u32, live: bool) {
    let row_base = group.y * ROWS;
    let output = group.x * GROUP_OUTPUTS + lane % GROUP_OUTPUTS;
    var sums = Sums();
    if (live) {
        if (product.input.num_k > 0u) {
            add_product(&sums, product.input, product, row_base, output, lane);
            if (HAS_SCALES && output < product.num_outputs) {
                let ratio = rescale(product.z, output);
                //: for r in ROWS
                sums.row_$r.high *= ratio;
                //: end
            }
        }
        add_product(&sums, product.recurrent, product, row_base, output, lane);
    }
    finish_lanes(&sums, product, row_base, group.x * GROUP_OUTPUTS, lane);
}
