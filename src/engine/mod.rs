//! The public API: an [`Engine`] is an open device, a [`Session`] a network on it, a [`Stream`] many sequences that come and go.

mod believe;
mod candidates;
mod chain;
mod choices;
mod dense;
mod execute;
mod explain;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod inputs;
mod node;
mod options;
mod records;
mod recover;
mod room;
mod runner;
mod session;
mod shortage;
mod sides;
mod state;
mod step;
mod stream;
#[cfg(test)]
mod tests;
mod tune;

use std::fmt;
use std::sync::Arc;

pub use chain::{Chain, ChainInput, ChainStage, Started};
pub use choices::{ChoiceReason, ScheduleUse};
pub use dense::DenseExplanation;
pub use execute::PartRun;
pub use explain::{Alternative, Explanation, KernelCount, LstmExplanation, MemoryUse, RefusedSchedule, SideExplanation, SidesExplanation};
pub use options::{Options, Tuning};
pub use session::Session;
pub use sides::{Crossover, SidesMeasurement};
pub use state::{HostState, State};
pub use stream::{Slot, Stream};
pub use tune::{CandidateReport, LstmTuning, Measurement, TuneReport};

use crate::cpu;
use crate::device::{DeviceChoice, DeviceInfo, DeviceKind, DeviceRequest, DeviceUsage, GraphicsBackend, Selection};
use crate::engine::candidates::Candidates;
use crate::engine::dense::DenseRunner;
use crate::engine::recover::Place;
use crate::engine::runner::Runner;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{self, GpuDevice, NoFit, Opening, Wait};
use crate::measure::Peak;
use crate::network::Network;
use crate::reference;

/// An open device. Cheap to clone; clones share the device.
///
/// ```
/// use cellgate::{DeviceChoice, Engine};
///
/// let engine = Engine::new(DeviceChoice::Auto)?;
/// println!("running on {}", engine.describe());
/// # Ok::<(), cellgate::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    selection: Arc<Selection>,
    /// shared by clones
    place: Arc<Place>,
    /// whether a GPU would have been a side of it, had one been found
    lacks_a_gpu: bool,
}

/// What an engine runs on.
#[derive(Clone)]
pub(crate) enum Backend {
    Gpu(Arc<GpuDevice>),
    Cpu,
    Reference,
    /// a GPU and the CPU, whichever is expected to be the faster for a call
    Either(Arc<GpuDevice>),
}

impl Backend {
    /// The GPU, where there is one.
    pub(crate) fn gpu(&self) -> Option<&Arc<GpuDevice>> {
        match self {
            Self::Gpu(device) | Self::Either(device) => Some(device),
            Self::Cpu | Self::Reference => None,
        }
    }

    /// Whether calls have a choice of sides.
    pub(crate) fn holds_both(&self) -> bool {
        matches!(self, Self::Either(_))
    }
}

