//! Cases of whole networks: a folder with a model, its inputs and what must come out.

use std::path::{Path, PathBuf};

use cellgate::compare::Tolerance;
use cellgate::formats::npy;
use cellgate::{Engine, Network, Outputs, Session, Tensor};
use libtest_mimic::Failed;
use ndarray::{ArrayD, Axis, concatenate};

use crate::common::{Case, inputs, options};

/// What networks are held to. Their judge, ONNX Runtime, computes in float32 as a device does, each in its own order of summation: values that
/// thousands of operations stand behind differ by some 1e-5, those of the committed cases by far less.
const PLAIN: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

/// ONNX Runtime quantises the activations of such a model while it runs, with scales of its own choice, which the file does not have;
/// a float32 LSTM with the same quantised weights lies up to 6e-3 away.
const QUANTISED: Tolerance = Tolerance { atol: 1e-2, rtol: 1e-2 };

/// What should come out was rounded to float16, 2^-11 of the value, and so was what goes in between; twice that for both.
const HALF: Tolerance = Tolerance { atol: 1e-3, rtol: 1e-3 };

/// Cases whose results are stored as, or were rounded to, float16; other `half` cases have float16 weights alone.
const ROUNDED_TO_HALF: &[&str] = &["half-if-data", "half-tagger", "onnx-half-all", "onnx-half-inside"];

/// Tensors by name.
pub(crate) type Tensors = Vec<(String, Tensor)>;

/// A case, read.
#[derive(Clone)]
pub(crate) struct NetworkCase {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) inputs: Tensors,
    pub(crate) outputs: Tensors,
}

/// The folder of the models of other projects.
pub(crate) fn models() -> PathBuf {
    own().join("models")
}

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks")
}

/// The project's own cases, the models of others, and what is in the folders that the environment variable `CELLGATE_NETWORKS` lists.
pub(crate) fn cases() -> Vec<Case> {
    let others = std::env::var_os("CELLGATE_NETWORKS").unwrap_or_default();
    let others = std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty());
    let mut cases = generated();
    cases.extend(std::iter::once(models()).chain(others).flat_map(|folder| cases_in(&folder)));
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// The project's own cases.
pub(crate) fn generated() -> Vec<Case> {
    cases_in(&own().join("cases"))
}

fn cases_in(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let cases: Vec<Case> = entries.filter_map(|entry| Case::open(&entry.expect("a folder can be listed").path())).collect();
    assert!(!cases.is_empty(), "{}: no case in it", folder.display());
    cases
}

impl NetworkCase {
    /// Reads the arrays of a case. `names.json` has the names of tensors that cannot be names of files.
    pub(crate) fn read(case: &Case) -> Result<Self, Failed> {
        let folder = case.model.parent().ok_or("a model outside any folder")?;
        let names: serde_json::Value = match std::fs::read(folder.join("names.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => serde_json::Value::Null,
        };
        let read = |key: &str, files: &[(String, PathBuf)]| -> Result<Tensors, Failed> {
            let named = |(name, path): &(String, PathBuf)| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                Ok((names[key][file.as_ref()].as_str().unwrap_or(name).to_owned(), npy::read(path)?))
            };
            files.iter().map(named).collect()
        };
        let (inputs, outputs) = (read("inputs", &case.inputs)?, read("outputs", &case.outputs)?);
        if outputs.is_empty() {
            return Err("the case has no expected output".into());
        }
        Ok(Self { name: case.name.clone(), model: case.model.clone(), inputs, outputs })
    }

    /// The case of this name among the project's own or the models of others.
    pub(crate) fn named(name: &str) -> Result<Self, Failed> {
        let folder = [own().join("cases"), models()].map(|folder| folder.join(name)).into_iter().find(|folder| folder.is_dir());
        let case = folder.and_then(|folder| Case::open(&folder)).ok_or_else(|| format!("there is no case called {name}"))?;
        Self::read(&case)
    }

    pub(crate) fn network(&self) -> Result<Network, Failed> {
        Ok(Network::open(&self.model)?)
    }

    /// Whether its bound is a wider one than most cases have.
    pub(crate) fn is_loose(&self) -> bool {
        self.tolerance() != PLAIN
    }

    pub(crate) fn tolerance(&self) -> Tolerance {
        if self.name.starts_with("quant-") {
            QUANTISED
        } else if ROUNDED_TO_HALF.contains(&self.name.as_str()) {
            HALF
        } else {
            PLAIN
        }
    }
}

/// A session of `network` with the options of this trial.
pub(crate) fn session(engine: &Engine, network: &Network) -> Result<Session, Failed> {
    Ok(engine.session(network, options(engine, network))?)
}

pub(crate) fn run(session: &mut Session, tensors: &Tensors) -> cellgate::Result<Outputs> {
    session.run(&inputs(tensors))
}

/// `tensors` with `change` made to each along its batch axis; those that have none stay.
pub(crate) fn along_batch(
    network: &Network,
    tensors: &Tensors,
    change: impl Fn(&ArrayD<f32>, Axis) -> ArrayD<f32>,
    bytes: impl Fn(&ArrayD<u8>, Axis) -> ArrayD<u8>,
) -> Result<Tensors, Failed> {
    let changed = |(name, tensor): &(String, Tensor)| {
        let tensor = match (batch_axis(network, name), tensor) {
            (None, tensor) => tensor.clone(),
            (Some(axis), Tensor::F32(array)) => change(array, axis).into(),
            (Some(axis), Tensor::U8(array)) => bytes(array, axis).into(),
            (Some(_), other) => return Err(format!("`{name}`: {} has no batch to change", other.view().element_type()).into()),
        };
        Ok((name.clone(), tensor))
    };
    tensors.iter().map(changed).collect()
}

/// The axis that the model calls `batch` of the input or output `name`.
pub(crate) fn batch_axis(network: &Network, name: &str) -> Option<Axis> {
    let port = network.inputs().iter().chain(network.outputs()).find(|port| port.name == name)?;
    port.axes.iter().position(|axis| axis.to_string() == "batch").map(Axis)
}

/// `array` as often one after another as makes `rows` rows.
pub(crate) fn tiled<A: Clone>(array: &ArrayD<A>, axis: Axis, rows: usize) -> ArrayD<A> {
    let times = rows / array.len_of(axis);
    assert_eq!(times * array.len_of(axis), rows, "the rows of the case go into {rows}");
    concatenate(axis, &vec![array.view(); times]).expect("arrays of one shape")
}

/// One row of `array`, as a batch.
pub(crate) fn row<A: Clone>(array: &ArrayD<A>, axis: Axis, row: usize) -> ArrayD<A> {
    array.select(axis, &[row])
}
