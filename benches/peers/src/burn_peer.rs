//! burn's LSTM through its wgpu backend, on the adapter that cellgate chose.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::module::Param;
use burn::nn::{BiLstm, BiLstmConfig, GateController, Initializer, Lstm, LstmConfig};
use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{Device, Tensor, TensorData};
use cellgate::compare::Tolerance;
use cellgate::{CellWeights, DeviceInfo, Gate, GraphicsBackend};
use ndarray::{Array3, ArrayView2, s};

use crate::Result;
use crate::contest::{Call, Peer, sum};
use crate::row::Case;

/// How many tasks burn gathers before it submits them: its default, and a number that a whole sequence fits.
pub const TASKS_MAX: [usize; 2] = [32, 2048];

/// A device of burn's on an adapter, with a setting of its runtime.
pub struct BurnDevice {
    device: Device,
    tasks_max: usize,
    adapter: wgpu::AdapterInfo,
}

impl BurnDevice {
    /// Opens the adapter that `wanted` describes, through the same graphics API.
    pub fn open(wanted: &DeviceInfo, tasks_max: usize) -> Result<Self> {
        let backend = match wanted.backend {
            Some(GraphicsBackend::Vulkan) => wgpu::Backend::Vulkan,
            Some(GraphicsBackend::Metal) => wgpu::Backend::Metal,
            Some(GraphicsBackend::Dx12) => wgpu::Backend::Dx12,
            Some(GraphicsBackend::Gl) => wgpu::Backend::Gl,
            other => return Err(format!("graphics API {other:?}: expected one that burn has, too").into()),
        };
        let descriptor = wgpu::InstanceDescriptor { backends: backend.into(), ..wgpu::InstanceDescriptor::new_without_display_handle() };
        let instance = wgpu::Instance::new(descriptor);
        let is_same = |adapter: &wgpu::Adapter| adapter.get_info().name == wanted.name && adapter.get_info().device_pci_bus_id == wanted.pci;
        let adapters = pollster::block_on(instance.enumerate_adapters(backend.into()));
        let adapter = adapters.into_iter().find(is_same).ok_or_else(|| format!("adapter {wanted}: not found a second time"))?;
        // As burn opens a device by itself, less what is experimental: burn's WGSL compiler uses nothing of that.
        let left_out = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("burn"),
            required_features: adapter.features().difference(left_out),
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        }))?;
        let info = adapter.get_info();
        let setup = WgpuSetup { instance, adapter, device, queue, backend };
        let device = Device::wgpu_options().tasks_max(tasks_max).setup(setup).init()?;
        Ok(Self { device, tasks_max, adapter: info })
    }

    /// The adapter as burn's device has it, and the setting.
    pub fn describe(&self) -> String {
        let wgpu::AdapterInfo { name, backend, driver, driver_info, .. } = &self.adapter;
        format!("{name} through {backend} ({driver} {driver_info}), tasks_max={}", self.tasks_max)
    }
}

/// A layer of the stack.
enum Layer {
    Forward(Lstm),
    Bidirectional(BiLstm),
}

impl Layer {
    /// `cells` holds a layer's directions.
    fn new(cells: &[CellWeights], device: &Device) -> Result<Self> {
        let [gates, input_size] = [cells[0].weight_ih.nrows(), cells[0].weight_ih.ncols()];
        let hidden_size = gates / cellgate::GATES;
        // what is initialised here is replaced before it is used
        let initializer = Initializer::Zeros;
        match cells {
            [cell] => {
                let mut lstm = LstmConfig::new(input_size, hidden_size, true).with_initializer(initializer).init(device);
                load(&mut lstm, cell, device)?;
                Ok(Self::Forward(lstm))
            }
            [forward, reverse] => {
                let mut lstm = BiLstmConfig::new(input_size, hidden_size, true).with_initializer(initializer).init(device);
                load(&mut lstm.forward, forward, device)?;
                load(&mut lstm.reverse, reverse, device)?;
                Ok(Self::Bidirectional(lstm))
            }
            _ => Err(format!("directions: expected 1 or 2, found {}", cells.len()).into()),
        }
    }

    /// `[N, T, I]` to `[N, T, D*H]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Forward(lstm) => lstm.forward(x, None).0,
            Self::Bidirectional(lstm) => lstm.forward(x, None).0,
        }
    }
}

