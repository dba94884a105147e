//! Safetensors files with the key names of PyTorch modules: an LSTM alone, or with an embedding before and linear layers behind it.
//!
//! [`file`] takes a file apart, [`keys`] knows the names of an LSTM's tensors, [`infer`] its configuration from their shapes and [`config`] from JSON;
//! [`chain`] is what the metadata says about a whole network, [`guess`] what names and shapes say without it. [`trace`] finds the chain that a network
//! of any origin is, and [`write`] makes a file of it.

mod chain;
mod config;
mod file;
mod guess;
mod infer;
mod keys;
#[cfg(test)]
mod tests;
mod trace;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use self::chain::{Chain, Entry};
pub use self::config::parse_config;
use self::file::File;
use self::keys::Key;
pub use self::write::{Saved, SavedStage};
use crate::error::{Error, Result};
use crate::formats::Reading;
use crate::network::{DenseStage, LstmConfig, Network, RowFunction, Stage};

/// How many names an error lists before it counts the rest.
const MAX_LISTED: usize = 5;

/// The metadata key for the configuration of the file's only LSTM, or of the one that a prefix has chosen.
const LSTM: &str = "lstm";

/// The metadata key for configurations of LSTMs that are not joined, by what their names start with.
const LSTMS: &str = "lstms";

/// The metadata key for the stages of a whole network.
const NETWORK: &str = "network";

/// Whether the file starts like safetensors: a length, then a JSON object. The length is not looked at, so that a file with a wrong one
/// gets an error about safetensors.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    let Some((b'{', rest)) = bytes.get(8..).and_then(<[u8]>::split_first) else { return false };
    rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b'"' | b'}'))
}

/// Reads the file's network: the stages that the metadata key `network` or `reading` names, or an LSTM and what is unmistakable around it.
pub(crate) fn read(bytes: &[u8], reading: &Reading<'_>) -> Result<Network> {
    let mut file = File::parse(bytes)?;
    let mut notes = Vec::new();
    if let Some(prefix) = reading.prefix {
        notes.extend(file.keep(prefix)?);
    }
    let stored = file
        .metadata
        .get(NETWORK)
        .filter(|_| reading.prefix.is_none())
        .map(|json| Chain::parse(json).map_err(|error| error.within("metadata `network`")));
    let given = reading.network.map(|json| Chain::parse(json).map_err(|error| error.within("network")));
    let mut network = match (stored.transpose()?, given.transpose()?) {
        (Some(stored), Some(given)) if !agree(&stored, &given) => {
            return Err(Error::config("network: expected the stages of the metadata key `network`, or none, found others"));
        }
        (Some(chain), _) | (None, Some(chain)) => described(&file, chain, reading, &mut notes)?,
        (None, None) => inferred(&file, reading, &mut notes)?,
    };
    notes.extend(file.conversions());
    network.format = "safetensors";
    network.notes.splice(0..0, notes);
    network.metadata = file.metadata;
    Ok(network)
}

/// The network of the stages that metadata or the caller names.
fn described(file: &File<'_>, mut chain: Chain, reading: &Reading<'_>, notes: &mut Vec<String>) -> Result<Network> {
    let root = root_of(file, &chain);
    if !root.is_empty() {
        notes.push(format!("the names of the tensors start with `{root}`"));
    }
    let num_stacks = chain.stages.iter().filter(|stage| matches!(stage, Entry::Lstm(..))).count();
    if num_stacks != 1 && reading.config.is_some() {
        return Err(Error::config(format!("configuration: expected none for a network of {num_stacks} LSTMs, whose stages have their own")));
    }
    for entry in &mut chain.stages {
        let Entry::Lstm(path, config) = entry else { continue };
        let prefix = prefix_of(root, path);
        let alone = file.metadata.get(LSTM).filter(|_| num_stacks == 1);
        let (found, said) = match config.take() {
            Some(config) => {
                if let Some((given, batch_first)) = reading.config {
                    check_equal((&config, chain.batch_first.unwrap_or(batch_first)), (given, batch_first), NETWORK)?;
                }
                (config, None)
            }
            None => configuration(file, &prefix, alone, reading, notes)?,
        };
        if let (Some(whole), Some(said)) = (chain.batch_first, said)
            && whole != said
        {
            return Err(Error::config(format!(
                "metadata: expected the same `batch_first` everywhere, found {whole} of the whole and {said} of `{path}`"
            )));
        }
        chain.batch_first = chain.batch_first.or(said);
        *config = Some(found);
    }
    let batch_first = batch_first(chain.batch_first, reading, NETWORK)?;
    let used: BTreeSet<String> = chain.stages.iter().filter_map(Entry::path).map(|path| prefix_of(root, path)).collect();
    let is_used = |name: &str| match Key::parse(name) {
        Some(key) => used.contains(key.prefix),
        None => ["weight", "bias"].into_iter().any(|own| name.strip_suffix(own).is_some_and(|prefix| used.contains(prefix))),
    };
    let unused: Vec<&str> = file.tensors.keys().map(String::as_str).filter(|name| !is_used(name)).collect();
    if !unused.is_empty() {
        notes.push(format!("{} tensors belong to no stage and are left aside: {}", unused.len(), quoted(unused.iter().copied())));
    }
    build(file, chain, root, batch_first)
}

