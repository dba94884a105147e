//! Files made to take time or memory, or to end the process: each is read in a time and a room that follow from its size, or refused.

use std::time::{Duration, Instant};

use super::*;
use crate::formats::onnx::proto::FunctionProto;
use crate::formats::onnx::tensor::{DOUBLE, INT64};

/// What is read here takes a part of this on the slowest machine; work that grows with the square of the file takes a multiple.
const MOST_TIME: Duration = Duration::from_secs(60);

fn timely(model: &ModelProto) -> Result<Network> {
    let (bytes, started) = (model.encode_to_vec(), Instant::now());
    let read = super::super::read(&bytes, None, false);
    let time = started.elapsed();
    assert!(time < MOST_TIME, "{} bytes took {time:?}", bytes.len());
    read
}

/// The error of a model that must be refused for `kind`, with `words` in it.
fn refused_for(model: &ModelProto, kind: ErrorKind, words: &str) {
    let error = timely(model).expect_err(words);
    assert!(error.kind() == kind && error.to_string().contains(words), "{:?}: {error}", error.kind());
}

/// A graph of `nodes` from `X` to `Y`, with these constants.
fn model_from(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    model_with(|graph| {
        graph.node = nodes;
        graph.initializer.extend(initializer);
        graph.output = vec![info("Y", FLOAT, &[])];
    })
}

fn names(count: usize, name: &str) -> Vec<String> {
    (0..count).map(|number| format!("{name}{number}")).collect()
}

/// `count` nodes, each of which reads the one before it; from `X` to `Y`.
fn chain(count: usize, op_type: &str, others: &[&str]) -> Vec<NodeProto> {
    let mut tensors = names(count, "t");
    tensors.insert(0, "X".to_owned());
    tensors[count] = "Y".to_owned();
    tensors.windows(2).map(|pair| node(op_type, "", &[&[pair[0].as_str()], others].concat(), &[&pair[1]])).collect()
}

fn int64s(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { name: name.to_owned(), dims, data_type: INT64, int64_data: values.to_vec(), ..TensorProto::default() }
}

fn of_graph(name: &str, nodes: Vec<NodeProto>, inputs: &[&str], outputs: &[&str]) -> AttributeProto {
    let infos = |names: &[&str]| names.iter().map(|name| ValueInfoProto { name: (*name).to_owned(), value_type: None }).collect();
    AttributeProto::of_graph(name, GraphProto { node: nodes, input: infos(inputs), output: infos(outputs), ..GraphProto::default() })
}

fn choice(condition: &str, output: &str, branch: &dyn Fn() -> Vec<NodeProto>, made: &str) -> NodeProto {
    let attribute = ["then_branch", "else_branch"].map(|name| of_graph(name, branch(), &[], &[made])).to_vec();
    NodeProto { attribute, ..node("If", "", &[condition], &[output]) }
}

#[test]
fn long_chains_take_time_that_grows_with_their_length() {
    for (op_type, count) in [("Identity", 100_000), ("Sigmoid", 20_000), ("Transpose", 50_000), ("Shape", 50_000)] {
        let read = timely(&model_from(chain(count, op_type, &[]), vec![]));
        assert!(read.is_ok(), "{op_type}: {read:?}");
    }
    let shuffled: Vec<NodeProto> = chain(20_000, "Sigmoid", &[]).into_iter().rev().collect();
    timely(&model_from(shuffled, vec![])).expect("a model");
    refused_for(&model_from(chain(70_000, "Sigmoid", &[]), vec![]), ErrorKind::Limit, "at most 65536 nodes for the CPU, found 70000");
}

#[test]
fn many_lstms_take_time_that_grows_with_their_number() {
    let weights = vec![tensor("w", &[1, 4 * HIDDEN, HIDDEN])];
    let mut nodes = vec![node("LSTM", "", &["X", "W", "R"], &["y0"])];
    for number in 0..5_000 {
        let [from, squeezed, to] = [format!("y{number}"), format!("s{number}"), format!("y{}", number + 1)];
        nodes.push(node("Squeeze", "", &[&from, "one"], &[&squeezed]));
        nodes.push(node("LSTM", "", &[&squeezed, "w", "R"], &[&to]));
    }
    nodes.push(node("Identity", "", &["y5000"], &["Y"]));
    let network = timely(&model_from(nodes, [weights, vec![int64s("one", &[1])]].concat())).expect("a model");
    assert_eq!(network.lstms().map(|(_, lstm)| lstm.expect("constant weights").config().num_layers).collect::<Vec<_>>(), [5_001]);
    let nodes = names(20_000, "y").iter().map(|name| node("LSTM", "", &["X", "W", "R"], &[name])).collect();
    let model = model_with(|graph| {
        graph.node = nodes;
        graph.output = names(20_000, "y").iter().map(|name| info(name, FLOAT, &[])).collect();
    });
    assert_eq!(timely(&model).expect("a model").lstms().count(), 20_000);
}

