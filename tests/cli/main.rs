//! The command line program from outside: what it prints, what it writes, how it exits.
//!
//! Everything here runs on the CPU and the reference; what needs a GPU stands elsewhere.

mod bench;
mod convert;
mod onnx;
mod refused;
mod schedules;
mod works;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use cellgate::Tensor;
use cellgate::formats::npy;
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a small model and inputs for it.
struct Folder(TempDir);

const INPUT: usize = 3;
const HIDDEN: usize = 4;
const STEPS: usize = 5;
const ROWS: usize = 2;

type Weights = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Numbers between `-scale` and `scale` in no apparent order.
fn numbers(len: usize, scale: f32) -> Vec<f32> {
    (0..len).map(|k| ((k * 7919 + 31) % 201) as f32 / 100.0 - 1.0).map(|number| number * scale).collect()
}

fn weights(input: usize, hidden: usize, scale: f32) -> Weights {
    let gates = 4 * hidden;
    let shapes = [("weight_ih", vec![gates, input]), ("weight_hh", vec![gates, hidden]), ("bias_ih", vec![gates]), ("bias_hh", vec![gates])];
    let tensor = |(name, shape): (&str, Vec<usize>)| {
        let bytes = numbers(shape.iter().product(), scale).into_iter().flat_map(f32::to_le_bytes).collect();
        (format!("{name}_l0"), (Dtype::F32, shape, bytes))
    };
    shapes.into_iter().map(tensor).collect()
}

fn config(input: usize, hidden: usize) -> String {
    format!(r#"{{"input_size": {input}, "hidden_size": {hidden}}}"#)
}

fn safetensors(weights: &Weights, config: Option<&str>) -> Vec<u8> {
    let metadata = config.map(|json| HashMap::from([("lstm".to_owned(), json.to_owned())]));
    let views = weights.iter().map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, metadata).unwrap()
}

impl Folder {
    /// With `model.safetensors`, `x.npy`, and no more.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("model.safetensors", &safetensors(&weights(INPUT, HIDDEN, 0.5), Some(&config(INPUT, HIDDEN))));
        folder.array("x.npy", &[STEPS, ROWS, INPUT]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn array(&self, name: &str, shape: &[usize]) {
        self.tensor(name, ArrayD::from_shape_vec(IxDyn(shape), numbers(shape.iter().product(), 1.0)).unwrap());
    }

    fn tensor(&self, name: &str, tensor: impl Into<Tensor>) {
        npy::write(&self.path(name), &tensor.into()).unwrap();
    }

    fn read(&self, name: &str) -> ArrayD<f32> {
        npy::read(&self.path(name)).unwrap().as_f32().unwrap().clone()
    }

    /// Runs the program with this folder as the current one.
    fn cellgate(&self, arguments: &[&str]) -> Output {
        program(arguments).current_dir(self.0.path()).output().unwrap()
    }

    /// Runs it where it must succeed; its stdout.
    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.cellgate(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{stdout}\n{stderr}");
        assert!(!stderr.contains("error:"), "{arguments:?}\n{stderr}");
        stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs it where it must fail with one line that has all of `words`, print nothing, and leave the folder as it was.
    #[track_caller]
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let before = self.files();
        let output = self.cellgate(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{stdout}\n{stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{arguments:?}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?}: `{word}` in: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{arguments:?}\n{stderr}");
        assert_eq!(self.files(), before, "{arguments:?} wrote something");
    }

    /// Every file and folder in this one, and when it changed.
    fn files(&self) -> BTreeSet<(PathBuf, std::time::SystemTime)> {
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.path(), entry.metadata().unwrap().modified().unwrap())
        };
        fs::read_dir(self.0.path()).unwrap().map(entry).collect()
    }

    /// `run` of a model on `inputs`, which must fail.
    #[track_caller]
    fn run_fails(&self, model: &str, inputs: &[&str], words: &[&str]) {
        let mut arguments = vec!["run", model, "--device", "cpu", "--out", "out"];
        arguments.extend(inputs.iter().flat_map(|input| ["--input", input]));
        self.fails(&arguments, words);
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellgate"));
    // what was measured on this machine stays out of it
    command.args(arguments).stdin(Stdio::null()).env("CELLGATE_CACHE", "");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn shape(value: &Value) -> Vec<u64> {
    value["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect()
}