/// The network of an LSTM and what is unmistakable around it.
fn inferred(file: &File<'_>, reading: &Reading<'_>, notes: &mut Vec<String>) -> Result<Network> {
    let prefix = guess::only_lstm(file)?;
    let listed = file.metadata.get(LSTMS).map(|json| listed(json, prefix)).transpose()?.flatten();
    let alone = file.metadata.get(LSTM).or(listed.as_ref());
    let (config, said) = configuration(file, prefix, alone, reading, notes)?;
    let batch_first = batch_first(said, reading, LSTM)?;
    let ignored: Vec<&str> = file.tensors.keys().map(String::as_str).filter(|name| guess::is_nothing(name)).collect();
    if !ignored.is_empty() {
        notes.push(format!("{} tensors that results do not depend on are ignored: {}", ignored.len(), quoted(ignored.into_iter())));
    }
    if let Some(chain) = guess::around(file, prefix, &config)? {
        notes.push(guess::note(file, &chain));
        let root = file.root();
        if !root.is_empty() {
            notes.push(format!("the names of the tensors start with `{root}`"));
        }
        return build(file, chain, root, batch_first);
    }
    if !prefix.is_empty() {
        notes.push(format!("the names of the tensors start with `{prefix}`"));
    }
    Ok(Network::from_lstm(file.lstm(prefix, config)?, batch_first))
}

/// The stages with their weights.
fn build(file: &File<'_>, chain: Chain, root: &str, batch_first: bool) -> Result<Network> {
    let mut stages: Vec<(String, Stage)> = Vec::new();
    let mut names = BTreeSet::new();
    for (place, entry) in chain.stages.into_iter().enumerate() {
        let named = |path: &str, kind: &str| if path.is_empty() { kind.to_owned() } else { path.to_owned() };
        // one that is there already must not take memory once more
        let name = match &entry {
            Entry::Embedding(path) => named(path, "embedding"),
            Entry::Lstm(path, _) => named(path, "lstm"),
            Entry::Linear(path, _) => named(path, "linear"),
            Entry::Function(function) => function_name(*function, place),
        };
        if !names.insert(name.clone()) {
            return Err(Error::config(format!("stage {place}: expected a name that no other stage has, found `{name}`")));
        }
        let stage = match entry {
            Entry::Embedding(path) => Stage::Dense(file.embedding(&prefix_of(root, &path))?),
            Entry::Linear(path, function) => Stage::Dense(file.linear(&prefix_of(root, &path), function)?),
            Entry::Lstm(path, Some(config)) => Stage::Lstm(file.lstm(&prefix_of(root, &path), config)?),
            Entry::Lstm(_, None) => unreachable!("every LSTM has got its configuration"),
            Entry::Function(function) => Stage::Dense(DenseStage::Function(function)),
        };
        stages.push((name, stage));
    }
    Network::from_stages(stages, batch_first)
}

/// The name of a stage that has no tensors.
fn function_name(function: RowFunction, place: usize) -> String {
    let name = match function {
        RowFunction::None => "none".to_owned(),
        RowFunction::Activation(activation) => activation.name().to_owned(),
        RowFunction::Softmax => "softmax".to_owned(),
        RowFunction::LogSoftmax => "log_softmax".to_owned(),
    };
    format!("{name} of stage {place}")
}

