//! Safetensors files with the key names of `torch.nn.LSTM`.

mod config;
mod infer;
mod keys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ::safetensors::{Dtype, SafeTensorError, SafeTensors};
use half::{bf16, f16};
use ndarray::{ArrayD, Dimension, IxDyn};

pub use config::parse_config;
use keys::{Key, Kind};

use crate::error::{Error, Result};
use crate::network::{CellWeights, LayerNormWeights, Lstm, LstmConfig, Network};

/// How many names an error lists before it counts the rest.
const MAX_LISTED: usize = 5;

/// Whether the file starts like safetensors: a length, then a JSON object. The length is not looked at, so that a file with a wrong one
/// gets an error about safetensors.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    let Some((b'{', rest)) = bytes.get(8..).and_then(<[u8]>::split_first) else { return false };
    rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b'"' | b'}'))
}

/// Reads the file's one LSTM. Its configuration is that of the metadata key `lstm`, or `given` with the flag `batch_first`, or inferred.
pub(crate) fn read(bytes: &[u8], given: Option<(&LstmConfig, bool)>) -> Result<Network> {
    let file = File::parse(bytes)?;
    let prefix = file.prefix()?;
    let mut notes = Vec::new();
    let (config, batch_first) = match (file.metadata.get("lstm"), given) {
        (Some(json), given) => {
            let stored = config::parse(json).map_err(|error| error.within("metadata `lstm`"))?;
            if let Some(given) = given {
                check_equal((&stored.0, stored.1), given)?;
            }
            stored
        }
        (None, Some((config, batch_first))) => {
            config.validate()?;
            (config.clone(), batch_first)
        }
        (None, None) => {
            let config = infer::infer(&file, prefix)?;
            notes.push(infer::note(&config));
            (config, false)
        }
    };
    if !prefix.is_empty() {
        notes.push(format!("the names of the tensors start with `{prefix}`"));
    }
    let lstm = file.lstm(prefix, config)?;
    notes.extend(file.conversions());
    let mut network = Network::from_lstm(lstm, batch_first);
    network.format = "safetensors";
    network.notes.splice(0..0, notes);
    network.metadata = file.metadata;
    Ok(network)
}

/// A file taken apart: its tensors by name, and its metadata, of which the key `lstm` is the configuration.
struct File<'a> {
    tensors: BTreeMap<String, Stored<'a>>,
    metadata: BTreeMap<String, String>,
}

/// A tensor as it lies in the file; the length of `data` is that of `dtype` and `shape`.
struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> File<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (header_len, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| Error::format(format!("safetensors: {}", explain(&error, bytes))).with_source(error))?;
        let data = &bytes[size_of::<u64>() + header_len..];
        let entries = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let stored = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, Stored { dtype: info.dtype, shape: info.shape.clone(), data: &data[start..end] })
        });
        Ok(Self { tensors: stored.collect(), metadata: entries })
    }

    /// What stands before the name of every tensor of the LSTM.
    fn prefix(&self) -> Result<&str> {
        let prefixes: BTreeSet<&str> = self.tensors.keys().filter_map(|name| Key::parse(name)).map(|key| key.prefix).collect();
        let quoted = |names: &mut dyn Iterator<Item = &str>| list(names.map(|name| format!("`{name}`")), MAX_LISTED);
        match (prefixes.first(), prefixes.len()) {
            (Some(prefix), 1) => Ok(prefix),
            (None, _) if self.tensors.is_empty() => Err(Error::config("tensors: expected those of torch.nn.LSTM, found none")),
            (None, _) => {
                let names = quoted(&mut self.tensors.keys().map(String::as_str));
                Err(Error::config(format!("tensors: expected the names of torch.nn.LSTM, such as `weight_ih_l0`, found {names}")))
            }
            (Some(_), count) => {
                let prefixes = quoted(&mut prefixes.iter().copied());
                Err(Error::config(format!("tensors: expected one LSTM, found {count}, whose names start with {prefixes}")))
            }
        }
    }

    /// The weights, after a look at what is missing, what is superfluous, and every shape.
    fn lstm(&self, prefix: &str, config: LstmConfig) -> Result<Lstm> {
        self.check_names(prefix, &config)?;
        let dirs = config.num_directions();
        let cells: Result<Vec<_>> = (0..config.num_cells()).map(|cell| self.cell(prefix, &config, cell / dirs, cell % dirs)).collect();
        Lstm::new(config, cells?)
    }

    /// No work or memory goes into what the configuration claims beyond the tensors that are there.
    fn check_names(&self, prefix: &str, config: &LstmConfig) -> Result<()> {
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_in(config)).collect();
        let belongs = |name: &String| Key::parse(name).is_some_and(|key| key.is_in(config));
        let num_found = self.tensors.keys().filter(|name| belongs(name)).count();
        let num_missing = kinds.len() * config.num_cells() - num_found;
        if num_missing > 0 {
            let dirs = config.num_directions();
            let wanted = (0..config.num_cells()).flat_map(|cell| kinds.iter().map(move |&kind| Key::of(prefix, kind, cell / dirs, cell % dirs)));
            let missing = wanted.filter(|key| !self.tensors.contains_key(&key.name())).map(|key| {
                let (rule, shape) = key.kind.shape(config, key.layer);
                format!("`{}` {rule} = {shape:?}", key.name())
            });
            let listed: Vec<_> = missing.take(MAX_LISTED.min(num_missing)).collect();
            let rest = and_more(num_missing - listed.len());
            return Err(Error::shape(format!("tensors: expected {}{rest}, found none such", listed.join(", "))));
        }
        let superfluous: Vec<_> = self.tensors.keys().filter(|name| !belongs(name)).collect();
        if superfluous.is_empty() {
            return Ok(());
        }
        let lstm_like = superfluous.iter().all(|name| Key::parse(name).is_some());
        let rule = if lstm_like { "those of the configuration" } else { "those of one LSTM and no other layer" };
        let names = list(superfluous.into_iter().map(|name| format!("`{name}`")), MAX_LISTED);
        Err(Error::config(format!("tensors: expected {rule}, found also {names}")))
    }

    fn cell(&self, prefix: &str, config: &LstmConfig, layer: usize, dir: usize) -> Result<CellWeights> {
        let tensor = |kind| self.tensor(&Key::of(prefix, kind, layer, dir), config);
        let optional = |kind: Kind| if kind.is_in(config) { tensor(kind).map(Some) } else { Ok(None) };
        let layer_norm = if config.layer_norm.is_some() {
            Some(LayerNormWeights {
                gamma_ih: axes(tensor(Kind::GammaIh)?),
                gamma_hh: axes(tensor(Kind::GammaHh)?),
                gamma_c: axes(tensor(Kind::GammaC)?),
                beta_c: axes(tensor(Kind::BetaC)?),
            })
        } else {
            None
        };
        Ok(CellWeights {
            weight_ih: axes(tensor(Kind::WeightIh)?),
            weight_hh: axes(tensor(Kind::WeightHh)?),
            bias_ih: optional(Kind::BiasIh)?.map(axes),
            bias_hh: optional(Kind::BiasHh)?.map(axes),
            weight_hr: optional(Kind::WeightHr)?.map(axes),
            peepholes: optional(Kind::Peephole)?.map(axes),
            layer_norm,
        })
    }

    /// The tensor as float32, in the shape that the configuration gives it.
    fn tensor(&self, key: &Key<'_>, config: &LstmConfig) -> Result<ArrayD<f32>> {
        let name = key.name();
        let (rule, shape) = key.kind.shape(config, key.layer);
        let stored = self.tensors.get(&name).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected {rule} = {shape:?}, found none")))?;
        if stored.shape != shape {
            return Err(Error::shape(format!("tensor `{name}`: expected {rule} = {shape:?}, found {:?}", stored.shape)));
        }
        let values = float32(stored.dtype, stored.data)
            .ok_or_else(|| Error::shape(format!("tensor `{name}`: expected F32, F16, BF16 or F64, found {}", stored.dtype)))?;
        ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| Error::shape(format!("tensor `{name}`: {error}")).with_source(error))
    }

    /// A note for every type of element that was not float32 already.
    fn conversions(&self) -> impl Iterator<Item = String> {
        [(Dtype::F16, "widened"), (Dtype::BF16, "widened"), (Dtype::F64, "narrowed")].into_iter().filter_map(|(dtype, verb)| {
            let count = self.tensors.values().filter(|stored| stored.dtype == dtype).count();
            (count > 0).then(|| format!("{count} of {} tensors are {dtype}, {verb} to float32", self.tensors.len()))
        })
    }
}

