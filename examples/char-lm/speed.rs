//! Characters per second.

use std::fmt;
use std::time::Duration;

use crate::writer::Text;

/// Of texts that are at their end.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    characters: usize,
    /// while there was a text to write
    busy: Duration,
    /// of each text by itself
    each: Vec<f64>,
}

impl Speed {
    /// Adds a step and the texts that it ended.
    pub(crate) fn add(&mut self, step: Duration, ended: &[Text]) {
        self.busy += step;
        self.characters += ended.iter().map(|text| text.written).sum::<usize>();
        self.each.extend(ended.iter().map(|text| rate(text.written, text.elapsed)));
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut each = self.each.clone();
        each.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (each.first(), each.last()) else {
            return f.write_str("no text was written");
        };
        let (texts, all) = (each.len(), rate(self.characters, self.busy));
        write!(f, "speed: {all:.0} characters per second in all, {least:.0} to {most:.0} in each text ({} in {texts})", self.characters)
    }
}

/// Characters per second.
#[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
pub(crate) fn rate(characters: usize, elapsed: Duration) -> f64 {
    characters as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}
