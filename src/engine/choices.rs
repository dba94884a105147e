//! What the LSTMs of a session are built to on a GPU, and why. A choice is fixed at the first use of a number of rows.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::engine::records::{Key, Record, Records, today};
use crate::engine::runner::{NodeState, Runner};
use crate::engine::tune::{self, Measurement};
use crate::engine::{Backend, Engine, Options, Tuning};
use crate::error::{Error, Result};
use crate::gpu::form::Choice;
use crate::gpu::plan::TYPICAL_STEPS;
use crate::gpu::{GpuLstm, Wait};

/// Why calls are built to a [`Choice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChoiceReason {
    /// the cost model expects it to be the fastest of so many candidates
    Model {
        /// how many there are
        candidates: usize,
    },
    /// it was the fastest when candidates were measured, as a record says
    Recorded {
        /// when: year-month-day
        date: String,
        /// how many were measured
        measured: usize,
    },
    /// it was the fastest when this session measured candidates
    Measured {
        /// how many were measured
        measured: usize,
    },
    /// [`Options::choice`] says so
    AskedFor,
    /// there is no other on this device
    Only,
}

impl fmt::Display for ChoiceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { candidates: 1 } => f.write_str("the only candidate"),
            Self::Model { candidates } => write!(f, "the cheapest of {candidates} candidates by the cost model"),
            Self::Recorded { date, measured } => write!(f, "the fastest of {measured} measured, by the record of {date}"),
            Self::Measured { measured } => write!(f, "the fastest of {measured} measured in this session"),
            Self::AskedFor => f.write_str("asked for"),
            Self::Only => f.write_str("the only schedule of this device"),
        }
    }
}

/// What an LSTM of a session ran, or will run, on so many rows at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleUse {
    /// node name of the LSTM
    pub node: String,
    /// rows of a block; a batch may be several
    pub rows: usize,
    /// the schedule and its form
    pub schedule: String,
    /// why it is that one
    pub why: String,
}

/// A choice and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) choice: Choice,
    pub(super) reason: ChoiceReason,
    /// what is known of it and of others
    pub(super) measured: Vec<Measurement>,
    /// steps of the calls that were timed
    pub(super) measured_steps: usize,
}

/// The choices of a session.
#[derive(Debug)]
pub(super) struct Choices {
    options: Options,
    checked_shaders: bool,
    records: Option<Records>,
    fixed: HashMap<Key, Chosen>,
    uses: Vec<ScheduleUse>,
    /// whether the file has what was measured last
    written: bool,
    notes: Vec<String>,
}

impl Choices {
    pub(super) fn new(engine: &Engine, options: &Options) -> Self {
        let (mut records, mut note, mut checked_shaders) = (None, None, false);
        if let Backend::Gpu(device) = engine.backend() {
            checked_shaders = device.checks_shaders();
            if options.tuning != Tuning::Model && options.choice.is_none() {
                (records, note) = Records::open(options.cache.as_deref(), device.info());
            }
        }
        Self {
            options: options.clone(),
            checked_shaders,
            records,
            fixed: HashMap::new(),
            uses: Vec::new(),
            written: false,
            notes: note.into_iter().collect(),
        }
    }

    /// What a user should know about how choices were made.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What ran, in the order of first use.
    pub(super) fn uses(&self) -> &[ScheduleUse] {
        &self.uses
    }

    /// The file that has what was measured last, if one does.
    pub(super) fn written(&self) -> Option<&Path> {
        self.records.as_ref().map(Records::path).filter(|_| self.written)
    }

    /// What calls of `rows` rows are built to, or would be if they came now.
    pub(super) fn look(&self, gpu: &GpuLstm, rows: usize) -> Chosen {
        let key = self.key(gpu, rows);
        match self.fixed.get(&key) {
            Some(chosen) => chosen.clone(),
            None => self.recorded(gpu, &key).ok().flatten().unwrap_or_else(|| self.unmeasured(gpu, rows)),
        }
    }

    /// States for a node, and with them what calls on them are built to.
    pub(super) async fn new_state(&mut self, node: &str, runner: &mut Runner, batch: usize, seq_len: usize, wait: Wait) -> Result<NodeState> {
        let Some(gpu) = runner.gpu_mut() else {
            self.used(node, batch, runner.host_schedule().to_owned(), &ChoiceReason::Only);
            // the host has nothing to choose
            return runner.new_state(batch, seq_len, |_| unreachable!("only a GPU asks")).await;
        };
        let split = gpu.split(batch, seq_len)?;
        let mut chosen = Vec::new();
        for (rows, _) in pieces(batch, split.rows) {
            let Chosen { choice, reason, .. } = self.fix(gpu, rows, seq_len, wait).await?;
            self.used(node, rows, choice.schedule.to_string(), &reason);
            chosen.push((rows, choice));
        }
        let choose = |rows| chosen.iter().find(|(known, _)| *known == rows).map(|(_, choice)| *choice).expect("all sizes of blocks were looked at");
        runner.new_state(batch, seq_len, choose).await
    }

