//! Tensors on their way between the host and the device, through buffers that are mapped, used again, and grow with the largest call.
//!
//! A buffer leaves its place while it is in use and comes back when it can be used again, so that a call that is given up halfway
//! takes a buffer with it that is still mapped or under way.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{ArrayView3, ArrayViewD, ArrayViewMut3, ArrayViewMut4, ArrayViewMutD, Axis, s};

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::ahead::Submit;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::waiter::Mapping;
use crate::gpu::{GpuDevice, Wait};

const F32: usize = size_of::<f32>();

/// Floats that are gathered before they are written, where their source is scattered.
const GATHERED: usize = 64;

/// A buffer in which the inputs of a segment go to the device: while it is in its place it is mapped for writing, or will be.
#[derive(Default)]
pub(super) struct Upload {
    buffer: Option<(DeviceBuffer, Option<Remap>)>,
}

/// A buffer that is mapped again as soon as a submit is done that copies from it.
pub(super) struct Remap {
    mapping: Mapping,
    submit: Submit,
}

impl Remap {
    /// Asks for `buffer`, from which `submit` copies.
    pub(super) fn new(buffer: &wgpu::Buffer, submit: Submit) -> Self {
        Self { mapping: GpuDevice::map(buffer, buffer.size(), wgpu::MapMode::Write), submit }
    }
}

/// A buffer through which results come back: not mapped while it is in its place.
#[derive(Default)]
pub(super) struct Download {
    buffer: Option<DeviceBuffer>,
}

impl Upload {
    /// Takes the buffer, at least `bytes` long and mapped.
    pub(super) async fn take(&mut self, device: &GpuDevice, bytes: u64, wait: Wait) -> Result<DeviceBuffer> {
        match self.buffer.take().filter(|(buffer, _)| buffer.size() >= bytes) {
            Some((buffer, None)) => Ok(buffer),
            Some((buffer, Some(Remap { mapping, submit }))) => {
                device.wait(submit, wait).await?;
                mapping.done(device)?;
                Ok(buffer)
            }
            None => device.mapped_buffer("upload", bytes, wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC).await,
        }
    }

    /// Puts the buffer back, from which a submit copies; where somebody `waited` for that, it is mapped already.
    pub(super) fn put(&mut self, device: &GpuDevice, buffer: DeviceBuffer, remap: Remap, waited: bool) -> Result<()> {
        let remap = if waited {
            remap.mapping.done(device)?;
            None
        } else {
            Some(remap)
        };
        self.buffer = Some((buffer, remap));
        Ok(())
    }
}

impl Download {
    /// Takes the buffer, at least `bytes` long.
    pub(super) async fn take(&mut self, device: &GpuDevice, bytes: u64) -> Result<DeviceBuffer> {
        match self.buffer.take().filter(|buffer| buffer.size() >= bytes) {
            Some(buffer) => Ok(buffer),
            None => device.buffer("download", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST).await,
        }
    }

    /// Puts the buffer back, read and unmapped.
    pub(super) fn put(&mut self, buffer: DeviceBuffer) {
        self.buffer = Some(buffer);
    }
}

/// Writes into a mapped buffer from its start on. The mapping may be write-combined memory, so everything is written once and in order.
pub(super) struct Writer {
    view: wgpu::BufferViewMut,
    end: usize,
}

impl Writer {
    pub(super) fn new(device: &GpuDevice, buffer: &wgpu::Buffer) -> Result<Self> {
        let view = buffer.get_mapped_range_mut(..).map_err(|error| {
            device.explain(Error::new(ErrorKind::Validation, format!("{}: inputs cannot be written: {error}", device.info())).with_source(error))
        })?;
        Ok(Self { view, end: 0 })
    }

    /// Writes the rows `rows` of `values [outer, N, features]`, in that order, as `[outer, rows, features]`; returns where, in bytes.
    pub(super) fn rows(&mut self, values: &ArrayView3<'_, f32>, rows: &[usize]) -> Range<u64> {
        let start = self.end;
        let neighbours = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let (first, len) = (rows.first().copied().unwrap_or(0), rows.len());
        let block = neighbours.then(|| values.slice(s![.., first..first + len, ..]));
        if let Some(whole) = block.as_ref().and_then(|block| block.as_slice()) {
            self.floats(whole);
            return start as u64..self.end as u64;
        }
        for (outer, values) in values.outer_iter().enumerate() {
            if let Some(whole) = block.as_ref().map(|block| block.index_axis(Axis(0), outer)).and_then(|block| block.to_slice()) {
                self.floats(whole);
                continue;
            }
            for &row in rows {
                let row = values.index_axis(Axis(0), row);
                match row.as_slice() {
                    Some(row) => self.floats(row),
                    None => self.scattered(row.iter().copied()),
                }
            }
        }
        start as u64..self.end as u64
    }

