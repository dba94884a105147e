use ndarray::{Array1, Array2, ArrayD, Axis, arr0, arr1, arr2, s};
use prost::Message;
use prost::bytes::Bytes;

use super::operators::{Missing, has_operator};
use super::proto::{AttributeProto, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::{Segment, missing_operators};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{ElementType, Tensor, TensorView};

const FLOAT: i32 = 1;

fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let name = format!("the_{op_type}");
    NodeProto { input: names(input), output: names(output), name, op_type: op_type.to_owned(), ..NodeProto::default() }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: ints.to_vec(), ..AttributeProto::default() }
}

fn text(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), s: Bytes::from(s), ..AttributeProto::default() }
}

fn int64s(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![values.len() as i64];
    TensorProto { dims, data_type: INT64, int64_data: values.to_vec(), name: name.to_owned(), ..TensorProto::default() }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
    TensorProto { dims: dims.to_vec(), data_type: FLOAT, raw_data, name: name.to_owned(), ..TensorProto::default() }
}

fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>, inputs: &[&str], outputs: &[&str]) -> GraphProto {
    let infos = |names: &[&str]| names.iter().map(|&name| ValueInfoProto { name: name.to_owned() }).collect();
    GraphProto { node, initializer, input: infos(inputs), output: infos(outputs) }
}

fn of_opset(version: i64, graph: GraphProto) -> Result<Segment> {
    let names = |infos: &[ValueInfoProto]| infos.iter().map(|info| info.name.clone()).collect::<Vec<_>>();
    let (inputs, outputs) = (names(&graph.input), names(&graph.output).into_iter().map(|name| (name, None)).collect());
    let model = ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![OperatorSetIdProto { domain: String::new(), version }] };
    Segment::new(model.encode_to_vec(), inputs, outputs)
}

fn segment(graph: GraphProto) -> Result<Segment> {
    of_opset(17, graph)
}

/// A segment that returns one tensor, of type `expected`.
fn typed(graph: GraphProto, expected: ElementType) -> Segment {
    let mut segment = segment(graph).expect("a segment");
    segment.outputs[0].element_type = Some(expected);
    segment
}

fn refused<T>(result: Result<T>, kind: ErrorKind, text: &str) -> Error {
    let Err(error) = result else { panic!("expected an error: {text}") };
    assert!(error.kind() == kind && error.to_string().contains(text), "{error:?}, expected {kind:?}: {text}");
    error
}

#[test]
fn computes_from_views_of_any_layout() {
    let add = segment(graph(vec![node("Add", &["a", "b"], &["y"])], vec![], &["a", "b"], &["y"])).expect("a segment");
    let a = Array2::from_shape_fn((3, 4), |(row, column)| (10 * row + column) as f32);
    let transposed = a.t();
    let sliced = a.slice(s![..;-1, 1..3]);
    let broadcast = a.slice(s![0, 1..3]);
    for (left, right) in [(a.view(), a.view()), (transposed, transposed), (sliced, broadcast.insert_axis(Axis(0)))] {
        let out = add.run(&[left.into(), right.into()]).expect("a sum");
        assert_eq!(out, [Tensor::F32((&left + &right).into_dyn())]);
    }
    let empty = Array2::<f32>::zeros((0, 4));
    assert_eq!(add.run(&[empty.view().into(), empty.view().into()]).expect("nothing"), [Tensor::F32(empty.into_dyn())]);
}

