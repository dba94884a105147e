//! Stages one behind the other, without names: what a network does between its inputs and outputs, for tests and measurements.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, Axis, Ix3, IxDyn, Slice};

use crate::device::DeviceKind;
use crate::engine::choices::Choices;
use crate::engine::dense::{DenseExplanation, DenseRunner};
use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Backend, Engine, Options};
use crate::error::{Error, Result};
use crate::gpu::form::ProductForm;
use crate::gpu::{DenseInput, DeviceCall, DeviceTensor, Source, Wait};
use crate::network::{DenseStage, InitialState, Lstm, LstmResults, Strided};

/// A stage of a [`Chain`].
#[derive(Clone, Debug)]
pub enum ChainStage {
    /// of rows of features
    Dense(DenseStage),
    /// a stack: `[T, N, D*R]` from `[T, N, I]`, its states zero at the start
    Lstm(Arc<Lstm>),
    /// the final hidden states of a stack, `[L*D, N, R]` on the host, from states that are 0.25 and -0.5 at the start
    FinalState(Arc<Lstm>),
    /// another order of axes
    Permute(Vec<usize>),
    /// a part of an axis
    Slice(usize, Range<usize>),
    /// an axis the other way round
    Reverse(usize),
}

/// What a [`Chain`] is given.
#[derive(Clone, Debug)]
pub enum ChainInput<'a> {
    /// for an embedding
    Ids(ArrayViewD<'a, u32>),
    /// for any other stage
    Values(ArrayViewD<'a, f32>),
}

/// Stages on a device, what one makes given to the next: on a GPU without leaving it.
pub struct Chain {
    engine: Engine,
    /// what this chain is on: the engine may have another device by now
    backend: Backend,
    options: Options,
    stages: Vec<Prepared>,
    choices: Choices,
}

/// The result of a call that may be under way.
pub struct Started(Made<'static>);

enum Prepared {
    Dense(DenseRunner),
    Lstm { runner: Box<Runner>, state: Option<([usize; 2], NodeState)>, gives: Gives },
    Permute(Vec<usize>),
    Slice(usize, Range<usize>),
    Reverse(usize),
}

/// What is wanted of a stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Y,
    FinalState,
}

/// What a stage made.
enum Made<'a> {
    Ids(ArrayViewD<'a, u32>),
    Host(ArrayD<f32>),
    Device(DeviceTensor),
}

impl Chain {
    /// Prepares the stages.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn new(engine: &Engine, stages: &[ChainStage], options: &Options) -> Result<Self> {
        let backend = one_side(engine);
        let prepare = |stage: &ChainStage| {
            Ok(match stage {
                ChainStage::Dense(stage) => Prepared::Dense(pollster::block_on(DenseRunner::new(&backend, Arc::new(stage.clone()), options))?),
                ChainStage::Lstm(lstm) | ChainStage::FinalState(lstm) => Prepared::Lstm {
                    runner: Box::new(pollster::block_on(Runner::new(&backend, Arc::clone(lstm), options))?),
                    state: None,
                    gives: if matches!(stage, ChainStage::Lstm(_)) { Gives::Y } else { Gives::FinalState },
                },
                ChainStage::Permute(axes) => Prepared::Permute(axes.clone()),
                ChainStage::Slice(axis, range) => Prepared::Slice(*axis, range.clone()),
                ChainStage::Reverse(axis) => Prepared::Reverse(*axis),
            })
        };
        let stages = stages.iter().map(prepare).collect::<Result<_>>()?;
        Ok(Self { engine: engine.clone(), backend, options: options.clone(), stages, choices: Choices::new(engine, options) })
    }

    /// Moves to the device that the engine has now, if that is another one than before. What is on the old one is gone.
    async fn renew(&mut self) -> Result<()> {
        let backend = one_side(&self.engine);
        if backend.is(&self.backend) {
            return Ok(());
        }
        for stage in &mut self.stages {
            match stage {
                Prepared::Dense(runner) => runner.renew(&backend, &self.options).await?,
                Prepared::Lstm { runner, state, .. } => {
                    runner.renew(&backend, &self.options, self.engine.why_no_gpu()).await?;
                    *state = None;
                }
                Prepared::Permute(_) | Prepared::Slice(..) | Prepared::Reverse(_) => {}
            }
        }
        self.backend = backend;
        Ok(())
    }

    /// How often something was brought from the device to the host so far; `None` where there is none.
    pub fn reads(&self) -> Option<u64> {
        self.engine.backend().gpu().map(|device| device.reads())
    }

    /// What stage `number` does on a GPU for an `x` of this shape; `None` for an LSTM, and on the host.
    ///
    /// # Errors
    /// As the stage for such an `x`.
    pub fn explain(&self, number: usize, x_shape: &[usize]) -> Result<Option<DenseExplanation>> {
        if let Some(Prepared::Dense(runner)) = self.stages.get(number) { runner.explain(x_shape) } else { Ok(None) }
    }

    /// The forms that the product of stage `number` may have for `rows` rows on a GPU, cheapest by the cost model first.
    ///
    /// # Errors
    /// As the stage for so many rows.
    pub fn products(&self, number: usize, rows: usize) -> Result<Vec<ProductForm>> {
        let Some(Prepared::Dense(runner)) = self.stages.get(number) else { return Ok(Vec::new()) };
        runner.gpu().map_or(Ok(Vec::new()), |gpu| gpu.products(rows))
    }

    /// Has every product of stage `number` made by one of [`Chain::products`].
    pub fn set_product(&mut self, number: usize, product: ProductForm) {
        if let Some(Prepared::Dense(runner)) = self.stages.get_mut(number)
            && let Some(gpu) = runner.gpu_mut()
        {
            gpu.set_product(Some(product));
        }
    }

    /// Runs every stage, rows of LSTMs as long as `lens` says. Where the last stage is to bring its result to the host, it does so `directly`;
    /// otherwise it is left on the device as well and read from there.
    ///
    /// # Errors
    /// What the stages say.
    pub fn run(&mut self, x: ChainInput<'_>, lens: Option<&[u32]>, directly: bool) -> Result<ArrayD<f32>> {
        pollster::block_on(self.run_async(x, lens, directly))
    }

    /// As [`Chain::run`], without waiting for the result, which is on the device until the next call.
    ///
    /// # Errors
    /// As [`Chain::run`].
    pub fn start(&mut self, x: ChainInput<'_>, lens: Option<&[u32]>) -> Result<Started> {
        match pollster::block_on(self.made(x, lens, false))? {
            Made::Host(values) => Ok(Started(Made::Host(values))),
            Made::Device(tensor) => Ok(Started(Made::Device(tensor))),
            Made::Ids(_) => Err(no_stage()),
        }
    }

    async fn run_async(&mut self, x: ChainInput<'_>, lens: Option<&[u32]>, directly: bool) -> Result<ArrayD<f32>> {
        self.made(x, lens, directly).await?.read().await
    }

    async fn made<'a>(&mut self, x: ChainInput<'a>, lens: Option<&[u32]>, directly: bool) -> Result<Made<'a>> {
        self.renew().await?;
        let on_device = self.backend.gpu().is_some();
        let mut made = match x {
            ChainInput::Ids(ids) => Made::Ids(ids),
            ChainInput::Values(values) => Made::Host(values.to_owned()),
        };
        let last = self.stages.len();
        for (number, stage) in self.stages.iter_mut().enumerate() {
            let stays = on_device && !(directly && number + 1 == last);
            made = match stage {
                Prepared::Dense(runner) => run_dense(runner, &made, stays).await?,
                Prepared::Lstm { runner, state, gives } => run_lstm((runner, state, *gives), &mut self.choices, (&made, lens), stays).await?,
                Prepared::Permute(axes) => permuted(made, axes)?,
                Prepared::Slice(axis, range) => sliced(made, *axis, range.clone())?,
                Prepared::Reverse(axis) => reversed(made, *axis)?,
            };
        }
        Ok(made)
    }
}

