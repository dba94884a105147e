//! `cellgate demo`: the bundled model writes text, one character at a time.
//!
//! The model is one `torch.nn.LSTM`: its input is the one-hot code of a character, its output the logits of the next one. The weights
//! and the state stay on the device; each character that is drawn goes back in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cellgate::compare::{Tolerance, compare};
use cellgate::{DeviceChoice, Engine, Network};
use ndarray::{Array2, ArrayView1, Axis, s};
use serde::Serialize;

use super::args::{DeviceArgs, SessionArgs};
use super::judge::TOLERANCE;
use super::output::{self, DeviceFields, ScheduleFields};
use super::random::Random;
use super::{Result, Verdict};

/// Let the bundled model write text on the best device there is
///
/// A network of LSTM layers that learned to continue text, character by character. Says on stderr which device it runs on and why, how
/// fast, and whether the float64 reference gives the same numbers; exit code 1 where it does not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// How the text begins
    #[arg(long, value_name = "TEXT", default_value = "This License ")]
    prompt: String,
    /// How many characters to write
    #[arg(long, value_name = "N", default_value_t = 600)]
    length: usize,
    /// How daring to be: 0 always takes the likeliest character, 1 draws as the model has learned
    #[arg(long, value_name = "T", default_value_t = 0.5, value_parser = temperature)]
    temperature: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 12)]
    seed: u64,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The model, trained by `examples/char-lm/train.py`.
const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/char-lm.safetensors"));

/// How many characters the reference computes again.
const MAX_VERIFIED: usize = 200;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    device: DeviceFields,
    #[serde(flatten)]
    schedule: ScheduleFields,
    /// the prompt, and what the model made of it
    text: String,
    characters_per_second: f64,
    /// largest difference from the float64 reference's logits
    max_abs_err: f64,
}

/// What came out of the model.
struct Written {
    /// prompt included
    text: String,
    /// `[characters, V]`: the logits after each of the first characters of `text`
    logits: Array2<f32>,
    /// for the characters after the prompt
    elapsed: Duration,
    schedule: ScheduleFields,
}

pub(super) fn run(args: &Args) -> Result<Verdict> {
    let network = Network::from_bytes(MODEL)?;
    let alphabet = Alphabet::of(&network)?;
    let prompt = alphabet.one_hot(&args.prompt)?;
    let engine = args.device.open_and_say()?;
    if let Some(about) = network.metadata("about") {
        output::say(&format!("model: {} parameters; {about}", network.num_parameters()));
    }
    let written = write(args, &engine, &network, &alphabet, prompt)?;
    #[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
    let characters_per_second = args.length as f64 / written.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let check = verify(args, &network, &alphabet, &written)?;
    output::say(&format!("{characters_per_second:.0} characters per second on {}", written.schedule.first_side(&engine.describe().device)));
    output::say(&check.text);
    if args.json {
        let (schedule, max_abs_err) = (written.schedule, check.max_abs_err);
        output::print_json(&Report {
            device: DeviceFields::of(engine.describe()),
            schedule,
            text: written.text,
            characters_per_second,
            max_abs_err,
        })?;
    }
    Ok(if check.passed { Verdict::Good } else { Verdict::CheckFailed })
}

/// Feeds the prompt in one chunk, then draws one character after the other. Without `--json` the text appears as it is made.
fn write(args: &Args, engine: &Engine, network: &Network, alphabet: &Alphabet, prompt: Array2<f32>) -> Result<Written> {
    let session = engine.session(network, args.session.options())?;
    let mut stream = session.into_stream(1)?;
    let slot = stream.join()?;
    let mut random = Random::new(args.seed);
    let mut text = args.prompt.clone();
    let bar = args.json.then(|| output::progress_bar(args.length));
    if !args.json {
        output::stream(&text)?;
    }
    let mut step = |chunk: &Array2<f32>| Ok::<_, cellgate::Error>(stream.step(&[(slot, chunk.view())])?.remove(0));
    let mut logits = step(&prompt)?;
    let mut kept = logits.slice(s![..logits.nrows().min(MAX_VERIFIED), ..]).to_owned();
    // The prompt has warmed the device up.
    let start = Instant::now();
    let mut code = 0;
    for number in 0..args.length {
        if number > 0 {
            logits = step(&alphabet.code(&[code]))?;
            if kept.nrows() < MAX_VERIFIED {
                kept.append(Axis(0), logits.view())?;
            }
        }
        code = draw(logits.slice(s![-1, ..]), args.temperature, &mut random);
        let character = alphabet.characters[code];
        text.push(character);
        match &bar {
            Some(bar) => bar.set_position(number as u64),
            None => output::stream(character.encode_utf8(&mut [0; 4]))?,
        }
    }
    let elapsed = start.elapsed();
    match bar {
        Some(bar) => bar.finish_and_clear(),
        None => output::stream("\n")?,
    }
    let schedule = ScheduleFields::say(stream.session());
    Ok(Written { text, logits: kept, elapsed, schedule })
}

/// What the reference makes of the same characters.
struct Check {
    passed: bool,
    max_abs_err: f64,
    text: String,
}

