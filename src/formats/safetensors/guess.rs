//! What a file without the metadata key `network` is: one LSTM, and beside it an embedding and a linear layer that nobody can take for anything else.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::{Chain, Entry};
use super::file::File;
use super::keys::Key;
use super::{MAX_LISTED, list, quoted};
use crate::error::{Error, Result};
use crate::network::{LstmConfig, RowFunction};

/// How many stages the metadata has that an error proposes.
const MAX_PROPOSED: usize = 6;

/// Tensors of one module that is no LSTM.
#[derive(Default)]
struct Module<'a> {
    weight: Option<&'a [usize]>,
    bias: Option<&'a [usize]>,
    others: Vec<&'a str>,
}

/// What a module's name says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Embedding,
    Linear,
    Unknown,
}

/// The only LSTM of the file: what its names start with.
pub(super) fn only_lstm<'f>(file: &'f File<'_>) -> Result<&'f str> {
    let prefixes = file.prefixes();
    match (prefixes.first(), prefixes.len()) {
        (Some(prefix), 1) => Ok(prefix),
        (None, _) if file.tensors.is_empty() => Err(Error::config("tensors: expected those of torch.nn.LSTM, found none")),
        (None, _) => {
            let names = quoted(file.tensors.keys().map(String::as_str));
            Err(Error::config(format!("tensors: expected the names of torch.nn.LSTM, such as `weight_ih_l0`, found {names}")))
        }
        (Some(first), count) => {
            let found = quoted(prefixes.iter().copied());
            let proposed = propose(file, &modules(file));
            Err(Error::config(format!(
                "tensors: expected one LSTM, found {count}, whose names start with {found}; the metadata key `network`, or --network, says how they are \
                 joined, such as '{proposed}', and --prefix {} takes one alone",
                shown(first)
            )))
        }
    }
}

/// The stages around the file's only LSTM, whose configuration is `config`, as far as names and shapes leave no doubt; `None` where it is all there is.
pub(super) fn around(file: &File<'_>, prefix: &str, config: &LstmConfig) -> Result<Option<Chain>> {
    let modules = modules(file);
    if modules.values().all(Module::is_nothing) {
        return Ok(None);
    }
    let (mut embeddings, mut linears, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (path, module) in modules.iter().filter(|(_, module)| !module.is_nothing()) {
        match (hint(path), module.weight, module.bias) {
            (Hint::Embedding, Some([_, dim]), None) if module.others.is_empty() && *dim == config.input_size => embeddings.push(path),
            (Hint::Linear, Some([out, features]), bias)
                if module.others.is_empty() && *features == config.y_size() && bias.is_none_or(|bias| bias == [*out]) =>
            {
                linears.push(path);
            }
            _ => others.push(path),
        }
    }
    if embeddings.len() > 1 || linears.len() > 1 || !others.is_empty() {
        let doubtful = others.iter().chain(if embeddings.len() > 1 { embeddings.iter() } else { [].iter() }).chain(if linears.len() > 1 {
            linears.iter()
        } else {
            [].iter()
        });
        let doubtful: BTreeSet<&str> = doubtful.map(|path| path.as_str()).collect();
        let tensors = file.tensors.iter().filter(|(name, _)| Key::parse(name).is_none() && doubtful.contains(split(name).0));
        let names = list(tensors.map(|(name, stored)| format!("`{name}` {:?}", stored.shape)), MAX_LISTED);
        return Err(Error::config(format!(
            "tensors: expected one LSTM and, at most, an embedding [num_embeddings, {}] before it and a linear layer [out_features, {}] behind it, each with a \
             name that says so, and no other layer, found also {names}; the metadata key `network`, or --network, says what they are, such as '{}', and \
             --prefix {} takes the LSTM alone",
            config.input_size,
            config.y_size(),
            propose(file, &modules),
            shown(prefix)
        )));
    }
    let root = file.root();
    let inner = |path: &str| path.strip_prefix(root).unwrap_or(path).to_owned();
    let mut stages: Vec<Entry> = embeddings.iter().map(|path| Entry::Embedding(inner(path))).collect();
    stages.push(Entry::Lstm(inner(prefix.strip_suffix(['.', '/']).unwrap_or(prefix)), Some(config.clone())));
    // the LSTM's own module may be all that the names have in common
    if let Some(Entry::Lstm(path, _)) = stages.last_mut()
        && prefix == root
    {
        path.clear();
    }
    stages.extend(linears.iter().map(|path| Entry::Linear(inner(path), RowFunction::None)));
    Ok((stages.len() > 1).then_some(Chain { batch_first: None, stages }))
}

/// What was inferred and what cannot be, for the user.
pub(super) fn note(file: &File<'_>, chain: &Chain) -> String {
    let stage = |entry: &Entry| {
        let path = entry.path().unwrap_or_default();
        let shape = file.tensors.get(&format!("{}{path}.weight", file.root())).map(|stored| format!(" {:?}", stored.shape)).unwrap_or_default();
        match entry {
            Entry::Embedding(_) => format!("embedding `{path}`{shape}"),
            Entry::Linear(..) => format!("linear `{path}`{shape}"),
            Entry::Lstm(..) | Entry::Function(_) => format!("LSTM `{path}`"),
        }
    };
    let stages: Vec<String> = chain.stages.iter().map(stage).collect();
    format!(
        "no metadata key `network`; inferred from names and shapes: {}; a function behind a layer, and whether a layer has every step, cannot be seen: no \
         function and every step are assumed",
        stages.join(", then ")
    )
}

/// Tensors that mean nothing to a result.
pub(super) fn is_nothing(name: &str) -> bool {
    split(name).1 == "num_batches_tracked"
}

impl Module<'_> {
    fn is_nothing(&self) -> bool {
        self.weight.is_none() && self.bias.is_none() && self.others.iter().all(|name| is_nothing(name))
    }
}

