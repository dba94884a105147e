//! Optional hardware is tried before it is used: a small product on the device against the host's, in whole numbers, so that they must be equal.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::adapter::Adapter;
use crate::gpu::form::{ProductForm, RowForm};
use crate::gpu::kernels::{Extension, InputGatesParams, KernelId};
use crate::gpu::plan::matrix_forms;
use crate::gpu::specialise::{Form, Shape, Specialisation};
use crate::gpu::{GpuDevice, Wait};
use crate::network::{GATES, LstmConfig, Precision};

/// Every extension, in the order in which they are tried.
pub(super) const EXTENSIONS: [Extension; 2] = [Extension::Subgroups, Extension::Matrices];

/// Sizes of the trial's product: no multiple of any group of rows, outputs or inputs, but of an even number of units, as matrices that are not staged need.
const ROWS: usize = 37;
const INPUTS: usize = 75;
const UNITS: usize = 22;

impl Extension {
    /// Its name among the features of a [`DeviceInfo`](crate::DeviceInfo).
    pub(super) fn feature(self) -> &'static str {
        match self {
            Self::Subgroups => "subgroups",
            Self::Matrices => "cooperative-matrix",
        }
    }

    /// What it needs to be asked of the graphics API.
    pub(super) fn wgpu_features(self) -> wgpu::Features {
        match self {
            Self::Subgroups => wgpu::Features::SUBGROUP,
            Self::Matrices => wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP,
        }
    }

    /// Whether the adapter says that it has it.
    pub(super) fn is_listed(self, adapter: &Adapter) -> bool {
        adapter.adapter.features().contains(self.wgpu_features())
    }
}

/// Tries `extension`, and tells plans of it; an error says what is wrong with it.
pub(super) async fn try_extension(device: &mut GpuDevice, adapter: &Adapter, extension: Extension) -> Result<()> {
    let info = adapter.adapter.get_info();
    match extension {
        Extension::Subgroups => {
            for k_lanes in [2, 16] {
                check(device, ProductForm::Rows(RowForm { workgroup_size: 64, rows: 4, k_lanes, subgroups: true })).await?;
            }
            device.profile.subgroups = Some((info.subgroup_min_size, info.subgroup_max_size));
        }
        Extension::Matrices => {
            let size = matrix_size(adapter).ok_or_else(|| refused("no f16 matrices of 8 x 8 x 8 or 16 x 16 x 16 with sums in f32"))?;
            if device.profile.subgroups.is_none() {
                return Err(refused("no subgroups"));
            }
            device.profile.matrices = Some(size);
            let forms = matrix_forms(usize::MAX, &device.profile);
            // offered again once they are known to be right
            device.profile.matrices = None;
            if forms.is_empty() {
                return Err(refused("no form fits a workgroup"));
            }
            for form in forms {
                check(device, ProductForm::Matrix(form)).await?;
            }
            device.profile.matrices = Some(size);
        }
    }
    Ok(())
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Validation, why)
}

/// The largest matrices of those that WGSL can name that the adapter lists.
fn matrix_size(adapter: &Adapter) -> Option<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let listed = adapter.adapter.cooperative_matrix_properties();
    let has = |size: &u32| listed.iter().any(|p| [p.m_size, p.n_size, p.k_size] == [*size; 3] && (p.ab_type, p.cr_type) == (F16, F32));
    [16, 8].into_iter().find(has)
}

fn weight(k: usize, output: usize) -> i16 {
    ((7 * k + 3 * output) % 9) as i16 - 4
}

fn input(row: usize, k: usize) -> i16 {
    ((5 * row + 3 * k) % 7) as i16 - 3
}

/// An error where `input_gates` in this form does not give the product that the host has.
async fn check(device: &GpuDevice, form: ProductForm) -> Result<()> {
    let kernel = KernelId::input_gates(form);
    let config = LstmConfig::new(INPUTS, UNITS);
    let shape = Shape { precision: Precision::F16, ..Shape::default() };
    let pipeline = device.pipeline(&Specialisation::new(kernel, Form::Product(form), &config, shape)).await?;

    let params = InputGatesParams {
        num_rows: ROWS as u32,
        batch: ROWS as u32,
        input_size: INPUTS as u32,
        hidden_size: UNITS as u32,
        vectors_slot: UNITS as u32,
        gates_stride: (ROWS * UNITS) as u32,
        num_outputs: UNITS as u32,
        ..InputGatesParams::default()
    };
    let outputs = UNITS * GATES;
    let half = |place: usize| half::f16::from_f32(f32::from(weight(place / outputs, place % outputs)));
    let weights: Vec<half::f16> = (0..INPUTS * outputs).map(half).collect();
    let x: Vec<f32> = (0..ROWS * INPUTS).map(|place| f32::from(input(place / INPUTS, place % INPUTS))).collect();
    let vectors = vec![0.0_f32; UNITS * GATES];
    let bytes = (ROWS * outputs * size_of::<f32>()) as u64;
    let contents: [&[u8]; 5] = [
        bytemuck::bytes_of(&params),
        bytemuck::cast_slice(&weights),
        bytemuck::cast_slice(&vectors),
        bytemuck::cast_slice(&x),
        bytemuck::cast_slice(&[INPUTS as u32; ROWS]),
    ];
    let mut buffers = Vec::new();
    for (number, contents) in contents.into_iter().enumerate() {
        let kind = if number == 0 { wgpu::BufferUsages::UNIFORM } else { wgpu::BufferUsages::STORAGE };
        let padded = [contents, &[0; 4][..contents.len().next_multiple_of(4) - contents.len()]].concat();
        let buffer = device.buffer("trial", padded.len() as u64, kind | wgpu::BufferUsages::COPY_DST).await?;
        device.write("trial", &buffer, 0, &padded).await?;
        buffers.push(buffer);
    }
    buffers.push(device.buffer("trial", bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC).await?);
    let staging = device.buffer("trial", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST).await?;
    let bindings = std::iter::once(0).chain(kernel.kernel().bindings.iter().map(|binding| binding.binding));
    let mut entries = Vec::new();
    for (binding, buffer) in bindings.zip(&buffers) {
        entries.push(wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
    }
    let descriptor = wgpu::BindGroupDescriptor { label: Some("cellgate.trial"), layout: device.layout(kernel), entries: &entries };
    let group = device.checked("bind group of a trial", || device.bind_group(&descriptor)).await?;

    let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("cellgate.trial") });
    let (group_rows, group_outputs) = form.group();
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("cellgate.trial"), timestamp_writes: None });
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[0]);
        pass.dispatch_workgroups((UNITS as u32).div_ceil(group_outputs), (ROWS as u32).div_ceil(group_rows), 1);
    }
    encoder.copy_buffer_to_buffer(&buffers[buffers.len() - 1], 0, &staging, 0, bytes);
    let submit = device.submit(encoder).await?;
    let mut found = Vec::new();
    device.read(&staging, bytes, submit, Wait::Async, |bytes| found.extend_from_slice(bytemuck::cast_slice::<u8, f32>(bytes))).await?;
    for (place, found) in found.into_iter().enumerate() {
        let (row, output) = (place / outputs, place % outputs);
        let expected: f32 = (0..INPUTS).map(|k| f32::from(weight(k, output) * input(row, k))).sum();
        if found != expected {
            let what = format!("{}, {form}: a sum of its trial is {found}, expected {expected}", kernel.kernel().name);
            return Err(Error::new(ErrorKind::Validation, what));
        }
    }
    Ok(())
}
