//! Golden cases, judged by engines that this project did not write, on every device.

mod common;

use cellgate::compare::compare;
use cellgate::formats::npy;
use cellgate::{Engine, Network};
use common::{Case, GOLDEN, conclude, devices, golden_cases, gpus_by_form, gpus_by_schedule, inputs, least_gpu, options, suited_trial};
use libtest_mimic::Failed;

fn main() {
    let (mut devices, cases) = (devices(), golden_cases());
    devices.extend(gpus_by_schedule());
    devices.extend(least_gpu());
    devices.extend(gpus_by_form());
    let networks: Vec<Option<Network>> = cases.iter().map(|case| Network::open(&case.model).ok()).collect();
    let trials = devices.iter().flat_map(|device| {
        cases.iter().zip(&networks).map(|(case, network)| {
            let case = case.clone();
            suited_trial(device, &case.name.clone(), network.as_ref(), move |engine| run(engine, &case))
        })
    });
    conclude(trials.collect());
}

fn run(engine: &Engine, case: &Case) -> Result<(), Failed> {
    let network = Network::open(&case.model)?;
    let tensors = case.read_inputs()?;
    let outputs = engine.session(&network, options(engine, &network))?.run(&inputs(&tensors))?;
    if case.outputs.is_empty() {
        return Err("the case has no expected output".into());
    }
    for (name, path) in &case.outputs {
        let expected = npy::read(path)?;
        let expected = expected.as_f32().ok_or("the expected output is not float32")?.mapv(f64::from);
        let actual = outputs.get(name).and_then(|tensor| tensor.as_f32()).ok_or_else(|| format!("output `{name}`: missing"))?;
        let comparison = compare(actual.view(), expected.view(), GOLDEN);
        if !comparison.passed() {
            return Err(format!("output `{name}`: {comparison}").into());
        }
    }
    Ok(())
}