    /// The choice for a number of rows, made if it is not there.
    async fn fix(&mut self, gpu: &mut GpuLstm, rows: usize, seq_len: usize, wait: Wait) -> Result<Chosen> {
        let key = self.key(gpu, rows);
        if let Some(chosen) = self.fixed.get(&key) {
            return Ok(chosen.clone());
        }
        let recorded = self.recorded(gpu, &key).unwrap_or_else(|note| {
            self.note(note.to_string());
            None
        });
        let measures = self.options.tuning == Tuning::AtFirstUse && self.options.choice.is_none();
        let chosen = match recorded {
            Some(chosen) => chosen,
            None if measures => {
                // a bidirectional stack of so many rows may not have room for more steps than it is given
                let steps = if gpu.config().num_directions() > 1 { seq_len.min(TYPICAL_STEPS) } else { TYPICAL_STEPS };
                let measured = tune::measure(gpu, rows, steps, wait).await?;
                self.keep(gpu, rows, &measured)
            }
            None => self.unmeasured(gpu, rows),
        };
        self.fixed.insert(key, chosen.clone());
        Ok(chosen)
    }

    /// Fixes what was measured, and makes a record of it.
    pub(super) fn keep(&mut self, gpu: &GpuLstm, rows: usize, measured: &tune::Measured) -> Chosen {
        let key = self.key(gpu, rows);
        let reason = ChoiceReason::Measured { measured: measured.measurements.len() };
        let chosen = Chosen { choice: measured.winner, reason, measured: measured.measurements.clone(), measured_steps: measured.seq_len };
        self.fixed.insert(key.clone(), chosen.clone());
        let (seq_len, measurements) = (measured.seq_len, measured.measurements.clone());
        let record = Record { key, date: today(), choice: measured.winner, seq_len, measured: measurements };
        let kept = self.records.as_mut().map(|records| records.keep(record));
        self.written = matches!(kept, Some(Ok(())));
        if let Some(Err(note)) = kept {
            self.note(note);
        }
        chosen
    }

    /// What a record says; an error where it says what cannot be.
    fn recorded(&self, gpu: &GpuLstm, key: &Key) -> Result<Option<Chosen>> {
        if self.options.choice.is_some() {
            return Ok(None);
        }
        let Some((records, record)) = self.records.as_ref().and_then(|records| Some((records, records.find(key)?))) else { return Ok(None) };
        if gpu.candidates(key.rows).iter().all(|(choice, _)| *choice != record.choice) {
            let (path, schedule) = (records.path().display(), record.choice.schedule);
            let found = format!("ignored for {} rows: expected one of the candidates, found {schedule}", key.rows);
            return Err(Error::config(format!("tuning records {path}: {found}")));
        }
        let reason = ChoiceReason::Recorded { date: record.date.clone(), measured: record.measured.len() };
        Ok(Some(Chosen { choice: record.choice, reason, measured: record.measured.clone(), measured_steps: record.seq_len }))
    }

    fn unmeasured(&self, gpu: &GpuLstm, rows: usize) -> Chosen {
        let (choice, reason) = match self.options.choice {
            Some(choice) => (choice, ChoiceReason::AskedFor),
            None => {
                let candidates = gpu.candidates(rows);
                let cheapest = candidates.first().map(|(choice, _)| *choice).expect("a schedule that was not refused has candidates");
                (cheapest, ChoiceReason::Model { candidates: candidates.len() })
            }
        };
        Chosen { choice, reason, measured: Vec::new(), measured_steps: 0 }
    }

    fn key(&self, gpu: &GpuLstm, rows: usize) -> Key {
        let Options { precision, schedule, .. } = self.options;
        Key { lstm: format!("{:?}", gpu.config()), precision, rows, schedule, checked_shaders: self.checked_shaders }
    }

    fn used(&mut self, node: &str, rows: usize, schedule: String, reason: &ChoiceReason) {
        let among = self.options.schedule.map_or_else(String::new, |name| format!(", of schedule {name} alone"));
        let new = ScheduleUse { node: node.to_owned(), rows, schedule, why: format!("{reason}{among}") };
        match self.uses.iter_mut().find(|known| known.node == new.node && known.rows == rows) {
            Some(known) => *known = new,
            None => self.uses.push(new),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// The sizes of the pieces into which `whole` is cut, the last and shorter one first, and how often there is one of that size.
pub(super) fn pieces(whole: usize, piece: usize) -> impl Iterator<Item = (usize, usize)> {
    [(whole % piece, 1), (piece, whole / piece)].into_iter().filter(|&(size, times)| size > 0 && times > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        for (whole, piece, expected) in [(10, 5, &[(5, 2)][..]), (11, 5, &[(1, 1), (5, 2)]), (3, 5, &[(3, 1)]), (0, 5, &[])] {
            assert_eq!(pieces(whole, piece).collect::<Vec<_>>(), expected, "{whole} in pieces of {piece}");
        }
    }
}
