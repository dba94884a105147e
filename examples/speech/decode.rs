//! From log-probabilities `[T, C]` to text, and the word error rate; the twin of `decode.py`. Class 0 is CTC's blank, class k the k-th character.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use ndarray::{ArrayView1, ArrayView2};

/// How log-probabilities become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decoder {
    /// the likeliest class of every step
    Greedy,
    /// the likeliest text over all of its alignments
    Beam,
    /// the same, of texts that consist of words of the vocabulary
    Lexicon,
}

impl Decoder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Beam => "beam",
            Self::Lexicon => "lexicon",
        }
    }
}

/// The likeliest class of every step, runs of one class taken once, without blanks.
pub(crate) fn greedy(log_probs: ArrayView2<'_, f32>, characters: &[char]) -> String {
    let mut classes: Vec<usize> = log_probs.rows().into_iter().map(likeliest).collect();
    classes.dedup();
    classes.into_iter().filter(|&class| class > 0).map(|class| characters[class - 1]).collect()
}

/// The first of the largest.
fn likeliest(row: ArrayView1<'_, f32>) -> usize {
    (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

/// The words that a text may consist of, with one space between two of them.
#[derive(Debug)]
pub(crate) struct Lexicon(BTreeSet<String>);

impl Lexicon {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Whether `text` and `character` begin a text of these words.
    fn allows(&self, text: &str, character: char) -> bool {
        let word = last_word(text);
        if character == ' ' {
            return self.0.contains(word);
        }
        let longer = format!("{word}{character}");
        self.0.range(longer.clone()..).next().is_some_and(|word| word.starts_with(&longer))
    }

    /// Whether the last word of `text` is whole.
    fn ends(&self, text: &str) -> bool {
        text.is_empty() || self.0.contains(last_word(text))
    }
}

fn last_word(text: &str) -> &str {
    text.rsplit_once(' ').map_or(text, |(_, word)| word)
}

/// Log-probabilities of a text's alignments so far: of those that end in a blank, and in the text's last character.
#[derive(Clone, Copy)]
struct Score {
    blank: f64,
    label: f64,
}

impl Score {
    const NONE: Self = Self { blank: f64::NEG_INFINITY, label: f64::NEG_INFINITY };

    fn either(self) -> f64 {
        log_add(self.blank, self.label)
    }

    fn add(&mut self, other: Self) {
        *self = Self { blank: log_add(self.blank, other.blank), label: log_add(self.label, other.label) };
    }
}

/// log(exp(a) + exp(b))
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = (a.max(b), a.min(b));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The likeliest text over all of its alignments, of those that were among the `width` likeliest beginnings at every step.
///
/// With a lexicon, texts that it does not allow are none; the result is empty where no text of whole words is left.
pub(crate) fn beam(log_probs: ArrayView2<'_, f32>, characters: &[char], width: usize, lexicon: Option<&Lexicon>) -> String {
    let mut beginnings = vec![(String::new(), Score { blank: 0.0, ..Score::NONE })];
    for frame in log_probs.rows() {
        let mut longer: BTreeMap<String, Score> = BTreeMap::new();
        let mut add = |text: String, score| longer.entry(text).or_insert(Score::NONE).add(score);
        for (text, score) in beginnings {
            for (&character, &log_prob) in characters.iter().zip(frame.iter().skip(1)) {
                let repeats = text.ends_with(character);
                if repeats {
                    // the same character once more is the same text; only a blank between makes it a second one
                    add(text.clone(), Score { label: score.label + f64::from(log_prob), ..Score::NONE });
                }
                if lexicon.is_none_or(|lexicon| lexicon.allows(&text, character)) {
                    let before = if repeats { score.blank } else { score.either() };
                    add(format!("{text}{character}"), Score { label: before + f64::from(log_prob), ..Score::NONE });
                }
            }
            add(text, Score { blank: score.either() + f64::from(frame[0]), ..Score::NONE });
        }
        beginnings = longer.into_iter().collect();
        // stable: of equals the first in the alphabet stays the first
        beginnings.sort_by(|a, b| b.1.either().total_cmp(&a.1.either()));
        beginnings.truncate(width);
    }
    beginnings.into_iter().map(|(text, _)| text).find(|text| lexicon.is_none_or(|lexicon| lexicon.ends(text))).unwrap_or_default()
}

/// The fewest words to put in, take out and replace that make `found` of `expected`.
pub(crate) fn word_errors(expected: &str, found: &str) -> usize {
    let found: Vec<_> = found.split_whitespace().collect();
    let mut costs: Vec<usize> = (0..=found.len()).collect();
    for (i, word) in expected.split_whitespace().enumerate() {
        let mut diagonal = std::mem::replace(&mut costs[0], i + 1);
        for (j, other) in found.iter().enumerate() {
            let cost = (diagonal + usize::from(word != *other)).min(costs[j] + 1).min(costs[j + 1] + 1);
            diagonal = std::mem::replace(&mut costs[j + 1], cost);
        }
    }
    costs[found.len()]
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    const CHARACTERS: [char; 3] = [' ', 'a', 'b'];

    /// Log-probabilities of rows of [blank, space, a, b].
    fn logs(probabilities: Array2<f32>) -> Array2<f32> {
        probabilities.mapv(f32::ln)
    }

    /// Rows in which one class has nearly all.
    fn path(classes: &[usize]) -> Array2<f32> {
        Array2::from_shape_fn((classes.len(), 4), |(t, class)| if class == classes[t] { 0.97_f32.ln() } else { 0.01_f32.ln() })
    }

    #[test]
    fn runs_are_one_character_and_a_blank_makes_two() {
        for (classes, text) in [(&[2, 2, 0, 2, 3][..], "aab"), (&[2, 2, 2], "a"), (&[0, 0], ""), (&[2, 1, 1, 3], "a b"), (&[], "")] {
            assert_eq!(greedy(path(classes).view(), &CHARACTERS), text);
            assert_eq!(beam(path(classes).view(), &CHARACTERS, 8, None), text);
        }
    }

    #[test]
    fn a_text_counts_with_all_of_its_alignments() {
        // "" has 0.6 * 0.6 = 0.36; "a" has 0.4 * 0.6 + 0.6 * 0.4 + 0.4 * 0.4 = 0.64
        let log_probs = logs(array![[0.6, 0.0, 0.4, 0.0], [0.6, 0.0, 0.4, 0.0]]);
        assert_eq!(greedy(log_probs.view(), &CHARACTERS), "");
        assert_eq!(beam(log_probs.view(), &CHARACTERS, 8, None), "a");
    }

    #[test]
    fn a_lexicon_allows_its_words_alone() {
        let lexicon = Lexicon::new(["ab".to_owned(), "b".to_owned()]);
        let heard = path(&[2, 0, 2, 3, 1, 1, 3]); // "aab b"
        assert_eq!(beam(heard.view(), &CHARACTERS, 8, None), "aab b");
        assert_eq!(beam(heard.view(), &CHARACTERS, 8, Some(&lexicon)), "ab b");
        // "b a" ends in half a word, which is none
        assert_eq!(beam(path(&[3, 1, 2]).view(), &CHARACTERS, 8, Some(&lexicon)), "b b");
        // of a beam of one, nothing whole may be left
        assert_eq!(beam(path(&[2]).view(), &CHARACTERS, 1, Some(&lexicon)), "");
    }

    #[test]
    fn a_lexicon_knows_how_texts_go_on() {
        let lexicon = Lexicon::new(["on".to_owned(), "one".to_owned()]);
        for (text, character, allowed) in [
            ("", 'o', true),
            ("", 'n', false),
            ("", ' ', false),
            ("o", ' ', false),
            ("on", ' ', true),
            ("on", 'e', true),
            ("on ", ' ', false),
            ("on o", 'n', true),
        ] {
            assert_eq!(lexicon.allows(text, character), allowed, "`{text}` and `{character}`");
        }
    }

    #[test]
    fn errors_are_counted_in_words() {
        for (expected, found, errors) in [
            ("a b c", "a b c", 0),
            ("a b c", "a c", 1),
            ("a b", "a x b", 1),
            ("a b", "a x", 1),
            ("a b", "", 2),
            ("", "a", 1),
            ("a b", "b a", 2),
            ("a b", " a  b ", 0),
        ] {
            assert_eq!(word_errors(expected, found), errors, "`{expected}` and `{found}`");
        }
    }
}
