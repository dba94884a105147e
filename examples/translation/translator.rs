//! Two sessions: the encoder reads a batch of sentences at once, the decoder writes their translations piece by piece.

use std::path::Path;

use cellgate::{Engine, HostState, Inputs, Network, Options, Outputs, Session, Tensor};
use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};

use crate::Result;
use crate::vocabulary::{END, Pieces, Words};

/// Where decoding gives up: almost twice the longest sentence in training.
const MOST_PIECES: usize = 60;

/// An English to German translator on a device.
pub(crate) struct Translator {
    words: Words,
    pieces: Pieces,
    encoder: Session,
    decoder: Session,
}

impl Translator {
    /// Puts the models `encoder.safetensors` and `decoder.safetensors` of `folder` on the device.
    pub(crate) fn open(folder: &Path, engine: &Engine, options: &Options) -> Result<Self> {
        let encoder = Network::open(folder.join("encoder.safetensors"))?;
        let decoder = Network::open(folder.join("decoder.safetensors"))?;
        Ok(Self {
            words: Words::of(&encoder)?,
            pieces: Pieces::of(&decoder)?,
            encoder: engine.session(&encoder, options.clone())?,
            decoder: engine.session(&decoder, options.clone())?,
        })
    }

    /// The two networks on the device, by name.
    pub(crate) fn sessions(&self) -> [(&str, &Session); 2] {
        [("encoder", &self.encoder), ("decoder", &self.decoder)]
    }

    /// The words that it knows, in alphabetical order.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter()
    }

    /// The translations of `texts`, in their order; `batch` of them, at least 1, are translated at once. An error says of which line it is, from 1.
    pub(crate) fn translate(&mut self, texts: &[&str], batch: usize) -> Result<Vec<String>> {
        let encode = |(number, text): (usize, &&str)| self.words.encode(text).map_err(|error| format!("line {}: {error}", number + 1));
        let sources = texts.iter().enumerate().map(encode).collect::<std::result::Result<Vec<_>, _>>()?;
        // sentences of about the same length end at about the same time
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|&number| sources[number].len());
        let mut translations = vec![String::new(); sources.len()];
        for rows in order.chunks(batch) {
            let read = self.read(&rows.iter().map(|&number| &sources[number][..]).collect::<Vec<_>>())?;
            for (&number, codes) in rows.iter().zip(self.write(read)?) {
                translations[number] = self.pieces.text(&codes)?;
            }
        }
        Ok(translations)
    }

    /// The encoder's state behind the last word of each source, `h_n` and `c_n` [L, batch, H], as the decoder's first.
    fn read(&mut self, sources: &[&[i64]]) -> Result<HostState> {
        let seq_len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
        // x [seq_len, batch]; which id stands behind the end of a row makes no difference
        let x = Array2::from_shape_fn((seq_len, sources.len()), |(t, row)| sources[row].get(t).copied().unwrap_or(0));
        let sequence_lens: Array1<i64> = sources.iter().map(|source| source.len() as i64).collect();
        let mut out = self.encoder.run(&Inputs::new().with("x", x.view()).with("sequence_lens", sequence_lens.view()))?;
        let (node, _) = self.decoder.network().lstms().next().ok_or("decoder: expected an LSTM, found none")?;
        Ok(HostState { node: node.to_owned(), h: take(&mut out, "h_n")?, c: take(&mut out, "c_n")? })
    }

    /// The likeliest pieces of each row, one by one, up to and with the end. The state stays on the device; a row that has ended runs on, unread,
    /// until all have.
    fn write(&mut self, start: HostState) -> Result<Vec<Vec<usize>>> {
        let batch = start.h.dim().1;
        let mut state = self.decoder.state(batch)?;
        self.decoder.write_state(&mut state, &[start])?;
        let mut rows = vec![Vec::new(); batch];
        let has_ended = |row: &Vec<usize>| row.last() == Some(&END);
        for _ in 0..MOST_PIECES {
            // x [1, batch] -> y [1, batch, pieces]
            let x: Array1<i64> = rows.iter().map(|row| row.last().map_or(END, |&piece| piece) as i64).collect();
            let mut out = self.decoder.run_with_state(&Inputs::new().with("x", x.view().insert_axis(Axis(0))), &mut state)?;
            let logits = take(&mut out, "y")?;
            for (row, logits) in rows.iter_mut().zip(logits.index_axis(Axis(0), 0).rows()).filter(|(row, _)| !has_ended(row)) {
                row.push(largest(logits));
            }
            if rows.iter().all(has_ended) {
                break;
            }
        }
        Ok(rows)
    }
}

/// The output `name`, which has three axes.
fn take(outputs: &mut Outputs, name: &str) -> Result<Array3<f32>> {
    match outputs.remove(name) {
        Some(Tensor::F32(array)) => Ok(array.into_dimensionality()?),
        _ => Err(format!("output `{name}`: expected float32, found none").into()),
    }
}

/// The place of the largest logit, of equal ones the first.
fn largest(logits: ArrayView1<'_, f32>) -> usize {
    (0..logits.len()).fold(0, |best, code| if logits[code] > logits[best] { code } else { best })
}