fn check_equal(stored: (&LstmConfig, bool), given: (&LstmConfig, bool)) -> Result<()> {
    let differences = config::differences(stored, given);
    if differences.is_empty() {
        return Ok(());
    }
    let fields = differences.join(", ");
    Err(Error::config(format!("configuration: expected that of the metadata key `lstm`, or none, found another {fields}")))
}

/// Only for a tensor whose shape [`File::tensor`] has checked.
fn axes<D: Dimension>(tensor: ArrayD<f32>) -> ndarray::Array<f32, D> {
    tensor.into_dimensionality().expect("the shape was checked against one with this many axes")
}

/// `None` where the type is not a float of at least 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "narrowing is what the function is for")]
fn float32(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    fn each<const BYTES: usize>(data: &[u8], value: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
        data.as_chunks::<BYTES>().0.iter().map(|&bytes| value(bytes)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(data, f32::from_le_bytes),
        Dtype::F16 => each(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => each(data, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => return None,
    })
}

/// The crate's error in words that a user without its source understands.
fn explain(error: &SafeTensorError, bytes: &[u8]) -> String {
    let file_len = bytes.len();
    let header_len = bytes.first_chunk().map_or(0, |&length| u64::from_le_bytes(length));
    match error {
        SafeTensorError::HeaderTooSmall => format!("header: expected at least 8 bytes, found {file_len}"),
        SafeTensorError::HeaderTooLarge => format!("header: expected a length of at most 100000000 bytes, found {header_len}"),
        SafeTensorError::InvalidHeaderLength => format!("header: expected a length within the file's {file_len} bytes, found {header_len}"),
        SafeTensorError::InvalidHeader(cause) => format!("header: expected UTF-8: {cause}"),
        SafeTensorError::InvalidHeaderDeserialization(cause) => format!("header: expected names, types, shapes and offsets as JSON: {cause}"),
        SafeTensorError::InvalidOffset(name) => format!("tensor `{name}`: expected its data to start where the one before it ends"),
        SafeTensorError::TensorInvalidInfo => "header: a tensor's offsets do not fit its shape and type".to_owned(),
        SafeTensorError::ValidationOverflow => "header: a tensor's shape is larger than any file".to_owned(),
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("data: expected the tensors to end where the file ends, at {file_len} bytes; it is cut off, or has more")
        }
        other => other.to_string(),
    }
}

/// The first `limit` items with commas, and how many more there are.
fn list(items: impl Iterator<Item = String>, limit: usize) -> String {
    let items: Vec<_> = items.collect();
    let shown = items.len().min(limit);
    format!("{}{}", items[..shown].join(", "), and_more(items.len() - shown))
}

fn and_more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" and {count} more") }
}
