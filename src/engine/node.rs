//! Running one LSTM of a network: its inputs by name, its outputs by name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ndarray::{ArrayD, ArrayView3, Dimension, IxDyn};

use crate::device::DeviceKind;
use crate::engine::choices::Choices;
use crate::engine::room::{check_call, float_bytes};
use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Backend, Options};
use crate::error::{Error, Result};
use crate::gpu::{DeviceCall, DeviceTensor, Source, Wait};
use crate::network::{Direction, InitialState, LstmConfig, LstmNode, LstmResults, Weights, check_room};
use crate::tensor::{Outputs, Tensor, TensorView};

/// A node's runner, and what it keeps from call to call.
#[derive(Default)]
pub(super) struct NodeRunner {
    /// absent until the first call where the weights come with the call
    pub(super) runner: Option<Runner>,
    /// where calls of so many rows and steps run, where there is a choice
    sides: HashMap<[usize; 2], DeviceKind>,
    /// states for plain calls on the GPU and on the host, used again while the batch stays the same
    scratch: [Option<Scratch>; 2],
    /// lengths of the rows of a call
    lens: Vec<u32>,
    /// calls of so many rows and steps take no more memory than is allowed: on the GPU or not, on a state that is carried or not
    fit: HashSet<([bool; 2], [usize; 2])>,
}

impl NodeRunner {
    pub(super) fn new(runner: Option<Runner>) -> Self {
        Self { runner, ..Self::default() }
    }

    /// Has the next calls choose anew what they run on and are built to.
    pub(super) fn forget_choices(&mut self) {
        (self.sides, self.fit, self.scratch) = (HashMap::new(), HashSet::new(), [None, None]);
    }

    /// Has the next plain calls make their states anew.
    pub(super) fn forget_scratch(&mut self) {
        self.scratch = [None, None];
    }

    /// Takes the weights that the call gives, if these do not come with the model. Those that are the same as before are kept.
    pub(super) async fn take_weights(&mut self, node: &LstmNode, backend: &Backend, options: &Options, values: &Values<'_>) -> Result<()> {
        let Weights::RunTime(weights) = &node.weights else { return Ok(()) };
        let views: BTreeMap<&str, TensorView<'_>> = values.iter().filter_map(|(name, value)| Some((*name, value.view().ok()?))).collect();
        let lstm = weights.resolve(&views)?;
        if self.runner.as_ref().is_none_or(|known| !known.lstm().same_bits(&lstm)) {
            *self = Self::new(Some(Runner::new(backend, Arc::new(lstm), options).await?));
        }
        Ok(())
    }

    /// The side that calls of `batch` rows and `seq_len` steps run on, with its weights. There is a runner.
    pub(super) async fn side(&mut self, node: &str, choices: &mut Choices, [batch, seq_len]: [usize; 2], wait: Wait) -> Result<DeviceKind> {
        let runner = self.runner.as_mut().expect("a caller has seen to the weights");
        if runner.asks_again() {
            self.sides.clear();
        }
        if let Some(side) = runner.only_side().or_else(|| self.sides.get(&[batch, seq_len]).copied()) {
            return Ok(side);
        }
        let side = choices.decide(node, runner, batch, seq_len, wait).await?;
        self.sides.insert([batch, seq_len], side);
        Ok(side)
    }

    /// States for calls of `batch` rows, on the side that calls of one step run on: those that come are of any length.
    pub(super) async fn new_state(&mut self, node: &str, choices: &mut Choices, batch: usize, wait: Wait) -> Result<NodeState> {
        let side = self.side(node, choices, [batch, 1], wait).await?;
        let runner = self.runner.as_mut().expect("a caller has seen to the weights");
        choices.new_state(node, runner, side, [batch, 1], wait).await
    }
}

pub(super) struct Scratch {
    batch: usize,
    /// decides the blocks of a bidirectional stack's state
    seq_len: usize,
    state: NodeState,
}

/// A node's part of a [`State`](crate::State) that a call runs on.
pub(super) struct Carried<'s> {
    pub(super) state: &'s mut NodeState,
    pub(super) batch: usize,
    /// set before the backend starts to move the state; whoever sees the whole call succeed clears it
    pub(super) torn: &'s mut bool,
}

/// The tensors of one call that are there so far.
pub(super) type Values<'a> = BTreeMap<&'a str, Value<'a>>;

pub(super) enum Value<'a> {
    Given(TensorView<'a>),
    Made(Tensor),
    /// on the device, and on the host as well where somebody has read it there
    Device(DeviceTensor, Option<Tensor>),
}

impl Value<'_> {
    /// Its elements on the host, where they are.
    pub(super) fn view(&self) -> Result<TensorView<'_>> {
        match self {
            Self::Given(view) => Ok(view.view()),
            Self::Made(tensor) | Self::Device(_, Some(tensor)) => Ok(tensor.view()),
            Self::Device(_, None) => Err(Error::config("a tensor on the device: expected it on the host, where nobody has brought it")),
        }
    }

    /// The size of every axis.
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Given(view) => view.shape(),
            Self::Made(tensor) => tensor.shape(),
            Self::Device(tensor, _) => tensor.shape(),
        }
    }

    /// The tensor itself on the host, copied where it belongs to somebody else.
    pub(super) fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::Made(tensor) | Self::Device(_, Some(tensor)) => Ok(tensor),
            other => other.view().map(|view| view.to_owned()),
        }
    }
}

