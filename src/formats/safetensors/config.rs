//! The configuration of an LSTM as JSON: the arguments of `torch.nn.LSTM`, and what this crate has beyond them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::network::{Activation, CellActivations, Direction, LstmConfig};

/// Arguments of `torch.nn.LSTM` that change nothing in inference.
const IGNORED: [&str; 3] = ["dropout", "device", "dtype"];

/// Reads the configuration and whether inputs have the batch axis first, from the JSON text of the metadata key `lstm` or of `--config`.
///
/// Keys as in `torch.nn.LSTM`: `input_size`, `hidden_size`, `num_layers`, `bias`, `batch_first`, `bidirectional`, `proj_size`; and
/// `direction` (in place of `bidirectional`), `peepholes`, `input_forget`, `clip`, `cell_clip`, `proj_clip`, `layer_norm` (epsilon),
/// `activations` (one or two lists of gate, candidate, output; each a name in ONNX or `{"name", "alpha", "beta"}`).
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where the text is not JSON, or a key is missing, unknown, or of the wrong type or value.
pub fn parse_config(json: &str) -> Result<(LstmConfig, bool)> {
    let (config, batch_first) = parse(json).map_err(|error| error.within("configuration"))?;
    Ok((config, batch_first.unwrap_or(false)))
}

/// As [`parse_config`], without a subject in front of the errors, and with `None` where the order of axes is not said.
pub(super) fn parse(json: &str) -> Result<(LstmConfig, Option<bool>)> {
    from_value(serde_json::from_str(json).map_err(|error| Error::config(format!("not JSON: {error}")).with_source(error))?)
}

/// As [`parse`], of JSON that is taken apart already.
pub(super) fn from_value(value: Value) -> Result<(LstmConfig, Option<bool>)> {
    let Value::Object(mut object) = value else {
        return Err(Error::config(r#"expected a JSON object such as {"input_size": 16, "hidden_size": 32}"#));
    };
    let mut config = LstmConfig::new(required(&mut object, "input_size")?, required(&mut object, "hidden_size")?);
    config.num_layers = take(&mut object, "num_layers")?.unwrap_or(1);
    config.bias = take(&mut object, "bias")?.unwrap_or(true);
    let batch_first = take(&mut object, "batch_first")?;
    config.direction = direction(&mut object)?;
    config.proj_size = take(&mut object, "proj_size")?.filter(|&size: &usize| size != 0);
    config.peepholes = take(&mut object, "peepholes")?.unwrap_or(false);
    config.input_forget = take(&mut object, "input_forget")?.unwrap_or(false);
    config.layer_norm = take(&mut object, "layer_norm")?;
    config.clip = bound(&mut object, "clip")?;
    config.cell_clip = bound(&mut object, "cell_clip")?;
    config.proj_clip = bound(&mut object, "proj_clip")?;
    if let Some(lists) = take::<Vec<Vec<ActivationEntry>>>(&mut object, "activations")? {
        config.activations = activations(&lists, config.num_directions())?;
    }
    for key in IGNORED {
        object.remove(key);
    }
    no_more(&object)?;
    config.validate()?;
    Ok((config, batch_first))
}

/// Checks that no key is left that nobody took.
pub(super) fn no_more(object: &Map<String, Value>) -> Result<()> {
    if object.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
    Err(Error::config(format!("unknown key {}", keys.join(", "))))
}

/// The configuration as [`from_value`] reads it: the arguments of `torch.nn.LSTM`, and beyond them what is set.
pub(super) fn to_value(config: &LstmConfig, batch_first: bool) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("input_size", config.input_size.into());
    put("hidden_size", config.hidden_size.into());
    put("num_layers", config.num_layers.into());
    put("bias", config.bias.into());
    put("batch_first", batch_first.into());
    put("bidirectional", (config.direction == Direction::Bidirectional).into());
    put("proj_size", config.proj_size.unwrap_or(0).into());
    if config.direction == Direction::Reverse {
        put("direction", config.direction.name().into());
    }
    for (key, set) in [("peepholes", config.peepholes), ("input_forget", config.input_forget)] {
        if set {
            put(key, set.into());
        }
    }
    let bounds = [("layer_norm", config.layer_norm), ("clip", config.clip), ("cell_clip", config.cell_clip), ("proj_clip", config.proj_clip)];
    for (key, value) in bounds {
        if let Some(value) = value {
            put(key, number(value));
        }
    }
    let used = &config.activations[..config.num_directions()];
    if used.iter().any(|functions| *functions != CellActivations::default()) {
        let list = |functions: &CellActivations| Value::from([functions.gate, functions.candidate, functions.output].map(activation_value).to_vec());
        put("activations", used.iter().map(list).collect());
    }
    Value::Object(object)
}

/// An activation as [`ActivationEntry`] reads it.
pub(super) fn activation_value(activation: Activation) -> Value {
    let (alpha, beta) = activation.parameters();
    let (takes_alpha, takes_beta) = activation.takes();
    if !takes_alpha && !takes_beta {
        return activation.name().into();
    }
    let mut object = Map::from_iter([("name".to_owned(), Value::from(activation.name()))]);
    for (key, value, taken) in [("alpha", alpha, takes_alpha), ("beta", beta, takes_beta)] {
        if taken {
            object.insert(key.to_owned(), number(value));
        }
    }
    Value::Object(object)
}

/// A number that is read as the same bits: the shortest text that is, or all its digits.
fn number(value: f32) -> Value {
    let short: Option<Value> = serde_json::from_str(&value.to_string()).ok();
    let same = |text: &Value| serde_json::from_value(text.clone()).is_ok_and(|read: f32| read.to_bits() == value.to_bits());
    short.filter(same).unwrap_or_else(|| f64::from(value).into())
}

/// Names of the fields in which two configurations differ.
pub(super) fn differences(a: (&LstmConfig, bool), b: (&LstmConfig, bool)) -> Vec<&'static str> {
    let ((a, a_batch_first), (b, b_batch_first)) = (a, b);
    let dirs = a.num_directions().min(b.num_directions());
    let fields = [
        ("input_size", a.input_size == b.input_size),
        ("hidden_size", a.hidden_size == b.hidden_size),
        ("num_layers", a.num_layers == b.num_layers),
        ("direction", a.direction == b.direction),
        ("proj_size", a.proj_size == b.proj_size),
        ("bias", a.bias == b.bias),
        ("batch_first", a_batch_first == b_batch_first),
        ("peepholes", a.peepholes == b.peepholes),
        ("layer_norm", a.layer_norm == b.layer_norm),
        ("input_forget", a.input_forget == b.input_forget),
        ("activations", a.activations[..dirs] == b.activations[..dirs]),
        ("clip", a.clip == b.clip),
        ("cell_clip", a.cell_clip == b.cell_clip),
        ("proj_clip", a.proj_clip == b.proj_clip),
    ];
    fields.into_iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect()
}

