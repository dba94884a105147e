//! LSTM cells that are written as elementary operators: which graphs are such, and which are nearly.

use super::*;
use crate::formats::onnx::tensor::{BOOL, INT64};
use crate::network::{Activation, Direction};

/// Rows of all four gates.
const GATES: usize = 4 * HIDDEN;

/// `[outputs, inputs]`, of numbers that tell where they stand.
fn matrix(inputs: usize, first: f32) -> Vec<Vec<f32>> {
    (0..GATES).map(|output| (0..inputs).map(|input| first + output as f32 + 0.125 * input as f32).collect()).collect()
}

pub(super) fn floats_of(name: &str, dims: &[i64], values: Vec<f32>) -> TensorProto {
    TensorProto { name: name.to_owned(), dims: dims.to_vec(), data_type: FLOAT, float_data: values, ..TensorProto::default() }
}

fn ints_of(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { name: name.to_owned(), dims, data_type: INT64, int64_data: values.to_vec(), ..TensorProto::default() }
}

fn place_of(name: &str, value: i64) -> TensorProto {
    TensorProto { dims: vec![], ..ints_of(name, &[value]) }
}

/// `[outputs, inputs]`, or turned `[inputs, outputs]`.
fn weights_of(name: &str, rows: &[Vec<f32>], turned: bool) -> TensorProto {
    let (outputs, inputs) = (rows.len(), rows[0].len());
    let values = if turned { (0..inputs).flat_map(|input| rows.iter().map(move |row| row[input])).collect() } else { rows.concat() };
    let dims = if turned { [inputs, outputs] } else { [outputs, inputs] };
    floats_of(name, &dims.map(|size| size as i64), values)
}

pub(super) fn graph_of(node: Vec<NodeProto>, initializer: Vec<TensorProto>, inputs: &[(&str, &[i64])], outputs: &[&str]) -> ModelProto {
    let input = inputs.iter().map(|(name, axes)| info(name, FLOAT, axes)).collect();
    let output = outputs.iter().map(|name| ValueInfoProto { name: (*name).to_owned(), value_type: None }).collect();
    let graph = GraphProto { node, initializer, input, output, ..GraphProto::default() };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn with(mut node: NodeProto, attributes: &[AttributeProto]) -> NodeProto {
    node.attribute = attributes.to_vec();
    node
}

/// What follows the gates `{prefix}i` and so on, from `c` to `{prefix}h_n` and `{prefix}c_n`.
fn tail(prefix: &str, c: &str) -> Vec<NodeProto> {
    let own = |name: &str| format!("{prefix}{name}");
    let op = |op_type: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<String> = inputs.iter().map(|name| if *name == "c" { c.to_owned() } else { own(name) }).collect();
        node(op_type, "", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), &[&own(output)])
    };
    vec![
        op("Sigmoid", &["i_raw"], "i"),
        op("Sigmoid", &["f_raw"], "f"),
        op("Tanh", &["g_raw"], "g"),
        op("Sigmoid", &["o_raw"], "o"),
        op("Mul", &["f", "c"], "kept"),
        op("Mul", &["i", "g"], "added"),
        op("Add", &["kept", "added"], "c_n"),
        op("Tanh", &["c_n"], "c_active"),
        op("Mul", &["o", "c_active"], "h_n"),
    ]
}

const STATES: [(&str, &[i64]); 3] = [("x", &[0, 3]), ("h", &[0, 2]), ("c", &[0, 2])];

/// As PyTorch writes a cell: gates i, f, g, o of two `Gemm`s.
pub(super) fn torch_cell() -> ModelProto {
    let mut nodes = vec![
        with(node("Gemm", "", &["h", "R", "b_h"], &["of_h"]), &[int("transB", 1)]),
        with(node("Gemm", "", &["x", "W", "b_x"], &["of_x"]), &[int("transB", 1)]),
        node("Add", "", &["of_h", "of_x"], &["raw"]),
        with(node("Split", "", &["raw", "sizes"], &["i_raw", "f_raw", "g_raw", "o_raw"]), &[int("axis", 1)]),
    ];
    nodes.extend(tail("", "c"));
    let weights = vec![
        weights_of("W", &matrix(INPUT, 100.0), false),
        weights_of("R", &matrix(HIDDEN, 200.0), false),
        floats_of("b_x", &[8], (0..8).map(|number| number as f32).collect()),
        floats_of("b_h", &[8], (0..8).map(|number| 10.0 * number as f32).collect()),
        ints_of("sizes", &[2, 2, 2, 2]),
    ];
    graph_of(nodes, weights, &STATES, &["h_n", "c_n"])
}