#[test]
fn element_types_come_back_as_declared() {
    let same = |expected| typed(graph(vec![node("Identity", &["x"], &["y"])], vec![], &["x"], &["y"]), expected);
    let tensors = [
        Tensor::from(arr1(&[1.5_f32])),
        Tensor::from(arr1(&[1.5_f64])),
        Tensor::from(arr1(&[-7_i32])),
        Tensor::from(arr1(&[i64::from(i32::MIN)])),
        Tensor::from(arr1(&[-7_i8])),
        Tensor::from(arr1(&[200_u8])),
        Tensor::from(arr1(&[true, false])),
    ];
    for tensor in tensors {
        assert_eq!(same(tensor.view().element_type()).run(&[tensor.view()]).expect("the same"), [tensor]);
    }
    let wide = arr1(&[0, 1_i64 << 31]);
    refused(
        same(ElementType::I64).run(&[wide.view().into()]),
        ErrorKind::Shape,
        "tensor `x`: expected int64 within int32 for the CPU, found 2147483648",
    );
    let x = arr1(&[1_i32]);
    refused(same(ElementType::F32).run(&[x.view().into()]), ErrorKind::Format, "tensor `y`: the model declares float32, its nodes make int32");
    refused(same(ElementType::F32).run(&[]), ErrorKind::Shape, "expected 1 inputs, found 0");
}

#[test]
fn outputs_may_be_inputs_constants_and_each_other() {
    let nodes = vec![node("Exp", &["x"], &["a"]), node("Identity", &["a"], &["b"]), node("Neg", &["k"], &["c"])];
    let segment = segment(graph(nodes, vec![floats("k", &[2], &[1.0, 2.0])], &["x"], &["a", "b", "x", "c", "k"])).expect("a segment");
    let out = segment.run(&[arr0(0.0_f32).view().into()]).expect("five tensors");
    let (one, zero) = (Tensor::from(arr0(1.0_f32)), Tensor::from(arr0(0.0_f32)));
    assert_eq!(out, [one.clone(), one, zero, arr1(&[-1.0_f32, -2.0]).into(), arr1(&[1.0_f32, 2.0]).into()]);
}

#[test]
fn a_branch_captures_what_is_outside() {
    let branch = |op: &str| graph(vec![node(op, &["x"], &["out"])], vec![], &[], &["out"]);
    let body = |name: &str, op: &str| AttributeProto { name: name.to_owned(), g: Some(branch(op)), ..AttributeProto::default() };
    let choose = with(with(node("If", &["c"], &["y"]), body("then_branch", "Neg")), body("else_branch", "Abs"));
    let segment = segment(graph(vec![choose], vec![], &["c", "x"], &["y"])).expect("a segment");
    let x = arr1(&[-2.0_f32, 3.0]);
    for (condition, expected) in [(true, arr1(&[2.0_f32, -3.0])), (false, arr1(&[2.0_f32, 3.0]))] {
        assert_eq!(segment.run(&[arr0(condition).view().into(), x.view().into()]).expect("a branch"), [Tensor::from(expected)]);
    }
}

#[test]
fn ends_beyond_every_axis_are_clamped() {
    let slice = node("Slice", &["x", "from", "to"], &["y"]);
    let segment = segment(graph(vec![slice], vec![int64s("from", &[1]), int64s("to", &[i64::MAX])], &["x"], &["y"])).expect("a segment");
    assert_eq!(segment.run(&[arr1(&[1.0_f32, 2.0, 3.0]).view().into()]).expect("a slice"), [Tensor::from(arr1(&[2.0_f32, 3.0]))]);
}

#[test]
fn every_missing_operator_is_named() {
    let inner = graph(vec![node("Dropout", &["x"], &["out"])], vec![], &[], &["out"]);
    let body = |name: &str| AttributeProto { name: name.to_owned(), g: Some(inner.clone()), ..AttributeProto::default() };
    let nodes = vec![
        node("Unique", &["x"], &["a"]),
        NodeProto { domain: "com.microsoft".to_owned(), ..node("FusedMatMul", &["a", "a"], &["b"]) },
        with(with(node("If", &["b"], &["y"]), body("then_branch")), body("else_branch")),
    ];
    let listed = missing_operators(nodes.iter().map(|node| (node.domain.as_str(), node.op_type.as_str(), node.name.as_str())));
    assert_eq!(listed[0], Missing { node: "the_Unique".to_owned(), operator: "Unique".to_owned(), why: String::new() });
    assert_eq!(listed.len(), 2);
    let text = "operators: the CPU does not have Unique (node `the_Unique`), com.microsoft/FusedMatMul (node `the_FusedMatMul`), Dropout (node `the_Dropout`)";
    refused(segment(graph(nodes, vec![], &["x"], &["y"])), ErrorKind::Config, text);
}

