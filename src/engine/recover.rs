//! Going on after a device failed: another one is opened in its place, sessions move there at their next call, and streams say whom that cost.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::device::{DeviceInfo, DeviceKind, Selection};
use crate::engine::dense::DenseRunner;
use crate::engine::node::NodeRunner;
use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Backend, Engine, Options, Session, Slot, State, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{self, GpuDense, GpuDevice};

/// What an engine and its clones run on now.
pub(super) struct Place {
    backend: RwLock<Backend>,
    /// held by who opens another device, so that others wait for that one
    opening: Mutex<()>,
    /// the CPU in the place of a GPU that is gone
    fallen: OnceLock<Selection>,
}

impl Place {
    pub(super) fn new(backend: Backend) -> Arc<Self> {
        Arc::new(Self { backend: RwLock::new(backend), opening: Mutex::new(()), fallen: OnceLock::new() })
    }

    pub(super) fn backend(&self) -> Backend {
        // a panic cannot leave it half-written
        self.backend.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The CPU and why it is left alone, where the GPU is gone.
    pub(super) fn fallen(&self) -> Option<&Selection> {
        self.fallen.get()
    }
}

impl Place {
    /// What is left where the adapter `gone` is.
    fn fall(&self, backend: &Backend, gone: &DeviceInfo) -> Result<Backend> {
        let why = format!("adapter {gone}: expected it where it was, found it gone");
        if !backend.holds_both() {
            return Err(Error::new(ErrorKind::NoAdapter, why));
        }
        // there is no way back, so it is set once
        let _ = self.fallen.set(Selection { device: DeviceInfo::cpu(DeviceKind::Cpu), reason: format!("the GPU was lost; {why}") });
        Ok(Backend::Cpu)
    }
}

impl Backend {
    /// Whether both are the same open device, or none of a GPU.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self.gpu(), other.gpu()) {
            (Some(device), Some(other)) => Arc::ptr_eq(device, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// The same with another GPU.
    fn with(&self, device: GpuDevice) -> Self {
        match self {
            Self::Gpu(_) => Self::Gpu(Arc::new(device)),
            Self::Either(_) => Self::Either(Arc::new(device)),
            host => host.clone(),
        }
    }
}

impl Engine {
    /// Opens the adapter anew where its device is lost, for this engine and all of its clones; whether it did. Where the device is well, or somebody else
    /// has recovered it already, this does nothing. It blocks for as long as a driver takes to open.
    ///
    /// Sessions move to the new device at their next call and upload their weights there. What was on the old one is gone: a [`State`] is to be written
    /// anew by [`Session::write_state`], and a [`Stream`] says after [`Stream::recover`] which sequences it lost. Nothing is tried again by itself.
    ///
    /// Where the adapter is not there any more, an engine that holds the CPU beside it ([`DeviceChoice::Auto`](crate::DeviceChoice::Auto)) has the CPU
    /// alone from then on, which [`Engine::describe`], [`Session::schedules`] and [`Session::explain`] say; results then have the CPU's bits. Another GPU
    /// is another engine's.
    ///
    /// ```
    /// # use cellgate::{DeviceChoice, Engine, ErrorKind, Network, Options};
    /// # let network = Network::open("assets/char-lm.safetensors")?;
    /// let engine = Engine::new(DeviceChoice::Auto)?;
    /// let mut stream = engine.session(&network, Options::default())?.into_stream(8)?;
    /// let slot = stream.join()?;
    /// let chunk = ndarray::Array2::<f32>::zeros((1, 96));
    /// match stream.step(&[(slot, chunk.view())]) {
    ///     Err(error) if matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Timeout) => {
    ///         engine.recover()?;
    ///         for lost in stream.recover()? {
    ///             stream.leave(lost)?;
    ///             // or `join_with` what the caller has kept of it
    ///             let _slot = stream.join()?;
    ///         }
    ///     }
    ///     result => drop(result?),
    /// }
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`] where the adapter is gone, and no CPU beside it, or does not open; the device's own errors. The engine is as lost as before then, and this may
    /// be tried again.
    pub fn recover(&self) -> Result<bool> {
        let others_wait = self.place.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let backend = self.backend();
        let Some(lost) = backend.gpu().filter(|device| device.still_there().is_err()) else { return Ok(false) };
        let new = match pollster::block_on(open_anew(lost))? {
            Some(device) => backend.with(device),
            None => self.place.fall(&backend, lost.info())?,
        };
        let old = std::mem::replace(&mut *self.place.backend.write().unwrap_or_else(PoisonError::into_inner), new);
        // drivers may take their time to close a device: nobody is to wait for that
        drop(others_wait);
        drop(old);
        Ok(true)
    }
}

/// The adapter of `lost`, opened as that was: through an instance of its own, as the old one may have gone with the device. `None` where it is gone.
async fn open_anew(lost: &GpuDevice) -> Result<Option<GpuDevice>> {
    let old = lost.info();
    let adapters = gpu::adapters(old.backend).await;
    let is_same = |info: &DeviceInfo| (&info.name, &info.pci, &info.pci_id) == (&old.name, &old.pci, &old.pci_id) && info.unusable.is_none();
    match adapters.iter().find(|adapter| is_same(&adapter.info)) {
        Some(adapter) => GpuDevice::open(adapter, lost.opening()).await.map(Some),
        None => Ok(None),
    }
}

impl Session {
    /// Moves to the device that the engine has now, if that is another one than before.
    pub(super) async fn renew(&mut self) -> Result<()> {
        let backend = self.engine().backend();
        if backend.is(&self.backend) {
            return Ok(());
        }
        for (node, runner) in self.network.nodes.iter().zip(&mut self.nodes) {
            let why = self.engine.why_no_gpu();
            runner.renew(&backend, &self.options, why).await.map_err(|error| error.within(&node.name))?;
        }
        for (node, runner) in self.network.dense.iter().zip(&mut self.dense) {
            runner.renew(&backend, &self.options).await.map_err(|error| error.within(&node.name))?;
        }
        self.backend = backend;
        Ok(())
    }

    /// Checks that no call left the state unfinished, and that it is where this session is.
    pub(super) fn whole(&self, state: &State) -> Result<()> {
        let lost = |why| Err(Error::new(ErrorKind::StateLost, format!("state: {why}; write it anew")));
        if state.torn {
            return lost("the last call on it did not finish");
        }
        if state.nodes.iter().flatten().all(|state| state.is_on(&self.backend)) { Ok(()) } else { lost("it went with a device that was lost") }
    }
}

impl NodeRunner {
    /// Moves to the GPU of `backend`, or to the CPU where that is left. What was chosen for calls stays.
    async fn renew(&mut self, backend: &Backend, options: &Options, why: Option<&str>) -> Result<()> {
        self.forget_scratch();
        let Some(runner) = &mut self.runner else { return Ok(()) };
        let was_short = runner.unable().is_some();
        runner.renew(backend, options, why).await?;
        if was_short || runner.unable().is_some() {
            self.forget_choices();
        }
        Ok(())
    }
}

impl NodeState {
    /// Whether calls that run on `backend` can go on from it.
    pub(super) fn is_on(&self, backend: &Backend) -> bool {
        match self {
            Self::Gpu(state) => backend.gpu().is_some_and(|device| state.is_on(device)),
            Self::Cpu(_) | Self::Reference(_) => true,
        }
    }
}

impl DenseRunner {
    /// Moves to the GPU of `backend`, or to the CPU where that is left.
    pub(super) async fn renew(&mut self, backend: &Backend, options: &Options) -> Result<()> {
        if !matches!(backend, Backend::Reference) {
            let product = self.gpu().and_then(GpuDense::asked_product);
            *self = Self::new(backend, self.shared_stage(), options).await?;
            if let Some(gpu) = self.gpu_mut() {
                gpu.set_product(product);
            }
        }
        Ok(())
    }
}

impl Stream<'_> {
    /// The sequences whose states are lost, to a step that did not finish or with a device, in the order of their rows. They must
    /// [`leave`](Stream::leave), and whoever has a copy may [`join_with`](Stream::join_with) it anew.
    pub fn lost(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots().filter(|slot| self.has_lost(*slot))
    }

    /// Goes on after the device failed: recovers the engine where that is still to be done, and moves there. Gives the sequences that are lost, as
    /// [`Stream::lost`] does; states on the CPU's side of an engine that holds both survive.
    ///
    /// # Errors
    /// As [`Engine::recover`], and what [`Engine::session`] says of the weights and the states; it may be tried again then.
    pub fn recover(&mut self) -> Result<Vec<Slot>> {
        self.session().engine().recover()?;
        pollster::block_on(self.renew())?;
        Ok(self.lost().collect())
    }
}

impl Runner {
    /// Moves to the GPU of `backend`, with the weights where they were on the old one, or to the CPU where that is left, and `why`. What that GPU could
    /// not have, its like cannot either.
    pub(super) async fn renew(&mut self, backend: &Backend, options: &Options, why: Option<&str>) -> Result<()> {
        match (backend.gpu(), self.gpu()) {
            (Some(device), Some(old)) => {
                let has_weights = old.has_weights();
                self.replace_gpu(device, options, has_weights).await
            }
            (None, Some(_)) => self.lose_gpu(why.unwrap_or("it is gone")),
            (_, None) => Ok(()),
        }
    }
}
