//! What the examples share: `--device`, `--adapter`, `--allow-software`, and what is said of what ran.

use cellgate::{DeviceChoice, DeviceRequest, Engine, Session};
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

/// As the commands of `cellgate` have them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArgs {
    /// What to run on
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    device: ChoiceArg,
    /// Part of the name or PCI address of the GPU adapter to use; must match exactly one
    #[arg(long, value_name = "SUBSTRING", value_parser = NonEmptyStringValueParser::new())]
    adapter: Option<String>,
    /// Let a software adapter (llvmpipe, SwiftShader, WARP) stand in for a GPU without being named
    #[arg(long)]
    allow_software: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChoiceArg {
    /// a hardware GPU beside the CPU where there is one, else the CPU
    Auto,
    /// a GPU, or an error
    Gpu,
    /// the CPU backend
    Cpu,
    /// the float64 reference, slow
    Reference,
}

impl DeviceArgs {
    /// Opens the device and says on stderr which one it is and why.
    pub(crate) fn open_and_say(&self) -> cellgate::Result<Engine> {
        let choice = match self.device {
            ChoiceArg::Auto => DeviceChoice::Auto,
            ChoiceArg::Gpu => DeviceChoice::Gpu,
            ChoiceArg::Cpu => DeviceChoice::Cpu,
            ChoiceArg::Reference => DeviceChoice::Reference,
        };
        let request = DeviceRequest { choice, adapter: self.adapter.clone(), allow_software: self.allow_software, ..DeviceRequest::default() };
        let engine = Engine::new(request)?;
        eprintln!("device: {}", engine.describe());
        Ok(engine)
    }
}

/// Says on stderr what ran on which side, and why.
pub(crate) fn say_schedules(session: &Session) {
    let device = &session.engine().describe().device;
    for used in session.schedules() {
        let side = if used.device == device.kind { &device.name } else { "the CPU" };
        let steps = used.seq_len.map_or_else(String::new, |steps| format!(", {steps} steps"));
        eprintln!("schedule of `{}`, {} rows{steps}: {}, on {side} ({})", used.node, used.rows, used.schedule, used.why);
    }
    session.notes().iter().for_each(|note| eprintln!("note: {note}"));
}
