//! Graphs: names, several nodes, constants, ports.

use super::*;
use crate::formats::onnx::proto::StringStringEntryProto;
use crate::formats::onnx::tensor::{DOUBLE, INT32, INT64};
use crate::network::AxisSize;
use crate::tensor::{ElementType, Tensor};

fn axes(axes: &[&str]) -> Vec<AxisSize> {
    axes.iter().map(|axis| axis.parse().map_or_else(|_| AxisSize::Named((*axis).to_owned()), AxisSize::Fixed)).collect()
}

/// Every ONNX model of the project's golden cases loads; what it computes is for `tests/golden.rs`.
#[test]
fn golden_models_load() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = std::fs::read_dir(root).expect("a folder").map(|entry| entry.expect("an entry").path());
    let models: Vec<_> = cases.map(|case| case.join("model.onnx")).filter(|path| path.exists()).collect();
    assert!(models.len() > 20, "{} models", models.len());
    for path in &models {
        let network = Network::open(path).expect("a golden model");
        assert!(network.lstms().count() > 0 && !network.inputs().is_empty(), "{}", path.display());
    }
}

fn names(names: &[Option<String>]) -> Vec<Option<&str>> {
    names.iter().map(Option::as_deref).collect()
}

#[test]
fn optional_inputs_and_outputs_may_be_absent() {
    let model = model_with(|graph| {
        graph.node[0] = node("LSTM", "", &["X", "W", "R", "", "", "h0"], &["", "Y_h"]);
        graph.input.push(info("h0", FLOAT, &[1, 0, 2]));
        graph.output = vec![info("Y_h", FLOAT, &[1, 0, 2])];
    });
    let network = read(&model).expect("a model");
    let node = &network.nodes[0];
    assert_eq!((node.name.as_str(), node.x.as_str()), ("LSTM_0", "X"));
    assert_eq!(names(&[node.sequence_lens.clone(), node.h_0.clone(), node.c_0.clone()]), [None, Some("h0"), None]);
    assert_eq!(names(&[node.y.clone(), node.h_n.clone(), node.c_n.clone()]), [None, Some("Y_h"), None]);
    assert_eq!(network.format(), "onnx");
}

#[test]
fn nodes_without_a_name_of_their_own_get_one() {
    let model = model_with(|graph| {
        graph.node.push(node("LSTM", "lstm", &["X", "W", "R"], &["Z"]));
        graph.node.push(node("LSTM", "LSTM_0", &["X", "W", "R"], &["V"]));
        graph.node.push(node("LSTM", "", &["X", "W", "R"], &["U"]));
        graph.output = ["Y", "Z", "V", "U"].map(|name| info(name, FLOAT, &[])).to_vec();
    });
    let network = read(&model).expect("a model");
    assert_eq!(network.lstms().map(|(name, _)| name).collect::<Vec<_>>(), ["lstm", "LSTM_0", "LSTM_1", "LSTM_2"]);
}

#[test]
fn nodes_run_after_those_whose_outputs_they_read() {
    let model = model_with(|graph| {
        graph.node = vec![
            node("LSTM", "last", &["X", "W", "R", "", "", "b_h", "a_c"], &["Y"]),
            node("LSTM", "second", &["X", "W", "R", "", "", "a_h"], &["", "b_h"]),
            node("LSTM", "first", &["X", "W", "R"], &["", "a_h", "a_c"]),
        ];
    });
    let network = read(&model).expect("a model");
    assert_eq!(network.lstms().map(|(name, _)| name).collect::<Vec<_>>(), ["first", "second", "last"]);
    // Two nodes: what each calls `batch` need not be of the same size.
    assert_eq!(network.inputs()[0].axes, axes(&["first.seq_len", "first.batch", "3"]));
}

