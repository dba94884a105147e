// cell.wgsl: the element-wise half of a cell.
// Twin: src/reference/cell.rs
// These functions depend on `gate_activation`, `candidate_activation` and `output_activation` (usual_activations.wgsl or any_activations.wgsl).

override COUPLED: bool = false;           // input_forget: f = 1 - i
override PEEPHOLES: bool = false;
override CLIP: f32 = 0.0;                 // 0: no bound
override CELL_CLIP: f32 = 0.0;            // 0: no bound

struct NextCell {
    c_next: f32,
    o_raw: f32,                           // pre-activation of the output gate, peephole included
}

// Within [-bound, bound]. By comparisons, which NaN passes: what clamp makes of NaN is up to the driver.
fn bounded(value: f32, bound: f32) -> f32 {
    if (bound > 0.0 && value > bound) {
        return bound;
    }
    if (bound > 0.0 && value < -bound) {
        return -bound;
    }
    return value;
}

// `raw` is (i, f, g, o); `peephole` is (i, f, o, 0).
fn next_cell(dir: u32, raw: vec4<f32>, c_prev: f32, peephole: vec4<f32>) -> NextCell {
    var peep = vec4<f32>(0.0);
    if (PEEPHOLES) {
        peep = peephole;
    }
    let i = gate_activation(dir, fma(peep.x, c_prev, raw.x));
    var f = 1.0 - i;
    if (!COUPLED) {
        f = gate_activation(dir, fma(peep.y, c_prev, raw.y));
    }
    let g = candidate_activation(dir, raw.z);
    let c_next = bounded(fma(f, c_prev, i * g), CELL_CLIP);
    return NextCell(c_next, fma(peep.z, c_next, raw.w));
}

// `c` is the new cell state, or its normalised form.
fn cell_output(dir: u32, o_raw: f32, c: f32) -> f32 {
    return gate_activation(dir, o_raw) * output_activation(dir, c);
}
