// usual_activations.wgsl: sigmoid for the gates, tanh for candidate and output. Drivers compile a cell's text many times over, and this one is short.
// Twin: src/reference/activation.rs
// These functions depend on sigmoid_tanh.wgsl and cell.wgsl.

fn gate_activation(dir: u32, raw: f32) -> f32 {
    return sigmoid(bounded(raw, CLIP));
}

fn candidate_activation(dir: u32, raw: f32) -> f32 {
    return tanh_by_exp(bounded(raw, CLIP));
}

fn output_activation(dir: u32, c: f32) -> f32 {
    return tanh_by_exp(c);
}
