//! A stage around the LSTMs on the device: its weights, uploaded once, and calls that leave their result there or bring it to the host.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::form::ProductForm;
use crate::gpu::pack::{PackedWeights, pack_linear};
use crate::gpu::plan::{BufferId, DensePlan, DenseRequest, DenseSpec, build_dense};
use crate::gpu::prepared::{bind_group, encode};
use crate::gpu::region::beyond_a_binding;
use crate::gpu::relayout::{Place, Relayout};
use crate::gpu::tensor::{DeviceTensor, Runs};
use crate::gpu::transfer::{Download, Remap, Upload, Writer, as_floats, store_rows};
use crate::gpu::{GpuDevice, Wait};
use crate::network::Strided;
use crate::network::{DenseStage, Precision};

/// Shapes of call whose plans are kept.
const MAX_PLANS: usize = 32;

const F32: u64 = size_of::<f32>() as u64;

/// What a stage is given.
#[derive(Clone)]
pub(crate) enum DenseInput<'a> {
    /// ids of an embedding, `[..]`, all in range
    Ids(ArrayViewD<'a, u32>),
    /// `[.., I]` on the host, any strides
    Host(ArrayViewD<'a, f32>),
    /// `[.., I]` on the device, any layout
    Device(&'a DeviceTensor),
}

impl DenseInput<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Ids(ids) => ids.shape(),
            Self::Host(x) => x.shape(),
            Self::Device(x) => x.shape(),
        }
    }
}

/// A stage, ready to run.
pub(crate) struct GpuDense {
    stage: Arc<DenseStage>,
    spec: DenseSpec,
    /// what every product is made by, where that is asked for
    product: Option<ProductForm>,
    /// those of a product, or the table, in as many buffers as it takes
    weights: Vec<DeviceBuffer>,
    vectors: Option<DeviceBuffer>,
    /// buffers that all plans share, each as large as the largest call so far needed
    buffers: HashMap<BufferId, DeviceBuffer>,
    /// most recently used last
    plans: Vec<PreparedDense>,
    relayout: Relayout,
    upload: Upload,
    download: Download,
    runs: Runs,
    /// goes last
    device: Arc<GpuDevice>,
}

/// A plan with what the device needs to run it.
struct PreparedDense {
    plan: DensePlan,
    /// what [`BufferId::Given`] is
    given: Option<wgpu::Buffer>,
    pipelines: Vec<wgpu::ComputePipeline>,
    bind_groups: Vec<wgpu::BindGroup>,
    /// uniforms of all dispatches, bound by the bind groups
    _params: DeviceBuffer,
}

/// The rows of a call: where the kernels find them, and in which order they are.
struct Rows<'a> {
    count: usize,
    /// of the result
    features: usize,
    /// those of another stage's tensor, the first of which is row `first` of its buffer
    given: Option<(&'a DeviceTensor, usize)>,
    /// the result's axes, and those whose order the rows are in
    layout: Strided,
}

impl GpuDense {
    /// The weights of `stage`, packed; none where it has none, or where they go to the device as they are.
    ///
    /// # Errors
    /// As [`GpuDense::new`].
    pub(crate) fn check(device: &GpuDevice, stage: &DenseStage, precision: Precision) -> Result<Option<PackedWeights>> {
        let allowed = device.profile.max_binding_bytes;
        match stage {
            DenseStage::Linear(linear, _) => pack_linear(linear, precision, allowed).map(Some),
            DenseStage::Embedding(embedding) => {
                let need = embedding.embedding_dim() as u64 * F32;
                if need <= allowed {
                    return Ok(None);
                }
                Err(beyond_a_binding("one vector of table [num_embeddings, embedding_dim]", need, allowed))
            }
            DenseStage::Function(_) => Ok(None),
        }
    }