impl Engine {
    /// Opens the device that fits `request` best. [`Engine::describe`] says which one that is, and why.
    ///
    /// [`DeviceChoice::Auto`] that names no adapter and no graphics API takes the next GPU where one does not open, and in the end the CPU alone.
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`](crate::ErrorKind::NoAdapter) where a GPU is asked for and none fits, or several do; the message says what there is and what to install.
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the request contradicts itself; the device's own errors where a GPU that is asked for
    /// does not open.
    pub fn new(request: impl Into<DeviceRequest>) -> Result<Self> {
        pollster::block_on(Self::new_async(request))
    }

    /// As [`Engine::new`], for callers that cannot block for long: the drivers are loaded, and their adapters listed, within a poll.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub async fn new_async(request: impl Into<DeviceRequest>) -> Result<Self> {
        let request = request.into();
        let names_a_gpu = names_a_gpu(&request);
        if request.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::config("timeout: expected more than 0 s, found 0 s"));
        }
        match request.choice {
            DeviceChoice::Cpu | DeviceChoice::Reference if names_a_gpu || request.allow_software || request.least_limits => Err(Error::config(
                "an adapter, a graphics API, software adapters or least limits: expected with a GPU only, found with another device",
            )),
            DeviceChoice::Cpu => Ok(Self::host(DeviceKind::Cpu, "asked for".to_owned())),
            DeviceChoice::Reference => Ok(Self::host(DeviceKind::Reference, "asked for".to_owned())),
            DeviceChoice::Gpu => Self::gpu(&request).await?.map_err(NoFit::into_error),
            DeviceChoice::Auto if names_a_gpu => Self::gpu(&request).await?.map_err(NoFit::into_error),
            DeviceChoice::Auto => Ok(match Self::gpu(&request).await? {
                Ok(engine) => engine.beside_the_cpu(),
                Err(NoFit { why, .. }) => Self { lacks_a_gpu: true, ..Self::host(DeviceKind::Cpu, why) },
            }),
        }
    }

    fn host(kind: DeviceKind, reason: String) -> Self {
        let backend = if kind == DeviceKind::Reference { Backend::Reference } else { Backend::Cpu };
        Self { selection: Arc::new(Selection { device: DeviceInfo::cpu(kind), reason }), place: Place::new(backend), lacks_a_gpu: false }
    }

    fn of_gpu(device: GpuDevice, reason: String) -> Self {
        let selection = Selection { device: device.info().clone(), reason };
        Self { selection: Arc::new(selection), place: Place::new(Backend::Gpu(Arc::new(device))), lacks_a_gpu: false }
    }

    /// The same GPU, with the CPU as the other side.
    fn beside_the_cpu(self) -> Self {
        let Backend::Gpu(device) = self.backend() else { return self };
        let Selection { device: info, reason } = &*self.selection;
        let reason = format!("{reason}; an LSTM runs on the CPU where that is expected to be faster");
        Self { selection: Arc::new(Selection { device: info.clone(), reason }), place: Place::new(Backend::Either(device)), ..self }
    }

    /// The GPU that fits the request; within, why none does. An adapter that fits and does not open is an error where a GPU is asked for.
    async fn gpu(request: &DeviceRequest) -> Result<std::result::Result<Self, NoFit>> {
        let adapters = gpu::adapters(request.backend).await;
        let mut candidates = Candidates::new(adapters.iter().map(|adapter| adapter.info.clone()).collect());
        loop {
            let (chosen, reason) = match candidates.best(request) {
                Ok(choice) => choice,
                Err(no_fit) => return Ok(Err(no_fit)),
            };
            let reason = if request.least_limits { format!("{reason}; opened with the limits that every WebGPU device has") } else { reason };
            match GpuDevice::open(&adapters[chosen], Opening::new(request)).await {
                Ok(device) => return Ok(Ok(Self::of_gpu(device, reason))),
                Err(error) if request.choice == DeviceChoice::Auto && !names_a_gpu(request) => candidates.strike(chosen, &error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Every device of this machine: the GPU adapters, software ones included, and the CPU.
    pub fn devices() -> Vec<DeviceInfo> {
        let adapters = pollster::block_on(gpu::adapters(None));
        adapters.into_iter().map(|adapter| adapter.info).chain([DeviceInfo::cpu(DeviceKind::Cpu)]).collect()
    }

    /// Opens every device of this machine on its own: every adapter, each once, through the best API that reaches it, or through `backend` alone, and the
    /// CPU last. One that does not open has an error; software adapters have one unless they are allowed.
    pub fn all(backend: Option<GraphicsBackend>, allow_software: bool) -> Vec<(DeviceInfo, Result<Self>)> {
        pollster::block_on(async {
            let mut all = Vec::new();
            for adapter in gpu::adapters(backend).await {
                let info = adapter.info.clone();
                let refused = |why: &str| Err(Error::new(ErrorKind::NoAdapter, format!("adapter {info}: {why}")));
                let engine = match &info.unusable {
                    Some(why) => refused(why),
                    None if info.is_software() && !allow_software => refused("a software adapter, used only where it is named or allowed"),
                    None => GpuDevice::open(&adapter, Opening::new(&DeviceRequest::default()))
                        .await
                        .map(|device| Self::of_gpu(device, "every device".to_owned())),
                };
                all.push((info, engine));
            }
            let cpu = Self::host(DeviceKind::Cpu, "every device".to_owned());
            all.push((cpu.selection.device.clone(), Ok(cpu)));
            all
        })
    }

    /// Which device this is, and why it was chosen: the CPU where the GPU beside it was found gone by [`Engine::recover`].
    pub fn describe(&self) -> &Selection {
        self.place.fallen().unwrap_or(&self.selection)
    }

    /// What this engine's sessions have made on its GPU so far; `None` for the CPU and the reference. Clones of an engine count together. A device that
    /// [`Engine::recover`] has opened counts from zero.
    ///
    /// Once calls of the same shapes have run, no call makes anything any more.
    pub fn usage(&self) -> Option<DeviceUsage> {
        self.backend().gpu().map(|device| device.usage())
    }

    /// Prepares `network` on this device: packs and uploads its weights. Where the engine holds a GPU and the CPU ([`DeviceChoice::Auto`]), each gets
    /// an LSTM's weights when a call first runs there.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the weights exceed a limit of the device,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) where its memory is full,
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the options cannot be met.
    pub fn session(&self, network: &Network, options: Options) -> Result<Session> {
        pollster::block_on(self.session_async(network, options))
    }

    /// As [`Engine::session`], for callers that cannot block for long: the weights are packed, and uploads queued, within a poll.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub async fn session_async(&self, network: &Network, options: Options) -> Result<Session> {
        Session::new(self.clone(), network.clone(), options).await
    }

    /// Whether sessions of `network` can have `options` on this device; weights that come with each call are not known yet.
    ///
    /// # Errors
    /// What [`Engine::session`] would say of the options, and of the limits that follow from them.
    pub fn check(&self, network: &Network, options: &Options) -> Result<()> {
        let within = |name: &str, error: Error| if network.nodes.len() + network.dense.len() > 1 { error.within(name) } else { error };
        for (name, lstm) in network.lstms() {
            lstm.map_or(Ok(()), |lstm| Runner::check(self, lstm, options)).map_err(|error| within(name, error))?;
        }
        network.dense.iter().try_for_each(|node| DenseRunner::check(self, &node.stage, options).map_err(|error| within(&node.name, error)))
    }

    /// Measures, for some tenths of a second, what this device does at most: arithmetic, and copies in memory. An engine that holds a GPU and the CPU
    /// measures the GPU. What LSTMs reach of it, `cellgate bench` says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the reference, whose speed is nothing to compare with; the device's own errors.
    pub fn peak(&self) -> Result<Peak> {
        match &self.backend() {
            Backend::Gpu(device) | Backend::Either(device) => pollster::block_on(device.peak(reference::roofline, Wait::Block)),
            Backend::Cpu => Ok(cpu::peak()),
            Backend::Reference => Err(Error::config("peak: expected a GPU or the CPU backend, found the float64 reference")),
        }
    }

    /// What it runs on now.
    pub(crate) fn backend(&self) -> Backend {
        self.place.backend()
    }

    /// Why it has no GPU, where it was to have one if there is one.
    pub(crate) fn why_no_gpu(&self) -> Option<&str> {
        (self.lacks_a_gpu || self.place.fallen().is_some()).then(|| &self.describe().reason[..])
    }
}

/// Whether the request says which GPU it wants.
fn names_a_gpu(request: &DeviceRequest) -> bool {
    request.adapter.is_some() || request.backend.is_some()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(self.describe()).finish()
    }
}
