//! An open device: pipelines and buffers, made once, and errors turned into this crate's.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::device::{DeviceInfo, DeviceRequest, DeviceUsage};
use crate::error::{Error, ErrorKind, Result, one_line};
use crate::gpu::adapter::{Adapter, named_features, named_limits};
use crate::gpu::ahead::Ahead;
use crate::gpu::buffer::{Counters, DeviceBuffer};
use crate::gpu::close::Last;
use crate::gpu::fault::{Health, kind_of};
#[cfg(test)]
use crate::gpu::inject::{Fault, Point};
use crate::gpu::kernels::{Access, Extension, KERNELS, Kernel, KernelId};
use crate::gpu::plan::DeviceProfile;
use crate::gpu::profile::profile;
use crate::gpu::shader::Shader;
use crate::gpu::specialise::{Key, Specialisation};
use crate::gpu::transfer::Download;
use crate::gpu::trial::{EXTENSIONS, try_extension};
use crate::gpu::wait_thread::WaitThread;
use crate::gpu::waiter::Waiter;

/// Large uploads go in pieces, because every write is staged in memory of its own until the next submit.
const UPLOAD_BYTES: usize = 16 << 20;

/// How a caller waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// the calling thread blocks
    Block,
    /// a future becomes ready
    Async,
}

/// A device that does nothing for this long hangs: no submit is planned to run longer than a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// whether shaders check what they do, or trust the plan
    pub(crate) checked_shaders: bool,
    /// whether it has no more than every WebGPU device
    pub(crate) least_limits: bool,
    /// a device that does nothing for so long hangs
    pub(crate) timeout: Duration,
}

impl Opening {
    /// As `request` has it.
    pub(crate) fn new(request: &DeviceRequest) -> Self {
        Self {
            checked_shaders: request.checked_shaders.unwrap_or(cfg!(debug_assertions)),
            least_limits: request.least_limits,
            timeout: request.timeout.unwrap_or(TIMEOUT),
        }
    }
}

/// An open device.
pub(crate) struct GpuDevice {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) profile: DeviceProfile,
    info: DeviceInfo,
    /// layout of bind group 1 of every kernel: the state
    pub(crate) state_layout: wgpu::BindGroupLayout,
    layouts: HashMap<KernelId, KernelLayout>,
    pipelines: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    opening: Opening,
    /// what shaders check when they run
    runtime_checks: wgpu::ShaderRuntimeChecks,
    pub(super) counters: Arc<Counters>,
    /// submits that may still be under way
    pub(super) ahead: Arc<Ahead>,
    /// through which tensors are read that stay on the device otherwise
    pub(super) staging: Mutex<Download>,
    /// what is known of its failures
    pub(crate) health: Arc<Health>,
    pub(super) waiter: Waiter,
    pub(super) wait_thread: WaitThread,
    /// behind everything else that is on the device
    _last: Last,
}

struct KernelLayout {
    bind_group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl GpuDevice {
    /// Opens the adapter's device. What optional hardware it has is tried first, and left
    /// alone, with the reason among the device's features, where it does not compute what it should.
    pub(crate) async fn open(adapter: &Adapter, opening: Opening) -> Result<Self> {
        let mut refusals: Vec<(Extension, String)> = Vec::new();
        loop {
            let asked = |extension: &Extension| extension.is_listed(adapter) && refusals.iter().all(|(refused, _)| refused != extension);
            let optional = if opening.least_limits { &[][..] } else { &EXTENSIONS[..] };
            let extensions: Vec<Extension> = optional.iter().copied().filter(asked).collect();
            let mut device = Self::open_with(adapter, opening, &extensions).await?;
            let mut sound = true;
            for extension in extensions {
                if let Err(error) = try_extension(&mut device, adapter, extension).await {
                    sound = !matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Timeout);
                    refusals.push((extension, one_line(&error.to_string())));
                    if !sound {
                        break;
                    }
                }
            }
            if !sound {
                // a device that does not survive the trial is opened anew, without what it was tried with
                continue;
            }
            for (extension, why) in &refusals {
                for feature in device.info.features.iter_mut().filter(|feature| *feature == extension.feature()) {
                    *feature = format!("{} (not used: {why})", extension.feature());
                }
            }
            // what the trials made is gone, and counts for nothing
            (device.counters, device.pipelines) = Default::default();
            return Ok(device);
        }
    }

