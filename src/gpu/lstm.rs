//! One LSTM stack on the device: weights uploaded once, plans made once for each shape of call.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array3, ArrayView3, s};

use crate::error::{Error, Result};
use crate::gpu::form::{Choice, ScheduleName};
use crate::gpu::pack::{PackedLayout, PackedWeights, pack};
use crate::gpu::plan::{self, BufferId, Cost, Plan, Request, Split};
use crate::gpu::state::{GpuState, StateBlock, write};
use crate::gpu::{GpuDevice, Wait};
use crate::network::{Direction, Lstm, LstmCall, LstmConfig, LstmState, Precision};

/// Shapes of call whose plans are kept.
const MAX_PLANS: usize = 8;

/// Submits that may be under way before the host waits for the first of them.
const MAX_SUBMITS_AHEAD: usize = 3;

const F32: u64 = size_of::<f32>() as u64;

/// How a stack is prepared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GpuOptions {
    /// how weights are stored
    pub(crate) precision: Precision,
    /// the only schedule to consider
    pub(crate) schedule: Option<ScheduleName>,
    /// what to build to, whatever it is expected to cost
    pub(crate) choice: Option<Choice>,
}

/// A stack, ready to run.
pub(crate) struct GpuLstm {
    device: Arc<GpuDevice>,
    config: LstmConfig,
    layout: PackedLayout,
    options: GpuOptions,
    weight_bytes: u64,
    arenas: Vec<wgpu::Buffer>,
    vectors: wgpu::Buffer,
    /// buffers that all plans share, each as large as the largest call so far needed
    buffers: HashMap<BufferId, wgpu::Buffer>,
    /// most recently used last
    plans: Vec<Prepared>,
    /// for results on their way to the host; absent while they are, so that a call that is given up takes a mapped buffer with it
    staging: Option<wgpu::Buffer>,
}

/// A plan with what the device needs to run it.
struct Prepared {
    plan: Plan,
    pipelines: Vec<wgpu::ComputePipeline>,
    bind_groups: Vec<wgpu::BindGroup>,
}

/// What comes back from the device after a segment.
struct Results<'a> {
    y: &'a mut Array3<f32>,
    state: Option<&'a mut LstmState>,
}

impl GpuLstm {
    /// Packs the weights of `lstm`, and sees that the options suit it.
    pub(crate) fn check(device: &GpuDevice, lstm: &Lstm, options: GpuOptions) -> Result<PackedWeights> {
        let packed = pack(lstm, options.precision, device.profile.max_binding_bytes)?;
        match options.schedule.and_then(|name| plan::refusal(name, lstm.config(), &packed.layout, &device.profile)) {
            Some(refusal) => Err(Error::config(refusal.to_string())),
            None => Ok(packed),
        }
    }

    /// Packs and uploads the weights of `lstm`.
    pub(crate) async fn new(device: Arc<GpuDevice>, lstm: &Lstm, options: GpuOptions) -> Result<Self> {
        let packed = Self::check(&device, lstm, options)?;
        let mut arenas = Vec::new();
        for (number, arena) in packed.arenas.iter().enumerate() {
            let bytes: &[u8] = bytemuck::cast_slice(arena);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = device.buffer(&BufferId::Weights(number).name(), bytes.len() as u64, usage).await?;
            device.upload(&buffer, 0, bytes);
            arenas.push(buffer);
        }
        let bytes: &[u8] = bytemuck::cast_slice(&packed.vectors);
        let vectors =
            device.buffer(&BufferId::Vectors.name(), bytes.len() as u64, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST).await?;
        device.upload(&vectors, 0, bytes);
        device.failed()?;
        Ok(Self {
            config: lstm.config().clone(),
            layout: packed.layout.clone(),
            options,
            weight_bytes: packed.bytes(),
            arenas,
            vectors,
            buffers: HashMap::new(),
            plans: Vec::new(),
            staging: None,
            device,
        })
    }

    /// Bytes of the packed weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// How a call would be split.
    pub(crate) fn split(&self, batch: usize, seq_len: usize) -> Result<Split> {
        plan::split(&self.config, batch, seq_len, &self.device.profile)
    }

