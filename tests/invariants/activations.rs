//! The activation functions as the device computes them, swept over their whole range through an LSTM of one unit.
//!
//! `Affine` with a slope of 0 makes a gate or a candidate that is always 1, and with a slope of 1 one that hands its input on, so that
//! an output of the cell is the value of one function: as a gate and as the candidate in `c_n`, as the output function in `h_n`.

use cellgate::{Activation, CellActivations, Engine, LstmConfig};
use libtest_mimic::Failed;
use ndarray::Array3;

use crate::Test;
use crate::common::call::{Call, Rng};

const ONE: Activation = Activation::Affine { alpha: 0.0, beta: 1.0 };
const SAME: Activation = Activation::Affine { alpha: 1.0, beta: 0.0 };

/// WGSL lets a division be wrong by 2.5 units in the last place, so that neighbours may change places by that much.
const SLACK: f32 = 2.5 * f32::EPSILON;

const FUNCTIONS: [Activation; 11] = [
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu,
    Activation::Affine { alpha: 0.75, beta: -0.25 },
    Activation::LeakyRelu { alpha: 0.01 },
    Activation::ThresholdedRelu { alpha: 0.525 },
    Activation::ScaledTanh { alpha: 1.5, beta: 0.5 },
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::Elu { alpha: 0.5 },
    Activation::Softsign,
    Activation::Softplus,
];

/// Where in the cell a function stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Gate,
    Candidate,
    Output,
}

const PLACES: [Place; 3] = [Place::Gate, Place::Candidate, Place::Output];

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 3] = [
        ("sigmoid is within 0 and 1 and monotone", sigmoid),
        ("tanh is within -1 and 1 and monotone", tanh),
        ("every activation follows its definition", definitions),
    ];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

/// From -100 to 100, and far beyond, in rising order.
fn points() -> Vec<f32> {
    let mut points: Vec<f32> = (-4000..=4000).map(|step| step as f32 / 40.0).collect();
    for far in [1e-30, 1e-10, 1e-5, 1e-3, 500.0, 1e4, 1e10, 1e30] {
        points.extend([far, -far]);
    }
    points.sort_by(f32::total_cmp);
    points
}

/// `function` at every point, computed by the device in this place of the cell; a row is a point.
fn sweep(engine: &Engine, function: Activation, place: Place, points: &[f32]) -> Result<Vec<f32>, Failed> {
    let activations = match place {
        // c = f(x) * 0 + f(x) * 1
        Place::Gate => CellActivations { gate: function, candidate: ONE, output: SAME },
        // c = 1 * 0 + 1 * f(x)
        Place::Candidate => CellActivations { gate: ONE, candidate: function, output: SAME },
        // c = 1 * 0 + 1 * x;  h = 1 * f(c)
        Place::Output => CellActivations { gate: ONE, candidate: SAME, output: function },
    };
    let config = LstmConfig { bias: false, activations: [activations; 2], ..LstmConfig::new(1, 1) };
    let mut call = Call::random(config, 1, points.len(), &mut Rng::new(0));
    call.cells[0].weight_ih.fill(1.0);
    call.x = Array3::from_shape_vec((1, points.len(), 1), points.to_vec())?;
    let results = call.run(engine)?;
    Ok(if matches!(place, Place::Output) { results.h_n } else { results.c_n }.into_raw_vec_and_offset().0)
}

/// The definition of [`Activation`], in float64, by formulas that hold at every finite point.
fn definition(activation: Activation, x: f64) -> f64 {
    let (alpha, beta) = activation.parameters();
    let (alpha, beta) = (f64::from(alpha), f64::from(beta));
    match activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::Affine { .. } => alpha * x + beta,
        Activation::LeakyRelu { .. } => x.max(0.0) + alpha * x.min(0.0),
        Activation::ThresholdedRelu { .. } => {
            if x > alpha {
                x
            } else {
                0.0
            }
        }
        Activation::ScaledTanh { .. } => alpha * (beta * x).tanh(),
        Activation::HardSigmoid { .. } => (alpha * x + beta).clamp(0.0, 1.0),
        Activation::Elu { .. } => {
            if x >= 0.0 {
                x
            } else {
                alpha * x.exp_m1()
            }
        }
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}

fn bounded(engine: &Engine, function: Activation, lowest: f32, ends: (f32, f32)) -> Result<(), Failed> {
    let points = points();
    for place in PLACES {
        let values = sweep(engine, function, place, &points)?;
        for (x, value) in points.iter().zip(&values) {
            if !(lowest..=1.0).contains(value) {
                return Err(format!("{place:?}: {function} of {x:e} is {value:e}").into());
            }
        }
        for (xs, pair) in points.windows(2).zip(values.windows(2)) {
            if pair[1] < pair[0] - SLACK {
                return Err(format!("{place:?}: {function} falls from {:e} to {:e} between {:e} and {:e}", pair[0], pair[1], xs[0], xs[1]).into());
            }
        }
        if (values[0], values[values.len() - 1]) != ends {
            return Err(format!("{place:?}: {function} of -1e30 and 1e30 is {:e} and {:e}", values[0], values[values.len() - 1]).into());
        }
    }
    Ok(())
}

fn sigmoid(engine: &Engine) -> Result<(), Failed> {
    bounded(engine, Activation::Sigmoid, 0.0, (0.0, 1.0))
}

fn tanh(engine: &Engine) -> Result<(), Failed> {
    bounded(engine, Activation::Tanh, -1.0, (-1.0, 1.0))
}

fn definitions(engine: &Engine) -> Result<(), Failed> {
    let points = points();
    let mut worst = (0.0_f64, String::new());
    for function in FUNCTIONS {
        for place in PLACES {
            for (&x, value) in points.iter().zip(sweep(engine, function, place, &points)?) {
                let expected = definition(function, f64::from(x));
                let error = (f64::from(value) - expected).abs() / (1.0 + expected.abs());
                if error > 1e-6 || error.is_nan() {
                    return Err(format!("{place:?}: {function} of {x:e} is {value:e}, expected {expected:e}").into());
                }
                if error > worst.0 {
                    worst = (error, format!("{function} of {x:e}"));
                }
            }
        }
    }
    eprintln!("{}: the worst activation is off by {:.2e} * (1 + |value|) ({})", engine.describe().device, worst.0, worst.1);
    Ok(())
}
