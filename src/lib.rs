//! LSTM networks on any GPU.

pub mod compare;
mod cpu;
mod error;
pub mod formats;
pub mod measure;
mod network;
mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use network::{
    Activation, AxisSize, CellActivations, CellWeights, Direction, GATES, Gate, LayerNormWeights, Layout, Lstm, LstmConfig, Network, Port,
};
pub use tensor::{ElementType, Inputs, Outputs, Tensor, TensorView};
