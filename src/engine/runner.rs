//! One LSTM stack on the sides that its engine has, and the states that it carries.

use std::sync::Arc;

use ndarray::{Array, ArrayViewMut, Dimension};

use crate::cpu::{self, CpuLstm};
use crate::device::DeviceKind;
use crate::engine::shortage::Shortage;
use crate::engine::{Backend, Engine, Options};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::form::Choice;
use crate::gpu::{DeviceCall, DeviceTensor, GpuDevice, GpuLstm, GpuState, Source, Wait};
use crate::network::{InitialState, Lstm, LstmCall, LstmConfig, LstmResults, LstmState, Precision};
use crate::reference;

/// A stack on a GPU, on the host, or on both: then each side gets its weights when something first runs there.
pub(crate) struct Runner {
    lstm: Arc<Lstm>,
    precision: Precision,
    gpu: Option<Box<GpuLstm>>,
    /// why the GPU of an engine that holds both sides cannot have the stack
    unable: Option<String>,
    /// why that GPU cannot have it for now
    short: Option<Shortage>,
    host: Option<Host>,
}

enum Host {
    /// its weights packed, once they are needed
    Cpu(Option<CpuLstm>),
    Reference,
}

/// The states of a stack, where its backend keeps them.
pub(crate) enum NodeState {
    Gpu(GpuState),
    Cpu(LstmState),
    Reference(LstmState<f64>),
}

impl NodeState {
    /// A call begins, and has moved nothing.
    pub(crate) fn begin(&mut self) {
        if let Self::Gpu(state) = self {
            state.begin();
        }
    }

    /// Whether a call that failed may have moved it. Where the host computes nothing fails but by a panic, which says nothing of how far it came.
    pub(crate) fn has_moved(&self) -> bool {
        if let Self::Gpu(state) = self { state.has_moved() } else { true }
    }

    /// What calls of `rows` rows at once on it are built to, which is asked for on a GPU alone.
    pub(super) fn choice(&self, rows: usize) -> Choice {
        let Self::Gpu(state) = self else { unreachable!("the host has nothing to choose") };
        state.choice(rows)
    }

    /// Where calls on it run.
    pub(crate) fn side(&self) -> DeviceKind {
        match self {
            Self::Gpu(_) => DeviceKind::Gpu,
            Self::Cpu(_) => DeviceKind::Cpu,
            Self::Reference(_) => DeviceKind::Reference,
        }
    }
}

impl Runner {
    pub(crate) async fn new(backend: &Backend, lstm: Arc<Lstm>, options: &Options) -> Result<Self> {
        let precision = options.precision;
        let mut runner = Self { lstm, precision, gpu: None, unable: None, short: None, host: None };
        match backend {
            Backend::Either(device) if !options.name_a_schedule() => {
                match GpuLstm::new(Arc::clone(device), &runner.lstm, options.gpu()) {
                    Ok((gpu, _)) => runner.gpu = Some(Box::new(gpu)),
                    Err(error) if leaves_the_cpu(&error) => runner.unable = Some(error.to_string()),
                    Err(error) => return Err(error),
                }
                runner.host = Some(Host::Cpu(None));
            }
            Backend::Gpu(device) | Backend::Either(device) => {
                let (mut gpu, packed) = GpuLstm::new(Arc::clone(device), &runner.lstm, options.gpu())?;
                gpu.upload(&packed).await?;
                runner.gpu = Some(Box::new(gpu));
            }
            Backend::Cpu => {
                runner.host = Some(Host::Cpu(None));
                runner.prepare_cpu()?;
            }
            Backend::Reference => {
                if precision != Precision::F32 {
                    // the reference computes with what a stored weight is worth
                    runner.lstm = Arc::new(runner.lstm.stored_as(precision)?);
                }
                runner.host = Some(Host::Reference);
            }
        }
        Ok(runner)
    }