/// The input of a node, in the inner order of axes.
enum Input<'v> {
    Host(ArrayView3<'v, f32>),
    Device(DeviceTensor),
}

/// What the nodes of a session share.
pub(super) struct Shared<'c> {
    pub(super) choices: &'c mut Choices,
    /// arrays of earlier calls
    pub(super) spare: &'c mut Outputs,
    pub(super) wait: Wait,
    /// bytes that a call may take
    pub(super) allowed: Option<u64>,
}

/// Runs one node, which has its weights, on a side; returns the tensors that it makes, in spare arrays where these fit. `y` stays on the device where it
/// can and the node `keeps_y`.
pub(super) async fn run_node<'n>(
    node: &'n LstmNode,
    runner: &mut NodeRunner,
    side: DeviceKind,
    shared: Shared<'_>,
    values: &Values<'_>,
    carried: Option<Carried<'_>>,
    keeps_y: bool,
) -> Result<Vec<(&'n str, Value<'n>)>> {
    let Shared { choices, spare, wait, allowed } = shared;
    let optional = |name: &'n Option<String>| -> Result<Option<(&'n str, TensorView<'_>)>> {
        let given = name.as_deref().and_then(|name| Some((name, values.get(name)?)));
        given.map(|(name, value)| Ok((name, value.view()?))).transpose()
    };

    let NodeRunner { runner: Some(runner), scratch, lens, fit, .. } = runner else { unreachable!("a caller has seen to the weights") };
    let [on_gpu, on_host] = scratch;
    let scratch = if side == DeviceKind::Gpu { on_gpu } else { on_host };
    runner.reset_profile();
    let config = runner.config().clone();

    let given = values.get(node.x.as_str()).ok_or_else(|| Error::shape(format!("tensor `{}`: missing", node.x)))?;
    let x_shape = given.shape().to_vec();
    let x = match given {
        Value::Device(tensor, _) if side == DeviceKind::Gpu => Input::Device(tensor.with_layout(node.layout.x_place(&node.x, tensor.layout())?)?),
        host => Input::Host(node.layout.x_inside(&node.x, host.view()?.float32(&node.x)?)?),
    };
    let (seq_len, batch, input_size) = match &x {
        Input::Host(x) => x.dim(),
        Input::Device(x) => (x.shape()[0], x.shape()[1], x.shape()[2]),
    };
    if input_size != config.input_size {
        let expected = node.layout.x_axes();
        return Err(Error::shape(format!("tensor `{}`: expected {expected} with input_size = {}, found {x_shape:?}", node.x, config.input_size)));
    }
    let sequence_lens = match optional(&node.sequence_lens)? {
        Some((name, tensor)) => {
            tensor.sequence_lens(name, batch, seq_len, lens)?;
            Some(lens.as_slice())
        }
        None => None,
    };
    // rows that all have full length need no special case
    let sequence_lens = sequence_lens.filter(|lens| lens.iter().any(|&len| (len as usize) < seq_len));
    let is_empty = seq_len * batch == 0;
    let keeps_y = keeps_y && node.y.is_some() && !is_empty && runner.fits_on_device(side, batch, seq_len);
    let source = match &x {
        Input::Host(x) => Source::Host(x.view()),
        Input::Device(x) => Source::Device(x),
    };
    let call = DeviceCall { x: source, sequence_lens, keeps_y };

    let (dirs, out) = (config.num_directions(), config.out_size());
    let kind_of_call = ([side == DeviceKind::Gpu, carried.is_some()], [batch, seq_len]);
    if allowed.is_some() && !is_empty && !fit.contains(&kind_of_call) {
        let state = carried.as_ref().map(|carried| &*carried.state);
        check_node(allowed, runner, (choices, state), side, [batch, seq_len])?;
        fit.insert(kind_of_call);
    }
    let y_room = ("tensor `y` [seq_len, batch, num_directions * out_size]", [seq_len, batch, config.y_size()]);
    let state_room = |size: usize| ("states [num_layers * num_directions, batch, size]", [config.num_cells(), batch, size]);
    let state_shape = |size: usize| node.layout.state_shape(config.num_cells(), batch, size);
    let mut array = |name: &Option<String>, (what, room): (&str, [usize; 3]), shape: IxDyn| {
        let Some(name) = name else { return Ok(None) };
        if let Some(array) = spare.reuse(name, shape.slice()) {
            return Ok(Some(array));
        }
        check_room::<f32>(what, [room])?;
        Ok::<_, Error>(Some(ArrayD::zeros(shape)))
    };
    let y_name = if keeps_y { &None } else { &node.y };
    let mut y = array(y_name, y_room, node.layout.y_shape(seq_len, batch, dirs, out))?;
    let mut h_n = array(&node.h_n, state_room(out), state_shape(out))?;
    let mut c_n = array(&node.c_n, state_room(config.hidden_size), state_shape(config.hidden_size))?;
    let results = LstmResults {
        y: y.as_mut().map(|y| node.layout.y_inside_mut(y, dirs)),
        h_n: h_n.as_mut().map(|h_n| node.layout.state_inside_mut(h_n)),
        c_n: c_n.as_mut().map(|c_n| node.layout.state_inside_mut(c_n)),
    };
    let mut kept = None;
    match carried {
        Some(Carried { state, batch: rows, torn }) => {
            if rows != batch {
                return Err(Error::shape(format!("tensor `{}`: expected batch = {rows}, the state's, found {x_shape:?}", node.x)));
            }
            if is_empty {
                let values = runner.read_state(state, wait).await?;
                pass_through(results, &InitialState { h: Some(values.h.view()), c: Some(values.c.view()) });
            } else {
                // a future that is dropped leaves it so
                let was_torn = std::mem::replace(torn, true);
                state.begin();
                let ran = runner.run_on_device(&call, None, state, results, wait).await;
                if ran.is_err() {
                    *torn = was_torn || state.has_moved();
                }
                kept = ran?;
            }
        }
        None => {
            let initial = initial_state(node, &config, batch, optional(&node.h_0)?, optional(&node.c_0)?)?;
            if is_empty {
                pass_through(results, &initial);
            } else {
                let fits = |scratch: &Scratch| scratch.batch == batch && (scratch.seq_len == seq_len || config.direction != Direction::Bidirectional);
                if !scratch.as_ref().is_some_and(fits) {
                    // freed before its successor is made
                    *scratch = None;
                    *scratch = Some(Scratch { batch, seq_len, state: choices.new_state(&node.name, runner, side, [batch, seq_len], wait).await? });
                }
                let Some(Scratch { state, .. }) = scratch else { unreachable!("it was made above") };
                kept = runner.run_on_device(&call, Some(&initial), state, results, wait).await?;
            }
        }
    }
    let made = [(&node.y, y), (&node.h_n, h_n), (&node.c_n, c_n)];
    let mut made: Vec<_> = made.into_iter().filter_map(|(name, array)| Some((name.as_deref()?, Value::Made(array?.into())))).collect();
    if let (Some(name), Some(kept)) = (node.y.as_deref(), kept) {
        made.push((name, Value::Device(kept.with_layout(node.layout.y_place(kept.layout()))?, None)));
    }
    Ok(made)
}

