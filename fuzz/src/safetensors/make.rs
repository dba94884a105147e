//! Tensors, metadata and whole files that the library reads.

use super::{METADATA, TYPES};
use crate::json::Json;
use crate::rng::Rng;

const KINDS: [&str; 10] =
    ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole", "gamma_ih", "gamma_hh", "gamma_c", "beta_c"];

const FUNCTIONS: [&str; 10] = ["softmax", "log_softmax", "none", "relu", "Sigmoid", "tanh", "LeakyRelu", "HardSigmoid", "Elu", "Softsign"];

type Entries = Vec<(String, Json)>;

fn entry(key: &str, value: Json) -> (String, Json) {
    (key.to_owned(), value)
}

/// A tensor of the header; where its data is, says who lays the file out.
pub(super) fn tensor(shape: &[usize], rng: &mut Rng) -> Json {
    let (dtype, _) = TYPES[if rng.below(8) == 0 { rng.below(TYPES.len()) } else { rng.below(4) }];
    let shape = shape.iter().map(Json::plain).collect();
    let nowhere = Json::List(vec![Json::plain("null"), Json::plain(0)]);
    Json::Object(vec![entry("dtype", Json::text(dtype)), entry("shape", Json::List(shape)), entry("data_offsets", nowhere)])
}

/// What stands before the last word of a tensor's name.
fn path<'e>(entries: &'e Entries, rng: &mut Rng) -> &'e str {
    let name = rng.pick(entries).map_or("", |(name, _)| name);
    name.rfind(['.', '/']).map_or("", |dot| &name[..dot])
}

/// A name for a tensor, in the module of another or in a new one.
pub(super) fn name(entries: &Entries, rng: &mut Rng) -> String {
    let path = if rng.below(4) == 0 { ["lstm", "fc", "emb", "a.b", "head.0"][rng.below(5)] } else { path(entries, rng) };
    let dot = if path.is_empty() { "" } else { "." };
    match rng.below(4) {
        0 => format!("{path}{dot}{}", ["weight", "bias", "num_batches_tracked"][rng.below(3)]),
        _ => {
            let reverse = if rng.below(3) == 0 { "_reverse" } else { "" };
            format!("{path}{dot}{}_l{}{reverse}", KINDS[rng.below(KINDS.len())], rng.below(3))
        }
    }
}

/// A key of the metadata that the library knows, and what may stand there.
pub(super) fn metadata(entries: &Entries, rng: &mut Rng) -> (String, Json) {
    let (key, value) = match rng.below(5) {
        0 => ("lstm", config([1 + rng.below(4), 1 + rng.below(4)], rng)),
        1 => ("lstms", Json::Object(vec![(path(entries, rng).to_owned(), config([1 + rng.below(4), 1 + rng.below(4)], rng))])),
        2 | 3 => ("network", Json::List((0..1 + rng.below(4)).map(|_| stage(path(entries, rng), rng)).collect())),
        _ => {
            let stages = Json::List((0..1 + rng.below(3)).map(|_| stage(path(entries, rng), rng)).collect()).to_string();
            let mut options = vec![entry("batch_first", Json::plain(true)), entry("counted", Json::plain(rng.below(2) == 0))];
            match rng.below(3) {
                0 => options.push(entry("prefix", Json::text(path(entries, rng)))),
                1 => options.push(entry("network", Json::Text(stages))),
                _ => options.push(entry("config", config([1 + rng.below(4), 1 + rng.below(4)], rng))),
            }
            ("reading", Json::Object(options))
        }
    };
    entry(key, Json::Text(value.to_string()))
}

/// A function of a row.
fn function(rng: &mut Rng) -> Json {
    let name = FUNCTIONS[rng.below(FUNCTIONS.len())];
    if rng.below(3) != 0 {
        return Json::text(name);
    }
    let parameters = ["alpha", "beta"].map(|key| entry(key, Json::plain(["0.5", "-1e38", "1e39", "0"][rng.below(4)])));
    Json::Object([entry("name", Json::text(name))].into_iter().chain(parameters.into_iter().take(rng.below(3))).collect())
}