/// The rows of `rows` for gates that stand in the order `order` (of i, f, g, o).
fn ordered(rows: &[Vec<f32>], order: [usize; 4]) -> Vec<f32> {
    order.iter().flat_map(|&gate| rows[gate * HIDDEN..(gate + 1) * HIDDEN].concat()).collect()
}

/// Checks that a model has one LSTM with these weights, whose gates i, f, g, o stand in `order` in the matrices.
pub(super) fn is_cell(model: &ModelProto, order: [usize; 4], biases: Option<[f32; 8]>) -> Network {
    let network = read(model).expect("a model");
    assert_eq!(network.lstms().count(), 1, "{:?}", network.notes());
    let cell = lstm(&network).cells().next().expect("a cell").clone();
    assert_eq!(cell.weight_ih.iter().copied().collect::<Vec<_>>(), ordered(&matrix(INPUT, 100.0), order));
    assert_eq!(cell.weight_hh.iter().copied().collect::<Vec<_>>(), ordered(&matrix(HIDDEN, 200.0), order));
    let found = cell.bias_ih.zip(cell.bias_hh).map(|(x, h)| (x + h).to_vec());
    assert_eq!(found, biases.map(|biases| biases.to_vec()));
    network
}

fn is_none(model: &ModelProto) {
    let network = read(model).expect("a model");
    assert_eq!(network.lstms().count(), 0);
}

const TORCH_BIASES: [f32; 8] = [0.0, 11.0, 22.0, 33.0, 44.0, 55.0, 66.0, 77.0];

pub(super) fn torch_cell_biases() -> [f32; 8] {
    TORCH_BIASES
}

#[test]
fn two_products_and_a_split_are_a_cell() {
    let network = is_cell(&torch_cell(), [0, 1, 2, 3], Some(TORCH_BIASES));
    let node = &network.nodes[0];
    assert!(node.h_0.is_some() && node.c_0.is_some() && node.h_n.is_some() && node.c_n.is_some());
    assert_eq!(lstm(&network).config().activations[0], Default::default());
}

/// Which gate plays which part follows from what is done with it.
#[test]
fn gates_are_told_by_their_parts() {
    let mut model = torch_cell();
    graph(&mut model).node[3].output = texts(&["f_raw", "i_raw", "o_raw", "g_raw"]);
    let [i, f, g, o] = [[22.0, 33.0], [0.0, 11.0], [66.0, 77.0], [44.0, 55.0]];
    is_cell(&model, [1, 0, 3, 2], Some([i, f, g, o].concat().try_into().expect("eight")));
}

#[test]
fn operands_may_change_places_and_copies_do_not_matter() {
    let mut model = torch_cell();
    let graph = graph(&mut model);
    for node in &mut graph.node {
        if ["Add", "Mul"].contains(&node.op_type.as_str()) {
            node.input.reverse();
        }
    }
    graph.node[5].input = texts(&["copied"]);
    graph.node.push(with(node("Cast", "", &["f_raw"], &["cast"]), &[int("to", FLOAT.into())]));
    graph.node.push(node("Identity", "", &["cast"], &["copied"]));
    is_cell(&model, [0, 1, 2, 3], Some(TORCH_BIASES));
}

/// As TensorFlow wrote a `BasicLSTMCell`: one matrix for both, gates i, g, f, o, and a number added to the forget gate.
#[test]
fn a_joint_matrix_and_a_forget_bias_are_a_cell() {
    let joint: Vec<Vec<f32>> = matrix(INPUT, 100.0).into_iter().zip(matrix(HIDDEN, 200.0)).map(|(x, h)| [x, h].concat()).collect();
    let mut nodes = vec![
        with(node("Concat", "", &["x", "h"], &["xh"]), &[int("axis", 1)]),
        node("MatMul", "", &["xh", "K"], &["product"]),
        node("Add", "", &["product", "b"], &["raw"]),
        with(node("Split", "", &["raw"], &["i_raw", "g_raw", "f_plain", "o_raw"]), &[int("axis", -1), int("num_outputs", 4)]),
        node("Add", "", &["f_plain", "one"], &["f_raw"]),
    ];
    nodes.extend(tail("", "c"));
    let weights = vec![weights_of("K", &joint, true), floats_of("b", &[8], vec![0.5; 8]), floats_of("one", &[], vec![1.0])];
    let model = graph_of(nodes, weights, &STATES, &["h_n", "c_n"]);
    is_cell(&model, [0, 2, 1, 3], Some([0.5, 0.5, 1.5, 1.5, 0.5, 0.5, 0.5, 0.5]));
}

