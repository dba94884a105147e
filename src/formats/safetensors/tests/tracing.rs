//! Which programs are chains, and why others are none.

use std::sync::Arc;

use super::*;
use crate::Precision;
use crate::network::op::{Op, Ranges};
use crate::network::{DenseNode, LstmNode, Nodes, OpNode, Port, Program, Step, Weights};
use crate::tensor::{ElementType, Tensor};

/// A network in the making: steps over tensors by name.
struct Graph {
    network: Network,
    steps: Vec<Step>,
}

impl Graph {
    /// With an input `input` of three axes.
    fn new() -> Self {
        let mut network = Network::from_lstm(stack(&LstmConfig::new(1, 1)), false);
        network.nodes.clear();
        network.inputs.truncate(1);
        network.inputs[0].name = "input".to_owned();
        network.inputs[0].axes.clear();
        network.outputs.clear();
        Self { network, steps: Vec::new() }
    }

    fn constant(mut self, name: &str, values: &[i64]) -> Self {
        self.network.constants.insert(name.to_owned(), Tensor::from(Array1::from(values.to_vec())));
        self
    }

    fn op(mut self, op: Op, inputs: &[&str], output: &str) -> Self {
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        self.steps.push(Step::Op(OpNode { name: format!("node of {output}"), op, inputs, outputs: vec![output.to_owned()] }));
        self
    }

    fn transpose(self, perm: &[i64], input: &str, output: &str) -> Self {
        self.op(Op::Transpose { perm: Some(perm.to_vec()) }, &[input], output)
    }

    /// An LSTM as ONNX has it: `y` is `[T, D, N, R]`.
    fn lstm(mut self, config: &LstmConfig, x: &str, y: &str) -> Self {
        self.steps.push(Step::Lstm(self.network.nodes.len()));
        self.network.nodes.push(LstmNode {
            name: format!("LSTM of {y}"),
            merged: 1,
            layout: Layout::OnnxTimeFirst,
            weights: Weights::Constant(Arc::new(stack(config))),
            x: x.to_owned(),
            sequence_lens: None,
            h_0: None,
            c_0: None,
            y: Some(y.to_owned()),
            h_n: Some(format!("{y}.h_n")),
            c_n: None,
        });
        self
    }

    fn linear(mut self, out: usize, features: usize, x: &str, y: &str) -> Self {
        let weight = Array2::from_shape_fn((out, features), |(row, k)| (row * features + k) as f32);
        let stage = DenseStage::Linear(crate::Linear::new(weight, None).unwrap(), RowFunction::Softmax);
        self.steps.push(Step::Dense(self.network.dense.len()));
        self.network.dense.push(DenseNode { name: format!("fc/{y}"), stage: Arc::new(stage), x: x.to_owned(), y: y.to_owned() });
        self
    }

    /// Joins the LSTM's last axes and puts the batch first, as exporters do.
    fn joined(self, y: &str, output: &str) -> Self {
        let (swapped, flat) = (format!("{y} swapped"), format!("{y} flat"));
        let flattened = self.transpose(&[0, 2, 1, 3], y, &swapped).constant("joined", &[0, 0, -1]);
        flattened.op(Op::Reshape { allow_zero: false }, &[&swapped, "joined"], &flat).transpose(&[1, 0, 2], &flat, output)
    }

    fn with_output(mut self, name: &str) -> Self {
        self.network.outputs.push(Port { name: name.to_owned(), element_type: ElementType::F32, axes: Vec::new(), optional: false });
        self
    }

    fn network(self) -> Network {
        let Self { mut network, steps } = self;
        let outputs = network.outputs.iter().map(|port| port.name.clone()).collect();
        network.program = Program::new(steps, outputs, Nodes { lstms: &network.nodes, dense: &network.dense });
        network
    }

    #[track_caller]
    fn has_none(self, why: &str) {
        let (bytes, saved) = self.network().to_safetensors(Precision::F32).unwrap();
        assert!(!saved.complete && saved.left_out[0].contains(why), "`{why}` in: {:?}", saved.left_out);
        assert!(super::super::read(&bytes, &Reading { prefix: Some(&saved.stages[0].name), ..Reading::default() }).is_ok());
    }
}