/// Takes the value of `key` out; null counts as absent.
pub(super) fn take<T: DeserializeOwned>(object: &mut Map<String, Value>, key: &str) -> Result<Option<T>> {
    let Some(value) = object.remove(key) else { return Ok(None) };
    serde_json::from_value(value).map_err(|error| Error::config(format!("`{key}`: {}", plain(&error.to_string()))).with_source(error))
}

/// A text of `serde` without names of Rust's types.
fn plain(text: &str) -> String {
    let types = [("expected usize", "expected a whole number, 0 or more"), ("expected f32", "expected a number")];
    let known = types.into_iter().find_map(|(rust, words)| Some(format!("{}{words}", text.strip_suffix(rust)?)));
    known.unwrap_or_else(|| text.to_owned())
}

/// A bound; one beyond `float32` bounds nothing.
fn bound(object: &mut Map<String, Value>, key: &str) -> Result<Option<f32>> {
    Ok(take(object, key)?.filter(|&bound: &f32| bound != f32::INFINITY))
}

fn required(object: &mut Map<String, Value>, key: &str) -> Result<usize> {
    take(object, key)?.ok_or_else(|| Error::config(format!("`{key}`: expected a size, found none")))
}

fn direction(object: &mut Map<String, Value>) -> Result<Direction> {
    let bidirectional: Option<bool> = take(object, "bidirectional")?;
    let Some(name) = take::<String>(object, "direction")? else {
        return Ok(if bidirectional == Some(true) { Direction::Bidirectional } else { Direction::Forward });
    };
    let direction = Direction::from_name(&name)
        .ok_or_else(|| Error::config(format!("`direction`: expected \"forward\", \"reverse\" or \"bidirectional\", found {name:?}")))?;
    // `false` is what PyTorch's constructor has where nothing is said, so it contradicts nothing
    if bidirectional == Some(true) && direction != Direction::Bidirectional {
        return Err(Error::config(format!("`direction`: expected one that agrees with `bidirectional`, found {name:?} and true")));
    }
    Ok(direction)
}

