//! Devices as a user sees them: what was asked for, what there is, and what was chosen and why. Plain data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// On what kind of device to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU beside the CPU where there is one, else the CPU alone; which and why is said.
    ///
    /// With both, every LSTM runs each shape of call, a number of rows and of steps, on the side that is expected to be faster: by calls of both that
    /// [`Session::tune`](crate::Session::tune) measured, else by cost models of both. The side is chosen at the first use of a shape in a session
    /// and kept; [`Session::schedules`](crate::Session::schedules) says which and why. The sides round differently, so that calls of different lengths
    /// may differ in the last bits as different devices do; those on a [`State`](crate::State) or [`Stream`](crate::Stream) do not, because it
    /// stays on the side that is chosen when it is made, for its number of rows and one step. Linear layers and embeddings run where their input is.
    /// An LSTM whose weights the GPU has no room for, or whose calls exceed its limits, runs on the CPU, and the reason says so. Where it is memory that the
    /// GPU lacks, it is asked again once this engine's buffers take that much less, or after a minute, and shapes of call move back to it.
    ///
    /// A request that names an adapter or a graphics API has that GPU alone.
    #[default]
    Auto,
    /// a GPU, and nothing but a GPU, or an error
    Gpu,
    /// the CPU backend
    Cpu,
    /// the float64 reference: slow, and what everything else is judged by
    Reference,
}

/// Through which graphics API a GPU is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GraphicsBackend {
    /// Vulkan
    Vulkan,
    /// Metal
    Metal,
    /// Direct3D 12
    Dx12,
    /// the browser's WebGPU
    WebGpu,
    /// OpenGL or OpenGL ES with compute shaders
    Gl,
}

impl fmt::Display for GraphicsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::WebGpu => "webgpu",
            Self::Gl => "gl",
        })
    }
}

/// A wish for a device. Made from a [`DeviceChoice`] by `into()`, or in full.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceRequest {
    /// what kind of device
    pub choice: DeviceChoice,
    /// part of a GPU adapter's name or PCI address; must match exactly one. Names a software adapter, too.
    pub adapter: Option<String>,
    /// the only graphics API to use
    pub backend: Option<GraphicsBackend>,
    /// whether a software adapter (llvmpipe, SwiftShader, WARP) may stand in for a GPU without being named
    pub allow_software: bool,
    /// whether shaders check every index, bound every loop and guard every division; results have the same bits. `None`: in debug builds.
    /// A browser checks always.
    pub checked_shaders: Option<bool>,
    /// whether a GPU is opened with the limits that every WebGPU device has, and without optional features, instead of all that its adapter has: what
    /// runs so fits every browser, and is what one would make of it. Results have the same bits.
    pub least_limits: bool,
    /// a GPU that does nothing for so long while somebody waits for it hangs, and counts as lost from then on. `None`: 60 s; nothing that it is given
    /// takes more than a fraction of a second.
    pub timeout: Option<Duration>,
}

impl From<DeviceChoice> for DeviceRequest {
    fn from(choice: DeviceChoice) -> Self {
        Self { choice, ..Self::default() }
    }
}

/// What kind of device something ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// a GPU adapter of any make, software adapters included
    Gpu,
    /// the CPU backend
    Cpu,
    /// the float64 reference
    Reference,
}

/// What kind of hardware is behind an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hardware {
    /// a GPU with memory of its own
    Discrete,
    /// a GPU that shares the CPU's memory
    Integrated,
    /// a GPU seen through a virtual machine
    Virtual,
    /// the driver does not say
    Unknown,
    /// the CPU
    Cpu,
}

/// A device that cellgate could run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// what kind of device
    pub kind: DeviceKind,
    /// its name, as the driver gives it
    pub name: String,
    /// what is behind it
    pub hardware: Hardware,
    /// through which API it is reached; `None` for the CPU
    pub backend: Option<GraphicsBackend>,
    /// the driver and its version
    pub driver: String,
    /// PCI address, where known
    pub pci: String,
    /// PCI numbers of vendor and device in hexadecimal, `10de:2335`, where known: the same for all cards of a make
    pub pci_id: String,
    /// limits that decide what fits, by WebGPU name
    pub limits: Vec<(String, u64)>,
    /// optional features that the device has, by WebGPU name
    pub features: Vec<String>,
    /// why cellgate cannot use it; `None`: it can
    pub unusable: Option<String>,
}

impl DeviceInfo {
    /// Whether it is a GPU adapter that runs on the CPU.
    pub fn is_software(&self) -> bool {
        self.kind == DeviceKind::Gpu && self.hardware == Hardware::Cpu
    }

    /// The CPU as a device, with the number of threads that the current thread pool has.
    pub(crate) fn cpu(kind: DeviceKind) -> Self {
        let threads = rayon::current_num_threads();
        let (name, driver) = match kind {
            DeviceKind::Reference => ("float64 reference", "scalar float64"),
            _ => ("CPU", "vectors of float32"),
        };
        Self {
            kind,
            name: format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            hardware: Hardware::Cpu,
            backend: None,
            driver: driver.to_owned(),
            pci: String::new(),
            pci_id: String::new(),
            limits: Vec::new(),
            features: Vec::new(),
            unusable: None,
        }
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(backend) = self.backend {
            write!(f, " through {backend}")?;
        }
        Ok(())
    }
}

/// What an engine has made on its GPU so far. Made by [`Engine::usage`](crate::Engine::usage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceUsage {
    /// bytes of the buffers that there are: weights, states, what lies between the kernels, and what goes to the device and comes back
    pub buffer_bytes: u64,
    /// the most that these have been since the engine was opened
    pub peak_buffer_bytes: u64,
    /// buffers made, those that are gone included
    pub buffers_made: u64,
    /// bytes that the graphics API has taken for all of this and for its own needs, where it tells (Vulkan, DirectX 12)
    pub allocated_bytes: Option<u64>,
    /// bind groups made
    pub bind_groups_made: u64,
    /// pipelines made
    pub pipelines_made: u64,
    /// how often something was brought from the device to the host
    pub reads: u64,
}

/// A device and why it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selection {
    /// the device
    pub device: DeviceInfo,
    /// why this one
    pub reason: String,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.reason)
    }
}
