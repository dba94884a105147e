//! Doing what a plan says, on one device.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use cellgate::{Engine, ErrorKind, HostState, Inputs, Network, Options, Outputs, Precision, Result, Session, Slot};

use super::call::{CallPlan, inputs};
use super::numbers::Moved;
use super::plan::{Op, OptionsPlan, Plan, Way};
use super::state::Carried;
use super::stream::Open;
use super::transcript::{Entry, Origin, Outcome, finding, of_outputs, same_bits};

/// How a plan is played.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// all numbers a little off
    pub(super) moved: Option<Moved>,
    /// weights as they are given, however a session was to store them
    pub(super) float32: bool,
    /// a GPU plays it too: what only that can do is left out where it is not one
    pub(super) for_gpu: bool,
}

/// What there is while a plan is played.
pub(super) struct Player<'p> {
    pub(super) plan: &'p Plan,
    pub(super) how: How,
    engine: &'p Engine,
    pub(super) networks: Vec<Network>,
    places: Vec<Place>,
    pub(super) states: Vec<Option<Carried>>,
    num_states: usize,
    /// of all sequences that ever were, newest last
    pub(super) slots: Vec<Slot>,
    pub(super) last_read: (Vec<HostState>, Origin),
    /// of the last call that was to write into something
    outputs: Outputs,
    tuned: bool,
    entries: Vec<Entry>,
}

/// Where a session is, or was.
struct Place {
    holder: Holder,
    /// whether its options choose a candidate
    chosen: bool,
}

enum Holder {
    Session(Box<Session>),
    Stream(Box<Open<'static>>),
    Gone,
}

/// All that comes of `plan` on `engine`.
pub(super) fn play(plan: &Plan, engine: &Engine, how: How) -> Vec<Entry> {
    let mut player = Player {
        plan,
        how,
        engine,
        networks: Vec::new(),
        places: Vec::new(),
        states: Vec::new(),
        num_states: 0,
        slots: Vec::new(),
        last_read: Default::default(),
        outputs: Outputs::default(),
        tuned: false,
        entries: Vec::new(),
    };
    match plan.network.build(how.moved) {
        Ok(network) => player.networks.push(network),
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Shape) {
                finding(&format!("a network that cannot be: {error:?}"));
            }
            player.push("build", Outcome::refused(&error));
            return player.entries;
        }
    }
    for op in &plan.ops {
        player.op(op);
    }
    player.entries
}