#[test]
fn names_that_come_again_and_again_get_others() {
    let branch = || vec![node("Sigmoid", "", &["X"], &["a"])];
    let mut nodes: Vec<NodeProto> = names(20_000, "t").iter().map(|name| choice("c", name, &branch, "a")).collect();
    nodes.push(NodeProto { input: names(20_000, "t"), ..node("Sum", "", &[], &["Y"]) });
    let model = model_with(|graph| {
        (graph.node, graph.output) = (nodes, vec![info("Y", FLOAT, &[])]);
        graph.input.push(info("c", 9, &[]));
    });
    timely(&model).expect("a model");
}

#[test]
fn bodies_of_loops_take_time_that_grows_with_their_size() {
    let reading = |count: usize| {
        let outer = names(count, "o");
        let mut nodes: Vec<NodeProto> = outer.iter().map(|name| node("Sigmoid", "", &["X"], &[name])).collect();
        let mut inner: Vec<NodeProto> = outer.iter().enumerate().map(|(place, name)| node("Neg", "", &[name], &[&format!("i{place}")])).collect();
        inner.push(node("Identity", "", &["go"], &["on"]));
        inner.push(NodeProto { input: names(count, "i"), ..node("Sum", "", &[], &["sum"]) });
        let body = of_graph("body", inner, &["step", "go", "carried"], &["on", "sum"]);
        nodes.push(NodeProto { attribute: vec![body], ..node("Loop", "", &["count", "", "X"], &["Y"]) });
        model_from(nodes, vec![int64s("count", &[2])])
    };
    timely(&reading(3_000)).expect("a model");
    refused_for(&reading(50_000), ErrorKind::Limit, "at most 4096 tensors that a node's graphs read from outside");
}

#[test]
fn a_loop_of_constants_is_not_run_while_it_is_read() {
    let inner = vec![node("Identity", "", &["go"], &["on"]), node("Neg", "", &["carried"], &["next"])];
    let body = of_graph("body", inner, &["step", "go", "carried"], &["on", "next"]);
    let forever = NodeProto { attribute: vec![body], ..node("Loop", "", &["count", "true", "W"], &["last"]) };
    let truth = TensorProto { name: "true".to_owned(), data_type: 9, int32_data: vec![1], ..TensorProto::default() };
    let nodes = vec![forever, node("Sigmoid", "", &["X"], &["x"]), node("MatMul", "", &["last", "x"], &["Y"])];
    timely(&model_from(nodes, vec![int64s("count", &[1 << 30]), truth])).expect("a model");
}

#[test]
fn what_follows_from_constants_is_not_made_beyond_the_size_of_the_file() {
    // 2 to the power of 40 elements
    let mut doubling: Vec<NodeProto> = (0..40)
        .map(|step| NodeProto {
            attribute: vec![int("axis", 0)],
            ..node("Concat", "", &[&format!("d{step}"), &format!("d{step}")], &[&format!("d{}", step + 1)])
        })
        .collect();
    doubling.push(node("Sigmoid", "", &["X"], &["x"]));
    doubling.push(node("Add", "", &["x", "d40"], &["Y"]));
    timely(&model_from(doubling, vec![tensor("d0", &[1])])).expect("a model");

    let large = 1 << 28;
    let makers: [(&str, Vec<TensorProto>); 4] = [
        ("ConstantOfShape", vec![int64s("n", &[large])]),
        ("Expand", vec![tensor("one", &[1]), int64s("n", &[large])]),
        ("Tile", vec![tensor("one", &[1]), int64s("n", &[large])]),
        ("MatMul", vec![tensor("column", &[1000, 1]), tensor("row", &[1, 1000])]),
    ];
    for (op_type, constants) in makers {
        let inputs: Vec<&str> = constants.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut nodes: Vec<NodeProto> = (0..20).map(|number| node(op_type, "", &inputs, &[&format!("m{number}")])).collect();
        nodes.push(node("Sigmoid", "", &["X"], &["m20"]));
        nodes.push(NodeProto { input: names(21, "m"), ..node("Sum", "", &[], &["Y"]) });
        timely(&model_from(nodes, constants.clone())).expect(op_type);
    }
    let beyond = model_from(vec![node("ConstantOfShape", "", &["n"], &["m"]), node("Add", "", &["X", "m"], &["Y"])], vec![int64s("n", &[1 << 30])]);
    refused_for(&beyond, ErrorKind::Limit, "asks for 1073741824");
}

