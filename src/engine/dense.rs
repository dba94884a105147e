//! One stage around the LSTMs on one backend.

use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewMutD};

use crate::cpu::CpuDense;
use crate::engine::choices::Choices;
use crate::engine::execute::fetch;
use crate::engine::explain::{KernelCount, MemoryUse};
use crate::engine::node::{Value, Values};
use crate::engine::room::float_bytes;
use crate::engine::runner::leaves_the_cpu;
use crate::engine::shortage::Shortage;
use crate::engine::{Backend, Engine, Options};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::kernels::KernelId;
use crate::gpu::{DenseInput, DeviceTensor, GpuDense, GpuDevice, Wait};
use crate::network::{DenseNode, DenseStage, Precision, check_room};
use crate::reference;
use crate::tensor::TensorView;

/// A stage, prepared for a backend.
pub(crate) struct DenseRunner {
    /// for the reference, its weights at what they are worth as stored
    stage: Arc<DenseStage>,
    backend: DenseBackend,
}

/// What a call of a stage does on a GPU, its input and result staying there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseExplanation {
    /// how the product is made, where there is one
    pub product: Option<String>,
    /// how often each kernel is dispatched
    pub dispatches: Vec<KernelCount>,
    /// submits of the dispatches
    pub submits: usize,
    /// multiplications and additions
    pub flops: u64,
    /// bytes that the dispatches read and write
    pub bytes: u64,
    /// memory on the device
    pub memory: Vec<MemoryUse>,
}

enum DenseBackend {
    Gpu(Box<GpuDense>),
    Cpu(CpuDense),
    Reference,
    Either(Box<EitherDense>),
}

/// A stage that runs where its input is; each side gets its weights when something first runs there.
struct EitherDense {
    device: Arc<GpuDevice>,
    precision: Precision,
    gpu: Option<GpuDense>,
    /// why the GPU cannot have it
    unable: Option<String>,
    /// why it cannot have it for now
    short: Option<Shortage>,
    cpu: Option<CpuDense>,
}

impl DenseRunner {
    pub(crate) async fn new(backend: &Backend, stage: Arc<DenseStage>, options: &Options) -> Result<Self> {
        let precision = options.precision;
        Ok(match backend {
            Backend::Gpu(device) => {
                let gpu = GpuDense::new(Arc::clone(device), Arc::clone(&stage), precision).await?;
                Self { stage, backend: DenseBackend::Gpu(Box::new(gpu)) }
            }
            Backend::Cpu => {
                check_stored_as(&stage, precision)?;
                Self { backend: DenseBackend::Cpu(CpuDense::new(&stage, precision)), stage }
            }
            Backend::Reference => Self { stage: worth(&stage, precision)?, backend: DenseBackend::Reference },
            Backend::Either(device) => {
                check_stored_as(&stage, precision)?;
                let either = EitherDense { device: Arc::clone(device), precision, gpu: None, unable: None, short: None, cpu: None };
                Self { stage, backend: DenseBackend::Either(Box::new(either)) }
            }
        })
    }

    /// Whether a stage can be prepared with these options.
    pub(crate) fn check(engine: &Engine, stage: &DenseStage, options: &Options) -> Result<()> {
        match &engine.backend() {
            Backend::Gpu(device) => GpuDense::check(device, stage, options.precision).map(drop),
            Backend::Cpu | Backend::Reference | Backend::Either(_) => check_stored_as(stage, options.precision),
        }
    }

