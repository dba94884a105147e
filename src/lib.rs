//! LSTM networks on any GPU.

pub mod compare;
mod cpu;
mod device;
mod engine;
mod error;
pub mod formats;
pub mod gpu;
pub mod measure;
mod network;
mod reference;
mod tensor;

pub use device::{DeviceChoice, DeviceInfo, DeviceKind, DeviceRequest, GraphicsBackend, Hardware, Selection};
pub use engine::{Engine, Explanation, HostState, KernelCount, LstmExplanation, MemoryUse, Options, Precision, Session, Slot, State, Stream};
pub use error::{Error, ErrorKind, Result};
pub use network::{
    Activation, AxisSize, CellActivations, CellWeights, Direction, GATES, Gate, LayerNormWeights, Layout, Lstm, LstmConfig, Network, Port,
};
pub use tensor::{ElementType, Inputs, Outputs, Tensor, TensorView};