#[test]
fn a_large_constant_is_not_read_by_node_after_node() {
    let mut nodes: Vec<NodeProto> = names(20_000, "m").iter().map(|name| node("ReduceSum", "", &["large"], &[name])).collect();
    nodes.push(NodeProto { input: names(20_000, "m"), ..node("Sum", "", &[], &["sum"]) });
    nodes.push(node("Add", "", &["X", "sum"], &["Y"]));
    timely(&model_from(nodes, vec![tensor("large", &[1 << 18])])).expect("a model");
    let zeros = TensorProto { float_data: vec![0.0; 1 << 18], ..tensor("zeros", &[1 << 18]) };
    let nodes = names(20_000, "m").iter().map(|name| node("LSTM", "", &["X", "W", "R", "", "", "zeros"], &[name])).collect();
    let model = model_with(|graph| {
        graph.node = nodes;
        graph.initializer.push(zeros);
        graph.output = names(20_000, "m").iter().map(|name| info(name, FLOAT, &[])).collect();
    });
    timely(&model).expect("a model");
}

#[test]
fn constants_are_not_copied_without_end() {
    // every segment between two LSTMs has a copy of `large`
    let mut nodes = vec![node("LSTM", "", &["X", "W", "R"], &["y0"])];
    for number in 0..500 {
        let [from, added, squeezed, to] = [format!("y{number}"), format!("a{number}"), format!("s{number}"), format!("y{}", number + 1)];
        nodes.push(node("Add", "", &[&from, "large"], &[&added]));
        nodes.push(node("Squeeze", "", &[&added, "one"], &[&squeezed]));
        nodes.push(node("LSTM", "", &[&squeezed, "w", "R"], &[&to]));
    }
    nodes.push(node("Identity", "", &["y500"], &["Y"]));
    let constants = vec![tensor("w", &[1, 4 * HIDDEN, HIDDEN]), tensor("large", &[1 << 16, 2]), int64s("one", &[1])];
    refused_for(&model_from(nodes, constants), ErrorKind::Limit, "constants: expected ones that few parts of the graph share");

    let mut nodes = vec![node("LSTM", "", &["X", "W", "R"], &["", "t0"])];
    nodes.extend((0..1000).map(|number| node("MatMul", "", &[&format!("t{number}"), "large"], &[&format!("t{}", number + 1)])));
    nodes.push(node("Sigmoid", "", &["t1000"], &["Y"]));
    let model = model_from(nodes, vec![tensor("large", &[256, 256])]);
    refused_for(&model, ErrorKind::Config, "weights: expected no more than 16 numbers for each byte of the file");
}

#[test]
fn shape_arithmetic_between_lstms_is_followed_so_far() {
    // a sum of two sums of two sums, 60 times: as a tree it has 2 to the power of 60 leaves
    let mut nodes = vec![node("LSTM", "", &["X", "W", "R"], &["y"]), node("Shape", "", &["X"], &["n0"])];
    nodes.extend((0..60).map(|step| node("Add", "", &[&format!("n{step}"), &format!("n{step}")], &[&format!("n{}", step + 1)])));
    nodes.push(node("Reshape", "", &["y", "n60"], &["x"]));
    nodes.push(node("LSTM", "", &["x", "w", "R"], &["Y"]));
    timely(&model_from(nodes, vec![tensor("w", &[1, 4 * HIDDEN, HIDDEN])])).expect("a model");
    let mut nodes = vec![node("LSTM", "", &["X", "W", "R"], &["y"]), node("Shape", "", &["X"], &["n0"])];
    nodes.extend((0..100_000).map(|step| node("Neg", "", &[&format!("n{step}")], &[&format!("n{}", step + 1)])));
    nodes.push(node("Reshape", "", &["y", "n100000"], &["x"]));
    nodes.push(node("LSTM", "", &["x", "w", "R"], &["Y"]));
    timely(&model_from(nodes, vec![tensor("w", &[1, 4 * HIDDEN, HIDDEN])])).expect("a model");
}

