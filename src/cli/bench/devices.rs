//! The devices to time, and their sessions.

use cellgate::measure::Peak;
use cellgate::{DeviceKind, Engine, Network, Options, Precision, Session};

use super::Args;
use crate::cli::Result;
use crate::cli::output::{self, Spinner};

/// A device to time.
pub(super) struct Device {
    pub(super) engine: Engine,
    /// what it does at most, where that could be measured
    pub(super) peak: Option<Peak>,
    /// why it is of no use any more
    pub(super) lost: Option<String>,
}

/// The devices that `args` name, the CPU first: the others are compared with it.
pub(super) fn open(args: &Args) -> Result<Vec<Device>> {
    let mut engines = if args.devices.is_some() { every(args) } else { args.device.open_sides()? };
    engines.sort_by_key(|engine| engine.describe().device.kind != DeviceKind::Cpu);
    let mut devices = Vec::new();
    for engine in engines {
        let spinner = Spinner::new(format!("measuring what {} does at most", engine.describe().device));
        let peak = if engine.describe().device.kind == DeviceKind::Reference { None } else { Some(engine.peak()) };
        drop(spinner);
        let (peak, text) = match peak {
            Some(Ok(peak)) => {
                let [gflops, gb] = [peak.flops_per_second, peak.bytes_per_second].map(|rate| rate / 1e9);
                (Some(peak), format!(": {gflops:.0} GFLOP/s in float32 and {gb:.0} GB/s at most, as measured"))
            }
            Some(Err(error)) => (None, format!("; what it does at most is not known: {}", cellgate::one_line(&error.to_string()))),
            None => (None, "; it is what devices are compared with, and says nothing of itself".to_owned()),
        };
        output::say(&format!("device: {}{text}", engine.describe()));
        devices.push(Device { engine, peak, lost: None });
    }
    Ok(devices)
}

/// Every device that opens.
fn every(args: &Args) -> Vec<Engine> {
    let (backend, allow_software) = args.device.filters();
    let mut engines = Vec::new();
    for (_, engine) in Engine::all(backend, allow_software) {
        match engine {
            Ok(engine) => engines.push(engine),
            Err(error) => output::say(&format!("note: left out: {}", cellgate::one_line(&error.to_string()))),
        }
    }
    if engines.iter().all(|engine| engine.describe().device.kind != DeviceKind::Gpu) {
        let through = backend.map_or_else(String::new, |backend| format!(" through {backend}"));
        output::say(&format!("note: no GPU{through} is timed"));
    }
    engines
}

/// The sessions of one network, made when they are first needed.
pub(super) struct Sessions<'a> {
    args: &'a Args,
    network: Network,
    made: Vec<Made>,
}

struct Made {
    /// number of the device
    device: usize,
    precision: Precision,
    /// whether its calls are timed by the device's own clock, which costs them time
    profile: bool,
    session: cellgate::Result<Session>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(args: &'a Args, network: &Network) -> Self {
        Self { args, network: network.clone(), made: Vec::new() }
    }

    /// The session on device `number`, whose engine this is, or why there is none.
    pub(super) fn get(&mut self, number: usize, engine: &Engine, precision: Precision, profile: bool) -> &mut cellgate::Result<Session> {
        let is_it = |made: &Made| (made.device, made.precision, made.profile) == (number, precision, profile);
        let place = self.made.iter().position(is_it).unwrap_or_else(|| {
            let mut options = Options { profile, ..self.args.schedule.options(precision) };
            if engine.describe().device.kind != DeviceKind::Gpu {
                // a schedule is a GPU's
                options.schedule = None;
            }
            let session = engine.session(&self.network, options);
            self.made.push(Made { device: number, precision, profile, session });
            self.made.len() - 1
        });
        &mut self.made[place].session
    }
}