#[test]
fn the_list_of_operators_is_rtens() {
    let microsoft = super::operators::MICROSOFT.iter().map(|operator| ("com.microsoft", operator));
    for (domain, operator) in super::operators::OPERATORS.iter().map(|operator| ("", operator)).chain(microsoft) {
        let node = NodeProto { domain: domain.to_owned(), ..node(operator, &[], &["y"]) };
        let graph = graph(vec![node], vec![], &[], &[]);
        let model = ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![] };
        let loaded = rten::Model::load(model.encode_to_vec()).map_err(|error| error.to_string());
        assert!(loaded.is_ok() || !loaded.as_ref().is_err_and(|error| error.contains("not enabled")), "{operator}: {loaded:?}");
    }
    assert!(has_operator("ai.onnx", "Conv") && has_operator("com.microsoft", "Gelu"));
    assert!(!has_operator("com.microsoft", "Conv") && !has_operator("", "Scan") && !has_operator("", "BiasGelu"));
}

#[test]
fn variants_that_rten_computes_wrongly_are_refused() {
    let cast = |to| with(node("Cast", &["x"], &["y"]), int("to", to));
    let softmax = |axis| with(node("Softmax", &["x"], &["y"]), int("axis", axis));
    let wrong = [
        (12, softmax(1), "axis 1 of operator set 12"),
        (12, node("LogSoftmax", &["x"], &["y"]), "axis 1 of operator set 12"),
        (17, cast(9), "to bool"),
        (17, node("Sign", &["x"], &["y"]), "of 0 is 1"),
        (17, node("Softplus", &["x"], &["y"]), "infinite"),
        (17, node("ArgMax", &["x"], &["y"]), "equal elements"),
        (17, with(node("Resize", &["x"], &["y"]), text("mode", "cubic")), "mode cubic"),
        (17, with(node("Conv", &["x", "x"], &["y"]), text("auto_pad", "SAME_LOWER")), "SAME_LOWER"),
        (9, node("BatchNormalization", &["x", "x", "x", "x", "x"], &["y", "mean"]), "outputs of training"),
        (17, node("GRU", &["x", "x", "x"], &["y"]), "linear_before_reset 0"),
        (17, with(with(node("DFT", &["x", "x"], &["y"]), int("inverse", 1)), int("onesided", 1)), "half a spectrum to a length"),
        (17, node("LSTM", &["x", "x", "x", "", "x"], &["y"]), "sequence_lens"),
        (17, node("LSTM", &["x", "x", "x", "", "", "", "", "x"], &["y"]), "peepholes"),
        (17, node("QuantizeLinear", &["x", "x"], &["y"]), "does not name"),
    ];
    for (opset, node, text) in wrong {
        refused(of_opset(opset, graph(vec![node], vec![], &["x"], &["y"])), ErrorKind::Config, text);
    }
    for (opset, node) in [(12, softmax(-1)), (13, softmax(1)), (17, cast(1))] {
        of_opset(opset, graph(vec![node], vec![], &["x"], &["y"])).expect("right in rten");
    }
}