/// Whether two lists of stages say the same; a configuration that one of them leaves out is no difference.
fn agree(a: &Chain, b: &Chain) -> bool {
    let same = |(a, b): (&Entry, &Entry)| match (a, b) {
        (Entry::Lstm(a, Some(_)), Entry::Lstm(b, None)) | (Entry::Lstm(a, None), Entry::Lstm(b, Some(_))) => a == b,
        (a, b) => a == b,
    };
    let same_axes = a.batch_first.is_none() || b.batch_first.is_none() || a.batch_first == b.batch_first;
    same_axes && a.stages.len() == b.stages.len() && a.stages.iter().zip(&b.stages).all(same)
}

/// The configuration of the LSTM `prefix` and, where that is said, the order of axes: the metadata's `stored`, the caller's, or that of the shapes.
fn configuration(
    file: &File<'_>,
    prefix: &str,
    stored: Option<&String>,
    reading: &Reading<'_>,
    notes: &mut Vec<String>,
) -> Result<(LstmConfig, Option<bool>)> {
    if let Some(json) = stored {
        let (config, batch_first) = config::parse(json).map_err(|error| error.within("metadata `lstm`"))?;
        let batch_first = batch_first.unwrap_or(false);
        if let Some(given) = reading.config {
            check_equal((&config, batch_first), given, LSTM)?;
        }
        return Ok((config, Some(batch_first)));
    }
    if let Some((config, batch_first)) = reading.config {
        config.validate()?;
        return Ok((config.clone(), Some(batch_first)));
    }
    let config = infer::infer(file, prefix)?;
    notes.push(infer::note(&config));
    Ok((config, None))
}

/// The entry for the LSTM `prefix` in the metadata key `lstms`.
fn listed(json: &str, prefix: &str) -> Result<Option<String>> {
    let wrong = |error: serde_json::Error| Error::config(format!("metadata `lstms`: not JSON: {error}")).with_source(error);
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).map_err(wrong)?;
    let path = prefix.strip_suffix(['.', '/']).unwrap_or(prefix);
    Ok(all.get(path).or_else(|| all.get(prefix)).map(ToString::to_string))
}

/// The order of axes that the file says, or else the caller.
fn batch_first(said: Option<bool>, reading: &Reading<'_>, key: &str) -> Result<bool> {
    match said {
        Some(false) if reading.batch_first && reading.config.is_none() => {
            Err(Error::config(format!("metadata `{key}`: expected one that agrees, found one whose `batch_first` is false")))
        }
        Some(said) => Ok(said || reading.batch_first),
        None => Ok(reading.batch_first),
    }
}

/// What stands before the names of a module's tensors.
fn prefix_of(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}{path}.") }
}

/// What stands before the paths of all modules: nothing, or what the names of all tensors have in common, such as `module.` of `DataParallel`.
fn root_of<'f>(file: &'f File<'_>, chain: &Chain) -> &'f str {
    let root = file.root();
    let found = |root: &str| {
        let mut paths = chain.stages.iter().filter_map(Entry::path);
        paths.all(|path| file.tensors.range(prefix_of(root, path)..).next().is_some_and(|(name, _)| name.starts_with(&prefix_of(root, path))))
    };
    /// names are paths of modules, and no module lies deeper
    const DEEPEST: usize = 32;
    let dots = root.char_indices().filter(|(_, c)| matches!(c, '.' | '/')).map(|(place, _)| &root[..=place]).take(DEEPEST);
    std::iter::once("").chain(dots).find(|root| found(root)).unwrap_or("")
}

fn check_equal(stored: (&LstmConfig, bool), given: (&LstmConfig, bool), key: &str) -> Result<()> {
    let differences = config::differences(stored, given);
    if differences.is_empty() {
        return Ok(());
    }
    let fields = differences.join(", ");
    Err(Error::config(format!("configuration: expected that of the metadata key `{key}`, or none, found another {fields}")))
}

/// Names in quotes, the first few.
fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    list(names.map(|name| format!("`{name}`")), MAX_LISTED)
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