    /// Prepares the side on which a call runs whose input is on the device or on the host; gives whether that is the GPU, and why it is not for an
    /// input that is there.
    pub(super) async fn prepare(&mut self, from_device: bool) -> Result<(bool, Option<&str>)> {
        let either = match &mut self.backend {
            DenseBackend::Gpu(_) => return Ok((true, None)),
            DenseBackend::Cpu(_) | DenseBackend::Reference => return Ok((false, None)),
            DenseBackend::Either(either) => either,
        };
        either.short = either.short.take().filter(|short| !short.may_be_over(&either.device));
        if from_device && either.gpu.is_none() && either.unable.is_none() && either.short.is_none() {
            match GpuDense::new(Arc::clone(&either.device), Arc::clone(&self.stage), either.precision).await {
                Ok(gpu) => either.gpu = Some(gpu),
                Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                    let parameters = self.stage.num_parameters();
                    either.short = Some(Shortage::new(&either.device, (parameters * either.precision.weight_bytes()) as u64, &error));
                }
                Err(error) if leaves_the_cpu(&error) => either.unable = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        if from_device && either.gpu.is_some() {
            return Ok((true, None));
        }
        if either.cpu.is_none() {
            either.cpu = Some(CpuDense::new(&self.stage, either.precision));
        }
        let why = either.unable.as_deref().or(either.short.as_ref().map(Shortage::why));
        Ok((false, why.filter(|_| from_device)))
    }

    /// What it computes, for another runner of it.
    pub(super) fn shared_stage(&self) -> Arc<DenseStage> {
        Arc::clone(&self.stage)
    }

    /// What it computes.
    pub(crate) fn stage(&self) -> &DenseStage {
        &self.stage
    }

    /// The GPU's side of it, where it runs there.
    pub(crate) fn gpu(&self) -> Option<&GpuDense> {
        match &self.backend {
            DenseBackend::Gpu(gpu) => Some(gpu),
            DenseBackend::Either(either) => either.gpu.as_ref(),
            DenseBackend::Cpu(_) | DenseBackend::Reference => None,
        }
    }

    /// The GPU's side of it, to be changed.
    pub(crate) fn gpu_mut(&mut self) -> Option<&mut GpuDense> {
        match &mut self.backend {
            DenseBackend::Gpu(gpu) => Some(gpu),
            DenseBackend::Either(either) => either.gpu.as_mut(),
            DenseBackend::Cpu(_) | DenseBackend::Reference => None,
        }
    }

    /// What a call for an `x` of this shape does; `None` where it does not run on a GPU.
    pub(crate) fn explain(&self, x_shape: &[usize]) -> Result<Option<DenseExplanation>> {
        let Some(gpu) = self.gpu() else { return Ok(None) };
        let plan = gpu.plan(x_shape)?;
        let count = |(kernel, count): (KernelId, usize)| KernelCount { kernel: kernel.kernel().name.to_owned(), count };
        let mut memory = vec![MemoryUse { name: "weights".to_owned(), bytes: gpu.weight_bytes() }];
        memory.extend(plan.buffers.iter().map(|(id, bytes)| MemoryUse { name: id.name(), bytes: *bytes }));
        memory.push(MemoryUse { name: "params".to_owned(), bytes: plan.params.len() as u64 });
        Ok(Some(DenseExplanation {
            product: plan.product.map(|product| product.to_string()),
            dispatches: plan.counts().into_iter().map(count).collect(),
            submits: plan.submits.len(),
            flops: plan.flops(),
            bytes: plan.bytes(),
            memory,
        }))
    }

    /// Checks that a call takes no more memory than is allowed.
    fn check_bytes(&self, allowed: Option<u64>, x_shape: &[usize], y_shape: &[usize]) -> Result<()> {
        let Some(allowed) = allowed else { return Ok(()) };
        let on_device = match self.explain(x_shape)? {
            Some(explanation) => {
                let buffers: u64 = explanation.memory.iter().skip(1).map(|memory| memory.bytes).sum();
                // what goes there and comes back
                buffers.saturating_add(float_bytes(x_shape)).saturating_add(float_bytes(y_shape))
            }
            None => 0,
        };
        let need = on_device.saturating_add(float_bytes(y_shape));
        if need <= allowed {
            return Ok(());
        }
        let rows = y_shape.split_last().map_or(1, |(_, rows)| rows.iter().product::<usize>()).max(1) as u64;
        let what = format!("need {need} bytes for results, staging and buffers of {rows} rows");
        Err(Error::limit(format!(
            "limit max_call_bytes: {what}, allowed are {allowed}; about {} rows would fit",
            allowed / need.div_ceil(rows).max(1)
        )))
    }

    /// Whether the result for an `x` of this shape can stay on the device.
    pub(crate) fn fits_on_device(&self, x_shape: &[usize]) -> bool {
        self.gpu().is_some_and(|gpu| gpu.fits_on_device(x_shape))
    }

    /// The CPU's side of it, where it has one that is prepared.
    fn cpu(&self) -> Option<&CpuDense> {
        match &self.backend {
            DenseBackend::Cpu(cpu) => Some(cpu),
            DenseBackend::Either(either) => either.cpu.as_ref(),
            DenseBackend::Gpu(_) | DenseBackend::Reference => None,
        }
    }

    /// Runs the stage, on the side that is prepared for such an input. With a place `y` for the result it is there when this returns; without one it stays on the device, which has to be a GPU.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where `x` is none that the stage takes or `y` is of another shape,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where a result cannot stay on the device.
    pub(crate) async fn run(&mut self, x: DenseInput<'_>, y: Option<ArrayViewMutD<'_, f32>>, wait: Wait) -> Result<Option<DeviceTensor>> {
        let on_gpu = matches!((&self.backend, &x), (DenseBackend::Gpu(_), _) | (DenseBackend::Either(_), DenseInput::Device(_)));
        match self.gpu_mut().filter(|_| on_gpu) {
            Some(gpu) => gpu.run(x, y, wait).await,
            None => self.run_on_host(&x, y).map(|()| None),
        }
    }

    fn run_on_host(&self, x: &DenseInput<'_>, y: Option<ArrayViewMutD<'_, f32>>) -> Result<()> {
        let mut y = y.ok_or_else(|| Error::config("a result that stays on the device: expected a GPU, found the host"))?;
        let shape = match x {
            DenseInput::Ids(ids) => ids.shape(),
            DenseInput::Host(x) => x.shape(),
            DenseInput::Device(_) => return Err(Error::config("a tensor on the device: expected a stage on a GPU, found one on the host")),
        };
        let y_shape = self.stage.y_shape(shape)?;
        if y.shape() != y_shape {
            return Err(Error::shape(format!("tensor `y`: expected a place for {y_shape:?}, found {:?}", y.shape())));
        }
        let (linear, function) = match (&*self.stage, x) {
            (DenseStage::Embedding(embedding), DenseInput::Ids(ids)) => {
                embedding.check_ids(ids)?;
                match self.cpu() {
                    Some(cpu) => cpu.embed(ids, y),
                    None => store_narrow(&mut y, &reference::embed(embedding, ids.view())),
                }
                return Ok(());
            }
            (DenseStage::Linear(linear, function), DenseInput::Host(_)) => (Some(linear), *function),
            (DenseStage::Function(function), DenseInput::Host(_)) => (None, *function),
            (DenseStage::Embedding(_), _) => return Err(Error::shape("tensor `x`: expected ids, found float32")),
            _ => return Err(Error::shape("tensor `x`: expected float32, found ids")),
        };
        let DenseInput::Host(x) = x else { unreachable!("it was told apart above") };
        if y.is_empty() {
            return Ok(());
        }
        match self.cpu() {
            Some(cpu) => cpu.run(x, y),
            None => store_narrow(&mut y, &reference::dense(linear, function, x.view())),
        }
        Ok(())
    }
}

/// Runs one layer on what it reads; the result stays on the device where it can and is `kept`.
pub(super) async fn run_dense<'n>(
    node: &DenseNode,
    runner: &mut DenseRunner,
    values: &mut Values<'n>,
    kept: bool,
    (choices, allowed): (&mut Choices, Option<u64>),
    wait: Wait,
) -> Result<Value<'n>> {
    let from_device = matches!(values.get(node.x.as_str()), Some(Value::Device(..)));
    let (on_gpu, why_not) = runner.prepare(from_device).await?;
    if let Some(why) = why_not {
        choices.note(format!("{}: runs on the CPU, as the GPU cannot: {why}", node.name));
    }
    if !on_gpu {
        fetch(&node.x, values, wait).await?;
    }
    let given = values.get(node.x.as_str()).ok_or_else(|| Error::shape(format!("tensor `{}`: missing", node.x)))?;
    let shape = given.shape().to_vec();
    let ids;
    let x = match (runner.stage(), given) {
        (DenseStage::Embedding(embedding), _) => {
            ids = embedding_ids(&node.x, embedding.num_embeddings(), &given.view()?)?;
            DenseInput::Ids(ids.view())
        }
        (_, Value::Device(tensor, _)) if on_gpu => DenseInput::Device(tensor),
        _ => DenseInput::Host(given.view()?.float32(&node.x)?),
    };
    let y_shape = runner.stage().y_shape(&shape)?;
    runner.check_bytes(allowed, &shape, &y_shape)?;
    if on_gpu && kept && !y_shape.contains(&0) && runner.fits_on_device(&shape) {
        if let Some(tensor) = runner.run(x, None, wait).await? {
            return Ok(Value::Device(tensor, None));
        }
        return Err(Error::config("a result that stays on the device: expected one, found none"));
    }
    check_room::<f32>("tensor `y`", [&y_shape])?;
    let mut y = ArrayD::zeros(ndarray::IxDyn(&y_shape));
    runner.run(x, Some(y.view_mut()), wait).await?;
    Ok(Value::Made(y.into()))
}

