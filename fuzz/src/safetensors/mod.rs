//! Mutations of a safetensors file as its header, which is JSON, and the tensors' data.

mod make;

use cellgate::{LstmConfig, Reading, formats};

use crate::json::Json;
use crate::rng::Rng;

const METADATA: &str = "__metadata__";

/// A metadata key that the library does not know: how the file is to be read.
const READING: &str = "reading";

/// Types of elements with their bytes; one that is none counts as having some.
const TYPES: [(&str, usize); 9] = [("F32", 4), ("F16", 2), ("BF16", 2), ("F64", 8), ("I8", 1), ("I64", 8), ("BOOL", 1), ("F8_E4M3", 1), ("F4", 1)];

/// Keys and texts that the library knows.
const WORDS: &[&str] = &[
    METADATA,
    READING,
    "lstm",
    "lstms",
    "network",
    "stages",
    "config",
    "linear",
    "embedding",
    "function",
    "batch_first",
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "bidirectional",
    "direction",
    "reverse",
    "proj_size",
    "peepholes",
    "input_forget",
    "layer_norm",
    "clip",
    "cell_clip",
    "proj_clip",
    "activations",
    "name",
    "alpha",
    "beta",
    "softmax",
    "log_softmax",
    "none",
    "relu",
    "LeakyRelu",
    "Elu",
    "HardSigmoid",
    "Sigmoid",
    "Tanh",
    "Affine",
    "prefix",
    "counted",
    "dropout",
    "dtype",
    "shape",
    "data_offsets",
    "F32",
    "F16",
    "BF16",
    "F64",
    "F4",
    "weight_ih_l0",
    "weight_hh_l0",
    "bias_ih_l0",
    "bias_hh_l1_reverse",
    "weight_hr_l0",
    "weight_peephole_l0",
    "gamma_ih_l0",
    "beta_c_l0",
    "fc.weight",
    "fc.bias",
    "emb.weight",
    "a.lstm.weight_ih_l0",
    "num_batches_tracked",
    "",
];

/// How a file is to be read, by the metadata of its own.
#[derive(Debug, Default)]
pub struct Options {
    prefix: Option<String>,
    network: Option<String>,
    config: Option<(LstmConfig, bool)>,
    batch_first: bool,
    counted: bool,
}

impl Options {
    /// The options that `bytes` ask for; none where they are no file.
    pub fn of(bytes: &[u8]) -> Self {
        let asked = File::parse(bytes).and_then(|file| match file.header.get(METADATA)?.get(READING)? {
            Json::Text(text) => Json::parse(text),
            _ => None,
        });
        let Some(asked) = asked else { return Self::default() };
        let text = |key: &str| if let Some(Json::Text(text)) = asked.get(key) { Some(text.clone()) } else { None };
        let flag = |key: &str| matches!(asked.get(key), Some(Json::Plain(text)) if text == "true");
        let config = asked.get("config").and_then(|config| formats::parse_config(&config.to_string()).ok());
        Self { prefix: text("prefix"), network: text("network"), config, batch_first: flag("batch_first"), counted: flag("counted") }
    }

    /// The options for the library.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            folder: None,
            config: self.config.as_ref().map(|(config, batch_first)| (config, *batch_first)),
            prefix: self.prefix.as_deref(),
            network: self.network.as_deref(),
            batch_first: self.batch_first,
            counted: self.counted,
        }
    }
}

struct File {
    header: Json,
    data: Vec<u8>,
}

/// Changes `bytes` in up to four places, or makes a file of other stages; `None` where they are no file, or become too long.
pub fn mutate(bytes: &[u8], max_size: usize, seed: u32) -> Option<Vec<u8>> {
    let mut file = File::parse(bytes)?;
    let mut rng = Rng::new(seed);
    if rng.below(32) == 0 {
        file = File { header: make::network(&mut rng), data: Vec::new() };
        file.lay_out(max_size);
    }
    for _ in 0..=rng.below(4) {
        file.change(&mut rng);
    }
    if rng.below(8) != 0 {
        file.lay_out(max_size);
    }
    let made = file.bytes(if rng.below(32) == 0 { Some(rng.number().cast_unsigned()) } else { None });
    (made.len() <= max_size).then_some(made)
}

impl File {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        let header = Json::parse(str::from_utf8(header).ok()?).filter(|header| matches!(header, Json::Object(_)))?;
        Some(Self { header, data: data.to_vec() })
    }

    /// The file, with the length of its header or another.
    fn bytes(&self, len: Option<u64>) -> Vec<u8> {
        let header = self.header.to_string();
        let len = len.unwrap_or(header.len() as u64);
        [&len.to_le_bytes(), header.as_bytes(), &self.data].concat()
    }

    fn change(&mut self, rng: &mut Rng) {
        let Json::Object(entries) = &mut self.header else { return };
        match rng.below(8) {
            0 => entries.push((make::name(entries, rng), make::tensor(&[1 + rng.below(8), 1 + rng.below(3)], rng))),
            1 if !entries.is_empty() => {
                let place = rng.below(entries.len());
                entries[place].0 = make::name(entries, rng);
            }
            2 => {
                let (key, value) = make::metadata(entries, rng);
                match entries.iter_mut().find(|(name, _)| name == METADATA) {
                    Some((_, Json::Object(known))) => {
                        known.retain(|(name, _)| *name != key);
                        known.push((key, value));
                    }
                    _ => entries.insert(0, (METADATA.to_owned(), Json::Object(vec![(key, value)]))),
                }
            }
            3 | 4 if let Some((_, metadata)) = entries.iter_mut().find(|(name, _)| name == METADATA) => metadata.mutate(WORDS, rng),
            5 if !self.data.is_empty() => {
                let place = rng.below(self.data.len());
                self.data[place] = [0, 0x7f, 0x80, 0xff, rng.next() as u8][rng.below(5)];
            }
            _ => self.header.mutate(WORDS, rng),
        }
    }

    /// Puts the tensors one after the other, with as much data as their shapes ask for, as far as that is less than `most` bytes.
    fn lay_out(&mut self, most: usize) {
        let Json::Object(entries) = &mut self.header else { return };
        let mut data = Vec::new();
        for (_, tensor) in entries.iter_mut().filter(|(name, _)| name != METADATA) {
            let Some(needed) = needed_bytes(tensor).filter(|needed| *needed <= most.saturating_sub(data.len())) else { continue };
            let Json::Object(fields) = tensor else { continue };
            let offsets = fields.iter_mut().find(|(key, _)| key == "data_offsets");
            let old = offsets.as_ref().and_then(|(_, offsets)| if let Json::List(ends) = offsets { ends.first()?.number() } else { None });
            let old = old.and_then(|start| self.data.get(start..start.checked_add(needed)?));
            let start = data.len();
            match old {
                Some(old) => data.extend(old),
                None => data.extend(0.25_f32.to_le_bytes().into_iter().cycle().take(needed)),
            }
            if let Some((_, offsets)) = offsets {
                *offsets = Json::List([start, data.len()].map(Json::plain).to_vec());
            }
        }
        self.data = data;
    }
}

/// The bytes that the shape and the type of a tensor ask for.
fn needed_bytes(tensor: &Json) -> Option<usize> {
    let Json::Text(dtype) = tensor.get("dtype")? else { return None };
    let (_, bytes) = TYPES.into_iter().find(|(name, _)| name == dtype)?;
    let Json::List(shape) = tensor.get("shape")? else { return None };
    shape.iter().try_fold(bytes, |bytes, axis| bytes.checked_mul(axis.number()?))
}
