//! Models made with this module's own messages: what is read, and what is refused with which words.

mod attributes;
mod cells;
mod external;
mod fuzz;
mod graphs;
mod hostile;
mod lower;
mod operators;
mod refusals;
mod runtime;
mod weights;
mod whole;

use prost::Message;

use super::proto::{
    AttributeKind, AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::tensor::FLOAT;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{Lstm, Network, Weights};

/// H of every model here.
const HIDDEN: usize = 2;

/// I of every model here.
const INPUT: usize = 3;

fn read(model: &ModelProto) -> Result<Network> {
    super::read(&model.encode_to_vec(), None, false)
}

/// Reads a model that must be refused, with an error of `kind` and these words.
fn refused(model: &ModelProto, kind: ErrorKind, words: &str) -> Error {
    let error = read(model).expect_err("a model that must be refused");
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
    error
}

/// An axis by its size, 0 for one of unknown size and name.
fn info(name: &str, elem_type: i32, axes: &[i64]) -> ValueInfoProto {
    let dim = axes.iter().map(|&size| DimensionProto { dim_value: Some(size).filter(|&size| size != 0), dim_param: None }).collect();
    let tensor_type = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), value_type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// A tensor of counting numbers.
fn tensor(name: &str, dims: &[usize]) -> TensorProto {
    let float_data = (0..dims.iter().product()).map(|number| number as f32).collect();
    let dims = dims.iter().map(|&dim| dim as i64).collect();
    TensorProto { name: name.to_owned(), dims, data_type: FLOAT, float_data, ..TensorProto::default() }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn node(op_type: &str, name: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto { op_type: op_type.to_owned(), name: name.to_owned(), input: texts(input), output: texts(output), ..NodeProto::default() }
}

fn attribute(name: &str, kind: AttributeKind) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: kind as i32, ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeKind::Int) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, AttributeKind::Float) }
}

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attribute(name, AttributeKind::Floats) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeKind::String) }
}

fn strings(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto { strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(), ..attribute(name, AttributeKind::Strings) }
}

/// One forward LSTM node called `lstm`, weights `W` and `R` in the file, of the newest opset.
fn model() -> ModelProto {
    let graph = GraphProto {
        node: vec![node("LSTM", "lstm", &["X", "W", "R"], &["Y", "Y_h", "Y_c"])],
        initializer: vec![tensor("W", &[1, 4 * HIDDEN, INPUT]), tensor("R", &[1, 4 * HIDDEN, HIDDEN])],
        input: vec![info("X", FLOAT, &[0, 0, INPUT as i64])],
        output: vec![info("Y", FLOAT, &[0, 1, 0, HIDDEN as i64])],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 22 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

/// [`model`] with its graph changed.
fn model_with(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut model = model();
    change(graph(&mut model));
    model
}

/// [`model`] with attributes on its node.
fn model_of(attributes: &[AttributeProto]) -> ModelProto {
    model_with(|graph| graph.node[0].attribute = attributes.to_vec())
}

/// [`model`], but bidirectional.
fn bidirectional(attributes: &[AttributeProto]) -> ModelProto {
    let mut model = model_of(&[&[string("direction", "bidirectional")], attributes].concat());
    graph(&mut model).initializer = vec![tensor("W", &[2, 4 * HIDDEN, INPUT]), tensor("R", &[2, 4 * HIDDEN, HIDDEN])];
    model
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("models here have graphs")
}

/// The stack of the first node, whose weights are in the file.
fn lstm(network: &Network) -> &Lstm {
    network.lstms().next().expect("a node").1.expect("constant weights")
}

/// The weights of the first node, which come with the call.
fn run_time(network: &Network) -> &super::RunTimeWeights {
    match &network.nodes[0].weights {
        Weights::RunTime(weights) => weights,
        Weights::Constant(_) => panic!("expected weights of the call"),
    }
}