/// An activation by name alone, or by name and parameters.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name or {\"name\", \"alpha\", \"beta\"}")]
pub(super) enum ActivationEntry {
    Name(String),
    Full(ActivationParameters),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivationParameters {
    name: String,
    alpha: Option<f32>,
    beta: Option<f32>,
}

impl ActivationEntry {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Full(full) => &full.name,
        }
    }

    /// Its alpha and beta, where they are said.
    pub(super) fn parameters(&self) -> (Option<f32>, Option<f32>) {
        match self {
            Self::Name(_) => (None, None),
            Self::Full(full) => (full.alpha, full.beta),
        }
    }

    /// The activation, which ONNX calls `name`.
    pub(super) fn resolve(&self, name: &str) -> Result<Activation> {
        let (alpha, beta) = self.parameters();
        let activation =
            Activation::from_onnx(name).ok_or_else(|| Error::config(format!("expected the name of an ONNX activation, found {name:?}")))?;
        let (takes_alpha, takes_beta) = activation.takes();
        for (parameter, given, taken) in [("alpha", alpha, takes_alpha), ("beta", beta, takes_beta)] {
            if given.is_some() && !taken {
                return Err(Error::config(format!("{} takes no {parameter}, found one", activation.name())));
            }
        }
        let (default_alpha, default_beta) = activation.parameters();
        Ok(activation.with_parameters(alpha.unwrap_or(default_alpha), beta.unwrap_or(default_beta)))
    }
}

