//! The bundled character model on every device, through the modules of `examples/char-lm`: the text that PyTorch draws from it, how well it
//! predicts held-out text, and that a text does not depend on who else is in the batch.

#[path = "../examples/char-lm/alphabet.rs"]
mod alphabet;
mod common;
#[path = "../examples/char-lm/evaluate.rs"]
mod evaluate;
#[path = "../examples/char-lm/sampler.rs"]
mod sampler;
#[path = "../examples/char-lm/writer.rs"]
mod writer;

use alphabet::Alphabet;
use cellgate::{DeviceChoice, Engine, Network};
use common::{by_model, conclude, devices, trial};
use evaluate::evaluate;
use libtest_mimic::Failed;
use writer::{Rules, Writer};

/// As the modules of the example have it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/char-lm.safetensors");
const CHECK: &str = include_str!("../assets/char-lm.check.json");
const HELD_OUT: &str = include_str!("../assets/char-lm.heldout.txt");

/// Bits per character are a mean over thousands of characters; PyTorch's are given with six digits.
const BITS: f64 = 1e-4;

/// What the model is worth: a uniform guess takes log2 96 = 6.58 bits, and the model knew nothing of this text.
const MOST_BITS: f64 = 2.3;

fn main() {
    let devices = devices();
    let mut trials = Vec::new();
    for device in &devices {
        trials.push(trial(device, "greedy text", greedy_text));
        trials.push(trial(device, "many texts at once", many_texts));
        // one pass over all of the text is thousands of steps of one row: a minute on a software adapter
        trials.push(match device.name.starts_with("gpu/") {
            true => trial(device, "bits per character of a prefix", bits_of_a_prefix),
            false => trial(device, "bits per character", bits_per_character),
        });
    }
    conclude(trials);
}

/// The model, its characters, and what PyTorch makes of it.
fn load() -> Result<(Network, Alphabet, serde_json::Value)> {
    let network = Network::open(MODEL)?;
    let alphabet = Alphabet::of(&network)?;
    Ok((network, alphabet, serde_json::from_str(CHECK)?))
}

/// At every step the likeliest character leads by 0.05 and more, so float32 cannot change it.
fn greedy_text(engine: &Engine) -> std::result::Result<(), Failed> {
    let (network, alphabet, check) = load()?;
    let (prompt, expected) = (check["prompt"].as_str().ok_or("no prompt")?, check["greedy"].as_str().ok_or("no text")?);
    let rules = Rules { temperature: 0.0, length: expected.len(), keep_going: true };
    let mut writer = Writer::new(engine.session(&network, by_model())?, 1, &alphabet, rules)?;
    let text = write_all(&mut writer, &[prompt])?.remove(0);
    if text == format!("{prompt}{expected}") { Ok(()) } else { Err(format!("expected {expected:?} after {prompt:?}, found {text:?}").into()) }
}

/// Texts of prompts that take turns in too few slots are those of each prompt alone, character by character.
fn many_texts(engine: &Engine) -> std::result::Result<(), Failed> {
    // the second goes in several pieces, and the last ends with its paragraph
    let prompts = ["If ", "You may convey a covered work under the terms of ", "A function ", "The", "This is the end.\n"];
    let (network, alphabet, _) = load()?;
    let rules = Rules { temperature: 0.7, length: 20, keep_going: false };
    let mut writer = Writer::new(engine.session(&network, by_model())?, 3, &alphabet, rules)?;
    let together = write_all(&mut writer, &prompts)?;
    for (prompt, beside) in prompts.iter().zip(&together) {
        let alone = write_all(&mut writer, &[prompt])?.remove(0);
        if alone != *beside {
            return Err(format!("expected {alone:?}, as alone, found {beside:?} beside others").into());
        }
    }
    if writer.session().schedules().is_empty() { Err("nothing says what ran".into()) } else { Ok(()) }
}

/// The texts of all prompts. Those that have no slot yet join as others leave, so that texts of any age are in a batch.
fn write_all(writer: &mut Writer<'_>, prompts: &[&str]) -> Result<Vec<String>> {
    let (mut texts, mut begun, mut ages_met) = (vec![String::new(); prompts.len()], 0, false);
    loop {
        while writer.has_room() && begun < prompts.len() {
            writer.begin(begun, prompts[begun], 5)?;
            begun += 1;
        }
        let Some(first) = writer.texts().first() else { break };
        ages_met |= writer.texts().iter().any(|text| text.written != first.written);
        for ended in writer.step()? {
            texts[ended.number] = ended.text;
        }
    }
    if ages_met == (prompts.len() > 1) { Ok(texts) } else { Err("nobody joined while others were on their way: the test tests little".into()) }
}

fn bits_per_character(engine: &Engine) -> std::result::Result<(), Failed> {
    let (network, alphabet, check) = load()?;
    let mut session = engine.session(&network, by_model())?;
    let rows = usize::try_from(check["rows"].as_u64().ok_or("no rows")?)?;
    for (rows, figures) in [(1, &["bits_per_character", "bits_per_character_float32"][..]), (rows, &["bits_per_character_in_rows"])] {
        let bits = evaluate(&mut session, &alphabet, HELD_OUT, rows)?;
        for figure in figures {
            agree(bits.per_character, check[figure].as_f64().ok_or("no bits")?)?;
        }
        agree(bits.per_byte, bits.per_character)?;
        if bits.characters + 1 != HELD_OUT.len() || bits.per_character > MOST_BITS {
            return Err(format!("expected {MOST_BITS} bits at most for all of the text, found {bits:?}").into());
        }
    }
    Ok(())
}

/// The same figure as the reference's on the first characters, in one row and in several.
fn bits_of_a_prefix(engine: &Engine) -> std::result::Result<(), Failed> {
    let (network, alphabet, _) = load()?;
    let mut session = engine.session(&network, by_model())?;
    let mut reference = Engine::new(DeviceChoice::Reference)?.session(&network, by_model())?;
    for (characters, rows) in [(60, 1), (350, 7)] {
        let prefix = &HELD_OUT[..characters];
        let expected = evaluate(&mut reference, &alphabet, prefix, rows)?;
        agree(evaluate(&mut session, &alphabet, prefix, rows)?.per_character, expected.per_character)?;
    }
    Ok(())
}

fn agree(found: f64, expected: f64) -> Result<()> {
    if (found - expected).abs() <= BITS { Ok(()) } else { Err(format!("expected {expected} bits, found {found}").into()) }
}
