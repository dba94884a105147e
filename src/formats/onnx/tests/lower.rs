//! Operators that the CPU's library lacks or gets wrong, run as what they are made of.

use ndarray::{ArrayD, IxDyn, arr0, arr1, arr2};

use super::*;
use crate::formats::onnx::tensor::{BOOL, INT32, INT64, encode};
use crate::tensor::Tensor;
use crate::{DeviceChoice, Engine, Inputs};

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeKind::Ints) }
}

fn inner(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(Box::new(graph)), ..attribute(name, AttributeKind::Graph) }
}

fn of(op_type: &str, input: &[&str], output: &[&str], attributes: &[AttributeProto]) -> NodeProto {
    NodeProto { attribute: attributes.to_vec(), ..node(op_type, "the node", input, output) }
}

/// A port of unknown shape.
fn port(name: &str, elem_type: i32) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), value_type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type, shape: None }) }) }
}

/// A model of one input `x` and these outputs, all of which `nodes` make.
fn model(opset: i64, nodes: &[NodeProto], constants: &[(&str, Tensor)], x: &Tensor, outputs: &[(&str, i32)]) -> ModelProto {
    let graph = GraphProto {
        node: nodes.to_vec(),
        initializer: constants.iter().map(|(name, tensor)| encode(name, tensor)).collect(),
        input: vec![port("x", encode("x", x).data_type)],
        output: outputs.iter().map(|(name, elem_type)| port(name, *elem_type)).collect(),
        ..GraphProto::default()
    };
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![set("", opset), set("com.microsoft", 1)], ..ModelProto::default() }
}

/// What these outputs are for `x`.
fn outputs(model: &ModelProto, x: &Tensor) -> Vec<Tensor> {
    let network = Network::from_bytes(&model.encode_to_vec()).expect("a model");
    let engine = Engine::new(DeviceChoice::Cpu).expect("a CPU");
    let mut session = engine.session(&network, crate::Options::default()).expect("a session");
    let made = session.run(&Inputs::new().with("x", x.view())).expect("a run");
    network.outputs().iter().map(|port| made.get(port.name.as_str()).expect("an output").clone()).collect()
}

/// Runs one node from `x` to `y`, for each of these opsets.
fn gives(opsets: &[i64], node: &NodeProto, constants: &[(&str, Tensor)], x: impl Into<Tensor>, expected: impl Into<Tensor>) {
    let (x, expected) = (x.into(), expected.into());
    for &opset in opsets {
        let elem_type = encode("y", &expected).data_type;
        let made = outputs(&model(opset, std::slice::from_ref(node), constants, &x, &[("y", elem_type)]), &x);
        near(&made[0], &expected, &format!("{} of opset {opset}", node.op_type));
    }
}

fn near(made: &Tensor, expected: &Tensor, what: &str) {
    let (Tensor::F32(a), Tensor::F32(b)) = (made, expected) else { return assert_eq!(made, expected, "{what}") };
    assert_eq!(a.shape(), b.shape(), "{what}");
    for (a, b) in a.iter().zip(b) {
        let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 * (1.0 + b.abs());
        assert!(same, "{what}: expected {expected:?}, found {made:?}");
    }
}

fn says(model: &ModelProto, kind: ErrorKind, words: &str) {
    let error = read(model).expect_err("a model that must be refused");
    assert!(error.kind() == kind && error.to_string().contains(words), "{error:?}, expected {kind:?}: {words}");
}

