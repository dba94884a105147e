//! Files that are not ONNX, and graphs that make no network.

use super::*;
use crate::formats::onnx::proto::{Skipped, StringStringEntryProto};
use crate::formats::onnx::tensor::INT32;

#[test]
fn other_files_are_named() {
    let cases: [(&[u8], &str); 12] = [
        (b"PK\x03\x04rest", "a zip archive, such as a PyTorch checkpoint or a Keras model"),
        (b"\x80\x02}q\x00", "a Python pickle, such as a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras model"),
        (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, whose file has not been fetched"),
        (b"\n <!DOCTYPE html><html>", "an HTML or XML page"),
        (b"<html><body>404", "an HTML or XML page"),
        (b"<?xml version=", "an HTML or XML page"),
        (b"{\"a\": 1}", "JSON text"),
        (b"", "no graph and operator set in it"),
        (b"\x08\x08", "no graph and operator set in it"),
    ];
    for (bytes, found) in cases {
        let error = super::super::read(bytes, None, false).expect_err("not ONNX");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Format, format!("expected a safetensors or ONNX model, found {found}")));
    }
    let bytes = model().encode_to_vec();
    let error = super::super::read(&bytes[..bytes.len() - 40], None, false).expect_err("half a model");
    assert!(error.to_string().starts_with("expected a safetensors or ONNX model, found data that is damaged or cut off"), "{error}");
    let error = super::super::read(&ModelProto { opset_import: vec![], ..model() }.encode_to_vec(), None, false).expect_err("no opset");
    assert_eq!(error.kind(), ErrorKind::Format);
}

#[test]
fn versions_outside_the_known_ones_are_refused() {
    for version in [7, 22] {
        let opset_import = vec![OperatorSetIdProto { domain: "ai.onnx".to_owned(), version }];
        assert!(read(&ModelProto { opset_import, ..model() }).is_ok());
    }
    for version in [6, 23] {
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version }];
        refused(&ModelProto { opset_import, ..model() }, ErrorKind::Config, &format!("ONNX opset: expected 7 to 22, found {version}"));
    }
    for ir_version in [3, 14, 1000] {
        assert!(read(&ModelProto { ir_version, ..model() }).is_ok());
    }
    for ir_version in [-1, 0, 2] {
        refused(&ModelProto { ir_version, ..model() }, ErrorKind::Config, &format!("ONNX IR version: expected 3 or above, found {ir_version}"));
    }
    let opset_import = vec![OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 }];
    let words = "ONNX operator sets: expected that of domain `ai.onnx`, found only `com.microsoft`";
    refused(&ModelProto { opset_import, ..model() }, ErrorKind::Config, words);
}

#[test]
fn models_without_a_network_are_refused() {
    refused(&model_with(|graph| graph.output.clear()), ErrorKind::Format, "graph: expected at least one output, found none");
    let model = model_with(|graph| graph.sparse_initializer.push(Skipped {}));
    refused(&model, ErrorKind::Config, "sparse initialisers: expected none, found 1; they are not supported yet");
}

#[test]
fn a_graph_without_an_lstm_says_so() {
    let network = read(&model_with(|graph| graph.node = vec![node("Relu", "", &["X"], &["Y"])])).expect("a model");
    assert!(network.notes().iter().any(|note| note == "no LSTM was found in the graph: all of it runs on the CPU"), "{:?}", network.notes());
}

#[test]
fn every_tensor_needs_one_maker() {
    let unmade = model_with(|graph| graph.input.clear());
    refused(&unmade, ErrorKind::Format, "node `lstm`: tensor `X`: expected a maker, found none");
    let unmade = model_with(|graph| graph.node.push(node("Identity", "", &["nothing"], &["unread"])));
    refused(&unmade, ErrorKind::Format, "the node that makes `unread`: tensor `nothing`: expected a maker, found none");
    let unmade = model_with(|graph| graph.output[0].name = "Z".to_owned());
    refused(&unmade, ErrorKind::Format, "tensor `Z`: expected a maker, found none");
    let twice = model_with(|graph| graph.input.push(graph.input[0].clone()));
    refused(&twice, ErrorKind::Format, "input `X`: expected one of that name, found two");
    let twice = model_with(|graph| graph.initializer.push(graph.initializer[0].clone()));
    refused(&twice, ErrorKind::Format, "tensor `W`: expected one maker, found two");
    let twice = model_with(|graph| graph.node.push(node("LSTM", "", &["X", "W", "R"], &["Y"])));
    refused(&twice, ErrorKind::Format, "tensor `Y`: expected one maker, found two");
    let twice = model_with(|graph| graph.node.push(node("Identity", "", &["X"], &["W"])));
    refused(&twice, ErrorKind::Format, "tensor `W`: expected one maker, found two");
    let unnamed = model_with(|graph| graph.initializer.push(tensor("", &[1])));
    refused(&unnamed, ErrorKind::Format, "tensor ``: expected a name, found none");
    for chain in [&[("a", "b"), ("b", "c"), ("c", "a")] as &[_], &[("a", "a")]] {
        let model = model_with(|graph| graph.node.extend(chain.iter().map(|(from, to)| node("Identity", "", &[from], &[to]))));
        let error = read(&model).expect_err("a cycle");
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().ends_with("expected inputs that do not depend on its outputs, found a cycle"), "{error}");
    }
}

