//! What holds whatever the numbers are: the same bits from run to run, rows that do not see each other, states that carry on, values
//! within their ranges. On the CPU and on every adapter.

mod activations;
mod chains;
#[path = "../common/mod.rs"]
mod common;
mod edges;
mod ranges;
mod rows;
mod shaders;
mod time;

use cellgate::{DeviceChoice, Direction, Engine, LstmConfig};
use common::call::{Call, Rng};
use common::{TestDevice, conclude, gpus, gpus_by_schedule, least_gpu, trial};
use libtest_mimic::{Failed, Trial};

type Test = fn(&Engine) -> Result<(), Failed>;

fn main() {
    let mut devices = vec![TestDevice::host("cpu", DeviceChoice::Cpu)];
    devices.extend(gpus());
    devices.extend(gpus_by_schedule());
    devices.extend(least_gpu());
    let tests: Vec<(String, Test)> =
        [rows::tests(), time::tests(), ranges::tests(), activations::tests(), edges::tests(), chains::tests(), shaders::tests()].concat();
    let mut trials: Vec<Trial> = Vec::new();
    for device in &devices {
        trials.extend(tests.iter().map(|(name, test)| trial(device, name, *test)));
    }
    conclude(trials);
}

/// Variants that take different ways through the kernels, by name. Odd sizes, so that tiles have remainders.
fn variants(direction: Direction) -> Vec<(&'static str, LstmConfig)> {
    let plain = LstmConfig { direction, ..LstmConfig::new(7, 33) };
    vec![
        ("plain", plain.clone()),
        ("two layers", LstmConfig { num_layers: 2, ..plain.clone() }),
        ("peepholes and clips", LstmConfig { peepholes: true, clip: Some(0.9), cell_clip: Some(0.7), ..plain.clone() }),
        ("projection", LstmConfig { proj_size: Some(9), num_layers: 2, ..plain.clone() }),
        ("layer norm", LstmConfig { layer_norm: Some(1e-5), ..plain.clone() }),
        ("layer norm and projection", LstmConfig { layer_norm: Some(1e-5), proj_size: Some(9), ..plain }),
    ]
}

/// Runs `test` on a call of every variant, and says which one failed.
fn for_each_variant(
    direction: Direction,
    seq_len: usize,
    batch: usize,
    mut test: impl FnMut(Call, &mut Rng) -> Result<(), Failed>,
) -> Result<(), Failed> {
    for (number, (name, config)) in variants(direction).into_iter().enumerate() {
        let mut rng = Rng::new(number as u64);
        let call = Call::random(config, seq_len, batch, &mut rng).with_states(&mut rng);
        test(call, &mut rng).map_err(|error| format!("{name}: {}", error.message().unwrap_or_default()))?;
    }
    Ok(())
}
