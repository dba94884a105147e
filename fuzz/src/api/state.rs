//! What is done with states that a session carries.

use cellgate::{HostState, Lstm, Network, Session, State};
use ndarray::Array3;

use super::call::inputs;
use super::numbers::Numbers;
use super::plan::{Op, Way, Write};
use super::play::{Player, place_of, wait};
use super::transcript::{Origin, Outcome, of_outputs, of_states};

/// A state, and what went into it.
pub(super) struct Carried {
    pub(super) state: State,
    /// the session that it was made by
    pub(super) place: usize,
    pub(super) origin: Origin,
}

impl Player<'_> {
    /// The state that is meant: mostly one of the session's own.
    pub(super) fn state_for(&self, state: usize, place: usize) -> Option<usize> {
        let own: Vec<usize> =
            (0..self.states.len()).filter(|&number| self.states[number].as_ref().is_some_and(|state| state.place == place)).collect();
        if state < 2 && !own.is_empty() { place_of(state, own.len()).map(|number| own[number]) } else { place_of(state, self.states.len()) }
    }

    pub(super) fn with_state(&mut self, op: &Op, session: &mut Session, carried: &mut Carried) {
        let Carried { state, origin, .. } = carried;
        match op {
            Op::RunWithState { call, way, .. } => {
                let network = session.network().clone();
                let given = call.inputs(&network, self.how.moved);
                let inputs = inputs(&given);
                let made =
                    if *way == Way::Async { wait(session.run_with_state_async(&inputs, state)) } else { session.run_with_state(&inputs, state) };
                if made.is_ok() {
                    origin.add(&Origin::of(call.level()));
                }
                self.push("run_with_state", Outcome::of(made.map(|outputs| of_outputs(&outputs)), origin));
            }
            Op::ReadState { .. } => {
                let read = session.read_state(state);
                if let Ok(states) = &read {
                    self.last_read = (states.clone(), origin.clone());
                }
                self.push("read_state", Outcome::of(read.map(|states| of_states(&states)), origin));
            }
            Op::WriteState { write, .. } => {
                let (values, from) = self.host_states(session.network(), state.batch(), *write);
                let written = session.write_state(state, &values);
                if written.is_ok() {
                    origin.add(&from);
                }
                self.push("write_state", Outcome::said(written.map(|()| "written")));
            }
            _ => unreachable!("other things need no state"),
        }
    }

    /// What is written into a state of `batch` rows of `network`.
    pub(super) fn host_states(&self, network: &Network, batch: usize, write: Write) -> (Vec<HostState>, Origin) {
        let (rows, numbers) = match write {
            Write::LastRead => return self.last_read.clone(),
            Write::Nothing => return Default::default(),
            Write::All(numbers) | Write::First(numbers) => (batch.min(16), numbers),
            Write::Shape => (batch.min(16) + 1, Numbers::default()),
            Write::Nobody => (batch.min(16), Numbers::default()),
        };
        let state = |(place, (name, lstm)): (usize, (&str, Option<&Lstm>))| {
            let config = lstm.expect("networks of weights have them").config();
            let part = |number: usize, size: usize| -> Array3<f32> {
                let array = numbers.next(2 * place + number).array(&[config.num_cells(), rows, size], 1.0, self.how.moved);
                array.into_dimensionality().expect("it has three axes")
            };
            let node = if matches!(write, Write::Nobody) { "nobody".to_owned() } else { name.to_owned() };
            HostState { node, h: part(0, config.out_size()), c: part(1, config.hidden_size) }
        };
        let count = if matches!(write, Write::First(_)) { 1 } else { usize::MAX };
        (network.lstms().enumerate().map(state).take(count).collect(), Origin::of(numbers.level()))
    }
}