    /// As [`GpuDevice::open`], with these of the optional hardware, not tried.
    pub(crate) async fn open_with(adapter: &Adapter, opening: Opening, extensions: &[Extension]) -> Result<Self> {
        let (limits, optional, info) = offer(adapter, opening);
        let required_features = extensions.iter().fold(optional, |features, extension| features | extension.wgpu_features());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("cellgate"),
            required_features,
            required_limits: limits.clone(),
            experimental_features: if extensions.contains(&Extension::Matrices) { experimental() } else { wgpu::ExperimentalFeatures::disabled() },
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter
            .adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::new(ErrorKind::NoAdapter, format!("adapter {} does not open: {error}", adapter.info)).with_source(error))?;
        let (health, ahead) = (Arc::new(Health::new(&adapter.info)), Arc::new(Ahead::default()));
        device.on_uncaptured_error(Arc::new({
            let health = Arc::clone(&health);
            move |error: wgpu::Error| health.lose(&format!("an error came that belongs to no call, so that its state is unknown: {error}"))
        }));
        device.set_device_lost_callback({
            let health = Arc::clone(&health);
            move |reason, message| health.lose(&format!("the device was lost ({reason:?}): {message}"))
        });
        let runtime_checks = if opening.checked_shaders { wgpu::ShaderRuntimeChecks::checked() } else { wgpu::ShaderRuntimeChecks::unchecked() };
        let state_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("cellgate.state"),
            entries: &[storage_entry(0, Access::ReadWrite)],
        });
        let layouts = KERNELS.iter().map(|kernel| (kernel.id, KernelLayout::new(&device, kernel, &state_layout))).collect();
        let profile = profile(&info, &limits);
        let waiter = Waiter { device: device.clone(), health: Arc::clone(&health), ahead: Arc::clone(&ahead), timeout: opening.timeout };
        Ok(Self {
            wait_thread: WaitThread::new(waiter.clone()),
            waiter,
            _last: Last::new(&device, &queue, &health),
            device,
            queue,
            profile,
            info,
            state_layout,
            layouts,
            pipelines: Mutex::default(),
            opening,
            runtime_checks,
            counters: Arc::default(),
            ahead,
            staging: Mutex::default(),
            health,
        })
    }

    /// Whether shaders check what they do.
    pub(crate) fn checks_shaders(&self) -> bool {
        self.opening.checked_shaders
    }

    /// How it was opened.
    pub(crate) fn opening(&self) -> Opening {
        self.opening
    }

    /// What was opened.
    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The pipeline of a specialisation, made at its first use.
    pub(crate) async fn pipeline(&self, specialisation: &Specialisation) -> Result<wgpu::ComputePipeline> {
        let key = specialisation.key();
        if let Some(pipeline) = lock(&self.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let kernel = specialisation.kernel.kernel();
        let shader = Shader::new(specialisation);
        let make = || {
            let module = self.shader_module(kernel.name, &shader);
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&format!("cellgate.{}", kernel.name)),
                layout: Some(&self.layouts[&kernel.id].pipeline),
                module: &module,
                entry_point: Some(kernel.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &specialisation.overrides,
                    // every kernel writes its workgroup memory before it reads it; clearing it costs a barrier and compile time
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        };
        let pipeline = self.checked(kernel.name, make).await.map_err(|error| {
            let kind = if error.kind() == ErrorKind::Validation { ErrorKind::ShaderCompilation } else { error.kind() };
            Error::new(kind, shader.with_files(&error.to_string())).with_source(error)
        })?;
        self.counters.pipelines.fetch_add(1, Ordering::Relaxed);
        lock(&self.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    #[expect(unsafe_code, reason = "only here are shaders made, and checks at run time cost time on some drivers")]
    fn shader_module(&self, name: &str, shader: &Shader) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(shader.source.as_str().into());
        // SAFETY: without checks, an index outside of its binding or an endless loop would be undefined behaviour. Kernels compute indices
        // and loop bounds from their uniforms and workgroup ids alone; the values of tensors, `sequence_lens` included, are data to them, but for the
        // ids of `embed.wgsl`, which that kernel bounds by its table. Uniforms
        // and sizes of buffers come from one plan (`plan::build`), whose sizes `GpuLstm::check_sizes` compares with the buffers that are bound
        // before anything is dispatched; kernels guard the remainders of their tiles themselves, and divide by constants of theirs that are
        // not 0. The same kernels run checked in debug builds and tests, from buffers full of NaN, and give the same bits.
        unsafe { self.device.create_shader_module_trusted(wgpu::ShaderModuleDescriptor { label: Some(name), source }, self.runtime_checks) }
    }

    /// The layout of bind group 0 of a kernel.
    pub(crate) fn layout(&self, kernel: KernelId) -> &wgpu::BindGroupLayout {
        &self.layouts[&kernel].bind_group
    }

    /// A buffer of at least `bytes` bytes, with what it is for in the error.
    pub(crate) async fn buffer(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<DeviceBuffer> {
        self.make_buffer(name, bytes, usage, false).await
    }

    /// As [`GpuDevice::buffer`], mapped from the start.
    pub(crate) async fn mapped_buffer(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<DeviceBuffer> {
        self.make_buffer(name, bytes, usage, true).await
    }

    /// A buffer for kernels and copies. Debug builds start it with NaN: wgpu hands out zeros, which hide that a kernel reads what none has written.
    pub(crate) async fn storage_buffer(&self, name: &str, bytes: u64) -> Result<DeviceBuffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.buffer(name, bytes, usage).await?;
        if cfg!(debug_assertions) {
            self.fill(name, &buffer, 0..buffer.size(), f32::NAN).await?;
        }
        Ok(buffer)
    }

    /// A buffer for kernels with `contents`.
    pub(crate) async fn filled_buffer(&self, name: &str, contents: &[u8]) -> Result<DeviceBuffer> {
        self.made_of(name, contents, wgpu::BufferUsages::STORAGE).await
    }

    /// A buffer of uniforms with `contents`.
    pub(crate) async fn uniform_buffer(&self, name: &str, contents: &[u8]) -> Result<DeviceBuffer> {
        self.made_of(name, contents, wgpu::BufferUsages::UNIFORM).await
    }

    async fn made_of(&self, name: &str, contents: &[u8], usage: wgpu::BufferUsages) -> Result<DeviceBuffer> {
        let buffer = self.buffer(name, contents.len() as u64, usage | wgpu::BufferUsages::COPY_DST).await?;
        self.write(name, &buffer, 0, contents).await?;
        Ok(buffer)
    }

    async fn make_buffer(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages, mapped_at_creation: bool) -> Result<DeviceBuffer> {
        let label = format!("cellgate.{name}");
        // zero-sized buffers cannot be bound
        let size = bytes.max(16).next_multiple_of(4);
        let make = || self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(&label), size, usage, mapped_at_creation });
        let buffer = self.checked(&format!("buffer `{name}` of {size} bytes"), make).await?;
        // a lost device hands out buffers that are none, without a word
        self.still_there()?;
        Ok(DeviceBuffer::new(buffer, &self.counters))
    }

    /// A bind group.
    pub(crate) fn bind_group(&self, descriptor: &wgpu::BindGroupDescriptor<'_>) -> wgpu::BindGroup {
        self.counters.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.device.create_bind_group(descriptor)
    }

    /// How often something was brought to the host so far.
    pub(crate) fn reads(&self) -> u64 {
        self.counters.reads.load(Ordering::Relaxed)
    }

    /// What was made here so far.
    pub(crate) fn usage(&self) -> DeviceUsage {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        DeviceUsage {
            buffer_bytes: count(&counters.bytes),
            peak_buffer_bytes: count(&counters.peak_bytes),
            buffers_made: count(&counters.buffers),
            allocated_bytes: self.device.generate_allocator_report().map(|report| report.total_allocated_bytes),
            bind_groups_made: count(&counters.bind_groups),
            pipelines_made: count(&counters.pipelines),
            reads: count(&counters.reads),
        }
    }

    /// Writes `bytes` to `buffer`, which errors call `name`, from byte `offset` on: before whatever is submitted next.
    pub(crate) async fn write(&self, name: &str, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let write = || {
            for (piece, bytes) in bytes.chunks(UPLOAD_BYTES).enumerate() {
                self.queue.write_buffer(buffer, offset + (piece * UPLOAD_BYTES) as u64, bytes);
                if bytes.len() == UPLOAD_BYTES {
                    self.queue.submit([]);
                }
            }
        };
        self.checked(&format!("{} bytes for buffer `{name}`", bytes.len()), write).await
    }

    /// Fills these bytes of `buffer` with `value`.
    pub(crate) async fn fill(&self, name: &str, buffer: &wgpu::Buffer, bytes: Range<u64>, value: f32) -> Result<()> {
        let all = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
        let piece = vec![value; all.min(UPLOAD_BYTES) / size_of::<f32>()];
        for start in (0..all).step_by(UPLOAD_BYTES) {
            let len = (all - start).min(UPLOAD_BYTES) / size_of::<f32>();
            self.write(name, buffer, bytes.start + start as u64, bytemuck::cast_slice(&piece[..len])).await?;
        }
        Ok(())
    }

    /// Runs `make` and turns what the graphics API has to say about it into an error about `subject`.
    pub(crate) async fn checked<T>(&self, subject: &str, make: impl FnOnce() -> T) -> Result<T> {
        self.failed()?;
        #[cfg(test)]
        if self.health.pass(&self.device, Point::Make) == Some(Fault::Memory) {
            return Err(self.explain(self.out_of_memory(subject, "not enough memory left")));
        }
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        // popped before the first wait: a scope belongs to the thread that pushed it, and a future may move to another
        let (internal, validation, memory) = (internal.pop(), validation.pop(), memory.pop());
        let errors = [internal.await, validation.await, memory.await];
        match errors.into_iter().flatten().next() {
            None => Ok(made),
            Some(error) => {
                let why = one_line(&error.to_string());
                let why = why.trim_end_matches('.');
                let told = match kind_of(&error) {
                    ErrorKind::OutOfMemory => self.out_of_memory(subject, why),
                    kind => Error::new(kind, format!("{}: {subject}: {why}", self.info)),
                };
                Err(self.explain(told.with_source(error)))
            }
        }
    }
}

