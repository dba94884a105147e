//! Operators that the CPU's library lacks, or computes wrongly, as nodes of others that it has and gets right.
//!
//! This happens to the graph of a segment, graphs within it included, just before the library sees it: whatever is run elsewhere keeps its own
//! operators. The forms written here are those in which the library reads an operator whatever the opset: it takes the attributes of old forms and the
//! inputs of new ones at any time.

mod complete;
mod elementwise;
mod reduce;

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{arr0, arr1};

use super::graph::is_onnx;
use super::proto::{AttributeKind, AttributeProto, GraphProto, NodeProto, TensorProto};
use super::tensor::{self, INT64};
use crate::error::{Error, Result};
use crate::tensor::{ElementType, Tensor};

/// Operators of the specification that exist here alone: the library has none of them.
const OPERATORS: &[&str] = &["Celu", "Dropout", "GroupNormalization", "MeanVarianceNormalization", "Mish", "Selu", "Shrink", "ThresholdedRelu"];

/// A constant of up to this many elements has them looked at.
const MOST_ELEMENTS: usize = 64;

/// Whether the operator can be made of others, at least in one variant.
pub(super) fn knows(domain: &str, op_type: &str) -> bool {
    is_onnx(domain) && OPERATORS.contains(&op_type)
}

/// Rewrites all nodes of `graph` and of the graphs within it that need it; `types` are those that the model declares.
pub(super) fn graph(graph: &mut GraphProto, opset: i64, types: &BTreeMap<String, ElementType>) -> Result<()> {
    let (mut taken, mut read) = (BTreeSet::new(), BTreeSet::new());
    names(graph, &mut taken, &mut read);
    Lowering { opset, types, taken, read, known: BTreeMap::new(), made_types: BTreeMap::new() }.graph(graph)
}

/// Gathers all names of tensors, and those that somebody reads.
fn names(graph: &GraphProto, taken: &mut BTreeSet<String>, read: &mut BTreeSet<String>) {
    taken.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    taken.extend(graph.input.iter().map(|input| input.name.clone()));
    read.extend(graph.output.iter().map(|output| output.name.clone()));
    for node in &graph.node {
        taken.extend(node.input.iter().chain(&node.output).cloned());
        read.extend(node.input.iter().cloned());
        for attribute in &node.attribute {
            attribute.g.iter().map(AsRef::as_ref).chain(&attribute.graphs).for_each(|graph| names(graph, taken, read));
        }
    }
}

/// What is known of a constant.
#[derive(Clone, Debug)]
struct Known {
    dims: Vec<i64>,
    /// its elements, where they are few and whole numbers, or `bool`
    numbers: Option<Vec<i64>>,
}

/// Rewrites the graphs of one segment. No two tensors of a model have the same name, so that one map serves all graphs.
struct Lowering<'a> {
    opset: i64,
    /// as the model declares them
    types: &'a BTreeMap<String, ElementType>,
    /// every name there is
    taken: BTreeSet<String>,
    /// every name that a node or an output of a graph reads
    read: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    /// types of constants, of what casts make, and of what graphs within declare
    made_types: BTreeMap<String, ElementType>,
}

impl Lowering<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<()> {
        for initializer in &graph.initializer {
            self.note_constant(&initializer.name, initializer);
        }
        for info in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            let declared = info.value_type.as_ref().and_then(|value_type| value_type.tensor_type.as_ref());
            let element_type = declared.and_then(|declared| tensor::element_type(declared.elem_type));
            self.made_types.extend(element_type.map(|element_type| (info.name.clone(), element_type)));
        }
        let nodes = std::mem::take(&mut graph.node);
        for mut node in nodes {
            for inner in node.attribute.iter_mut().flat_map(AttributeProto::graphs_mut) {
                self.graph(inner)?;
            }
            self.note_node(&node);
            let label = node.label();
            let mut draft = Draft { lowering: self, base: String::new(), name: node.name.clone(), nodes: Vec::new(), constants: Vec::new() };
            draft.base = node.output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
            if draft.base.is_empty() {
                graph.node.push(node);
                continue;
            }
            draft.rewrite(node).map_err(|error| error.within(label))?;
            graph.node.append(&mut draft.nodes);
            graph.initializer.append(&mut draft.constants);
        }
        Ok(())
    }

    fn note_constant(&mut self, name: &str, tensor: &TensorProto) {
        let len = tensor.dims.iter().try_fold(1_usize, |len, &dim| len.checked_mul(usize::try_from(dim).ok()?));
        let few = len.is_some_and(|len| len <= MOST_ELEMENTS);
        let numbers = few.then(|| tensor::decode(name, tensor).ok()).flatten().and_then(|tensor| match tensor {
            Tensor::I64(array) => Some(array.iter().copied().collect()),
            Tensor::I32(array) => Some(array.iter().copied().map(i64::from).collect()),
            Tensor::Bool(array) => Some(array.iter().copied().map(i64::from).collect()),
            _ => None,
        });
        self.made_types.extend(tensor::element_type(tensor.data_type).map(|element_type| (name.to_owned(), element_type)));
        self.known.insert(name.to_owned(), Known { dims: tensor.dims.clone(), numbers });
    }

    /// Notes what a node says about its outputs.
    fn note_node(&mut self, node: &NodeProto) {
        let Some(output) = node.output.first().filter(|_| is_onnx(&node.domain)) else { return };
        let element_type = match node.op_type.as_str() {
            "Constant" => {
                if let Some(value) = node.attribute.iter().find_map(|attribute| attribute.t.as_ref()) {
                    self.note_constant(output, value);
                }
                return;
            }
            "Cast" => i32::try_from(int_of(node, "to", 0)).ok().and_then(tensor::element_type),
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(ElementType::I64),
            "Not" | "And" | "Or" | "Xor" | "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "IsNaN" | "IsInf" => {
                Some(ElementType::Bool)
            }
            _ => None,
        };
        self.made_types.extend(element_type.map(|element_type| (output.clone(), element_type)));
    }

    /// The element type of a tensor, where it is known.
    fn element_type(&self, name: &str) -> Option<ElementType> {
        self.made_types.get(name).or_else(|| self.types.get(name)).copied()
    }

    /// The elements of a small constant of whole numbers.
    fn numbers(&self, name: &str) -> Option<&[i64]> {
        self.known.get(name)?.numbers.as_deref()
    }
}