fn stage(path: &str, rng: &mut Rng) -> Json {
    match rng.below(4) {
        0 => Json::Object(vec![entry("embedding", Json::text(path))]),
        1 => Json::Object(vec![entry("linear", Json::text(path)), entry("function", function(rng))]),
        2 => Json::Object(vec![entry("function", function(rng))]),
        _ => Json::Object(vec![entry("lstm", Json::text(path))]),
    }
}

/// A configuration of an LSTM with these sizes of input and hidden state, and some of what there is beside.
fn config([input_size, hidden_size]: [usize; 2], rng: &mut Rng) -> Json {
    let mut fields = vec![entry("input_size", Json::plain(input_size)), entry("hidden_size", Json::plain(hidden_size))];
    let bounds = ["clip", "cell_clip", "proj_clip", "layer_norm"];
    for _ in 0..rng.below(4) {
        fields.push(match rng.below(6) {
            0 => entry(["num_layers", "proj_size"][rng.below(2)], Json::plain(1 + rng.below(3))),
            1 => entry(["bias", "batch_first", "bidirectional", "peepholes", "input_forget"][rng.below(5)], Json::plain(rng.below(2) == 0)),
            2 => entry(bounds[rng.below(4)], Json::plain(["0.5", "1e-5", "1e38", "1e-45", "0"][rng.below(5)])),
            3 => entry("direction", Json::text(["forward", "reverse", "bidirectional"][rng.below(3)])),
            _ => {
                let list = |rng: &mut Rng| Json::List((0..3).map(|_| function(rng)).collect());
                entry("activations", Json::List((0..1 + rng.below(2)).map(|_| list(rng)).collect()))
            }
        });
    }
    Json::Object(fields)
}

/// The header of a file that is read: an LSTM of any variant, often with an embedding before it and linear layers behind it.
pub(super) fn network(rng: &mut Rng) -> Json {
    let [input, hidden, layers, directions] = [1 + rng.below(4), 1 + rng.below(4), 1 + rng.below(3), 1 + rng.below(2)];
    let out = if rng.below(3) == 0 { 1 + rng.below(hidden) } else { hidden };
    let [bias, peepholes, norm] = [rng.below(3) != 0, rng.below(4) == 0, rng.below(4) == 0];
    let whole = rng.below(2) == 0;
    let prefix = if whole { "lstm." } else { ["", "rnn.", "a/b/"][rng.below(3)] };
    let mut entries = Entries::new();
    for (layer, reverse) in (0..layers).flat_map(|layer| (0..directions).map(move |dir| (layer, dir == 1))) {
        let features = if layer == 0 { input } else { directions * out };
        let shapes: [(bool, &[usize]); 10] = [
            (true, &[4 * hidden, features]),
            (true, &[4 * hidden, out]),
            (bias, &[4 * hidden]),
            (bias, &[4 * hidden]),
            (out != hidden, &[out, hidden]),
            (peepholes, &[3, hidden]),
            (norm, &[4 * hidden]),
            (norm, &[4 * hidden]),
            (norm, &[hidden]),
            (norm, &[hidden]),
        ];
        for (kind, (_, shape)) in KINDS.iter().zip(shapes).filter(|(_, (is_there, _))| *is_there) {
            let name = format!("{prefix}{kind}_l{layer}{}", if reverse { "_reverse" } else { "" });
            entries.push((name, tensor(shape, rng)));
        }
    }
    if whole {
        let mut stages = vec![Json::Object(vec![entry("lstm", Json::text("lstm"))])];
        if rng.below(2) == 0 {
            entries.push(entry("emb.weight", tensor(&[1 + rng.below(5), input], rng)));
            stages.insert(0, Json::Object(vec![entry("embedding", Json::text("emb"))]));
        }
        let mut features = directions * out;
        for number in 0..rng.below(3) {
            let (path, made) = (format!("fc{number}"), 1 + rng.below(4));
            entries.push((format!("{path}.weight"), tensor(&[made, features], rng)));
            if rng.below(2) == 0 {
                entries.push((format!("{path}.bias"), tensor(&[made], rng)));
            }
            stages.push(Json::Object(vec![entry("linear", Json::Text(path)), entry("function", function(rng))]));
            features = made;
        }
        if rng.below(4) != 0 {
            let network = Json::Text(Json::List(stages).to_string());
            entries.insert(0, entry(METADATA, Json::Object(vec![entry("network", network)])));
        }
    }
    Json::Object(entries)
}
