//! Whole networks, LSTMs and what is around them, judged by ONNX Runtime and by the projects that made them, on every device.
//!
//! `cases/` holds small generated networks, `models/` those of other projects. The environment variable `CELLGATE_NETWORKS` adds folders of cases.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod models;
mod on_device;
mod refused;
mod shapes;
mod speech;
mod structure;
mod verdict;

use cellgate::Engine;
use common::{Case, devices, trial};
use libtest_mimic::{Arguments, Failed, Trial};

use case::{NetworkCase, cases, run, session};
use verdict::{judge, same};

fn main() {
    let (devices, cases) = (devices(), cases());
    let mut trials: Vec<Trial> = structure::trials();
    for device in &devices {
        for case in &cases {
            let (case, name) = (case.clone(), device.name.clone());
            trials.push(trial(device, &format!("case/{}", case.name.clone()), move |engine| expected_outputs(engine, &name, &case)));
        }
        trials.extend(models::trials(device));
        trials.extend(on_device::trials(device));
        trials.extend(shapes::trials(device));
        trials.extend(refused::trials(device));
        trials.extend(speech::trials(device));
    }
    assert!(!trials.is_empty(), "there is nothing to test");
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    verdict::report();
    conclusion.exit();
}

/// The case's inputs give its outputs, and the same bits a second time.
fn expected_outputs(engine: &Engine, device: &str, case: &Case) -> Result<(), Failed> {
    let case = NetworkCase::read(case)?;
    let network = case.network()?;
    let mut session = session(engine, &network)?;
    let outputs = run(&mut session, &case.inputs)?;
    let kind = if case.is_loose() { "loose" } else { "case" };
    judge(device, &format!("{kind}/{}", case.name), &outputs, &case.outputs, case.tolerance())?;
    same("a second call", &run(&mut session, &case.inputs)?, &outputs)
}
