//! Weights of the file and of the call.

use std::collections::BTreeMap;

use half::f16;
use ndarray::{Array2, Array3, ArrayD, array};

use super::*;
use crate::formats::onnx::RunTimeWeights;
use crate::formats::onnx::tensor::{DOUBLE, FLOAT16};
use crate::tensor::TensorView;

/// [`bidirectional`] with biases and peepholes too.
fn full() -> ModelProto {
    let mut model = bidirectional(&[]);
    let graph = graph(&mut model);
    graph.node[0].input = texts(&["X", "W", "R", "B", "", "", "", "P"]);
    graph.initializer.extend([tensor("B", &[2, 8 * HIDDEN]), tensor("P", &[2, 3 * HIDDEN])]);
    model
}

fn check_full(lstm: &Lstm) {
    assert!(lstm.config().bias && lstm.config().peepholes);
    // Blocks of two rows; the file's order is i, o, f, c.
    let rows = [0, 1, 4, 5, 6, 7, 2, 3];
    for dir in 0..2 {
        let cell = lstm.cell(0, dir);
        let weight = |columns: usize| Array2::from_shape_fn((8, columns), |(row, k)| ((dir * 8 + rows[row]) * columns + k) as f32);
        assert_eq!(cell.weight_ih, weight(INPUT));
        assert_eq!(cell.weight_hh, weight(HIDDEN));
        assert!(cell.weight_ih.is_standard_layout() && cell.weight_hh.is_standard_layout());
        let first = (dir * 16) as f32;
        assert_eq!(cell.bias_ih.as_ref().expect("a bias"), &(array![0.0, 1.0, 4.0, 5.0, 6.0, 7.0, 2.0, 3.0] + first));
        assert_eq!(cell.bias_hh.as_ref().expect("a bias"), &(array![8.0, 9.0, 12.0, 13.0, 14.0, 15.0, 10.0, 11.0] + first));
        let first = (dir * 6) as f32;
        assert_eq!(cell.peepholes.as_ref().expect("peepholes"), &(array![[0.0, 1.0], [4.0, 5.0], [2.0, 3.0]] + first));
    }
}

#[test]
fn gates_biases_and_peepholes_are_reordered() {
    check_full(lstm(&read(&full()).expect("a model")));
}

/// Resolves the weights with `tensor` in place of the one called `name`, and expects these words.
fn check_refused<'a>(
    weights: &RunTimeWeights,
    tensors: &BTreeMap<&'a str, TensorView<'a>>,
    name: &'a str,
    tensor: Option<TensorView<'a>>,
    words: &str,
) {
    let mut tensors = tensors.clone();
    tensors.remove(name);
    tensors.extend(tensor.map(|tensor| (name, tensor)));
    let error = weights.resolve(&tensors).expect_err("wrong weights");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Shape, words));
}

#[test]
fn weights_may_come_with_the_call_in_part() {
    let mut model = full();
    let graph = graph(&mut model);
    graph.initializer.retain(|tensor| tensor.name != "W" && tensor.name != "P");
    graph.input.extend([info("W", FLOAT, &[2, 8, 0]), info("P", FLOAT, &[2, 6])]);
    let network = read(&model).expect("a model");
    let weights = run_time(&network);
    assert_eq!(weights.names().collect::<Vec<_>>(), ["W", "R", "B", "P"]);
    assert_eq!(network.constants.keys().collect::<Vec<_>>(), ["B", "R"]);
    assert_eq!(network.inputs().iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["X", "W", "P"]);
    assert_eq!(network.num_parameters(), 0);

    let counting = |shape: &[usize]| ArrayD::from_shape_vec(shape, (0..shape.iter().product()).map(|k: usize| k as f32).collect()).expect("a shape");
    let (w, p) = (counting(&[2, 8, INPUT]), counting(&[2, 6]));
    let mut tensors: BTreeMap<&str, TensorView<'_>> = network.constants.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
    tensors.extend([("W", w.view().into()), ("P", p.view().into())]);
    check_full(&weights.resolve(&tensors).expect("weights"));

    check_refused(weights, &tensors, "W", None, "tensor `W`: expected the weights of an LSTM, found none");
    let (narrow, transposed, doubles) = (counting(&[2, 6, INPUT]), counting(&[6, 2]), Array3::<f64>::zeros((2, 8, INPUT)));
    check_refused(
        weights,
        &tensors,
        "W",
        Some(narrow.view().into()),
        "tensor `W`: expected [num_directions, 4*hidden_size, input_size] = [2, 8, 3], found [2, 6, 3]",
    );
    check_refused(weights, &tensors, "W", Some(p.view().into()), "tensor `W`: expected [num_directions, 4*hidden_size, input_size], found [2, 6]");
    check_refused(weights, &tensors, "W", Some(doubles.view().into()), "tensor `W`: expected float32, found float64");
    check_refused(
        weights,
        &tensors,
        "P",
        Some(transposed.view().into()),
        "tensor `P`: expected [num_directions, 3*hidden_size] = [2, 6], found [6, 2]",
    );
}

