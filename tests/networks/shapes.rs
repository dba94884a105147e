//! One session, calls of one shape after another, and of none: no call sees what another left behind.

use cellgate::{Engine, ErrorKind, Tensor};
use libtest_mimic::{Failed, Trial};
use ndarray::{Axis, Slice};

use crate::case::{NetworkCase, Tensors, run, session};
use crate::common::{TestDevice, trial};
use crate::verdict::same;

/// A network and, for each call, how much is taken of which axes of its inputs.
type Calls = (&'static str, &'static [&'static [(&'static str, usize, usize)]]);

/// Networks with segments on the host before, between and behind their LSTMs.
const NETWORKS: &[Calls] = &[
    // batch, then steps, then both
    ("byte-bilstm", &[&[("input", 0, 1)], &[], &[("input", 0, 1)], &[("input", 1, 20)], &[("input", 0, 1), ("input", 1, 7)], &[]]),
    ("silero-vad", &[&[("input", 0, 1), ("state", 1, 1)], &[("input", 0, 3), ("state", 1, 3)], &[("input", 0, 1), ("state", 1, 1)], &[]]),
    ("torch-tagger-op17", &[&[("x", 0, 1)], &[], &[("x", 0, 1)], &[("x", 1, 2)], &[]]),
    // the width of the image is the number of steps
    ("torch-crnn-op11", &[&[("x", 0, 1)], &[], &[("x", 3, 16)], &[("x", 0, 1), ("x", 3, 24)], &[]]),
    ("torch-encdec-op17", &[&[("src", 0, 1), ("tgt", 0, 1)], &[], &[("src", 1, 3)], &[("tgt", 1, 1)], &[]]),
];

/// A network and the inputs of which a call has nothing along an axis.
type Nothing = (&'static str, &'static [(&'static str, usize, usize)]);

const NOTHING: &[Nothing] = &[
    ("byte-bilstm", &[("input", 0, 0)]),
    ("byte-bilstm", &[("input", 1, 0)]),
    ("silero-vad", &[("input", 0, 0), ("state", 1, 0)]),
    ("silero-vad", &[("input", 1, 0)]),
    ("dtln-1", &[("input_2", 1, 0)]),
    ("torch-lm-op13", &[("ids", 0, 0)]),
    ("torch-lm-op13", &[("ids", 1, 0)]),
    ("torch-crnn-op11", &[("x", 0, 0)]),
    ("torch-crnn-op11", &[("x", 3, 0)]),
    ("torch-attention-op17", &[("x", 1, 0)]),
    ("torch-pool-op18", &[("x", 1, 0)]),
    ("torch-cell-loop-op13", &[("x", 1, 0)]),
    ("torch-packed-unsorted-op17", &[("x", 0, 0), ("lengths", 0, 0)]),
    ("tf2onnx-embedding-mask-pre", &[("keras_tensor", 1, 0)]),
    ("keras-masking-seq", &[("keras_tensor", 0, 0)]),
];

pub(crate) fn trials(device: &TestDevice) -> Vec<Trial> {
    let changing = NETWORKS.iter().map(|calls| trial(device, &format!("shapes/{}", calls.0), move |engine| change(engine, calls)));
    let nothing = NOTHING.iter().enumerate().map(|(number, of)| {
        let name = format!("nothing/{number:02}-{}-{}", of.0, of.1[0].0);
        trial(device, &name, move |engine| nothing(engine, of))
    });
    changing.chain(nothing).collect()
}

/// Calls of no rows or no steps: an operator may refuse them, with an error of kind `Shape`, but the session goes on as before.
fn nothing(engine: &Engine, (name, taken): &Nothing) -> Result<(), Failed> {
    let case = NetworkCase::named(name)?;
    let mut session = session(engine, &case.network()?)?;
    let before = run(&mut session, &case.inputs)?;
    let made = run(&mut session, &part(&case.inputs, taken)?);
    if let Some(error) = made.err().filter(|error| error.kind() != ErrorKind::Shape) {
        return Err(format!("{:?}, expected Shape: {error}", error.kind()).into());
    }
    same("the call after it", &run(&mut session, &case.inputs)?, &before)
}

/// Every call gives the bits that a session of its own gives.
fn change(engine: &Engine, (name, calls): &Calls) -> Result<(), Failed> {
    let case = NetworkCase::named(name)?;
    let network = case.network()?;
    let mut all = session(engine, &network)?;
    for (number, taken) in calls.iter().enumerate() {
        let tensors = part(&case.inputs, taken)?;
        let expected = run(&mut session(engine, &network)?, &tensors)?;
        same(&format!("call {number}, {taken:?}"), &run(&mut all, &tensors)?, &expected)?;
    }
    Ok(())
}

/// The first so many of each axis that is named.
fn part(tensors: &Tensors, taken: &[(&str, usize, usize)]) -> Result<Tensors, Failed> {
    let mut tensors = tensors.clone();
    for &(name, axis, len) in taken {
        let (_, tensor) = tensors.iter_mut().find(|(found, _)| found == name).ok_or_else(|| format!("no input `{name}`"))?;
        let (axis, first) = (Axis(axis), Slice::from(..len));
        match tensor {
            Tensor::F32(array) => *array = array.slice_axis(axis, first).to_owned(),
            Tensor::I32(array) => *array = array.slice_axis(axis, first).to_owned(),
            Tensor::I64(array) => *array = array.slice_axis(axis, first).to_owned(),
            Tensor::U8(array) => *array = array.slice_axis(axis, first).to_owned(),
            other => return Err(format!("`{name}`: {}", other.view().element_type()).into()),
        }
    }
    Ok(tensors)
}
