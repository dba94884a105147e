//! A network as a safetensors file: its stages, where it is a chain of them, or its LSTM stacks alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use half::f16;
use ndarray::{Array2, ArrayViewD};
use serde_json::{Map, Value};

use super::chain::{Chain, Entry};
use super::keys::{Key, Kind};
use super::trace::{self, Traced, TracedStage};
use super::{LSTM, LSTMS, NETWORK, config};
use crate::error::{Error, Result};
use crate::formats::temporary::Temporary;
use crate::network::{DenseStage, Lstm, Network, PartKind, Precision};

/// What of a network a file has that was made of it: [`Network::save_safetensors`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// whether it is the whole network, so that the file can be run in its place
    pub complete: bool,
    /// what is in it, in order
    pub stages: Vec<SavedStage>,
    /// how many tensors
    pub num_tensors: usize,
    /// how large the file is
    pub num_bytes: u64,
    /// what is not in it, and why not
    pub left_out: Vec<String>,
    /// what is called otherwise in it, or has other axes
    pub notes: Vec<String>,
}

/// A stage in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedStage {
    /// what it is
    pub kind: PartKind,
    /// what the names of its tensors start with, without the last dot; empty where they start with nothing
    pub name: String,
    /// its name in the network
    pub node: String,
    /// how many numbers its weights hold
    pub num_parameters: usize,
}

impl Network {
    /// Writes the network as plain weights, with its configuration in the metadata: the whole of it where it is a chain of an embedding, LSTM
    /// stacks, linear layers and functions, and else the stacks alone, for [`Reading::prefix`](crate::Reading::prefix) to choose from.
    ///
    /// Weights are stored as they are, or with [`Precision::F16`] matrices as float16, vectors never. The file is there whole or not at all.
    ///
    /// ```
    /// use cellgate::{Network, Precision};
    ///
    /// let network = Network::open("assets/char-lm.safetensors")?;
    /// let folder = std::env::temp_dir();
    /// let saved = network.save_safetensors(folder.join("cellgate-doc.safetensors"), Precision::F32)?;
    /// assert!(saved.complete);
    /// # std::fs::remove_file(folder.join("cellgate-doc.safetensors"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the file cannot be written, and as [`Network::to_safetensors`].
    pub fn save_safetensors(&self, path: impl AsRef<Path>, precision: Precision) -> Result<Saved> {
        let (bytes, saved) = self.to_safetensors(precision)?;
        let path = path.as_ref();
        Temporary::write(path, &bytes).and_then(Temporary::publish).map_err(|error| Error::io(path, "write", error))?;
        Ok(saved)
    }

    /// As [`Network::save_safetensors`], the bytes of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where no LSTM has weights of its own, where a weight is beyond float16, and for [`Precision::Int8`],
    /// which such files do not have.
    pub fn to_safetensors(&self, precision: Precision) -> Result<(Vec<u8>, Saved)> {
        if precision == Precision::Int8 {
            return Err(Error::config("precision int8: expected f32 or f16 for a file"));
        }
        let (file, mut saved) = match trace::chain(self) {
            Ok(traced) => whole(traced, precision)?,
            Err(why) => stacks(self, &why, precision)?,
        };
        let bytes = file.bytes(&self.metadata)?;
        (saved.num_tensors, saved.num_bytes) = (file.tensors.len(), bytes.len() as u64);
        Ok((bytes, saved))
    }
}