    /// The plan of one block and segment.
    pub(crate) fn plan(&self, request: Request) -> Plan {
        plan::build(&self.config, &self.layout, request, self.choose(request.batch), &self.device.profile)
    }

    /// What calls of `batch` rows are built to.
    pub(crate) fn choose(&self, batch: usize) -> Choice {
        let ranked = || self.candidates(batch).first().map(|(choice, _)| *choice);
        self.options.choice.or_else(ranked).expect("a schedule that was not refused has candidates")
    }

    /// What calls of `batch` rows could be built to, and what each is expected to cost, cheapest first.
    pub(crate) fn candidates(&self, batch: usize) -> Vec<(Choice, Cost)> {
        plan::ranked(&self.config, &self.layout, batch, self.options.schedule, &self.device.profile)
    }

    /// Bytes of the buffer through which `y` and the final states of a segment come back.
    pub(crate) fn staging_bytes(&self, rows: usize, steps: usize) -> u64 {
        let (h_len, c_len) = plan::state_lens(&self.config, rows);
        (steps * rows * self.config.y_size() + h_len + c_len) as u64 * F32
    }

    /// Zero states for calls of `batch` rows and, if the stack is bidirectional, `seq_len` steps.
    pub(crate) async fn new_state(&self, batch: usize, seq_len: usize) -> Result<GpuState> {
        GpuState::new(&self.device, &self.config, batch, self.split(batch, seq_len)?).await
    }

    /// Puts `values` in the place of the states.
    pub(crate) fn set_state(&self, state: &mut GpuState, values: &LstmState) {
        state.set(&self.device, &self.config, values);
    }

    /// Puts `values`, states of one row, in the place of the states of row `row`.
    pub(crate) fn set_state_row(&self, state: &mut GpuState, row: usize, values: &LstmState) {
        state.set_row(&self.device, &self.config, row, values);
    }

    /// The states as they are now.
    pub(crate) async fn read_state(&mut self, state: &GpuState, wait: Wait) -> Result<LstmState> {
        let mut values = LstmState::zeros(&self.config, state.batch());
        for block in &state.blocks {
            let mut encoder = self.encoder();
            let bytes = block_state_bytes(block, &self.config);
            let staging = self.take_staging(bytes).await?;
            copy_state(&mut encoder, block, &self.config, &staging, 0);
            let index = self.submit(encoder).await?;
            let floats = self.device.read(&staging, bytes, index, wait).await?;
            self.staging = Some(staging);
            store_state(&mut values, block, &self.config, &floats);
        }
        Ok(values)
    }

    /// Runs the stack on the states in `state`, which then holds the final ones; returns `y [T, N, D*R]` and, if wanted, the final states.
    pub(crate) async fn run(
        &mut self,
        call: &LstmCall<'_>,
        state: &mut GpuState,
        want_state: bool,
        wait: Wait,
    ) -> Result<(Array3<f32>, Option<LstmState>)> {
        let (seq_len, batch) = (call.seq_len(), call.batch());
        let mut y = Array3::zeros((seq_len, batch, self.config.y_size()));
        let mut final_state = want_state.then(|| LstmState::zeros(&self.config, batch));
        for block in &mut state.blocks {
            let segments = self.segments(block.rows.len(), seq_len)?;
            let last = segments.len() - 1;
            for (number, steps) in segments.into_iter().enumerate() {
                let state = if number == last { final_state.as_mut() } else { None };
                self.run_segment(call, steps, block, Results { y: &mut y, state }, wait).await?;
            }
        }
        Ok((y, final_state))
    }

    /// Segments of time in the order in which they run: a reverse stack starts with the last one.
    fn segments(&self, rows: usize, seq_len: usize) -> Result<Vec<Range<usize>>> {
        let steps = self.split(rows, seq_len)?.steps;
        let mut segments: Vec<_> = (0..seq_len).step_by(steps).map(|start| start..seq_len.min(start + steps)).collect();
        if self.config.direction == Direction::Reverse {
            segments.reverse();
        }
        Ok(segments)
    }

