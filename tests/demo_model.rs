//! The bundled character model on every device: the text that PyTorch draws from it, and how well it predicts held-out text.

mod common;

use std::collections::BTreeMap;

use cellgate::{Engine, Inputs, Network};
use common::{by_model, conclude, devices, trial};
use libtest_mimic::Failed;
use ndarray::{Array2, ArrayView1, Axis, s};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/char-lm.safetensors");
const CHECK: &str = include_str!("../assets/char-lm.check.json");
const HELD_OUT: &str = include_str!("../assets/char-lm.heldout.txt");

/// Bits per character are a mean over thousands of characters; PyTorch's are given with six digits.
const BITS: f64 = 1e-4;

fn main() {
    let devices = devices();
    let greedy = devices.iter().map(|device| trial(device, "greedy text", greedy_text));
    // one pass over all of the text is thousands of steps of one row: a minute on a software adapter
    let hosts = devices.iter().filter(|device| !device.name.starts_with("gpu/"));
    let bits = hosts.map(|device| trial(device, "bits per character", bits_per_character));
    conclude(greedy.chain(bits).collect());
}

/// The model, its characters in the order of their codes, and what PyTorch makes of it.
fn load() -> Result<(Network, Vec<char>, serde_json::Value), Failed> {
    let network = Network::open(MODEL)?;
    let vocabulary = network.metadata("vocabulary").ok_or("no vocabulary")?;
    let characters = serde_json::from_str::<String>(vocabulary)?.chars().collect();
    Ok((network, characters, serde_json::from_str(CHECK)?))
}

/// `[characters, V]`
fn one_hot(text: &str, characters: &[char]) -> Result<Array2<f32>, Failed> {
    let codes: BTreeMap<char, usize> = characters.iter().enumerate().map(|(code, &character)| (character, code)).collect();
    let mut rows = Array2::zeros((text.chars().count(), characters.len()));
    for (row, character) in text.chars().enumerate() {
        rows[[row, *codes.get(&character).ok_or("an unknown character")?]] = 1.0;
    }
    Ok(rows)
}

fn largest(logits: ArrayView1<'_, f32>) -> usize {
    (0..logits.len()).fold(0, |best, code| if logits[code] > logits[best] { code } else { best })
}

/// Streams with the state on the device; at every step the likeliest character leads by 0.05 and more, so float32 cannot change it.
fn greedy_text(engine: &Engine) -> Result<(), Failed> {
    let (network, characters, check) = load()?;
    let (prompt, expected) = (check["prompt"].as_str().ok_or("no prompt")?, check["greedy"].as_str().ok_or("no text")?);
    let mut stream = engine.session(&network, by_model())?.into_stream(1)?;
    let slot = stream.join()?;
    let mut chunk = one_hot(prompt, &characters)?;
    let mut text = String::new();
    while text.chars().count() < expected.chars().count() {
        let logits = stream.step(&[(slot, chunk.view())])?.remove(0);
        text.push(characters[largest(logits.slice(s![-1, ..]))]);
        chunk = one_hot(&text[text.len() - 1..], &characters)?;
    }
    if text == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {text:?}").into()) }
}

fn bits_per_character(engine: &Engine) -> Result<(), Failed> {
    let (network, characters, check) = load()?;
    let expected = check["bits_per_character"].as_f64().ok_or("no bits")?;
    let x = one_hot(HELD_OUT, &characters)?;
    let out = engine.session(&network, by_model())?.run(&Inputs::new().with("x", x.view().insert_axis(Axis(1))))?;
    let steps = x.nrows() - 1;
    let nats: f64 = (0..steps)
        .map(|t| {
            let logits = out["y"].slice(s![t, 0, ..]).mapv(f64::from);
            let most = logits.fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
            let total = most + logits.mapv(|logit| (logit - most).exp()).sum().ln();
            total - logits[largest(x.row(t + 1))]
        })
        .sum();
    let bits = nats / steps as f64 / std::f64::consts::LN_2;
    if (bits - expected).abs() <= BITS { Ok(()) } else { Err(format!("expected {expected} bits per character, found {bits}").into()) }
}
