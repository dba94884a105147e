// streamed_weights.wgsl: the recurrent weights of resident.wgsl, read anew in every time step, from whichever cache holds them.
// These functions depend on a weights_*.wgsl and on the following declarations of resident.wgsl: `params`, `Sums`, `h_tile` and its constants

struct Held {
    base: u32,                            // of weight_hh, in quads
}

fn hold_weights(base: u32, unit_lane: u32, k_lane: u32) -> Held {
    return Held(base);
}

// sums + the rows of h times this thread's slice of the matrix
fn add_product(sums: ptr<function, Sums>, held: ptr<function, Held>, unit_lane: u32, k_lane: u32) {
    let hidden_size = params.hidden_size;
    let first = k_lane * K_SLICE;
    let end = min(first + K_SLICE, hidden_size);
    //: for u in UNITS
    let unit_$u = min($uu * UNIT_THREADS + unit_lane, hidden_size - 1u);
    //: end
    var k = first;
    for (; k + 4u <= end; k += 4u) {
        //: for u in UNITS
        //: for j in 4
        let weight_$u_$j = unpack_quad(weights[(*held).base + (k + $ju) * hidden_size + unit_$u]);
        //: end
        //: end
        //: for r in ROWS
        //: for j in 4
        let h_$r_$j = h_tile[$ru * INPUTS + k + $ju];
        //: for u in UNITS
        (*sums).at_$r_$u = fma(weight_$u_$j, vec4<f32>(h_$r_$j), (*sums).at_$r_$u);
        //: end
        //: end
        //: end
    }
    for (; k < end; k++) {
        //: for u in UNITS
        let weight_$u = unpack_quad(weights[(*held).base + k * hidden_size + unit_$u]);
        //: for r in ROWS
        (*sums).at_$r_$u = fma(weight_$u, vec4<f32>(h_tile[$ru * INPUTS + k]), (*sums).at_$r_$u);
        //: end
        //: end
    }
}