#[test]
fn what_would_end_the_process_is_refused_before_rten_sees_it() {
    let huge = [1 << 20, 1 << 20];
    let claims = [
        node("ConstantOfShape", &["k"], &["y"]),
        node("Expand", &["x", "k"], &["y"]),
        node("Tile", &["x", "k"], &["y"]),
        node("OneHot", &["x", "k", "x"], &["y"]),
        node("Resize", &["x", "", "", "k"], &["y"]),
        node("Pad", &["x", "p"], &["y"]),
        with(node("Conv", &["x", "x"], &["y"]), ints("pads", &[1 << 30, 0])),
        with(node("ConvTranspose", &["x", "x"], &["y"]), ints("strides", &[1 << 30])),
        node("Range", &["zero", "end", "one"], &["y"]),
    ];
    for node in claims {
        let constants = vec![int64s("k", &huge), int64s("p", &[1 << 30, 0]), int64s("zero", &[0]), int64s("end", &[1 << 30]), int64s("one", &[1])];
        let name = format!("node `{}`", node.name);
        refused(segment(graph(vec![node], constants, &["x"], &["y"])), ErrorKind::Limit, &name);
    }
    let node = || vec![node("Neg", &["k"], &["y"])];
    for dims in [&[1 << 32, 1 << 32][..], &[-1], &[0, i64::MAX, i64::MAX], &[1 << 20]] {
        refused(segment(graph(node(), vec![floats("k", dims, &[])], &[], &["y"])), ErrorKind::Format, "tensor `k`: shape");
    }
    refused(
        segment(graph(node(), vec![int64s("k", &[1 << 40])], &[], &["y"])),
        ErrorKind::Config,
        "tensor `k`: the CPU computes int64 as int32, found",
    );
}

#[test]
fn loops_that_do_not_end_are_refused() {
    let truth = |name: &str| TensorProto { dims: vec![], data_type: 9, int32_data: vec![1], name: name.to_owned(), ..TensorProto::default() };
    let number = |name: &str, value| TensorProto { dims: vec![], ..int64s(name, &[value]) };
    let body = |nodes: Vec<NodeProto>, own: Vec<TensorProto>| AttributeProto {
        name: "body".to_owned(),
        g: Some(graph([nodes, vec![node("Exp", &["v"], &["w"])]].concat(), own, &["i", "c", "v"], &["d", "w"])),
        ..AttributeProto::default()
    };
    let pass = || body(vec![node("Identity", &["c"], &["d"])], vec![]);
    let always = || body(vec![with(node("Cast", &["yes"], &["d"]), int("to", 6))], vec![truth("yes")]);
    let while_small = || body(vec![node("ReduceMax", &["v"], &["m"]), node("Less", &["m", "k"], &["d"])], vec![]);
    let repeat = |inputs: &[&str], body| vec![with(node("Loop", inputs, &["y"]), body)];
    let model = |nodes: Vec<NodeProto>| {
        graph(nodes, vec![number("max", i64::MAX), number("few", 3), number("many", 1 << 30), truth("on"), floats("k", &[], &[2.0])], &["x"], &["y"])
    };
    for (inputs, body) in [(["max", "on", "x"], pass()), (["", "", "x"], pass()), (["max", "on", "x"], always()), (["", "on", "k"], always())] {
        let text = "node `the_Loop` (Loop): expected one that ends, found no bound of its trips, and a condition that always holds";
        refused(segment(model(repeat(&inputs, body))), ErrorKind::Limit, text);
    }
    // rten computes what follows from constants as it loads a model; it is not let where nobody knows how much that is
    for (trips, body) in [("many", pass()), ("max", while_small()), ("late", while_small())] {
        let late = node("Add", &["few", "few"], &["late"]);
        segment(model([vec![late], repeat(&[trips, "on", "k"], body)].concat())).expect("a loop that may end");
    }
    for (inputs, body) in
        [(["few", "on", "x"], pass()), (["many", "on", "x"], while_small()), (["max", "on", "x"], while_small()), (["few", "on", "k"], always())]
    {
        segment(model(repeat(&inputs, body))).expect("a loop that ends");
    }
}