/// Batch first outside, time first inside: both directions, one more layer, a linear layer.
fn exported() -> Graph {
    let both = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(3, 2) };
    let first = Graph::new().transpose(&[1, 0, 2], "input", "x").lstm(&both, "x", "a").joined("a", "b").transpose(&[1, 0, 2], "b", "c");
    first.lstm(&LstmConfig::new(4, 5), "c", "d").joined("d", "e")
}

#[test]
fn what_exporters_put_between_stages_is_seen_through() {
    let network = exported().linear(7, 5, "e", "logits").with_output("logits").network();
    let (bytes, saved) = network.to_safetensors(Precision::F32).unwrap();
    assert!(saved.complete, "{:?}", saved.left_out);
    assert_eq!(saved.notes, ["input `input` is `x` in the file", "output `logits` is `y` in the file"]);
    let names: Vec<&str> = saved.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["LSTM_of_a", "LSTM_of_d", "fc.logits"]);
    let again = read(&bytes, None).unwrap();
    assert_eq!(again.nodes[0].layout, Layout::BatchFirst);
    assert!(again.lstms().map(|(_, lstm)| lstm).eq(network.lstms().map(|(_, lstm)| lstm)));
    assert_eq!(again.dense[0].stage, network.dense[0].stage);
    // rows in another order, as long as all of them are there, and sizes that the graph computes
    let turned = exported().transpose(&[1, 0, 2], "e", "f").linear(7, 5, "f", "g").transpose(&[1, 0, 2], "g", "h").with_output("h");
    assert!(turned.network().to_safetensors(Precision::F32).unwrap().1.complete);
    let flat = exported().constant("two", &[-1, 5]).op(Op::Reshape { allow_zero: false }, &["e", "two"], "f").linear(7, 5, "f", "g");
    let flat = flat.op(Op::Shape { start: 0, end: Some(2) }, &["e"], "rows").constant("seven", &[7]);
    let flat = flat.op(Op::Concat { axis: 0 }, &["rows", "seven"], "sizes").op(Op::Reshape { allow_zero: false }, &["g", "sizes"], "h");
    assert!(flat.with_output("h").network().to_safetensors(Precision::F32).unwrap().1.complete);
    let state = exported().with_output("e").with_output("d.h_n").network().to_safetensors(Precision::F32).unwrap().1;
    assert!(state.complete && state.notes[2].contains("output `d.h_n` is made of the final states"), "{:?}", state.notes);
}

#[test]
fn what_is_more_than_a_chain_says_why() {
    let last_step = |graph: Graph| {
        let ranges = Ranges { starts: vec![-1], ends: vec![i64::MAX], axes: Some(vec![1]), steps: None };
        graph.op(Op::Slice { ranges: Some(ranges) }, &["e"], "f")
    };
    last_step(exported()).linear(7, 5, "f", "g").with_output("g").has_none("`fc/g` reads a part of what the stage before it makes, or other rows");
    last_step(exported()).with_output("f").has_none("output `f` is a part of what the last stage makes");
    exported().with_output("b").has_none("output `b` is not what the last stage makes");
    exported()
        .linear(7, 5, "e", "g")
        .linear(7, 4, "c", "h")
        .with_output("g")
        .has_none("`fc/h` reads something else than what the stage before it makes");
    exported().linear(7, 5, "d.h_n", "g").with_output("g").has_none("`fc/g` reads a final state");
    exported()
        .lstm(&LstmConfig::new(5, 2), "e", "f")
        .with_output("f")
        .has_none("`LSTM of f` reads its input in another order of axes, or a part of it");
    exported()
        .op(Op::Binary(crate::network::op::Binary::Add), &["e", "e"], "f")
        .with_output("f")
        .has_none("`node of f` (Add) is more than another view");
    let one_row = Graph::new().constant("sizes", &[11, 7, 3]).op(Op::Reshape { allow_zero: false }, &["input", "sizes"], "x");
    one_row.lstm(&LstmConfig::new(3, 2), "x", "y").with_output("y").has_none("`node of x` (Reshape) is more than another view");
    let mut carried = exported();
    carried.network.nodes[1].h_0 = Some("a.h_n".to_owned());
    carried.with_output("e").has_none("`LSTM of d` has an initial state that no input gives");
}
