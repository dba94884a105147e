//! The public API: an [`Engine`] is an open device, a [`Session`] a network on it, a [`Stream`] many sequences that come and go.

mod candidates;
mod chain;
mod choices;
mod dense;
mod execute;
mod explain;
mod inputs;
mod node;
mod options;
mod records;
mod runner;
mod session;
mod state;
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
pub use explain::{Alternative, Explanation, KernelCount, LstmExplanation, MemoryUse, RefusedSchedule};
pub use options::{Options, Tuning};
pub use session::Session;
pub use state::{HostState, State};
pub use stream::{Slot, Stream};
pub use tune::{CandidateReport, LstmTuning, Measurement, TuneReport};

use crate::device::{DeviceChoice, DeviceInfo, DeviceKind, DeviceRequest, DeviceUsage, Selection};
use crate::engine::candidates::Candidates;
use crate::engine::runner::Runner;
use crate::error::{Error, Result};
use crate::gpu::{self, GpuDevice, NoFit};
use crate::network::Network;

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
    backend: Backend,
}

/// What an engine runs on.
#[derive(Clone)]
pub(crate) enum Backend {
    Gpu(Arc<GpuDevice>),
    Cpu,
    Reference,
}

impl Engine {
    /// Opens the device that fits `request` best. [`Engine::describe`] says which one that is, and why.
    ///
    /// [`DeviceChoice::Auto`] without any wish for a GPU takes the next GPU where one does not open, and in the end the CPU.
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
        match request.choice {
            DeviceChoice::Cpu | DeviceChoice::Reference if names_a_gpu => {
                Err(Error::config("an adapter, a graphics API or software adapters: expected with a GPU only, found with another device"))
            }
            DeviceChoice::Cpu => Ok(Self::host(DeviceKind::Cpu, "asked for".to_owned())),
            DeviceChoice::Reference => Ok(Self::host(DeviceKind::Reference, "asked for".to_owned())),
            DeviceChoice::Gpu => Self::gpu(&request).await?.map_err(NoFit::into_error),
            DeviceChoice::Auto => match Self::gpu(&request).await? {
                Err(NoFit { why, .. }) if !names_a_gpu => Ok(Self::host(DeviceKind::Cpu, why)),
                engine => engine.map_err(NoFit::into_error),
            },
        }
    }

    fn host(kind: DeviceKind, reason: String) -> Self {
        let backend = if kind == DeviceKind::Reference { Backend::Reference } else { Backend::Cpu };
        Self { selection: Arc::new(Selection { device: DeviceInfo::cpu(kind), reason }), backend }
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
            match GpuDevice::open(&adapters[chosen], request.checked_shaders.unwrap_or(cfg!(debug_assertions))).await {
                Ok(device) => {
                    let selection = Selection { device: device.info().clone(), reason };
                    return Ok(Ok(Self { selection: Arc::new(selection), backend: Backend::Gpu(Arc::new(device)) }));
                }
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

    /// Which device this is, and why it was chosen.
    pub fn describe(&self) -> &Selection {
        &self.selection
    }

    /// What this engine's sessions have made on its GPU so far; `None` for the CPU and the reference. Clones of an engine count together.
    ///
    /// Once calls of the same shapes have run, no call makes anything any more.
    pub fn usage(&self) -> Option<DeviceUsage> {
        if let Backend::Gpu(device) = &self.backend { Some(device.usage()) } else { None }
    }

    /// Prepares `network` on this device: packs and uploads its weights.
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
        network.lstms().filter_map(|(_, lstm)| lstm).try_for_each(|lstm| Runner::check(self, lstm, options))
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

/// Whether the request says something about the GPU that it wants.
fn names_a_gpu(request: &DeviceRequest) -> bool {
    request.adapter.is_some() || request.backend.is_some() || request.allow_software
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.selection).finish()
    }
}