#[test]
fn outputs_may_be_inputs_constants_and_twice_the_same() {
    let outputs = [info("Y", FLOAT, &[]), info("X", FLOAT, &[]), info("W", FLOAT, &[]), info("again", FLOAT, &[])];
    let model = model_with(|graph| {
        graph.node.push(node("Identity", "", &["Y"], &["again"]));
        graph.output = outputs.to_vec();
    });
    let network = read(&model).expect("a model");
    assert_eq!(network.program.outputs, ["Y", "X", "W", "Y"]);
    assert_eq!(network.outputs().iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["Y", "X", "W", "again"]);
    assert!(network.constants.contains_key("W"));
}

#[test]
fn malformed_nodes_are_refused() {
    let missing = model_with(|graph| graph.node[0].input[2] = String::new());
    refused(&missing, ErrorKind::Format, "node `lstm`: expected an input R, found none");
    let many = model_with(|graph| graph.node[0].output = texts(&["Y", "a", "b", "c"]));
    refused(&many, ErrorKind::Format, "node `lstm`: expected at most 8 inputs and 3 outputs, found 3 and 4");
    let constant = model_with(|graph| graph.node.push(node("Constant", "", &[], &["a"])));
    let words = "the node that makes `a`: operator `Constant`: expected no input, one output and one attribute, found 0, 1 and 0";
    refused(&constant, ErrorKind::Format, words);
    let value = |attribute| model_with(|graph| graph.node.push(NodeProto { attribute: vec![attribute], ..node("Constant", "k", &[], &["a"]) }));
    let words = "node `k`: operator `Constant`: expected a tensor or numbers, found attribute `value_string`, which is not supported yet";
    refused(&value(string("value_string", "s")), ErrorKind::Format, words);
    let words = "node `k`: operator `Constant`: expected a tensor in its attribute `value`, found none";
    refused(&value(attribute("value", AttributeKind::Tensor)), ErrorKind::Format, words);
    let words = "node `k`: attribute `value`: expected a tensor, found an attribute of ONNX type 2";
    refused(&value(int("value", 1)), ErrorKind::Config, words);
}

#[test]
fn element_types_that_a_call_cannot_have_are_named() {
    let text = model_with(|graph| graph.input[0] = info("X", 8, &[0, 0, 3]));
    refused(&text, ErrorKind::Shape, "input `X`: expected float32, found string, which is not supported");
    let text = model_with(|graph| graph.output[0] = info("Y", 8, &[0, 1, 0, 2]));
    refused(&text, ErrorKind::Shape, "output `Y`: expected float32, found string, which is not supported");
    let unread = model_with(|graph| graph.input.push(info("unread", 12, &[])));
    refused(&unread, ErrorKind::Shape, "input `unread`: expected a supported element type, found uint32, which is not supported");
    let sequence = model_with(|graph| graph.input[0].value_type = Some(TypeProto { tensor_type: None }));
    refused(&sequence, ErrorKind::Shape, "input `X`: expected a tensor, found a value of another kind");
    let lens = model_with(|graph| {
        graph.node[0].input = texts(&["X", "W", "R", "", "lens"]);
        graph.input.push(info("lens", FLOAT, &[0]));
    });
    refused(&lens, ErrorKind::Shape, "input `lens`: expected int32 or int64, found float32, which is not supported");
    let lens = model_with(|graph| {
        graph.node[0].input = texts(&["X", "W", "R", "", "lens"]);
        graph.initializer.push(tensor("lens", &[2]));
    });
    refused(&lens, ErrorKind::Shape, "node `lstm`: tensor `lens`: expected int32 or int64, found float32");
    let integers = model_with(|graph| graph.initializer[0].data_type = INT32);
    assert_eq!(read(&integers).expect_err("no int32_data").kind(), ErrorKind::Format);
}

#[test]
fn declared_shapes_of_inputs_do_not_contradict_the_weights() {
    let declared = |axes: &[i64]| model_with(|graph| graph.input[0] = info("X", FLOAT, axes));
    for axes in [[0, 0, 0], [0, 0, 3], [7, 5, 3]] {
        assert!(read(&declared(&axes)).is_ok(), "{axes:?}");
    }
    let words = "input `X`: expected [seq_len, batch, 3] as its node and weights have it, found [seq_len, batch, 4] declared";
    refused(&declared(&[0, 0, 4]), ErrorKind::Shape, words);
    let words = "input `X`: expected [seq_len, batch, 3] as its node and weights have it, found [7, 3] declared";
    refused(&declared(&[7, 3]), ErrorKind::Shape, words);
    let state = model_with(|graph| {
        graph.node[0].input = texts(&["X", "W", "R", "", "", "h"]);
        graph.input.push(info("h", FLOAT, &[1, 5, 3]));
    });
    refused(&state, ErrorKind::Shape, "input `h`: expected [1, batch, 2] as its node and weights have it, found [1, 5, 3] declared");
}

#[test]
fn external_data_and_lying_dims_name_the_tensor() {
    let entry = StringStringEntryProto { key: "location".to_owned(), value: "model.data".to_owned() };
    let external = model_with(|graph| graph.initializer[0].external_data.push(entry));
    let words = "node `lstm`: tensor `W`: expected its data in the model file, found it in `model.data`; such a model is opened by its path";
    refused(&external, ErrorKind::Config, words);
    let lying = model_with(|graph| graph.initializer[0].dims = vec![1, 8, 1 << 60]);
    let error = read(&lying).expect_err("lying dims");
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().starts_with("tensor `W`: expected"), "{error}");
}
