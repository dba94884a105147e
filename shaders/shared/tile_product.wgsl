// tile_product.wgsl: a tile of rows times a packed matrix, for many rows: ROW_QUADS * 4 rows by UNITS output quads a thread.
//   sum[row, output] = sum_k weights[weight_base + k * num_outputs + output] * row_value(z, row, k)
//   Weights pass through workgroup memory where several threads need them (ROW_THREADS > 1), and straight into registers where one does.
// Shared mem: 16 * K_TILE * (GROUP_QUADS + 1) bytes, and 16 * WEIGHTS_LEN more
// Barriers:   uniform, 2 a tile of K_TILE
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
const FINISHED: u32 = 2u * UNITS;                                       // sums of a thread that are finished in one loop
const WEIGHTS_LEN: u32 = max(FINISHED * WORKGROUP_SIZE, min(ROW_THREADS - 1u, 1u) * K_TILE * GROUP_OUTPUTS);

// [K_TILE, GROUP_OUTPUTS]; after the products, [FINISHED, WORKGROUP_SIZE]: sums of the thread that wrote them
var<workgroup> weight_tile: array<vec4<f32>, WEIGHTS_LEN>;
var<workgroup> low_tile: array<vec4<f32>, LOW_LEN>;                     // [FINISHED, WORKGROUP_SIZE] low parts of the sums, with PAIRS

struct Sums {
    //: for q in ROW_QUADS
    //: for i in 4
    //: for u in UNITS
    at_$q_$i_$u: Pair4,
    //: end
    //: end
    //: end
}

// A quad of weights: of workgroup memory where the group shares them, else of the packed matrix.
fn weight_at(place: u32) -> vec4<f32> {
    if (ROW_THREADS == 1u) {
        return unpack_quad(weights[place]);
    }
    return weight_tile[place];
}

// sums + the group's rows times `num_k` rows of the matrix at `weight_base`. All threads of the workgroup must call it together.
fn add_product(sums: ptr<function, Sums>, source: Source, product: Product, row_base: u32, output_base: u32, lane: u32) {
    let unit_lane = lane % UNIT_THREADS;
    let row_lane = lane / UNIT_THREADS;
    let weight_stride = select(GROUP_OUTPUTS, product.num_outputs, ROW_THREADS == 1u);
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
        if (ROW_THREADS > 1u) {
            for (var i = lane; i < K_TILE * GROUP_OUTPUTS; i += WORKGROUP_SIZE) {
                let k = base + i / GROUP_OUTPUTS;
                let output = output_base + i % GROUP_OUTPUTS;
                var weight = vec4<f32>(0.0);
                if (k < source.num_k && output < product.num_outputs) {
                    weight = unpack_quad(weights[source.weight_base + k * product.num_outputs + output]);
                }
                weight_tile[i] = weight;
            }
        }
        workgroupBarrier();
        // outputs past the last one multiply what the last one does, and are not finished
        //: for u in UNITS
        var place_$u = $uu * UNIT_THREADS + unit_lane;
        if (ROW_THREADS == 1u) {
            place_$u = source.weight_base + base * product.num_outputs + min(output_base + place_$u, product.num_outputs - 1u);
        }
        //: end
        var row_place = row_lane;
        let len = min(K_TILE, source.num_k - base);
        var k = 0u;
        for (; k + 4u <= len; k += 4u) {
            //: for j in 4
            //: for u in UNITS
            let weight_$j_$u = weight_at(place_$u + $ju * weight_stride);
            //: end
            //: for q in ROW_QUADS
            let rows_$j_$q = row_tile[row_place + $ju * ROW_STRIDE + $qu * ROW_THREADS];
            //: for i in 4
            //: for u in UNITS
            (*sums).at_$q_$i_$u = add_weighted((*sums).at_$q_$i_$u, weight_$j_$u, rows_$j_$q[$i]);
            //: end
            //: end
            //: end
            //: end
            //: for u in UNITS
            place_$u += 4u * weight_stride;
            //: end
            row_place += 4u * ROW_STRIDE;
        }
        for (; k < len; k++) {
            //: for u in UNITS
            let weight_$u = weight_at(place_$u);
            place_$u += weight_stride;
            //: end
            //: for q in ROW_QUADS
            let rows_$q = row_tile[row_place + $qu * ROW_THREADS];
            //: for i in 4
            //: for u in UNITS
            (*sums).at_$q_$i_$u = add_weighted((*sums).at_$q_$i_$u, weight_$u, rows_$q[$i]);
            //: end
            //: end
            //: end
            row_place += ROW_STRIDE;
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
    // one call of `finish` in the text, whatever the tile: it is long, and drivers compile every copy
    for (var part = 0u; part < ROW_QUADS * 2u; part++) {
        //: for q in ROW_QUADS
        //: for u in UNITS
        if (part == $qu * 2u) {
            keep($uu, lane, sums.at_$q_0_$u, sums.at_$q_1_$u);
        }
        if (part == $qu * 2u + 1u) {
            keep($uu, lane, sums.at_$q_2_$u, sums.at_$q_3_$u);
        }
        //: end
        //: end
        for (var j = 0u; j < FINISHED; j++) {
            let row = row_lane + (part / 2u) * ROW_THREADS * 4u + part % 2u * 2u + j / UNITS;
            let output = output_lane + j % UNITS * UNIT_THREADS;
            var sum = Pair4(weight_tile[j * WORKGROUP_SIZE + lane], vec4<f32>(0.0));
            if (PAIRS) {
                sum.low = low_tile[j * WORKGROUP_SIZE + lane];
            }
            if (output < product.num_outputs) {
                finish(product.z, row, output, sum);
            }
        }
    }
}

// Two rows' sums of the thread's `unit`, for the thread itself: no barrier.
fn keep(unit: u32, lane: u32, row_0: Pair4, row_1: Pair4) {
    weight_tile[unit * WORKGROUP_SIZE + lane] = row_0.high;
    weight_tile[(UNITS + unit) * WORKGROUP_SIZE + lane] = row_1.high;
    if (PAIRS) {
        low_tile[unit * WORKGROUP_SIZE + lane] = row_0.low;
        low_tile[(UNITS + unit) * WORKGROUP_SIZE + lane] = row_1.low;
    }
}
