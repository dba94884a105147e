//! Arguments that several commands have: which device, which model.

use std::fs;
use std::path::{Path, PathBuf};

use cellgate::{DeviceChoice, DeviceRequest, Engine, ErrorKind, GraphicsBackend, Network, Options, Precision, Reading, ScheduleName, Tuning};
use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::{Result, output};

/// `--device`, `--adapter`, `--backend`, `--allow-software`, `--least-limits`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub(super) struct DeviceArgs {
    /// What to run on
    #[arg(long, value_enum, default_value_t = ChoiceArg::Auto)]
    device: ChoiceArg,
    /// Part of the name or PCI address of the GPU adapter to use; must match exactly one
    #[arg(long, value_name = "SUBSTRING", value_parser = NonEmptyStringValueParser::new())]
    adapter: Option<String>,
    /// The only graphics API to use
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// Let a software adapter (llvmpipe, SwiftShader, WARP) stand in for a GPU without being named
    #[arg(long)]
    allow_software: bool,
    /// Open the GPU with the limits that every WebGPU device has, and no optional features: what runs so fits every browser
    #[arg(long)]
    least_limits: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChoiceArg {
    /// a hardware GPU beside the CPU where there is one, each LSTM and shape on the side expected to be faster; else the CPU
    Auto,
    /// a GPU, or an error
    Gpu,
    /// the CPU backend
    Cpu,
    /// the float64 reference: slow, and what everything else is judged by
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

impl DeviceArgs {
    fn request(&self) -> DeviceRequest {
        let choice = match self.device {
            ChoiceArg::Auto => DeviceChoice::Auto,
            ChoiceArg::Gpu => DeviceChoice::Gpu,
            ChoiceArg::Cpu => DeviceChoice::Cpu,
            ChoiceArg::Reference => DeviceChoice::Reference,
        };
        let backend = self.backend.map(|backend| match backend {
            BackendArg::Vulkan => GraphicsBackend::Vulkan,
            BackendArg::Metal => GraphicsBackend::Metal,
            BackendArg::Dx12 => GraphicsBackend::Dx12,
            BackendArg::Gl => GraphicsBackend::Gl,
        });
        let (allow_software, least_limits) = (self.allow_software, self.least_limits);
        DeviceRequest { choice, adapter: self.adapter.clone(), backend, allow_software, least_limits, ..DeviceRequest::default() }
    }

    /// Opens the device.
    pub(super) fn open(&self) -> Result<Engine> {
        Ok(Engine::new(self.request())?)
    }

    /// Opens what `bench` times side by side: what is named alone, else the GPU that there is, if there is one, and the CPU.
    pub(super) fn open_sides(&self) -> Result<Vec<Engine>> {
        let DeviceRequest { choice, adapter, backend, .. } = self.request();
        if choice != DeviceChoice::Auto || adapter.is_some() || backend.is_some() {
            return Ok(vec![self.open()?]);
        }
        let mut engines = vec![Engine::new(DeviceChoice::Cpu)?];
        match Engine::new(DeviceRequest { choice: DeviceChoice::Gpu, ..self.request() }) {
            Ok(gpu) => engines.push(gpu),
            Err(error) => output::say(&format!("note: no GPU is timed: {}", cellgate::one_line(&error.to_string()))),
        }
        Ok(engines)
    }

    /// Which of all devices are wanted: the graphics API, if one is named, and whether software adapters are allowed.
    pub(super) fn filters(&self) -> (Option<GraphicsBackend>, bool) {
        let DeviceRequest { backend, allow_software, .. } = self.request();
        (backend, allow_software)
    }

    /// Opens the device and says on stderr which one it is and why.
    pub(super) fn open_and_say(&self) -> Result<Engine> {
        let engine = self.open()?;
        output::say(&format!("device: {}", engine.describe()));
        Ok(engine)
    }
}

/// The model file, and how to read it.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Model file: safetensors with the key names of a PyTorch module, or ONNX
    #[arg(value_name = "MODEL")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    reading: ReadingArgs,
}

impl ModelArgs {
    /// Reads the model; its notes go to stderr.
    pub(super) fn open(&self) -> Result<Network> {
        self.reading.open(&self.path)
    }

    /// Reads the model; with its parts on the CPU `counted`, if that is wanted.
    pub(super) fn read(&self, counted: bool) -> Result<Network> {
        self.reading.read(&self.path, counted)
    }
}

/// What a safetensors file without metadata does not say.
#[derive(Debug, clap::Args)]
pub(super) struct ReadingArgs {
    /// Arguments of torch.nn.LSTM, for a safetensors file whose metadata has no key `lstm`
    #[arg(long, value_name = "JSON", help_heading = "Model", long_help = CONFIG_HELP)]
    config: Option<String>,
    /// The model's inputs have the batch axis first, for a safetensors file whose metadata does not say it
    #[arg(long, help_heading = "Model")]
    batch_first: bool,
    /// Of a safetensors file only the tensors whose names start so, such as `encoder.lstm.`: one of several LSTMs, or one without what is around it
    #[arg(long, value_name = "PREFIX", help_heading = "Model")]
    prefix: Option<String>,
    /// The stages of the network, for a safetensors file whose metadata has no key `network`
    #[arg(long, value_name = "JSON", help_heading = "Model", long_help = NETWORK_HELP)]
    network: Option<String>,
}