    async fn run_segment(
        &mut self,
        call: &LstmCall<'_>,
        steps: Range<usize>,
        block: &mut StateBlock,
        results: Results<'_>,
        wait: Wait,
    ) -> Result<()> {
        let rows = block.rows.clone();
        let request = Request { batch: rows.len(), seq_len: steps.len(), ragged: call.sequence_lens.is_some(), start_slot: block.slot };
        let prepared = self.prepare(request).await?;
        let plan = &self.plans[prepared].plan;
        let y_bytes = (steps.len() * rows.len() * self.config.y_size()) as u64 * F32;
        let y_buffer = self.buffers[&plan.y].clone();
        let end_slot = plan.end_slot();
        let state_bytes = if results.state.is_some() { block_state_bytes(block, &self.config) } else { 0 };
        let staging = self.take_staging(y_bytes + state_bytes).await?;

        self.upload(call, &steps, &rows);
        let mut under_way = VecDeque::new();
        let num_submits = self.plans[prepared].plan.submits.len();
        for number in 0..num_submits {
            let mut encoder = self.encoder();
            self.plans[prepared].encode(&mut encoder, number, &block.bind_group);
            if number + 1 == num_submits {
                block.slot = end_slot;
                encoder.copy_buffer_to_buffer(&y_buffer, 0, &staging, 0, y_bytes);
                if state_bytes > 0 {
                    copy_state(&mut encoder, block, &self.config, &staging, y_bytes);
                }
            }
            under_way.push_back(self.submit(encoder).await?);
            if under_way.len() > MAX_SUBMITS_AHEAD
                && let Some(index) = under_way.pop_front()
            {
                self.device.wait(index, wait).await?;
            }
        }
        let Some(index) = under_way.pop_back() else { return Ok(()) };
        let floats = self.device.read(&staging, y_bytes + state_bytes, index, wait).await?;
        self.staging = Some(staging);
        let (y, state) = floats.split_at((y_bytes / F32) as usize);
        let y = ArrayView3::from_shape((steps.len(), rows.len(), self.config.y_size()), y).expect("the copy has the size of y");
        results.y.slice_mut(s![steps, rows, ..]).assign(&y);
        if let Some(values) = results.state {
            store_state(values, block, &self.config, state);
        }
        Ok(())
    }

    /// Queues the inputs of a segment, to be written before the next submit.
    fn upload(&self, call: &LstmCall<'_>, steps: &Range<usize>, rows: &Range<usize>) {
        write(&self.device, &self.buffers[&BufferId::X], 0, &call.x.slice(s![steps.clone(), rows.clone(), ..]));
        if let Some(lens) = &call.sequence_lens {
            // a length counts from the start of the call, a segment's steps from its own
            let lens: Vec<u32> = lens[rows.clone()].iter().map(|&len| len.saturating_sub(steps.start as u32).min(steps.len() as u32)).collect();
            self.device.queue.write_buffer(&self.buffers[&BufferId::Lens], 0, bytemuck::cast_slice(&lens));
        }
    }

