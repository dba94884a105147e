//! One LSTM stack on the device: its weights, uploaded once, its buffers and plans, and the states that calls go through. `call` runs it. What calls
//! would do, and are expected to cost, is known before the weights are there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::form::{Choice, ScheduleName};
use crate::gpu::pack::{PackedLayout, PackedWeights, pack};
use crate::gpu::plan::{self, BufferId, Cost, Plan, Request, Split};
use crate::gpu::prepared::Prepared;
use crate::gpu::relayout::Relayout;
use crate::gpu::state::GpuState;
use crate::gpu::tensor::Runs;
use crate::gpu::timer::Timer;
use crate::gpu::transfer::{Download, Upload, as_floats, store_state};
use crate::gpu::{GpuDevice, Wait};
use crate::measure::CallProfile;
use crate::network::{Lstm, LstmConfig, LstmState, Precision};

const F32: u64 = size_of::<f32>() as u64;

/// How a stack is prepared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GpuOptions {
    /// how weights are stored
    pub(crate) precision: Precision,
    /// the only schedule to consider
    pub(crate) schedule: Option<ScheduleName>,
    /// whether calls are timed by the device as well
    pub(crate) profile: bool,
    /// what the stack will be built to, if that is known
    pub(crate) choice: Option<Choice>,
}

/// A stack, ready to run.
pub(crate) struct GpuLstm {
    pub(super) config: LstmConfig,
    layout: PackedLayout,
    pub(super) options: GpuOptions,
    weight_bytes: u64,
    /// absent until they are uploaded
    weights: Option<Weights>,
    /// buffers that all plans share, each as large as the largest call so far needed
    pub(super) buffers: HashMap<BufferId, DeviceBuffer>,
    /// most recently used last
    pub(super) plans: Vec<Prepared>,
    pub(super) upload: Upload,
    pub(super) download: Download,
    /// absent where nobody asks, or the device has no timestamps
    pub(super) timer: Option<Timer>,
    /// of the calls since it was reset
    pub(super) profile: CallProfile,
    /// which row of the call each row on the device is, for the call that is under way
    pub(super) order: Vec<usize>,
    /// copies of inputs and results that stay on the device
    pub(super) relayout: Relayout,
    /// what of these a tensor is from
    pub(super) runs: Runs,
    /// goes last
    pub(super) device: Arc<GpuDevice>,
}

/// The packed weights on the device.
struct Weights {
    arenas: Vec<DeviceBuffer>,
    vectors: DeviceBuffer,
}

impl GpuLstm {
    /// Packs the weights of `lstm`, and sees that the options suit it.
    pub(crate) fn check(device: &GpuDevice, lstm: &Lstm, options: GpuOptions) -> Result<PackedWeights> {
        let packed = pack(lstm, options.precision, device.profile.max_binding_bytes)?;
        let refusal = options.schedule.and_then(|name| plan::refusal(name, lstm.config(), &packed.layout, &device.profile));
        let misfit = || options.choice.and_then(|choice| plan::misfit(choice, lstm.config(), &packed.layout, &device.profile));
        match refusal.or_else(misfit) {
            Some(refusal) => Err(Error::config(refusal.to_string())),
            None => Ok(packed),
        }
    }

    /// The stack without its weights, which [`GpuLstm::upload`] takes: as [`GpuLstm::check`] packs them.
    pub(crate) fn new(device: Arc<GpuDevice>, lstm: &Lstm, options: GpuOptions) -> Result<(Self, PackedWeights)> {
        let packed = Self::check(&device, lstm, options)?;
        let stack = Self {
            config: lstm.config().clone(),
            layout: packed.layout.clone(),
            options,
            weight_bytes: packed.bytes(),
            weights: None,
            buffers: HashMap::new(),
            plans: Vec::new(),
            upload: Upload::default(),
            download: Download::default(),
            timer: options.profile.then(|| Timer::new(&device)).flatten(),
            profile: CallProfile::default(),
            order: Vec::new(),
            relayout: Relayout::default(),
            runs: Runs::default(),
            device,
        };
        Ok((stack, packed))
    }