    /// Whether a stack can be prepared with these options.
    pub(crate) fn check(engine: &Engine, lstm: &Lstm, options: &Options) -> Result<()> {
        match &engine.backend() {
            Backend::Gpu(device) => GpuLstm::check(device, lstm, options.gpu()).map(|_| ()),
            Backend::Either(device) => match GpuLstm::check(device, lstm, options.gpu()) {
                Err(error) if leaves_the_cpu(&error) && !options.name_a_schedule() => lstm.check_stored_as(options.precision),
                checked => checked.map(|_| ()),
            },
            Backend::Cpu | Backend::Reference => match options.schedule.or(options.choice.map(|choice| choice.schedule.name())) {
                Some(name) => Err(Error::config(format!("schedule {name}: needs a GPU, found {}", engine.describe().device))),
                None => lstm.check_stored_as(options.precision),
            },
        }
    }

    /// The only side that it has; `None` where calls are to choose.
    pub(crate) fn only_side(&self) -> Option<DeviceKind> {
        match &self.host {
            None => Some(DeviceKind::Gpu),
            Some(Host::Reference) => Some(DeviceKind::Reference),
            Some(Host::Cpu(_)) if self.gpu.is_none() && self.unable.is_none() => Some(DeviceKind::Cpu),
            Some(Host::Cpu(_)) => None,
        }
    }

    /// Why the GPU of an engine that holds both sides cannot have the stack, if it cannot, or not now.
    pub(crate) fn unable(&self) -> Option<&str> {
        self.unable.as_deref().or(self.short.as_ref().map(Shortage::why))
    }

    /// The GPU has no memory for the stack, as `error` says, and the CPU takes over for a while.
    pub(super) fn fall_short(&mut self, error: &Error) {
        self.short = self.gpu.as_ref().map(|gpu| Shortage::new(gpu.device(), gpu.weight_bytes(), error));
    }

    /// Whether a GPU that had no memory may have some by now: then it is asked again.
    pub(super) fn asks_again(&mut self) -> bool {
        let is_over = self.short.as_ref().zip(self.gpu.as_ref()).is_some_and(|(short, gpu)| short.may_be_over(gpu.device()));
        self.short = self.short.take().filter(|_| !is_over);
        is_over
    }

    /// How the host does a call.
    pub(crate) fn host_schedule(&self, batch: usize, seq_len: usize) -> String {
        match self.host {
            Some(Host::Reference) => "one row and one step at a time".to_owned(),
            _ => cpu::schedule(self.config(), batch, seq_len),
        }
    }

    pub(crate) fn config(&self) -> &LstmConfig {
        self.lstm.config()
    }

    pub(crate) fn lstm(&self) -> &Lstm {
        &self.lstm
    }

    /// The GPU's side of it, where it has one.
    pub(crate) fn gpu(&self) -> Option<&GpuLstm> {
        self.gpu.as_deref()
    }

    /// The GPU's side of it with its weights, to run calls.
    pub(crate) async fn uploaded_gpu(&mut self) -> Result<&mut GpuLstm> {
        let gpu = self.gpu.as_mut().ok_or_else(|| Error::config("a stack on the host: expected one on a GPU"))?;
        gpu.ensure_uploaded(&self.lstm).await?;
        self.short = None;
        Ok(gpu)
    }

    /// Gives a side its weights. Where those exceed what the GPU has and the CPU can take over, it does from then on, or until there is memory again;
    /// [`Runner::unable`] says why.
    pub(crate) async fn prepare(&mut self, side: DeviceKind) -> Result<()> {
        match side {
            DeviceKind::Gpu => match self.uploaded_gpu().await.map(|_| ()) {
                Err(error) if self.host.is_some() && error.kind() == ErrorKind::OutOfMemory => {
                    self.fall_short(&error);
                    Ok(())
                }
                Err(error) if self.host.is_some() && leaves_the_cpu(&error) => {
                    (self.gpu, self.unable) = (None, Some(error.to_string()));
                    Ok(())
                }
                uploaded => uploaded,
            },
            DeviceKind::Cpu => self.prepare_cpu(),
            DeviceKind::Reference => Ok(()),
        }
    }