    async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.device.checked("submit", || self.device.queue.submit([encoder.finish()])).await
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("cellgate") })
    }

    /// Takes the buffer for results, at least `bytes` long; it is put back when they are read.
    async fn take_staging(&mut self, bytes: u64) -> Result<wgpu::Buffer> {
        match self.staging.take() {
            Some(staging) if staging.size() >= bytes => Ok(staging),
            _ => self.device.buffer("staging", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST).await,
        }
    }

    /// The index of the prepared plan for `request`, made if it is not there.
    async fn prepare(&mut self, request: Request) -> Result<usize> {
        if let Some(found) = self.plans.iter().position(|prepared| prepared.plan.request == request) {
            let prepared = self.plans.remove(found);
            self.plans.push(prepared);
            return Ok(self.plans.len() - 1);
        }
        let plan = self.plan(request);
        self.grow_buffers(&plan).await?;
        let mut pipelines = Vec::new();
        for specialisation in &plan.specialisations {
            pipelines.push(self.device.pipeline(specialisation).await?);
        }
        let params = self.device.buffer("params", plan.params.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST).await?;
        self.device.queue.write_buffer(&params, 0, &plan.params);
        let bind_groups =
            self.device.checked("bind groups", || plan.bind_groups.iter().map(|group| self.bind_group(group, &params)).collect()).await?;
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(Prepared { plan, pipelines, bind_groups });
        Ok(self.plans.len() - 1)
    }

    /// Makes sure that every buffer of `plan` is there and large enough. A buffer that is replaced takes the plans bound to it along.
    async fn grow_buffers(&mut self, plan: &Plan) -> Result<()> {
        for &(id, bytes) in &plan.buffers {
            let own_place = matches!(id, BufferId::State | BufferId::Params | BufferId::Weights(_) | BufferId::Vectors);
            if own_place || self.buffers.get(&id).is_some_and(|buffer| buffer.size() >= bytes) {
                continue;
            }
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let buffer = self.device.buffer(&id.name(), bytes, usage).await?;
            if cfg!(debug_assertions) {
                // wgpu hands out zeros, which hide that a kernel reads what none has written; NaN does not
                self.device.fill(&buffer, 0..bytes, f32::NAN);
            }
            self.buffers.insert(id, buffer);
            self.plans.clear();
        }
        Ok(())
    }

    fn bind_group(&self, group: &plan::BindGroup, params: &wgpu::Buffer) -> wgpu::BindGroup {
        let kernel = group.kernel.kernel();
        let uniform = wgpu::BufferBinding { buffer: params, offset: 0, size: std::num::NonZeroU64::new(kernel.params_size as u64) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
        let own = kernel.bindings.iter().filter(|binding| binding.group == 0);
        for (binding, id) in own.zip(&group.buffers) {
            let buffer = match id {
                BufferId::Weights(arena) => &self.arenas[*arena],
                BufferId::Vectors => &self.vectors,
                id => &self.buffers[id],
            };
            entries.push(wgpu::BindGroupEntry { binding: binding.binding, resource: buffer.as_entire_binding() });
        }
        self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: self.device.layout(group.kernel),
            entries: &entries,
        })
    }
}

impl Prepared {
    /// Encodes submit `number` as one compute pass.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, number: usize, state: &wgpu::BindGroup) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate"), timestamp_writes: None });
        let mut pipeline = None;
        for dispatch in &self.plan.dispatches[self.plan.submits[number].clone()] {
            if pipeline != Some(dispatch.specialisation) {
                pass.set_pipeline(&self.pipelines[dispatch.specialisation]);
                // the state stays bound for all dispatches of a pipeline
                if self.plan.specialisations[dispatch.specialisation].kernel.kernel().reads_state() {
                    pass.set_bind_group(1, state, &[]);
                }
                pipeline = Some(dispatch.specialisation);
            }
            pass.set_bind_group(0, &self.bind_groups[dispatch.bind_group], &[dispatch.params_offset]);
            let [x, y, z] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

fn block_state_bytes(block: &StateBlock, config: &LstmConfig) -> u64 {
    let ranges = block.ranges(config);
    (ranges.h.end - ranges.h.start) + (ranges.c.end - ranges.c.start)
}

/// Copies the present `h` and `c` of a block to `staging` from byte `offset` on.
fn copy_state(encoder: &mut wgpu::CommandEncoder, block: &StateBlock, config: &LstmConfig, staging: &wgpu::Buffer, offset: u64) {
    let ranges = block.ranges(config);
    let h_bytes = ranges.h.end - ranges.h.start;
    encoder.copy_buffer_to_buffer(&block.buffer, ranges.h.start, staging, offset, h_bytes);
    encoder.copy_buffer_to_buffer(&block.buffer, ranges.c.start, staging, offset + h_bytes, ranges.c.end - ranges.c.start);
}

/// Puts what [`copy_state`] copied into the rows of the block.
fn store_state(values: &mut LstmState, block: &StateBlock, config: &LstmConfig, floats: &[f32]) {
    let (cells, rows) = (config.num_cells(), block.rows.len());
    let (h, c) = floats.split_at(cells * rows * config.out_size());
    for (array, part, size) in [(&mut values.h, h, config.out_size()), (&mut values.c, c, config.hidden_size)] {
        let part = ArrayView3::from_shape((cells, rows, size), part).expect("the copy has the size of the states");
        array.slice_mut(s![.., block.rows.clone(), ..]).assign(&part);
    }
}