/// One product a gate, and a hard sigmoid of a clip.
#[test]
fn products_of_their_own_and_clips_are_a_cell() {
    let mut nodes = Vec::new();
    let mut weights = vec![floats_of("three", &[], vec![3.0]), floats_of("zero", &[], vec![0.0]), floats_of("six", &[], vec![6.0])];
    weights.push(floats_of("sixth", &[], vec![1.0 / 6.0]));
    let rows = |rows: Vec<Vec<f32>>, gate: usize| rows[gate * HIDDEN..(gate + 1) * HIDDEN].to_vec();
    for (gate, name) in ["i", "f", "g", "o"].iter().enumerate() {
        let own = |what: &str| format!("{name}_{what}");
        weights.push(weights_of(&own("W"), &rows(matrix(INPUT, 100.0), gate), true));
        weights.push(weights_of(&own("R"), &rows(matrix(HIDDEN, 200.0), gate), true));
        nodes.push(node("MatMul", "", &["x", &own("W")], &[&own("of_x")]));
        nodes.push(node("MatMul", "", &["h", &own("R")], &[&own("of_h")]));
        nodes.push(node("Add", "", &[&own("of_x"), &own("of_h")], &[&own("raw")]));
    }
    let mut rest = tail("", "c");
    for place in [0, 1, 3] {
        let name = ["i", "f", "", "o"][place];
        let own = |what: &str| format!("{name}_{what}");
        nodes.push(node("Add", "", &[&own("raw"), "three"], &[&own("above")]));
        nodes.push(node("Clip", "", &[&own("above"), "zero", "six"], &[&own("held")]));
        rest[place] = node("Mul", "", &[&own("held"), "sixth"], &[name]);
    }
    nodes.extend(rest);
    let model = graph_of(nodes, weights, &STATES, &["h_n", "c_n"]);
    let network = is_cell(&model, [0, 1, 2, 3], None);
    let activations = lstm(&network).config().activations[0];
    assert_eq!(activations.gate, Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 });
    assert_eq!((activations.candidate, activations.output), (Activation::Tanh, Activation::Tanh));
}

/// Each of these differs from a cell by one edge or one operator.
#[test]
fn what_is_nearly_a_cell_stays_as_it_is() {
    type Change = fn(&mut GraphProto);
    let changes: [(&str, Change); 9] = [
        ("a gate without its activation", |graph| graph.node[8].input[0] = "f_raw".to_owned()),
        ("gates of two kinds", |graph| graph.node[5].op_type = "HardSigmoid".to_owned()),
        ("a gate that somebody else reads", |graph| graph.output.push(ValueInfoProto { name: "i".to_owned(), value_type: None })),
        ("an output of the cell state before", |graph| graph.node[11].input[0] = "c".to_owned()),
        ("a difference", |graph| graph.node[10].op_type = "Sub".to_owned()),
        ("a candidate that is its own square", |graph| graph.node[9].input[0] = "g".to_owned()),
        ("gates of x alone", |graph| graph.node[2].input[0] = "of_x".to_owned()),
        ("a hidden state of another width", |graph| graph.node[3].input[1] = "others".to_owned()),
        ("an operator that no LSTM has", |graph| graph.node[11].op_type = "Sin".to_owned()),
    ];
    for (what, change) in changes {
        let mut model = torch_cell();
        graph(&mut model).initializer.push(ints_of("others", &[2, 2, 3, 1]));
        change(graph(&mut model));
        let network = read(&model).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(network.lstms().count(), 0, "{what}");
    }
}

#[test]
fn weights_of_the_call_make_no_cell() {
    let mut model = torch_cell();
    let graph = graph(&mut model);
    graph.initializer.retain(|tensor| tensor.name != "R");
    graph.input.push(info("R", FLOAT, &[8, 2]));
    is_none(&model);
}

