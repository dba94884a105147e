//! The GPU backend, and the only place where `wgpu` appears.
//!
//! [`kernels`], [`specialise`], [`shader`], [`pack`] and [`plan`] are plain data; the rest talks to the device. They are public so that tools
//! and tests can look at what runs; their contents follow the kernels and may change with any version.

mod adapter;
mod ahead;
mod buffer;
mod call;
mod close;
mod dense;
mod device;
mod fault;
pub mod form;
#[cfg(test)]
pub(crate) mod inject;
pub mod kernels;
mod lstm;
mod need;
pub mod pack;
mod params;
pub mod plan;
mod prepared;
mod profile;
mod region;
mod relayout;
pub mod roofline;
pub mod shader;
pub mod specialise;
mod state;
mod tensor;
mod timer;
mod transfer;
mod trial;
mod wait_thread;
mod waiter;

#[cfg(test)]
pub(crate) use adapter::Adapter;
pub(crate) use adapter::{NoFit, adapters, choose};
pub(crate) use call::{DeviceCall, Source};
pub(crate) use dense::{DenseInput, GpuDense};
pub(crate) use device::{GpuDevice, Opening, Wait};
pub(crate) use lstm::{GpuLstm, GpuOptions};
pub(crate) use need::pieces;
pub(crate) use plan::Split;
pub(crate) use state::GpuState;
pub(crate) use tensor::DeviceTensor;
