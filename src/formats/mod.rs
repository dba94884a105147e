//! Files <-> plain data. A reader allocates no more than a small multiple of the file's own size.

pub mod npy;
pub(crate) mod onnx;
mod safetensors;
pub(crate) mod temporary;

pub use safetensors::{Saved, SavedStage, parse_config};

use std::path::Path;

use crate::error::{Error, Result};
use crate::network::{LstmConfig, Network};

/// How a model is to be read.
///
/// ```
/// use cellgate::{Network, Reading};
///
/// let bytes = std::fs::read("assets/char-lm.safetensors")?;
/// let network = Network::read(&bytes, Reading { counted: true, ..Reading::default() })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'a> {
    /// the folder in which files lie that the model refers to; without one, such a model is refused
    pub folder: Option<&'a Path>,
    /// for a file that does not carry its own configuration: it, and whether inputs have the batch axis first
    pub config: Option<(&'a LstmConfig, bool)>,
    /// of a safetensors file only the tensors whose names start so: one of several LSTMs, or one without what is around it
    pub prefix: Option<&'a str>,
    /// what the metadata key `network` of a safetensors file would say, for one that does not have it: its stages in order, as JSON
    pub network: Option<&'a str>,
    /// whether inputs have the batch axis first, for a safetensors file that does not say it
    pub batch_first: bool,
    /// whether [`Session::trace`](crate::Session::trace) shall count the arithmetic of the parts on the CPU, too, for which these keep tensors that
    /// they could otherwise drop
    pub counted: bool,
}

/// Writes a file, or leaves what stands in its place: nobody sees half of it.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) where it cannot be written.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    temporary::Temporary::write(path, bytes).and_then(temporary::Temporary::publish).map_err(|error| Error::io(path, "write", error))
}

/// Reads a model file of any format that this crate knows, its folder put into `reading`.
pub(crate) fn open(path: &Path, reading: Reading<'_>) -> Result<Network> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    // the folder of a bare name is the current one
    let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    read(&bytes, &Reading { folder, ..reading }).map_err(|error| error.within(path.display()))
}

/// Reads the bytes of a model file, as [`open`] does.
pub(crate) fn read(bytes: &[u8], reading: &Reading<'_>) -> Result<Network> {
    if bytes.is_empty() {
        return Err(Error::format("expected a model, found an empty file"));
    }
    if safetensors::recognises(bytes) {
        return safetensors::read(bytes, reading);
    }
    if reading.config.is_some() {
        return Err(Error::config("an LSTM configuration was given, but the file is not safetensors, the only format that can need one"));
    }
    for (what, given) in [("prefix", reading.prefix.is_some()), ("list of stages", reading.network.is_some()), ("order of axes", reading.batch_first)]
    {
        if given {
            return Err(Error::config(format!("a {what} was given, but the file is not safetensors, the only format that can need one")));
        }
    }
    onnx::read(bytes, reading.folder, reading.counted)
}