/// The file of a network that is a chain.
fn whole(traced: Traced<'_>, precision: Precision) -> Result<(File<'_>, Saved)> {
    let Traced { stages, batch_first, notes } = traced;
    let mut file = File { precision, ..File::default() };
    let mut saved = Saved { complete: true, stages: Vec::new(), num_tensors: 0, num_bytes: 0, left_out: Vec::new(), notes };
    if let [TracedStage::Lstm(node, lstm)] = stages[..] {
        file.add_lstm("", lstm)?;
        file.metadata.insert(LSTM.to_owned(), config::to_value(lstm.config(), batch_first).to_string());
        saved.stages.push(SavedStage::lstm("", &node.name, lstm));
        return Ok((file, saved));
    }
    let mut names = Names::default();
    let mut entries = Vec::new();
    for stage in stages {
        match stage {
            TracedStage::Lstm(node, lstm) => {
                let name = names.add(&node.name, "lstm");
                file.add_lstm(&format!("{name}."), lstm)?;
                saved.stages.push(SavedStage::lstm(&name, &node.name, lstm));
                entries.push(Entry::Lstm(name, Some(lstm.config().clone())));
            }
            TracedStage::Dense(node) => {
                let (kind, own) = match &*node.stage {
                    DenseStage::Embedding(_) => (PartKind::Embedding, "embedding"),
                    DenseStage::Linear(..) | DenseStage::Function(_) => (PartKind::Linear, "linear"),
                };
                let name = if let DenseStage::Function(_) = *node.stage { String::new() } else { names.add(&node.name, own) };
                saved.stages.push(SavedStage { kind, name: name.clone(), node: node.name.clone(), num_parameters: node.stage.num_parameters() });
                entries.push(match &*node.stage {
                    DenseStage::Embedding(embedding) => {
                        file.add_matrix(format!("{name}.weight"), embedding.table())?;
                        Entry::Embedding(name)
                    }
                    DenseStage::Linear(linear, function) => {
                        file.add_matrix(format!("{name}.weight"), linear.weight())?;
                        if let Some(bias) = linear.bias() {
                            file.add(format!("{name}.bias"), bias.view().into_dyn());
                        }
                        Entry::Linear(name, *function)
                    }
                    DenseStage::Function(function) => Entry::Function(*function),
                });
            }
        }
    }
    file.metadata.insert(NETWORK.to_owned(), Chain { batch_first: Some(batch_first), stages: entries }.to_json());
    Ok((file, saved))
}

/// The file of the stacks of a network that is more than a chain, `why` says how.
fn stacks<'n>(network: &'n Network, why: &str, precision: Precision) -> Result<(File<'n>, Saved)> {
    let mut file = File { precision, ..File::default() };
    let mut saved = Saved {
        complete: false,
        stages: Vec::new(),
        num_tensors: 0,
        num_bytes: 0,
        left_out: vec![format!("the network as a whole: {why}")],
        notes: Vec::new(),
    };
    let mut names = Names::default();
    let mut configs = Map::new();
    for node in &network.nodes {
        let Some(lstm) = node.constant_weights() else {
            saved.left_out.push(format!("LSTM `{}`: its weights come with each call", node.name));
            continue;
        };
        let name = names.add(&node.name, "lstm");
        file.add_lstm(&format!("{name}."), lstm)?;
        configs.insert(name.clone(), config::to_value(lstm.config(), node.layout.batch_first()));
        saved.stages.push(SavedStage::lstm(&name, &node.name, lstm));
    }
    if saved.stages.is_empty() {
        return Err(Error::config("network: expected an LSTM with weights of its own to write, found none"));
    }
    for part in network.parts() {
        let operators: Vec<String> =
            part.operators.iter().map(|(operator, count)| if *count == 1 { operator.clone() } else { format!("{count} {operator}") }).collect();
        match part.kind {
            PartKind::Lstm | PartKind::Axes => {}
            PartKind::Cpu => saved.left_out.push(format!("`{}`, which runs on the CPU: {}", part.name, operators.join(", "))),
            PartKind::Embedding | PartKind::Linear => saved.left_out.push(format!("{} `{}`", part.kind.name(), part.name)),
        }
    }
    file.metadata.insert(LSTMS.to_owned(), Value::Object(configs).to_string());
    Ok((file, saved))
}

impl SavedStage {
    fn lstm(name: &str, node: &str, lstm: &Lstm) -> Self {
        Self { kind: PartKind::Lstm, name: name.to_owned(), node: node.to_owned(), num_parameters: lstm.config().num_parameters() }
    }
}

/// Names of modules, each once.
#[derive(Default)]
struct Names {
    given: BTreeSet<String>,
    /// the last number that came behind a path
    numbers: BTreeMap<String, usize>,
}

