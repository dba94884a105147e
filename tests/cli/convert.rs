//! State dicts of whole modules, and `convert`.

use std::fs;

use ndarray::Array2;
use safetensors::tensor::Dtype;

use super::onnx::{model, onnx_weights, onnx_x};
use super::*;

const IDS: usize = 7;
const TAGS: usize = 3;

/// An embedding, the usual LSTM and a linear layer.
fn tagger(root: &str) -> Weights {
    let mut tensors: Weights = weights(INPUT, HIDDEN, 0.5).into_iter().map(|(name, tensor)| (format!("{root}lstm.{name}"), tensor)).collect();
    for (name, shape) in [("embedding.weight", vec![IDS, INPUT]), ("fc.weight", vec![TAGS, HIDDEN]), ("fc.bias", vec![TAGS])] {
        let bytes = numbers(shape.iter().product(), 1.0).into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.insert(format!("{root}{name}"), (Dtype::F32, shape, bytes));
    }
    tensors
}

const STAGES: &str = r#"[{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc", "function": "log_softmax"}]"#;

fn with_ids() -> Folder {
    let folder = Folder::new();
    folder.put("tagger.safetensors", &safetensors(&tagger("module."), None));
    let ids = Array2::from_shape_fn((STEPS, ROWS), |(t, n)| ((t * 3 + n * 5) % IDS) as i64);
    folder.tensor("ids.npy", ids);
    folder
}

#[test]
fn a_state_dict_runs_and_is_converted() {
    let folder = with_ids();
    let run = |model: &str, out: &str, flags: &[&str]| {
        folder.succeeds(&[&["run", model, "--input", "ids.npy", "--out", out, "--device", "cpu"], flags].concat());
        folder.read(&format!("{out}/y.npy"))
    };
    let plain = run("tagger.safetensors", "plain", &[]);
    assert_eq!(plain.shape(), [STEPS, ROWS, TAGS]);
    let scores = run("tagger.safetensors", "scores", &["--network", STAGES]);
    assert!(scores.iter().all(|&value| value < 0.0) && scores != plain);
    let said = text(&folder.cellgate(&["inspect", "tagger.safetensors", "--device", "cpu"]).stdout);
    assert!(said.contains("inferred from names and shapes: embedding `embedding` [7, 3], then LSTM `lstm`, then linear `fc` [3, 4]"), "{said}");

    let report = folder.json(&["convert", "tagger.safetensors", "whole.safetensors", "--network", STAGES]);
    assert_eq!((&report["complete"], &report["num_tensors"], &report["precision"]), (&Value::from(true), &Value::from(7), &Value::from("f32")));
    let kinds: Vec<&str> = report["stages"].as_array().unwrap().iter().map(|stage| stage["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["embedding", "lstm", "linear"]);
    assert_eq!(run("whole.safetensors", "whole", &[]), scores);
    assert_eq!(folder.json(&["verify", "whole.safetensors", "--device", "cpu"])["passed"], true);
    folder.succeeds(&["convert", "whole.safetensors", "again.safetensors"]);
    assert_eq!(fs::read(folder.path("again.safetensors")).unwrap(), fs::read(folder.path("whole.safetensors")).unwrap());

    folder.succeeds(&["convert", "whole.safetensors", "half.safetensors", "--precision", "f16"]);
    assert!(fs::metadata(folder.path("half.safetensors")).unwrap().len() < fs::metadata(folder.path("whole.safetensors")).unwrap().len());
    let half = run("half.safetensors", "half", &[]);
    assert!(half != scores && half.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 0.02));
}

#[test]
fn one_lstm_is_taken_out() {
    let folder = with_ids();
    let two: Weights = [("a.", 0.5), ("b.", 0.3)]
        .into_iter()
        .flat_map(|(prefix, scale)| weights(INPUT, HIDDEN, scale).into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor)))
        .collect();
    folder.put("two.safetensors", &safetensors(&two, None));
    folder.run_fails("two.safetensors", &["x.npy"], &["found 2", "`a.`, `b.`", "--network", "--prefix a."]);
    let run = |model: &str, flags: &[&str], out: &str| {
        folder.succeeds(&[&["run", model, "--input", "x.npy", "--out", out, "--device", "cpu"], flags].concat());
        folder.read(&format!("{out}/y.npy"))
    };
    let expected = run("model.safetensors", &[], "expected");
    assert_eq!(run("two.safetensors", &["--prefix", "a."], "a"), expected);
    assert_eq!(run("tagger.safetensors", &["--prefix", "module.lstm."], "lstm"), expected);
    assert_ne!(run("two.safetensors", &["--prefix", "b"], "b"), expected);
    folder.fails(&["inspect", "two.safetensors", "--prefix", "c."], &["prefix `c.`", "`a.`, `b.`"]);
    folder.succeeds(&["convert", "two.safetensors", "b.safetensors", "--prefix", "b."]);
    assert_eq!(run("b.safetensors", &[], "converted"), folder.read("b/y.npy"));
}

#[test]
fn an_onnx_model_is_converted() {
    let folder = Folder::new();
    let [w, r] = onnx_weights();
    folder.put("model.onnx", &model("Y", &[w, r, onnx_x()]));
    let output = folder.cellgate(&["convert", "model.onnx", "onnx.safetensors"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("onnx.safetensors: the whole network, 2 tensors"), "{stdout}");
    assert!(stderr.contains("note: input `X` is `x` in the file") && stderr.contains("note: output `Y` has other axes"), "{stderr}");
    folder.succeeds(&["run", "model.onnx", "--input", "X=x.npy", "--output", "Y=a.npy", "--device", "cpu"]);
    folder.succeeds(&["run", "onnx.safetensors", "--input", "x=x.npy", "--output", "y=b.npy", "--device", "cpu"]);
    let a = folder.read("a.npy").remove_axis(ndarray::Axis(1));
    assert_eq!(a, folder.read("b.npy"));
    folder.fails(&["inspect", "model.onnx", "--prefix", "a."], &["prefix", "model.onnx", "safetensors"]);
    folder.fails(&["inspect", "model.onnx", "--network", "[]"], &["list of stages", "model.onnx", "safetensors"]);
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = with_ids();
    folder.fails(&["convert", "model.safetensors", "model.safetensors"], &["model.safetensors", "another file than the model"]);
    folder.fails(&["convert", "model.safetensors", "./model.safetensors"], &["another file than the model"]);
    folder.fails(&["convert", "model.safetensors", "out.onnx"], &["out.onnx", ".safetensors"]);
    folder.fails(&["convert", "model.safetensors", "none/out.safetensors"], &["none/out.safetensors", "cannot write"]);
    folder.fails(&["convert", "none.safetensors", "out.safetensors"], &["none.safetensors", "cannot read"]);
    let mut large = weights(INPUT, HIDDEN, 0.5);
    large.get_mut("weight_hh_l0").unwrap().2[..4].copy_from_slice(&1e6_f32.to_le_bytes());
    folder.put("large.safetensors", &safetensors(&large, None));
    folder.fails(&["convert", "large.safetensors", "out.safetensors", "--precision", "f16"], &["65504", "`weight_hh_l0`"]);
    fs::create_dir(folder.path("folder.safetensors")).unwrap();
    folder.fails(&["convert", "model.safetensors", "folder.safetensors"], &["folder.safetensors", "it is a folder"]);
}
