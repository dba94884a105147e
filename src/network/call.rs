//! One call of an LSTM stack, as every backend takes it: the inner order of axes, everything checked.

use ndarray::{Array3, ArrayView3, ArrayViewMut3, ArrayViewMut4, LinalgScalar, Zip, s};

use crate::error::{Error, Result};
use crate::network::LstmConfig;

/// The input of one call.
#[derive(Clone, Debug)]
pub(crate) struct LstmCall<'a> {
    /// `[T, N, I]`, any strides
    pub(crate) x: ArrayView3<'a, f32>,
    /// `[N]`, each at most T; `None`: every row has length T
    pub(crate) sequence_lens: Option<&'a [u32]>,
}

/// Where the states of a call start; any strides, zeros where one is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct InitialState<'a> {
    /// `[L*D, N, R]`
    pub(crate) h: Option<ArrayView3<'a, f32>>,
    /// `[L*D, N, H]`
    pub(crate) c: Option<ArrayView3<'a, f32>>,
}

/// Where the results of a call go; any strides, what is absent is not wanted. Every element is written.
#[derive(Debug, Default)]
pub(crate) struct LstmResults<'a> {
    /// `[T, N, D, R]`
    pub(crate) y: Option<ArrayViewMut4<'a, f32>>,
    /// `[L*D, N, R]`
    pub(crate) h_n: Option<ArrayViewMut3<'a, f32>>,
    /// `[L*D, N, H]`
    pub(crate) c_n: Option<ArrayViewMut3<'a, f32>>,
}

/// Hidden and cell states of a stack on the host, before or after a call. The reference keeps them in `f64`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LstmState<E = f32> {
    /// `[L*D, N, R]`
    pub(crate) h: Array3<E>,
    /// `[L*D, N, H]`
    pub(crate) c: Array3<E>,
}

impl InitialState<'_> {
    /// Whether no state is given.
    pub(crate) fn is_zero(&self) -> bool {
        self.h.is_none() && self.c.is_none()
    }
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
        self.sequence_lens.map_or(self.seq_len(), |lens| lens[n] as usize)
    }
}

/// Checks that this machine could hold arrays of `E` of these shapes, each one in one piece; nothing is kept. `what` they are, axis by axis, goes into
/// the error.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where a length overflows or the allocator refuses it, which it would otherwise end the process for.
pub(crate) fn check_room<E>(what: &str, shapes: impl IntoIterator<Item: AsRef<[usize]>>) -> Result<()> {
    for shape in shapes {
        let shape = shape.as_ref();
        // an axis of 0 makes an array empty, but the others still have to make an index
        let len = shape.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis.max(1)));
        let room = |len: usize| {
            let empty = shape.contains(&0) && len.checked_mul(size_of::<E>()).is_some_and(|bytes| isize::try_from(bytes).is_ok());
            empty || Vec::<E>::new().try_reserve_exact(len).is_ok()
        };
        if !len.is_some_and(room) {
            return Err(Error::limit(format!("{what} {shape:?}: more than this machine can hold")));
        }
    }
    Ok(())
}

impl<E: LinalgScalar> LstmState<E> {
    /// As [`LstmState::zeros`], for a batch that may be of any size.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where this machine cannot hold it.
    pub(crate) fn try_zeros(config: &LstmConfig, batch: usize) -> Result<Self> {
        Self::check_room(config, batch)?;
        Ok(Self::zeros(config, batch))
    }

    /// Checks that this machine could hold states of `batch` rows, without making them.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where it could not.
    pub(crate) fn check_room(config: &LstmConfig, batch: usize) -> Result<()> {
        let shapes = [config.out_size(), config.hidden_size].map(|size| [config.num_cells(), batch, size]);
        check_room::<E>("states [num_layers * num_directions, batch, size]", shapes)
    }

    /// Puts the initial states of a call in the place of these.
    pub(crate) fn start(&mut self, initial: &InitialState<'_>)
    where
        E: From<f32>,
    {
        for (target, given) in [(&mut self.h, &initial.h), (&mut self.c, &initial.c)] {
            match given {
                Some(given) => Zip::from(target).and(given).for_each(|target, &given| *target = given.into()),
                None => target.fill(E::zero()),
            }
        }
    }

    /// Puts `values`, states of one row, in the place of those of row `row`.
    pub(crate) fn set_row(&mut self, row: usize, values: &Self) {
        self.h.slice_mut(s![.., row..=row, ..]).assign(&values.h);
        self.c.slice_mut(s![.., row..=row, ..]).assign(&values.c);
    }

    /// The state before the first step where none is given: zeros.
    pub(crate) fn zeros(config: &LstmConfig, batch: usize) -> Self {
        let cells = config.num_cells();
        Self { h: Array3::zeros((cells, batch, config.out_size())), c: Array3::zeros((cells, batch, config.hidden_size)) }
    }
}
