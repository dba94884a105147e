//! Running one LSTM of a network: its inputs by name, its outputs by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayView3, Dimension, IxDyn};

use crate::engine::choices::Choices;
use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Engine, Options};
use crate::error::{Error, Result};
use crate::gpu::Wait;
use crate::network::{Direction, InitialState, LstmCall, LstmConfig, LstmNode, LstmResults, Weights, check_room};
use crate::tensor::{Outputs, Tensor, TensorView};

/// A node's runner, and what it keeps from call to call.
#[derive(Default)]
pub(super) struct NodeRunner {
    /// absent until the first call where the weights come with the call
    pub(super) runner: Option<Runner>,
    /// states for plain calls, used again while the batch stays the same
    pub(super) scratch: Option<Scratch>,
    /// lengths of the rows of a call
    lens: Vec<u32>,
}

impl NodeRunner {
    pub(super) fn new(runner: Option<Runner>) -> Self {
        Self { runner, ..Self::default() }
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
}

impl Value<'_> {
    pub(super) fn view(&self) -> TensorView<'_> {
        match self {
            Self::Given(view) => view.view(),
            Self::Made(tensor) => tensor.view(),
        }
    }

    /// The tensor itself, copied where it belongs to somebody else.
    pub(super) fn into_tensor(self) -> Tensor {
        match self {
            Self::Given(view) => view.to_owned(),
            Self::Made(tensor) => tensor,
        }
    }
}

/// Runs one node; returns the tensors that it makes, in arrays of `spare` where these fit.
pub(super) async fn run_node<'n>(
    node: &'n LstmNode,
    runner: &mut NodeRunner,
    (engine, options, choices): (&Engine, &Options, &mut Choices),
    values: &Values<'_>,
    carried: Option<Carried<'_>>,
    spare: &mut Outputs,
    wait: Wait,
) -> Result<Vec<(&'n str, Tensor)>> {
    let value = |name: &str| values.get(name).map(Value::view).ok_or_else(|| Error::shape(format!("tensor `{name}`: missing")));
    let optional = |name: &'n Option<String>| name.as_deref().and_then(|name| Some((name, values.get(name)?.view())));

    if let Weights::RunTime(weights) = &node.weights {
        let views: BTreeMap<&str, TensorView<'_>> = values.iter().map(|(name, value)| (*name, value.view())).collect();
        let lstm = weights.resolve(&views)?;
        if runner.runner.as_ref().is_none_or(|known| !known.lstm().same_bits(&lstm)) {
            *runner = NodeRunner::new(Some(Runner::new(engine.backend(), Arc::new(lstm), options).await?));
        }
    }
    let NodeRunner { runner: Some(runner), scratch, lens } = runner else { unreachable!("constant weights are prepared with the session") };
    runner.reset_profile();
    let config = runner.config().clone();

    let x_tensor = value(&node.x)?.float32(&node.x)?;
    let x_shape = x_tensor.shape().to_vec();
    let x = node.layout.x_inside(&node.x, x_tensor.view())?;
    let (seq_len, batch, input_size) = x.dim();
    if input_size != config.input_size {
        let expected = node.layout.x_axes();
        return Err(Error::shape(format!("tensor `{}`: expected {expected} with input_size = {}, found {x_shape:?}", node.x, config.input_size)));
    }
    let sequence_lens = match optional(&node.sequence_lens) {
        Some((name, tensor)) => {
            tensor.sequence_lens(name, batch, seq_len, lens)?;
            Some(lens.as_slice())
        }
        None => None,
    };
    // rows that all have full length need no special case
    let sequence_lens = sequence_lens.filter(|lens| lens.iter().any(|&len| (len as usize) < seq_len));
    let call = LstmCall { x, sequence_lens };

    let (dirs, out) = (config.num_directions(), config.out_size());
    let y_room = ("tensor `y` [seq_len, batch, num_directions * out_size]", [seq_len, batch, config.y_size()]);
    let state_room = |size: usize| ("states [num_layers * num_directions, batch, size]", [config.num_cells(), batch, size]);
    let state_shape = |size: usize| node.layout.state_shape(config.num_cells(), batch, size);
    let mut array = |name: &Option<String>, (what, room): (&str, [usize; 3]), shape: IxDyn| {
        let Some(name) = name else { return Ok(None) };
        if let Some(array) = spare.reuse(name, shape.slice()) {
            return Ok(Some(array));
        }
        check_room::<f32>(what, &[room])?;
        Ok::<_, Error>(Some(ArrayD::zeros(shape)))
    };
    let mut y = array(&node.y, y_room, node.layout.y_shape(seq_len, batch, dirs, out))?;
    let mut h_n = array(&node.h_n, state_room(out), state_shape(out))?;
    let mut c_n = array(&node.c_n, state_room(config.hidden_size), state_shape(config.hidden_size))?;
    let results = LstmResults {
        y: y.as_mut().map(|y| node.layout.y_inside_mut(y, dirs)),
        h_n: h_n.as_mut().map(|h_n| node.layout.state_inside_mut(h_n)),
        c_n: c_n.as_mut().map(|c_n| node.layout.state_inside_mut(c_n)),
    };
    match carried {
        Some(Carried { state, batch: rows, torn }) => {
            if rows != batch {
                return Err(Error::shape(format!("tensor `{}`: expected batch = {rows}, the state's, found {x_shape:?}", node.x)));
            }
            if call.x.is_empty() {
                let values = runner.read_state(state, wait).await?;
                pass_through(results, &InitialState { h: Some(values.h.view()), c: Some(values.c.view()) });
            } else {
                *torn = true;
                runner.run(&call, None, state, results, wait).await?;
            }
        }
        None => {
            let initial = initial_state(node, &config, batch, optional(&node.h_0), optional(&node.c_0))?;
            if call.x.is_empty() {
                pass_through(results, &initial);
            } else {
                let fits = |scratch: &Scratch| scratch.batch == batch && (scratch.seq_len == seq_len || config.direction != Direction::Bidirectional);
                if !scratch.as_ref().is_some_and(fits) {
                    // freed before its successor is made
                    *scratch = None;
                    *scratch = Some(Scratch { batch, seq_len, state: choices.new_state(&node.name, runner, batch, seq_len, wait).await? });
                }
                let Some(Scratch { state, .. }) = scratch else { unreachable!("it was made above") };
                runner.run(&call, Some(&initial), state, results, wait).await?;
            }
        }
    }
    let made = [(&node.y, y), (&node.h_n, h_n), (&node.c_n, c_n)];
    Ok(made.into_iter().filter_map(|(name, array)| Some((name.as_deref()?, array?.into()))).collect())
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
