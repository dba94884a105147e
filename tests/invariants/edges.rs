//! Numbers at the edge of float32 do what they do in the reference: NaN and infinity, the largest and the smallest, weights of nothing but zeros.

use cellgate::compare::{Tolerance, compare};
use cellgate::{DeviceChoice, Direction, Engine, GraphicsBackend, LstmConfig};
use libtest_mimic::Failed;

use crate::common::call::{Call, Rng, widen};
use crate::{Test, variants};

/// What float32 is held to.
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

const SEQ_LEN: usize = 6;
const BATCH: usize = 5;

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 4] = [
        ("inputs at the edge", inputs_at_the_edge),
        ("states at the edge", states_at_the_edge),
        ("the smallest numbers", the_smallest),
        ("weights of zeros", zeros),
    ];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

/// Values that a row is given somewhere; each has a row of its own. A driver's OpenGL may make a number of NaN in a clip: WGSL promises nothing of it.
fn edges(engine: &Engine, config: &LstmConfig) -> [f32; BATCH] {
    let clips = config.clip.or(config.cell_clip).or(config.proj_clip).is_some();
    let drops_nan = clips && engine.describe().device.backend == Some(GraphicsBackend::Gl);
    [f32::INFINITY, f32::NEG_INFINITY, if drops_nan { f32::MAX } else { f32::NAN }, 1e30, -1e30]
}

fn against_reference(engine: &Engine, what: &str, call: &Call) -> Result<(), Failed> {
    let actual = call.run(engine)?;
    let expected = call.run(&Engine::new(DeviceChoice::Reference)?)?;
    for ((name, actual), (_, expected)) in actual.tensors().into_iter().zip(expected.tensors()) {
        let comparison = compare(actual.view().into_dyn(), widen(expected).view(), F32);
        if !comparison.passed() {
            return Err(format!("{what}, {name}: {comparison}").into());
        }
    }
    Ok(())
}

/// The variants whose gates are bounded: what others make of such numbers is infinite, and in float32 sooner than in float64.
fn bounded(direction: Direction) -> impl Iterator<Item = (&'static str, LstmConfig)> {
    variants(direction).into_iter().filter(|(_, config)| !config.amplifies_rounding() && config.layer_norm.is_none())
}

fn inputs_at_the_edge(engine: &Engine) -> Result<(), Failed> {
    for (name, config) in bounded(Direction::Bidirectional) {
        let mut rng = Rng::new(90);
        let mut call = Call::random(config, SEQ_LEN, BATCH, &mut rng).with_states(&mut rng);
        for (row, value) in edges(engine, &call.config).into_iter().enumerate() {
            call.x[[2, row, 3]] = value;
        }
        against_reference(engine, name, &call)?;
    }
    Ok(())
}

fn states_at_the_edge(engine: &Engine) -> Result<(), Failed> {
    for (name, config) in bounded(Direction::Forward) {
        for hidden in [true, false] {
            let mut rng = Rng::new(91);
            let mut call = Call::random(config.clone(), SEQ_LEN, BATCH, &mut rng).with_states(&mut rng);
            let state = if hidden { &mut call.h_0 } else { &mut call.c_0 };
            for (row, value) in edges(engine, &config).into_iter().enumerate() {
                state.as_mut().expect("the call has states")[[0, row, 4]] = value;
            }
            against_reference(engine, &format!("{name}, {}", if hidden { "h_0" } else { "c_0" }), &call)?;
        }
    }
    Ok(())
}

/// Subnormal numbers may count as zeros, which no result shows.
fn the_smallest(engine: &Engine) -> Result<(), Failed> {
    for (name, config) in bounded(Direction::Forward) {
        let mut rng = Rng::new(92);
        let mut call = Call::random(config, SEQ_LEN, BATCH, &mut rng).with_states(&mut rng);
        for array in [Some(&mut call.x), call.h_0.as_mut(), call.c_0.as_mut()].into_iter().flatten() {
            array.mapv_inplace(|value| value * f32::MIN_POSITIVE);
        }
        for cell in &mut call.cells {
            cell.weight_hh.mapv_inplace(|weight| weight * f32::MIN_POSITIVE);
        }
        against_reference(engine, name, &call)?;
    }
    Ok(())
}

fn zeros(engine: &Engine) -> Result<(), Failed> {
    for (name, config) in bounded(Direction::Bidirectional) {
        let mut rng = Rng::new(93);
        let mut call = Call::random(config, SEQ_LEN, BATCH, &mut rng).with_states(&mut rng);
        for cell in &mut call.cells {
            cell.weight_ih.fill(0.0);
            cell.weight_hh.fill(0.0);
            [&mut cell.bias_ih, &mut cell.bias_hh].into_iter().flatten().for_each(|bias| bias.fill(0.0));
            cell.weight_hr.iter_mut().for_each(|weights| weights.fill(0.0));
        }
        against_reference(engine, name, &call)?;
    }
    Ok(())
}
