//! Tensors whose elements stay on the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{ArrayD, ArrayViewMutD, IxDyn};

use crate::error::{Error, Result};
use crate::gpu::device::lock;
use crate::gpu::transfer::as_floats;
use crate::gpu::{GpuDevice, Wait};
use crate::network::Strided;

const F32: u64 = size_of::<f32>() as u64;

/// A tensor of `float32` on the device, made by a stage and valid until that stage runs again, which an error says then. Cheap to clone; clones and
/// views share the elements.
#[derive(Clone)]
pub(crate) struct DeviceTensor {
    buffer: wgpu::Buffer,
    layout: Strided,
    made: Stamp,
    /// goes last
    device: Arc<GpuDevice>,
}

/// How often a stage ran.
#[derive(Debug, Default)]
pub(super) struct Runs(Arc<AtomicU64>);

/// In which run of a stage something was made.
#[derive(Clone, Debug)]
struct Stamp {
    runs: Arc<AtomicU64>,
    run: u64,
}

impl Runs {
    /// One more run begins: what the others made is gone.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// What this run made in `buffer`, a tensor with this layout.
    pub(super) fn tensor(&self, device: &Arc<GpuDevice>, buffer: &wgpu::Buffer, layout: Strided) -> DeviceTensor {
        let made = Stamp { runs: Arc::clone(&self.0), run: self.0.load(Ordering::Relaxed) };
        DeviceTensor { device: Arc::clone(device), buffer: buffer.clone(), layout, made }
    }
}

impl DeviceTensor {
    /// The size of every axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Where the elements are in the buffer.
    pub(crate) fn layout(&self) -> &Strided {
        &self.layout
    }

    /// Another view of the same buffer.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where it would have elements outside.
    pub(crate) fn with_layout(&self, layout: Strided) -> Result<Self> {
        let floats = self.buffer.size() / F32;
        if layout.range().is_none_or(|range| range.end as u64 > floats) {
            return Err(Error::shape(format!("a view of a tensor on the device: expected one of its {floats} floats, found {layout:?}")));
        }
        Ok(Self { layout, ..self.clone() })
    }

    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Checks that its elements are those that it was made with, and that they are on `device`.
    pub(super) fn check(&self, device: &Arc<GpuDevice>) -> Result<()> {
        if !Arc::ptr_eq(&self.device, device) {
            return Err(Error::config("a tensor on the device: expected one on this stage's device, found another device's"));
        }
        self.still_there()
    }

    fn still_there(&self) -> Result<()> {
        if self.made.runs.load(Ordering::Relaxed) == self.made.run {
            return Ok(());
        }
        Err(Error::config("a tensor on the device: expected one of its stage's last run, but the stage has run again"))
    }

    /// Its elements.
    pub(crate) async fn read(&self, wait: Wait) -> Result<ArrayD<f32>> {
        let mut array = ArrayD::zeros(IxDyn(self.shape()));
        self.read_into(array.view_mut(), wait).await?;
        Ok(array)
    }

    /// Puts its elements into `to`, of its shape and any strides. The least range of the buffer that has all of them is copied once.
    pub(crate) async fn read_into(&self, mut to: ArrayViewMutD<'_, f32>, wait: Wait) -> Result<()> {
        self.still_there()?;
        if to.shape() != self.shape() {
            return Err(Error::shape(format!("a tensor on the device: expected a place for {:?}, found {:?}", self.shape(), to.shape())));
        }
        let Some(range) = self.layout.range().filter(|range| !range.is_empty()) else { return Ok(()) };
        let bytes = range.len() as u64 * F32;
        let mut place = std::mem::take(&mut *lock(&self.device.staging));
        let staging = place.take(&self.device, bytes).await?;
        let mut encoder = self.device.encoder();
        encoder.copy_buffer_to_buffer(&self.buffer, range.start as u64 * F32, &staging, 0, bytes);
        let submit = self.device.submit(encoder).await?;
        // a run that began on another thread meanwhile may have written it before the copy: it shows here, as it begins before its first submit
        self.still_there()?;
        let store = |bytes: &[u8]| {
            let floats = as_floats(bytes);
            if let Some(to) = to.as_slice_mut().filter(|_| self.layout.is_contiguous()) {
                to.copy_from_slice(&floats);
                return;
            }
            // what is mapped may be uncached: it is read once and in order, and gathered from memory that is not
            let floats = floats.into_owned();
            to.assign(&self.layout.view(range.start, &floats));
        };
        self.device.read(&staging, bytes, submit, wait, store).await?;
        place.put(staging);
        *lock(&self.device.staging) = place;
        Ok(())
    }
}
