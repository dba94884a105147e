//! Calls that cannot be: an error of kind `Shape` that names the thing, no panic, and the session goes on as before.

use cellgate::{Engine, ErrorKind, Tensor};
use libtest_mimic::{Failed, Trial};
use ndarray::{ArrayD, Axis, IxDyn};

use crate::case::{NetworkCase, Tensors, run, session};
use crate::common::{TestDevice, trial};
use crate::verdict::same;

/// What is done to one input of a case's call, and words of the error that must follow.
struct Refusal {
    network: &'static str,
    input: &'static str,
    change: Change,
    words: &'static [&'static str],
}

enum Change {
    /// the call leaves it out
    Missing,
    /// the call has one more, under this name
    Unknown(&'static str),
    /// of another type
    Float64,
    /// zeros of another shape
    Zeros(&'static [usize]),
    /// one axis more, at the front
    MoreAxes,
    /// its first element is another
    Id(i64),
}

use Change::{Float64, Id, Missing, MoreAxes, Unknown, Zeros};

const fn refusal(network: &'static str, input: &'static str, change: Change, words: &'static [&'static str]) -> Refusal {
    Refusal { network, input, change, words }
}

const REFUSALS: &[Refusal] = &[
    refusal("byte-bilstm", "input", Missing, &["`input`", "missing"]),
    refusal("byte-bilstm", "input", Unknown("inputs"), &["`inputs`", "`input`"]),
    refusal("byte-bilstm", "input", Float64, &["`input`", "uint8", "float64"]),
    refusal("byte-bilstm", "input", MoreAxes, &[]),
    refusal("silero-vad", "state", Missing, &["`state`", "missing"]),
    refusal("silero-vad", "sr", Float64, &["`sr`", "int64", "float64"]),
    refusal("silero-vad", "input", MoreAxes, &[]),
    // the state of another number of rows reaches the LSTM, that of another size too
    refusal("silero-vad", "state", Zeros(&[2, 3, 128]), &["[1, 8, 128]", "[1, 3, 128]"]),
    refusal("silero-vad", "state", Zeros(&[2, 8, 127]), &["[1, 8, 128]", "[1, 8, 127]"]),
    refusal("dtln-1", "input_3", Missing, &["`input_3`", "missing"]),
    refusal("dtln-1", "input_2", Zeros(&[1, 1, 200]), &["257", "200"]),
    refusal("dtln-1", "input_3", Zeros(&[1, 2, 64, 2]), &["128", "64"]),
    // an operator in the middle: the image is 20 high, and 5 rows of features are not 4
    refusal("torch-crnn-op11", "x", Zeros(&[1, 1, 24, 40]), &["24", "40"]),
    // a product of matrices before the LSTM, and what is added to its result
    refusal("torch-denoiser-op12", "mag", Zeros(&[2, 3, 16]), &["/norm/"]),
    refusal("torch-residual-op11", "x", Zeros(&[7, 3, 9]), &["8", "9"]),
    refusal("torch-residual-op11", "x", MoreAxes, &["[1, 7, 3, 8]"]),
    // inside the body of a loop, and of a branch
    refusal("torch-cell-loop-op13", "x", Zeros(&[3, 6, 5]), &[]),
    refusal("tf2onnx-hard-sigmoid", "keras_tensor", Zeros(&[3, 6, 5]), &[]),
    refusal("torch-if-data-pos-op17", "x", Zeros(&[3, 6, 5]), &["/LSTM", "4", "5"]),
    refusal("onnx-if-shared", "flag", Float64, &["`flag`", "bool", "float64"]),
    refusal("onnx-runtime-weights-bi", "R", Zeros(&[2, 32, 7]), &["32", "7"]),
    refusal("torch-lm-op13", "ids", Id(30), &["30"]),
    refusal("torch-lm-op13", "ids", Id(-31), &["-31", "30"]),
    refusal("torch-lm-op13", "ids", MoreAxes, &[]),
    refusal("torch-packed-unsorted-op17", "lengths", Id(8), &["8"]),
    refusal("tf2onnx-embedding-mask-pre", "keras_tensor", Id(20), &["20"]),
];

pub(crate) fn trials(device: &TestDevice) -> Vec<Trial> {
    let of = |number: usize, refusal: &'static Refusal| {
        let name = format!("refused/{number:02}-{}-{}", refusal.network, refusal.input);
        trial(device, &name, move |engine| refuse(engine, refusal))
    };
    REFUSALS.iter().enumerate().map(|(number, refusal)| of(number, refusal)).collect()
}

fn refuse(engine: &Engine, refusal: &Refusal) -> Result<(), Failed> {
    let case = NetworkCase::named(refusal.network)?;
    let mut session = session(engine, &case.network()?)?;
    let before = run(&mut session, &case.inputs)?;
    let Err(error) = run(&mut session, &refusal.changed(&case.inputs)?) else { return Err("no error".into()) };
    let text = error.to_string();
    if error.kind() != ErrorKind::Shape {
        return Err(format!("{:?}, expected Shape: {text}", error.kind()).into());
    }
    if let Some(word) = refusal.words.iter().find(|word| !text.contains(**word)) {
        return Err(format!("no `{word}` in: {text}").into());
    }
    // a tensor, an operator or a node by its name
    if !text.contains(['`', '"']) {
        return Err(format!("no name in: {text}").into());
    }
    if text.contains('\n') || text.ends_with('.') {
        return Err(format!("expected one line without a full stop, found: {text}").into());
    }
    same("the call after the error", &run(&mut session, &case.inputs)?, &before)
}

impl Refusal {
    fn changed(&self, tensors: &Tensors) -> Result<Tensors, Failed> {
        let mut tensors = tensors.clone();
        let place = tensors.iter().position(|(name, _)| name == self.input).ok_or_else(|| format!("no input `{}`", self.input))?;
        let tensor = &mut tensors[place].1;
        match self.change {
            Missing => drop(tensors.remove(place)),
            Unknown(name) => {
                let copy = tensor.clone();
                tensors.push((name.to_owned(), copy));
            }
            Float64 => *tensor = ArrayD::<f64>::zeros(tensor.view().shape()).into(),
            Zeros(shape) => *tensor = ArrayD::<f32>::zeros(IxDyn(shape)).into(),
            MoreAxes => match tensor {
                Tensor::F32(array) => array.insert_axis_inplace(Axis(0)),
                Tensor::I64(array) => array.insert_axis_inplace(Axis(0)),
                Tensor::U8(array) => array.insert_axis_inplace(Axis(0)),
                other => return Err(format!("{}", other.view().element_type()).into()),
            },
            Id(id) => match tensor {
                Tensor::I32(array) => *array.first_mut().ok_or("no element")? = i32::try_from(id)?,
                Tensor::I64(array) => *array.first_mut().ok_or("no element")? = id,
                other => return Err(format!("{}", other.view().element_type()).into()),
            },
        }
        Ok(tensors)
    }
}
