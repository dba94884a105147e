//! The network on a device, with what makes its input of sound and text of its output.

use std::path::Path;

use cellgate::{Engine, Inputs, Network, Options, Session};
use ndarray::{Array1, Array2, Array3, ArrayView2, Ix3, s};
use serde::de::DeserializeOwned;

use crate::decode::{self, Decoder, Lexicon};
use crate::features::Features;
use crate::{Result, audio};

/// Beginnings that beam search keeps; `train.py` has the same.
const BEAM: usize = 16;

pub(crate) struct Recogniser {
    session: Session,
    features: Features,
    /// of the classes after the blank
    characters: Vec<char>,
    lexicon: Lexicon,
}

impl Recogniser {
    /// Reads the model and puts it on the device.
    ///
    /// # Errors
    /// Where the model cannot be read or run, or does not say what its classes mean.
    pub(crate) fn open(path: &Path, engine: &Engine, options: Options) -> Result<Self> {
        let network = Network::open(path)?;
        let characters: String = metadata(&network, "characters").map_err(|error| format!("{}: {error}", path.display()))?;
        let words: Vec<String> = metadata(&network, "words").map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            session: engine.session(&network, options)?,
            features: Features::new(),
            characters: characters.chars().collect(),
            lexicon: Lexicon::new(words),
        })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// `x [T, I]` of a WAV file.
    ///
    /// # Errors
    /// Where the file cannot be read, or is nothing that the network could run on.
    pub(crate) fn hear(&self, path: &Path) -> Result<Array2<f32>> {
        let samples = audio::read(path)?;
        self.features.of(&samples).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// The log-probabilities `[T, C]` of every `x [T, I]`, in calls of `batch` utterances, those of about one length together.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub(crate) fn log_probs(&mut self, utterances: &[Array2<f32>], batch: usize) -> Result<Vec<Array2<f32>>> {
        let mut order: Vec<usize> = (0..utterances.len()).collect();
        order.sort_by_key(|&place| utterances[place].nrows());
        let mut log_probs = vec![Array2::zeros((0, 0)); utterances.len()];
        for places in order.chunks(batch) {
            let chosen: Vec<_> = places.iter().map(|&place| utterances[place].view()).collect();
            for (&place, found) in places.iter().zip(self.run(&chosen)?) {
                log_probs[place] = found;
            }
        }
        Ok(log_probs)
    }

    /// One call: the log-probabilities `[T, C]` of every `x [T, I]`.
    fn run(&mut self, utterances: &[ArrayView2<'_, f32>]) -> Result<Vec<Array2<f32>>> {
        let seq_len = utterances.iter().map(|x| x.nrows()).max().unwrap_or(0);
        let input_size = utterances.first().map_or(0, |x| x.ncols());
        let mut x = Array3::zeros((seq_len, utterances.len(), input_size));
        for (n, utterance) in utterances.iter().enumerate() {
            x.slice_mut(s![..utterance.nrows(), n, ..]).assign(utterance);
        }
        let lens: Array1<i64> = utterances.iter().map(|x| x.nrows() as i64).collect();
        let out = self.session.run(&Inputs::new().with("x", x.view()).with("sequence_lens", lens.view()))?;
        let y = out["y"].view().into_dimensionality::<Ix3>()?;
        let (expected, found) = (1 + self.characters.len(), y.dim().2);
        if found != expected {
            return Err(format!("tensor `y`: expected {expected} classes, the blank and metadata `characters`, found {found}").into());
        }
        Ok(utterances.iter().enumerate().map(|(n, x)| y.slice(s![..x.nrows(), n, ..]).to_owned()).collect())
    }

    /// The text of log-probabilities `[T, C]`.
    pub(crate) fn text(&self, log_probs: ArrayView2<'_, f32>, decoder: Decoder) -> String {
        match decoder {
            Decoder::Greedy => decode::greedy(log_probs, &self.characters),
            Decoder::Beam => decode::beam(log_probs, &self.characters, BEAM, None),
            Decoder::Lexicon => decode::beam(log_probs, &self.characters, BEAM, Some(&self.lexicon)),
        }
    }
}

/// What the model's file says under `key`, as JSON.
fn metadata<T: DeserializeOwned>(network: &Network, key: &str) -> Result<T> {
    let text = network.metadata(key).ok_or_else(|| format!("expected metadata `{key}`, found none"))?;
    Ok(serde_json::from_str(text).map_err(|error| format!("metadata `{key}`: {error}"))?)
}