/// Checks that a call takes no more memory than is allowed, with all results that there may be.
fn check_node(
    allowed: Option<u64>,
    runner: &Runner,
    (choices, carried): (&Choices, Option<&NodeState>),
    side: DeviceKind,
    sizes: [usize; 2],
) -> Result<()> {
    let config = runner.config();
    let choose = |rows| match (carried, runner.gpu()) {
        (Some(state), _) => state.choice(rows),
        (None, Some(gpu)) => choices.look(gpu, rows).choice,
        (None, None) => unreachable!("the host has nothing to choose"),
    };
    check_call(allowed, sizes, |[rows, steps]| {
        let states = float_bytes(&[config.num_cells(), rows, config.out_size() + config.hidden_size]);
        let results = float_bytes(&[steps, rows, config.y_size()]).saturating_add(states);
        results.saturating_add(runner.device_bytes(side, [rows, steps], carried.is_some(), choose))
    })
}

/// The results of a call that has no rows or no steps: `y` is empty, and the states are those before.
fn pass_through(results: LstmResults<'_>, initial: &InitialState<'_>) {
    for (result, given) in [(results.h_n, &initial.h), (results.c_n, &initial.c)] {
        match (result, given) {
            (Some(mut result), Some(given)) => result.assign(given),
            (Some(mut result), None) => result.fill(0.0),
            (None, _) => {}
        }
    }
}

/// The states that the call gives, in the inner order of axes.
fn initial_state<'v>(
    node: &LstmNode,
    config: &LstmConfig,
    batch: usize,
    h_0: Option<(&str, TensorView<'v>)>,
    c_0: Option<(&str, TensorView<'v>)>,
) -> Result<InitialState<'v>> {
    let part = |part: Option<(&str, TensorView<'v>)>, size: usize| -> Result<Option<ArrayView3<'v, f32>>> {
        let Some((name, tensor)) = part else { return Ok(None) };
        let inside = node.layout.state_inside(name, tensor.float32(name)?)?;
        if inside.dim() != (config.num_cells(), batch, size) {
            let (axes, expected) = (node.layout.state_axes(), node.layout.state_shape(config.num_cells(), batch, size));
            return Err(Error::shape(format!("tensor `{name}`: expected {axes} = {:?}, found {:?}", expected.slice(), tensor.shape())));
        }
        Ok(Some(inside))
    };
    Ok(InitialState { h: part(h_0, config.out_size())?, c: part(c_0, config.hidden_size)? })
}
