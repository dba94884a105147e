//! Files <-> plain data. A reader allocates no more than a small multiple of the file's own size.

pub mod npy;
pub(crate) mod onnx;
mod safetensors;
pub(crate) mod temporary;

pub use safetensors::parse_config;

use std::path::Path;

use crate::error::{Error, Result};
use crate::network::{LstmConfig, Network};

/// Reads a model file of any format that this crate knows; `config` is for a file that does not carry its own.
pub(crate) fn open(path: &Path, config: Option<(&LstmConfig, bool)>) -> Result<Network> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    read(&bytes, config).map_err(|error| error.within(path.display()))
}

/// Reads the bytes of a model file, as [`open`] does.
pub(crate) fn read(bytes: &[u8], config: Option<(&LstmConfig, bool)>) -> Result<Network> {
    if bytes.is_empty() {
        return Err(Error::format("expected a model, found an empty file"));
    }
    if safetensors::recognises(bytes) {
        return safetensors::read(bytes, config);
    }
    if config.is_some() {
        return Err(Error::config("an LSTM configuration was given, but the file is not safetensors, the only format that can need one"));
    }
    onnx::read(bytes)
}