#[test]
fn lists_of_sizes_are_followed_so_far() {
    // `Shape` of what a segment makes, doubled 40 times
    let mut nodes = vec![node("Sigmoid", "", &["X"], &["x"]), node("Shape", "", &["x"], &["n0"])];
    nodes.extend((0..40).map(|step| NodeProto {
        attribute: vec![int("axis", 0)],
        ..node("Concat", "", &[&format!("n{step}"), &format!("n{step}")], &[&format!("n{}", step + 1)])
    }));
    nodes.push(node("Expand", "", &["x", "n40"], &["Y"]));
    timely(&model_from(nodes, vec![])).expect("a model");
    let value = TensorProto { int64_data: vec![7], ..int64s("value", &[0]) };
    let filled = AttributeProto { t: Some(TensorProto { int64_data: vec![7], ..value }), ..attribute("value", AttributeKind::Tensor) };
    let nodes = vec![
        node("Sigmoid", "", &["X"], &["x"]),
        node("Reshape", "", &["x", "n"], &["flat"]),
        node("Shape", "", &["flat"], &["size"]),
        NodeProto { attribute: vec![filled], ..node("ConstantOfShape", "", &["size"], &["Y"]) },
    ];
    timely(&model_from(nodes, vec![int64s("n", &[i64::from(i32::MAX)])])).expect("a model");
}

#[test]
fn functions_make_no_more_than_a_multiple_of_the_file() {
    let function = |name: &str, body: Vec<NodeProto>| FunctionProto {
        name: name.to_owned(),
        domain: "f".to_owned(),
        input: texts(&["a"]),
        output: texts(&["b"]),
        node: body,
        ..FunctionProto::default()
    };
    let call = |name: &str, input: &str, output: &str| NodeProto { domain: "f".to_owned(), ..node(name, "", &[input], &[output]) };
    let calls = |count| chain(count, "large", &[]).into_iter().map(|node| NodeProto { domain: "f".to_owned(), ..node }).collect::<Vec<_>>();
    let value = AttributeProto { t: Some(tensor("", &[1 << 16])), ..attribute("value", AttributeKind::Tensor) };
    let constant = NodeProto { attribute: vec![value.clone()], ..node("Constant", "", &[], &["k"]) };
    let body = vec![constant, node("Add", "", &["a", "k"], &["b"])];
    let model = ModelProto { functions: vec![function("large", body)], ..model_from(calls(1000), vec![]) };
    refused_for(&model, ErrorKind::Limit, "16 times the file");
    // a large attribute of the caller, again and again
    let refer = AttributeProto { ref_attr_name: "value".to_owned(), ..attribute("value", AttributeKind::Tensor) };
    let body = vec![NodeProto { attribute: vec![refer; 1000], ..node("Constant", "", &[], &["b"]) }];
    let with_value = |node: NodeProto| NodeProto { attribute: vec![value.clone()], ..node };
    let model = ModelProto { functions: vec![function("large", body)], ..model_from(calls(1).into_iter().map(with_value).collect(), vec![]) };
    refused_for(&model, ErrorKind::Limit, "16 times the file");
    // a long name before each of many
    let body = (0..5000).map(|number| node("Sigmoid", "", &["a"], &[&format!("c{number}")])).chain([node("Neg", "", &["a"], &["b"])]).collect();
    let named = |node: NodeProto| NodeProto { name: "n".repeat(50_000), ..node };
    let model = ModelProto { functions: vec![function("large", body)], ..model_from(calls(1).into_iter().map(named).collect(), vec![]) };
    refused_for(&model, ErrorKind::Limit, "16 times the file");
    // each calls the next one twice
    let halves = |level: usize| {
        let next = format!("f{}", level + 1);
        function(&format!("f{level}"), vec![call(&next, "a", "c"), call(&next, "c", "b")])
    };
    let model = ModelProto { functions: (0..40).map(halves).collect(), ..model_from(vec![call("f0", "X", "Y")], vec![]) };
    refused_for(&model, ErrorKind::Format, "functions within functions");
    let recursive = function("f0", vec![call("f0", "a", "b")]);
    refused_for(&ModelProto { functions: vec![recursive], ..model_from(vec![call("f0", "X", "Y")], vec![]) }, ErrorKind::Format, "to a depth of 32");
    // an If in an If in a function that is called in an If
    let deep = |level: usize| {
        let innermost = || vec![call(&format!("f{}", level + 1), "a", "d")];
        let middle = || vec![choice("a", "e", &innermost, "d")];
        let outer = || vec![choice("a", "g", &middle, "e")];
        function(&format!("f{level}"), vec![choice("a", "h", &outer, "g"), node("Identity", "", &["h"], &["b"])])
    };
    let model = ModelProto { functions: (0..31).map(deep).collect(), ..model_from(vec![call("f0", "X", "Y")], vec![]) };
    assert!(matches!(timely(&model).expect_err("a deep model").kind(), ErrorKind::Limit));
    // as many domains as functions
    let of_domain = |number: usize| {
        let opset_import = vec![OperatorSetIdProto { domain: format!("d{number}"), version: 1 }];
        FunctionProto { domain: format!("d{number}"), opset_import, ..function("f", vec![]) }
    };
    timely(&ModelProto { functions: (0..50_000).map(of_domain).collect(), ..super::model() }).expect("a model");
}

