//! What the device will do for a stage around the LSTMs: a lookup, a linear layer with a function of its rows, or such a function alone.
//!
//! ```text
//! embedding   a dispatch:              embed
//! linear      every block of rows:     input_gates, with four outputs a quad instead of four gates   [row_activation or softmax]
//! function    a dispatch:              row_activation or softmax
//! ```

mod spec;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytemuck::Pod;

pub use spec::{DenseKind, DenseSpec};

use crate::gpu::form::ProductForm;
use crate::gpu::kernels::{EmbedParams, InputGatesParams, KernelId, RowFunctionParams};
use crate::gpu::pack::VEC4_BYTES;
use crate::gpu::plan::build::{GATES_BYTES, cut, grid, params_stride, to_u32};
use crate::gpu::plan::dense::spec::softmax_form;
use crate::gpu::plan::{BindGroup, BufferId, DeviceProfile, Dispatch};
use crate::gpu::specialise::{Form, Shape, Specialisation, WORKGROUP_SIZE};
use crate::network::{GATES, LstmConfig, RowFunction};

const F32: u64 = size_of::<f32>() as u64;

/// What a plan of a stage is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DenseRequest {
    /// rows of features, or ids
    pub rows: usize,
    /// features of a row of the result
    pub features: usize,
    /// first row in the buffer that holds the input
    pub x_row: usize,
    /// the input is a tensor of another stage, where that stage has it
    pub given: bool,
}

/// What the device will do.
#[derive(Clone, Debug, PartialEq)]
pub struct DensePlan {
    /// what it is for
    pub request: DenseRequest,
    /// how a product is made, where there is one
    pub product: Option<ProductForm>,
    /// everything that is dispatched, in order
    pub dispatches: Vec<Dispatch>,
    /// which dispatches go into which submit
    pub submits: Vec<Range<usize>>,
    /// uniforms of all dispatches
    pub params: Vec<u8>,
    /// pipelines that it needs
    pub specialisations: Vec<Specialisation>,
    /// bind groups that it needs
    pub bind_groups: Vec<BindGroup>,
    /// buffers beside the weights, the uniforms and what is given, and their bytes
    pub buffers: Vec<(BufferId, u64)>,
    /// where the result is at the end, from its first float on
    pub y: BufferId,
    /// floats from row to row of the result
    pub row_stride: usize,
}

/// The plan for `request`, which must fit the device, as [`DenseSpec::split`] sees to, with one of the products of [`DenseSpec::products`].
///
/// # Panics
/// If an index into a buffer does not fit 32 bits, which cannot happen to a request that fits.
pub fn build_dense(spec: &DenseSpec, request: DenseRequest, product: Option<ProductForm>, profile: &DeviceProfile) -> DensePlan {
    let plan = DensePlan {
        request,
        product,
        dispatches: Vec::new(),
        submits: Vec::new(),
        params: Vec::new(),
        specialisations: Vec::new(),
        bind_groups: Vec::new(),
        buffers: Vec::new(),
        y: if spec.leaves_quads() { BufferId::GatesX } else { BufferId::Rows },
        row_stride: spec.row_stride(request.features),
    };
    let mut builder = Builder { spec, request, profile, plan };
    match (spec.kind, product, spec.as_stack()) {
        (DenseKind::Embedding { num_embeddings, embedding_dim }, ..) => builder.embed(num_embeddings, embedding_dim),
        (DenseKind::Linear { .. }, Some(form), Some(stack)) => builder.linear(form, &stack),
        _ => builder.function_alone(),
    }
    let (request, mut plan) = (builder.request, builder.plan);
    let floats = |count: usize| count as u64 * F32;
    if !request.given {
        let id = if matches!(spec.kind, DenseKind::Embedding { .. }) { BufferId::Ids } else { BufferId::X };
        plan.buffers.push((id, floats((request.x_row + request.rows) * spec.in_features(request.features))));
    }
    plan.buffers.push((plan.y, floats(request.rows * plan.row_stride)));
    plan.submits = cut(&plan.dispatches, 1.0, profile);
    plan
}

struct Builder<'a> {
    spec: &'a DenseSpec,
    request: DenseRequest,
    profile: &'a DeviceProfile,
    plan: DensePlan,
}

