//! Configurations of LSTM stacks: all that one can be, and what none can be.

use cellgate::{Activation, CellActivations, Direction, LstmConfig};

use super::draw::Draw;
use super::numbers::Moved;

/// A configuration of small sizes that there can be.
pub(super) fn config(draw: &mut Draw<'_>, input_size: usize) -> LstmConfig {
    let proj_size = draw.maybe(5, |draw| draw.pick(&[1, 2, 3, 7, 16, 20]));
    let bound = |draw: &mut Draw<'_>| draw.maybe(6, |draw| draw.pick(&[0.05, 0.5, 1.0, 3.0]));
    let first = activations(draw);
    LstmConfig {
        input_size,
        hidden_size: draw.pick(&[4, 1, 2, 3, 5, 8, 16, 17, 33]),
        num_layers: draw.pick(&[1, 1, 1, 2, 2, 3]),
        direction: draw.pick(&[Direction::Forward, Direction::Forward, Direction::Forward, Direction::Reverse, Direction::Bidirectional]),
        proj_size,
        bias: !draw.one_in(5),
        peepholes: draw.one_in(5),
        layer_norm: draw.maybe(6, |draw| draw.pick(&[1e-5, 1e-3, 1.0])),
        input_forget: draw.one_in(6),
        activations: [first, if draw.one_in(2) { activations(draw) } else { first }],
        clip: bound(draw),
        cell_clip: bound(draw),
        proj_clip: bound(draw).filter(|_| proj_size.is_some()),
    }
}

fn activations(draw: &mut Draw<'_>) -> CellActivations {
    let random = |draw: &mut Draw<'_>| CellActivations { gate: activation(draw), candidate: activation(draw), output: activation(draw) };
    draw.maybe(4, random).unwrap_or_default()
}

pub(super) fn activation(draw: &mut Draw<'_>) -> Activation {
    let alpha = draw.pick(&[0.5, 0.1, 0.3, 0.9]);
    draw.pick(&[
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Relu,
        Activation::Affine { alpha, beta: 0.25 },
        Activation::LeakyRelu { alpha },
        Activation::ThresholdedRelu { alpha },
        Activation::ScaledTanh { alpha, beta: 1.25 },
        Activation::HardSigmoid { alpha, beta: 0.5 },
        Activation::Elu { alpha },
        Activation::Softsign,
        Activation::Softplus,
    ])
}

/// What `config` becomes where somebody makes a mistake in one field; most of these are none that there can be.
pub(super) fn mistaken(mut config: LstmConfig, draw: &mut Draw<'_>) -> LstmConfig {
    let size = draw.pick(&[0, 1, 1 << 19, (1 << 19) + 1, usize::MAX / 4, usize::MAX]);
    let number = draw.pick(&[0.0, -0.0, -1.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let dir = draw.below(2);
    match draw.below(13) {
        0 => config.input_size = size,
        1 => config.hidden_size = size,
        2 => config.num_layers = size,
        3 => config.proj_size = Some(size),
        4 => config.clip = Some(number),
        5 => config.cell_clip = Some(number),
        6 => config.proj_clip = Some(number),
        7 => config.layer_norm = Some(number),
        8 => config.activations[dir].gate = Activation::Affine { alpha: number, beta: 0.0 },
        9 => config.activations[dir].candidate = Activation::HardSigmoid { alpha: 0.2, beta: number },
        10 => config.activations[dir].output = Activation::Elu { alpha: number },
        11 => (config.bias, config.peepholes) = (!config.bias, !config.peepholes),
        _ => config.direction = Direction::Bidirectional,
    }
    config
}

/// The configuration with its thresholds a little off.
pub(super) fn shifted(mut config: LstmConfig, moved: Moved) -> LstmConfig {
    for activations in &mut config.activations {
        for activation in [&mut activations.gate, &mut activations.candidate, &mut activations.output] {
            if let Activation::ThresholdedRelu { alpha } = activation {
                *alpha += moved.shift();
            }
        }
    }
    config
}
