//! The translation example on every device: the same translations as PyTorch's, in a batch and one by one.

mod common;
#[path = "../examples/translation/evaluate.rs"]
#[allow(unused_imports, reason = "those of unit tests, which run with the example")]
mod evaluate;
#[path = "../examples/translation/translator.rs"]
#[allow(dead_code, unused_imports, reason = "unit tests run with the example, and it prints more")]
mod translator;
#[path = "../examples/translation/vocabulary.rs"]
#[allow(dead_code, unused_imports, reason = "unit tests run with the example, and it prints more")]
mod vocabulary;

use std::error::Error;
use std::path::Path;

use cellgate::Engine;
use common::{by_model, conclude, devices, trial};
use libtest_mimic::Failed;

use crate::evaluate::{Check, Pair, Score};
use crate::translator::Translator;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/translation");

/// Exact translations of a hundred, of all and of every category but one: sentences of two clauses are at the limit of what fits a state.
const FLOOR: usize = 95;
const FLOOR_OF_SENTENCES: usize = 85;

/// Sentences that are translated at once.
const BATCH: usize = 64;

/// float32 moves no logit of this network by as much.
const MARGIN: f64 = 1e-3;

fn main() {
    let devices = devices();
    let mut trials = Vec::new();
    for device in &devices {
        // the whole test set would take a software adapter a minute
        let (name, step) = if device.name == "cpu" { ("every", 1) } else { ("every-tenth", 10) };
        trials.push(trial(device, &format!("{name}-translation-is-that-of-pytorch"), move |engine| as_pytorch(engine, step)));
        trials.push(trial(device, "a-batch-is-its-sentences-one-by-one", one_by_one));
    }
    trials.extend(devices.iter().filter(|device| device.name == "cpu").map(|device| trial(device, "wrong-sentences-are-named", wrong_sentences)));
    conclude(trials);
}

fn open(engine: &Engine) -> Result<(Translator, Vec<Pair>, Check)> {
    let (pairs, check) = evaluate::open(Path::new(FOLDER))?;
    Ok((Translator::open(Path::new(FOLDER), engine, &by_model())?, pairs, check))
}

/// Every translation is the one that PyTorch writes, right or wrong: its pieces lead by more than float32 arithmetic can move them.
fn as_pytorch(engine: &Engine, step: usize) -> std::result::Result<(), Failed> {
    let (mut translator, pairs, check) = open(engine)?;
    if check.smallest_margin < MARGIN {
        return Err(format!("check.json: expected a margin of {MARGIN}, found {}", check.smallest_margin).into());
    }
    let pairs: Vec<Pair> = pairs.into_iter().step_by(step).collect();
    let texts: Vec<&str> = pairs.iter().map(|pair| pair.english.as_str()).collect();
    let translations = translator.translate(&texts, BATCH)?;
    for (pair, found) in pairs.iter().zip(&translations) {
        let expected = check.translation(pair);
        if found != expected {
            return Err(format!("{}: PyTorch writes {expected:?}, found {found:?}", pair.english).into());
        }
    }
    let score = Score::of(&pairs, &translations, &check);
    for row in score.0.iter().filter(|_| step == 1) {
        let floor = if row.category == "sentences" { FLOOR_OF_SENTENCES } else { FLOOR };
        if row.exact != row.exact_in_pytorch || 100 * row.exact < floor * row.sentences {
            let category = &row.category;
            return Err(format!("{category}: expected as many exact translations as PyTorch has, and {floor} %, found\n{score}").into());
        }
    }
    Ok(())
}

/// Lengths differ, so that rows are padded and end at different steps.
fn one_by_one(engine: &Engine) -> std::result::Result<(), Failed> {
    let (mut translator, pairs, _) = open(engine)?;
    let texts: Vec<&str> = pairs.iter().step_by(75).map(|pair| pair.english.as_str()).collect();
    let together = translator.translate(&texts, texts.len())?;
    let alone = translator.translate(&texts, 1)?;
    if together == alone { Ok(()) } else { Err(format!("together {together:?}, one by one {alone:?}").into()) }
}

fn wrong_sentences(engine: &Engine) -> std::result::Result<(), Failed> {
    let (mut translator, ..) = open(engine)?;
    let long = "one ".repeat(15);
    for (texts, expected) in [
        (vec!["it is three o'clock", "the gnu buys books."], "line 2: expected words that the model knows, found `gnu`"),
        (vec![""], "line 1: expected a sentence, found no word"),
        (vec![long.as_str()], "line 1: expected 14 words at most, as in training, found 15"),
    ] {
        match translator.translate(&texts, BATCH) {
            Err(error) if error.to_string() == expected => {}
            found => return Err(format!("expected {expected:?}, found {found:?}").into()),
        }
    }
    match translator.translate(&[], BATCH) {
        Ok(none) if none.is_empty() => Ok(()),
        found => Err(format!("expected no translation of no sentence, found {found:?}").into()),
    }
}
