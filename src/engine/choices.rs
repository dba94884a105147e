//! What the LSTMs of a session are built to on a GPU, and why, and where they run on an engine that holds a GPU and the CPU. A choice is fixed at the
//! first use of a number of rows, a side at the first use of a number of rows and steps.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::device::DeviceKind;
use crate::engine::records::{Key, Record, Records};
use crate::engine::runner::{NodeState, Runner, leaves_the_cpu};
use crate::engine::sides::{self, Estimate, SidesMeasurement};
use crate::engine::tune::{self, Measurement};
use crate::engine::{Engine, Options, Tuning};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::form::Choice;
use crate::gpu::plan::TYPICAL_STEPS;
use crate::gpu::{GpuLstm, Wait, pieces};
use crate::measure;

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
    /// steps of the calls that this is said of; `None`: of any number
    pub seq_len: Option<usize>,
    /// where it ran
    pub device: DeviceKind,
    /// the schedule and its form
    pub schedule: String,
    /// why it is that one, and why there
    pub why: String,
}

/// Why an LSTM runs on the GPU of an engine that holds two sides, whatever it takes.
pub(super) const NAMED: &str = "GPU: the options name what it is to run";

/// A choice and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) choice: Choice,
    pub(super) reason: ChoiceReason,
    /// what is known of it and of others
    pub(super) measured: Vec<Measurement>,
    /// steps of the calls that were timed
    pub(super) measured_steps: usize,
    /// what is known of whole calls of this host's CPU as well
    pub(super) sides: Option<SidesMeasurement>,
}

/// The choices of a session.
#[derive(Debug)]
pub(super) struct Choices {
    options: Options,
    checked_shaders: bool,
    least_limits: bool,
    /// whether the engine holds two sides, and the options leave it but one
    options_name_the_gpu: bool,
    records: Option<Records>,
    fixed: HashMap<Key, Chosen>,
    uses: Vec<ScheduleUse>,
    /// whether the file has what was measured last
    written: bool,
    notes: Vec<String>,
}

impl Choices {
    pub(super) fn new(engine: &Engine, options: &Options) -> Self {
        let (mut records, mut note, mut checked_shaders, mut least_limits) = (None, None, false, false);
        if let Some(device) = engine.backend().gpu() {
            (checked_shaders, least_limits) = (device.checks_shaders(), device.opening().least_limits);
            if options.tuning != Tuning::Model && options.choice.is_none() {
                (records, note) = Records::open(options.cache.as_deref(), device.info());
            }
        }
        Self {
            options: options.clone(),
            checked_shaders,
            least_limits,
            options_name_the_gpu: engine.backend().holds_both() && options.name_a_schedule(),
            records,
            fixed: HashMap::new(),
            uses: Vec::new(),
            written: false,
            notes: note.into_iter().collect(),
        }
    }

