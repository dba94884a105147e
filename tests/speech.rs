//! `examples/speech` on every device: the texts and word error rates that PyTorch has, features, and what is said about files it cannot read.
#![allow(dead_code, unused_imports, reason = "the example's modules, of which a part is used, and whose own tests run with the example")]

#[path = "../examples/speech/audio.rs"]
mod audio;
mod common;
#[path = "../examples/speech/decode.rs"]
mod decode;
#[path = "../examples/speech/features.rs"]
mod features;
#[path = "../examples/speech/recogniser.rs"]
mod recogniser;
#[path = "../examples/speech/test_set.rs"]
mod test_set;

use std::error::Error as StdError;
use std::path::Path;

use cellgate::Engine;
use cellgate::formats::npy;
use clap::ValueEnum;
use common::{by_model, conclude, devices, trial};
use decode::Decoder;
use features::Features;
use hound::{SampleFormat, WavSpec, WavWriter};
use libtest_mimic::{Failed, Trial};
use ndarray::Ix2;
use recogniser::Recogniser;
use test_set::{Judgement, TestSet};

type Result<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speech/model.safetensors");
const TEST_SET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/speech/test");

/// What the word error rate in unseen voices must stay below, in percent, whoever computes it: the network alone spells some words wrong, which a
/// vocabulary puts right.
fn ceiling(decoder: Decoder) -> f64 {
    match decoder {
        Decoder::Greedy | Decoder::Beam => 10.0,
        Decoder::Lexicon => 6.0,
    }
}

/// Features are computed in float64 on both sides and rounded to float32 at the end, where a value may fall on either side: values are below 16,
/// whose neighbours are 2^-20 apart.
const FEATURES: f32 = 1e-6;

/// Utterances on a GPU: all of them take a software adapter ten seconds and more.
const FEW: usize = 6;

fn main() {
    let recognised = devices().into_iter().map(|device| {
        let few = device.name.starts_with("gpu/");
        trial(&device, "texts", move |engine| if few { few_texts(engine) } else { all_texts(engine) })
    });
    let files = [Trial::test("features", features_of_files), Trial::test("files that are refused", refused_files)];
    conclude(recognised.chain(files).collect());
}

/// The first texts by every decoder, recognised in calls of several utterances: each is what PyTorch makes of the utterance alone.
fn texts(engine: &Engine, set: &TestSet, judge: &Judgement, count: usize) -> Result<Vec<(Decoder, Vec<String>)>> {
    let mut recogniser = Recogniser::open(Path::new(MODEL), engine, by_model())?;
    let utterances: Vec<_> = set.files().take(count).map(|path| recogniser.hear(&path)).collect::<Result<_>>()?;
    let log_probs = recogniser.log_probs(&utterances, 16)?;
    let mut texts = Vec::new();
    for &decoder in Decoder::value_variants() {
        let found: Vec<_> = log_probs.iter().map(|log_probs| recogniser.text(log_probs.view(), decoder)).collect();
        for ((path, found), expected) in set.files().zip(&found).zip(judge.texts(decoder)?) {
            if found != expected {
                return Err(format!("{}, {}: expected {expected:?}, found {found:?}", path.display(), decoder.name()).into());
            }
        }
        texts.push((decoder, found));
    }
    Ok(texts)
}

fn few_texts(engine: &Engine) -> std::result::Result<(), Failed> {
    texts(engine, &TestSet::read(Path::new(TEST_SET))?, &judgement()?, FEW)?;
    Ok(())
}

/// All texts, and the word error rate of every decoder: PyTorch's, as PyTorch's side counts it, and a good one.
fn all_texts(engine: &Engine) -> std::result::Result<(), Failed> {
    let (set, judge) = (TestSet::read(Path::new(TEST_SET))?, judgement()?);
    for (decoder, texts) in texts(engine, &set, &judge, usize::MAX)? {
        let (found, expected) = (set.word_errors(&texts), judge.word_errors(decoder)?);
        if found != expected || found.percent() >= ceiling(decoder) {
            return Err(format!("{}: expected {expected}, below {} %; found {found}", decoder.name(), ceiling(decoder)).into());
        }
    }
    Ok(())
}

fn judgement() -> Result<Judgement> {
    Ok(Judgement::read(Path::new(TEST_SET))?.ok_or("check.json: expected PyTorch's texts, found no such file")?)
}

/// Of 8 and 16 bits, and of another rate than the network's.
fn features_of_files() -> std::result::Result<(), Failed> {
    let features = Features::new();
    for name in ["000", "001", "plain"] {
        let path = |end: &str| Path::new(TEST_SET).join(format!("{name}.{end}"));
        let found = features.of(&audio::read(&path("wav"))?)?;
        let expected = npy::read(&path("features.npy"))?;
        let expected = expected.as_f32().ok_or("not float32")?.view().into_dimensionality::<Ix2>()?;
        if found.dim() != expected.dim() {
            return Err(format!("{name}: expected {:?}, found {:?}", expected.dim(), found.dim()).into());
        }
        let worst = (&found - &expected).fold(0.0, |worst: f32, difference| worst.max(difference.abs()));
        println!("{name}: largest difference {worst:e}, allowed {FEATURES:e}");
        // not `worst`, which would pass over NaN
        if !found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= FEATURES) {
            return Err(format!("{name}: features differ by {worst:e} and more, allowed are {FEATURES:e}").into());
        }
    }
    Ok(())
}

/// Every message names the file, the rule and what was found.
fn refused_files() -> std::result::Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let hear = |path: &Path| audio::read(path).and_then(|samples| Features::new().of(&samples)).map(|_| ());
    let integers = WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let cases = [
        ("stereo", WavSpec { channels: 2, ..integers }, 1000, "expected 1 channel, found 2"),
        (
            "float",
            WavSpec { bits_per_sample: 32, sample_format: SampleFormat::Float, ..integers },
            1000,
            "expected samples that are integers (PCM), found floats of 32 bits",
        ),
        ("slow", WavSpec { sample_rate: 6000, ..integers }, 1000, "expected a sampling rate of 8000 to 192000 Hz, found 6000"),
        ("long", integers, 61 * 8000, "expected at most 60 s, found 61; cut it where nobody speaks"),
        ("empty", integers, 0, "expected at least 360 samples at 8 kHz (45 ms), found 0"),
        ("short", WavSpec { sample_rate: 16000, ..integers }, 719, "expected at least 360 samples at 8 kHz (45 ms), found 359"),
    ];
    for (name, spec, samples, message) in cases {
        let path = folder.path().join(format!("{name}.wav"));
        let mut writer = WavWriter::create(&path, spec)?;
        for n in 0..samples * u32::from(spec.channels) {
            match spec.sample_format {
                SampleFormat::Int => writer.write_sample((n % 100) as i16)?,
                SampleFormat::Float => writer.write_sample((n % 100) as f32)?,
            }
        }
        writer.finalize()?;
        expect_error(&path, hear(&path), message)?;
    }
    let path = folder.path().join("no.wav");
    std::fs::write(&path, "not a WAV file")?;
    expect_error(&path, hear(&path), "no RIFF tag found")
}

fn expect_error(path: &Path, found: Result<()>, message: &str) -> std::result::Result<(), Failed> {
    let found = found.err().map(|error| error.to_string());
    let expected = found.as_ref().is_some_and(|found| found.contains(message));
    if expected { Ok(()) } else { Err(format!("{}: expected an error with {message:?}, found {found:?}", path.display()).into()) }
}
