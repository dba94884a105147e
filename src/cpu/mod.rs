//! The CPU backend: packed weights, on as many threads as the current rayon pool has.
//!
//! The arithmetic is float32; that of stacks whose rounding errors grow from step to step
//! ([`LstmConfig::amplifies_rounding`](crate::LstmConfig::amplifies_rounding)) is float64 within a step. Between two steps every state is
//! float32, so that a sequence may be cut anywhere.
//!
//! A row's result is the same bits whatever the other rows, their number, and the number of threads: every product sums over its inner
//! axis in an order that depends on that axis alone, and everything else is row by row.

pub(crate) mod cost;
mod dense;
mod fused;
mod lanes;
mod panels;
mod plain;
mod roofline;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::ArrayViewMut4;

use crate::error::Result;
use crate::network::{Lstm, LstmCall, LstmConfig, LstmState, Precision};
use cost::CpuRates;
pub(crate) use dense::CpuDense;
use fused::Plan;
pub(crate) use roofline::peak;

/// A stack with its weights packed for this backend.
pub(crate) struct CpuLstm {
    stack: Stack,
}

/// The ways in which a stack is computed.
enum Stack {
    /// in float32, products and cells fused
    Fused(Arc<fused::Stack>),
    /// in float32, row by row: with layer normalisation
    Single(plain::Stack<f32>),
    /// in float64, row by row
    Double(plain::Stack<f64>),
}

impl CpuLstm {
    /// Packs the weights, stored as `precision` says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where a weight cannot be stored so.
    pub(crate) fn new(lstm: &Lstm, precision: Precision) -> Result<Self> {
        let config = lstm.config();
        let stack = if is_fused(config) {
            lstm.check_stored_as(precision)?;
            Stack::Fused(Arc::new(fused::Stack::new(lstm, precision)))
        } else if config.amplifies_rounding() {
            Stack::Double(plain::Stack::new(&*worth(lstm, precision)?))
        } else {
            Stack::Single(plain::Stack::new(&*worth(lstm, precision)?))
        };
        Ok(Self { stack })
    }

    /// Runs the stack from `state`, which is left as it is after each row's last step, and writes `y [T, N, D, R]` where it is wanted.
    pub(crate) fn run(&self, call: &LstmCall<'_>, state: &mut LstmState, y: Option<ArrayViewMut4<'_, f32>>) {
        match &self.stack {
            Stack::Fused(stack) => stack.run(call, state, y),
            Stack::Single(stack) => stack.run(call, state, y),
            Stack::Double(stack) => stack.run(call, state, y),
        }
    }
}

/// The memory of earlier calls, and the like: nobody leaves it half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether products and cells of a stack are fused: not in float64, nor where normalisation needs the sums of a whole row.
fn is_fused(config: &LstmConfig) -> bool {
    !config.amplifies_rounding() && config.layer_norm.is_none()
}

/// How a call is spread over the threads of the current rayon pool.
pub(crate) fn schedule(config: &LstmConfig, batch: usize, seq_len: usize) -> String {
    if config.amplifies_rounding() {
        "rows over threads, in float64".to_owned()
    } else if config.layer_norm.is_some() {
        "rows over threads, layers normalised".to_owned()
    } else {
        Plan::new(config, batch, seq_len, rayon::current_num_threads(), &CpuRates::of_host()).to_string()
    }
}

/// The stack with its weights at the values that they have once stored.
fn worth(lstm: &Lstm, precision: Precision) -> Result<Cow<'_, Lstm>> {
    if precision == Precision::F32 { Ok(Cow::Borrowed(lstm)) } else { lstm.stored_as(precision).map(Cow::Owned) }
}