    /// Puts the weights on the device, where they are from then on.
    pub(crate) async fn upload(&mut self, packed: &PackedWeights) -> Result<()> {
        self.weights = Some(self.uploaded(packed).await.map_err(|error| self.weights_error(error, packed))?);
        Ok(())
    }

    async fn uploaded(&self, packed: &PackedWeights) -> Result<Weights> {
        let mut arenas = Vec::new();
        for (number, arena) in packed.arenas.iter().enumerate() {
            arenas.push(self.device.filled_buffer(&BufferId::Weights(number).name(), bytemuck::cast_slice(arena)).await?);
        }
        let vectors = self.device.filled_buffer(&BufferId::Vectors.name(), bytemuck::cast_slice(&packed.vectors)).await?;
        self.device.still_there()?;
        Ok(Weights { arenas, vectors })
    }

    /// Packs and uploads the weights of `lstm`, which this was made of, unless they are there.
    pub(crate) async fn ensure_uploaded(&mut self, lstm: &Lstm) -> Result<()> {
        if self.weights.is_some() {
            return Ok(());
        }
        let packed = Self::check(&self.device, lstm, self.options)?;
        self.upload(&packed).await
    }

    /// The device that it is on.
    pub(crate) fn device(&self) -> &Arc<GpuDevice> {
        &self.device
    }

    /// Whether the weights are on the device.
    pub(crate) fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// The buffer of weights that a plan calls `id`; `None` where that is another buffer.
    pub(super) fn weight_buffer(&self, id: BufferId) -> Option<&DeviceBuffer> {
        let weights = || self.weights.as_ref().expect("weights are uploaded before a call is prepared");
        match id {
            BufferId::Weights(arena) => Some(&weights().arenas[arena]),
            BufferId::Vectors => Some(&weights().vectors),
            _ => None,
        }
    }

    /// Forgets what calls took so far.
    pub(crate) fn reset_profile(&mut self) {
        self.profile = CallProfile { device: self.timer.is_some().then_some(Duration::ZERO), ..CallProfile::default() };
    }

    /// What calls took since [`GpuLstm::reset_profile`].
    pub(crate) fn profile(&self) -> CallProfile {
        self.profile
    }

    /// Bytes of the packed weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// How a call would be split.
    pub(crate) fn split(&self, batch: usize, seq_len: usize) -> Result<Split> {
        plan::split(&self.config, batch, seq_len, &self.device.profile)
    }

    /// Whether a block of `rows` rows runs so many steps in one segment.
    pub(crate) fn is_one_segment(&self, rows: usize, seq_len: usize) -> bool {
        plan::is_one_segment(&self.config, rows, seq_len, &self.device.profile)
    }

    /// The plan of one block and segment.
    pub(crate) fn plan(&self, request: Request, choice: Choice) -> Plan {
        plan::build(&self.config, &self.layout, request, choice, &self.device.profile)
    }

    pub(crate) fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// The schedules that do not suit, and why.
    pub(crate) fn refusals(&self) -> Vec<(ScheduleName, String)> {
        let refusal = |name| plan::refusal(name, &self.config, &self.layout, &self.device.profile);
        ScheduleName::ALL.into_iter().filter_map(|name| Some((name, refusal(name)?.to_string()))).collect()
    }

    /// What calls of `batch` rows and `seq_len` steps that are built to `choice` are expected to cost.
    pub(crate) fn predict(&self, batch: usize, seq_len: usize, choice: Choice) -> Cost {
        plan::cost(&self.config, self.layout.precision, batch, seq_len, choice, &self.device.profile)
    }

    /// What a whole call of one block and segment is expected to take: as [`GpuLstm::predict`], with its tensors on the host before and after.
    pub(crate) fn predict_call(&self, batch: usize, seq_len: usize, choice: Choice) -> f64 {
        let bytes = self.upload_bytes(batch, seq_len) + self.download_bytes(batch, seq_len);
        self.predict(batch, seq_len, choice).seconds() + self.device.profile.model.transfer_seconds(bytes)
    }