/// Limits and features to open `adapter` with, before its extensions, and what is then known of it.
fn offer(adapter: &Adapter, opening: Opening) -> (wgpu::Limits, wgpu::Features, DeviceInfo) {
    let (all, info) = (adapter.adapter.limits(), adapter.info.clone());
    if !opening.least_limits {
        return (all, adapter.adapter.features() & wgpu::Features::TIMESTAMP_QUERY, info);
    }
    // an adapter that is used although it has less in something keeps what it has
    let limits = wgpu::Limits::defaults().or_worse_values_from(&all);
    let features = wgpu::Features::empty();
    let info = DeviceInfo { limits: named_limits(&limits), features: named_features(features), ..info };
    (limits, features, info)
}

#[expect(unsafe_code, reason = "cooperative matrices are experimental in wgpu, and no adapter offers them otherwise")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: what is experimental may have bugs that lead to undefined behaviour. Of all experimental features only cooperative matrices are asked
    // for, where the adapter lists them, and used by `matrix_product.wgsl` alone, whose loads and stores lie within their bindings and
    // workgroup memory by its own arithmetic: no kernel relies on checks there. What naga leaves out of its SPIR-V is said in that file, and a trial
    // on every device that is opened shows whether it matters there.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

impl KernelLayout {
    fn new(device: &wgpu::Device, kernel: &Kernel, state: &wgpu::BindGroupLayout) -> Self {
        let params = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: std::num::NonZeroU64::new(kernel.params_size as u64),
            },
            count: None,
        };
        let own = kernel.bindings.iter().filter(|binding| binding.group == 0).map(|binding| storage_entry(binding.binding, binding.access));
        let entries: Vec<_> = std::iter::once(params).chain(own).collect();
        let bind_group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name), entries: &entries });
        let with_state = [Some(&bind_group), Some(state)];
        let groups = if kernel.reads_state() { &with_state[..] } else { &with_state[..1] };
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: groups,
            immediate_size: 0,
        });
        Self { bind_group, pipeline }
    }
}

fn storage_entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

/// What a panicking thread leaves behind here is whole: every critical section is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