    /// Writes rows `range` of the last axis of `values`, in the order of the others.
    pub(super) fn dense_rows(&mut self, values: &ArrayViewD<'_, f32>, range: Range<usize>) {
        let features = values.shape().last().copied().unwrap_or(1);
        match values.as_slice() {
            Some(whole) => self.floats(&whole[range.start * features..range.end * features]),
            None => {
                for row in values.rows().into_iter().skip(range.start).take(range.len()) {
                    match row.to_slice() {
                        Some(row) => self.floats(row),
                        None => self.scattered(row.iter().copied()),
                    }
                }
            }
        }
    }

    /// Writes `values`; returns where, in bytes.
    pub(super) fn u32s(&mut self, values: impl Iterator<Item = u32>) -> Range<u64> {
        let start = self.end;
        // the same bits: a float here is four bytes
        self.scattered(values.map(f32::from_bits));
        start as u64..self.end as u64
    }

    fn scattered(&mut self, mut values: impl Iterator<Item = f32>) {
        let mut gathered = [0.0; GATHERED];
        loop {
            let mut len = 0;
            for (place, value) in gathered.iter_mut().zip(values.by_ref()) {
                *place = value;
                len += 1;
            }
            self.floats(&gathered[..len]);
            if len < GATHERED {
                return;
            }
        }
    }

    fn floats(&mut self, values: &[f32]) {
        let end = self.end + values.len() * F32;
        self.view.slice(self.end..end).copy_from_slice(bytemuck::cast_slice(values));
        self.end = end;
    }
}

/// The bytes of a mapped buffer as floats; they are copied only where a driver maps them to an odd address.
pub(super) fn as_floats(bytes: &[u8]) -> Cow<'_, [f32]> {
    bytemuck::try_cast_slice(bytes).map_or_else(|_| bytemuck::pod_collect_to_vec(bytes).into(), Cow::Borrowed)
}

/// Puts `from [T, rows, D*R]` into the rows `rows` of `to [T, N, D, R]`. Reads every value once and in
/// order: the memory may be uncached.
pub(super) fn store_y(mut to: ArrayViewMut4<'_, f32>, rows: &[usize], from: &[f32]) {
    let (_, _, dirs, out) = to.dim();
    let mut values = from.chunks_exact(out);
    for mut to in to.outer_iter_mut() {
        for &row in rows {
            let mut to = to.index_axis_mut(Axis(0), row);
            for dir in 0..dirs {
                let Some(values) = values.next() else { return };
                copy(to.index_axis_mut(Axis(0), dir), values);
            }
        }
    }
}

/// Puts zeros into the rows `rows` of `y [T, N, D, R]`.
pub(super) fn clear_y(mut y: ArrayViewMut4<'_, f32>, rows: &[usize]) {
    for mut y in y.outer_iter_mut() {
        for &row in rows {
            y.index_axis_mut(Axis(0), row).fill(0.0);
        }
    }
}

/// Puts `from [L*D, rows, size]` into the rows `rows` of `to [L*D, N, size]`.
pub(super) fn store_state(mut to: ArrayViewMut3<'_, f32>, rows: &[usize], from: &[f32]) {
    let mut values = from.chunks_exact(to.len_of(Axis(2)));
    for mut to in to.outer_iter_mut() {
        for &row in rows {
            let Some(values) = values.next() else { return };
            copy(to.index_axis_mut(Axis(0), row), values);
        }
    }
}

/// Puts rows that lie `stride` floats apart into rows `range` of the last axis of `to`, in the order of its other axes.
pub(super) fn store_rows(to: &mut ArrayViewMutD<'_, f32>, range: Range<usize>, from: &[f32], stride: usize) {
    for (to, from) in to.rows_mut().into_iter().skip(range.start).zip(from.chunks(stride)).take(range.len()) {
        let features = to.len();
        copy(to, &from[..features]);
    }
}

fn copy(mut to: ndarray::ArrayViewMut1<'_, f32>, from: &[f32]) {
    match to.as_slice_mut() {
        Some(to) => to.copy_from_slice(from),
        None => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Array4};

    use super::*;

    #[test]
    fn results_find_their_rows() {
        let from: Vec<f32> = (0..2 * 2 * 6).map(|value| value as f32).collect();
        let mut y = Array4::from_elem((2, 3, 2, 3), -1.0);
        store_y(y.view_mut(), &[2, 0], &from);
        assert_eq!(y.slice(s![1, .., 1, 2]).to_vec(), [23.0, -1.0, 17.0]);
        // the axes in any order
        let mut other = Array4::from_elem((3, 2, 2, 3), -1.0);
        store_y(other.view_mut().permuted_axes([1, 0, 2, 3]), &[2, 0], &from);
        assert_eq!(other.permuted_axes([1, 0, 2, 3]), y);
        let mut h = Array3::from_elem((2, 3, 6), -1.0);
        store_state(h.view_mut(), &[2, 0], &from);
        assert_eq!(h.slice(s![1, .., 5]).to_vec(), [23.0, -1.0, 17.0]);
    }
}