#[test]
fn casts_to_bool_ask_whether_a_number_is_0() {
    let cast = of("Cast", &["x"], &["y"], &[int("to", BOOL.into())]);
    let floats = arr1(&[0.0, -0.0, 2.0, -0.5, 1e-30, f32::INFINITY, f32::NAN]);
    gives(&[7, 13, 22], &cast, &[], floats, arr1(&[false, false, true, true, true, true, true]));
    gives(&[7, 22], &cast, &[], arr1(&[0_i64, 1, -3, i32::MAX.into()]), arr1(&[false, true, true, true]));
    gives(&[7, 22], &cast, &[], arr1(&[true, false]), arr1(&[true, false]));
    // what is counted afterwards is 0 or 1
    let x = Tensor::from(arr1(&[0.0_f32, 7.0, 0.5]));
    let nodes = [of("Cast", &["x"], &["b"], &[int("to", BOOL.into())]), of("Cast", &["b"], &["y"], &[int("to", INT64.into())])];
    assert_eq!(outputs(&model(17, &nodes, &[], &x, &[("y", INT64)]), &x), [arr1(&[0_i64, 1, 1]).into()]);
    let like = of("CastLike", &["x", "k"], &["y"], &[]);
    gives(&[15], &like, &[("k", arr0(true).into())], arr1(&[0.0_f32, 7.0]), arr1(&[false, true]));
}

#[test]
fn old_softmax_takes_axes_together() {
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 2, 2]), vec![0.0_f32, 1.0, 2.0, 3.0]).expect("4 elements");
    let sum: f32 = (0..4).map(|number| (number as f32).exp()).sum();
    let together = x.mapv(|value| value.exp() / sum);
    let apart = x.mapv(|value| if value % 2.0 == 0.0 { 1.0 / (1.0 + 1.0_f32.exp()) } else { 1.0 / (1.0 + (-1.0_f32).exp()) });
    let along_1 = x.mapv(|value| if value < 2.0 { 1.0 / (1.0 + 2.0_f32.exp()) } else { 1.0 / (1.0 + (-2.0_f32).exp()) });
    let softmax = |attributes: &[AttributeProto]| of("Softmax", &["x"], &["y"], attributes);
    gives(&[7, 11, 12], &softmax(&[]), &[], x.clone(), together.clone());
    gives(&[12], &softmax(&[int("axis", -2)]), &[], x.clone(), together.clone());
    gives(&[12], &softmax(&[int("axis", 0)]), &[], x.clone(), together.clone());
    gives(&[7, 12, 13], &softmax(&[int("axis", 2)]), &[], x.clone(), apart.clone());
    gives(&[12, 13], &softmax(&[int("axis", -1)]), &[], x.clone(), apart.clone());
    gives(&[13, 22], &softmax(&[]), &[], x.clone(), apart);
    gives(&[13], &softmax(&[int("axis", 1)]), &[], x.clone(), along_1);
    gives(&[7, 12], &of("LogSoftmax", &["x"], &["y"], &[]), &[], x, together.mapv(f32::ln));
    let empty = ArrayD::<f32>::zeros(IxDyn(&[2, 3, 0]));
    gives(&[12], &softmax(&[int("axis", 2)]), &[], empty.clone(), empty);
}

#[test]
fn arg_max_takes_the_first_of_equals() {
    let x = arr2(&[[1.0_f32, 3.0, 3.0, 1.0], [5.0, 0.0, 5.0, 0.0]]);
    let arg = |op_type: &str, attributes: &[AttributeProto]| of(op_type, &["x"], &["y"], attributes);
    gives(&[7, 11, 22], &arg("ArgMax", &[int("axis", 1)]), &[], x.clone(), arr2(&[[1_i64], [0]]));
    gives(&[7, 22], &arg("ArgMin", &[int("axis", -1), int("keepdims", 0)]), &[], x.clone(), arr1(&[0_i64, 1]));
    gives(&[13], &arg("ArgMax", &[int("axis", 1), int("select_last_index", 1)]), &[], x.clone(), arr2(&[[2_i64], [2]]));
    gives(&[13], &arg("ArgMin", &[int("axis", 1), int("select_last_index", 1), int("keepdims", 0)]), &[], x.clone(), arr1(&[3_i64, 3]));
    gives(&[17], &arg("ArgMax", &[int("keepdims", 0)]), &[], x, arr1(&[1_i64, 0, 1, 0]));
}