impl Made<'_> {
    async fn read(self) -> Result<ArrayD<f32>> {
        match self {
            Self::Host(values) => Ok(values),
            Self::Device(tensor) => tensor.read(Wait::Block).await,
            Self::Ids(_) => Err(no_stage()),
        }
    }
}

impl Started {
    /// Brings the result to the host.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the chain has run again; the device's own errors.
    pub fn read(self) -> Result<ArrayD<f32>> {
        pollster::block_on(self.0.read())
    }
}

/// What is measured here is one side.
fn one_side(engine: &Engine) -> Backend {
    let backend = engine.backend();
    backend.gpu().map_or_else(|| backend.clone(), |device| Backend::Gpu(Arc::clone(device)))
}

fn no_stage() -> Error {
    Error::config("a chain: expected a stage that takes ids, found none")
}

async fn run_dense<'a>(runner: &mut DenseRunner, made: &Made<'_>, stays: bool) -> Result<Made<'a>> {
    let x = match made {
        Made::Ids(ids) => DenseInput::Ids(ids.view()),
        Made::Host(values) => DenseInput::Host(values.view()),
        Made::Device(tensor) => DenseInput::Device(tensor),
    };
    let shape = match made {
        Made::Ids(ids) => ids.shape(),
        Made::Host(values) => values.shape(),
        Made::Device(tensor) => tensor.shape(),
    };
    // what cannot stay goes on from the host
    if stays
        && runner.fits_on_device(shape)
        && let Some(tensor) = runner.run(x.clone(), None, Wait::Block).await?
    {
        return Ok(Made::Device(tensor));
    }
    let mut y = ArrayD::zeros(IxDyn(&runner.stage().y_shape(shape)?));
    runner.run(x, Some(y.view_mut()), Wait::Block).await?;
    Ok(Made::Host(y))
}

