//! `cellgate devices`: what there is, and what would be used.

use std::collections::BTreeMap;

use cellgate::{DeviceChoice, DeviceInfo, DeviceKind, Engine, GraphicsBackend, Hardware};
use serde::Serialize;

use super::output::{self, DeviceFields, Spinner};
use super::{Result, Verdict};

/// List every GPU adapter and the CPU, and what cellgate would use
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    devices: Vec<DeviceReport>,
    /// what `--device auto` would use
    auto: Choice,
    /// what `--device gpu` would use
    gpu: Choice,
}

/// A [`DeviceInfo`] with its limits by name.
#[derive(Serialize)]
struct DeviceReport {
    kind: DeviceKind,
    name: String,
    hardware: Hardware,
    backend: Option<GraphicsBackend>,
    driver: String,
    pci: String,
    pci_id: String,
    limits: BTreeMap<String, u64>,
    features: Vec<String>,
    unusable: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice {
    Device(DeviceFields),
    None { error: String },
}

impl DeviceReport {
    fn of(info: &DeviceInfo) -> Self {
        let DeviceInfo { kind, name, hardware, backend, driver, pci, pci_id, limits, features, unusable } = info.clone();
        Self { kind, name, hardware, backend, driver, pci, pci_id, limits: limits.into_iter().collect(), features, unusable }
    }
}

impl Choice {
    fn of(engine: &cellgate::Result<Engine>) -> Self {
        match engine {
            Ok(engine) => Self::Device(DeviceFields::of(engine.describe())),
            Err(error) => Self::None { error: cellgate::one_line(&error.to_string()) },
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let spinner = Spinner::new("asking the drivers");
    let mut devices = Engine::devices();
    let (auto, gpu) = (Engine::new(DeviceChoice::Auto), Engine::new(DeviceChoice::Gpu));
    // a device that was opened knows more about its features
    for opened in [&auto, &gpu].into_iter().flatten().map(|engine| &engine.describe().device) {
        let is_it = |device: &&mut DeviceInfo| (&device.name, &device.pci, device.backend) == (&opened.name, &opened.pci, opened.backend);
        devices.iter_mut().filter(is_it).for_each(|device| device.features.clone_from(&opened.features));
    }
    drop(spinner);
    if args.json {
        let devices = devices.iter().map(DeviceReport::of).collect();
        output::print_json(&Report { devices, auto: Choice::of(&auto), gpu: Choice::of(&gpu) })?;
        return Ok(Verdict::Good);
    }
    for device in &devices {
        output::print(&describe(device))?;
    }
    for (choice, engine) in [("auto", auto), ("gpu", gpu)] {
        output::print(&match engine {
            Ok(engine) => format!("--device {choice} uses {}", engine.describe()),
            Err(error) => format!("--device {choice} cannot be used: {}", cellgate::one_line(&error.to_string())),
        })?;
    }
    Ok(Verdict::Good)
}

/// A paragraph about one device.
fn describe(device: &DeviceInfo) -> String {
    let hardware = match device.hardware {
        _ if device.is_software() => "software adapter, runs on the CPU",
        Hardware::Discrete => "GPU with memory of its own",
        Hardware::Integrated => "GPU that shares the CPU's memory",
        Hardware::Virtual => "GPU of a virtual machine",
        Hardware::Cpu => "CPU",
        Hardware::Unknown => "hardware of a kind that the driver does not say",
    };
    let mut rows = vec![["hardware".to_owned(), hardware.to_owned()], ["driver".to_owned(), device.driver.clone()]];
    if !device.pci.is_empty() {
        rows.push(["pci".to_owned(), device.pci.clone()]);
    }
    if !device.pci_id.is_empty() {
        rows.push(["pci id".to_owned(), device.pci_id.clone()]);
    }
    if device.kind == DeviceKind::Gpu {
        let features = if device.features.is_empty() { "none of those that cellgate could use".to_owned() } else { device.features.join(", ") };
        rows.push(["features".to_owned(), features]);
    }
    let usable = device.unusable.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
    rows.push(["usable".to_owned(), usable]);
    let limits: Vec<[String; 2]> = device.limits.iter().map(|(name, value)| [name.clone(), value.to_string()]).collect();
    let mut text = format!("{device}\n{}\n", output::table(&rows, "  "));
    if !limits.is_empty() {
        text += &format!("  limits\n{}\n", output::table(&limits, "    "));
    }
    text
}