    /// Whether the engine holds two sides, and the options leave it but the GPU.
    pub(super) fn options_name_the_gpu(&self) -> bool {
        self.options_name_the_gpu
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

    /// The side that calls of `batch` rows and `seq_len` steps run on, prepared, where the stack has two.
    pub(super) async fn decide(&mut self, node: &str, runner: &mut Runner, batch: usize, seq_len: usize, wait: Wait) -> Result<DeviceKind> {
        let (blocks, mut estimate) = match self.blocks(runner, batch, seq_len, wait).await {
            Err(error) if leaves_the_cpu(&error) => {
                if error.kind() == ErrorKind::OutOfMemory {
                    runner.fall_short(&error);
                }
                let why = runner.unable().map_or_else(|| error.to_string(), str::to_owned);
                (Vec::new(), Estimate::of_cpu(runner, batch, seq_len, why))
            }
            blocks => (blocks?, sides::estimate(self, runner, batch, seq_len)),
        };
        runner.prepare(estimate.side()).await?;
        if runner.unable().is_some() {
            estimate = sides::estimate(self, runner, batch, seq_len);
            runner.prepare(DeviceKind::Cpu).await?;
        }
        let side = estimate.side();
        self.used(node, runner, [batch, seq_len], &blocks, Some((side, estimate.why())));
        Ok(side)
    }

    /// States for a node on a side that is prepared, and with them what calls on them are built to.
    pub(super) async fn new_state(
        &mut self,
        node: &str,
        runner: &mut Runner,
        side: DeviceKind,
        [batch, seq_len]: [usize; 2],
        wait: Wait,
    ) -> Result<NodeState> {
        let blocks = if side == DeviceKind::Gpu { self.blocks(runner, batch, seq_len, wait).await? } else { Vec::new() };
        // where there are two sides, that was noted when one was chosen
        if runner.only_side().is_some() {
            self.used(node, runner, [batch, seq_len], &blocks, None);
        }
        // the host has nothing to choose
        let choose =
            |rows| blocks.iter().find(|(known, _)| *known == rows).map(|(_, chosen)| chosen.choice).expect("all sizes of blocks were looked at");
        runner.new_state(side, batch, seq_len, choose).await
    }

    /// The choices for all sizes of blocks that a call has on a GPU; none without one.
    async fn blocks(&mut self, runner: &mut Runner, batch: usize, seq_len: usize, wait: Wait) -> Result<Vec<(usize, Chosen)>> {
        let Some(split) = runner.gpu().map(|gpu| gpu.split(batch, seq_len)).transpose()? else { return Ok(Vec::new()) };
        let mut blocks = Vec::new();
        for (rows, _) in pieces(batch, split.rows) {
            blocks.push((rows, self.fix(runner, rows, seq_len, wait).await?));
        }
        Ok(blocks)
    }

    /// The choice for a number of rows, made if it is not there.
    async fn fix(&mut self, runner: &mut Runner, rows: usize, seq_len: usize, wait: Wait) -> Result<Chosen> {
        let gpu = runner.gpu().ok_or_else(|| Error::config("a schedule: expected a stack on a GPU, found one on the host"))?;
        let key = self.key(gpu, rows);
        if let Some(chosen) = self.fixed.get(&key) {
            return Ok(chosen.clone());
        }
        let recorded = self.recorded(gpu, &key).unwrap_or_else(|note| {
            self.note(note.to_string());
            None
        });
        let measures = self.options.tuning == Tuning::AtFirstUse && self.options.choice.is_none();
        // a record of the GPU alone leaves the choice of the side to the models
        let lacks_a_side = |chosen: &Chosen| runner.only_side().is_none() && chosen.sides.is_none();
        let chosen = match recorded {
            Some(chosen) if !(measures && lacks_a_side(&chosen)) => chosen,
            _ if measures => {
                // a bidirectional stack of so many rows may not have room for more steps than it is given
                let steps = if gpu.config().num_directions() > 1 { seq_len.min(TYPICAL_STEPS) } else { TYPICAL_STEPS };
                let measured = tune::measure(runner, rows, steps, wait).await?;
                self.keep(key.clone(), &measured)
            }
            _ => self.unmeasured(gpu, rows),
        };
        self.fixed.insert(key, chosen.clone());
        Ok(chosen)
    }

    /// Fixes what was measured, and makes a record of it.
    pub(super) fn keep(&mut self, key: Key, measured: &tune::Measured) -> Chosen {
        let tune::Measured { seq_len, measurements, winner, sides, .. } = measured;
        // who measures the GPU alone has nothing to say of the CPU
        let earlier = self.records.as_ref().and_then(|records| records.find(&key));
        let earlier = earlier.filter(|record| record.choice == *winner && record.seq_len == *seq_len).and_then(|record| record.sides.clone());
        let sides = sides.clone().or(earlier);
        let chosen = Chosen {
            choice: *winner,
            reason: ChoiceReason::Measured { measured: measurements.len() },
            measured: measurements.clone(),
            measured_steps: *seq_len,
            sides: sides.clone(),
        };
        self.fixed.insert(key.clone(), chosen.clone());
        let record = Record { key, date: measure::today(), choice: *winner, seq_len: *seq_len, measured: measurements.clone(), sides };
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
        let candidates: Vec<Choice> = gpu.candidates(key.rows).into_iter().map(|(choice, _)| choice).collect();
        if let Some(fault) = record.fault(&candidates, |seq_len| gpu.is_one_segment(key.rows, seq_len)) {
            return Err(Error::config(format!("tuning records {}: ignored for {} rows: {fault}", records.path().display(), key.rows)));
        }
        let reason = ChoiceReason::Recorded { date: record.date.clone(), measured: record.measured.len() };
        let sides = record.sides.clone().filter(SidesMeasurement::is_of_this_host);
        Ok(Some(Chosen { choice: record.choice, reason, measured: record.measured.clone(), measured_steps: record.seq_len, sides }))
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
        Chosen { choice, reason, measured: Vec::new(), measured_steps: 0, sides: None }
    }

    pub(super) fn key(&self, gpu: &GpuLstm, rows: usize) -> Key {
        let Options { precision, schedule, .. } = self.options;
        Key { lstm: format!("{:?}", gpu.config()), precision, rows, schedule, checked_shaders: self.checked_shaders, least_limits: self.least_limits }
    }

    /// Notes what calls of such sizes run, and why `there` where they could run elsewhere.
    fn used(&mut self, node: &str, runner: &Runner, [batch, seq_len]: [usize; 2], blocks: &[(usize, Chosen)], there: Option<(DeviceKind, String)>) {
        let among = self.options.schedule.map_or_else(String::new, |name| format!(", of schedule {name} alone"));
        let on_host = runner.host_schedule(batch, seq_len);
        let seq_len = there.is_some().then_some(seq_len);
        let device = there.as_ref().map(|(side, _)| *side).or(runner.only_side()).unwrap_or(DeviceKind::Cpu);
        let mut uses = Vec::new();
        if device == DeviceKind::Gpu {
            let named = self.options_name_the_gpu.then(|| NAMED.to_owned());
            let there = there.map(|(_, why)| why).or(named).map_or_else(String::new, |why| format!("{why}; "));
            let of_gpu = |(rows, chosen): &(usize, Chosen)| (*rows, chosen.choice.schedule.to_string(), format!("{there}{}{among}", chosen.reason));
            uses.extend(blocks.iter().map(of_gpu));
        } else {
            uses.push((batch, on_host, there.map_or_else(|| ChoiceReason::Only.to_string(), |(_, why)| why)));
        }
        for (rows, schedule, why) in uses {
            let new = ScheduleUse { node: node.to_owned(), rows, seq_len, device, schedule, why };
            match self.uses.iter_mut().find(|known| known.node == new.node && known.rows == rows && known.seq_len == seq_len) {
                Some(known) => *known = new,
                None => self.uses.push(new),
            }
        }
    }

    /// Something that a user should know.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
