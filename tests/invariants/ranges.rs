//! Values stay where the equations keep them.

use cellgate::{Direction, Engine, LstmConfig};
use libtest_mimic::Failed;

use crate::common::call::{Call, Rng, random_cells};
use crate::{Test, for_each_variant};

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 3] =
        [("h and c stay in their ranges", within_ranges), ("saturated inputs give no NaN", saturated), ("an open cell counts its steps", counting)];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

/// `|h| <= 1`, because sigmoid and tanh are, and `|c| <= |c_0| + T`, because every step adds at most 1. Weights are large, so that both
/// come near.
fn within_ranges(engine: &Engine) -> Result<(), Failed> {
    let seq_len = 50;
    for num_layers in [1, 2] {
        for gain in [1.0, 10.0, 100.0] {
            let config = LstmConfig { num_layers, direction: Direction::Bidirectional, ..LstmConfig::new(5, 33) };
            let mut rng = Rng::new(3);
            let mut call = Call::random(config.clone(), seq_len, 6, &mut rng).with_states(&mut rng);
            call.cells = random_cells(&config, gain, &mut rng);
            let results = call.run(engine)?;
            for (name, tensor) in [("y", &results.y), ("h_n", &results.h_n)] {
                // a NaN is not within anything
                if let Some(value) = tensor.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
                    return Err(format!("gain {gain}: {name} holds {value:e}").into());
                }
            }
            for (c_n, c_0) in results.c_n.iter().zip(call.c_0.iter().flatten()) {
                if c_n.is_nan() || c_n.abs() > c_0.abs() + seq_len as f32 {
                    return Err(format!("gain {gain}: c went from {c_0:e} to {c_n:e} in {seq_len} steps").into());
                }
            }
        }
    }
    Ok(())
}

/// Inputs so large that every `exp` overflows or vanishes.
fn saturated(engine: &Engine) -> Result<(), Failed> {
    for magnitude in [1e4_f32, 1e30] {
        for_each_variant(Direction::Bidirectional, 9, 6, |mut call, rng| {
            call.x.mapv_inplace(|value| magnitude.copysign(value));
            call.lens = Some((0..6).map(|_| rng.below(10) as i64).collect());
            for (name, tensor) in call.run(engine)?.tensors() {
                if let Some((place, value)) = tensor.indexed_iter().find(|(_, value)| !value.is_finite()) {
                    return Err(format!("inputs of {magnitude:e}: {name} holds {value} at {place:?}").into());
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// All gates open and the candidate at its end: c grows by exactly 1 a step, and h is tanh(1) exactly once.
fn counting(engine: &Engine) -> Result<(), Failed> {
    let mut call = Call::random(LstmConfig { bias: false, ..LstmConfig::new(1, 3) }, 70, 2, &mut Rng::new(5));
    call.cells[0].weight_ih.fill(1.0);
    call.cells[0].weight_hh.fill(0.0);
    call.x.fill(1e4);
    let results = call.run(engine)?;
    if let Some(c) = results.c_n.iter().find(|c| **c != 70.0) {
        return Err(format!("c is {c:e} after 70 steps").into());
    }
    let first = results.y[[0, 0, 0]];
    if (f64::from(first) - 1.0_f64.tanh()).abs() > 1e-6 || results.y[[69, 1, 2]] != 1.0 {
        return Err(format!("h is {first:e} after the first step and {:e} after the last", results.y[[69, 1, 2]]).into());
    }
    Ok(())
}
