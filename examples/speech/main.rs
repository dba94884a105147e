//! Speech recognition: WAV files in, text out; a bidirectional LSTM with CTC on the best device there is.
//!
//! ```sh
//! cargo run --release --example speech -- examples/speech/test/001.wav     # one line of text a file
//! cargo run --release --example speech -- --evaluate                       # word error rates beside PyTorch's
//! ```

mod audio;
mod decode;
#[path = "../shared/device.rs"]
mod device;
mod features;
mod recogniser;
mod test_set;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cellgate::Options;
use clap::{Parser, ValueEnum};
use decode::Decoder;
use device::{DeviceArgs, say_schedules};
use ndarray::Array2;
use recogniser::Recogniser;
use test_set::{Judgement, TestSet};

/// A failure of any origin: an error of cellgate, of a file, or a sentence.
type Result<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speech/model.safetensors");
const TEST_SET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speech/test");

/// Write down what is said in WAV files: phrases of 32 words, in English as espeak-ng speaks it
///
/// Prints a line for each file: its name, a tab, the text. Says on stderr what ran where, and why.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
struct Args {
    /// Files of one channel, PCM integers, 8 kHz or more
    #[arg(value_name = "WAV", conflicts_with = "evaluate")]
    files: Vec<PathBuf>,
    /// Word error rates of all decoders on the WAV files that DIR/transcripts.tsv names, with their texts; without DIR on those in the repository
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = TEST_SET)]
    evaluate: Option<PathBuf>,
    /// How log-probabilities become text
    #[arg(long, value_enum, default_value_t = Decoder::Lexicon)]
    decoder: Decoder,
    /// Utterances of a call, those of about one length together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// The network, as train.py writes it
    #[arg(long, value_name = "FILE", default_value = MODEL)]
    model: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // the reader of stdout has gone, as `head` does
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let engine = args.device.open_and_say()?;
    let mut recogniser = Recogniser::open(&args.model, &engine, Options::default())?;
    match &args.evaluate {
        Some(folder) => evaluate(args, &mut recogniser, folder),
        None => transcribe(args, &mut recogniser),
    }
}

/// Prints what is said in every file.
fn transcribe(args: &Args, recogniser: &mut Recogniser) -> Result<()> {
    let utterances: Vec<_> = args.files.iter().map(|path| recogniser.hear(path)).collect::<Result<_>>()?;
    let log_probs = run_and_say(args, recogniser, &utterances)?;
    let mut stdout = io::stdout().lock();
    for (path, log_probs) in args.files.iter().zip(&log_probs) {
        writeln!(stdout, "{}\t{}", path.display(), recogniser.text(log_probs.view(), args.decoder))?;
    }
    Ok(())
}

/// Prints the word error rate of every decoder, beside PyTorch's where the folder has it.
fn evaluate(args: &Args, recogniser: &mut Recogniser, folder: &Path) -> Result<()> {
    let (set, judge) = (TestSet::read(folder)?, Judgement::read(folder)?);
    let utterances: Vec<_> = set.files().map(|path| recogniser.hear(&path)).collect::<Result<_>>()?;
    let log_probs = run_and_say(args, recogniser, &utterances)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{:<8} | {:<28} | {:<28} | the same texts", "decoder", "cellgate", "PyTorch")?;
    for &decoder in Decoder::value_variants() {
        let texts: Vec<_> = log_probs.iter().map(|log_probs| recogniser.text(log_probs.view(), decoder)).collect();
        let ours = set.word_errors(&texts).to_string();
        let (theirs, same) = match &judge {
            Some(judge) => {
                let same = texts.iter().zip(judge.texts(decoder)?).filter(|(ours, theirs)| ours == theirs).count();
                (judge.word_errors(decoder)?.to_string(), format!("{same} of {}", texts.len()))
            }
            None => ("no check.json".to_owned(), String::new()),
        };
        writeln!(stdout, "{:<8} | {ours:<28} | {theirs:<28} | {same}", decoder.name())?;
    }
    Ok(())
}

/// The log-probabilities `[T, C]` of every utterance; stderr gets what ran them, and how long it took.
fn run_and_say(args: &Args, recogniser: &mut Recogniser, utterances: &[Array2<f32>]) -> Result<Vec<Array2<f32>>> {
    let start = Instant::now();
    let log_probs = recogniser.log_probs(utterances, args.batch.into())?;
    let elapsed = start.elapsed();
    say_schedules(recogniser.session());
    let seconds = utterances.iter().map(|x| x.nrows()).sum::<usize>() as f64 * features::STEP_SECONDS;
    eprintln!("{} utterances, {seconds:.1} s of speech in {:.3} s, the warm-up included", utterances.len(), elapsed.as_secs_f64());
    Ok(log_probs)
}
