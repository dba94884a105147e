// held_weights.wgsl: the recurrent weights of resident.wgsl in registers for all time steps: K_SLICE * UNITS quads a thread, every index a constant.
// These functions depend on a weights_*.wgsl and on the following declarations of resident.wgsl: `params`, `Sums`, `h_tile` and its constants
// HELD_K is K_SLICE.

struct Held {
    //: for k in HELD_K
    //: for u in UNITS
    at_$k_$u: Quad,
    //: end
    //: end
}

fn hold_weights(base: u32, unit_lane: u32, k_lane: u32) -> Held {
    var held = Held();
    let hidden_size = params.hidden_size;
    // past the last unit a thread holds what it will not use; past the last input, zeros. Without branches: there would be one a quad
    //: for u in UNITS
    let unit_$u = min($uu * UNIT_THREADS + unit_lane, hidden_size - 1u);
    //: for k in HELD_K
    let k_$k_$u = k_lane * K_SLICE + $ku;
    held.at_$k_$u = select(Quad(), weights[base + min(k_$k_$u, hidden_size - 1u) * hidden_size + unit_$u], k_$k_$u < hidden_size);
    //: end
    //: end
    return held;
}

// sums + the rows of h times this thread's slice of the matrix
fn add_product(sums: ptr<function, Sums>, held: ptr<function, Held>, unit_lane: u32, k_lane: u32) {
    let first = k_lane * K_SLICE;
    //: for k in HELD_K
    //: for u in UNITS
    let weight_$k_$u = unpack_quad((*held).at_$k_$u);
    //: end
    //: for r in ROWS
    let h_$k_$r = h_tile[$ru * INPUTS + first + $ku];
    //: for u in UNITS
    (*sums).at_$r_$u = fma(weight_$k_$u, vec4<f32>(h_$k_$r), (*sums).at_$r_$u);
    //: end
    //: end
    //: end
}
