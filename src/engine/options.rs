//! What a session is asked for.

use std::fmt;

/// How a session computes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// how weights are stored on the device
    pub precision: Precision,
    /// whether calls on a GPU are timed by its own clock, for [`Session::profile`](crate::Session::profile); takes 16 bytes a submit
    /// on the device that [`Session::explain`](crate::Session::explain) leaves out
    pub profile: bool,
}

/// How weights are stored on the device. Sums are `float32` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// `float32`
    #[default]
    F32,
    /// `float16`; not available yet
    F16,
    /// `int8` with a scale for every unit and gate; not available yet
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}
