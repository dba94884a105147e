//! Running a network: node by node, tensors by name.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::choices::Choices;
use crate::engine::dense::DenseRunner;
use crate::engine::execute::{self, Execution};
use crate::engine::inputs;
use crate::engine::node::{NodeRunner, Value};
use crate::engine::runner::{NodeState, Runner};
use crate::engine::state::{HostState, State, host_state};
use crate::engine::stream::Owner;
use crate::engine::{Backend, Engine, Explanation, Options, PartRun, ScheduleUse, Stream, explain};
use crate::error::{Error, Result};
use crate::gpu::Wait;
use crate::gpu::form::Choice;
use crate::gpu::plan::Cost;
use crate::measure::CallProfile;
use crate::network::{Direction, Layout, LstmNode, LstmState, Network, Nodes, PartKind, Step, Weights};
use crate::tensor::{Inputs, Outputs};

/// A network on a device.
///
/// ```
/// use cellgate::{CellWeights, DeviceChoice, Engine, Inputs, Lstm, LstmConfig, Network, Options};
/// use ndarray::{Array1, Array2, Array3};
///
/// let (input_size, hidden_size) = (3, 4);
/// let cell = CellWeights {
///     weight_ih: Array2::from_elem((4 * hidden_size, input_size), 0.1),
///     weight_hh: Array2::from_elem((4 * hidden_size, hidden_size), 0.1),
///     bias_ih: Some(Array1::zeros(4 * hidden_size)),
///     bias_hh: Some(Array1::zeros(4 * hidden_size)),
///     weight_hr: None,
///     peepholes: None,
///     layer_norm: None,
/// };
/// let network = Network::from_lstm(Lstm::new(LstmConfig::new(input_size, hidden_size), vec![cell])?, false);
///
/// let engine = Engine::new(DeviceChoice::Cpu)?;
/// let mut session = engine.session(&network, Options::default())?;
/// let x = Array3::<f32>::ones((5, 2, input_size));
/// let out = session.run(&Inputs::new().with("x", x.view()))?;
/// assert_eq!(out["y"].shape(), [5, 2, hidden_size]);
/// assert_eq!(out["h_n"].shape(), [1, 2, hidden_size]);
/// # Ok::<(), cellgate::Error>(())
/// ```
pub struct Session {
    id: u64,
    pub(super) engine: Engine,
    /// what this session is on: the engine may have another device by now
    pub(super) backend: Backend,
    pub(super) options: Options,
    pub(super) network: Network,
    pub(super) nodes: Vec<NodeRunner>,
    pub(super) dense: Vec<DenseRunner>,
    pub(super) choices: Choices,
    /// tensors that had better stay on the device
    kept: BTreeSet<String>,
    /// what LSTMs make, whose arrays are used again
    made_by_lstms: BTreeSet<String>,
    /// what nodes made for each other in the last call, for the arrays' sake
    between: Outputs,
}