#[test]
fn activations_are_what_they_are_defined_as() {
    let x = arr1(&[0.0_f32, -0.0, 1.0, -1.0, 0.5, 100.0, -100.0, 1e9, -1e9]);
    let unary = |op_type: &str, attributes: &[AttributeProto]| of(op_type, &["x"], &["y"], attributes);
    let sign = |value: f32| if value == 0.0 { 0.0 } else { value.signum() };
    gives(&[9, 22], &unary("Sign", &[]), &[], x.clone(), x.mapv(sign));
    gives(&[13], &unary("Sign", &[]), &[], arr1(&[0_i64, 5, -7]), arr1(&[0_i64, 1, -1]));
    let softplus = |value: f32| value.max(0.0) + (-value.abs()).exp().ln_1p();
    gives(&[7, 22], &unary("Softplus", &[]), &[], x.clone(), x.mapv(softplus));
    gives(&[18, 22], &unary("Mish", &[]), &[], x.clone(), x.mapv(|value| value * softplus(value).tanh()));
    let selu = |alpha: f32, gamma: f32| move |value: f32| gamma * if value > 0.0 { value } else { alpha * value.exp_m1() };
    gives(&[7, 22], &unary("Selu", &[]), &[], x.clone(), x.mapv(selu(1.673_263_2, 1.050_701)));
    gives(&[7], &unary("Selu", &[float("alpha", 2.0), float("gamma", 3.0)]), &[], x.clone(), x.mapv(selu(2.0, 3.0)));
    let celu = |alpha: f32| move |value: f32| value.max(0.0) + (alpha * ((value / alpha).exp() - 1.0)).min(0.0);
    gives(&[12, 22], &unary("Celu", &[]), &[], x.clone(), x.mapv(celu(1.0)));
    gives(&[12], &unary("Celu", &[float("alpha", 0.5)]), &[], x.clone(), x.mapv(celu(0.5)));
    let above = |alpha: f32| move |value: f32| if value > alpha { value } else { 0.0 };
    gives(&[10, 22], &unary("ThresholdedRelu", &[]), &[], x.clone(), x.mapv(above(1.0)));
    gives(&[10], &unary("ThresholdedRelu", &[float("alpha", 0.25)]), &[], x.clone(), x.mapv(above(0.25)));
    let shrink = |value: f32| {
        if value < -0.5 {
            value + 0.25
        } else if value > 0.5 {
            value - 0.25
        } else {
            0.0
        }
    };
    gives(&[9, 22], &unary("Shrink", &[float("bias", 0.25)]), &[], x.clone(), x.mapv(shrink));
    let nan = arr1(&[f32::NAN]);
    for op_type in ["Softplus", "Selu", "Mish", "Celu"] {
        gives(&[18], &unary(op_type, &[]), &[], nan.clone(), nan.clone());
    }
}

#[test]
fn powers_to_whole_numbers() {
    let pow = of("Pow", &["x", "k"], &["y"], &[]);
    let k = || ("k", Tensor::from(arr1(&[2_i64, 3, 0])));
    gives(&[12, 22], &pow, &[k()], arr1(&[-3.0_f32, 2.0, 0.0]), arr1(&[9.0_f32, 8.0, 1.0]));
    gives(&[12, 22], &pow, &[k()], arr1(&[-3_i64, 2, 0]), arr1(&[9_i64, 8, 1]));
    // the base is made by a node of which nothing is known
    let x = Tensor::from(arr1(&[-3.0_f32, 2.0, 0.5]));
    let nodes = [of("Abs", &["x"], &["a"], &[]), of("Pow", &["a", "k"], &["y"], &[])];
    let made = outputs(&model(13, &nodes, &[("k", arr0(2_i32).into())], &x, &[("y", FLOAT)]), &x);
    assert_eq!(made, [arr1(&[9.0_f32, 4.0, 0.25]).into()]);
}

