// activations.wgsl: the eleven activation functions of the ONNX recurrent operators.
// Twin: src/reference/activation.rs
// These functions depend on sigmoid_tanh.wgsl and on no global declaration.
//
// None of them relies on an infinity: exp sees no positive argument except in elu below zero, where it is bounded by 1.

const SIGMOID: u32 = 0u;
const TANH: u32 = 1u;
const RELU: u32 = 2u;
const AFFINE: u32 = 3u;
const LEAKY_RELU: u32 = 4u;
const THRESHOLDED_RELU: u32 = 5u;
const SCALED_TANH: u32 = 6u;
const HARD_SIGMOID: u32 = 7u;
const ELU: u32 = 8u;
const SOFTSIGN: u32 = 9u;
const SOFTPLUS: u32 = 10u;

// exp(x) - 1 for x <= 0, likewise; at the seam, x = -0.15, the first missing term is 2e-9 of the value.
fn expm1_below_0(x: f32) -> f32 {
    let series = x * (1.0 + x * (1.0 / 2.0 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0))))));
    return select(exp(min(x, 0.0)) - 1.0, series, abs(x) < 0.15);
}

// `kind` is an override at every call, so the driver keeps one branch.
fn activate(kind: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch kind {
        case SIGMOID: { return sigmoid(x); }
        case TANH: { return tanh_by_exp(x); }
        case RELU: { return select(x, 0.0, x <= 0.0); }
        case AFFINE: { return fma(alpha, x, beta); }
        case LEAKY_RELU: { return select(x, alpha * x, x < 0.0); }
        case THRESHOLDED_RELU: { return select(x, 0.0, x <= alpha); }
        case SCALED_TANH: { return alpha * tanh_by_exp(beta * x); }
        case HARD_SIGMOID: {
            // by comparisons, which NaN passes
            let line = fma(alpha, x, beta);
            return select(select(line, 0.0, line <= 0.0), 1.0, line >= 1.0);
        }
        case ELU: { return select(x, alpha * expm1_below_0(x), x < 0.0); }
        // the limit at infinity, where the quotient would be NaN
        case SOFTSIGN: { return select(x / (1.0 + abs(x)), sign(x), abs(x) > 1e30); }
        case SOFTPLUS: { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }
        default: { return x; }
    }
}