/// Sessions are numbered, so that a state is not mistaken for another session's.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Session {
    pub(crate) async fn new(engine: Engine, network: Network, options: Options) -> Result<Self> {
        engine.check(&network, &options)?;
        let backend = engine.backend();
        let mut nodes = Vec::new();
        for node in &network.nodes {
            let runner = match &node.weights {
                Weights::Constant(lstm) => Some(Runner::new(&backend, Arc::clone(lstm), &options).await.map_err(|error| error.within(&node.name))?),
                Weights::RunTime(_) => None,
            };
            nodes.push(NodeRunner::new(runner));
        }
        let mut dense = Vec::new();
        for node in &network.dense {
            let runner = DenseRunner::new(&backend, Arc::clone(&node.stage), &options).await;
            dense.push(runner.map_err(|error| error.within(&node.name))?);
        }
        let mut kept = BTreeSet::new();
        network.program.add_kept(Nodes { lstms: &network.nodes, dense: &network.dense }, &mut kept);
        let kept = kept.into_iter().map(str::to_owned).collect();
        let made_by_lstms = network.nodes.iter().flat_map(LstmNode::makes).map(str::to_owned).collect();
        let (id, choices) = (NEXT_ID.fetch_add(1, Ordering::Relaxed), Choices::new(&engine, &options));
        Ok(Self { id, engine, backend, options, network, nodes, dense, choices, kept, made_by_lstms, between: Outputs::default() })
    }

    /// The device that this session runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The network that this session runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the network once. States start from the inputs that give them, else from zero.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where an input is missing, unknown, or of the wrong shape or type;
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) and [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) where the device cannot hold the call;
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where it fails.
    pub fn run(&mut self, inputs: &Inputs<'_>) -> Result<Outputs> {
        pollster::block_on(self.execute(inputs, None, Outputs::default(), Wait::Block, None))
    }

    /// As [`Session::run`], for callers that cannot block.
    ///
    /// On a GPU, the future gives its thread away while the device computes; it prepares the call within a poll, kernels that a first call has to
    /// compile included. The CPU and the reference compute inside the first poll: there this blocks for as long as [`Session::run`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_async(&mut self, inputs: &Inputs<'_>) -> Result<Outputs> {
        self.execute(inputs, None, Outputs::default(), Wait::Async, None).await
    }

    /// As [`Session::run`], with the results in the place of those of an earlier call: where an array of `outputs` has the right name and shape it is
    /// written anew, else one is made. On a GPU, calls of the same shapes then allocate nothing that grows with the call.
    ///
    /// ```
    /// # use cellgate::{DeviceChoice, Engine, Inputs, Network, Options, Outputs};
    /// # use ndarray::Array3;
    /// # let network = Network::open("assets/char-lm.safetensors")?;
    /// # let mut session = Engine::new(DeviceChoice::Cpu)?.session(&network, Options::default())?;
    /// let mut outputs = Outputs::default();
    /// for value in [0.0_f32, 1.0] {
    ///     let x = Array3::from_elem((5, 2, 96), value);
    ///     session.run_into(&Inputs::new().with("x", x.view()), &mut outputs)?;
    ///     assert_eq!(outputs["y"].shape(), [5, 2, 96]);
    /// }
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::run`]; `outputs` is empty then.
    pub fn run_into(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<()> {
        let spare = std::mem::take(outputs);
        *outputs = pollster::block_on(self.execute(inputs, None, spare, Wait::Block, None))?;
        Ok(())
    }

    /// As [`Session::run_into`], for callers that cannot block; where it blocks all the same, [`Session::run_async`] says.
    ///
    /// # Errors
    /// As [`Session::run_into`]. If the future is dropped before its end, `outputs` is empty.
    pub async fn run_into_async(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<()> {
        let spare = std::mem::take(outputs);
        *outputs = self.execute(inputs, None, spare, Wait::Async, None).await?;
        Ok(())
    }

    /// Runs the network once on the states in `state`, which stay on the device and hold the final states afterwards.
    /// Inputs that would give initial states must be left out.
    ///
    /// # Errors
    /// As [`Session::run`], and [`ErrorKind::Config`](crate::ErrorKind::Config) where the state is another session's, the call gives an initial state as well,
    /// or an LSTM walks backwards over time; [`ErrorKind::StateLost`](crate::ErrorKind::StateLost) where the last call on the state did not finish or it
    /// went with a device that was lost. After an error that came when the device had begun to move
    /// the state it is to be written anew, and so it is where a network of several LSTMs fails behind the first; after any other it is what it was.
    pub fn run_with_state(&mut self, inputs: &Inputs<'_>, state: &mut State) -> Result<Outputs> {
        pollster::block_on(self.execute(inputs, Some(state), Outputs::default(), Wait::Block, None))
    }

    /// As [`Session::run_with_state`], for callers that cannot block; where it blocks all the same, [`Session::run_async`] says.
    ///
    /// # Errors
    /// As [`Session::run_with_state`]. If the future is dropped before its end, the state is to be written anew.
    pub async fn run_with_state_async(&mut self, inputs: &Inputs<'_>, state: &mut State) -> Result<Outputs> {
        self.execute(inputs, Some(state), Outputs::default(), Wait::Async, None).await
    }

    /// As [`Session::run`], with what every part of the network that it came to took. Of a network that was read with
    /// [`Reading::counted`](crate::Reading::counted) the arithmetic on the CPU is counted, too.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn trace(&mut self, inputs: &Inputs<'_>) -> Result<(Outputs, Vec<PartRun>)> {
        let mut parts = Vec::new();
        let outputs = pollster::block_on(self.execute(inputs, None, Outputs::default(), Wait::Block, Some(&mut parts)))?;
        Ok((outputs, parts))
    }

    /// Zero states for a batch of `batch` rows. On an engine that holds a GPU and the CPU, they and all calls on them are on the side that is
    /// expected to be the faster for so many rows and one step.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where an LSTM walks backwards over time, so that there is no state to carry, or gets its weights with each call;
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where this machine cannot hold so many rows, and the device's own errors.
    pub fn state(&mut self, batch: usize) -> Result<State> {
        pollster::block_on(async {
            self.renew().await?;
            let mut nodes = Vec::new();
            for (number, node) in self.network.nodes.iter().enumerate() {
                if !self.network.carries(node) {
                    nodes.push(None);
                    continue;
                }
                let runner = &mut self.nodes[number];
                let Some(stack) = &runner.runner else {
                    return Err(Error::config(format!(
                        "{}: a carried state needs weights in the model, found weights given with each call",
                        node.name
                    )));
                };
                let direction = stack.config().direction;
                if direction != Direction::Forward {
                    return Err(Error::config(format!("{}: a carried state needs a forward LSTM, found {}", node.name, direction.name())));
                }
                nodes.push(Some(runner.new_state(&node.name, &mut self.choices, batch, Wait::Block).await?));
            }
            Ok(State { session: self.id, batch, nodes, torn: false })
        })
    }

    /// Copies the states to the host, LSTM by LSTM.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the state is another session's, [`ErrorKind::StateLost`](crate::ErrorKind::StateLost) where the
    /// last call on it did not finish or it went with a device that was lost; the device's own errors.
    pub fn read_state(&mut self, state: &State) -> Result<Vec<HostState>> {
        pollster::block_on(self.read_and_wait(state, Wait::Block))
    }

    /// As [`Session::read_state`], for callers that cannot block.
    ///
    /// # Errors
    /// As [`Session::read_state`].
    pub async fn read_state_async(&mut self, state: &State) -> Result<Vec<HostState>> {
        self.read_and_wait(state, Wait::Async).await
    }

    async fn read_and_wait(&mut self, state: &State, wait: Wait) -> Result<Vec<HostState>> {
        self.own(state)?;
        self.renew().await?;
        self.whole(state)?;
        let mut states = Vec::new();
        for ((node, runner), state) in self.network.nodes.iter().zip(&mut self.nodes).zip(&state.nodes) {
            if let (Some(runner), Some(state)) = (&mut runner.runner, state) {
                let LstmState { h, c } = runner.read_state(state, wait).await?;
                states.push(HostState { node: node.name.clone(), h, c });
            }
        }
        Ok(states)
    }

    /// Puts states from the host in the place of those in `state`; LSTMs that `values` does not name keep theirs.
    /// A state that a call left unfinished can be used again once all its LSTMs are written in one go.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the state is another session's or a node is unknown,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) where a shape is wrong: nothing is written then. After the device's own errors all of the state is
    /// to be written anew.
    pub fn write_state(&mut self, state: &mut State, values: &[HostState]) -> Result<()> {
        self.own(state)?;
        pollster::block_on(self.renew())?;
        // all are checked before the first one is written
        let mut checked = Vec::new();
        for value in values {
            let place = self.network.nodes.iter().position(|node| node.name == value.node).filter(|&place| state.nodes[place].is_some());
            let Some((place, runner)) = place.and_then(|place| Some((place, self.nodes[place].runner.as_ref()?))) else {
                return Err(Error::config(format!("no LSTM called `{}` carries a state", value.node)));
            };
            checked.push((place, runner, host_state(runner.config(), state.batch, value)?));
        }
        // an error on the way leaves it so
        let was_torn = std::mem::replace(&mut state.torn, true);
        for (place, runner, values) in checked {
            if let Some(node_state) = &mut state.nodes[place] {
                pollster::block_on(async {
                    runner.renew_state(node_state).await?;
                    runner.set_state(node_state, values).await
                })?;
            }
        }
        state.torn = was_torn;
        let named = |node: &LstmNode| values.iter().any(|value| value.node == node.name);
        if self.network.nodes.iter().zip(&state.nodes).all(|(node, state)| state.is_none() || named(node)) {
            state.torn = false;
        }
        Ok(())
    }

    /// `slots` sequences that start and end on their own, with their states on the device. On an engine that holds a GPU and the CPU, they are on
    /// the side that is expected to be the faster for steps of all slots, one at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the network is not one forward LSTM stack with weights of its own;
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where this machine cannot hold so many slots, and the device's own errors.
    pub fn stream(&mut self, slots: usize) -> Result<Stream<'_>> {
        Stream::new(Owner::Borrowed(self), slots)
    }

    /// As [`Session::stream`], with the session moved into the stream; [`Stream::into_session`] gives it back.
    ///
    /// ```
    /// use cellgate::{DeviceChoice, Engine, Network, Options, Slot, Stream};
    ///
    /// struct Service {
    ///     stream: Stream<'static>,
    ///     callers: Vec<Slot>,
    /// }
    ///
    /// let network = Network::open("assets/char-lm.safetensors")?;
    /// let session = Engine::new(DeviceChoice::Cpu)?.session(&network, Options::default())?;
    /// let mut service = Service { stream: session.into_stream(8)?, callers: Vec::new() };
    /// service.callers.push(service.stream.join()?);
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::stream`]; the session is gone then.
    pub fn into_stream(self, slots: usize) -> Result<Stream<'static>> {
        Stream::new(Owner::Owned(Box::new(self)), slots)
    }

    /// What a call of `batch` rows and `seq_len` steps would do: schedule, dispatches, arithmetic, memory.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the device cannot hold the call or its numbers exceed 64 bits;
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for weights that come with each call.
    pub fn explain(&self, batch: usize, seq_len: usize) -> Result<Explanation> {
        let runners = self.network.nodes.iter().zip(&self.nodes).map(|(node, runner)| (node, runner.runner.as_ref()));
        explain::explain(&self.engine, &self.choices, runners, batch, seq_len)
    }

    /// The schedules and forms in which a GPU can run calls of `batch` rows, and what each is expected to cost, cheapest first, for the
    /// first LSTM of the network, whichever side its calls run on; none without a GPU.
    pub fn candidates(&self, batch: usize) -> Vec<(Choice, Cost)> {
        let gpu = self.nodes.iter().filter_map(|node| node.runner.as_ref()?.gpu()).next();
        gpu.map_or_else(Vec::new, |gpu| gpu.candidates(batch))
    }

    /// Where the time of the last call on the GPU went; `None` without [`Options::profile`], and on an engine of the CPU or the reference alone.
    ///
    /// ```
    /// use cellgate::{DeviceChoice, Engine, Inputs, Network, Options};
    ///
    /// let network = Network::open("assets/char-lm.safetensors")?;
    /// let mut session = Engine::new(DeviceChoice::Auto)?.session(&network, Options { profile: true, ..Options::default() })?;
    /// let x = ndarray::Array3::<f32>::zeros((5, 1, 96));
    /// session.run(&Inputs::new().with("x", x.view()))?;
    /// if let Some(profile) = session.profile() {
    ///     println!("recorded in {:?}, done after {:?}", profile.encode, profile.submit_to_done);
    /// }
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    pub fn profile(&self) -> Option<CallProfile> {
        let mut profiles = self.nodes.iter().filter_map(|node| Some(node.runner.as_ref()?.gpu()?.profile()));
        let mut sum = profiles.next().filter(|_| self.options.profile)?;
        profiles.for_each(|profile| sum.add(&profile));
        Some(sum)
    }

    /// What ran so far, or will on the states that there are, and why: one entry for every LSTM and number of rows at once, in the order of first use.
    /// On an engine that holds a GPU and the CPU there is one for every number of steps, too, which says where it ran.
    pub fn schedules(&self) -> &[ScheduleUse] {
        self.choices.uses()
    }

    /// What a user should know about how schedules were chosen: records that could not be read, used or written.
    pub fn notes(&self) -> &[String] {
        self.choices.notes()
    }

    /// Zero states of one node, for as many steps at a time as may be.
    pub(super) async fn new_state(&mut self, node: usize, batch: usize) -> Result<NodeState> {
        self.nodes[node].new_state(&self.network.nodes[node].name, &mut self.choices, batch, Wait::Block).await
    }

    fn own(&self, state: &State) -> Result<()> {
        if state.session == self.id { Ok(()) } else { Err(Error::config("state: expected one made by this session, found another session's")) }
    }

    /// Runs the network; results are in arrays of `spare` where these fit.
    async fn execute(
        &mut self,
        inputs: &Inputs<'_>,
        mut state: Option<&mut State>,
        mut spare: Outputs,
        wait: Wait,
        trace: Option<&mut Vec<PartRun>>,
    ) -> Result<Outputs> {
        if let Some(state) = &state {
            self.own(state)?;
        }
        self.renew().await?;
        if let Some(state) = &state {
            self.whole(state)?;
        }
        let network = &self.network;
        inputs::check(network, inputs, state.is_some())?;
        spare.append(&mut self.between);
        let mut between = Outputs::default();
        let mut values = execute::given(network, inputs);
        let mut execution = Execution {
            backend: &self.backend,
            options: &self.options,
            network,
            choices: &mut self.choices,
            nodes: &mut self.nodes,
            dense: &mut self.dense,
            kept: &self.kept,
            made_by_lstms: &self.made_by_lstms,
            state: state.as_deref_mut(),
            spare: &mut spare,
            between: &mut between,
            wait,
            trace,
        };
        execution.program(&network.program, &mut values).await?;
        let mut outputs = Outputs::default();
        for (place, (port, name)) in network.outputs.iter().zip(&network.program.outputs).enumerate() {
            let again = network.program.outputs[place + 1..].contains(name);
            execute::fetch(name, &mut values, wait).await?;
            let copied = |value: &Value<'_>| value.view().map(|view| view.to_owned());
            let tensor = if again { values.get(name.as_str()).map(copied) } else { values.remove(name.as_str()).map(Value::into_tensor) };
            let tensor = tensor.ok_or_else(|| Error::shape(format!("output `{}`: no step makes it", port.name)))??;
            outputs.insert(port.name.clone(), tensor.of_type(port.element_type));
        }
        drop(values);
        self.between = between;
        if let Some(state) = state {
            state.torn = false;
        }
        Ok(outputs)
    }

    /// The runner of a network of one LSTM, for a stream, which would leave out without a word what is around it.
    pub(super) fn only_runner(&mut self) -> Result<(&mut Runner, Layout)> {
        let ([node], [Step::Lstm(_)]) = (&self.network.nodes[..], &self.network.program.steps[..]) else {
            let (stacks, others) = (self.network.nodes.len(), self.network.parts().iter().filter(|part| part.kind != PartKind::Lstm).count());
            return Err(Error::config(format!("a stream needs a network of one LSTM stack, found {stacks} and {others} other parts")));
        };
        let Some(runner) = self.nodes.first_mut().and_then(|node| node.runner.as_mut()) else {
            return Err(Error::config("a stream needs weights in the model, found weights given with each call"));
        };
        match runner.config().direction {
            Direction::Forward => Ok((runner, node.layout)),
            other => Err(Error::config(format!("a stream needs a forward LSTM, found {}", other.name()))),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("engine", &self.engine).field("network", &self.network.format()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles where sessions and their futures can go from thread to thread.
    #[test]
    fn sessions_and_their_futures_are_send() {
        fn send<T: Send>(_: T) {}
        fn streams(stream: &mut Stream<'_>, slot: crate::Slot, x: &ndarray::Array3<f32>) {
            send(&mut *stream);
            send(stream.read_async(slot));
            send(stream.step_async(&[]));
            send(stream.step_all_async(x.view()));
        }
        fn uses(session: &mut Session, state: &mut State, inputs: &Inputs<'_>) {
            send(&mut *session);
            send(session.run_async(inputs));
            send(session.run_into_async(inputs, &mut Outputs::default()));
            send(session.run_with_state_async(inputs, state));
            send(session.read_state_async(state));
            send(session.tune_async(1, 1));
            send(session.engine().session_async(session.network(), Options::default()));
            send(Engine::new_async(crate::DeviceChoice::Auto));
        }
        let _ = (uses, streams);
    }
}
