//! The metadata key `network`: the stages of a whole network, in order, as JSON.

use serde_json::{Map, Value};

use super::config::{self, ActivationEntry};
use crate::error::{Error, Result};
use crate::network::{Activation, LstmConfig, RowFunction};

/// What the key says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    /// `None` where neither the whole nor an LSTM says it
    pub(super) batch_first: Option<bool>,
    pub(super) stages: Vec<Entry>,
}

/// A stage; names are paths of modules, without the dot behind them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Embedding(String),
    /// with its configuration, where that is said
    Lstm(String, Option<LstmConfig>),
    Linear(String, RowFunction),
    Function(RowFunction),
}

impl Entry {
    /// The path of its tensors; `None` where it has none.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::Embedding(path) | Self::Lstm(path, _) | Self::Linear(path, _) => Some(path),
            Self::Function(_) => None,
        }
    }
}

impl Chain {
    /// Reads `[{"embedding": NAME}, {"lstm": NAME, "config": {...}}, {"linear": NAME, "function": FUNCTION}, {"function": FUNCTION}, ...]`, or
    /// `{"stages": [...], "batch_first": ...}`.
    pub(super) fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json).map_err(|error| Error::config(format!("not JSON: {error}")).with_source(error))?;
        let (entries, mut batch_first) = match value {
            Value::Array(entries) => (entries, None),
            Value::Object(mut object) => {
                let batch_first = config::take(&mut object, "batch_first")?;
                let entries = config::take(&mut object, "stages")?;
                config::no_more(&object)?;
                (entries.ok_or_else(|| Error::config("`stages`: expected a list, found none"))?, batch_first)
            }
            _ => return Err(Error::config(r#"expected a list of stages such as [{"lstm": "lstm"}, {"linear": "fc"}]"#)),
        };
        let mut stages = Vec::new();
        for (place, entry) in entries.into_iter().enumerate() {
            let (stage, said) = parse_entry(entry).map_err(|error| error.within(format!("stage {place}")))?;
            match (batch_first, said) {
                (Some(whole), Some(said)) if whole != said => {
                    return Err(Error::config(format!("stage {place}: `batch_first`: expected {whole}, as of the whole, found {said}")));
                }
                _ => batch_first = batch_first.or(said),
            }
            stages.push(stage);
        }
        Ok(Self { batch_first, stages })
    }

    /// The text that [`Chain::parse`] reads as this.
    pub(super) fn to_json(&self) -> String {
        let batch_first = self.batch_first.unwrap_or(false);
        let stages: Vec<Value> = self.stages.iter().map(|stage| stage_value(stage, batch_first)).collect();
        let object = [("batch_first".to_owned(), batch_first.into()), ("stages".to_owned(), stages.into())];
        Value::Object(Map::from_iter(object)).to_string()
    }
}

