//! What a session is asked for.

use crate::gpu::GpuOptions;
use crate::gpu::form::{Choice, ScheduleName};
use crate::network::Precision;

/// How a session computes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// how the weights of the matrix products are stored on the device
    pub precision: Precision,
    /// the only schedule that a GPU may use; `None`: whichever is expected to be the fastest. A stack that it does not suit is an error.
    pub schedule: Option<ScheduleName>,
    /// one of [`Session::candidates`](crate::Session::candidates), for every call, whatever it is expected to cost; for measurements
    pub choice: Option<Choice>,
    /// whether calls on a GPU are timed by its own clock, for [`Session::profile`](crate::Session::profile); takes 16 bytes a submit
    /// on the device that [`Session::explain`](crate::Session::explain) leaves out
    pub profile: bool,
}

impl Options {
    pub(super) fn gpu(&self) -> GpuOptions {
        GpuOptions { precision: self.precision, schedule: self.schedule, choice: self.choice, profile: self.profile }
    }
}
