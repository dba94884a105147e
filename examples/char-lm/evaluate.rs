//! How well the model predicts a text.

use std::f64::consts::LN_2;

use cellgate::{Inputs, Session};
use ndarray::{Array3, ArrayView1, Axis, s};

use crate::Result;
use crate::alphabet::Alphabet;

/// Steps of a call: the state stays on the device in between, so that a text may be of any length.
const STEPS: usize = 256;

/// What came out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits {
    /// the mean of -log2 p over all characters after the first
    pub(crate) per_character: f64,
    /// the same sum over the number of their bytes
    pub(crate) per_byte: f64,
    /// how many were predicted
    pub(crate) characters: usize,
}

/// Lets the model predict every character of `text` after the first. With one row that is one pass from a state of zeros; with more, the text is
/// cut into so many pieces of equal length, the last one shorter, each a row that begins with zeros.
pub(crate) fn evaluate(session: &mut Session, alphabet: &Alphabet, text: &str, rows: usize) -> Result<Bits> {
    let codes = alphabet.codes(text)?;
    let targets = codes.len() - 1;
    if rows == 0 || targets < rows {
        return Err(format!("expected at least 1 row and a character to predict for each, found {rows} rows and {targets} characters").into());
    }
    let width = targets.div_ceil(rows);
    let mut state = session.state(rows)?;
    let mut nats = 0.0;
    for start in (0..width).step_by(STEPS) {
        let steps = STEPS.min(width - start);
        // past the end of the text, rows read zeros, and nothing is expected of them
        let mut x = Array3::<f32>::zeros((steps, rows, alphabet.len()));
        let place = |t: usize, row: usize| Some(row * width + start + t).filter(|&place| place < targets);
        for ((t, row), mut one_hot) in ndarray::indices((steps, rows)).into_iter().zip(x.lanes_mut(Axis(2))) {
            if let Some(place) = place(t, row) {
                one_hot[codes[place]] = 1.0;
            }
        }
        let out = session.run_with_state(&Inputs::new().with("x", x.view()), &mut state)?;
        let logits = &out["y"];
        for (t, row) in ndarray::indices((steps, rows)) {
            if let Some(place) = place(t, row) {
                nats += surprise(logits.slice(s![t, row, ..]), codes[place + 1]);
            }
        }
    }
    let (bits, bytes) = (nats / LN_2, text.chars().skip(1).map(char::len_utf8).sum::<usize>());
    #[expect(clippy::cast_precision_loss, reason = "no text has 2^52 characters")]
    let [per_character, per_byte] = [targets, bytes].map(|count| bits / count as f64);
    Ok(Bits { per_character, per_byte, characters: targets })
}

/// `-ln softmax(logits)[code]`, in float64.
pub(crate) fn surprise(logits: ArrayView1<'_, f32>, code: usize) -> f64 {
    let logits = logits.mapv(f64::from);
    let most = logits.fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
    most + logits.mapv(|logit| (logit - most).exp()).sum().ln() - logits[code]
}
