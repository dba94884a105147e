//! The characters that the model knows, and their one-hot codes.

use std::collections::BTreeMap;

use cellgate::Network;
use ndarray::Array2;

use crate::Result;

/// V characters; their places are their codes.
pub(crate) struct Alphabet {
    characters: Vec<char>,
    codes: BTreeMap<char, usize>,
}

impl Alphabet {
    /// From the metadata key `vocabulary`, a JSON string. The network is one LSTM, from one-hot codes `[T, N, V]` to logits `[T, N, V]`.
    pub(crate) fn of(network: &Network) -> Result<Self> {
        let json = network.metadata("vocabulary").ok_or("metadata `vocabulary`: expected the characters that the model knows, found none")?;
        let text: String = serde_json::from_str(json).map_err(|error| format!("metadata `vocabulary`: expected a JSON string: {error}"))?;
        let characters: Vec<char> = text.chars().collect();
        let codes: BTreeMap<char, usize> = characters.iter().enumerate().map(|(code, &character)| (character, code)).collect();
        let config = network.lstms().next().and_then(|(_, lstm)| lstm).map(|lstm| lstm.config());
        let sizes = config.map(|config| [config.input_size, config.out_size()]);
        if codes.len() != characters.len() || sizes != Some([characters.len(); 2]) {
            let found = format!("{} characters, {} of them different, for [input_size, out_size] = {sizes:?}", characters.len(), codes.len());
            return Err(format!("metadata `vocabulary`: expected one character for each input and each output, found {found}").into());
        }
        Ok(Self { characters, codes })
    }

    /// V
    pub(crate) fn len(&self) -> usize {
        self.characters.len()
    }

    /// The codes of a text that is not empty.
    pub(crate) fn codes(&self, text: &str) -> Result<Vec<usize>> {
        if text.is_empty() {
            return Err("expected at least one character, found none".into());
        }
        let unknown = |place: usize, character: char| {
            let known: String = self.characters.iter().filter(|character| !character.is_control()).collect();
            format!("character {}: the model does not know `{}`; it knows line breaks and {known}", place + 1, character.escape_debug())
        };
        let code = |(place, character)| self.codes.get(&character).copied().ok_or_else(|| unknown(place, character).into());
        text.chars().enumerate().map(code).collect()
    }

    /// The character that has a code below V.
    pub(crate) fn character(&self, code: usize) -> char {
        self.characters[code]
    }

    /// `[codes, V]`
    pub(crate) fn one_hot(&self, codes: &[usize]) -> Array2<f32> {
        Array2::from_shape_fn((codes.len(), self.len()), |(row, code)| if codes[row] == code { 1.0 } else { 0.0 })
    }
}
