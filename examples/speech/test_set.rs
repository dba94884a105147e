//! A folder of WAV files with their texts, and what PyTorch makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::Deserialize;

use crate::Result;
use crate::decode::{Decoder, word_errors};

/// `DIR/transcripts.tsv`: for each file its name, a tab, and what is said in it.
pub(crate) struct TestSet {
    folder: PathBuf,
    names: Vec<String>,
    texts: Vec<String>,
}

impl TestSet {
    /// # Errors
    /// Where the list cannot be read, is empty, or has a line that is no name and text.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("transcripts.tsv");
        let list = fs::read_to_string(&path).map_err(|error| format!("{}: cannot read: {error}", path.display()))?;
        let (mut names, mut texts) = (Vec::new(), Vec::new());
        for (number, line) in list.lines().enumerate() {
            let (name, text) = line
                .split_once('\t')
                .ok_or_else(|| format!("{}:{}: expected a name, a tab and a text, found `{line}`", path.display(), number + 1))?;
            names.push(name.to_owned());
            texts.push(text.to_owned());
        }
        if names.is_empty() {
            return Err(format!("{}: expected utterances, found none", path.display()).into());
        }
        Ok(Self { folder: folder.to_owned(), names, texts })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|name| self.folder.join(name))
    }

    /// Of the texts that were recognised, one a file.
    pub(crate) fn word_errors(&self, found: &[String]) -> WordErrors {
        let errors = self.texts.iter().zip(found).map(|(text, found)| word_errors(text, found)).sum();
        WordErrors { errors, words: self.texts.iter().map(|text| text.split_whitespace().count()).sum() }
    }
}

/// Word errors of a test set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordErrors {
    pub(crate) errors: usize,
    pub(crate) words: usize,
}

impl WordErrors {
    /// The word error rate.
    pub(crate) fn percent(self) -> f64 {
        100.0 * self.errors as f64 / self.words.max(1) as f64
    }
}

impl fmt::Display for WordErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} words, {:.2} %", self.errors, self.words, self.percent())
    }
}

/// `DIR/check.json`: what PyTorch makes of the same files by the same rules, as `train.py` writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Judgement {
    words: usize,
    /// for every decoder, by name
    word_errors: BTreeMap<String, usize>,
    texts: BTreeMap<String, Vec<String>>,
}

impl Judgement {
    /// What the folder has; `None` where there is no such file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("check.json");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| format!("{}: cannot read: {error}", path.display()))?,
        };
        Ok(Some(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?))
    }

    /// Those of PyTorch's texts, as PyTorch's side counts them.
    pub(crate) fn word_errors(&self, decoder: Decoder) -> Result<WordErrors> {
        Ok(WordErrors { errors: *of(&self.word_errors, decoder)?, words: self.words })
    }

    /// PyTorch's texts, in the order of the list.
    pub(crate) fn texts(&self, decoder: Decoder) -> Result<&[String]> {
        Ok(of(&self.texts, decoder)?)
    }
}

fn of<T>(values: &BTreeMap<String, T>, decoder: Decoder) -> Result<&T> {
    Ok(values.get(decoder.name()).ok_or_else(|| format!("check.json: expected `{}`, found no such decoder", decoder.name()))?)
}
