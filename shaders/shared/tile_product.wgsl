// tile_product.wgsl: a tile of rows times a packed matrix, for many rows: ROW_QUADS * 4 rows by UNITS output quads a thread.
//   sum[row, output] = sum_k weights[weight_base + k * num_outputs + output] * row_value(z, row, k)
// Shared mem: 16 * K_TILE * (GROUP_QUADS + 1 + GROUP_OUTPUTS) bytes        Barriers: uniform, 2 a tile of K_TILE
// These functions depend on two_float.wgsl, a weights_*.wgsl, and on the following declarations:
//    * `row_value(z, row, k, from_input) -> f32`, which gives 0 past the last row
//    * `rescale(z, output) -> vec4<f32>`, from the scale of the input's weights to that of the others
//    * `finish(z, row, output, sum)`, called once for every row and output, rows past the last one included

override PAIRS: bool = false;             // sum in pairs of f32

const K_TILE: u32 = 16u;
const GROUP_QUADS: u32 = ROW_THREADS * ROW_QUADS;
const GROUP_ROWS: u32 = GROUP_QUADS * 4u;
const GROUP_OUTPUTS: u32 = UNIT_THREADS * UNITS;
const ROW_STRIDE: u32 = GROUP_QUADS + 1u;                               // odd: neighbouring k lie in different banks

var<workgroup> row_tile: array<vec4<f32>, K_TILE * ROW_STRIDE>;         // [K_TILE, GROUP_QUADS], four rows an element
var<workgroup> weight_tile: array<vec4<f32>, K_TILE * GROUP_OUTPUTS>;   // [K_TILE, GROUP_OUTPUTS]

struct Sums {
    //: for q in ROW_QUADS
    //: for i in 4
    //: for u in UNITS
    at_$q_$i_$u: Pair4,
    //: end
    //: end
    //: end
}

// sums + the group's rows times `num_k` rows of the matrix at `weight_base`. All threads of the workgroup must call it together.
fn add_product(sums: ptr<function, Sums>, source: Source, product: Product, row_base: u32, output_base: u32, lane: u32) {
    let unit_lane = lane % UNIT_THREADS;
    let row_lane = lane / UNIT_THREADS;
    for (var base = 0u; base < source.num_k; base += K_TILE) {
        for (var i = lane; i < K_TILE * GROUP_QUADS; i += WORKGROUP_SIZE) {
            // neighbouring threads read neighbouring k of the same rows
            let k = base + i % K_TILE;
            let quad = i / K_TILE;
            var values = vec4<f32>(0.0);
            if (k < source.num_k) {
                //: for i in 4
                values[$i] = row_value(product.z, row_base + quad * 4u + $iu, k, source.from_input);
                //: end
            }
            row_tile[(i % K_TILE) * ROW_STRIDE + quad] = values;
        }
        for (var i = lane; i < K_TILE * GROUP_OUTPUTS; i += WORKGROUP_SIZE) {
            let k = base + i / GROUP_OUTPUTS;
            let output = output_base + i % GROUP_OUTPUTS;
            var weight = vec4<f32>(0.0);
            if (k < source.num_k && output < product.num_outputs) {
                weight = unpack_quad(weights[source.weight_base + k * product.num_outputs + output]);
            }
            weight_tile[i] = weight;
        }
        workgroupBarrier();
        for (var k = 0u; k < K_TILE; k++) {
            //: for u in UNITS
            let weight_$u = weight_tile[k * GROUP_OUTPUTS + $uu * UNIT_THREADS + unit_lane];
            //: end
            //: for q in ROW_QUADS
            let rows_$q = row_tile[k * ROW_STRIDE + $qu * ROW_THREADS + row_lane];
            //: for i in 4
            //: for u in UNITS
            (*sums).at_$q_$i_$u = add_weighted((*sums).at_$q_$i_$u, weight_$u, rows_$q[$i]);
            //: end
            //: end
            //: end
        }
        workgroupBarrier();
    }
}

fn run_product(product: Product, group: vec3<u32>, lane: u32, live: bool) {
    let row_base = group.y * GROUP_ROWS;
    let output_base = group.x * GROUP_OUTPUTS;
    let output_lane = output_base + lane % UNIT_THREADS;
    let row_lane = row_base + lane / UNIT_THREADS * 4u;
    var sums = Sums();
    if (live) {
        if (product.input.num_k > 0u) {
            add_product(&sums, product.input, product, row_base, output_base, lane);
            //: for u in UNITS
            if (HAS_SCALES && output_lane + $uu * UNIT_THREADS < product.num_outputs) {
                let ratio = rescale(product.z, output_lane + $uu * UNIT_THREADS);
                //: for q in ROW_QUADS
                //: for i in 4
                sums.at_$q_$i_$u.high *= ratio;
                //: end
                //: end
            }
            //: end
        }
        add_product(&sums, product.recurrent, product, row_base, output_base, lane);
    }
    //: for u in UNITS
    if (output_lane + $uu * UNIT_THREADS < product.num_outputs) {
        //: for q in ROW_QUADS
        //: for i in 4
        finish(product.z, row_lane + $qu * ROW_THREADS * 4u + $iu, output_lane + $uu * UNIT_THREADS, sums.at_$q_$i_$u);
        //: end
        //: end
    }
    //: end
}