/// The path of a tensor's module, without its last dot, and the tensor's own name.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once(['.', '/']).unwrap_or(("", name))
}

/// Every module that is no LSTM, by its path.
fn modules<'f>(file: &'f File<'_>) -> BTreeMap<String, Module<'f>> {
    let mut modules: BTreeMap<String, Module<'f>> = BTreeMap::new();
    for (name, stored) in file.tensors.iter().filter(|(name, _)| Key::parse(name).is_none()) {
        let (path, own) = split(name);
        let module = modules.entry(path.to_owned()).or_default();
        match own {
            "weight" => module.weight = Some(&stored.shape),
            "bias" => module.bias = Some(&stored.shape),
            _ => module.others.push(name),
        }
    }
    modules
}

/// What the last word of the path says, or the one before it where that is a number, as in `classifier.0`.
fn hint(path: &str) -> Hint {
    const EMBEDDING: [&str; 2] = ["emb", "lookup"];
    const LINEAR: [&str; 14] =
        ["fc", "lin", "out", "decoder", "head", "proj", "classif", "dense", "logit", "pred", "regress", "generator", "hidden2", "2tag"];
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let word = path.rsplit(['.', '/']).find(|word| !is_number(word)).unwrap_or_default().to_ascii_lowercase();
    let embedding = EMBEDDING.iter().any(|part| word.contains(part)) || word == "encoder" || word == "wte";
    let linear = LINEAR.iter().any(|part| word.contains(part)) && !word.contains("att");
    match (embedding, linear) {
        (true, false) => Hint::Embedding,
        (false, true) => Hint::Linear,
        _ => Hint::Unknown,
    }
}

/// Metadata that could be meant: every LSTM, what may be an embedding before them, what may be a linear layer behind.
fn propose(file: &File<'_>, modules: &BTreeMap<String, Module<'_>>) -> String {
    let root = file.root();
    let inner = |path: &str| {
        path.strip_prefix(root)
            .unwrap_or(path)
            .strip_suffix(['.', '/'])
            .map_or_else(|| path.strip_prefix(root).unwrap_or(path).to_owned(), str::to_owned)
    };
    let layers = |wanted: bool| {
        let matrices = modules.iter().filter(|(_, module)| module.weight.is_some_and(|shape| shape.len() == 2));
        let chosen = matrices.filter(move |(path, module)| (module.bias.is_none() && hint(path) == Hint::Embedding) == wanted);
        chosen.map(|(path, _)| path.as_str())
    };
    let mut stages: Vec<Entry> = layers(true).map(|path| Entry::Embedding(inner(path))).collect();
    stages.extend(file.prefixes().into_iter().map(|prefix| Entry::Lstm(inner(prefix), None)));
    stages.extend(layers(false).map(|path| Entry::Linear(inner(path), RowFunction::None)));
    stages.truncate(MAX_PROPOSED);
    let object = |stage: &Entry| {
        let kind = match stage {
            Entry::Embedding(_) => "embedding",
            Entry::Linear(..) | Entry::Function(_) => "linear",
            Entry::Lstm(..) => "lstm",
        };
        format!("{{\"{kind}\": {}}}", serde_json::Value::from(stage.path().unwrap_or_default()))
    };
    format!("[{}]", stages.iter().map(object).collect::<Vec<_>>().join(", "))
}

/// A prefix as an argument.
fn shown(prefix: &str) -> String {
    if prefix.is_empty() { "''".to_owned() } else { prefix.to_owned() }
}
