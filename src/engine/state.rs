//! The states that a session carries from call to call.

use std::fmt;

use ndarray::Array3;

use crate::engine::runner::NodeState;
use crate::error::{Error, Result};
use crate::network::{LstmConfig, LstmState};

/// Hidden and cell states of every LSTM of a session, kept on its device between calls. Made by [`Session::state`](crate::Session::state).
///
/// A call that fails on the way, or whose future is dropped before its end, leaves some parts of the state moved and others not.
/// Such a state is refused until [`Session::write_state`](crate::Session::write_state) writes all of it anew, and so is one that went with a device
/// that was lost.
pub struct State {
    pub(super) session: u64,
    pub(super) batch: usize,
    /// absent where a node's initial state is made by another node
    pub(super) nodes: Vec<Option<NodeState>>,
    /// whether a call began to move the state and did not come to its end
    pub(super) torn: bool,
}

/// The states of one LSTM on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostState {
    /// the LSTM's node name
    pub node: String,
    /// `[L*D, N, R]`
    pub h: Array3<f32>,
    /// `[L*D, N, H]`
    pub c: Array3<f32>,
}

impl State {
    /// Rows.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// A host state of `batch` rows, checked.
pub(super) fn host_state(config: &LstmConfig, batch: usize, value: &HostState) -> Result<LstmState> {
    for (name, found, size) in [("h", &value.h, config.out_size()), ("c", &value.c, config.hidden_size)] {
        let expected = [config.num_cells(), batch, size];
        if found.shape() != expected {
            return Err(Error::shape(format!(
                "state `{name}` of `{}`: expected [num_layers, batch, size] = {expected:?}, found {:?}",
                value.node,
                found.shape()
            )));
        }
    }
    Ok(LstmState { h: value.h.clone(), c: value.c.clone() })
}
