// any_activations.wgsl: the activations of gates, candidate and output, whichever they are.
// Twin: src/reference/activation.rs
// These functions depend on activations.wgsl and cell.wgsl.

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