#[test]
fn dropout_drops_nothing() {
    let x = Tensor::from(arr1(&[1.0_f32, -2.0]));
    let dropout = |inputs: &[&str], attributes: &[AttributeProto]| of("Dropout", inputs, &["y", "mask"], attributes);
    let both = [("y", FLOAT), ("mask", BOOL)];
    let off = [("ratio", arr0(0.5_f32).into()), ("training", arr0(false).into())];
    for (opset, node) in [(12, dropout(&["x"], &[])), (22, dropout(&["x", "ratio", "training"], &[int("seed", 3)]))] {
        assert_eq!(outputs(&model(opset, &[node], &off, &x, &both), &x), [x.clone(), arr1(&[true, true]).into()]);
    }
    says(&model(10, &[dropout(&["x"], &[])], &[], &x, &both), ErrorKind::Config, "Dropout: expected one output in opset 10, found a mask, `mask`");
    let on = [("training", arr0(true).into())];
    let text = "node `the node`: Dropout: expected no training, found `training_mode` in `training`, which is not known to be false";
    says(&model(13, &[dropout(&["x", "", "training"], &[])], &on, &x, &[("y", FLOAT)]), ErrorKind::Config, text);
}

#[test]
fn what_is_left_out_has_its_default() {
    let x = || ArrayD::from_shape_fn(IxDyn(&[1, 1, 5]), |place| place[2] as f32);
    let row = |values: &[f32]| ArrayD::from_shape_vec(IxDyn(&[1, 1, values.len()]), values.to_vec()).expect("a row");
    gives(&[7, 22], &of("MaxPool", &["x"], &["y"], &[ints("kernel_shape", &[2])]), &[], x(), row(&[1.0, 2.0, 3.0, 4.0]));
    gives(&[7, 22], &of("AveragePool", &["x"], &["y"], &[ints("kernel_shape", &[3])]), &[], x(), row(&[1.0, 2.0, 3.0]));
    let weight = || [("w", Tensor::from(row(&[1.0, 10.0])))];
    gives(&[7, 22], &of("Conv", &["x", "w"], &["y"], &[]), &weight(), x(), row(&[10.0, 21.0, 32.0, 43.0]));
    gives(&[11], &of("Conv", &["x", "w"], &["y"], &[ints("strides", &[2])]), &weight(), x(), row(&[10.0, 32.0]));
    gives(&[11], &of("Conv", &["x", "w"], &["y"], &[ints("dilations", &[3])]), &weight(), x(), row(&[30.0, 41.0]));
    gives(&[11], &of("Conv", &["x", "w"], &["y"], &[string("auto_pad", "SAME_UPPER")]), &weight(), x(), row(&[10.0, 21.0, 32.0, 43.0, 4.0]));
    let square = || arr2(&[[0.0_f32, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    gives(&[9], &of("Slice", &["x"], &["y"], &[ints("starts", &[1]), ints("ends", &[2])]), &[], square(), arr2(&[[3.0_f32, 4.0, 5.0]]));
    let range = [("s", arr1(&[-1_i64]).into()), ("e", arr1(&[i64::MAX]).into())];
    gives(&[10, 22], &of("Slice", &["x", "s", "e"], &["y"], &[]), &range, square(), arr2(&[[3.0_f32, 4.0, 5.0]]));
    let axis = [("a", arr0(1_i64).into())];
    let column = ArrayD::from_shape_vec(IxDyn(&[2, 1, 3]), square().into_iter().collect()).expect("6 elements");
    gives(&[13, 22], &of("Unsqueeze", &["x", "a"], &["y"], &[]), &axis, square(), column);
    let scales = || [("s", Tensor::from(arr1(&[1.0_f32, 2.0]))), ("z", Tensor::from(arr1(&[0_u8, 1])))];
    let x = || arr2(&[[2.0_f32, 2.0], [4.0, 4.0]]);
    gives(&[13, 22], &of("QuantizeLinear", &["x", "s", "z"], &["y"], &[]), &scales(), x(), arr2(&[[2_u8, 2], [4, 3]]));
    gives(&[10, 22], &of("QuantizeLinear", &["x", "s"], &["y"], &[]), &[("s", arr0(2.0_f32).into())], x(), arr2(&[[1_u8, 1], [2, 2]]));
}

#[test]
fn pads_of_some_axes() {
    let x = || arr2(&[[1.0_f32, 2.0]]);
    let pad = |axes: &[i64]| [("p", Tensor::from(arr1(&[1_i64, 2]))), ("v", arr0(7.0_f32).into()), ("a", arr1(axes).into())];
    let node = of("Pad", &["x", "p", "v", "a"], &["y"], &[]);
    gives(&[18, 22], &node, &pad(&[1]), x(), arr2(&[[7.0_f32, 1.0, 2.0, 7.0, 7.0]]));
    gives(&[18], &node, &pad(&[-1]), x(), arr2(&[[7.0_f32, 1.0, 2.0, 7.0, 7.0]]));
    gives(&[18], &node, &pad(&[0]), x(), arr2(&[[7.0_f32, 7.0], [1.0, 2.0], [7.0, 7.0], [7.0, 7.0]]));
}

#[test]
fn normalizations() {
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 2, 2]), vec![0.0_f32, 2.0, 10.0, 14.0]).expect("4 elements");
    let out = |values: [f32; 4]| ArrayD::from_shape_vec(IxDyn(&[1, 2, 2]), values.to_vec()).expect("4 elements");
    let mvn = of("MeanVarianceNormalization", &["x"], &["y"], &[ints("axes", &[0, 2])]);
    gives(&[9, 13, 22], &mvn, &[], x.clone(), out([-1.0, 1.0, -1.0, 1.0]));
    let group = |groups| of("GroupNormalization", &["x", "s", "b"], &["y"], &[int("num_groups", groups), float("epsilon", 0.0)]);
    let list = |name: &'static str, values: &[f32]| (name, Tensor::from(arr1(values)));
    gives(&[18, 20], &group(2), &[list("s", &[2.0, 3.0]), list("b", &[0.0, 1.0])], x.clone(), out([-2.0, 2.0, -2.0, 4.0]));
    let deviation = 32.75_f32.sqrt();
    let one_group = [-6.5, -4.5, 3.5, 7.5].map(|value| value / deviation);
    gives(&[20], &group(1), &[list("s", &[1.0]), list("b", &[0.0])], x.clone(), out(one_group));
    let by_channel = [2.0 * one_group[0], 2.0 * one_group[1], 3.0 * one_group[2] + 1.0, 3.0 * one_group[3] + 1.0];
    gives(&[21, 22], &group(1), &[list("s", &[2.0, 3.0]), list("b", &[0.0, 1.0])], x, out(by_channel));
}

