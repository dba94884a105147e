//! One LSTM stack on one backend, and the states that it carries.

use std::sync::Arc;

use ndarray::{Array, ArrayViewMut, Dimension};

use crate::cpu::CpuLstm;
use crate::device::DeviceKind;
use crate::engine::{Backend, Engine, Options};
use crate::error::{Error, Result};
use crate::gpu::form::Choice;
use crate::gpu::{DeviceCall, DeviceTensor, GpuLstm, GpuState, Source, Wait};
use crate::network::{InitialState, Lstm, LstmCall, LstmConfig, LstmResults, LstmState, Precision};
use crate::reference;

/// A stack, prepared for a backend.
pub(crate) struct Runner {
    lstm: Arc<Lstm>,
    backend: RunnerBackend,
}

enum RunnerBackend {
    Gpu(Box<GpuLstm>),
    Cpu(CpuLstm),
    Reference,
}

/// The states of a stack, where its backend keeps them.
pub(crate) enum NodeState {
    Gpu(GpuState),
    Cpu(LstmState),
    Reference(LstmState<f64>),
}

impl Runner {
    pub(crate) async fn new(backend: &Backend, lstm: Arc<Lstm>, options: &Options) -> Result<Self> {
        let backend = match backend {
            Backend::Gpu(device) => RunnerBackend::Gpu(Box::new(GpuLstm::new(Arc::clone(device), &lstm, options.gpu()).await?)),
            // the host computes with what a stored weight is worth
            Backend::Cpu => RunnerBackend::Cpu(CpuLstm::new(worth(&lstm, options.precision)?)),
            Backend::Reference => return Ok(Self { lstm: worth(&lstm, options.precision)?, backend: RunnerBackend::Reference }),
        };
        Ok(Self { lstm, backend })
    }

    /// Whether a stack can be prepared with these options.
    pub(crate) fn check(engine: &Engine, lstm: &Lstm, options: &Options) -> Result<()> {
        match engine.backend() {
            Backend::Gpu(device) => GpuLstm::check(device, lstm, options.gpu()).map(|_| ()),
            Backend::Cpu | Backend::Reference => match options.schedule {
                Some(name) => Err(Error::config(format!("schedule {name}: needs a GPU, found {}", engine.describe().device))),
                None => lstm.check_stored_as(options.precision),
            },
        }
    }

    /// What kind of backend it is on.
    pub(crate) fn kind(&self) -> DeviceKind {
        match &self.backend {
            RunnerBackend::Gpu(_) => DeviceKind::Gpu,
            RunnerBackend::Cpu(_) => DeviceKind::Cpu,
            RunnerBackend::Reference => DeviceKind::Reference,
        }
    }

    /// The schedule of a backend that has only one.
    pub(crate) fn host_schedule(&self) -> &'static str {
        if self.kind() == DeviceKind::Reference { "one row and one step at a time" } else { "rows over threads" }
    }

    pub(crate) fn config(&self) -> &LstmConfig {
        self.lstm.config()
    }

    pub(crate) fn lstm(&self) -> &Lstm {
        &self.lstm
    }

    /// The GPU's side of it, where it runs there.
    pub(crate) fn gpu(&self) -> Option<&GpuLstm> {
        if let RunnerBackend::Gpu(gpu) = &self.backend { Some(gpu) } else { None }
    }

    /// The GPU's side of it, to be changed.
    pub(crate) fn gpu_mut(&mut self) -> Option<&mut GpuLstm> {
        if let RunnerBackend::Gpu(gpu) = &mut self.backend { Some(gpu) } else { None }
    }

    /// Forgets what calls took so far.
    pub(crate) fn reset_profile(&mut self) {
        if let RunnerBackend::Gpu(gpu) = &mut self.backend {
            gpu.reset_profile();
        }
    }

    /// Zero states for calls of `batch` rows and, if the stack is bidirectional, `seq_len` steps, built on a GPU to what `choose` says of blocks
    /// of so many rows.
    pub(crate) async fn new_state(&self, batch: usize, seq_len: usize, choose: impl Fn(usize) -> Choice) -> Result<NodeState> {
        Ok(match &self.backend {
            RunnerBackend::Gpu(gpu) => {
                // a state that the host could not read is none
                LstmState::<f32>::check_room(self.config(), batch)?;
                NodeState::Gpu(gpu.new_state(batch, seq_len, choose).await?)
            }
            RunnerBackend::Cpu(_) => NodeState::Cpu(LstmState::try_zeros(self.config(), batch)?),
            RunnerBackend::Reference => NodeState::Reference(LstmState::try_zeros(self.config(), batch)?),
        })
    }

    /// Puts `values` in the place of the states.
    pub(crate) fn set_state(&self, state: &mut NodeState, values: LstmState) {
        match (&self.backend, state) {
            (RunnerBackend::Gpu(gpu), NodeState::Gpu(state)) => gpu.set_state(state, &values),
            (_, NodeState::Cpu(state)) => *state = values,
            (_, NodeState::Reference(state)) => *state = widen(&values),
            (_, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
    }

    /// Puts `values`, states of one row, in the place of the states of row `row`.
    pub(crate) fn set_state_row(&self, state: &mut NodeState, row: usize, values: &LstmState) {
        match (&self.backend, state) {
            (RunnerBackend::Gpu(gpu), NodeState::Gpu(state)) => gpu.set_state_row(state, row, values),
            (_, NodeState::Cpu(state)) => state.set_row(row, values),
            (_, NodeState::Reference(state)) => state.set_row(row, &widen(values)),
            (_, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
    }

    /// The states as they are now.
    pub(crate) async fn read_state(&mut self, state: &NodeState, wait: Wait) -> Result<LstmState> {
        match (&mut self.backend, state) {
            (RunnerBackend::Gpu(gpu), NodeState::Gpu(state)) => gpu.read_state(state, wait).await,
            (_, NodeState::Cpu(state)) => Ok(state.clone()),
            (_, NodeState::Reference(state)) => Ok(narrow(state)),
            (_, NodeState::Gpu(_)) => unreachable!("a session checks that a state is its own"),
        }
    }

    /// Whether `y` of a call can stay on the device.
    pub(crate) fn fits_on_device(&self, batch: usize, seq_len: usize) -> bool {
        self.gpu().is_some_and(|gpu| gpu.fits_on_device(batch, seq_len))
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
        match (&mut self.backend, state, call) {
            (RunnerBackend::Gpu(gpu), NodeState::Gpu(state), _) => gpu.run_on_device(call, initial, state, results, wait).await,
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
        match (&mut self.backend, state) {
            (RunnerBackend::Gpu(gpu), NodeState::Gpu(state)) => return gpu.run(call, initial, state, results, wait).await,
            (RunnerBackend::Cpu(cpu), NodeState::Cpu(state)) => {
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
            (RunnerBackend::Reference, NodeState::Reference(state)) => {
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

fn worth(lstm: &Arc<Lstm>, precision: Precision) -> Result<Arc<Lstm>> {
    if precision == Precision::F32 { Ok(Arc::clone(lstm)) } else { Ok(Arc::new(lstm.stored_as(precision)?)) }
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