const NETWORK_HELP: &str = r#"The stages of the network, for a safetensors file whose metadata has no key `network`, as JSON; names are those of the modules:
'[{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc", "function": "log_softmax"}]'"#;

const CONFIG_HELP: &str = r#"Arguments of torch.nn.LSTM, for a safetensors file whose metadata has no key `lstm`, as JSON:
'{"input_size": 16, "hidden_size": 32, "num_layers": 2, "bidirectional": true}'"#;

impl ReadingArgs {
    /// Reads the model at `path`; its notes go to stderr.
    pub(super) fn open(&self, path: &Path) -> Result<Network> {
        let network = self.read(path, false)?;
        for note in network.notes() {
            output::say(&format!("note: {note}"));
        }
        Ok(network)
    }

    /// An error where anything of it is given `where_it_says_nothing`.
    pub(super) fn refuse(&self, where_it_says_nothing: &str) -> Result<()> {
        let given = [
            ("--config", self.config.is_some()),
            ("--batch-first", self.batch_first),
            ("--prefix", self.prefix.is_some()),
            ("--network", self.network.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(format!("{flag}: expected with MODEL, found {where_it_says_nothing}").into()),
            None => Ok(()),
        }
    }

    /// Reads the model at `path`; with its parts on the CPU `counted`, if that is wanted. The file is opened once: it may be a pipe.
    fn read(&self, path: &Path, counted: bool) -> Result<Network> {
        let (file, path) = (path, path.display());
        let config = self.config.as_deref().map(cellgate::formats::parse_config).transpose().map_err(|error| format!("--config: {error}"))?;
        let bytes = fs::read(file).map_err(|error| format!("{path}: cannot read: {error}"))?;
        // the folder of a bare name is the current one
        let folder = file.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let reading = Reading { folder, prefix: self.prefix.as_deref(), network: self.network.as_deref(), counted, ..Reading::default() };
        if let Some((config, batch_first)) = config {
            let reading = Reading { config: Some((&config, batch_first || self.batch_first)), ..reading };
            return Network::read(&bytes, reading).map_err(|error| {
                let flag = if error.kind() == ErrorKind::Config { "--config: " } else { "" };
                format!("{flag}{path}: {error}").into()
            });
        }
        let network = Network::read(&bytes, reading).map_err(|error| format!("{path}: {error}"))?;
        if !self.batch_first {
            return Ok(network);
        }
        if network.format() != "safetensors" {
            let found = network.format();
            return Err(format!("--batch-first: expected a safetensors file that does not say otherwise, found {found} ({path})").into());
        }
        Network::read(&bytes, Reading { batch_first: true, ..reading }).map_err(|error| format!("--batch-first: {path}: {error}").into())
    }
}

/// `--precision`, `--schedule`, `--tune`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Computation")]
pub(super) struct SessionArgs {
    /// How weights are stored on the device
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    #[command(flatten)]
    schedule: ScheduleArgs,
}

/// `--schedule`, `--tune`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Computation")]
pub(super) struct ScheduleArgs {
    /// The only schedule that a GPU may use; a model that it does not suit is refused
    #[arg(long, value_enum)]
    schedule: Option<ScheduleArg>,
    /// Measure, some seconds long, what is the fastest on a GPU, and keep a record of it. Only `explain` measures where there is a record
    #[arg(long)]
    tune: bool,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PrecisionArg {
    F32,
    /// about 1e-3 off
    F16,
    /// about 1e-2 off
    Int8,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleArg {
    /// layer by layer, one dispatch a time step
    PerStep,
    /// all layers together, each one time step behind the one below
    Wavefront,
    /// all time steps of a chunk in one dispatch
    Resident,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::F16 => Self::F16,
            PrecisionArg::Int8 => Self::Int8,
        }
    }
}

impl SessionArgs {
    pub(super) fn precision(&self) -> Precision {
        self.precision.into()
    }

    /// Whether to measure.
    pub(super) fn tune(&self) -> bool {
        self.schedule.tune
    }

    /// For a session on the device.
    pub(super) fn options(&self) -> Options {
        self.schedule.options(self.precision())
    }

    /// For the reference, which has the weights as they are stored on the device.
    pub(super) fn reference_options(&self) -> Options {
        Options { precision: self.precision(), ..Options::default() }
    }
}

impl ScheduleArgs {
    /// For a session on a GPU, or on a GPU and the CPU.
    pub(super) fn options(&self, precision: Precision) -> Options {
        let schedule = self.schedule.map(|schedule| match schedule {
            ScheduleArg::PerStep => ScheduleName::PerStep,
            ScheduleArg::Wavefront => ScheduleName::Wavefront,
            ScheduleArg::Resident => ScheduleName::Resident,
        });
        let tuning = if self.tune { Tuning::AtFirstUse } else { Tuning::Recorded };
        Options { precision, schedule, tuning, ..Options::default() }
    }
}