#[test]
fn a_cycle_names_a_node_inside_it() {
    let model = model_with(|graph| {
        graph.node = vec![
            node("LSTM", "behind", &["X", "W", "R", "", "", "b_h"], &["Y"]),
            node("LSTM", "one", &["X", "W", "R", "", "", "b_h"], &["", "a_h"]),
            node("LSTM", "two", &["X", "W", "R", "", "", "a_h"], &["", "b_h"]),
        ];
    });
    let error = read(&model).expect_err("a cycle");
    assert_eq!(error.kind(), ErrorKind::Format);
    let text = error.to_string();
    assert!(text.ends_with("expected inputs that do not depend on its outputs, found a cycle"), "{text}");
    assert!(text.starts_with("node `one`") || text.starts_with("node `two`"), "{text}");
    let own = model_with(|graph| graph.node[0].input = texts(&["X", "W", "R", "", "", "Y_h"]));
    refused(&own, ErrorKind::Format, "node `lstm`: expected inputs that do not depend on its outputs, found a cycle");
}

#[test]
fn initialisers_that_are_inputs_too_are_constants() {
    let mut model = model_with(|graph| graph.input.extend([info("W", FLOAT, &[1, 8, 3]), info("R", FLOAT, &[1, 8, 2])]));
    model.ir_version = 3;
    let network = read(&model).expect("a model of IR version 3");
    assert_eq!(network.inputs().len(), 1);
    assert_eq!(lstm(&network).config().hidden_size, HIDDEN);
}

#[test]
fn constants_reach_nodes_from_initialisers_and_constant_nodes() {
    let model = model_with(|graph| {
        graph.node[0].input = texts(&["X", "w2", "R", "", "lens", "h0", "c0"]);
        let value = |name: &str, tensor| AttributeProto { t: Some(tensor), ..attribute(name, AttributeKind::Tensor) };
        let weights = NodeProto { attribute: vec![value("value", graph.initializer[0].clone())], ..node("Constant", "", &[], &["w1"]) };
        let ints = AttributeProto { ints: vec![2, 1], ..attribute("value_ints", AttributeKind::Ints) };
        let lens = NodeProto { attribute: vec![ints], ..node("Constant", "", &[], &["lens"]) };
        graph.node.extend([node("Identity", "", &["w1"], &["w2"]), weights, lens]);
        graph.initializer.remove(0);
        let doubles = TensorProto { data_type: DOUBLE, float_data: vec![], double_data: vec![0.5, 1.5, 2.5, 3.5], ..tensor("c0", &[1, 2, 2]) };
        graph.initializer.extend([tensor("h0", &[1, 2, 2]), doubles]);
    });
    let network = read(&model).expect("a model");
    assert_eq!(lstm(&network), lstm(&read(&super::model()).expect("a model")));
    let expected: [(&str, Tensor); 3] = [
        ("c0", ndarray::array![[[0.5_f32, 1.5], [2.5, 3.5]]].into()),
        ("h0", ndarray::array![[[0.0_f32, 1.0], [2.0, 3.0]]].into()),
        ("lens", ndarray::array![2_i64, 1].into()),
    ];
    assert_eq!(network.constants, expected.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect());
}

#[test]
fn single_numbers_are_constants_too() {
    for (name, value) in
        [("value_int", int("value_int", 2)), ("value_float", float("value_float", 2.0)), ("value_floats", floats("value_floats", &[2.0]))]
    {
        let model = model_with(|graph| {
            graph.node[0].input = texts(&["X", "W", "R", "", "", "h0"]);
            graph.node.push(NodeProto { attribute: vec![value], ..node("Constant", "", &[], &["h0"]) });
        });
        let found = read(&model).map(|network| network.constants["h0"].view().shape().to_vec());
        match name {
            "value_int" => assert_eq!(found.expect_err("an int").to_string(), "node `lstm`: tensor `h0`: expected float32, found int64"),
            "value_float" => assert_eq!(found.expect("a scalar"), [0_usize; 0]),
            _ => assert_eq!(found.expect("a vector"), [1]),
        }
    }
}

#[test]
fn identity_nodes_rename() {
    let model = model_with(|graph| {
        graph.node.push(node("Identity", "", &["X"], &["x1"]));
        graph.node.push(node("Identity", "", &["x2"], &["x3"]));
        graph.node.push(node("Identity", "", &["x1"], &["x2"]));
        graph.node.push(node("Identity", "", &["Y"], &["y1"]));
        graph.node.push(node("Identity", "", &["y1"], &["out"]));
        graph.node.push(node("LSTM", "next", &["X", "W", "R", "", "", "", "Y"], &["Z"]));
        graph.node[0].input[0] = "x3".to_owned();
        graph.output = vec![info("out", FLOAT, &[]), info("Z", FLOAT, &[])];
    });
    let network = read(&model).expect("a model");
    assert_eq!((network.nodes[0].x.as_str(), network.nodes[0].y.as_deref()), ("X", Some("Y")));
    assert_eq!(network.nodes[1].c_0.as_deref(), Some("Y"));
    assert_eq!(network.program.outputs, ["Y", "Z"]);
    assert_eq!(network.outputs()[0].name, "out");
}

