//! Attributes of the node.

use super::*;
use crate::network::{Activation, Direction, Layout};

#[test]
fn absent_attributes_have_the_operators_defaults() {
    let network = read(&model()).expect("a model");
    let config = lstm(&network).config();
    assert_eq!((config.input_size, config.hidden_size, config.num_layers), (INPUT, HIDDEN, 1));
    assert_eq!((config.direction, config.bias, config.peepholes), (Direction::Forward, false, false));
    assert_eq!((config.clip, config.input_forget), (None, false));
    assert_eq!(config.activations, crate::network::LstmConfig::new(1, 1).activations);
    assert_eq!(network.nodes[0].layout, Layout::OnnxTimeFirst);
}

#[test]
fn attributes_are_read() {
    let attributes = [int("hidden_size", 2), float("clip", 0.5), int("input_forget", 1), int("layout", 1), string("direction", "Reverse")];
    let network = read(&model_of(&attributes)).expect("a model");
    let config = lstm(&network).config();
    assert_eq!((config.direction, config.clip, config.input_forget), (Direction::Reverse, Some(0.5), true));
    assert_eq!(network.nodes[0].layout, Layout::OnnxBatchFirst);
}

#[test]
fn an_infinite_clip_is_none() {
    let network = read(&model_of(&[float("clip", f32::INFINITY)])).expect("a model");
    assert_eq!(lstm(&network).config().clip, None);
}

#[test]
fn alpha_and_beta_go_in_order_to_the_functions_that_take_them() {
    let names = ["hardsigmoid", "TANH", "ScaledTanh", "Affine", "LeakyRelu", "Elu"];
    let attributes = [strings("activations", &names), floats("activation_alpha", &[0.1, 0.2, 0.3, 0.4]), floats("activation_beta", &[1.0, 2.0])];
    let network = read(&bidirectional(&attributes)).expect("a model");
    let [forward, reverse] = lstm(&network).config().activations;
    assert_eq!(forward.gate, Activation::HardSigmoid { alpha: 0.1, beta: 1.0 });
    assert_eq!(forward.candidate, Activation::Tanh);
    assert_eq!(forward.output, Activation::ScaledTanh { alpha: 0.2, beta: 2.0 });
    assert_eq!(reverse.gate, Activation::Affine { alpha: 0.3, beta: 0.0 });
    assert_eq!(reverse.candidate, Activation::LeakyRelu { alpha: 0.4 });
    assert_eq!(reverse.output, Activation::Elu { alpha: 1.0 });
    assert_eq!(network.notes(), ["ONNX opset 22, IR version 8"]);
}

#[test]
fn values_that_no_activation_takes_are_noted() {
    let attributes = [strings("activations", &["HardSigmoid", "Tanh", "Tanh"]), floats("activation_alpha", &[0.3, 0.0, 0.0])];
    let network = read(&model_of(&attributes)).expect("a model");
    assert_eq!(lstm(&network).config().activations[0].gate, Activation::HardSigmoid { alpha: 0.3, beta: 0.5 });
    let note = "node `lstm`: attribute `activation_alpha`: the last 2 values are ignored, no activation takes them";
    assert_eq!(network.notes()[1], note);
}

#[test]
fn wrong_attributes_are_refused() {
    let cases = [
        (float("clip", 0.0), "attribute `clip`: expected a bound above 0, found 0"),
        (float("clip", -1.0), "attribute `clip`: expected a bound above 0, found -1"),
        (float("clip", f32::NAN), "attribute `clip`: expected a bound above 0, found NaN"),
        (int("clip", 1), "attribute `clip`: expected a float, found an attribute of ONNX type 2"),
        (string("direction", "backward"), "attribute `direction`: expected forward, reverse or bidirectional, found `backward`"),
        (int("direction", 1), "attribute `direction`: expected a string, found an attribute of ONNX type 2"),
        (int("hidden_size", 0), "attribute `hidden_size`: expected 1 or more, found 0"),
        (int("hidden_size", -2), "attribute `hidden_size`: expected 1 or more, found -2"),
        (float("hidden_size", 2.0), "attribute `hidden_size`: expected an int, found an attribute of ONNX type 1"),
        (int("hidden_size", i64::MAX), "hidden_size: expected 1 to 524288, found 9223372036854775807"),
        (int("input_forget", 2), "attribute `input_forget`: expected 0 or 1, found 2"),
        (int("layout", -1), "attribute `layout`: expected 0 or 1, found -1"),
        (strings("activations", &["Tanh"]), "attribute `activations`: expected 3 * num_directions = 3 names, found 1"),
        (strings("activations", &["Tanh"; 6]), "attribute `activations`: expected 3 * num_directions = 3 names, found 6"),
        (strings("activations", &["Tanh", "Gelu", "Tanh"]), "attribute `activations`: expected activations of the operator LSTM, found `Gelu`"),
        (string("activations", "Tanh"), "attribute `activations`: expected strings, found an attribute of ONNX type 3"),
        (float("activation_alpha", 1.0), "attribute `activation_alpha`: expected floats, found an attribute of ONNX type 1"),
        (
            int("linear_before_reset", 1),
            "attribute `linear_before_reset`: expected an attribute of the operator LSTM, found one that it does not have",
        ),
    ];
    for (attribute, words) in cases {
        refused(&model_of(&[attribute]), ErrorKind::Config, &format!("node `lstm`: {words}"));
    }
    let infinite = [strings("activations", &["Elu", "Tanh", "Tanh"]), floats("activation_alpha", &[f32::INFINITY])];
    refused(&model_of(&infinite), ErrorKind::Config, "node `lstm`: gate activation of direction 0: expected a finite alpha of Elu, found inf");
    let twice = [int("layout", 0), int("layout", 1)];
    refused(&model_of(&twice), ErrorKind::Config, "node `lstm`: attribute `layout`: expected one of that name, found two");
}

#[test]
fn layout_came_with_opset_14() {
    let mut model = model_of(&[int("layout", 1)]);
    model.opset_import[0].version = 13;
    refused(&model, ErrorKind::Config, "node `lstm`: attribute `layout`: expected opset 14 or newer, found opset 13");
    model.opset_import[0].version = 14;
    assert_eq!(read(&model).expect("opset 14").nodes[0].layout, Layout::OnnxBatchFirst);
}

#[test]
fn the_leftover_output_sequence_is_ignored() {
    assert!(read(&model_of(&[int("output_sequence", 0)])).is_ok());
}
