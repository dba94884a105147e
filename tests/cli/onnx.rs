//! ONNX models, in the few messages of their protobuf that a test needs.

use std::fs;

use super::{Folder, HIDDEN, INPUT, ROWS, STEPS, config, numbers};

/// A field of protobuf that is a message or bytes.
fn bytes(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn number(tag: u8, value: u64) -> Vec<u8> {
    [&[tag << 3][..], &varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An input or output of a graph: float32, axes `None` where the model does not fix them.
fn port(name: &str, axes: &[Option<u64>]) -> Vec<u8> {
    let axis = |axis: &Option<u64>| bytes(1, &axis.map_or_else(Vec::new, |size| number(1, size)));
    let shape: Vec<u8> = axes.iter().flat_map(axis).collect();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn weight(name: &str, axes: &[u64], values: &[f32]) -> Vec<u8> {
    let axes: Vec<u8> = axes.iter().flat_map(|&size| number(1, size)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [axes, number(2, 1), bytes(8, name.as_bytes()), bytes(9, &raw)].concat()
}

/// A model with one LSTM node over `X`, `W`, `R`; `parts` are the initializers and inputs of the graph.
pub(super) fn model(output: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    // AttributeProto: name, i, type = INT
    let hidden_size = [bytes(1, b"hidden_size"), number(3, HIDDEN as u64), vec![0xA0, 0x01, 0x02]].concat();
    let inputs = ["X", "W", "R"].map(|name| bytes(1, name.as_bytes())).concat();
    let node = [inputs, bytes(2, output.as_bytes()), bytes(4, b"LSTM"), bytes(5, &hidden_size)].concat();
    let graph = [bytes(1, &node), bytes(2, b"graph"), parts.concat(), bytes(12, &port(output, &[None; 4]))].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 14))].concat()
}

pub(super) fn onnx_weights() -> [Vec<u8>; 2] {
    let (input, hidden) = (INPUT as u64, HIDDEN as u64);
    [
        bytes(5, &weight("W", &[1, 4 * hidden, input], &numbers(16 * INPUT, 0.5))),
        bytes(5, &weight("R", &[1, 4 * hidden, hidden], &numbers(16 * HIDDEN, 0.5))),
    ]
}

pub(super) fn onnx_x() -> Vec<u8> {
    bytes(11, &port("X", &[None, None, Some(INPUT as u64)]))
}

#[test]
fn an_onnx_model_goes_all_the_way() {
    let folder = Folder::new();
    let [w, r] = onnx_weights();
    folder.put("model.onnx", &model("Y=1", &[w, r, onnx_x()]));
    assert_eq!(folder.json(&["inspect", "model.onnx", "--device", "cpu"])["format"], "onnx");
    folder.succeeds(&["run", "model.onnx", "--input", "x.npy", "--out", "out", "--device", "cpu"]);
    assert_eq!(folder.read("out/Y=1.npy").shape(), [STEPS, 1, ROWS, HIDDEN]);
    folder.succeeds(&["run", "model.onnx", "--input", "X=x.npy", "--output", "Y=1=y.npy", "--device", "cpu"]);
    assert_eq!(folder.read("y.npy"), folder.read("out/Y=1.npy"));
    assert_eq!(folder.json(&["verify", "model.onnx", "--device", "cpu"])["passed"], true);
    folder.fails(&["inspect", "model.onnx", "--config", &config(INPUT, HIDDEN)], &["--config", "model.onnx", "safetensors"]);
    folder.fails(&["inspect", "model.onnx", "--batch-first"], &["--batch-first", "found onnx", "model.onnx"]);
}

#[test]
fn weights_may_come_with_the_call() {
    let folder = Folder::new();
    let (input, hidden) = (INPUT as u64, HIDDEN as u64);
    let port = |name, axes: &[u64]| bytes(11, &port(name, &axes.iter().map(|&size| Some(size)).collect::<Vec<_>>()));
    let parts = [onnx_x(), port("W", &[1, 4 * hidden, input]), port("R", &[1, 4 * hidden, hidden])];
    folder.put("model.onnx", &model("Y", &parts));
    assert_eq!(folder.json(&["inspect", "model.onnx", "--device", "cpu"])["lstms"][0]["weights"], "run-time");
    assert_eq!(folder.json(&["verify", "model.onnx", "--device", "cpu"])["inputs"].as_array().unwrap().len(), 3);
    folder.run_fails("model.onnx", &["x.npy"], &["`X`, `W`, `R`", "NAME=x.npy"]);
    folder.run_fails("model.onnx", &["X=x.npy"], &["`W`", "missing", "float32 [1, 16, 3]", "--input W=FILE.npy"]);
    folder.fails(&["explain", "model.onnx", "--batch", "1", "--seq-len", "1", "--device", "cpu"], &["weights"]);
}

#[test]
fn names_of_outputs_do_not_lead_out_of_the_folder() {
    let folder = Folder::new();
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("evil");
    for name in ["../evil", absolute.to_str().unwrap(), "a/b", ".."] {
        let [w, r] = onnx_weights();
        folder.put("model.onnx", &model(name, &[w, r, onnx_x()]));
        folder.run_fails("model.onnx", &["x.npy"], &[name, "--output NAME=FILE.npy"]);
        let output = format!("{name}=y.npy");
        folder.succeeds(&["run", "model.onnx", "--input", "x.npy", "--output", &output, "--device", "cpu"]);
        fs::remove_file(folder.path("y.npy")).unwrap();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