/// Three steps over rows of `x [N, 3, I]`; `rows` are the places that they take, `matrices` the names of their matrices.
fn unrolled(rows: [i64; 3], matrices: [&str; 3]) -> ModelProto {
    let mut nodes = Vec::new();
    let mut weights = vec![
        weights_of("W", &matrix(INPUT, 100.0), true),
        weights_of("V", &matrix(INPUT, 300.0), true),
        weights_of("R", &matrix(HIDDEN, 200.0), true),
        ints_of("one", &[1]),
    ];
    let mut states = ["h".to_owned(), "c".to_owned()];
    for (step, (row, matrix)) in rows.into_iter().zip(matrices).enumerate() {
        let own = |name: &str| format!("{step}_{name}");
        weights.push(place_of(&own("place"), row));
        let gates = ["i_raw", "f_raw", "g_raw", "o_raw"].map(own);
        nodes.push(with(node("Gather", "", &["x", &own("place")], &[&own("x")]), &[int("axis", 1)]));
        nodes.push(node("MatMul", "", &[&own("x"), matrix], &[&own("of_x")]));
        nodes.push(node("MatMul", "", &[&states[0], "R"], &[&own("of_h")]));
        nodes.push(node("Add", "", &[&own("of_x"), &own("of_h")], &[&own("raw")]));
        nodes.push(with(node("Split", "", &[&own("raw")], &gates.each_ref().map(String::as_str)), &[int("axis", 1), int("num_outputs", 4)]));
        nodes.extend(tail(&own(""), &states[1]));
        nodes.push(node("Unsqueeze", "", &[&own("h_n"), "one"], &[&own("row")]));
        states = [own("h_n"), own("c_n")];
    }
    nodes.push(with(node("Concat", "", &["0_row", "1_row", "2_row"], &["y"]), &[int("axis", 1)]));
    graph_of(nodes, weights, &[("x", &[0, 0, 3]), ("h", &[0, 2]), ("c", &[0, 2])], &["y", "2_c_n"])
}

#[test]
fn steps_over_the_rows_of_a_tensor_are_one_lstm() {
    for (rows, direction) in [([0, 1, 2], Direction::Forward), ([4, 5, 6], Direction::Forward), ([2, 1, 0], Direction::Reverse)] {
        let network = is_cell(&unrolled(rows, ["W"; 3]), [0, 1, 2, 3], None);
        assert_eq!(lstm(&network).config().direction, direction);
    }
}

#[test]
fn steps_of_other_weights_or_rows_are_lstms_of_their_own() {
    let count = |model: &ModelProto| read(model).expect("a model").lstms().count();
    assert_eq!(count(&unrolled([0, 2, 1], ["W"; 3])), 3);
    assert_eq!(count(&unrolled([0, 1, 2], ["W", "V", "W"])), 3);
    assert_eq!(count(&unrolled([0, 1, 2], ["W", "W", "V"])), 2);
    let mut model = unrolled([0, 1, 2], ["W"; 3]);
    graph(&mut model).output.push(ValueInfoProto { name: "1_c_n".to_owned(), value_type: None });
    assert_eq!(count(&model), 2, "a cell state in the middle is read");
}

