// matrix_product.wgsl: a tile of rows times a packed f16 matrix, by cooperative matrices of SIZE x SIZE: a subgroup multiplies and adds them as a whole.
//   sum[row, output] = sum_k weights[weight_base + k * num_outputs + output] * f16(row_value(z, row, k, from_input)), added up in f32
//   Rounding the rows to f16 is wrong by 2^-10 of a value at most (a driver may round towards 0), and by 2^-14 where it takes the smallest for 0;
//   weights are f16 already. So a sum is off by at most 2^-10 * sum_k |weight * value| + 2^-14 * sum_k |weight|, beside what f32 sums are.
//   Every subgroup has a chunk of ROW_TILES x COLUMN_TILES matrices. Where there are more subgroups than chunks, because they are smaller than they
//   could be, some do the same; where there were fewer, the sums would be NaN.
// Shared mem: 2 * GROUP_ROWS * ROW_STRIDE + 2 * K_TILE * COLUMN_STRIDE + 4 * GROUP_ROWS * RESULT_STRIDE bytes
// Barriers:   uniform, 2 a tile of K_TILE, and 1 more
//   naga's SPIR-V for cooperative matrices does not say that barriers order workgroup memory (gfx-rs/wgpu#8805). Drivers do order it; `gpu::trial`
//   sees where one does not. Only workgroupBarrier() may be used: the SPIR-V of others, and of atomics, is invalid in such a module.
// These functions depend on two_float.wgsl, weights_matrix.wgsl, and on the following declarations:
//    * `row_value(z, row, k, from_input) -> f32`, which gives 0 past the last row
//    * `finish(z, row, output, sum)`, called once for every row and output, rows past the last one included

override PAIRS: bool = false;             // never set: numbers in pairs are not rounded to f16

const K_TILE: u32 = SIZE * K_STEPS;
const GROUP_ROWS: u32 = ROW_CHUNKS * ROW_TILES * SIZE;
const GROUP_COLUMNS: u32 = COLUMN_CHUNKS * COLUMN_TILES * SIZE;         // four to an output
const GROUP_OUTPUTS: u32 = GROUP_COLUMNS / 4u;
const CHUNKS: u32 = ROW_CHUNKS * COLUMN_CHUNKS;
// loads want strides of 16 bytes; 16 more keep neighbouring rows in different banks
const ROW_STRIDE: u32 = K_TILE + 8u;
const COLUMN_STRIDE: u32 = GROUP_COLUMNS + 8u;
const RESULT_STRIDE: u32 = GROUP_COLUMNS + 4u;
const LARGEST_F16: f32 = 65504.0;

var<workgroup> row_tile: array<f16, GROUP_ROWS * ROW_STRIDE>;           // [GROUP_ROWS, K_TILE]
var<workgroup> weight_tile: array<f16, K_TILE * COLUMN_STRIDE>;         // [K_TILE, GROUP_COLUMNS]
var<workgroup> results: array<f32, GROUP_ROWS * RESULT_STRIDE>;         // [GROUP_ROWS, GROUP_COLUMNS]

// finite values stay finite
fn to_f16(value: f32) -> f16 {
    return f16(select(value, clamp(value, -LARGEST_F16, LARGEST_F16), abs(value) < LARGEST_SUM));
}

// A tile of the rows, with 0 where there is no k.
fn stage_rows(source: Source, z: u32, row_base: u32, base: u32, lane: u32) {
    for (var i = lane; i < GROUP_ROWS * K_TILE; i += WORKGROUP_SIZE) {
        // neighbouring threads read neighbouring k of the same row
        let k = base + i % K_TILE;
        var value = 0.0;
        if (k < source.num_k) {
            value = row_value(z, row_base + i / K_TILE, k, source.from_input);
        }
        row_tile[i / K_TILE * ROW_STRIDE + i % K_TILE] = to_f16(value);
    }
}

// A tile of the weights at the edge of the matrix, with 0 beyond it.
fn stage_weights(source: Source, columns: u32, column_base: u32, base: u32, lane: u32) {
    for (var i = lane; i < K_TILE * GROUP_COLUMNS; i += WORKGROUP_SIZE) {
        let k = base + i / GROUP_COLUMNS;
        let column = column_base + i % GROUP_COLUMNS;
        var weight = 0.0h;
        if (k < source.num_k && column < columns) {
            weight = weights[source.weight_base * 4u + k * columns + column];
        }
        weight_tile[i / GROUP_COLUMNS * COLUMN_STRIDE + i % GROUP_COLUMNS] = weight;
    }
}

