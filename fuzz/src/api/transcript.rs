//! What came of a plan, thing by thing.

use cellgate::{Error, ErrorKind, HostState, Outputs, Result, Tensor};
use ndarray::ArrayD;

use super::numbers::Level;

/// What one thing that was done came to.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) what: String,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Made(Made),
    /// the same words on every device
    Said(String),
    Refused(ErrorKind, String),
    /// there is no session, state or sequence to do it with
    Nothing,
}

/// Tensors, and where they come from.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) tensors: Vec<(String, ArrayD<f32>)>,
    pub(super) origin: Origin,
}

/// What went into a state so far, or into a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) level: Level,
    /// numbers of the states: where one of them has left what can be judged, so has everything that came of it
    pub(super) states: Vec<usize>,
}

impl Origin {
    pub(super) fn of_state(number: usize) -> Self {
        Self { level: Level::Moderate, states: vec![number] }
    }

    pub(super) fn of(level: Level) -> Self {
        Self { level, states: Vec::new() }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.level = self.level.max(other.level);
        self.states.extend(other.states.iter().filter(|state| !self.states.contains(state)).copied().collect::<Vec<_>>());
    }
}

impl Outcome {
    pub(super) fn of(result: Result<Vec<(String, ArrayD<f32>)>>, origin: &Origin) -> Self {
        match result {
            Ok(tensors) => Self::Made(Made { tensors, origin: origin.clone() }),
            Err(error) => Self::refused(&error),
        }
    }

    pub(super) fn said(result: Result<impl Into<String>>) -> Self {
        result.map_or_else(|error| Self::refused(&error), |words| Self::Said(words.into()))
    }

    pub(super) fn refused(error: &Error) -> Self {
        Self::Refused(error.kind(), error.to_string())
    }
}

/// The results of a call, by name.
pub(super) fn of_outputs(outputs: &Outputs) -> Vec<(String, ArrayD<f32>)> {
    let array = |tensor: &Tensor| tensor.as_f32().expect("networks of weights make float32").clone();
    outputs.iter().map(|(name, tensor)| (name.to_owned(), array(tensor))).collect()
}

/// States, by the name of their LSTM.
pub(super) fn of_states(states: &[HostState]) -> Vec<(String, ArrayD<f32>)> {
    let parts = |state: &HostState| {
        let named = |part: &str| format!("{part} of {}", state.node);
        [(named("h"), state.h.clone().into_dyn()), (named("c"), state.c.clone().into_dyn())]
    };
    states.iter().flat_map(parts).collect()
}

/// Whether both have the same names, shapes and bits; one NaN is like another.
pub(super) fn same_bits(one: &[(String, ArrayD<f32>)], other: &[(String, ArrayD<f32>)]) -> bool {
    let equal = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let same = |a: &ArrayD<f32>, b: &ArrayD<f32>| a.shape() == b.shape() && a.iter().zip(b).all(|(&a, &b)| equal(a, b));
    one.len() == other.len() && one.iter().zip(other).all(|((name, a), (other, b))| name == other && same(a, b))
}

/// Ends the process with what was found.
pub(super) fn finding(text: &str) -> ! {
    eprintln!("{text}");
    panic!("{text}");
}