#[test]
fn ports_have_names_types_and_axes() {
    let model = model_with(|graph| {
        graph.node[0].input = texts(&["X", "W", "R", "", "lens", "h0"]);
        graph.input.extend([info("lens", INT32, &[-1]), info("h0", FLOAT, &[1, 5, 0]), info("unread", INT64, &[0, 4])]);
        graph.output = vec![ValueInfoProto { name: "Y".to_owned(), value_type: None }, info("Y_h", FLOAT, &[0; 3])];
        let shape = graph.input[0].value_type.as_mut().and_then(|value| value.tensor_type.as_mut()).and_then(|tensor| tensor.shape.as_mut());
        shape.expect("X has a shape").dim[0].dim_param = Some("T".to_owned());
    });
    let network = read(&model).expect("a model");
    let found: Vec<_> = network.inputs().iter().map(|port| (port.name.as_str(), port.element_type, port.axes.clone(), port.optional)).collect();
    let expected = [
        ("X", ElementType::F32, axes(&["T", "batch", "3"]), false),
        ("lens", ElementType::I32, axes(&["batch"]), false),
        ("h0", ElementType::F32, axes(&["1", "5", "2"]), false),
        ("unread", ElementType::I64, axes(&["unread.0", "4"]), true),
    ];
    assert_eq!(found, expected);
    assert_eq!(network.outputs()[0].axes, axes(&["seq_len", "1", "batch", "2"]));
    assert_eq!(network.outputs()[1].axes, axes(&["1", "batch", "2"]));
}

#[test]
fn axes_follow_the_layout_and_the_weights_of_the_call() {
    let without_type = |name: &str| ValueInfoProto { name: name.to_owned(), value_type: None };
    let mut model = model_of(&[int("layout", 1)]);
    let graph = graph(&mut model);
    graph.initializer.clear();
    graph.node[0].input = texts(&["X", "W", "R", "B", "lens", "h0", "", "P"]);
    graph.input = ["X", "W", "R", "B", "lens", "h0", "P"].map(without_type).to_vec();
    graph.output = ["Y", "Y_h"].map(without_type).to_vec();
    let network = read(&model).expect("a model");
    let expected = [
        &["batch", "seq_len", "input_size"] as &[&str],
        &["1", "4*hidden_size", "input_size"],
        &["1", "4*hidden_size", "hidden_size"],
        &["1", "8*hidden_size"],
        &["batch"],
        &["batch", "1", "hidden_size"],
        &["1", "3*hidden_size"],
    ];
    let found: Vec<_> = network.inputs().iter().map(|port| port.axes.clone()).collect();
    assert_eq!(found, expected.map(axes));
    assert_eq!(network.inputs()[4].element_type, ElementType::I32);
    assert_eq!(network.outputs()[0].axes, axes(&["batch", "seq_len", "1", "hidden_size"]));
    assert_eq!(network.outputs()[1].axes, axes(&["batch", "1", "hidden_size"]));

    graph_attribute(&mut model, int("hidden_size", i64::MAX));
    let network = read(&model).expect("a hidden size that the weights will refuse");
    assert_eq!(network.inputs()[1].axes, axes(&["1", "4*hidden_size", "input_size"]));
}

fn graph_attribute(model: &mut ModelProto, attribute: AttributeProto) {
    graph(model).node[0].attribute.push(attribute);
}

#[test]
fn metadata_is_kept() {
    let entry = StringStringEntryProto { key: "labels".to_owned(), value: "a,b".to_owned() };
    let network = read(&ModelProto { metadata_props: vec![entry], ..model() }).expect("a model with metadata");
    assert_eq!((network.metadata("labels"), network.metadata("vocabulary")), (Some("a,b"), None));
}