    /// How long a typical device of this kind takes at least to do so much arithmetic and move so many bytes.
    pub(crate) fn floor_seconds(&self, flops: u64, bytes: u64) -> f64 {
        let model = &self.device.profile.model;
        (flops as f64 / (model.units * model.unit_flops)).max(bytes as f64 / model.shared_bytes)
    }

    /// Forgets the plans, whose bind groups and uniforms take memory.
    pub(crate) fn forget_plans(&mut self) {
        self.plans.clear();
    }

    /// What calls of `batch` rows could be built to, and what each is expected to cost, cheapest first.
    pub(crate) fn candidates(&self, batch: usize) -> Vec<(Choice, Cost)> {
        plan::ranked(&self.config, &self.layout, batch, self.options.schedule, &self.device.profile)
    }

    /// Bytes of the buffer in which the inputs of a segment go to the device, initial states included.
    pub(crate) fn upload_bytes(&self, rows: usize, steps: usize) -> u64 {
        let (h_len, c_len) = plan::state_lens(&self.config, rows);
        (steps * rows * self.config.input_size + rows + h_len + c_len) as u64 * F32
    }

    /// Bytes of the buffer through which `y` and the final states of a segment come back.
    pub(crate) fn download_bytes(&self, rows: usize, steps: usize) -> u64 {
        let (h_len, c_len) = plan::state_lens(&self.config, rows);
        (steps * rows * self.config.y_size() + h_len + c_len) as u64 * F32
    }

    /// Zero states for calls of `batch` rows and, if the stack is bidirectional, `seq_len` steps, each block of rows for calls that are built
    /// to what `choose` says.
    pub(crate) async fn new_state(&self, batch: usize, seq_len: usize, choose: impl Fn(usize) -> Choice) -> Result<GpuState> {
        let made = GpuState::new(&self.device, &self.config, batch, self.split(batch, seq_len)?, &choose).await;
        made.map_err(|error| self.call_error(error, [batch, seq_len], choose))
    }

    /// Puts `values` in the place of the states.
    pub(crate) async fn set_state(&self, state: &mut GpuState, values: &LstmState) -> Result<()> {
        state.set(&self.device, &self.config, values).await
    }

    /// Puts `values`, states of one row, in the place of the states of row `row`.
    pub(crate) async fn set_state_row(&self, state: &mut GpuState, row: usize, values: &LstmState) -> Result<()> {
        state.set_row(&self.device, &self.config, row, values).await
    }

    /// The states as they are now.
    pub(crate) async fn read_state(&mut self, state: &GpuState, wait: Wait) -> Result<LstmState> {
        let mut values = LstmState::zeros(&self.config, state.batch());
        for block in &state.blocks {
            let mut encoder = self.device.encoder();
            let ranges = block.ranges(&self.config);
            let (h_bytes, bytes) = (ranges.h.end - ranges.h.start, ranges.bytes());
            let staging = self.download.take(&self.device, bytes).await?;
            encoder.copy_buffer_to_buffer(&block.buffer, ranges.h.start, &staging, 0, h_bytes);
            encoder.copy_buffer_to_buffer(&block.buffer, ranges.c.start, &staging, h_bytes, bytes - h_bytes);
            let submit = self.device.submit(encoder).await?;
            let rows: Vec<usize> = block.rows.clone().collect();
            let store = |bytes: &[u8]| {
                let floats = as_floats(bytes);
                let (h, c) = floats.split_at((h_bytes / F32) as usize);
                store_state(values.h.view_mut(), &rows, h);
                store_state(values.c.view_mut(), &rows, c);
            };
            self.device.read(&staging, bytes, submit, wait, store).await?;
            self.download.put(staging);
        }
        Ok(values)
    }
}