    fn prepare_cpu(&mut self) -> Result<()> {
        if let Some(Host::Cpu(cpu @ None)) = &mut self.host {
            *cpu = Some(CpuLstm::new(&self.lstm, self.precision)?);
        }
        Ok(())
    }

    /// Forgets what calls took so far.
    pub(crate) fn reset_profile(&mut self) {
        if let Some(gpu) = &mut self.gpu {
            gpu.reset_profile();
        }
    }

    /// Zero states on a side that is prepared, for calls of `batch` rows and, if the stack is bidirectional, `seq_len` steps, built on a GPU to what
    /// `choose` says of blocks of so many rows.
    pub(crate) async fn new_state(&self, side: DeviceKind, batch: usize, seq_len: usize, choose: impl Fn(usize) -> Choice) -> Result<NodeState> {
        Ok(match (&self.gpu, side) {
            (Some(gpu), DeviceKind::Gpu) => {
                // a state that the host could not read is none
                LstmState::<f32>::check_room(self.config(), batch)?;
                NodeState::Gpu(gpu.new_state(batch, seq_len, choose).await?)
            }
            (_, DeviceKind::Reference) => NodeState::Reference(LstmState::try_zeros(self.config(), batch)?),
            _ => NodeState::Cpu(LstmState::try_zeros(self.config(), batch)?),
        })
    }

