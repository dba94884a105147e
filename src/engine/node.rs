//! Running one LSTM of a network: its inputs by name, its outputs by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array3, ArrayView3};

use crate::engine::runner::{NodeState, Runner};
use crate::engine::{Engine, Options};
use crate::error::{Error, Result};
use crate::gpu::Wait;
use crate::network::{Direction, Layout, LstmCall, LstmConfig, LstmNode, LstmState, Weights, check_room};
use crate::tensor::{Tensor, TensorView};

/// A node's runner, and what it keeps from call to call.
#[derive(Default)]
pub(super) struct NodeRunner {
    /// absent until the first call where the weights come with the call
    pub(super) runner: Option<Runner>,
    /// states for plain calls, used again while the batch stays the same
    pub(super) scratch: Option<Scratch>,
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

/// Runs one node; returns the tensors that it makes.
pub(super) async fn run_node<'n>(
    node: &'n LstmNode,
    runner: &mut NodeRunner,
    (engine, options): (&Engine, &Options),
    values: &Values<'_>,
    carried: Option<Carried<'_>>,
    wait: Wait,
) -> Result<Vec<(&'n str, Tensor)>> {
    let value = |name: &str| values.get(name).map(Value::view).ok_or_else(|| Error::shape(format!("tensor `{name}`: missing")));
    let optional = |name: &'n Option<String>| name.as_deref().and_then(|name| Some((name, values.get(name)?.view())));

    if let Weights::RunTime(weights) = &node.weights {
        let views: BTreeMap<&str, TensorView<'_>> = values.iter().map(|(name, value)| (*name, value.view())).collect();
        let lstm = weights.resolve(&views)?;
        if runner.runner.as_ref().is_none_or(|known| !known.lstm().same_bits(&lstm)) {
            *runner = NodeRunner { runner: Some(Runner::new(engine.backend(), Arc::new(lstm), options).await?), scratch: None };
        }
    }
    let NodeRunner { runner: Some(runner), scratch } = runner else { unreachable!("constant weights are prepared with the session") };
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
        Some((name, lens)) => Some(lens.sequence_lens(name, batch, seq_len)?),
        None => None,
    };
    // rows that all have full length need no special case
    let sequence_lens = sequence_lens.filter(|lens| lens.iter().any(|&len| (len as usize) < seq_len));
    let call = LstmCall { x, sequence_lens };

    check_room::<f32>("tensor `y` [seq_len, batch, num_directions * out_size]", &[[seq_len, batch, config.y_size()]])?;
    let wants_state = node.h_n.is_some() || node.c_n.is_some();
    let (y, final_state) = match carried {
        Some(Carried { state, batch: rows, torn }) => {
            if rows != batch {
                return Err(Error::shape(format!("tensor `{}`: expected batch = {rows}, the state's, found {x_shape:?}", node.x)));
            }
            *torn = true;
            run_or_pass(runner, &call, state, wants_state, wait).await?
        }
        None => {
            let initial = initial_state(node, &config, batch, optional(&node.h_0), optional(&node.c_0))?;
            let fits = |scratch: &Scratch| scratch.batch == batch && (scratch.seq_len == seq_len || config.direction != Direction::Bidirectional);
            if !scratch.as_ref().is_some_and(fits) {
                // freed before its successor is made
                *scratch = None;
                *scratch = Some(Scratch { batch, seq_len, state: runner.new_state(batch, seq_len).await? });
            }
            let Some(Scratch { state, .. }) = scratch else { unreachable!("it was made above") };
            runner.set_state(state, initial);
            run_or_pass(runner, &call, state, wants_state, wait).await?
        }
    };

    let mut made = Vec::new();
    if let Some(name) = &node.y {
        made.push((name.as_str(), node.layout.y_outside(y, config.num_directions()).into()));
    }
    if let Some(LstmState { h, c }) = final_state {
        let states = [(&node.h_n, h), (&node.c_n, c)];
        made.extend(states.into_iter().filter_map(|(name, state)| Some((name.as_deref()?, node.layout.state_outside(state).into()))));
    }
    Ok(made)
}

/// Runs the call, or passes the state through where there is nothing to run.
async fn run_or_pass(
    runner: &mut Runner,
    call: &LstmCall<'_>,
    state: &mut NodeState,
    want_state: bool,
    wait: Wait,
) -> Result<(Array3<f32>, Option<LstmState>)> {
    if call.x.is_empty() {
        let y = Array3::zeros((call.seq_len(), call.batch(), runner.config().y_size()));
        let state = if want_state { Some(runner.read_state(state, wait).await?) } else { None };
        return Ok((y, state));
    }
    runner.run(call, state, want_state, wait).await
}

/// The state that the call gives, in the inner order of axes; zero where it gives none.
fn initial_state<'v>(
    node: &LstmNode,
    config: &LstmConfig,
    batch: usize,
    h_0: Option<(&str, TensorView<'v>)>,
    c_0: Option<(&str, TensorView<'v>)>,
) -> Result<LstmState> {
    let mut state = LstmState::try_zeros(config, batch)?;
    for (part, target) in [(&h_0, &mut state.h), (&c_0, &mut state.c)] {
        let Some((name, tensor)) = part else { continue };
        let tensor = tensor.float32(name)?;
        let found = tensor.shape().to_vec();
        let inside: ArrayView3<'_, f32> = node.layout.state_inside(name, tensor)?;
        if inside.dim() != target.dim() {
            let (cells, batch, size) = target.dim();
            let axes = node.layout.state_axes();
            let expected = if node.layout == Layout::OnnxBatchFirst { [batch, cells, size] } else { [cells, batch, size] };
            return Err(Error::shape(format!("tensor `{name}`: expected {axes} = {expected:?}, found {found:?}")));
        }
        target.assign(&inside);
    }
    Ok(state)
}