#[test]
fn panics_of_rten_are_errors() {
    // no time step at all, which rten asserts there is
    let conv = || with(with(node("Conv", &["x", "w"], &["y"]), ints("kernel_shape", &[3])), ints("pads", &[2, 2]));
    let weight = || floats("w", &[4, 3, 3], &[1.0; 36]);
    let run = segment(graph(vec![conv()], vec![weight()], &["x"], &["y"])).expect("a segment");
    let x = ArrayD::<f32>::zeros(vec![2, 3, 0]);
    for _ in 0..2 {
        refused(run.run(&[x.view().into()]), ErrorKind::Config, "segment: the CPU cannot compute it: assertion failed");
    }
    let constant = graph(vec![conv()], vec![weight(), floats("x", &[2, 3, 0], &[])], &[], &["y"]);
    refused(segment(constant).expect("a segment").run(&[]), ErrorKind::Config, "segment: the CPU cannot compute it: assertion failed");
}

#[test]
fn broken_graphs_and_shapes_that_do_not_fit_are_errors() {
    let unnamed = |bytes: &[u8]| Segment::new(bytes.to_vec(), vec![], vec![]);
    refused(unnamed(&[0xff; 9]), ErrorKind::Format, "segment: not an ONNX model");
    refused(unnamed(&[]), ErrorKind::Format, "graph: missing");
    let add = || graph(vec![node("Add", &["a", "b"], &["y"])], vec![], &["a", "b"], &["y"]);
    let model = ModelProto { ir_version: 8, graph: Some(add()), opset_import: vec![] }.encode_to_vec();
    let named = |inputs: &[&str], output: &str| {
        Segment::new(model.clone(), inputs.iter().map(|&name| name.to_owned()).collect(), vec![(output.to_owned(), None)])
    };
    refused(named(&["a", "c"], "y"), ErrorKind::Format, "tensor `c`: not an input");
    refused(named(&["a"], "y"), ErrorKind::Format, "tensor `b`: an input of the segment that nobody gives");
    refused(named(&["a", "b"], "z"), ErrorKind::Format, "tensor `z`: not an output");
    refused(segment(graph(vec![], vec![], &[], &["y"])).and_then(|segment| segment.run(&[])), ErrorKind::Config, "segment: ");

    let unknown = with(node("Add", &["a", "b"], &["y"]), int("broadcast", 1));
    let error = refused(segment(graph(vec![unknown], vec![], &["a", "b"], &["y"])), ErrorKind::Config, "node `the_Add`: operator error: unsupported");
    assert!(std::error::Error::source(&error).is_some());

    let add = segment(add()).expect("a segment");
    let (two, three) = (Array1::<f32>::zeros(2), Array1::<f32>::zeros(3));
    let error = refused(add.run(&[two.view().into(), three.view().into()]), ErrorKind::Shape, "node `the_Add`: ");
    assert!(error.to_string().contains("inputs (tensor(f32) [2], tensor(f32) [3])"), "{error}");
    let pow = segment(graph(vec![node("Pow", &["a", "b"], &["y"])], vec![], &["a", "b"], &["y"])).expect("a segment");
    refused(pow.run(&[two.view().into(), arr1(&[2_i32]).view().into()]), ErrorKind::Config, "node `the_Pow`: unsupported");
    let sequence = segment(graph(vec![node("SequenceConstruct", &["x"], &["y"])], vec![], &["x"], &["y"])).expect("a segment");
    refused(sequence.run(&[two.view().into()]), ErrorKind::Config, "tensor `y`: expected a tensor, found a sequence");
}

#[test]
fn a_segment_serves_many_threads() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let weight = arr2(&[[1.0_f32, 2.0], [3.0, 4.0]]);
    let product = graph(vec![node("MatMul", &["x", "w"], &["y"])], vec![floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])], &["x"], &["y"]);
    let segment = shared(segment(product).expect("a segment"));
    std::thread::scope(|scope| {
        for row in 0..4_u8 {
            let (segment, weight) = (&segment, &weight);
            scope.spawn(move || {
                let x = Array2::from_elem((1, 2), f32::from(row));
                for _ in 0..20 {
                    let view: TensorView<'_> = x.view().into();
                    let expected: ArrayD<f32> = x.dot(weight).into_dyn();
                    assert_eq!(segment.run(&[view]).expect("a product"), [Tensor::F32(expected)]);
                }
            });
        }
    });
}