/// Puts `cell` in the place of the weights of `lstm`.
fn load(lstm: &mut Lstm, cell: &CellWeights, device: &Device) -> Result<()> {
    load_gate(&mut lstm.input_gate, cell, Gate::I, device)?;
    load_gate(lstm.forget_gate.as_mut().ok_or("burn's LSTM has no forget gate")?, cell, Gate::F, device)?;
    load_gate(&mut lstm.cell_gate, cell, Gate::G, device)?;
    load_gate(&mut lstm.output_gate, cell, Gate::O, device)
}

/// burn keeps a gate's matrix as `[I, H]`, PyTorch all four as `[4H, I]`.
fn load_gate(controller: &mut GateController, cell: &CellWeights, gate: Gate, device: &Device) -> Result<()> {
    let hidden_size = cell.weight_hh.ncols();
    let rows = s![gate as usize * hidden_size..(gate as usize + 1) * hidden_size, ..];
    let matrix = |weight: ArrayView2<'_, f32>| {
        let transposed: Vec<f32> = weight.t().iter().copied().collect();
        Param::from_tensor(Tensor::<2>::from_data(TensorData::new(transposed, [weight.ncols(), weight.nrows()]), device))
    };
    let vector = |bias: &Option<ndarray::Array1<f32>>| {
        let bias = bias.as_ref().ok_or("a row without biases")?;
        let bias = bias.slice(s![gate as usize * hidden_size..(gate as usize + 1) * hidden_size]).to_vec();
        Ok::<_, &str>(Param::from_tensor(Tensor::<1>::from_data(TensorData::new(bias, [hidden_size]), device)))
    };
    controller.input_transform.weight = matrix(cell.weight_ih.slice(rows));
    controller.input_transform.bias = Some(vector(&cell.bias_ih)?);
    controller.hidden_transform.weight = matrix(cell.weight_hh.slice(rows));
    controller.hidden_transform.bias = Some(vector(&cell.bias_hh)?);
    Ok(())
}

pub struct BurnPeer {
    device: Device,
    tasks_max: usize,
    layers: Vec<Layer>,
    /// `[N, T, I]`: the order that burn prefers
    x: Array3<f32>,
    /// of `y`, `[N, T, D*H]`
    shape: [usize; 3],
}

impl BurnPeer {
    pub fn new(device: &BurnDevice, case: &Case) -> Result<Self> {
        let BurnDevice { device, tasks_max, .. } = device;
        let layers = caught(|| case.cells.chunks(case.row.directions).map(|cells| Layer::new(cells, device)).collect())?;
        let x = case.x.view().permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
        let shape = [case.row.batch, case.row.seq_len, case.row.directions * case.row.hidden_size];
        Ok(Self { device: device.clone(), tasks_max: *tasks_max, layers, x, shape })
    }
}

impl Peer for BurnPeer {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn setting(&self) -> String {
        format!("tasks_max={}", self.tasks_max)
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance { atol: 1e-4, rtol: 0.0 }
    }

    fn call(&mut self) -> Result<Call> {
        // burn takes the data it uploads: the copy is made before the clock starts
        let x = TensorData::new(self.x.iter().copied().collect::<Vec<f32>>(), <[usize; 3]>::from(self.x.dim()));
        let (elapsed, y) = caught(|| {
            let start = Instant::now();
            let x = Tensor::<3>::from_data(x, &self.device);
            let y = self.layers.iter().fold(x, |x, layer| layer.forward(x)).try_into_data().map_err(|error| format!("{error:?}"))?;
            // data may come back before the device is done with it: read every byte
            black_box(sum(y.as_slice::<f32>().map_err(|error| format!("{error:?}"))?));
            Ok((start.elapsed(), y))
        })?;
        let y = y.to_vec::<f32>().map_err(|error| format!("{error:?}"))?;
        let y = Array3::from_shape_vec(self.shape, y)?.permuted_axes([1, 0, 2]);
        Ok(Call { elapsed, y })
    }
}

/// burn panics where a device fails it; here that is an error of its row alone.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        Err(format!("burn panicked: {}", text.unwrap_or("without a message")).into())
    })
}
