//! Every candidate, in every precision: what a form computes does not depend on whether a cost model likes it.

mod common;

use cellgate::compare::{Tolerance, compare};
use cellgate::{DeviceChoice, Direction, Engine, LstmConfig, Options, Precision};
use common::call::{Call, Rng, widen};
use common::{by_model, conclude, gpus, trial};
use libtest_mimic::{Failed, Trial};

/// What the crate promises of float32 arithmetic on the weights as they are stored.
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    // one driver is enough: what differs between forms is the text
    for device in gpus().iter().take(1) {
        for precision in Precision::ALL {
            for (name, call) in calls() {
                trials.push(trial(device, &format!("{precision}/{name}"), move |engine| run(engine, &call, precision)));
            }
        }
    }
    conclude(trials);
}

/// Sizes that divide nothing, rows of every length, more rows than any tile has; and one row.
fn calls() -> Vec<(&'static str, Call)> {
    let rng = &mut Rng::new(11);
    let config = LstmConfig { num_layers: 2, ..LstmConfig::new(9, 37) };
    let mut rows = Call::random(config.clone(), 4, 67, rng).with_states(rng);
    rows.lens = Some((0..67).map(|row| row % 5).collect());
    let both_ways = LstmConfig { direction: Direction::Bidirectional, peepholes: true, ..LstmConfig::new(20, 34) };
    let projected = LstmConfig { proj_size: Some(13), ..config };
    vec![
        ("many rows", rows),
        ("one row, both directions", Call::random(both_ways, 5, 1, rng).with_states(rng)),
        ("a projection", Call::random(projected, 3, 6, rng).with_states(rng)),
    ]
}

fn run(engine: &Engine, call: &Call, precision: Precision) -> Result<(), Failed> {
    let network = call.network()?;
    let options = Options { precision, ..by_model() };
    let expected = call.run_in(&mut Engine::new(DeviceChoice::Reference)?.session(&network, options.clone())?)?;
    let candidates = engine.session(&network, options.clone())?.candidates(call.batch());
    // cooperative matrices round their inputs, and have a test and a bound of their own
    let exact = candidates.iter().filter(|(choice, _)| !format!("{choice:?}").contains("Matrix"));
    let mut worst = 0.0_f64;
    for (choice, _) in exact {
        let mut session = engine.session(&network, Options { choice: Some(*choice), ..options.clone() })?;
        let actual = call.run_in(&mut session)?;
        for ((name, actual), (_, expected)) in actual.tensors().into_iter().zip(expected.tensors()) {
            let comparison = compare(actual.view().into_dyn(), widen(expected).view(), F32);
            worst = worst.max(comparison.max_abs_err);
            if !comparison.passed() {
                return Err(format!("{}: {name}: {comparison}", choice.schedule).into());
            }
        }
    }
    eprintln!("{precision}: {} candidates, the largest error {worst:.1e}", candidates.len());
    Ok(())
}