    /// Packs and uploads the weights of `stage`.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where they exceed what the device binds, [`ErrorKind::Config`](crate::ErrorKind::Config) where a weight
    /// cannot be stored.
    pub(crate) async fn new(device: Arc<GpuDevice>, stage: Arc<DenseStage>, precision: Precision) -> Result<Self> {
        let (mut weights, mut vectors) = (Vec::new(), None);
        let spec = DenseSpec::new(&stage, precision);
        let packed = Self::check(&device, &stage, precision)?;
        if let DenseStage::Embedding(embedding) = &*stage {
            let (table, dim) = (embedding.table().as_slice().expect("a table is row-major"), embedding.embedding_dim());
            for panel in spec.weights(&device.profile).panels(embedding.num_embeddings()) {
                let vectors = &table[panel.first * dim..(panel.first + panel.outputs) * dim];
                weights.push(device.filled_buffer("table", bytemuck::cast_slice(vectors)).await?);
            }
        }
        if let Some(packed) = packed {
            for arena in &packed.arenas {
                weights.push(device.filled_buffer("weight", bytemuck::cast_slice(arena)).await?);
            }
            vectors = Some(device.filled_buffer("bias", bytemuck::cast_slice(&packed.vectors)).await?);
        }
        device.still_there()?;
        Ok(Self {
            spec,
            product: None,
            device,
            stage,
            weights,
            vectors,
            buffers: HashMap::new(),
            plans: Vec::new(),
            relayout: Relayout::default(),
            upload: Upload::default(),
            download: Download::default(),
            runs: Runs::default(),
        })
    }

    /// The forms that the product of calls of `rows` rows may have, cheapest by the cost model first.
    pub(crate) fn products(&self, rows: usize) -> Result<Vec<ProductForm>> {
        self.spec.products(rows, &self.device.profile)
    }

    /// Has every product from now on made by `product`, one of [`GpuDense::products`].
    pub(crate) fn set_product(&mut self, product: Option<ProductForm>) {
        self.product = product;
    }

    /// What every product is made by, where that was asked for.
    pub(crate) fn asked_product(&self) -> Option<ProductForm> {
        self.product
    }

    fn product(&self, rows: usize) -> Result<Option<ProductForm>> {
        if self.product.is_some() { Ok(self.product) } else { Ok(self.products(rows)?.first().copied()) }
    }