#[test]
fn graphs_within_and_names_that_are_taken() {
    let branch = |op_type: &str, output: &str| GraphProto {
        node: vec![of(op_type, &["x"], &[output], &[])],
        output: vec![port(output, FLOAT)],
        ..GraphProto::default()
    };
    let x = Tensor::from(arr1(&[0.0_f32, -2.0]));
    let body = GraphProto {
        node: vec![
            of("Sign", &["v"], &["s"], &[]),
            of("Dropout", &["s"], &["d", "unread"], &[]),
            of("Add", &["d", "v"], &["w"], &[]),
            of("Identity", &["c"], &["d.lowered.0"], &[]),
        ],
        input: vec![port("i", INT64), port("c", BOOL), port("v", FLOAT)],
        output: vec![port("d.lowered.0", BOOL), port("w", FLOAT)],
        ..GraphProto::default()
    };
    let nodes = [
        of("ReduceMax", &["x"], &["most"], &[int("keepdims", 0)]),
        of("Cast", &["most"], &["q"], &[int("to", BOOL.into())]),
        of("If", &["q"], &["y"], &[inner("then_branch", branch("Neg", "t")), inner("else_branch", branch("Sign", "e"))]),
        of("Exp", &["x"], &["z.lowered.0"], &[]),
        of("Selu", &["z.lowered.0"], &["z"], &[]),
        of("Loop", &["trips", "", "x"], &["l"], &[inner("body", body)]),
    ];
    let ports = [("y", FLOAT), ("z", FLOAT), ("z.lowered.0", FLOAT), ("l", FLOAT)];
    let made = outputs(&model(9, &nodes, &[("trips", arr0(3_i64).into())], &x, &ports), &x);
    near(&made[0], &arr1(&[0.0_f32, -1.0]).into(), "If");
    near(&made[1], &arr1(&[1.050_701_f32, 1.050_701 * (-2.0_f32).exp()]).into(), "Selu");
    near(&made[2], &arr1(&[1.0_f32, (-2.0_f32).exp()]).into(), "Exp");
    near(&made[3], &arr1(&[0.0_f32, -5.0]).into(), "Loop");
}

