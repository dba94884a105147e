// sigmoid_tanh.wgsl: the two activation functions that nearly every LSTM has.
// Twin: src/reference/activation.rs
// These functions depend on no global declaration.
//
// Neither relies on an infinity: exp sees no positive argument.
// The builtin tanh is not used: several drivers return NaN for |x| > 88 or so (gpuweb/gpuweb#4458, tracel-ai/burn#520).

// 1 / (1 + exp(-x)), through exp(-|x|)
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// (1 - exp(-2x)) / (1 + exp(-2x)) for x >= 0, odd. Near 0 that difference keeps few digits, and the series has them:
// at the seam, |x| = 0.15, its first missing term is 6e-9 of the value.
fn tanh_by_exp(x: f32) -> f32 {
    let e = exp(-2.0 * abs(x));
    let magnitude = (1.0 - e) / (1.0 + e);
    let s = x * x;
    let series = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0))));
    return select(select(-magnitude, magnitude, x >= 0.0), series, abs(x) < 0.15);
}
