//! English to German by two LSTMs: an encoder reads a sentence, and a decoder that starts from its final states writes the translation.
//!
//! ```sh
//! cargo run --release --example translation -- "the old man buys three red books."
//! cargo run --release --example translation < sentences.txt        # one sentence a line, translated as a batch
//! cargo run --release --example translation -- --evaluate          # the test set, beside PyTorch's figures
//! ```

#[path = "../shared/device.rs"]
mod device;
mod evaluate;
mod translator;
mod vocabulary;

use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use cellgate::Options;
use clap::Parser;

use crate::device::{DeviceArgs, say_schedules};
use crate::evaluate::{Pair, Score};
use crate::translator::Translator;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Translate English sentences to German: numbers, dates, times, prices and simple sentences
#[derive(Parser)]
struct Args {
    /// What to translate; without any, the lines of the standard input
    #[arg(conflicts_with = "evaluate")]
    sentences: Vec<String>,
    /// Translate the test set, and print how many translations are exact
    #[arg(long)]
    evaluate: bool,
    /// Print the words that the model knows
    #[arg(long, conflicts_with_all = ["sentences", "evaluate"])]
    words: bool,
    /// How many sentences to translate at once
    #[arg(long, value_name = "N", default_value = "64")]
    batch: NonZeroUsize,
    /// The folder of the models, and of the test set
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/translation"))]
    models: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // whoever reads the translations has seen enough
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let engine = args.device.open_and_say()?;
    let mut translator = Translator::open(&args.models, &engine, &Options::default())?;
    if args.words {
        return print(translator.words());
    }
    if args.evaluate {
        evaluate(args, &mut translator)?;
    } else {
        let lines = if args.sentences.is_empty() { io::stdin().lines().collect::<io::Result<_>>()? } else { args.sentences.clone() };
        let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
        print(translator.translate(&texts, args.batch.get())?)?;
    }
    for (name, session) in translator.sessions() {
        session.network().notes().iter().for_each(|note| eprintln!("note: {name}: {note}"));
        say_schedules(session);
    }
    Ok(())
}

/// Translates the test set twice: the second time, which is timed, kernels are compiled and schedules chosen.
fn evaluate(args: &Args, translator: &mut Translator) -> Result<()> {
    let (pairs, check) = evaluate::open(&args.models)?;
    let texts: Vec<&str> = pairs.iter().map(|pair| pair.english.as_str()).collect();
    let translations = translator.translate(&texts, args.batch.get())?;
    let start = Instant::now();
    translator.translate(&texts, args.batch.get())?;
    let seconds = start.elapsed().as_secs_f64();
    for (Pair { english, german, .. }, found) in pairs.iter().zip(&translations).filter(|(pair, found)| pair.german != **found) {
        eprintln!("not exact: {english}\n  expected {german}\n  found    {found}");
    }
    let differing = pairs.iter().zip(&translations).filter(|(pair, found)| check.translation(pair) != **found).count();
    eprintln!("{differing} translations are not those of PyTorch, whose pieces lead by a logit of {} and more", check.smallest_margin);
    write!(io::stdout(), "{}", Score::of(&pairs, &translations, &check))?;
    eprintln!("{:.0} sentences per second, {} at once", texts.len() as f64 / seconds, args.batch);
    Ok(())
}

/// One a line.
fn print(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    lines.into_iter().try_for_each(|line| writeln!(stdout, "{}", line.as_ref()))?;
    Ok(())
}