/// A `Loop` of as many turns as `x [T, N, I]` has rows; `turns` makes their number, `masked` keeps old states.
fn looped(turns: &str, masked: bool) -> ModelProto {
    let mut nodes = vec![
        node("Gather", "", &["x", "turn"], &["x_t"]),
        node("MatMul", "", &["x_t", "W"], &["of_x"]),
        node("MatMul", "", &["h_in", "R"], &["of_h"]),
        node("Add", "", &["of_x", "of_h"], &["raw"]),
        with(node("Split", "", &["raw"], &["i_raw", "f_raw", "g_raw", "o_raw"]), &[int("axis", 1), int("num_outputs", 4)]),
    ];
    nodes.extend(tail("", "c_in"));
    let h = if masked { "h_kept" } else { "h_n" };
    if masked {
        nodes.push(node("Where", "", &["goes_on", "h_n", "h_in"], &["h_kept"]));
    }
    nodes.push(node("Identity", "", &["goes_on"], &["still"]));
    nodes.push(node("Identity", "", &["h_n"], &["y_t"]));
    let untyped = |name: &&str| ValueInfoProto { name: (*name).to_owned(), value_type: None };
    let body = GraphProto {
        node: nodes,
        input: ["turn", "goes_on", "h_in", "c_in"].iter().map(untyped).collect(),
        output: ["still", h, "c_n", "y_t"].iter().map(untyped).collect(),
        ..GraphProto::default()
    };
    let outer = vec![
        node("Shape", "", &["x"], &["axes"]),
        node("Gather", "", &["axes", "zero"], &["rows"]),
        with(node("Loop", "", &[turns, "always", "h", "c"], &["h_end", "c_end", "y"]), &[AttributeProto::of_graph("body", body)]),
    ];
    let weights = vec![
        weights_of("W", &matrix(INPUT, 100.0), true),
        weights_of("R", &matrix(HIDDEN, 200.0), true),
        place_of("zero", 0),
        place_of("two", 2),
        TensorProto { name: "always".to_owned(), data_type: BOOL, int32_data: vec![1], ..TensorProto::default() },
    ];
    graph_of(outer, weights, &[("x", &[0, 0, 3]), ("h", &[0, 2]), ("c", &[0, 2])], &["h_end", "c_end", "y"])
}

#[test]
fn loops_over_the_rows_of_a_tensor_are_one_lstm() {
    for turns in ["rows", "two"] {
        is_cell(&looped(turns, false), [0, 1, 2, 3], None);
    }
}

#[test]
fn masked_loops_stay_as_they_are() {
    is_none(&looped("rows", true));
}

#[test]
fn loops_of_another_number_of_turns_stay_as_they_are() {
    let mut model = looped("columns", false);
    let graph = graph(&mut model);
    graph.initializer.push(place_of("second", 1));
    graph.node.insert(1, node("Gather", "", &["axes", "second"], &["columns"]));
    is_none(&model);
}

#[test]
fn scans_are_one_lstm() {
    let mut model = looped("rows", false);
    let graph = graph(&mut model);
    let mut scan = graph.node.pop().expect("a loop");
    let mut body = scan.attribute[0].g.take().expect("a body");
    body.node.retain(|node| !["Gather", "Identity"].contains(&node.op_type.as_str()));
    body.node.push(node("Identity", "", &["h_n"], &["y_t"]));
    body.input = ["h_in", "c_in", "x_t"].iter().map(|name| ValueInfoProto { name: (*name).to_owned(), value_type: None }).collect();
    body.output.remove(0);
    scan.op_type = "Scan".to_owned();
    scan.input = texts(&["h", "c", "x"]);
    scan.attribute = vec![AttributeProto::of_graph("body", *body), int("num_scan_inputs", 1)];
    graph.node = vec![scan];
    is_cell(&model, [0, 1, 2, 3], None);
}

/// A step that is an `LSTM` node, as PyTorch writes it in a scripted loop.
#[test]
fn lstm_nodes_in_loops_are_one_lstm() {
    let mut model = looped("rows", false);
    let graph = graph(&mut model);
    let body = graph.node[2].attribute[0].g.as_mut().expect("a body");
    body.node.truncate(1);
    body.node.extend([
        node("Unsqueeze", "", &["x_t", "first"], &["x_in"]),
        node("Unsqueeze", "", &["h_in", "first"], &["h_0"]),
        node("Unsqueeze", "", &["c_in", "first"], &["c_0"]),
        node("LSTM", "step", &["x_in", "W_whole", "R_whole", "", "", "h_0", "c_0"], &["", "Y_h", "Y_c"]),
        node("Squeeze", "", &["Y_h", "first"], &["h_n"]),
        node("Squeeze", "", &["Y_c", "first"], &["c_n"]),
        node("Identity", "", &["goes_on"], &["still"]),
        node("Identity", "", &["h_n"], &["y_t"]),
    ]);
    graph.initializer.extend([ints_of("first", &[0]), tensor("W_whole", &[1, GATES, INPUT]), tensor("R_whole", &[1, GATES, HIDDEN])]);
    let network = read(&model).expect("a model");
    assert_eq!(network.lstms().map(|(name, _)| name).collect::<Vec<_>>(), ["step"]);
    assert!(network.nodes[0].y.is_some() && network.nodes[0].h_0.is_some());
}
