//! One call of an LSTM stack, as every backend takes it: the inner order of axes, everything checked.

use ndarray::{Array3, ArrayView3, LinalgScalar};

use crate::network::LstmConfig;

/// The input of one call.
#[derive(Clone, Debug)]
pub(crate) struct LstmCall<'a> {
    /// `[T, N, I]`, any strides
    pub(crate) x: ArrayView3<'a, f32>,
    /// `[N]`, each at most T; `None`: every row has length T
    pub(crate) sequence_lens: Option<Vec<u32>>,
}

/// Hidden and cell states of a stack on the host, before or after a call. The reference keeps them in `f64`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LstmState<E = f32> {
    /// `[L*D, N, R]`
    pub(crate) h: Array3<E>,
    /// `[L*D, N, H]`
    pub(crate) c: Array3<E>,
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

impl<E: LinalgScalar> LstmState<E> {
    /// The state before the first step where none is given: zeros.
    pub(crate) fn zeros(config: &LstmConfig, batch: usize) -> Self {
        let cells = config.num_cells();
        Self { h: Array3::zeros((cells, batch, config.out_size())), c: Array3::zeros((cells, batch, config.hidden_size)) }
    }
}