    /// Bytes of the weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weights.iter().chain(&self.vectors).map(|buffer| buffer.size()).sum()
    }

    /// The plan of a call whose input and result, if not ids, stay on the device, for an `x` of this shape.
    pub(crate) fn plan(&self, x_shape: &[usize]) -> Result<DensePlan> {
        let (rows, features) = rows_of(&self.stage.y_shape(x_shape)?);
        let fit = self.spec.split(rows, features, &self.device.profile)?;
        let request = DenseRequest { rows: fit, features, x_row: 0, given: !matches!(*self.stage, DenseStage::Embedding(_)) };
        Ok(build_dense(&self.spec, request, self.product(rows)?, &self.device.profile))
    }

    /// Whether the result for an `x` of this shape can stay on the device.
    pub(crate) fn fits_on_device(&self, x_shape: &[usize]) -> bool {
        self.stage.y_shape(x_shape).is_ok_and(|y_shape| {
            let (rows, features) = rows_of(&y_shape);
            self.spec.fits_on_device(rows, features, &self.device.profile)
        })
    }

    /// Runs the stage. Without a place `y` for the result it stays on the device, and nothing waits unless the host is too far ahead; with one, it is there
    /// when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where `x` is none that the stage takes, [`ErrorKind::Limit`](crate::ErrorKind::Limit) where a result
    /// cannot stay on the device, as [`GpuDense::fits_on_device`] says.
    pub(crate) async fn run(&mut self, x: DenseInput<'_>, y: Option<ArrayViewMutD<'_, f32>>, wait: Wait) -> Result<Option<DeviceTensor>> {
        let ran = self.run_rows(&x, y, wait).await;
        ran.map_err(|error| self.call_error(error, x.shape()))
    }

    async fn run_rows(&mut self, x: &DenseInput<'_>, y: Option<ArrayViewMutD<'_, f32>>, wait: Wait) -> Result<Option<DeviceTensor>> {
        self.runs.begin();
        let rows = self.rows(x)?;
        if rows.count == 0 || rows.features == 0 {
            if y.is_some() {
                return Ok(None);
            }
            self.grow(BufferId::Rows, 0).await?;
            return Ok(Some(self.runs.tensor(&self.device, &self.buffers[&BufferId::Rows], rows.layout)));
        }
        let (fit, product) = (self.spec.split(rows.count, rows.features, &self.device.profile)?, self.product(rows.count)?);
        let gathered = self.gather(x, &rows).await?;
        let Some(mut y) = y else {
            if fit < rows.count {
                let (need, allowed) = (rows.count as u64 * rows.features as u64 * F32, self.device.profile.max_binding_bytes);
                return Err(beyond_a_binding("a result that stays on the device", need, allowed));
            }
            let prepared = self.run_block(x, &rows, 0..rows.count, gathered, product, None, wait).await?;
            let plan = &self.plans[prepared].plan;
            let layout = rows.layout.with_rows(rows.features, plan.row_stride);
            return Ok(Some(self.runs.tensor(&self.device, &self.buffers[&plan.y], layout)));
        };
        if y.shape() != rows.layout.shape {
            return Err(Error::shape(format!("tensor `y`: expected a place for {:?}, found {:?}", rows.layout.shape, y.shape())));
        }
        // rows come in the order in which they stand on the device
        let mut axes = rows.layout.row_order();
        axes.push(axes.len());
        let mut y = y.view_mut().permuted_axes(IxDyn(&axes));
        for start in (0..rows.count).step_by(fit) {
            let block = start..rows.count.min(start + fit);
            self.run_block(x, &rows, block, gathered, product, Some(&mut y), wait).await?;
        }
        Ok(None)
    }

    /// Which rows a call has.
    fn rows<'a>(&self, x: &DenseInput<'a>) -> Result<Rows<'a>> {
        let x_shape = x.shape();
        match (&*self.stage, x) {
            (DenseStage::Embedding(embedding), DenseInput::Ids(ids)) => embedding.check_ids(ids)?,
            (DenseStage::Embedding(_), _) => return Err(Error::shape("tensor `x`: expected ids, found float32")),
            (_, DenseInput::Ids(_)) => return Err(Error::shape("tensor `x`: expected float32, found ids")),
            _ => {}
        }
        let y_shape = self.stage.y_shape(x_shape)?;
        let (count, features) = rows_of(&y_shape);
        let mut rows = Rows { count, features, given: None, layout: Strided::contiguous(&y_shape) };
        if let DenseInput::Device(x) = *x {
            x.check(&self.device)?;
            if let Some(first) = x.layout().first_row() {
                rows.given = Some((x, first));
                rows.layout = Strided { shape: y_shape, ..x.layout().clone() };
            }
        }
        Ok(rows)
    }

    /// Copies an input on the device whose rows have gaps, or are in no order of axes, to `X`. Whether it did; the copy goes ahead of whatever is
    /// submitted next.
    async fn gather(&mut self, x: &DenseInput<'_>, rows: &Rows<'_>) -> Result<bool> {
        let DenseInput::Device(x) = x else { return Ok(false) };
        if rows.given.is_some() {
            return Ok(false);
        }
        let bytes = x.layout().len() as u64 * F32;
        let allowed = self.device.profile.max_binding_bytes;
        if bytes > allowed {
            return Err(beyond_a_binding("x", bytes, allowed));
        }
        self.grow(BufferId::X, bytes).await?;
        let from = Place { buffer: x.buffer(), layout: x.layout().clone() };
        let to = Place { buffer: &self.buffers[&BufferId::X], layout: Strided::contiguous(x.shape()) };
        self.relayout.prepare(&self.device, &from, &to).await?;
        let mut encoder = self.device.encoder();
        self.relayout.encode(&self.device, &mut encoder, &from, &to)?;
        self.device.submit(encoder).await?;
        Ok(true)
    }

    /// Runs some rows, and brings the result to `y`, if that is given; returns which plan it was.
    #[expect(clippy::too_many_arguments, reason = "all of a call")]
    async fn run_block(
        &mut self,
        x: &DenseInput<'_>,
        rows: &Rows<'_>,
        block: Range<usize>,
        gathered: bool,
        product: Option<ProductForm>,
        y: Option<&mut ArrayViewMutD<'_, f32>>,
        wait: Wait,
    ) -> Result<usize> {
        // rows from the host are uploaded block by block
        let x_row = if gathered { block.start } else { rows.given.map_or(0, |(_, first)| first + block.start) };
        let request = DenseRequest { rows: block.len(), features: rows.features, x_row, given: rows.given.is_some() };
        let given = rows.given.map(|(x, _)| x.buffer());
        let prepared = self.prepare(request, product, given).await?;
        let plan = &self.plans[prepared].plan;
        let (num_submits, y_id, row_stride) = (plan.submits.len(), plan.y, plan.row_stride);
        self.check_sizes(plan, given)?;
        let x_bytes = (block.len() * self.spec.in_features(rows.features)) as u64 * F32;
        let y_bytes = (block.len() * row_stride) as u64 * F32;
        let mut upload = None;
        if !matches!(x, DenseInput::Device(_)) {
            upload = Some(self.upload.take(&self.device, x_bytes, wait).await?);
        }
        let mut download = None;
        if y.is_some() {
            download = Some(self.download.take(&self.device, y_bytes).await?);
        }
        let (mut remap, mut last) = (None, None);
        for number in 0..num_submits {
            let mut encoder = self.device.encoder();
            if let Some(upload) = upload.as_deref().filter(|_| number == 0) {
                let id = write(&self.device, x, upload, block.clone())?;
                encoder.copy_buffer_to_buffer(upload, 0, &self.buffers[&id], 0, x_bytes);
            }
            self.plans[prepared].encode(&mut encoder, number);
            if let Some(download) = download.as_deref().filter(|_| number + 1 == num_submits) {
                encoder.copy_buffer_to_buffer(&self.buffers[&y_id], 0, download, 0, y_bytes);
            }
            let submit = self.device.submit(encoder).await?;
            if number == 0 {
                remap = upload.as_ref().map(|upload| Remap::new(upload, submit.clone()));
            }
            last = Some(submit);
            self.device.keep_up(wait).await?;
        }
        let waits = download.is_some();
        if let (Some(download), Some(y), Some(last)) = (download, y, last) {
            let store = |bytes: &[u8]| store_rows(y, block, &as_floats(bytes), row_stride);
            self.device.read(&download, y_bytes, last, wait, store).await?;
            self.download.put(download);
        }
        if let (Some(upload), Some(remap)) = (upload, remap) {
            self.upload.put(&self.device, upload, remap, waits)?;
        }
        Ok(prepared)
    }

    /// The index of the prepared plan for `request`, on what is `given`, made if it is not there.
    async fn prepare(&mut self, request: DenseRequest, product: Option<ProductForm>, given: Option<&wgpu::Buffer>) -> Result<usize> {
        let fits = |known: &PreparedDense| known.plan.request == request && known.plan.product == product && known.given.as_ref() == given;
        if let Some(found) = self.plans.iter().position(fits) {
            let prepared = self.plans.remove(found);
            self.plans.push(prepared);
            return Ok(self.plans.len() - 1);
        }
        let plan = build_dense(&self.spec, request, product, &self.device.profile);
        for &(id, bytes) in &plan.buffers {
            self.grow(id, bytes).await?;
        }
        // a tensor that is new may take the place of one that is gone, and nobody else would free that; two may take turns
        let is_known = |buffer| self.plans.iter().any(|known| known.given.as_ref() == Some(buffer));
        if let (Some(given), Some(newest)) = (given, self.plans.last().map(|known| known.given.clone()))
            && !is_known(given)
        {
            self.plans.retain(|known| known.given == newest);
        }
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        let mut pipelines = Vec::new();
        for specialisation in &plan.specialisations {
            pipelines.push(self.device.pipeline(specialisation).await?);
        }
        let params = self.device.uniform_buffer("params", &plan.params).await?;
        let buffer = |id| -> &wgpu::Buffer {
            let own = match id {
                BufferId::Weights(arena) => self.weights.get(arena).map(|buffer| &**buffer),
                BufferId::Vectors => self.vectors.as_deref(),
                BufferId::Given => given,
                id => self.buffers.get(&id).map(|buffer| &**buffer),
            };
            own.expect("a plan has the buffers that it binds")
        };
        let make = || plan.bind_groups.iter().map(|group| bind_group(&self.device, group, &params, buffer)).collect();
        let bind_groups = self.device.checked("bind groups", make).await?;
        self.plans.push(PreparedDense { plan, given: given.cloned(), pipelines, bind_groups, _params: params });
        Ok(self.plans.len() - 1)
    }

    /// Checks that every buffer that `plan` runs on is as large as its kernels take it to be. They do not check themselves.
    fn check_sizes(&self, plan: &DensePlan, given: Option<&wgpu::Buffer>) -> Result<()> {
        let DenseRequest { rows, features, x_row, .. } = plan.request;
        let of_x = given.map(|given| (given.size(), ((x_row + rows) * self.spec.in_features(features)) as u64 * F32));
        let own = plan.buffers.iter().map(|(id, bytes)| (self.buffers.get(id).map_or(0, |buffer| buffer.size()), *bytes));
        match own.chain(of_x).find(|(found, need)| found < need) {
            None => Ok(()),
            Some((found, need)) => Err(Error::limit(format!("a buffer of a stage: the plan needs {need} bytes, found {found}"))),
        }
    }

    /// Makes sure that a buffer is there and large enough. One that is replaced takes what is bound to it along.
    async fn grow(&mut self, id: BufferId, bytes: u64) -> Result<()> {
        if self.buffers.get(&id).is_some_and(|buffer| buffer.size() >= bytes) {
            return Ok(());
        }
        self.plans.clear();
        self.relayout.forget();
        self.buffers.remove(&id);
        let buffer = self.device.storage_buffer(&id.name(), bytes).await?;
        self.buffers.insert(id, buffer);
        Ok(())
    }
}

impl PreparedDense {
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, number: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate"), timestamp_writes: None });
        let dispatches = &self.plan.dispatches[self.plan.submits[number].clone()];
        encode(&mut pass, dispatches, (&self.plan.specialisations, &self.pipelines), &self.bind_groups, None);
    }
}

/// Rows of a tensor, and features of each.
fn rows_of(shape: &[usize]) -> (usize, usize) {
    shape.split_last().map_or((1, 1), |(&features, rows)| (rows.iter().product(), features))
}

/// Writes rows `block` of an input from the host; says where they go.
fn write(device: &GpuDevice, x: &DenseInput<'_>, upload: &wgpu::Buffer, block: Range<usize>) -> Result<BufferId> {
    let mut writer = Writer::new(device, upload)?;
    let id = match x {
        DenseInput::Ids(ids) => {
            writer.u32s(ids.iter().skip(block.start).take(block.len()).copied());
            BufferId::Ids
        }
        DenseInput::Host(x) => {
            writer.dense_rows(x, block);
            BufferId::X
        }
        DenseInput::Device(_) => unreachable!("only what is on the host is uploaded"),
    };
    drop(writer);
    upload.unmap();
    Ok(id)
}