/// What one node becomes.
struct Draft<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    /// the name that those of its tensors begin with
    base: String,
    /// of the node
    name: String,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Draft<'_, '_> {
    /// Writes what `node` becomes: itself, where nothing has to be changed.
    fn rewrite(&mut self, mut node: NodeProto) -> Result<()> {
        self.drop_unread_outputs(&mut node);
        if !is_onnx(&node.domain) {
            self.complete_microsoft(node);
            return Ok(());
        }
        match node.op_type.as_str() {
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "ArgMax" | "ArgMin" => self.arg_max(node),
            "MeanVarianceNormalization" => self.mean_variance_normalization(&node),
            "GroupNormalization" => self.group_normalization(&node)?,
            "Cast" | "CastLike" => self.cast(node),
            "Sign" | "Softplus" | "Selu" | "ThresholdedRelu" | "Celu" | "Mish" | "Shrink" => self.activation(&node)?,
            "Pow" => self.pow(node),
            "Dropout" => self.dropout(&node)?,
            _ => self.complete(node)?,
        }
        Ok(())
    }

    /// A name that no tensor has.
    fn fresh(&mut self) -> String {
        let taken = &mut self.lowering.taken;
        let name = (0..).map(|number| format!("{}.lowered.{number}", self.base)).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(name.clone());
        name
    }

    /// Adds a constant; its name.
    fn constant(&mut self, tensor: impl Into<Tensor>) -> String {
        let name = self.fresh();
        self.constants.push(tensor::encode(&name, &tensor.into()));
        name
    }

    /// Adds a list of whole numbers; its name.
    fn numbers(&mut self, numbers: &[i64]) -> String {
        self.constant(arr1(numbers))
    }

    /// Adds a float without axes; its name.
    fn float(&mut self, value: f32) -> String {
        self.constant(arr0(value))
    }

    /// Adds a node of one output; the name of that.
    fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[AttributeProto]) -> String {
        let output = self.fresh();
        self.node_to(op_type, inputs, attributes, &output);
        output
    }

    /// Adds a node that makes `output`.
    fn node_to(&mut self, op_type: &str, inputs: &[&str], attributes: &[AttributeProto], output: &str) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: self.name.clone(),
            op_type: op_type.to_owned(),
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
    }
}

/// The first input and the first output of an operator that must have them.
fn ends(node: &NodeProto) -> Result<(&str, &str)> {
    match (node.input.first(), node.output.first()) {
        (Some(input), Some(output)) if !input.is_empty() && !output.is_empty() => Ok((input, output)),
        _ => Err(Error::format(format!("{}: expected an input and an output, found none", node.op_type))),
    }
}

/// The input at `place`, where the node has one.
fn input(node: &NodeProto, place: usize) -> Option<&str> {
    node.input.get(place).map(String::as_str).filter(|name| !name.is_empty())
}

/// The value of an attribute that is a whole number.
fn int_of(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute(name).map_or(default, |attribute| attribute.i)
}

/// The value of an attribute that is a float.
fn float_of(node: &NodeProto, name: &str, default: f32) -> f32 {
    node.attribute(name).map_or(default, |attribute| attribute.f)
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: AttributeKind::Int as i32, i, ..AttributeProto::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: AttributeKind::Float as i32, f, ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), kind: AttributeKind::Ints as i32, ints: ints.to_vec(), ..AttributeProto::default() }
}

/// The attribute `value` of `ConstantOfShape`: one whole number.
fn fill(number: i64) -> AttributeProto {
    let t = TensorProto { dims: vec![1], data_type: INT64, int64_data: vec![number], ..TensorProto::default() };
    AttributeProto { name: "value".to_owned(), kind: AttributeKind::Tensor as i32, t: Some(t), ..AttributeProto::default() }
}