impl Player<'_> {
    pub(super) fn push(&mut self, what: &str, outcome: Outcome) {
        self.entries.push(Entry { what: what.to_owned(), outcome });
    }

    pub(super) fn new_state(&mut self) -> Origin {
        self.num_states += 1;
        let mut origin = Origin::of_state(self.num_states);
        origin.level = self.plan.network.level();
        origin
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Session { network, options } => self.session(*network, options),
            Op::Save { network, precision, file } => self.save(*network, *precision, *file),
            Op::Recover => self.push("recover", Outcome::said(self.engine.recover().map(|did| format!("recovered {did}")))),
            Op::Request(request) => {
                let engine = Engine::new((**request).clone());
                self.push("engine", Outcome::said(engine.map(|engine| engine.describe().to_string())));
            }
            Op::DropState { state } => {
                if let Some(state) = place_of(*state, self.states.len()) {
                    self.states[state] = None;
                }
            }
            Op::Run { session, .. }
            | Op::State { session, .. }
            | Op::RunWithState { session, .. }
            | Op::ReadState { session, .. }
            | Op::WriteState { session, .. }
            | Op::Stream { session, .. }
            | Op::InStream { session, .. }
            | Op::IntoSession { session }
            | Op::Borrowed { session, .. }
            | Op::Explain { session, .. }
            | Op::Tune { session, .. }
            | Op::Facts { session, .. }
            | Op::DropSession { session } => {
                let Some(place) = place_of(*session, self.places.len()) else { return };
                match std::mem::replace(&mut self.places[place].holder, Holder::Gone) {
                    Holder::Session(session) => self.with_session(op, place, session),
                    Holder::Stream(stream) => self.with_stream(op, place, stream),
                    Holder::Gone => self.push("nobody", Outcome::Nothing),
                }
            }
        }
    }

    /// Makes a session, or says why not; so does asking whether there can be one.
    fn session(&mut self, network: usize, plan: &OptionsPlan) {
        let network = self.networks[network % self.networks.len()].clone();
        let mut options = plan.options.clone();
        if self.how.float32 {
            options.precision = Precision::F32;
        }
        let is_gpu = self.engine.usage().is_some();
        if self.how.for_gpu && (!is_gpu || self.engine.check(&network, &options).is_err()) {
            (options.schedule, options.choice) = (None, None);
        }
        let checked = self.engine.check(&network, &options);
        let mut made = self.engine.session(&network, options.clone());
        match (&checked, &made) {
            (Ok(()), Ok(_)) => {}
            (Err(checked), Err(made)) if checked.kind() == made.kind() => {}
            (Ok(()), Err(error)) if error.kind() == ErrorKind::OutOfMemory => {}
            (checked, made) => finding(&format!("a check said {checked:?}, a session {:?}", made.as_ref().map(|_| ()))),
        }
        let choice = made.as_ref().ok().zip(plan.candidate).and_then(|(session, candidate)| {
            let candidates = session.candidates(2);
            candidates.get(candidate % candidates.len().max(1)).map(|(choice, _)| *choice)
        });
        if let Some(choice) = choice.filter(|_| options.schedule.is_none() && options.choice.is_none()) {
            made = self.engine.session(&network, Options { choice: Some(choice), ..options });
        }
        let holder = match made {
            Ok(session) => {
                self.push("session", Outcome::Said("made".to_owned()));
                Holder::Session(Box::new(session))
            }
            Err(error) => {
                self.push("session", Outcome::refused(&error));
                Holder::Gone
            }
        };
        self.places.push(Place { holder, chosen: plan.candidate.is_some() || plan.options.choice.is_some() });
    }

    fn with_session(&mut self, op: &Op, place: usize, mut session: Box<Session>) {
        match op {
            Op::Run { call, way, twice, .. } => self.run(&mut session, call, *way, *twice),
            Op::State { batch, .. } => match session.state(*batch) {
                Ok(state) => {
                    let origin = self.new_state();
                    self.push("state", Outcome::Said(format!("{} rows", state.batch())));
                    self.states.push(Some(Carried { state, place, origin }));
                }
                Err(error) => self.push("state", Outcome::refused(&error)),
            },
            Op::RunWithState { state, .. } | Op::ReadState { state, .. } | Op::WriteState { state, .. } => {
                let Some(number) = self.state_for(*state, place) else { return self.put(place, session) };
                let Some(mut carried) = self.states[number].take() else { return self.put(place, session) };
                self.with_state(op, &mut session, &mut carried);
                self.states[number] = Some(carried);
            }
            Op::Stream { slots, .. } => return self.open(place, session, *slots),
            Op::Borrowed { slots, ops, .. } => self.borrow(&mut session, *slots, ops),
            Op::Explain { batch, seq_len, .. } => {
                let explained = session.explain(*batch, *seq_len);
                let flops = explained.map(|explained| explained.lstms.iter().map(|lstm| lstm.flops.to_string()).collect::<Vec<_>>().join(" "));
                self.push("explain", Outcome::said(flops));
            }
            Op::Tune { batch, seq_len, .. } => self.tune(&mut session, place, *batch, *seq_len),
            Op::Facts { batch, .. } => self.facts(&session, *batch),
            Op::DropSession { .. } => return,
            _ => self.push("a session", Outcome::Nothing),
        }
        self.put(place, session);
    }

    fn put(&mut self, place: usize, session: Box<Session>) {
        self.places[place].holder = Holder::Session(session);
    }

    fn with_stream(&mut self, op: &Op, place: usize, mut open: Box<Open<'static>>) {
        match op {
            Op::InStream { op, .. } => self.in_stream(&mut open, op),
            Op::Facts { batch, .. } => self.facts(open.stream.session(), *batch),
            Op::DropSession { .. } => return,
            Op::IntoSession { .. } => {
                let session = open.stream.into_session().unwrap_or_else(|| finding("a stream that owns its session has none"));
                self.push("into_session", Outcome::Said("back".to_owned()));
                return self.put(place, Box::new(session));
            }
            _ => self.push("a stream", Outcome::Nothing),
        }
        self.places[place].holder = Holder::Stream(open);
    }

    fn open(&mut self, place: usize, session: Box<Session>, slots: usize) {
        match session.into_stream(slots) {
            Ok(stream) => {
                let origin = self.new_state();
                self.push("into_stream", Outcome::Said(format!("{} slots", stream.capacity())));
                self.places[place].holder = Holder::Stream(Box::new(Open::new(stream, origin)));
            }
            Err(error) => self.push("into_stream", Outcome::refused(&error)),
        }
    }

    fn borrow(&mut self, session: &mut Session, slots: usize, ops: &[super::plan::StreamOp]) {
        match session.stream(slots) {
            Ok(stream) => {
                let mut open = Open::new(stream, self.new_state());
                self.push("stream", Outcome::Said(format!("{} slots", slots)));
                ops.iter().for_each(|op| self.in_stream(&mut open, op));
            }
            Err(error) => self.push("stream", Outcome::refused(&error)),
        }
    }

    fn run(&mut self, session: &mut Session, call: &CallPlan, way: Way, twice: Option<Way>) {
        let network = session.network().clone();
        let given = call.inputs(&network, self.how.moved);
        let inputs = inputs(&given);
        let made = self.by_way(session, &inputs, way);
        if let (Ok(first), Some(way)) = (&made, twice) {
            let second = self.by_way(session, &inputs, way);
            match second {
                Ok(second) if same_bits(&of_outputs(first), &of_outputs(&second)) => {}
                Ok(_) => finding(&format!("other bits when a call is made again, by {way:?}")),
                Err(error) => finding(&format!("a call that ran does not run again: {error:?}")),
            }
        }
        let origin = Origin::of(call.level().max(self.plan.network.level()));
        self.push("run", Outcome::of(made.map(|outputs| of_outputs(&outputs)), &origin));
    }

    fn by_way(&mut self, session: &mut Session, inputs: &Inputs<'_>, way: Way) -> Result<Outputs> {
        match way {
            Way::Plain => session.run(inputs),
            Way::Async => wait(session.run_async(inputs)),
            Way::Into => {
                let ran = session.run_into(inputs, &mut self.outputs);
                if ran.is_err() && self.outputs.iter().next().is_some() {
                    finding("results of a call that failed");
                }
                ran.map(|()| self.outputs.clone())
            }
            Way::Trace => {
                let (outputs, parts) = session.trace(inputs)?;
                let words: Vec<String> = parts.iter().map(|part| format!("{} {:?} {}", part.name, part.seq_len_and_batch, part.flops)).collect();
                self.push("trace", Outcome::Said(words.join(", ")));
                Ok(outputs)
            }
        }
    }

    fn tune(&mut self, session: &mut Session, place: usize, batch: usize, seq_len: usize) {
        let work = batch.saturating_mul(seq_len);
        let (once, small) = (!std::mem::replace(&mut self.tuned, true), !(1 << 12..1 << 40).contains(&work));
        if self.places[place].chosen || (self.how.for_gpu && !(once && small)) {
            return self.push("tune", Outcome::Nothing);
        }
        let tuned = session.tune(batch, seq_len);
        self.push("tune", Outcome::said(tuned.map(|_| "tuned")));
    }

    /// What does not depend on the device; the rest is asked for all the same.
    fn facts(&mut self, session: &Session, batch: usize) {
        let network = session.network();
        let parts: Vec<String> = network.parts().into_iter().map(|part| part.name).collect();
        let _ =
            (session.notes(), session.schedules(), session.profile(), session.candidates(batch), session.engine().usage(), format!("{session:?}"));
        self.push("facts", Outcome::Said(format!("{} {} {parts:?} {:?}", network.format(), network.num_parameters(), network.outputs())));
    }
}

/// Which of `count` is meant by `number`, newest first.
pub(super) fn place_of(number: usize, count: usize) -> Option<usize> {
    (count > 0).then(|| count - 1 - number % count)
}

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a future comes to.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(made) => return made,
            Poll::Pending => thread::park(),
        }
    }
}