#[test]
fn wrong_shapes_in_the_file_are_named() {
    let cases = [
        (0, tensor("W", &[1, 8]), "tensor `W`: expected [num_directions, 4*hidden_size, input_size], found [1, 8]"),
        (0, tensor("W", &[2, 8, 3]), "tensor `W`: expected [num_directions, 4*hidden_size, input_size] = [1, 8, 3], found [2, 8, 3]"),
        (1, tensor("R", &[1, 9, 2]), "tensor `R`: expected [num_directions, 4*hidden_size, hidden_size] = [1, 8, 2], found [1, 9, 2]"),
    ];
    for (index, tensor, words) in cases {
        refused(&model_with(|graph| graph.initializer[index] = tensor), ErrorKind::Shape, &format!("node `lstm`: {words}"));
    }
    let model = model_with(|graph| {
        graph.node[0].input.push("B".to_owned());
        graph.initializer.push(tensor("B", &[1, 8]));
    });
    refused(&model, ErrorKind::Shape, "node `lstm`: tensor `B`: expected [num_directions, 8*hidden_size] = [1, 16], found [1, 8]");
    let model = model_with(|graph| graph.initializer[0] = tensor("W", &[1, 8, 0]));
    refused(&model, ErrorKind::Config, "node `lstm`: input_size: expected 1 to 524288, found 0");
    let model = model_of(&[int("hidden_size", 5)]);
    let words = "node `lstm`: tensor `W`: expected [num_directions, 4*hidden_size, input_size] = [1, 20, 3], found [1, 8, 3]";
    refused(&model, ErrorKind::Shape, words);
}

#[test]
fn other_element_types_are_converted_and_noted() {
    let model = model_with(|graph| {
        let halves = (0..24).flat_map(|number| f16::from_f32(number as f32).to_le_bytes()).collect();
        graph.initializer[0] = TensorProto { data_type: FLOAT16, float_data: vec![], raw_data: halves, ..tensor("W", &[1, 8, 3]) };
        let doubles = (0..16).map(f64::from).collect();
        graph.initializer[1] = TensorProto { data_type: DOUBLE, float_data: vec![], double_data: doubles, ..tensor("R", &[1, 8, 2]) };
    });
    let network = read(&model).expect("a model");
    assert_eq!(lstm(&network), lstm(&read(&super::model()).expect("a model")));
    let mut notes = network.notes().to_vec();
    notes.sort();
    let halves = "16-bit floats are computed in float32, in which each is worth what it was; tensors of the file that are such: `W`";
    let expected = [halves, "ONNX opset 22, IR version 8", "tensor `R`: narrowed from float64 to float32"];
    assert_eq!(notes, expected);
}

#[test]
fn weights_that_are_not_finite_are_noted() {
    let mut model = model_with(|graph| graph.initializer[1].float_data[3] = f32::NAN);
    model.producer_name = "pytorch".to_owned();
    model.producer_version = "2.5".to_owned();
    let network = read(&model).expect("a model");
    let expected = ["ONNX opset 22, IR version 8, made by pytorch 2.5", "node `lstm`: weight_hh of layer 0, direction 0 holds NaN or infinity"];
    assert_eq!(network.notes(), expected);
}

#[test]
fn many_nodes_cannot_multiply_shared_weights() {
    let model = model_with(|graph| {
        graph.initializer = vec![tensor("W", &[1, 4 * 64, 64]), tensor("R", &[1, 4 * 64, 64])];
        graph.node = (0..100).map(|number| node("LSTM", &format!("n{number}"), &["X", "W", "R"], &[&format!("Y{number}")])).collect();
        graph.output = (0..100).map(|number| info(&format!("Y{number}"), FLOAT, &[])).collect();
    });
    let words = "node `n66`: weights: expected no more than 16 numbers for each byte of the file, found nodes that share more";
    refused(&model, ErrorKind::Config, words);
}