#[test]
fn nested_graphs_see_the_constants_around_them_without_a_copy() {
    let branch = || vec![node("Sigmoid", "", &["X"], &["a"])];
    let mut nodes: Vec<NodeProto> = names(5_000, "t").iter().map(|name| choice("c", name, &branch, "a")).collect();
    let lists = names(5_000, "k");
    nodes.extend(lists.iter().zip(names(5_000, "u")).map(|(list, made)| node("Reshape", "", &["X", list], &[&made])));
    nodes.push(NodeProto { input: [names(5_000, "t"), names(5_000, "u")].concat(), ..node("Sum", "", &[], &["Y"]) });
    let model = model_with(|graph| {
        (graph.node, graph.output) = (nodes, vec![info("Y", FLOAT, &[])]);
        graph.initializer.extend(lists.iter().map(|list| int64s(list, &[1, -1])));
        graph.input.push(info("c", 9, &[]));
    });
    timely(&model).expect("a model");
}

#[test]
fn many_outputs_inputs_and_notes_take_time_that_grows_with_their_number() {
    let giving = |count: usize| {
        let made = names(count, "y");
        model_with(|graph| {
            graph.node = made.iter().map(|name| node("Sigmoid", "", &["X"], &[name])).collect();
            graph.output = made.iter().map(|name| info(name, FLOAT, &[])).collect();
        })
    };
    timely(&giving(8_000)).expect("a model");
    refused_for(&giving(60_000), ErrorKind::Limit, "at most 8192 outputs for the CPU, found 60000");
    let states = names(20_000, "h");
    let double = |name: &String| TensorProto { data_type: DOUBLE, float_data: vec![], double_data: vec![1.0; 2], ..tensor(name, &[1, 1, 2]) };
    let model = model_with(|graph| {
        graph.node = states.iter().map(|name| node("LSTM", "", &["X", "W", "R", "", "", name], &[&format!("y.{name}")])).collect();
        graph.initializer.extend(states.iter().map(double));
        graph.output = states.iter().map(|name| info(&format!("y.{name}"), FLOAT, &[])).collect();
    });
    timely(&model).expect("a model");
}

#[test]
fn messages_of_nothing_are_refused() {
    let empty = vec![AttributeProto::default(); 200_000];
    refused_for(&model_of(&empty), ErrorKind::Limit, "found too many empty ones");
    refused_for(&model_with(|graph| graph.initializer = vec![TensorProto::default(); 200_000]), ErrorKind::Limit, "found too many empty ones");
    refused_for(&model_with(|graph| graph.node = vec![NodeProto::default(); 200_000]), ErrorKind::Limit, "found too many empty ones");
}