#[test]
fn nodes_that_follow_each_other_are_as_many_as_there_may_be() {
    let name = |place: usize| format!("t{place}");
    let chain = |count: usize| {
        let nodes = (0..count).map(|place| node("Neg", &[&name(place)], &[&name(place + 1)])).collect();
        graph(nodes, vec![], &["t0"], &[&name(count)])
    };
    let x = arr1(&[1.0_f32, -2.0]);
    for count in [1 << 9, 30_000] {
        let deep = segment(chain(count)).expect("a segment");
        assert_eq!(deep.run(&[x.view().into_dyn().into()]).expect("outputs"), [x.clone().into()], "{count}");
    }
    refused(segment(chain(70_000)), ErrorKind::Limit, "at most 65536 nodes for the CPU, found 70000 or more");
}

#[test]
fn what_follows_from_constants_is_computed_in_a_run_where_it_is_large() {
    let nodes = vec![node("Expand", &["one", "shape"], &["large"]), node("Add", &["x", "large"], &["y"])];
    for len in [4_usize, 1 << 20] {
        let constants = vec![floats("one", &[1], &[1.0]), int64s("shape", &[len as i64])];
        let model = graph(nodes.clone(), constants, &["x"], &["y"]);
        let y = segment(model).expect("a segment").run(&[arr1(&[2.0_f32]).view().into_dyn().into()]).expect("outputs");
        assert_eq!(y, [Array1::from_elem(len, 3.0_f32).into()]);
    }
}

#[test]
fn advice_follows_from_what_a_graph_makes_of_constants() {
    let advice = |nodes: Vec<NodeProto>, constants: Vec<TensorProto>| {
        let graph = Some(graph(nodes, constants, &["x"], &["y"]));
        let model = ModelProto { ir_version: 8, graph, opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }] };
        let advice = super::check::model(&model, model.encoded_len()).expect("advice");
        (advice.optimise, advice.infer_shapes, advice.depth)
    };
    let joined = |input: &str| with(node("Concat", &[input, input], &[&format!("{input}{input}")]), int("axis", 0));
    assert_eq!(advice(vec![node("Add", &["x", "k"], &["y"])], vec![int64s("k", &[1])]), (true, true, 1));
    assert_eq!(advice(vec![node("Neg", &["k"], &["l"]), node("Add", &["x", "l"], &["y"])], vec![int64s("k", &[1])]), (true, true, 2));
    let doubled = |names: &[&str]| advice(names.iter().map(|name| joined(name)).collect(), vec![floats("k", &[1 << 14], &[0.0; 1 << 14])]);
    assert_eq!(doubled(&["k", "kk"]), (true, true, 2));
    assert_eq!(doubled(&["k", "kk", "kkkk", "kkkkkkkk"]), (false, true, 4));
    let tiled = vec![node("Tile", &["k", "many"], &["y"])];
    assert_eq!(advice(tiled, vec![floats("k", &[1], &[0.0]), int64s("many", &[1 << 25])]), (false, true, 1));
    assert_eq!(advice(vec![node("Einsum", &["k"], &["y"])], vec![int64s("k", &[1])]), (false, true, 1));
    let sizes = vec![node("Shape", &["x"], &["s"]), joined("s"), joined("ss"), node("Expand", &["x", "ssss"], &["y"])];
    assert_eq!(advice(sizes, vec![]), (true, true, 4));
    let value = AttributeProto { name: "value".to_owned(), t: Some(int64s("", &[7])), ..AttributeProto::default() };
    let filled = vec![node("Shape", &["x"], &["s"]), with(node("ConstantOfShape", &["s"], &["y"]), value)];
    assert_eq!(advice(filled, vec![]), (true, false, 2));
}
