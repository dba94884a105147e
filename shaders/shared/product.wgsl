// product.wgsl: what row_product.wgsl and tile_product.wgsl multiply.
//   sum = sum_k input's weight * row_value(z, row, k, true) + sum_k weight * row_value(z, row, k, false)
// These functions depend on two_float.wgsl and on `PAIRS`.

// One of the two matrices, which may be empty.
struct Source {
    from_input: bool,
    num_k: u32,
    weight_base: u32,                     // in quads
}

struct Product {
    z: u32,
    num_outputs: u32,                     // quads
    input: Source,
    recurrent: Source,
}

fn add_weighted(sum: Pair4, weight: vec4<f32>, value: f32) -> Pair4 {
    if (PAIRS) {
        return add_product4(sum, weight, vec4<f32>(value));
    }
    return Pair4(fma(weight, vec4<f32>(value), sum.high), vec4<f32>(0.0));
}