    /// Puts `values` in the place of the states.
    pub(crate) async fn set_state(&self, state: &mut NodeState, values: LstmState) -> Result<()> {
        match (&self.gpu, state) {
            (Some(gpu), NodeState::Gpu(state)) => gpu.set_state(state, &values).await?,
            (_, NodeState::Cpu(state)) => *state = values,
            (_, NodeState::Reference(state)) => *state = widen(&values),
            (None, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
        Ok(())
    }

    /// Puts `values`, states of one row, in the place of the states of row `row`.
    pub(crate) async fn set_state_row(&self, state: &mut NodeState, row: usize, values: &LstmState) -> Result<()> {
        match (&self.gpu, state) {
            (Some(gpu), NodeState::Gpu(state)) => gpu.set_state_row(state, row, values).await?,
            (_, NodeState::Cpu(state)) => state.set_row(row, values),
            (_, NodeState::Reference(state)) => state.set_row(row, &widen(values)),
            (None, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
        Ok(())
    }

    /// Has the states be on this stack's GPU, zeros that are built to what they were, where they are on another; on the CPU where that is left.
    pub(crate) async fn renew_state(&self, state: &mut NodeState) -> Result<()> {
        let NodeState::Gpu(old) = &*state else { return Ok(()) };
        *state = match &self.gpu {
            Some(gpu) if old.is_on(gpu.device()) => return Ok(()),
            Some(gpu) => NodeState::Gpu(gpu.new_state(old.batch(), 1, |rows| old.choice(rows)).await?),
            None => NodeState::Cpu(LstmState::try_zeros(self.config(), old.batch())?),
        };
        Ok(())
    }

    /// Has the stack on another GPU, with its weights where it is to have them at once.
    pub(super) async fn replace_gpu(&mut self, device: &Arc<GpuDevice>, options: &Options, has_weights: bool) -> Result<()> {
        let (mut gpu, packed) = GpuLstm::new(Arc::clone(device), &self.lstm, options.gpu())?;
        if has_weights {
            gpu.upload(&packed).await?;
        }
        (self.gpu, self.short) = (Some(Box::new(gpu)), None);
        Ok(())
    }

    /// The CPU alone has the stack from now on.
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`] where the options leave it to a GPU.
    pub(super) fn lose_gpu(&mut self, why: &str) -> Result<()> {
        if self.host.is_none() {
            return Err(Error::new(ErrorKind::NoAdapter, format!("the options name what a GPU is to run: expected one, found none: {why}")));
        }
        (self.gpu, self.short, self.unable) = (None, None, Some(why.to_owned()));
        self.prepare_cpu()
    }

    /// The states as they are now.
    pub(crate) async fn read_state(&mut self, state: &NodeState, wait: Wait) -> Result<LstmState> {
        match (&mut self.gpu, state) {
            (Some(gpu), NodeState::Gpu(state)) => gpu.read_state(state, wait).await,
            (_, NodeState::Cpu(state)) => Ok(state.clone()),
            (_, NodeState::Reference(state)) => Ok(narrow(state)),
            (None, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
    }

    /// Whether `y` of a call on this side can stay on the device.
    pub(crate) fn fits_on_device(&self, side: DeviceKind, batch: usize, seq_len: usize) -> bool {
        side == DeviceKind::Gpu && self.gpu().is_some_and(|gpu| gpu.fits_on_device(batch, seq_len))
    }

    /// As [`Runner::run`], from an input that may be on the device, and with a `y [T, N, D, R]` that stays there where the call says so: on a GPU.
    pub(crate) async fn run_on_device(
        &mut self,
        call: &DeviceCall<'_>,
        initial: Option<&InitialState<'_>>,
        state: &mut NodeState,
        results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<Option<DeviceTensor>> {
        match (&mut self.gpu, state, call) {
            (Some(gpu), NodeState::Gpu(state), _) => gpu.run_on_device(call, initial, state, results, wait).await,
            (_, state, DeviceCall { x: Source::Host(x), sequence_lens, keeps_y: false }) => {
                self.run(&LstmCall { x: x.view(), sequence_lens: *sequence_lens }, initial, state, results, wait).await.map(|()| None)
            }
            _ => Err(Error::config("a tensor on the device: expected a stack on a GPU, found one on the host")),
        }
    }

    /// Runs the stack on the states in `state`, which then holds the final ones; where there are `initial` states, from those.
    pub(crate) async fn run(
        &mut self,
        call: &LstmCall<'_>,
        initial: Option<&InitialState<'_>>,
        state: &mut NodeState,
        results: LstmResults<'_>,
        wait: Wait,
    ) -> Result<()> {
        match (&mut self.gpu, &self.host, state) {
            (Some(gpu), _, NodeState::Gpu(state)) => return gpu.run(call, initial, state, results, wait).await,
            (_, Some(Host::Cpu(Some(cpu))), NodeState::Cpu(state)) => {
                if let Some(initial) = initial {
                    state.start(initial);
                }
                cpu.run(call, state, results.y);
                for (result, value) in [(results.h_n, &state.h), (results.c_n, &state.c)] {
                    if let Some(mut result) = result {
                        result.assign(value);
                    }
                }
            }
            (_, Some(Host::Reference), NodeState::Reference(state)) => {
                if let Some(initial) = initial {
                    state.start(initial);
                }
                let y = reference::run(&self.lstm, call, state);
                if let Some(result) = results.y {
                    let y = y.into_shape_with_order(result.dim()).expect("y is row-major");
                    store_narrow(result, &y);
                }
                for (result, value) in [(results.h_n, &state.h), (results.c_n, &state.c)] {
                    if let Some(result) = result {
                        store_narrow(result, value);
                    }
                }
            }
            _ => unreachable!("a session checks that a state is its own"),
        }
        Ok(())
    }
}

/// Whether what the GPU says is that it is too small, so that the CPU may do instead.
pub(super) fn leaves_the_cpu(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Limit | ErrorKind::OutOfMemory)
}

#[expect(clippy::cast_possible_truncation, reason = "outputs are float32")]
fn store_narrow<D: Dimension>(mut to: ArrayViewMut<'_, f32, D>, from: &Array<f64, D>) {
    to.zip_mut_with(from, |to, &from| *to = from as f32);
}

fn widen(state: &LstmState) -> LstmState<f64> {
    LstmState { h: state.h.mapv(f64::from), c: state.c.mapv(f64::from) }
}

#[expect(clippy::cast_possible_truncation, reason = "outputs are float32")]
fn narrow(state: &LstmState<f64>) -> LstmState {
    LstmState { h: state.h.mapv(|value| value as f32), c: state.c.mapv(|value| value as f32) }
}