/// The ids of an embedding, those below zero counted from the end as ONNX has it.
fn embedding_ids(name: &str, num_embeddings: usize, ids: &TensorView<'_>) -> Result<ArrayD<u32>> {
    let id = |value: i64| {
        let size = i64::try_from(num_embeddings).unwrap_or(i64::MAX);
        let place = if value < 0 { value.saturating_add(size) } else { value };
        u32::try_from(place)
            .ok()
            .filter(|_| place < size)
            .ok_or_else(|| Error::shape(format!("tensor `{name}`: expected ids from {} to num_embeddings - 1 = {}, found {value}", -size, size - 1)))
    };
    fn each<T: Copy + Into<i64>>(values: &ndarray::ArrayViewD<'_, T>, id: impl Fn(i64) -> Result<u32>) -> Result<ArrayD<u32>> {
        let ids = values.iter().map(|&value| id(value.into())).collect::<Result<Vec<_>>>()?;
        Ok(ArrayD::from_shape_vec(values.raw_dim(), ids).expect("as many as there were"))
    }
    check_room::<u32>(&format!("ids `{name}`"), [ids.shape()])?;
    match ids {
        TensorView::I32(values) => each(values, id),
        TensorView::I64(values) => each(values, id),
        TensorView::I8(values) => each(values, id),
        TensorView::U8(values) => each(values, id),
        other => Err(Error::shape(format!("tensor `{name}`: expected ids of an integer type, found {}", other.element_type()))),
    }
}

fn check_stored_as(stage: &DenseStage, precision: Precision) -> Result<()> {
    if let DenseStage::Linear(linear, _) = stage { linear.check_stored_as(precision) } else { Ok(()) }
}

/// The stage as the reference computes it: with what a stored weight is worth.
fn worth(stage: &Arc<DenseStage>, precision: Precision) -> Result<Arc<DenseStage>> {
    match &**stage {
        DenseStage::Linear(linear, function) if precision != Precision::F32 => {
            Ok(Arc::new(DenseStage::Linear(linear.stored_as(precision)?, *function)))
        }
        _ => Ok(Arc::clone(stage)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "results are float32")]
fn store_narrow(to: &mut ArrayViewMutD<'_, f32>, from: &ArrayD<f64>) {
    to.zip_mut_with(from, |to, &from| *to = from as f32);
}
