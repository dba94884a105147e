//! A safetensors file taken apart: its tensors by name, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use ::safetensors::{Dtype, SafeTensorError, SafeTensors};
use half::{bf16, f16};
use ndarray::{ArrayD, Dimension, IxDyn};

use super::keys::{Key, Kind};
use super::{MAX_LISTED, and_more, quoted};
use crate::error::{Error, Result};
use crate::network::{CellWeights, DenseStage, Embedding, LayerNormWeights, Linear, Lstm, LstmConfig, RowFunction};

/// A file taken apart: its tensors by name, and its metadata.
pub(super) struct File<'a> {
    pub(super) tensors: BTreeMap<String, Stored<'a>>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// A tensor as it lies in the file; the length of `data` is that of `dtype` and `shape`.
#[derive(Clone)]
pub(super) struct Stored<'a> {
    dtype: Dtype,
    pub(super) shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> File<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (header_len, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| Error::format(format!("safetensors: {}", explain(&error, bytes))).with_source(error))?;
        let data = &bytes[size_of::<u64>() + header_len..];
        let entries = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let stored = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, Stored { dtype: info.dtype, shape: info.shape.clone(), data: &data[start..end] })
        });
        let mut file = Self { tensors: stored.collect(), metadata: entries };
        file.share();
        Ok(file)
    }

    /// Gives tensors their second names: what `safetensors.torch.save_model` writes into the metadata of a module in which two parameters are one.
    fn share(&mut self) {
        let mut shared = BTreeSet::new();
        for (name, kept) in &self.metadata {
            if let (false, Some(stored)) = (self.tensors.contains_key(name), self.tensors.get(kept))
                // a small file must not claim a large tensor many times
                && shared.insert(kept)
            {
                self.tensors.insert(name.clone(), stored.clone());
            }
        }
    }

    /// What stands before the names of the tensors of each LSTM.
    pub(super) fn prefixes(&self) -> BTreeSet<&str> {
        self.tensors.keys().filter_map(|name| Key::parse(name)).map(|key| key.prefix).collect()
    }

    /// The names of the tensors of the LSTM `prefix`. A file may have many: each looks at its own tensors only.
    pub(super) fn keys_of(&self, prefix: &str) -> impl Iterator<Item = Key<'_>> {
        let from_there = self.tensors.range(prefix.to_owned()..).map(|(name, _)| name);
        from_there.take_while(move |name| name.starts_with(prefix)).filter_map(|name| Key::parse(name)).filter(move |key| key.prefix == prefix)
    }

    /// Drops all tensors but those of the LSTM `prefix`, or, where it names none, those whose names start so; a note on what is dropped.
    pub(super) fn keep(&mut self, prefix: &str) -> Result<Option<String>> {
        let prefixes = self.prefixes();
        let dotted = format!("{prefix}.");
        let starts = [prefix, &dotted];
        let own = starts.into_iter().find(|start| prefixes.contains(start)).map(str::to_owned);
        let above = || starts.into_iter().find(|start| start.ends_with(['.', '/']) && prefixes.iter().any(|prefix| prefix.starts_with(start)));
        let is_kept: Box<dyn Fn(&str) -> bool> = match (own, above().map(str::to_owned)) {
            (Some(own), _) => Box::new(move |name| Key::parse(name).is_some_and(|key| key.prefix == own)),
            (None, Some(above)) => Box::new(move |name| name.starts_with(&above)),
            (None, None) => {
                let found = quoted(prefixes.iter().copied());
                let found = if found.is_empty() { "no LSTM".to_owned() } else { format!("LSTMs whose names start with {found}") };
                return Err(Error::config(format!("prefix `{prefix}`: expected the start of an LSTM's names, found {found}")));
            }
        };
        let dropped: Vec<String> = self.tensors.keys().filter(|name| !is_kept(name)).cloned().collect();
        self.tensors.retain(|name, _| is_kept(name));
        let names = quoted(dropped.iter().map(String::as_str));
        Ok((!dropped.is_empty()).then(|| format!("prefix `{prefix}`: {} other tensors are left aside: {names}", dropped.len())))
    }

    /// The path that the names of all tensors start with, with its last dot.
    pub(super) fn root(&self) -> &str {
        let (Some(first), Some(last)) = (self.tensors.keys().next(), self.tensors.keys().next_back()) else { return "" };
        let common = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        first[..first.floor_char_boundary(common)].rfind(['.', '/']).map_or("", |dot| &first[..=dot])
    }

    /// The table `{prefix}weight`.
    pub(super) fn embedding(&self, prefix: &str) -> Result<DenseStage> {
        let name = format!("{prefix}weight");
        let table = self.floats(&name, "[num_embeddings, embedding_dim]", &self.shape(&name, "[num_embeddings, embedding_dim]")?)?;
        Embedding::new(axes(table)).map(DenseStage::Embedding).map_err(|error| error.within(prefix))
    }

    /// The layer `{prefix}weight` and, where there is one, `{prefix}bias`.
    pub(super) fn linear(&self, prefix: &str, function: RowFunction) -> Result<DenseStage> {
        let name = format!("{prefix}weight");
        let [rows, columns] = self.shape(&name, "[out_features, in_features]")?;
        let weight = self.floats(&name, "[out_features, in_features]", &[rows, columns])?;
        let bias = format!("{prefix}bias");
        let bias = if self.tensors.contains_key(&bias) { Some(axes(self.floats(&bias, "[out_features]", &[rows])?)) } else { None };
        let linear = Linear::new(axes(weight), bias).map_err(|error| error.within(prefix))?;
        Ok(DenseStage::Linear(linear, function))
    }

    /// The shape of the tensor `name`, which has to have two axes.
    fn shape(&self, name: &str, rule: &str) -> Result<[usize; 2]> {
        let stored = self.tensors.get(name).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected {rule}, found none")))?;
        <[usize; 2]>::try_from(stored.shape.as_slice())
            .map_err(|_| Error::shape(format!("tensor `{name}`: expected {rule}, found {:?}", stored.shape)))
    }

    /// The weights, after a look at what is missing, what is superfluous, and every shape.
    pub(super) fn lstm(&self, prefix: &str, config: LstmConfig) -> Result<Lstm> {
        self.check_names(prefix, &config)?;
        let dirs = config.num_directions();
        let cells: Result<Vec<_>> = (0..config.num_cells()).map(|cell| self.cell(prefix, &config, cell / dirs, cell % dirs)).collect();
        Lstm::new(config, cells?)
    }

    /// No work or memory goes into what the configuration claims beyond the tensors that are there.
    fn check_names(&self, prefix: &str, config: &LstmConfig) -> Result<()> {
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_in(config)).collect();
        let num_found = self.keys_of(prefix).filter(|key| key.is_in(config)).count();
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
        let superfluous: Vec<String> = self.keys_of(prefix).filter(|key| !key.is_in(config)).map(|key| key.name()).collect();
        if superfluous.is_empty() {
            return Ok(());
        }
        let names = quoted(superfluous.iter().map(String::as_str));
        Err(Error::config(format!("tensors: expected those of the configuration, found also {names}")))
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
        let (rule, shape) = key.kind.shape(config, key.layer);
        self.floats(&key.name(), rule, &shape)
    }

    /// The tensor `name` as float32, in the shape that `rule` gives it.
    fn floats(&self, name: &str, rule: &str, shape: &[usize]) -> Result<ArrayD<f32>> {
        let stored = self.tensors.get(name).ok_or_else(|| Error::shape(format!("tensor `{name}`: expected {rule} = {shape:?}, found none")))?;
        if stored.shape != shape {
            return Err(Error::shape(format!("tensor `{name}`: expected {rule} = {shape:?}, found {:?}", stored.shape)));
        }
        let values = float32(stored.dtype, stored.data)
            .ok_or_else(|| Error::shape(format!("tensor `{name}`: expected F32, F16, BF16 or F64, found {}", stored.dtype)))?;
        ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|error| Error::shape(format!("tensor `{name}`: {error}")).with_source(error))
    }

    /// A note for every type of element that was not float32 already.
    pub(super) fn conversions(&self) -> impl Iterator<Item = String> {
        [(Dtype::F16, "widened"), (Dtype::BF16, "widened"), (Dtype::F64, "narrowed")].into_iter().filter_map(|(dtype, verb)| {
            let count = self.tensors.values().filter(|stored| stored.dtype == dtype).count();
            (count > 0).then(|| format!("{count} of {} tensors are {dtype}, {verb} to float32", self.tensors.len()))
        })
    }
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
