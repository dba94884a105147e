//! The public API: whatever is done with whatever network ends in a result or an error, and in the same one on a device and on the reference.

mod call;
mod config;
mod draw;
mod file;
mod judge;
mod network;
mod numbers;
mod plan;
mod play;
mod state;
mod stream;
mod transcript;

use std::sync::OnceLock;
use std::time::Duration;

use cellgate::{DeviceChoice, DeviceRequest, Engine};

use crate::CALL;
use crate::allocator::{Phase, guarded};
use plan::Plan;
use play::{How, play};
use transcript::{Entry, Outcome, finding};

/// A software adapter on a busy machine compiles a kernel for longer than a GPU may hang.
const PATIENCE: Duration = Duration::from_secs(600);

/// The engine under test and the reference.
struct Engines {
    device: Engine,
    reference: Engine,
    is_gpu: bool,
}

/// The CPU, or the adapter that `CELLGATE_FUZZ_ADAPTER` names, or, where that is `auto`, any adapter beside the CPU.
fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let adapter = std::env::var("CELLGATE_FUZZ_ADAPTER").ok().filter(|name| !name.is_empty());
        let is_gpu = adapter.is_some();
        let gpu = |choice, adapter| DeviceRequest { choice, adapter, allow_software: true, timeout: Some(PATIENCE), ..DeviceRequest::default() };
        let request = match adapter {
            None => DeviceChoice::Cpu.into(),
            Some(auto) if auto == "auto" => gpu(DeviceChoice::Auto, None),
            adapter => gpu(DeviceChoice::Gpu, adapter),
        };
        let device = Engine::new(request).expect("the device opens");
        eprintln!("{}", device.describe());
        Engines { device, reference: Engine::new(DeviceChoice::Reference).expect("it is always there"), is_gpu }
    })
}

/// Plays the plan that `bytes` are on the device and on the reference, and ends the process where the two differ or one takes more than it may.
pub fn check(bytes: &[u8]) {
    let Engines { device, reference, is_gpu } = engines();
    let plan = Plan::draw(bytes);
    if std::env::var_os("SHOW_PLAN").is_some() {
        eprintln!("{plan:#?}");
    }
    let how = How { for_gpu: *is_gpu, ..How::default() };
    let actual = guarded(Phase::Read, CALL, || play(&plan, device, how));
    let expected = guarded(Phase::Read, CALL, || play(&plan, reference, how));
    if std::env::var_os("SHOW_ERRORS").is_some() {
        errors(&actual);
    }
    let moved = |moved| play(&plan, reference, How { moved, float32: true, ..how });
    if let Some(difference) = judge::difference(&actual, &expected, &moved) {
        finding(&format!("{plan:#?}\n{difference}"));
    }
}

fn errors(entries: &[Entry]) {
    for entry in entries {
        if let Outcome::Refused(kind, text) = &entry.outcome {
            eprintln!("error: {}: {kind:?}: {text}", entry.what);
        }
    }
}
