//! Text in, ids out, and back: the words of the encoder and the pieces of the decoder, as the metadata of their files lists them.

use std::collections::BTreeMap;

use cellgate::Network;
use serde::de::DeserializeOwned;

use crate::Result;

/// The words that the encoder reads.
pub(crate) struct Words {
    codes: BTreeMap<String, i64>,
    /// words of the longest sentence in training
    most: usize,
}

impl Words {
    /// From the metadata keys `vocabulary`, a JSON list, and `most_words`.
    pub(crate) fn of(encoder: &Network) -> Result<Self> {
        let list: Vec<String> = metadata(encoder, "vocabulary")?;
        check_len(encoder, "vocabulary", list.len())?;
        Ok(Self { codes: list.into_iter().zip(0..).collect(), most: metadata(encoder, "most_words")? })
    }

    /// The words in alphabetical order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.codes.keys().map(String::as_str)
    }

    /// The ids of the words of `text`, from the last word to the first, as the encoder wants them.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let words = split(text);
        if words.is_empty() {
            return Err("expected a sentence, found no word".into());
        }
        if words.len() > self.most {
            return Err(format!("expected {} words at most, as in training, found {}", self.most, words.len()).into());
        }
        let code = |word: &String| self.codes.get(word).copied().ok_or_else(|| format!("expected words that the model knows, found `{word}`").into());
        words.iter().rev().map(code).collect()
    }
}

/// The words of an English text. A hyphen parts words; `.`, `,` and `?` are words.
fn split(text: &str) -> Vec<String> {
    let spaced = text.to_lowercase().replace('-', " ").replace('.', " . ").replace(',', " , ").replace('?', " ? ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// The parts of words that the decoder writes; `▁` begins a word.
pub(crate) struct Pieces(Vec<String>);

/// The piece that ends a sentence; the decoder starts from it, too.
pub(crate) const END: usize = 0;

impl Pieces {
    /// From the metadata key `pieces`, a JSON list.
    pub(crate) fn of(decoder: &Network) -> Result<Self> {
        let list: Vec<String> = metadata(decoder, "pieces")?;
        check_len(decoder, "pieces", list.len())?;
        Ok(Self(list))
    }

    /// The text that the pieces `codes` make; ` …` at its end says that it has none.
    pub(crate) fn text(&self, codes: &[usize]) -> Result<String> {
        let piece = |&code: &usize| self.0.get(code).map(String::as_str).ok_or("decoder: expected a logit for each piece, found more");
        let joined = codes.iter().map(piece).collect::<std::result::Result<String, _>>()?;
        let cut_off = if codes.last() == Some(&END) { "" } else { " …" };
        Ok(joined.replace('▁', " ").trim().to_owned() + cut_off)
    }
}

fn metadata<T: DeserializeOwned>(network: &Network, key: &str) -> Result<T> {
    let json = network.metadata(key).ok_or_else(|| format!("metadata `{key}`: missing"))?;
    serde_json::from_str(json).map_err(|error| format!("metadata `{key}`: {error}").into())
}

/// An embedding has a row for each entry of the list.
fn check_len(network: &Network, key: &str, found: usize) -> Result<()> {
    match network.num_ids("x") {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(format!("metadata `{key}`: expected {expected} entries, as many as the embedding has, found {found}").into()),
        None => Err("`x`: expected ids for an embedding".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words { codes: [",", ".", "one", "twenty"].into_iter().map(str::to_owned).zip(0..).collect(), most: 4 }
    }

    #[test]
    fn words_are_read_from_the_end() {
        assert_eq!(words().encode("Twenty-one, twenty").unwrap(), [3, 0, 2, 3]);
        assert_eq!(words().encode("  one .").unwrap(), words().encode("one.").unwrap());
    }

    #[test]
    fn a_sentence_that_cannot_be_read_is_an_error_that_says_why() {
        let error = |text| words().encode(text).unwrap_err().to_string();
        assert_eq!(error(" "), "expected a sentence, found no word");
        assert_eq!(error("one gnu."), "expected words that the model knows, found `gnu`");
        assert_eq!(error("one one one one."), "expected 4 words at most, as in training, found 5");
    }

    #[test]
    fn pieces_become_words() {
        let pieces = Pieces(["", "▁ein", "und", "zwanzig", "."].map(str::to_owned).into());
        assert_eq!(pieces.text(&[1, 2, 3, 1, 4, END]).unwrap(), "einundzwanzig ein.");
        assert_eq!(pieces.text(&[1, 2]).unwrap(), "einund …");
        assert!(pieces.text(&[5]).is_err());
    }
}
