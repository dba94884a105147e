// pair_cell.wgsl: the element-wise half of a cell in pairs of f32, for stacks that amplify rounding.
// Twin: src/reference/cell.rs
// These functions depend on two_float.wgsl, any_activations.wgsl and cell.wgsl, and on no other global declaration.

struct NextPairCell {
    c_next: vec2<f32>,
    o_raw: vec2<f32>,                     // pre-activation of the output gate, peephole included
}

fn bounded_pair(value: vec2<f32>, bound: f32) -> vec2<f32> {
    if (bound > 0.0 && abs(value.x) >= bound) {
        return vec2<f32>(clamp(value.x, -bound, bound), 0.0);
    }
    return value;
}

// Where a function is linear, a pair goes through whole; elsewhere the result is as good as f32's.
fn activate_pair(kind: u32, alpha: f32, beta: f32, x: vec2<f32>) -> vec2<f32> {
    let scaled = multiply_pairs(vec2<f32>(alpha, 0.0), x);
    switch kind {
        case RELU: { return select(x, vec2<f32>(0.0), x.x <= 0.0); }
        case AFFINE: { return add_pairs(scaled, vec2<f32>(beta, 0.0)); }
        case LEAKY_RELU: { return select(x, scaled, x.x < 0.0); }
        case THRESHOLDED_RELU: { return select(x, vec2<f32>(0.0), x.x < alpha || (x.x == alpha && x.y <= 0.0)); }
        case HARD_SIGMOID: {
            let value = add_pairs(scaled, vec2<f32>(beta, 0.0));
            return select(value, vec2<f32>(clamp(value.x, 0.0, 1.0), 0.0), value.x <= 0.0 || value.x >= 1.0);
        }
        case ELU: { return select(x, vec2<f32>(activate(ELU, alpha, beta, x.x), 0.0), x.x < 0.0); }
        default: { return vec2<f32>(activate(kind, alpha, beta, x.x), 0.0); }
    }
}

fn gate_pair(dir: u32, raw: vec2<f32>) -> vec2<f32> {
    if (PER_DIRECTION && dir == 1u) {
        return activate_pair(GATE_1, GATE_ALPHA_1, GATE_BETA_1, bounded_pair(raw, CLIP));
    }
    return activate_pair(GATE_0, GATE_ALPHA_0, GATE_BETA_0, bounded_pair(raw, CLIP));
}

fn candidate_pair(dir: u32, raw: vec2<f32>) -> vec2<f32> {
    if (PER_DIRECTION && dir == 1u) {
        return activate_pair(CANDIDATE_1, CANDIDATE_ALPHA_1, CANDIDATE_BETA_1, bounded_pair(raw, CLIP));
    }
    return activate_pair(CANDIDATE_0, CANDIDATE_ALPHA_0, CANDIDATE_BETA_0, bounded_pair(raw, CLIP));
}

fn output_pair(dir: u32, c: vec2<f32>) -> vec2<f32> {
    if (PER_DIRECTION && dir == 1u) {
        return activate_pair(OUTPUT_1, OUTPUT_ALPHA_1, OUTPUT_BETA_1, c);
    }
    return activate_pair(OUTPUT_0, OUTPUT_ALPHA_0, OUTPUT_BETA_0, c);
}

fn with_peephole(raw: vec2<f32>, peephole: f32, c: vec2<f32>) -> vec2<f32> {
    if (PEEPHOLES) {
        return add_pairs(raw, multiply_pairs(vec2<f32>(peephole, 0.0), c));
    }
    return raw;
}

// `raw` is (i, f, g, o); `peephole` is (i, f, o, 0).
fn next_pair_cell(dir: u32, raw: Pair4, c_prev: f32, peephole: vec4<f32>) -> NextPairCell {
    let c = vec2<f32>(c_prev, 0.0);
    let i = gate_pair(dir, with_peephole(vec2<f32>(raw.high.x, raw.low.x), peephole.x, c));
    var f = add_pairs(vec2<f32>(1.0, 0.0), -i);
    if (!COUPLED) {
        f = gate_pair(dir, with_peephole(vec2<f32>(raw.high.y, raw.low.y), peephole.y, c));
    }
    let g = candidate_pair(dir, vec2<f32>(raw.high.z, raw.low.z));
    let c_next = bounded_pair(add_pairs(multiply_pairs(f, c), multiply_pairs(i, g)), CELL_CLIP);
    return NextPairCell(c_next, with_peephole(vec2<f32>(raw.high.w, raw.low.w), peephole.z, c_next));
}

fn pair_cell_output(dir: u32, o_raw: vec2<f32>, c: vec2<f32>) -> f32 {
    return multiply_pairs(gate_pair(dir, o_raw), output_pair(dir, c)).x;
}

// (c_next, h_next)
fn step_cell(dir: u32, gates: Pair4, product: Pair4, c_prev: f32, peephole: vec4<f32>) -> vec2<f32> {
    let next = next_pair_cell(dir, add4(gates, product), c_prev, peephole);
    return vec2<f32>(next.c_next.x, pair_cell_output(dir, next.o_raw, next.c_next));
}