fn run_product(product: Product, group: vec3<u32>, lane: u32, live: bool) {
    let row_base = group.y * GROUP_ROWS;
    let output_base = group.x * GROUP_OUTPUTS;
    let columns = product.num_outputs * 4u;
    let column_base = output_base * 4u;
    // threads of this subgroup; all of them are here, and follow each other
    let subgroup_len = subgroupAdd(1u);
    let chunk = subgroupBroadcastFirst(lane / subgroup_len) % CHUNKS;
    let chunk_row = chunk / COLUMN_CHUNKS * ROW_TILES * SIZE;
    let chunk_column = chunk % COLUMN_CHUNKS * COLUMN_TILES * SIZE;
    //: for r in ROW_TILES
    //: for c in COLUMN_TILES
    var sum_$r_$c = coop_mat$SIZEx$SIZE<f32, C>();
    //: end
    //: end
    for (var which = 0u; live && which < 2u; which++) {
        var source = product.input;
        if (which == 1u) {
            source = product.recurrent;
        }
        // loads need addresses and strides of 16 bytes
        let aligned = (source.weight_base | product.num_outputs) % 2u == 0u && column_base + GROUP_COLUMNS <= columns;
        var base = 0u;
        for (; aligned && base + K_TILE <= source.num_k; base += K_TILE) {
            stage_rows(source, product.z, row_base, base, lane);
            workgroupBarrier();
            let weight_base = source.weight_base * 4u + base * columns + column_base + chunk_column;
            //: for k in K_STEPS
            //: for c in COLUMN_TILES
            let weights_$k_$c = coopLoadT<coop_mat$SIZEx$SIZE<f16, B>>(&weights[weight_base + $ku * SIZE * columns + $cu * SIZE], columns);
            //: end
            //: for r in ROW_TILES
            let rows_$k_$r = coopLoadT<coop_mat$SIZEx$SIZE<f16, A>>(&row_tile[(chunk_row + $ru * SIZE) * ROW_STRIDE + $ku * SIZE], ROW_STRIDE);
            //: for c in COLUMN_TILES
            sum_$r_$c = coopMultiplyAdd(rows_$k_$r, weights_$k_$c, sum_$r_$c);
            //: end
            //: end
            //: end
            workgroupBarrier();
        }
        // the edges of the matrix go through workgroup memory
        for (; base < source.num_k; base += K_TILE) {
            stage_rows(source, product.z, row_base, base, lane);
            stage_weights(source, columns, column_base, base, lane);
            workgroupBarrier();
            //: for k in K_STEPS
            //: for c in COLUMN_TILES
            let weights_$k_$c = coopLoadT<coop_mat$SIZEx$SIZE<f16, B>>(&weight_tile[$ku * SIZE * COLUMN_STRIDE + chunk_column + $cu * SIZE], COLUMN_STRIDE);
            //: end
            //: for r in ROW_TILES
            let rows_$k_$r = coopLoadT<coop_mat$SIZEx$SIZE<f16, A>>(&row_tile[(chunk_row + $ru * SIZE) * ROW_STRIDE + $ku * SIZE], ROW_STRIDE);
            //: for c in COLUMN_TILES
            sum_$r_$c = coopMultiplyAdd(rows_$k_$r, weights_$k_$c, sum_$r_$c);
            //: end
            //: end
            //: end
            workgroupBarrier();
        }
    }
    //: for r in ROW_TILES
    //: for c in COLUMN_TILES
    coopStoreT(sum_$r_$c, &results[(chunk_row + $ru * SIZE) * RESULT_STRIDE + chunk_column + $cu * SIZE], RESULT_STRIDE);
    //: end
    //: end
    workgroupBarrier();
    for (var place = lane; place < GROUP_ROWS * GROUP_OUTPUTS; place += WORKGROUP_SIZE) {
        let row = place / GROUP_OUTPUTS;
        let output = place % GROUP_OUTPUTS;
        if (output_base + output < product.num_outputs) {
            let at = row * RESULT_STRIDE + output * 4u;
            var sum = vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
            if (WORKGROUP_SIZE / subgroup_len < CHUNKS) {
                sum = vec4<f32>(bitcast<f32>(0x7fc00000u + place));
            }
            finish(product.z, row_base + row, output_base + output, Pair4(sum, vec4<f32>(0.0)));
        }
    }
}