/// One list serves every direction, two lists a direction each.
fn activations(lists: &[Vec<ActivationEntry>], num_directions: usize) -> Result<[CellActivations; 2]> {
    let cell = |list: &Vec<ActivationEntry>| match list.as_slice() {
        [gate, candidate, output] => {
            let [gate, candidate, output] =
                [gate, candidate, output].map(|entry| entry.resolve(entry.name()).map_err(|error| error.within("`activations`")));
            Ok(CellActivations { gate: gate?, candidate: candidate?, output: output? })
        }
        other => Err(Error::config(format!("`activations`: expected lists of gate, candidate and output, found a list of {}", other.len()))),
    };
    match lists {
        [only] if num_directions == 1 => Ok([cell(only)?, CellActivations::default()]),
        [both] => Ok([cell(both)?; 2]),
        [forward, reverse] if num_directions == 2 => Ok([cell(forward)?, cell(reverse)?]),
        other => {
            let expected = if num_directions == 2 { "1 or 2 lists" } else { "1 list" };
            Err(Error::config(format!("`activations`: expected {expected} for {num_directions} direction(s), found {}", other.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn every_key_is_read() {
        let json = r#"{"input_size": 3, "hidden_size": 5, "num_layers": 2, "bias": false, "batch_first": true, "bidirectional": true,
            "proj_size": 4, "dropout": 0.5, "device": null, "dtype": "float32", "peepholes": true, "input_forget": true, "clip": 3,
            "cell_clip": 1.5, "proj_clip": 0.25, "layer_norm": 1e-3,
            "activations": [["sigmoid", "Tanh", "Softsign"], [{"name": "HardSigmoid", "alpha": 0.5}, {"name": "Elu"}, "Relu"]]}"#;
        let (config, batch_first) = parse_config(json).unwrap();
        assert!(batch_first);
        let hard = Activation::HardSigmoid { alpha: 0.5, beta: 0.5 };
        let expected = LstmConfig {
            num_layers: 2,
            bias: false,
            direction: Direction::Bidirectional,
            proj_size: Some(4),
            peepholes: true,
            input_forget: true,
            clip: Some(3.0),
            cell_clip: Some(1.5),
            proj_clip: Some(0.25),
            layer_norm: Some(1e-3),
            activations: [
                CellActivations { output: Activation::Softsign, ..CellActivations::default() },
                CellActivations { gate: hard, candidate: Activation::Elu { alpha: 1.0 }, output: Activation::Relu },
            ],
            ..LstmConfig::new(3, 5)
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_absent_is_as_in_pytorch() {
        assert_eq!(parse_config(r#"{"input_size": 3, "hidden_size": 5, "proj_size": 0}"#).unwrap(), (LstmConfig::new(3, 5), false));
        let reverse = parse_config(r#"{"input_size": 3, "hidden_size": 5, "bidirectional": false, "direction": "reverse"}"#).unwrap().0;
        assert_eq!(reverse.direction, Direction::Reverse);
        let both = parse_config(r#"{"input_size": 3, "hidden_size": 5, "bidirectional": true, "direction": "bidirectional"}"#).unwrap().0;
        assert_eq!(both.direction, Direction::Bidirectional);
    }

    #[test]
    fn an_infinite_bound_is_none() {
        let json = r#"{"input_size": 3, "hidden_size": 5, "proj_size": 2, "clip": 1e39, "cell_clip": 1e300, "proj_clip": 1e39}"#;
        assert_eq!(parse_config(json).unwrap().0, LstmConfig { proj_size: Some(2), ..LstmConfig::new(3, 5) });
    }

    #[test]
    fn every_mistake_is_named() {
        let cases = [
            ("{", "configuration: not JSON"),
            ("[1]", "expected a JSON object"),
            (r#"{"hidden_size": 5}"#, "`input_size`: expected a size, found none"),
            (r#"{"input_size": 5}"#, "`hidden_size`: expected a size, found none"),
            (r#"{"input_size": "5", "hidden_size": 5}"#, "`input_size`: invalid type: string \"5\", expected a whole number"),
            (r#"{"input_size": -5, "hidden_size": 5}"#, "`input_size`: invalid value: integer `-5`, expected a whole number, 0 or more"),
            (r#"{"input_size": 5, "hidden_size": 0}"#, "hidden_size: expected 1 to"),
            (r#"{"input_size": 5, "hidden_size": 5, "num_layers": 9999999}"#, "num_layers: expected 1 to"),
            (r#"{"input_size": 5, "hidden_size": 5, "proj_clip": 1}"#, "proj_clip: needs a projection"),
            (r#"{"input_size": 5, "hidden_size": 5, "clip": 0}"#, "clip: expected a bound above 0"),
            (r#"{"input_size": 5, "hidden_size": 5, "clip": -1e39}"#, "clip: expected a bound above 0"),
            (
                r#"{"input_size": 5, "hidden_size": 5, "activations": [["Tanh", {"name": "Elu", "alpha": 1e39}, "Tanh"]]}"#,
                "candidate activation of direction 0: expected a finite alpha of Elu, found inf",
            ),
            (r#"{"input_size": 5, "hidden_size": 5, "layer_norm": true}"#, "`layer_norm`: invalid type: boolean `true`, expected a number"),
            (r#"{"input_size": 5, "hidden_size": 5, "direction": "forward", "bidirectional": true}"#, "found \"forward\" and true"),
            (r#"{"input_size": 5, "hidden_size": 5, "num_layer": 2, "bidir": true}"#, "unknown key `bidir`, `num_layer`"),
            (r#"{"input_size": 5, "hidden_size": 5, "direction": "back"}"#, "found \"back\""),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": ["tanh"]}"#, "`activations`: invalid type"),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [[1, 2, 3]]}"#, "expected a name or"),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [["tanh"]]}"#, "found a list of 1"),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [["a", "b", "c"]]}"#, "found \"a\""),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [["tanh","tanh","tanh"],["tanh","tanh","tanh"]]}"#, "expected 1 list"),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [["tanh","tanh",{"name": "Elu", "beta": 1}]]}"#, "Elu takes no beta"),
            (r#"{"input_size": 5, "hidden_size": 5, "activations": [["tanh","tanh",{"name": "Elu", "gamma": 1}]]}"#, "expected a name or"),
        ];
        for (json, text) in cases {
            let error = parse_config(json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{json}");
            assert!(error.to_string().contains(text), "{json}: {error}");
        }
    }

    #[test]
    fn differences_are_named() {
        let (a, mut b) = (LstmConfig::new(3, 5), LstmConfig::new(3, 6));
        b.clip = Some(1.0);
        assert_eq!(differences((&a, false), (&b, true)), ["hidden_size", "batch_first", "clip"]);
        assert!(differences((&a, true), (&a, true)).is_empty());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"\{("(input_size|hidden_size|clip|activations|direction)": ?(-?[0-9eE.]{1,9}|"[a-z]*"|\[\[.{0,9}\]\]|null),?){0,5}\}"#) {
            let _ = parse_config(&text);
        }
    }
}
