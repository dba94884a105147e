//! One call of an LSTM stack, as every backend takes it: the inner order of axes, everything checked.

use ndarray::{Array3, ArrayView3};

use crate::error::{Error, Result};
use crate::network::LstmConfig;

/// The input of one call.
#[derive(Clone, Debug)]
pub(crate) struct LstmCall<'a> {
    /// `[T, N, I]`, any strides
    pub(crate) x: ArrayView3<'a, f32>,
    /// `[N]`, each at most T; `None`: every row has length T
    pub(crate) sequence_lens: Option<Vec<u32>>,
}

/// Hidden and cell states of a stack on the host, before or after a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LstmState {
    /// `[L*D, N, R]`
    pub(crate) h: Array3<f32>,
    /// `[L*D, N, H]`
    pub(crate) c: Array3<f32>,
}

impl LstmCall<'_> {
    /// T
    pub(crate) fn seq_len(&self) -> usize {
        self.x.dim().0
    }

    /// N
    pub(crate) fn batch(&self) -> usize {
        self.x.dim().1
    }

    /// The length of row `n`.
    pub(crate) fn len(&self, n: usize) -> usize {
        self.sequence_lens.as_ref().map_or(self.seq_len(), |lens| lens[n] as usize)
    }
}

impl LstmState {
    /// The state before the first step where none is given: zeros.
    pub(crate) fn zeros(config: &LstmConfig, batch: usize) -> Self {
        let cells = config.num_cells();
        Self { h: Array3::zeros((cells, batch, config.out_size())), c: Array3::zeros((cells, batch, config.hidden_size)) }
    }

    /// The state made of what was given; a part that was not is zero.
    pub(crate) fn from_parts(
        config: &LstmConfig,
        batch: usize,
        h_0: Option<(&str, ArrayView3<'_, f32>)>,
        c_0: Option<(&str, ArrayView3<'_, f32>)>,
    ) -> Result<Self> {
        let mut state = Self::zeros(config, batch);
        for (part, target) in [(h_0, &mut state.h), (c_0, &mut state.c)] {
            if let Some((name, part)) = part {
                if part.dim() != target.dim() {
                    return Err(Error::shape(format!(
                        "tensor `{name}`: expected [num_layers*num_directions, batch, size] = {:?}, found {:?}",
                        target.shape(),
                        part.shape()
                    )));
                }
                target.assign(&part);
            }
        }
        Ok(state)
    }
}
