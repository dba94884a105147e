//! Hidden and cell states that stay on the device.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayView3, s};

use crate::error::Result;
use crate::gpu::GpuDevice;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::form::Choice;
use crate::gpu::plan::{BufferId, Split};
use crate::network::{LstmConfig, LstmState};

/// The states of a batch, in blocks of rows that a plan can run at once.
pub(crate) struct GpuState {
    pub(crate) blocks: Vec<StateBlock>,
    /// goes last
    device: Arc<GpuDevice>,
}

/// The states of some rows: one buffer `h [2, L*D, N, R]`, `c [L*D, N, H]`. The two slots of `h` take turns, step by step.
pub(crate) struct StateBlock {
    pub(crate) rows: Range<usize>,
    pub(crate) buffer: DeviceBuffer,
    pub(crate) bind_group: wgpu::BindGroup,
    /// which slot of `h` holds the present state
    pub(crate) slot: usize,
    /// what every call on it is built to: as long as a state lives, the order of its sums stays
    pub(crate) choice: Choice,
    /// whether the call that is under way, or the last one, gave the device anything that moves the state
    pub(crate) moved: bool,
}

/// Byte ranges of a block's buffer.
pub(crate) struct StateRanges {
    /// `h`, present slot
    pub(crate) h: Range<u64>,
    pub(crate) c: Range<u64>,
}

impl StateRanges {
    /// Bytes of both together.
    pub(crate) fn bytes(&self) -> u64 {
        (self.h.end - self.h.start) + (self.c.end - self.c.start)
    }
}

const F32: u64 = size_of::<f32>() as u64;

impl GpuState {
    /// Zero states for `batch` rows, in the blocks of `split`, each for calls that are built to what `choose` says of its number of rows.
    pub(crate) async fn new(
        device: &Arc<GpuDevice>,
        config: &LstmConfig,
        batch: usize,
        split: Split,
        choose: impl Fn(usize) -> Choice,
    ) -> Result<Self> {
        let mut blocks = Vec::new();
        for start in (0..batch).step_by(split.rows) {
            let rows = start..batch.min(start + split.rows);
            let (h_len, c_len) = super::plan::state_lens(config, rows.len());
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let buffer = device.buffer(&BufferId::State.name(), (2 * h_len + c_len) as u64 * F32, usage).await?;
            if cfg!(debug_assertions) {
                // the slot that the first step writes: nothing may read it before
                device.fill(&BufferId::State.name(), &buffer, h_len as u64 * F32..2 * h_len as u64 * F32, f32::NAN).await?;
            }
            let entries = [wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
            let descriptor = wgpu::BindGroupDescriptor { label: Some("cellgate.state"), layout: &device.state_layout, entries: &entries };
            let bind_group = device.checked("bind group of states", || device.bind_group(&descriptor)).await?;
            let choice = choose(rows.len());
            blocks.push(StateBlock { rows, buffer, bind_group, slot: 0, choice, moved: false });
        }
        Ok(Self { device: Arc::clone(device), blocks })
    }

    /// Whether it is on `device`.
    pub(crate) fn is_on(&self, device: &Arc<GpuDevice>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// What calls on its blocks of `rows` rows are built to.
    pub(crate) fn choice(&self, rows: usize) -> Choice {
        let block = self.blocks.iter().find(|block| block.rows.len() == rows).or(self.blocks.first());
        block.expect("a state has a block").choice
    }

    /// A call begins, and has moved nothing.
    pub(crate) fn begin(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.moved = false);
    }

    /// Whether the call that began last gave the device anything that moves the states.
    pub(crate) fn has_moved(&self) -> bool {
        self.blocks.iter().any(|block| block.moved)
    }

    /// Rows of all blocks.
    pub(crate) fn batch(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.rows.end)
    }

    /// Writes `state` to the device. After an error, some of it may be written.
    pub(crate) async fn set(&mut self, device: &GpuDevice, config: &LstmConfig, state: &LstmState) -> Result<()> {
        let write_all = || {
            for block in &mut self.blocks {
                block.slot = 0;
                let ranges = block.ranges(config);
                let rows = |array: &ndarray::Array3<f32>| array.slice(s![.., block.rows.clone(), ..]).to_owned();
                write(device, &block.buffer, ranges.h.start, &rows(&state.h).view());
                write(device, &block.buffer, ranges.c.start, &rows(&state.c).view());
            }
        };
        device.checked("writing states", write_all).await?;
        device.still_there()
    }

    /// Writes the state of row `row`: `h [L*D, 1, R]`, `c [L*D, 1, H]`. After an error, some of it may be written.
    pub(crate) async fn set_row(&mut self, device: &GpuDevice, config: &LstmConfig, row: usize, state: &LstmState) -> Result<()> {
        let Some(block) = self.blocks.iter().find(|block| block.rows.contains(&row)) else { return Ok(()) };
        let (ranges, local, rows) = (block.ranges(config), row - block.rows.start, block.rows.len());
        let write_all = || {
            for cell in 0..config.num_cells() {
                let place = |size: usize| ((cell * rows + local) * size) as u64 * F32;
                let part = s![cell..=cell, .., ..];
                write(device, &block.buffer, ranges.h.start + place(config.out_size()), &state.h.slice(part));
                write(device, &block.buffer, ranges.c.start + place(config.hidden_size), &state.c.slice(part));
            }
        };
        device.checked(&format!("writing the states of row {row}"), write_all).await?;
        device.still_there()
    }
}

impl StateBlock {
    /// Where the present state is in the buffer.
    pub(crate) fn ranges(&self, config: &LstmConfig) -> StateRanges {
        let (h_len, c_len) = super::plan::state_lens(config, self.rows.len());
        let (h_bytes, c_bytes) = (h_len as u64 * F32, c_len as u64 * F32);
        let h_start = self.slot as u64 * h_bytes;
        StateRanges { h: h_start..h_start + h_bytes, c: 2 * h_bytes..2 * h_bytes + c_bytes }
    }
}

/// Writes `values`, row-major, to `buffer` from byte `offset` on, before the next submit: within what is checked, so that an error has its call.
fn write(device: &GpuDevice, buffer: &wgpu::Buffer, offset: u64, values: &ArrayView3<'_, f32>) {
    let values = values.as_standard_layout();
    let values = values.as_slice().expect("a standard layout is contiguous");
    if !values.is_empty() {
        device.queue.write_buffer(buffer, offset, bytemuck::cast_slice(values));
    }
}
