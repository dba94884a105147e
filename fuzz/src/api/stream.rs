//! What is done with a stream.

use cellgate::{HostState, Result, Slot, Stream};
use ndarray::{Array3, ArrayD, ArrayView2, IxDyn};

use super::numbers::Level;
use super::plan::{Chunk, StreamOp, Write};
use super::play::{Player, place_of, wait};
use super::transcript::{Origin, Outcome, finding, of_states};

/// A stream, and the sequences in it.
pub(super) struct Open<'s> {
    pub(super) stream: Stream<'s>,
    active: Vec<Slot>,
    origin: Origin,
}

impl<'s> Open<'s> {
    pub(super) fn new(stream: Stream<'s>, origin: Origin) -> Self {
        Self { stream, active: Vec::new(), origin }
    }

    fn input_size(&self) -> usize {
        self.stream.session().network().lstms().find_map(|(_, lstm)| Some(lstm?.config().input_size)).expect("a stream has a stack")
    }

    /// The states of all sequences, where they can grow beyond what is judged without a word of it in the results.
    fn hidden(&mut self) -> Result<Vec<(String, ArrayD<f32>)>> {
        let grows = self.stream.session().network().lstms().any(|(_, lstm)| lstm.is_some_and(|lstm| lstm.config().amplifies_rounding()));
        if !grows {
            return Ok(Vec::new());
        }
        let states: Vec<HostState> = self.active.iter().map(|&slot| self.stream.read(slot)).collect::<Result<_>>()?;
        Ok(of_states(&states))
    }
}

impl Player<'_> {
    pub(super) fn in_stream(&mut self, open: &mut Open<'_>, op: &StreamOp) {
        match op {
            StreamOp::Join => {
                let joined = open.stream.join();
                self.joined(open, joined);
            }
            StreamOp::JoinWith(write) => self.join_with(open, *write),
            StreamOp::Leave { slot } => {
                let Some(slot) = self.slot(*slot) else { return self.push("leave", Outcome::Nothing) };
                let left = open.stream.leave(slot);
                if left.is_ok() {
                    open.active.retain(|&other| other != slot);
                }
                self.push("leave", Outcome::said(left.map(|()| "left")));
            }
            StreamOp::Read { slot } => {
                let Some(slot) = self.slot(*slot) else { return self.push("read", Outcome::Nothing) };
                let read = open.stream.read(slot);
                if let Ok(state) = &read {
                    self.last_read = (vec![state.clone()], open.origin.clone());
                }
                self.push("read", Outcome::of(read.map(|state| of_states(&[state])), &open.origin));
            }
            StreamOp::Step { chunks, waits } => self.step(open, chunks, *waits),
            StreamOp::StepAll { rows, seq_len, numbers, waits } => {
                let (rows, session) = (rows.map_or(open.stream.capacity(), |rows| rows.min(16)), open.stream.session());
                let batch_first = session.network().inputs()[0].axes[0].to_string() == "batch";
                let features = open.input_size();
                let shape = if batch_first { [rows, *seq_len, features] } else { [*seq_len, rows, features] };
                let x: Array3<f32> = numbers.array(&shape, 1.0, self.how.moved).into_dimensionality().expect("it has three axes");
                let stepped = if *waits { wait(open.stream.step_all_async(x.view())) } else { open.stream.step_all(x.view()) };
                self.stepped(open, "step_all", stepped.map(|y| vec![("y".to_owned(), y)]), numbers.level());
            }
            StreamOp::Facts => {
                let lost: Vec<Slot> = open.stream.lost().collect();
                let _ = (open.stream.profile(), format!("{:?}", open.stream));
                let facts = format!("{} of {}, lost {}", open.stream.active(), open.stream.capacity(), lost.len());
                if open.stream.active() != open.active.len() {
                    finding(&format!("{facts}, of sequences that should be {}", open.active.len()));
                }
                self.push("stream facts", Outcome::Said(facts));
            }
            StreamOp::Recover => {
                let lost = open.stream.recover();
                self.push("stream recover", Outcome::said(lost.map(|lost| format!("lost {}", lost.len()))));
            }
        }
    }

    fn slot(&self, slot: usize) -> Option<Slot> {
        place_of(slot, self.slots.len()).map(|place| self.slots[place])
    }

    fn joined(&mut self, open: &mut Open<'_>, joined: Result<Slot>) {
        if let Ok(slot) = joined {
            self.slots.push(slot);
            open.active.push(slot);
        }
        self.push("join", Outcome::said(joined.map(|_| "joined")));
    }

    fn join_with(&mut self, open: &mut Open<'_>, write: Write) {
        let (states, from) = self.host_states(open.stream.session().network(), 1, write);
        let Some(state) = states.first() else { return self.push("join", Outcome::Nothing) };
        let joined = open.stream.join_with(state);
        if joined.is_ok() {
            open.origin.add(&from);
        }
        self.joined(open, joined);
    }

    fn step(&mut self, open: &mut Open<'_>, chunks: &[(usize, Chunk)], waits: bool) {
        let features = open.input_size();
        let numbered = chunks.iter().filter_map(|(slot, chunk)| Some((self.slot(*slot)?, chunk)));
        let arrays: Vec<(Slot, ArrayD<f32>, usize)> = numbered
            .map(|(slot, chunk)| {
                // a chunk that no memory has is one step again and again
                let steps = chunk.steps.min(16);
                let shape = [if steps < chunk.steps { 1 } else { steps }, features + usize::from(chunk.wide)];
                (slot, chunk.numbers.array(&shape, 1.0, self.how.moved), chunk.steps)
            })
            .collect();
        let views: Vec<_> = arrays.iter().map(|(slot, array, steps)| (*slot, seen(array, *steps))).collect();
        let stepped = if waits { wait(open.stream.step_async(&views)) } else { open.stream.step(&views) };
        let named = stepped.map(|results| results.into_iter().enumerate().map(|(place, y)| (format!("y {place}"), y.into_dyn())).collect());
        let level = chunks.iter().map(|(_, chunk)| chunk.numbers.level()).max().unwrap_or_default();
        self.stepped(open, "step", named, level);
    }

    fn stepped(&mut self, open: &mut Open<'_>, what: &str, made: Result<Vec<(String, ArrayD<f32>)>>, level: Level) {
        if made.is_ok() {
            open.origin.add(&Origin::of(level));
        }
        let made = made.and_then(|mut made| {
            made.extend(open.hidden()?);
            Ok(made)
        });
        self.push(what, Outcome::of(made, &open.origin));
    }
}

/// `array [T, I]` as a chunk of `steps` steps, again and again the same where it has but one.
fn seen(array: &ArrayD<f32>, steps: usize) -> ArrayView2<'_, f32> {
    let view = array.broadcast(IxDyn(&[steps, array.shape()[1]])).unwrap_or_else(|| array.view());
    view.into_dimensionality().expect("it has two axes")
}