impl Names {
    /// A new name: `node`, or what comes next to it, as the path of a module: words with dots between them.
    fn add(&mut self, node: &str, otherwise: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { ' ' };
        let words: String = node.chars().map(|c| if c == '/' { '.' } else { plain(c) }).collect();
        let parts = words.split('.').map(|part| part.split_whitespace().collect::<Vec<_>>().join("_")).filter(|part| !part.is_empty());
        let path = parts.collect::<Vec<_>>().join(".");
        let path = if path.is_empty() { otherwise.to_owned() } else { path };
        let number = self.numbers.entry(path.clone()).or_default();
        loop {
            *number += 1;
            let name = if *number == 1 { path.clone() } else { format!("{path}_{number}") };
            if self.given.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A file to be.
struct File<'n> {
    precision: Precision,
    /// each with whether it is stored as float16
    tensors: BTreeMap<String, (ArrayViewD<'n, f32>, bool)>,
    metadata: BTreeMap<String, String>,
}

impl Default for File<'_> {
    fn default() -> Self {
        Self { precision: Precision::F32, tensors: BTreeMap::new(), metadata: BTreeMap::new() }
    }
}

impl<'n> File<'n> {
    /// Adds a vector or other small tensor, which stays as it is.
    fn add(&mut self, name: String, tensor: ArrayViewD<'n, f32>) {
        self.tensors.insert(name, (tensor, false));
    }

    /// Adds a matrix of weights, which is stored in the file's precision.
    fn add_matrix(&mut self, name: String, matrix: &'n Array2<f32>) -> Result<()> {
        self.precision.check(matrix, || format!("`{name}`"))?;
        self.tensors.insert(name, (matrix.view().into_dyn(), self.precision == Precision::F16));
        Ok(())
    }

    fn add_lstm(&mut self, prefix: &str, lstm: &'n Lstm) -> Result<()> {
        let config = lstm.config();
        for layer in 0..config.num_layers {
            for dir in 0..config.num_directions() {
                let cell = lstm.cell(layer, dir);
                let name = |kind| Key::of(prefix, kind, layer, dir).name();
                let matrices =
                    [(Kind::WeightIh, Some(&cell.weight_ih)), (Kind::WeightHh, Some(&cell.weight_hh)), (Kind::WeightHr, cell.weight_hr.as_ref())];
                for (kind, matrix) in matrices.into_iter().filter_map(|(kind, matrix)| Some((kind, matrix?))) {
                    self.add_matrix(name(kind), matrix)?;
                }
                if let Some(peepholes) = &cell.peepholes {
                    self.add(name(Kind::Peephole), peepholes.view().into_dyn());
                }
                let norm = cell.layer_norm.as_ref();
                let vectors = [
                    (Kind::BiasIh, cell.bias_ih.as_ref()),
                    (Kind::BiasHh, cell.bias_hh.as_ref()),
                    (Kind::GammaIh, norm.map(|norm| &norm.gamma_ih)),
                    (Kind::GammaHh, norm.map(|norm| &norm.gamma_hh)),
                    (Kind::GammaC, norm.map(|norm| &norm.gamma_c)),
                    (Kind::BetaC, norm.map(|norm| &norm.beta_c)),
                ];
                for (kind, vector) in vectors.into_iter().filter_map(|(kind, vector)| Some((kind, vector?))) {
                    self.add(name(kind), vector.view().into_dyn());
                }
            }
        }
        Ok(())
    }

    /// The file: the length of its header, the header, the tensors; those of float32 first, so that all are aligned. `carried` is metadata of the
    /// network, which keeps what this file does not say itself.
    fn bytes(&self, carried: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        // a value that is a tensor's name would be read as another name of it
        let own = |(key, value): &(&String, &String)| {
            [LSTM, LSTMS, NETWORK].contains(&key.as_str()) || [key, value].into_iter().any(|name| self.tensors.contains_key(*name))
        };
        let mut metadata: BTreeMap<&String, &String> = carried.iter().filter(|entry| !own(entry)).collect();
        metadata.extend(&self.metadata);
        let mut header = Map::from_iter([("__metadata__".to_owned(), serde_json::json!(metadata))]);
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, (_, half))| *half);
        let mut data = Vec::new();
        for (name, (tensor, half)) in order {
            let start = data.len();
            let dtype = if *half {
                data.extend(tensor.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
                "F16"
            } else {
                data.extend(tensor.iter().flat_map(|value| value.to_le_bytes()));
                "F32"
            };
            header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": [start, data.len()]}));
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut header);
        bytes.append(&mut data);
        Ok(bytes)
    }
}
