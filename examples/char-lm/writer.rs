//! Many texts at once: each is a sequence of a stream, which joins when a slot is free and leaves when its text is at its end.

use std::time::{Duration, Instant};

use cellgate::{Session, Slot, Stream};
use ndarray::{Array2, ArrayView1};

use crate::Result;
use crate::alphabet::Alphabet;
use crate::sampler::Sampler;

/// The most characters of a prompt that go into one step: a long prompt goes in pieces, so that the others need not wait for all of it.
const PIECE: usize = 32;

/// What holds for all texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// see [`Sampler::new`]
    pub(crate) temperature: f64,
    /// characters to write, at most; at least 1
    pub(crate) length: usize,
    /// go on behind the end of a paragraph
    pub(crate) keep_going: bool,
}

/// A text that grows.
pub(crate) struct Text {
    /// the caller's name for it
    pub(crate) number: usize,
    /// prompt included
    pub(crate) text: String,
    /// how many characters of `text` the model wrote
    pub(crate) written: usize,
    /// from the step that began with the prompt to the last character
    pub(crate) elapsed: Duration,
    started: Instant,
    slot: Slot,
    /// codes that the model has not read yet: what is left of the prompt, or the last character drawn
    unread: Vec<usize>,
    sampler: Sampler,
}

/// Writes as many texts at once as its stream has slots.
pub(crate) struct Writer<'a> {
    stream: Stream<'static>,
    alphabet: &'a Alphabet,
    rules: Rules,
    texts: Vec<Text>,
}

impl<'a> Writer<'a> {
    /// With one step already done, so that no text waits until the device's kernels are compiled.
    pub(crate) fn new(session: Session, slots: usize, alphabet: &'a Alphabet, rules: Rules) -> Result<Self> {
        let mut stream = session.into_stream(slots)?;
        let slot = stream.join()?;
        stream.step(&[(slot, alphabet.one_hot(&[0]).view())])?;
        stream.leave(slot)?;
        Ok(Self { stream, alphabet, rules, texts: Vec::new() })
    }

    pub(crate) fn session(&self) -> &Session {
        self.stream.session()
    }

    /// The texts that are being written.
    pub(crate) fn texts(&self) -> &[Text] {
        &self.texts
    }

    pub(crate) fn has_room(&self) -> bool {
        self.texts.len() < self.stream.capacity()
    }

    /// Begins a text. The others are not concerned.
    pub(crate) fn begin(&mut self, number: usize, prompt: &str, seed: u64) -> Result<()> {
        let unread = self.alphabet.codes(prompt)?;
        let sampler = Sampler::new(self.rules.temperature, seed, prompt);
        let (slot, text, started) = (self.stream.join()?, prompt.to_owned(), Instant::now());
        self.texts.push(Text { number, text, written: 0, elapsed: Duration::ZERO, started, slot, unread, sampler });
        Ok(())
    }

    /// Takes every text a step further, in one batch: those that have read their prompt get a character. Returns those that ended.
    pub(crate) fn step(&mut self) -> Result<Vec<Text>> {
        let chunk = |text: &mut Text| self.alphabet.one_hot(&text.unread.drain(..text.unread.len().min(PIECE)).collect::<Vec<_>>());
        let chunks: Vec<Array2<f32>> = self.texts.iter_mut().map(chunk).collect();
        let given: Vec<_> = self.texts.iter().zip(&chunks).map(|(text, chunk)| (text.slot, chunk.view())).collect();
        let logits = self.stream.step(&given)?;
        for (text, logits) in self.texts.iter_mut().zip(&logits) {
            if text.unread.is_empty() {
                text.grow(self.alphabet, logits.row(logits.nrows() - 1));
            }
        }
        let rules = self.rules;
        let ended: Vec<Text> = self.texts.extract_if(.., |text| text.is_at_its_end(rules)).collect();
        ended.iter().try_for_each(|text| self.stream.leave(text.slot))?;
        Ok(ended)
    }
}

impl Text {
    /// Draws the next character from the logits `[V]` after the last one.
    fn grow(&mut self, alphabet: &Alphabet, logits: ArrayView1<'_, f32>) {
        let code = self.sampler.draw(logits);
        self.text.push(alphabet.character(code));
        self.unread.push(code);
        self.written += 1;
        self.elapsed = self.started.elapsed();
    }

    fn is_at_its_end(&self, rules: Rules) -> bool {
        let paragraph = self.written > 0 && !rules.keep_going && self.text.ends_with("\n\n");
        paragraph || self.written >= rules.length
    }
}
