//! Language modelling: a character model continues many prompts at once, or says how well it predicts a text.
//!
//!     cargo run --release --example char-lm -- "This License " "If you " "A function "
//!     cargo run --release --example char-lm -- --evaluate
//!
//! `README.md` says more, `train.py` where the model is from.

mod alphabet;
#[path = "../shared/device.rs"]
mod device;
mod evaluate;
mod prompts;
mod sampler;
mod screen;
mod speed;
#[cfg(test)]
mod tests;
mod writer;

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cellgate::{Network, Options};
use clap::Parser;
use serde::Deserialize;

use alphabet::Alphabet;
use device::{DeviceArgs, say_schedules};
use evaluate::{Bits, evaluate};
use prompts::Prompts;
use screen::Screen;
use speed::{Speed, rate};
use writer::{Rules, Writer};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Continues many prompts at once, or says how well the model predicts a text
#[derive(Debug, Parser)]
#[command(name = "char-lm")]
struct Args {
    /// How the texts begin; `-` for the lines of stdin, which may arrive at any time
    #[arg(value_name = "PROMPT", default_values = PROMPTS)]
    prompts: Vec<String>,
    /// How many texts are written at once; further prompts wait until one is at its end
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    slots: usize,
    /// Characters to write, at most; a text ends with its paragraph
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one)]
    length: usize,
    /// Go on behind the end of a paragraph
    #[arg(long)]
    keep_going: bool,
    /// How daring to be: 0 always takes the likeliest character, 1 draws as the model has learned
    #[arg(long, value_name = "T", default_value_t = 0.5, value_parser = temperature)]
    temperature: f64,
    /// Seed of the draws; the same seed and prompt give the same text, whatever other prompts there are
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write nothing: say how many bits a character of FILE takes, or of the held-out text, beside PyTorch's figure
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    evaluate: Option<Option<PathBuf>>,
    /// A model that `train.py` made, in the place of the bundled one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

const PROMPTS: [&str; 6] = ["This License ", "If you ", "A function ", "When a class ", "You may convey the Program ", "The "];

const HELD_OUT: &str = include_str!("../../assets/char-lm.heldout.txt");
const CHECK: &str = include_str!("../../assets/char-lm.check.json");

/// How far, relative to it, a figure may be from PyTorch's.
const AGREEMENT: f64 = 0.005;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // a reader that has seen enough
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was well.
fn run(args: &Args) -> Result<bool> {
    let network = match &args.model {
        Some(path) => Network::open(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => bundled()?,
    };
    let alphabet = Alphabet::of(&network)?;
    match &args.evaluate {
        Some(file) => report(args, &network, &alphabet, file.as_deref()),
        None => write(args, &network, &alphabet),
    }
}

/// The model of `assets`.
fn bundled() -> cellgate::Result<Network> {
    Network::from_bytes(include_bytes!("../../assets/char-lm.safetensors"))
}

/// Writes a text for every prompt. False where a prompt was refused.
fn write(args: &Args, network: &Network, alphabet: &Alphabet) -> Result<bool> {
    let session = args.device.open_and_say()?.session(network, Options::default())?;
    let rules = Rules { temperature: args.temperature, length: args.length, keep_going: args.keep_going };
    let mut writer = Writer::new(session, args.slots, alphabet, rules)?;
    let mut prompts = if args.prompts == ["-"] { Prompts::from_stdin() } else { Prompts::Given(args.prompts.clone().into_iter()) };
    let (mut screen, mut speed) = (Screen::new(io::stdout().lock()), Speed::default());
    let (mut begun, mut refused) = (0, 0);
    loop {
        while writer.has_room()
            && let Some(prompt) = prompts.next(writer.texts().is_empty())?
        {
            if let Err(error) = alphabet.codes(&prompt) {
                eprintln!("prompt {prompt:?}: {error}");
                refused += 1;
                continue;
            }
            writer.begin(begun, &prompt, args.seed)?;
            begun += 1;
        }
        if writer.texts().is_empty() {
            break;
        }
        let started = Instant::now();
        let ended = writer.step()?;
        speed.add(started.elapsed(), &ended);
        let growing = writer.texts().iter().map(|text| (text.number, &text.text[..]));
        screen.show(growing, ended.into_iter().map(|text| (text.number, text.text)))?;
    }
    say_schedules(writer.session());
    eprintln!("{speed}");
    Ok(refused == 0)
}

/// What PyTorch makes of the held-out text.
#[derive(Deserialize)]
struct Check {
    bits_per_character: f64,
    rows: usize,
    bits_per_character_in_rows: f64,
}

/// Says how many bits a character of the text in `file` takes, or of the held-out text. False where PyTorch says another number.
fn report(args: &Args, network: &Network, alphabet: &Alphabet, file: Option<&Path>) -> Result<bool> {
    let text = match file {
        Some(path) => fs::read_to_string(path).map_err(|error| format!("{}: cannot read: {error}", path.display()))?,
        None => HELD_OUT.to_owned(),
    };
    let check: Check = serde_json::from_str(CHECK)?;
    let known = file.is_none() && args.model.is_none();
    let mut session = args.device.open_and_say()?.session(network, Options::default())?;
    let mut agree = true;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<12}{:>20}{:>16}{:>12}{:>12}{:>24}",
        "", "bits per character", "bits per byte", "PyTorch", "difference", "characters per second"
    )?;
    for (rows, pytorch) in [(1, check.bits_per_character), (check.rows, check.bits_per_character_in_rows)] {
        let bits_of = |session: &mut _, text: &str| {
            evaluate(session, alphabet, text, rows).map_err(|error| format!("{}: {error}", file.unwrap_or(Path::new("held-out text")).display()))
        };
        // some steps before the clock runs, so that the device's kernels are compiled
        bits_of(&mut session, &text.chars().take(2 * rows + 1).collect::<String>())?;
        let started = Instant::now();
        let Bits { per_character, per_byte, characters } = bits_of(&mut session, &text)?;
        let speed = rate(characters, started.elapsed());
        let difference = per_character / pytorch - 1.0;
        agree &= !known || difference.abs() <= AGREEMENT;
        let beside = if known { format!("{pytorch:>12.6}{:>+10.4} %", 100.0 * difference) } else { format!("{:>12}{:>12}", "-", "-") };
        let way = format!("{rows} row{}", if rows == 1 { "" } else { "s" });
        writeln!(out, "{way:<12}{per_character:>20.6}{per_byte:>16.6}{beside}{speed:>24.0}")?;
    }
    say_schedules(&session);
    Ok(agree)
}

/// A number of things, at least one.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&value| value > 0).ok_or_else(|| "expected a whole number from 1".to_owned())
}

/// A number that softmax can divide by, or 0.
fn temperature(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|&value: &f64| value >= 0.0 && value.is_finite()).ok_or_else(|| "expected a number from 0".to_owned())
}