/// A stage, and the order of axes where it says one.
fn parse_entry(entry: Value) -> Result<(Entry, Option<bool>)> {
    let Value::Object(mut object) = entry else {
        return Err(Error::config(r#"expected a JSON object such as {"lstm": "lstm"}"#));
    };
    let mut path = |key: &str| -> Result<Option<String>> {
        let path: Option<String> = config::take(&mut object, key)?;
        Ok(path.map(|path| path.strip_suffix(['.', '/']).unwrap_or(&path).to_owned()))
    };
    let (embedding, lstm, linear) = (path("embedding")?, path("lstm")?, path("linear")?);
    let (stage, said) = match (embedding, lstm, linear) {
        (Some(path), None, None) => (Entry::Embedding(path), None),
        (None, Some(path), None) => {
            let stored: Option<Value> = config::take(&mut object, "config")?;
            let stored = stored.map(config::from_value).transpose().map_err(|error| error.within("`config`"))?;
            let (config, said) = stored.map_or((None, None), |(config, said)| (Some(config), said));
            (Entry::Lstm(path, config), said)
        }
        (None, None, Some(path)) => (Entry::Linear(path, function(&mut object)?), None),
        (None, None, None) if object.contains_key("function") => (Entry::Function(function(&mut object)?), None),
        _ => return Err(Error::config("expected one of the keys `embedding`, `lstm`, `linear`, or `function` alone")),
    };
    config::no_more(&object)?;
    Ok((stage, said))
}

/// The function of a stage, which may have none.
fn function(object: &mut Map<String, Value>) -> Result<RowFunction> {
    let entry: Option<Value> = config::take(object, "function")?;
    entry.map_or(Ok(RowFunction::None), |entry| parse_function(entry).map_err(|error| error.within("`function`")))
}

fn parse_function(value: Value) -> Result<RowFunction> {
    let entry: ActivationEntry = serde_json::from_value(value).map_err(|error| Error::config(error.to_string()).with_source(error))?;
    // `log_softmax` and `LogSoftmax` are one
    let name = entry.name().replace('_', "");
    let plain = match name.to_ascii_lowercase().as_str() {
        "none" => Some(RowFunction::None),
        "softmax" => Some(RowFunction::Softmax),
        "logsoftmax" => Some(RowFunction::LogSoftmax),
        _ => None,
    };
    match plain {
        Some(function) if entry.parameters() == (None, None) => Ok(function),
        Some(_) => Err(Error::config(format!("{} takes no alpha and no beta, found one", entry.name()))),
        None if Activation::from_onnx(&name).is_none() => {
            Err(Error::config(format!("expected none, softmax, log_softmax or an activation, found {:?}", entry.name())))
        }
        None => entry.resolve(&name).map(RowFunction::Activation),
    }
}

fn stage_value(stage: &Entry, batch_first: bool) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    match stage {
        Entry::Embedding(path) => drop(put("embedding", path.as_str().into())),
        Entry::Lstm(path, config) => {
            put("lstm", path.as_str().into());
            if let Some(config) = config {
                put("config", config::to_value(config, batch_first));
            }
        }
        Entry::Linear(path, function) => {
            put("linear", path.as_str().into());
            if *function != RowFunction::None {
                put("function", function_value(*function));
            }
        }
        Entry::Function(function) => drop(put("function", function_value(*function))),
    }
    Value::Object(object)
}

fn function_value(function: RowFunction) -> Value {
    match function {
        RowFunction::None => "none".into(),
        RowFunction::Softmax => "softmax".into(),
        RowFunction::LogSoftmax => "log_softmax".into(),
        RowFunction::Activation(activation) => config::activation_value(activation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn every_stage_is_read_and_written() {
        let json = r#"{"batch_first": true, "stages": [{"embedding": "encoder."}, {"lstm": "a.lstm", "config": {"input_size": 3, "hidden_size": 5,
            "batch_first": true, "clip": 0.1}}, {"lstm": ""}, {"linear": "fc1", "function": "relu"}, {"linear": "fc2"},
            {"function": {"name": "leaky_relu", "alpha": 0.3}}, {"function": "LogSoftmax"}]}"#;
        let chain = Chain::parse(json).unwrap();
        let lstm = LstmConfig { clip: Some(0.1), ..LstmConfig::new(3, 5) };
        let expected = vec![
            Entry::Embedding("encoder".to_owned()),
            Entry::Lstm("a.lstm".to_owned(), Some(lstm)),
            Entry::Lstm(String::new(), None),
            Entry::Linear("fc1".to_owned(), RowFunction::Activation(Activation::Relu)),
            Entry::Linear("fc2".to_owned(), RowFunction::None),
            Entry::Function(RowFunction::Activation(Activation::LeakyRelu { alpha: 0.3 })),
            Entry::Function(RowFunction::LogSoftmax),
        ];
        assert_eq!(chain, Chain { batch_first: Some(true), stages: expected });
        assert_eq!(Chain::parse(&chain.to_json()).unwrap(), chain);
        let plain = Chain::parse(r#"[{"lstm": "lstm", "config": {"input_size": 3, "hidden_size": 5}}]"#).unwrap();
        assert_eq!((plain.batch_first, plain.stages.len()), (None, 1));
    }

    #[test]
    fn every_mistake_is_named() {
        let cases = [
            ("{", "not JSON"),
            ("1", "expected a list of stages"),
            (r#"{"batch_first": true}"#, "`stages`: expected a list, found none"),
            (r#"{"stages": [], "more": 1}"#, "unknown key `more`"),
            (r#"["lstm"]"#, "stage 0: expected a JSON object"),
            ("[{}]", "stage 0: expected one of the keys"),
            (r#"[{"lstm": "a", "linear": "b"}]"#, "stage 0: expected one of the keys"),
            (r#"[{"lstm": "a", "function": "relu"}]"#, "stage 0: unknown key `function`"),
            (r#"[{"embedding": 1}]"#, "stage 0: `embedding`: invalid type"),
            (
                r#"[{"lstm": "a"}, {"linear": "b", "function": "gelu"}]"#,
                "stage 1: `function`: expected none, softmax, log_softmax or an activation, found \"gelu\"",
            ),
            (r#"[{"function": {"name": "softmax", "alpha": 1}}]"#, "softmax takes no alpha"),
            (r#"[{"function": {"name": "elu", "beta": 1}}]"#, "Elu takes no beta"),
            (r#"[{"lstm": "a", "config": {"input_size": 3}}]"#, "stage 0: `config`: `hidden_size`"),
            (
                r#"{"batch_first": true, "stages": [{"lstm": "a", "config": {"input_size": 3, "hidden_size": 5, "batch_first": false}}]}"#,
                "stage 0: `batch_first`: expected true, as of the whole, found false",
            ),
        ];
        for (json, text) in cases {
            let error = Chain::parse(json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{json}");
            assert!(error.to_string().contains(text), "{json}: {error}");
        }
    }
}