#[test]
fn what_cannot_be_made_of_others_is_still_refused() {
    let x = Tensor::from(arr1(&[0.0_f32]));
    let conv = of("Conv", &["x", "x"], &["y"], &[string("auto_pad", "SAME_LOWER")]);
    says(&model(13, &[conv], &[], &x, &[("y", FLOAT)]), ErrorKind::Config, "auto_pad SAME_LOWER");
    let training = of("BatchNormalization", &["x", "x", "x", "x", "x"], &["y", "mean"], &[]);
    says(&model(9, &[training], &[], &x, &[("y", FLOAT)]), ErrorKind::Config, "outputs of training");
    says(&model(13, &[of("Unique", &["x"], &["y"], &[])], &[], &x, &[("y", FLOAT)]), ErrorKind::Config, "found Unique (node `the node`)");
    let whole = of("Cast", &["x"], &["y"], &[int("to", INT32.into())]);
    gives(&[13], &whole, &[], arr1(&[2.5_f32]), arr1(&[2_i32]));
}

#[test]
fn norms_of_onnx_runtime_need_no_epsilon() {
    let node = NodeProto { domain: "com.microsoft".to_owned(), ..of("SkipLayerNormalization", &["x", "k", "g"], &["y", "unread", "", "sum"], &[]) };
    let constants = [("k", arr2(&[[1.0_f32, 1.0]]).into()), ("g", arr1(&[1.0_f32, 2.0]).into())];
    let x = Tensor::from(arr2(&[[1.0_f32, 3.0]]));
    let made = outputs(&model(17, &[node], &constants, &x, &[("y", FLOAT), ("sum", FLOAT)]), &x);
    near(&made[0], &arr2(&[[-1.0_f32, 2.0]]).into(), "SkipLayerNormalization");
    near(&made[1], &arr2(&[[2.0_f32, 4.0]]).into(), "its sum");
}

#[test]
fn a_window_may_not_be_longer_than_its_signal() {
    let stft = of("STFT", &["x", "step", "window"], &["y"], &[]);
    let constants = [("step", arr0(1_i64).into()), ("window", arr1(&[1.0_f32, 1.0]).into())];
    let signal = |len: usize| Tensor::from(ArrayD::from_elem(IxDyn(&[1, len, 1]), 3.0_f32));
    let model = model(17, &[stft], &constants, &signal(2), &[("y", FLOAT)]);
    let both = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2, 2]), vec![6.0_f32, 0.0, 0.0, 0.0]).expect("4 elements");
    near(&outputs(&model, &signal(2))[0], &both.into(), "STFT");
    let network = Network::from_bytes(&model.encode_to_vec()).expect("a model");
    let mut session = Engine::new(DeviceChoice::Cpu).expect("a CPU").session(&network, crate::Options::default()).expect("a session");
    let short = signal(1);
    let error = session.run(&Inputs::new().with("x", short.view())).expect_err("a signal that is too short");
    assert!(error.to_string().contains("frame_length must be in range"), "{error}");
}