/// How much a dispatch does.
struct Work {
    workgroups: [u32; 3],
    flops: u64,
    bytes: u64,
}

impl Builder<'_> {
    fn x(&self) -> BufferId {
        if self.request.given { BufferId::Given } else { BufferId::X }
    }

    /// Rows, in blocks that each keep a submit below its time, of so many bytes each.
    fn blocks(&self, row_bytes: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let bytes = self.profile.bytes_per_second * self.profile.seconds_per_submit;
        blocks(self.request.rows, (bytes / row_bytes as f64) as usize)
    }

    fn embed(&mut self, num_embeddings: usize, embedding_dim: usize) {
        let table = self.spec.weights(self.profile);
        for rows in self.blocks(2 * embedding_dim * size_of::<f32>()) {
            let (workgroups, span) = grid((rows.len() * embedding_dim).div_ceil(WORKGROUP_SIZE as usize), WORKGROUP_SIZE, self.profile);
            let params = EmbedParams {
                num_rows: to_u32(rows.len()),
                embedding_dim: to_u32(embedding_dim),
                num_embeddings: to_u32(num_embeddings),
                first_row: to_u32(rows.start),
                span,
                ..EmbedParams::default()
            };
            for panel in table.panels(num_embeddings) {
                let (first_embedding, panel_embeddings) = (to_u32(panel.first), to_u32(panel.outputs));
                let params = EmbedParams { first_embedding, panel_embeddings, ..params };
                let work = Work { workgroups, flops: 0, bytes: (rows.len() * (1 + 2 * embedding_dim)) as u64 * F32 };
                let buffers = vec![BufferId::Weights(panel.arena), BufferId::Ids, BufferId::Rows];
                self.dispatch(KernelId::Embed, Form::Only, buffers, &params, work);
            }
        }
    }

    /// The product, and the function of its rows, block by block: a block's quads need not outlive it.
    fn linear(&mut self, form: ProductForm, stack: &LstmConfig) {
        let (inputs, outputs) = (stack.input_size, stack.hidden_size);
        let (group_rows, group_outputs) = form.group();
        let row_flops = 2 * GATES * inputs * outputs;
        let by_time = (self.profile.flops_per_submit() / row_flops as f64) as usize;
        let by_memory = GATES_BYTES.min(self.profile.max_binding_bytes) / (outputs as u64 * VEC4_BYTES);
        let by_memory = if self.spec.leaves_quads() { usize::MAX } else { usize::try_from(by_memory).unwrap_or(usize::MAX) };
        let by_grid = self.profile.max_workgroups as usize * group_rows as usize;
        let most = by_time.min(by_memory).min(by_grid);
        // whole groups of rows, unless not even one of them is allowed
        let most = if most > group_rows as usize { most - most % group_rows as usize } else { most };
        let mut largest = 0;
        for rows in blocks(self.request.rows, most) {
            let first = if self.spec.leaves_quads() { rows.start } else { 0 };
            let params = InputGatesParams {
                num_rows: to_u32(rows.len()),
                batch: to_u32(rows.len()),
                input_size: to_u32(inputs),
                hidden_size: to_u32(outputs),
                vectors_slot: to_u32(outputs),
                x_row: to_u32(self.request.x_row + rows.start),
                gates_base: to_u32(first * outputs),
                ..InputGatesParams::default()
            };
            for panel in self.spec.weights(self.profile).panels(outputs) {
                let quads = panel.outputs;
                let params = InputGatesParams { first_output: to_u32(panel.first), num_outputs: to_u32(quads), ..params };
                let work = Work {
                    workgroups: [to_u32(quads.div_ceil(group_outputs as usize)), to_u32(rows.len().div_ceil(group_rows as usize)), 1],
                    flops: (2 * GATES * inputs * quads * rows.len()) as u64,
                    bytes: (rows.len() * (inputs + 4 * quads)) as u64 * F32 + (4 * inputs * quads * self.spec.precision.weight_bytes()) as u64,
                };
                // no row has a length of its own: what stands for the lengths is not read
                let buffers = vec![BufferId::Weights(panel.arena), BufferId::Vectors, self.x(), BufferId::Vectors, BufferId::GatesX];
                self.dispatch(KernelId::input_gates(form), Form::Product(form), buffers, &params, work);
            }
            if !self.spec.leaves_quads() {
                largest = largest.max(rows.len());
                self.function(BufferId::GatesX, 4 * outputs, 0, rows);
            }
        }
        if largest > 0 {
            self.plan.buffers.push((BufferId::GatesX, (largest * outputs) as u64 * VEC4_BYTES));
        }
    }

    fn function_alone(&mut self) {
        let (features, first) = (self.request.features, self.request.x_row);
        for rows in self.blocks(2 * features * size_of::<f32>()) {
            self.function(self.x(), features, (first + rows.start) * features, rows);
        }
    }

    /// The function of `rows` of the result, from `x`, whose first row of them starts at float `x_base`.
    fn function(&mut self, x: BufferId, x_stride: usize, x_base: usize, rows: Range<usize>) {
        let features = self.request.features;
        let (kernel, form, workgroup_size, threads) = match self.spec.function {
            RowFunction::Softmax | RowFunction::LogSoftmax => {
                let form = softmax_form(features, self.profile);
                (KernelId::Softmax, Form::Softmax(form), form.workgroup_size, rows.len() * form.lanes as usize)
            }
            RowFunction::None | RowFunction::Activation(_) => (KernelId::RowActivation, Form::Only, WORKGROUP_SIZE, rows.len() * features),
        };
        let (workgroups, span) = grid(threads.div_ceil(workgroup_size as usize), workgroup_size, self.profile);
        let params = RowFunctionParams {
            num_rows: to_u32(rows.len()),
            features: to_u32(features),
            x_base: to_u32(x_base),
            x_stride: to_u32(x_stride),
            first_row: to_u32(rows.start),
            span,
            ..RowFunctionParams::default()
        };
        let work = Work { workgroups, flops: 0, bytes: (2 * rows.len() * features) as u64 * F32 };
        self.dispatch(kernel, form, vec![x, BufferId::Rows], &params, work);
    }

    fn dispatch(&mut self, kernel: KernelId, form: Form, buffers: Vec<BufferId>, params: &impl Pod, work: Work) {
        let plan = &mut self.plan;
        let place = |found: Option<usize>, len: usize| found.unwrap_or(len);
        let specialisation = place(plan.specialisations.iter().position(|known| known.kernel == kernel), plan.specialisations.len());
        if specialisation == plan.specialisations.len() {
            let stack = self.spec.as_stack().unwrap_or_else(|| LstmConfig::new(1, 1));
            let shape = Shape { precision: self.spec.precision, function: self.spec.function, ..Shape::default() };
            plan.specialisations.push(Specialisation::new(kernel, form, &stack, shape));
        }
        let group = BindGroup { kernel, buffers };
        let bind_group = place(plan.bind_groups.iter().position(|known| *known == group), plan.bind_groups.len());
        if bind_group == plan.bind_groups.len() {
            plan.bind_groups.push(group);
        }
        let params_offset = to_u32(plan.params.len());
        plan.params.extend_from_slice(bytemuck::bytes_of(params));
        plan.params.resize(params_offset as usize + params_stride(self.profile), 0);
        let Work { workgroups, flops, bytes } = work;
        plan.dispatches.push(Dispatch { specialisation, bind_group, params_offset, workgroups, layer: 0, flops, bytes });
    }
}

/// `rows` in even blocks of at most `most`, one at least.
fn blocks(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let block = most.clamp(1, rows.max(1));
    (0..rows).step_by(block).map(move |start| start..rows.min(start + block))
}

impl DensePlan {
    /// Multiplications and additions of all dispatches.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.flops).sum()
    }

    /// Bytes that all dispatches read and write.
    pub fn bytes(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.bytes).sum()
    }

    /// Bytes of all buffers beside the weights, the uniforms among them.
    pub fn buffer_bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.params.len() as u64
    }

    /// How often each kernel is dispatched, in the order of first use.
    pub fn counts(&self) -> Vec<(KernelId, usize)> {
        let of = |place: usize| self.dispatches.iter().filter(|dispatch| dispatch.specialisation == place).count();
        self.specialisations.iter().enumerate().map(|(place, specialisation)| (specialisation.kernel, of(place))).collect()
    }
}
