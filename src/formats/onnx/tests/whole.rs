//! What becomes of graphs as a whole: stacks, choices, functions, layers.

use super::*;
use crate::formats::onnx::proto::FunctionProto;
use crate::formats::onnx::tensor::{BOOL, INT64};

fn ints(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { name: name.to_owned(), dims, data_type: INT64, int64_data: values.to_vec(), ..TensorProto::default() }
}

/// Two LSTMs with `between` from `s [T, N, H]` to `t`.
fn two(between: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    model_with(|graph| {
        let first = [node("LSTM", "a", &["X", "W", "R"], &["y"]), node("Squeeze", "", &["y", "one"], &["s"])];
        graph.node = [first.to_vec(), between, vec![node("LSTM", "b", &["t", "W2", "R"], &["Y"])]].concat();
        graph.initializer.extend([vec![tensor("W2", &[1, 4 * HIDDEN, HIDDEN]), ints("one", &[1])], initializer].concat());
    })
}

fn layers(model: &ModelProto) -> Vec<usize> {
    let network = read(model).expect("a model");
    network.lstms().map(|(_, lstm)| lstm.expect("constant weights").config().num_layers).collect()
}

#[test]
fn lstms_become_one_stack_where_nothing_but_views_lies_between() {
    let same = vec![node("Transpose", "", &["s"], &["u"]), node("Transpose", "", &["u"], &["t"])];
    assert_eq!(layers(&two(same, vec![])), [2]);
    assert_eq!(layers(&two(vec![node("Identity", "", &["s"], &["t"])], vec![])), [2]);
    let all = vec![ints("from", &[0]), ints("to", &[i64::MAX])];
    assert_eq!(layers(&two(vec![node("Slice", "", &["s", "from", "to"], &["t"])], all)), [2]);
}

#[test]
fn a_slice_that_long_sequences_feel_parts_a_stack() {
    for (from, to, axis) in [(-20, i64::MAX, 0), (0, 512, 0), (0, 16, 1), (0, 1 << 30, 0)] {
        let bounds = vec![ints("from", &[from]), ints("to", &[to]), ints("axis", &[axis])];
        let slice = vec![node("Slice", "", &["s", "from", "to", "axis"], &["t"])];
        assert_eq!(layers(&two(slice, bounds)), [1, 1], "{from} to {to} on axis {axis}");
    }
    let literal = vec![node("Reshape", "", &["s", "shape"], &["t"])];
    assert_eq!(layers(&two(literal, vec![ints("shape", &[7, 11, HIDDEN as i64])])), [1, 1]);
}

#[test]
fn an_output_that_a_choice_leaves_out_is_nobodys_input() {
    let branch = |name: &str| {
        let made = |name: &str| ValueInfoProto { name: name.to_owned(), value_type: None };
        let nodes = vec![node("Neg", "", &["X"], &["p"]), node("ReduceSum", "", &["X"], &["q"])];
        let graph = GraphProto { node: nodes, output: vec![made("p"), made("q")], ..GraphProto::default() };
        AttributeProto { g: Some(Box::new(graph)), ..attribute(name, AttributeKind::Graph) }
    };
    let model = model_with(|graph| {
        let choice = NodeProto { attribute: vec![branch("then_branch"), branch("else_branch")], ..node("If", "", &["yes"], &["x", ""]) };
        graph.node = vec![choice, node("LSTM", "lstm", &["x", "W", "R", "", "", "h"], &["Y"])];
        graph.input.push(info("h", FLOAT, &[1, 0, HIDDEN as i64]));
        graph.initializer.push(TensorProto { name: "yes".to_owned(), data_type: BOOL, int32_data: vec![1], ..TensorProto::default() });
    });
    let network = read(&model).expect("a model");
    assert_eq!((network.nodes[0].sequence_lens.as_deref(), network.nodes[0].h_0.as_deref()), (None, Some("h")));
}

#[test]
fn functions_of_one_name_are_told_apart_by_their_overload() {
    let function = |overload: &str, op_type: &str| FunctionProto {
        name: "f".to_owned(),
        domain: "own".to_owned(),
        overload: overload.to_owned(),
        input: texts(&["a"]),
        output: texts(&["b"]),
        node: vec![node(op_type, "", &["a"], &["b"])],
        ..FunctionProto::default()
    };
    let mut model = model_with(|graph| {
        let call = |overload: &str, from: &str, to: &str| NodeProto {
            domain: "own".to_owned(),
            overload: overload.to_owned(),
            ..node("f", "", &[from], &[to])
        };
        graph.node = vec![call("one", "X", "u"), call("two", "u", "x"), node("LSTM", "", &["x", "W", "R"], &["Y"])];
    });
    model.functions = vec![function("one", "Neg"), function("two", "Abs")];
    let operators: Vec<String> = read(&model).expect("a model").parts().into_iter().flat_map(|part| part.operators.into_keys()).collect();
    assert_eq!(operators, ["Abs", "Neg", "LSTM"]);
    model.functions = vec![function("one", "Neg"), function("one", "Abs")];
    refused(&model, ErrorKind::Format, "function `f`: expected one of that name, found two");
    let old = vec![OperatorSetIdProto { domain: String::new(), version: 12 }];
    model.functions = vec![FunctionProto { opset_import: old, ..function("one", "Neg") }, function("two", "Abs")];
    let error = read(&model).expect_err("another opset");
    assert!(error.to_string().ends_with("function `f`: expected opset 22 as the model has it, found 12"), "{error}");
}

#[test]
fn a_bias_with_more_axes_than_the_product_is_an_addition() {
    let model = |axes: &[usize]| {
        model_with(|graph| {
            graph.node = vec![
                node("LSTM", "", &["X", "W", "R"], &["", "h"]),
                node("Squeeze", "", &["h", "zero"], &["state"]),
                node("MatMul", "", &["state", "weight"], &["product"]),
                node("Add", "", &["product", "bias"], &["Y"]),
            ];
            graph.initializer.extend([tensor("weight", &[HIDDEN, 5]), tensor("bias", axes), ints("zero", &[0])]);
            graph.output[0].value_type = None;
        })
    };
    for (axes, sums) in [(&[5][..], 0), (&[1, 5], 0), (&[1, 1, 5], 1)] {
        let network = read(&model(axes)).expect("a model");
        assert_eq!(network.parts().iter().filter(|part| part.operators.contains_key("Add")).count(), sums, "{axes:?}");
    }
}
