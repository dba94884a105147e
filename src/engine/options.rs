//! What a session is asked for.

use std::path::PathBuf;

use crate::gpu::GpuOptions;
use crate::gpu::form::{Choice, ScheduleName};
use crate::network::Precision;

/// How a session computes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// how the weights of the matrix products are stored on the device
    pub precision: Precision,
    /// the only schedule that a GPU may use; `None`: whichever is expected to be the fastest. A stack that it does not suit is an error. An engine
    /// that holds a GPU and the CPU leaves the LSTMs to the GPU then.
    pub schedule: Option<ScheduleName>,
    /// one of [`Session::candidates`](crate::Session::candidates), for every call, whatever it is expected to cost; for measurements, and like
    /// `schedule` for the GPU alone: without one, and with a form that candidates do not have, an error
    pub choice: Option<Choice>,
    /// whether calls on a GPU are timed by its own clock, for [`Session::profile`](crate::Session::profile); takes 16 bytes a submit
    /// on the device that [`Session::explain`](crate::Session::explain) leaves out
    pub profile: bool,
    /// how a GPU's schedule and its form are chosen
    pub tuning: Tuning,
    /// the folder of the records of [`Session::tune`](crate::Session::tune). `None`: the folder that the environment variable `CELLGATE_CACHE` names
    /// (none at all where that is empty), else `cellgate` in the user's cache directory.
    pub cache: Option<PathBuf>,
    /// the most bytes that a call of an LSTM, or of a layer beside it, may take for its results on the host and, on a GPU, for its buffers there and the
    /// staging of what goes there and comes back. Weights, inputs, states that are carried and what the operators of an ONNX model make on the CPU
    /// do not count. A call that needs more is [`ErrorKind::Limit`](crate::ErrorKind::Limit) before anything is made for it; the message says what would
    /// fit. `None`: as much as there is.
    pub max_call_bytes: Option<u64>,
}

/// How a GPU's schedule and its form are chosen for a number of rows, where [`Options::choice`] does not say.
///
/// The choice decides in which order sums are made, and so the last bits of results. It is made when a session first sees a number of rows,
/// and kept: calls of a session give the same bits as long as nobody calls [`Session::tune`](crate::Session::tune), and states and streams
/// that were made before keep theirs even then. Sessions that are made after a record has changed may differ from earlier ones in the last bits;
/// those with [`Tuning::Model`] do not on the same machine.
///
/// Where an engine holds a GPU and the CPU, the side is chosen likewise, for a number of rows and steps: its model depends on the CPU's threads and
/// vectors, and what is measured are calls on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tuning {
    /// by what a cost model expects of a device of this kind; files are neither read nor written
    Model,
    /// by the record of an earlier [`Session::tune`](crate::Session::tune) where there is one, else as [`Tuning::Model`]
    #[default]
    Recorded,
    /// by the record where there is one, else by measuring for some seconds at the first use of a number of rows, of which a record is made
    AtFirstUse,
}

impl Options {
    /// Whether they say what a GPU is to run, so that no other side will do.
    pub(super) fn name_a_schedule(&self) -> bool {
        self.schedule.is_some() || self.choice.is_some()
    }

    pub(super) fn gpu(&self) -> GpuOptions {
        GpuOptions { precision: self.precision, schedule: self.schedule, profile: self.profile, choice: self.choice }
    }
}
