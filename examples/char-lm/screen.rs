//! Texts on stdout, in the order of their prompts whatever order they end in.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// The first text that is not at its end is shown as it grows; later ones wait until it is their turn.
pub(crate) struct Screen<W> {
    out: W,
    /// number of the text that is shown
    turn: usize,
    /// how many bytes of it are out
    shown: usize,
    /// texts whose turn has not come
    ended: BTreeMap<usize, String>,
}

impl<W: Write> Screen<W> {
    /// For texts that are numbered from 0.
    pub(crate) fn new(out: W) -> Self {
        Self { out, turn: 0, shown: 0, ended: BTreeMap::new() }
    }

    /// Shows what is new in texts that grow and in texts that just ended, each with its number.
    pub(crate) fn show<'t>(
        &mut self,
        mut growing: impl Iterator<Item = (usize, &'t str)>,
        ended: impl Iterator<Item = (usize, String)>,
    ) -> io::Result<()> {
        self.ended.extend(ended);
        while let Some(text) = self.ended.remove(&self.turn) {
            let line_break = if text.ends_with('\n') { "" } else { "\n" };
            writeln!(self.out, "{}{line_break}{}", &text[self.shown..], "-".repeat(72))?;
            (self.turn, self.shown) = (self.turn + 1, 0);
        }
        if let Some((_, text)) = growing.find(|(number, _)| *number == self.turn) {
            self.out.write_all(&text.as_bytes()[self.shown..])?;
            self.shown = text.len();
        }
        self.out.flush()
    }
}