#[test]
fn a_cycle_is_found_among_many_names() {
    let inputs = [names(200_000, "t"), texts(&["Y"])].concat();
    let mut nodes: Vec<NodeProto> = names(200_000, "t").iter().map(|name| node("Sigmoid", "", &["X"], &[name])).collect();
    nodes.push(NodeProto { input: inputs, ..node("Sum", "sum", &[], &["Y"]) });
    refused_for(&model_from(nodes, vec![]), ErrorKind::Format, "node `sum`: expected inputs that do not depend on its outputs, found a cycle");
}

#[test]
fn makers_are_unique_and_known() {
    let twice = model_with(|graph| graph.initializer.push(tensor("Y", &[1])));
    refused_for(&twice, ErrorKind::Format, "tensor `Y`: expected one maker, found two");
    let nobody = model_with(|graph| graph.output.push(info("Z", FLOAT, &[])));
    refused_for(&nobody, ErrorKind::Format, "tensor `Z`: expected a maker, found none");
    let unnamed = model_with(|graph| graph.output.push(info("", FLOAT, &[])));
    refused_for(&unnamed, ErrorKind::Format, "tensor ``: expected a maker, found none");
    let missing = model_with(|graph| graph.node.push(node("Sigmoid", "s", &["Z"], &["z"])));
    refused_for(&missing, ErrorKind::Format, "node `s`: tensor `Z`: expected a maker, found none");
    // the names that a joined stack gives to its states
    let weights = tensor("w", &[1, 4 * HIDDEN, HIDDEN]);
    let model = model_with(|graph| {
        graph.node = vec![
            node("LSTM", "a", &["X", "W", "R", "", "", "h"], &["y"]),
            node("Squeeze", "", &["y", "one"], &["x"]),
            node("LSTM", "b", &["x", "w", "R", "", "", "a + b.h_0"], &["Y"]),
        ];
        graph.initializer.extend([weights, int64s("one", &[1])]);
        graph.input.extend([info("h", FLOAT, &[1, 0, 2]), info("a + b.h_0", FLOAT, &[1, 0, 2])]);
    });
    let network = timely(&model).expect("a model");
    assert_eq!((network.nodes.len(), network.nodes[0].h_0.as_deref()), (1, Some("a + b.h_0_")));
}

#[test]
fn tensors_have_few_axes_and_known_types() {
    let many = TensorProto { dims: vec![1; 100_000], float_data: vec![1.0], ..tensor("large", &[1]) };
    refused_for(&model_with(|graph| graph.initializer.push(many)), ErrorKind::Limit, "expected at most 64 axes, found 100000");
    let text = TensorProto { data_type: 8, float_data: vec![], string_data: vec![b"a".to_vec()], ..tensor("text", &[1]) };
    let model = model_from(vec![node("Add", "", &["X", "text"], &["Y"])], vec![text]);
    assert!(timely(&model).is_err());
    let negative = TensorProto { dims: vec![-1], ..tensor("negative", &[1]) };
    refused_for(&model_with(|graph| graph.initializer.push(negative)), ErrorKind::Format, "expected axes that a tensor can have");
    refused_for(&model_of(&[float("clip", f32::NAN)]), ErrorKind::Config, "a bound above 0, found NaN");
}

#[test]
fn stacks_that_wait_for_each_other_stay_apart() {
    // as stacks, `a` would wait for `b` and `b` for `a`
    let model = model_with(|graph| {
        graph.node = vec![
            node("LSTM", "a1", &["X", "W", "R", "", "", "h"], &["ya", "ha"]),
            node("LSTM", "b1", &["X", "W", "R", "", "", "h"], &["yb", "hb"]),
            node("Squeeze", "", &["ya", "one"], &["xa"]),
            node("Squeeze", "", &["yb", "one"], &["xb"]),
            node("LSTM", "a2", &["xa", "w", "R", "", "", "hb"], &["Y"]),
            node("LSTM", "b2", &["xb", "w", "R", "", "", "ha"], &["Z"]),
        ];
        graph.initializer.extend([tensor("w", &[1, 4 * HIDDEN, HIDDEN]), int64s("one", &[1])]);
        graph.input.push(info("h", FLOAT, &[1, 0, 2]));
        graph.output = ["Y", "Z"].map(|name| info(name, FLOAT, &[])).to_vec();
    });
    assert_eq!(timely(&model).expect("a model").lstms().map(|(name, _)| name).collect::<Vec<_>>(), ["b1", "a1 + a2", "b2"]);
}