/// Lets the reference read the same characters, in one chunk.
///
/// A logit is a sum over all units, and one near 0 a sum whose terms cancel: its rounding error is as large as that of its neighbours.
/// So the bound of [`TOLERANCE`] is that of the largest logit of the step: `|error| <= 1e-5 * (1 + max |logit|)`.
fn verify(args: &Args, network: &Network, alphabet: &Alphabet, written: &Written) -> Result<Check> {
    let characters = written.logits.nrows();
    let read: String = written.text.chars().take(characters).collect();
    let mut session = Engine::new(DeviceChoice::Reference)?.session(network, args.session.reference_options())?;
    let mut stream = session.stream(1)?;
    let slot = stream.join()?;
    let expected = stream.step(&[(slot, alphabet.one_hot(&read)?.view())])?.remove(0).mapv(f64::from);
    let mut check = Check { passed: true, max_abs_err: 0.0, text: String::new() };
    for (number, (actual, expected)) in written.logits.rows().into_iter().zip(expected.rows()).enumerate() {
        let largest = expected.iter().fold(0.0, |largest: f64, logit| largest.max(logit.abs()));
        let tolerance = Tolerance { atol: TOLERANCE.bound(largest), rtol: 0.0 };
        let comparison = compare(actual.into_dyn(), expected.into_dyn(), tolerance);
        check.max_abs_err = check.max_abs_err.max(comparison.max_abs_err);
        if check.passed && !comparison.passed() {
            let text = cellgate::one_line(&comparison.to_string());
            check = Check { passed: false, text: format!("the float64 reference gives other logits after character {number}: {text}"), ..check };
        }
    }
    if check.passed {
        let error = check.max_abs_err;
        check.text = format!("the float64 reference gives the same logits for the first {characters} characters: max |error| {error:.1e}");
    }
    Ok(check)
}

/// A number that softmax can divide by, or 0.
fn temperature(text: &str) -> std::result::Result<f64, String> {
    let rule = "expected a number from 0";
    text.parse().ok().filter(|&value: &f64| value >= 0.0 && value.is_finite()).ok_or_else(|| rule.to_owned())
}

/// Draws an index with the probabilities `softmax(logits / temperature)`.
fn draw(logits: ArrayView1<'_, f32>, temperature: f64, random: &mut Random) -> usize {
    let best = (0..logits.len()).reduce(|best, index| if logits[index] > logits[best] { index } else { best }).unwrap_or(0);
    if temperature == 0.0 {
        return best;
    }
    let weight = |&logit: &f32| ((f64::from(logit) - f64::from(logits[best])) / temperature).exp();
    let mut left = random.uniform() * logits.iter().map(weight).sum::<f64>();
    for (index, logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return index;
        }
    }
    best
}

/// The characters that a model knows; their places are their codes.
struct Alphabet {
    characters: Vec<char>,
    codes: BTreeMap<char, usize>,
}

impl Alphabet {
    /// From the metadata key `vocabulary`, a JSON string or a list of characters.
    fn of(network: &Network) -> Result<Self> {
        let json = network.metadata("vocabulary").ok_or("metadata `vocabulary`: expected the characters that the model knows, found none")?;
        let text: String = match serde_json::from_str(json).map_err(|error| format!("metadata `vocabulary`: {error}"))? {
            serde_json::Value::String(text) => text,
            list => serde_json::from_value::<Vec<String>>(list).map_err(|error| format!("metadata `vocabulary`: {error}"))?.concat(),
        };
        let characters: Vec<char> = text.chars().collect();
        let size = network.lstms().next().and_then(|(_, lstm)| Some(lstm?.config())).map(|config| (config.input_size, config.out_size()));
        if size != Some((characters.len(), characters.len())) {
            return Err(format!("metadata `vocabulary`: found {} characters for another number of inputs or outputs", characters.len()).into());
        }
        let codes = characters.iter().enumerate().map(|(code, &character)| (character, code)).collect();
        Ok(Self { characters, codes })
    }

    /// `[characters of text, V]`
    fn one_hot(&self, text: &str) -> Result<Array2<f32>> {
        let code = |character: char| {
            self.codes.get(&character).copied().ok_or_else(|| {
                let known: String = self.characters.iter().filter(|character| !character.is_control()).collect();
                format!("--prompt: the model does not know `{}`; it knows {known}", character.escape_debug())
            })
        };
        let codes = text.chars().map(code).collect::<std::result::Result<Vec<_>, _>>()?;
        if codes.is_empty() {
            return Err("--prompt: expected at least one character, found none".into());
        }
        Ok(self.code(&codes))
    }

    /// `[codes, V]`
    fn code(&self, codes: &[usize]) -> Array2<f32> {
        Array2::from_shape_fn((codes.len(), self.characters.len()), |(row, column)| if codes[row] == column { 1.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_temperature() {
        let logits = ndarray::arr1(&[0.0, 1.0, f32::NEG_INFINITY, 0.5]);
        let draws = |temperature| {
            let mut random = Random::new(7);
            let mut counts = [0; 4];
            (0..10_000).for_each(|_| counts[draw(logits.view(), temperature, &mut random)] += 1);
            counts
        };
        assert_eq!(draws(0.0), [0, 10_000, 0, 0]);
        let [first, second, third, fourth] = draws(1.0);
        assert!(third == 0 && second > fourth && fourth > first && first > 1500, "{:?}", draws(1.0));
        let [_, cold, ..] = draws(0.1);
        assert!(cold > 9800, "{cold}");
    }

    #[test]
    fn the_bundled_model_says_what_it_knows() {
        let network = Network::from_bytes(MODEL).unwrap();
        let alphabet = Alphabet::of(&network).unwrap();
        assert_eq!(alphabet.one_hot("ab").unwrap().rows().into_iter().map(|row| row.sum()).collect::<Vec<_>>(), [1.0, 1.0]);
        for text in ["", "\u{1F600}"] {
            assert!(alphabet.one_hot(text).unwrap_err().to_string().starts_with("--prompt: "));
        }
    }
}