async fn run_lstm<'a>(
    (runner, state, gives): (&mut Runner, &mut Option<([usize; 2], NodeState)>, Gives),
    choices: &mut Choices,
    (made, sequence_lens): (&Made<'_>, Option<&[u32]>),
    stays: bool,
) -> Result<Made<'a>> {
    let three_axes = |found: &[usize]| Error::shape(format!("tensor `x`: expected [seq_len, batch, input_size], found {found:?}"));
    let x = match made {
        Made::Host(values) => Source::Host(values.view().into_dimensionality::<Ix3>().map_err(|_| three_axes(values.shape()))?),
        Made::Device(tensor) => Source::Device(tensor),
        Made::Ids(ids) => return Err(three_axes(ids.shape())),
    };
    let shape = match made {
        Made::Device(tensor) => tensor.shape().to_vec(),
        Made::Host(values) => values.shape().to_vec(),
        Made::Ids(_) => Vec::new(),
    };
    let [seq_len, batch, _] = shape[..] else { return Err(three_axes(&shape)) };
    if state.as_ref().is_none_or(|(sizes, _)| *sizes != [batch, seq_len]) {
        let side = runner.only_side().unwrap_or(DeviceKind::Gpu);
        *state = Some(([batch, seq_len], choices.new_state("lstm", runner, side, [batch, seq_len], Wait::Block).await?));
    }
    let Some((_, state)) = state else { unreachable!("it was made above") };
    let (dirs, out, cells) = (runner.config().num_directions(), runner.config().out_size(), runner.config().num_cells());
    let mut initial = InitialState::default();
    let mut results = LstmResults::default();
    let call = DeviceCall { x, sequence_lens, keeps_y: stays && runner.fits_on_device(state.side(), batch, seq_len) };
    if gives == Gives::FinalState {
        let h_0 = ndarray::Array3::from_elem((cells, batch, out), 0.25);
        let c_0 = ndarray::Array3::from_elem((cells, batch, runner.config().hidden_size), -0.5);
        let mut h_n = ndarray::Array3::zeros((cells, batch, out));
        (initial.h, initial.c, results.h_n) = (Some(h_0.view()), Some(c_0.view()), Some(h_n.view_mut()));
        runner.run_on_device(&call, Some(&initial), state, results, Wait::Block).await?;
        return Ok(Made::Host(h_n.into_dyn()));
    }
    if call.keeps_y {
        let y = runner.run_on_device(&call, Some(&initial), state, results, Wait::Block).await?;
        let y = y.ok_or_else(|| Error::config("a chain: expected a stack that keeps y, found another"))?;
        return Ok(Made::Device(y.with_layout(Strided::contiguous(&[seq_len, batch, dirs * out]))?));
    }
    let mut y = ndarray::Array4::zeros((seq_len, batch, dirs, out));
    results.y = Some(y.view_mut());
    runner.run_on_device(&call, Some(&initial), state, results, Wait::Block).await?;
    let y = y.into_shape_with_order(IxDyn(&[seq_len, batch, dirs * out])).expect("a row-major array can be regrouped");
    Ok(Made::Host(y))
}

fn permuted<'a>(made: Made<'a>, axes: &[usize]) -> Result<Made<'a>> {
    Ok(match made {
        Made::Ids(ids) => Made::Ids(ids.permuted_axes(IxDyn(axes))),
        Made::Host(values) => Made::Host(values.permuted_axes(IxDyn(axes))),
        Made::Device(tensor) => {
            let Strided { offset, shape, strides } = tensor.layout();
            let layout = Strided {
                offset: *offset,
                shape: axes.iter().map(|&axis| shape[axis]).collect(),
                strides: axes.iter().map(|&axis| strides[axis]).collect(),
            };
            Made::Device(tensor.with_layout(layout)?)
        }
    })
}

fn sliced<'a>(made: Made<'a>, axis: usize, range: Range<usize>) -> Result<Made<'a>> {
    Ok(match made {
        Made::Ids(ids) => Made::Ids(ids.slice_axis_move(Axis(axis), Slice::from(range))),
        Made::Host(values) => Made::Host(values.slice_axis_move(Axis(axis), Slice::from(range))),
        Made::Device(tensor) => {
            let layout = tensor.layout().part(axis, range);
            Made::Device(tensor.with_layout(layout)?)
        }
    })
}

fn reversed(made: Made<'_>, axis: usize) -> Result<Made<'_>> {
    Ok(match made {
        Made::Ids(mut ids) => {
            ids.invert_axis(Axis(axis));
            Made::Ids(ids)
        }
        Made::Host(mut values) => {
            values.invert_axis(Axis(axis));
            Made::Host(values)
        }
        Made::Device(tensor) => {
            let size = tensor.shape()[axis];
            // that of the last element on the axis
            let mut layout = tensor.layout().part(axis, size.saturating_sub(1)..size);
            (layout.shape[axis], layout.strides[axis]) = (size, -layout.strides[axis]);
            Made::Device(tensor.with_layout(layout)?)
        }
    })
}
