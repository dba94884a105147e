// cell.wgsl: the element-wise half of a cell.
// Twin: src/reference/cell.rs
// These functions depend on `activate` (activations.wgsl) and on no other global declaration.

override PER_DIRECTION: bool = false;     // direction 1 has activations of its own

override GATE_0: u32 = 0u;                // sigmoid
override GATE_ALPHA_0: f32 = 0.0;
override GATE_BETA_0: f32 = 0.0;
override CANDIDATE_0: u32 = 1u;           // tanh
override CANDIDATE_ALPHA_0: f32 = 0.0;
override CANDIDATE_BETA_0: f32 = 0.0;
override OUTPUT_0: u32 = 1u;              // tanh
override OUTPUT_ALPHA_0: f32 = 0.0;
override OUTPUT_BETA_0: f32 = 0.0;
override GATE_1: u32 = 0u;
override GATE_ALPHA_1: f32 = 0.0;
override GATE_BETA_1: f32 = 0.0;
override CANDIDATE_1: u32 = 1u;
override CANDIDATE_ALPHA_1: f32 = 0.0;
override CANDIDATE_BETA_1: f32 = 0.0;
override OUTPUT_1: u32 = 1u;
override OUTPUT_ALPHA_1: f32 = 0.0;
override OUTPUT_BETA_1: f32 = 0.0;

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

fn gate_activation(dir: u32, raw: f32) -> f32 {
    if (PER_DIRECTION && dir == 1u) {
        return activate(GATE_1, GATE_ALPHA_1, GATE_BETA_1, bounded(raw, CLIP));
    }
    return activate(GATE_0, GATE_ALPHA_0, GATE_BETA_0, bounded(raw, CLIP));
}

fn candidate_activation(dir: u32, raw: f32) -> f32 {
    if (PER_DIRECTION && dir == 1u) {
        return activate(CANDIDATE_1, CANDIDATE_ALPHA_1, CANDIDATE_BETA_1, bounded(raw, CLIP));
    }
    return activate(CANDIDATE_0, CANDIDATE_ALPHA_0, CANDIDATE_BETA_0, bounded(raw, CLIP));
}

fn output_activation(dir: u32, c: f32) -> f32 {
    if (PER_DIRECTION && dir == 1u) {
        return activate(OUTPUT_1, OUTPUT_ALPHA_1, OUTPUT_BETA_1, c);
    }
    return activate(OUTPUT_0, OUTPUT_ALPHA_0, OUTPUT_BETA_0, c);
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
