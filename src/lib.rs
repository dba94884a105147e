//! LSTM networks on any GPU: Vulkan, Metal, DX12 and OpenGL through `wgpu`, with a CPU backend behind the same API and a float64 reference
//! that judges both.
//!
//! A [`Network`] is read from a safetensors or ONNX file, an [`Engine`] is an open device that says which one it is and why, and a
//! [`Session`] is the network on the device:
//!
//! ```
//! use cellgate::{DeviceChoice, Engine, Inputs, Network, Options};
//! use ndarray::Array3;
//!
//! let network = Network::open("assets/char-lm.safetensors")?;
//! let engine = Engine::new(DeviceChoice::Auto)?;
//! eprintln!("running on {}", engine.describe());
//!
//! let mut session = engine.session(&network, Options::default())?;
//! let (seq_len, batch, input_size) = (50, 8, 96);
//! let x = Array3::<f32>::zeros((seq_len, batch, input_size));
//! let out = session.run(&Inputs::new().with("x", x.view()))?;
//! assert_eq!(out["y"].shape(), [50, 8, 96]);
//! assert_eq!(out["c_n"].shape(), [2, 8, 256]);
//! # Ok::<(), cellgate::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | run whole sequences | [`Session::run`] |
//! | run again into the same arrays | [`Session::run_into`] |
//! | carry the state from call to call, on the device | [`Session::state`], [`Session::run_with_state`] |
//! | serve many sequences that come and go | [`Session::stream`], [`Session::into_stream`] |
//! | make a network from weights at hand | [`Lstm::new`], [`Network::from_lstm`], [`Network::from_stages`] |
//! | write a network as plain weights | [`Network::save_safetensors`] |
//! | see what a call would do | [`Session::explain`] |
//! | measure which schedule is the fastest | [`Session::tune`], [`Tuning`] |
//! | compare results | [`compare`](mod@compare) |
//!
//! Shapes use these letters: T steps (`seq_len`), N rows (`batch`), I `input_size`, H `hidden_size`, P `proj_size`, R the size of a hidden
//! state (P where there is a projection, else H), L layers, D directions. [`LstmConfig`] has the equations.

// `[lints]` in Cargo.toml would hit the program too, where these would be noise
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used))]

pub mod compare;
mod cpu;
mod device;
mod engine;
mod error;
pub mod formats;
pub mod gpu;
mod host;
pub mod measure;
mod network;
mod reference;
mod tensor;

/// What the fuzz targets reach beyond the API.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::engine::fuzzing::{Recorded, believed, written};

    /// The array in an npy file.
    pub fn parse_npy(bytes: &[u8]) -> crate::Result<crate::Tensor> {
        crate::formats::npy::parse(bytes)
    }

    /// The npy file of an array.
    pub fn npy_bytes(tensor: &crate::Tensor) -> std::io::Result<Vec<u8>> {
        crate::formats::npy::to_bytes(tensor)
    }
}

pub use device::{DeviceChoice, DeviceInfo, DeviceKind, DeviceRequest, DeviceUsage, GraphicsBackend, Hardware, Selection};
pub use engine::{
    Alternative, CandidateReport, ChoiceReason, Crossover, Engine, Explanation, HostState, KernelCount, LstmExplanation, LstmTuning, Measurement,
    MemoryUse, Options, PartRun, RefusedSchedule, ScheduleUse, Session, SideExplanation, SidesExplanation, SidesMeasurement, Slot, State, Stream,
    TuneReport, Tuning,
};
#[doc(hidden)]
pub use engine::{Chain, ChainInput, ChainStage, DenseExplanation, Started};
#[doc(hidden)]
pub use error::one_line;
pub use error::{Error, ErrorKind, Result};
pub use formats::{Reading, Saved, SavedStage};
pub use gpu::form::ScheduleName;
pub use network::Precision;
pub use network::{
    Activation, AxisSize, Branch, CellActivations, CellWeights, DenseStage, Direction, Embedding, GATES, Gate, LayerNormWeights, Layout, Linear,
    Lstm, LstmConfig, Network, Part, PartKind, Port, RowFunction, Stage,
};
pub use tensor::{ElementType, Inputs, Outputs, Tensor, TensorView};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
