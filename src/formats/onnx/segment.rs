//! Nodes of a graph as a model of their own, for the library that runs them on the CPU.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::constants::Constants;
use super::graph::{Block, Node, is_onnx};
use super::lower;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
use crate::error::Result;
use crate::host::Segment;
use crate::network::HostNode;
use crate::tensor::ElementType;

/// What a segment has from its model.
#[derive(Clone, Debug)]
pub(super) struct Imports {
    pub(super) ir_version: i64,
    pub(super) opsets: Vec<OperatorSetIdProto>,
}

impl Imports {
    /// The version of the specification's operators.
    fn opset(&self) -> i64 {
        self.opsets.iter().filter(|set| is_onnx(&set.domain)).map(|set| set.version).max().unwrap_or_default()
    }
}

/// Multiplications and additions that each element takes of the tensors that matrix products and convolutions with constant weights make.
pub(super) fn work(nodes: &[Node], constants: &Constants) -> BTreeMap<String, u64> {
    let flops = |node: &Node| -> Option<(String, u64)> {
        let weight = constants.shape(node.input(1)?)?;
        let terms: usize = match node.proto.op_type.as_str() {
            // [out, in / groups, kernel..]
            "Conv" => weight.get(1..)?.iter().try_fold(1, |terms: usize, &axis| terms.checked_mul(axis))?,
            "MatMul" => *weight.get(weight.len().checked_sub(2)?)?,
            "Gemm" => {
                let flag = node.proto.attribute("transB").is_some_and(|attribute| attribute.i != 0);
                *weight.get(usize::from(flag))?
            }
            _ => return None,
        };
        Some((node.output(0)?.to_owned(), (terms as u64).saturating_mul(2)))
    };
    nodes.iter().filter_map(flops).collect()
}

/// The segment `name` of `nodes`, which makes those of their tensors that are `read` elsewhere, and those that `work` counts.
pub(super) fn host_node(
    name: String,
    nodes: Vec<Node>,
    is_read: impl Fn(&str) -> bool,
    work: BTreeMap<String, u64>,
    constants: &Constants,
    imports: &Imports,
    types: &BTreeMap<String, ElementType>,
) -> Result<HostNode> {
    let made: BTreeSet<&str> = nodes.iter().flat_map(Node::makes).collect();
    let read: BTreeSet<&str> = nodes.iter().flat_map(Node::reads).filter(|name| !made.contains(name)).collect();
    let inputs: Vec<String> = read.iter().filter(|name| !constants.contains(name)).map(|name| (*name).to_owned()).collect();
    let outputs: Vec<String> =
        nodes.iter().flat_map(Node::makes).filter(|name| is_read(name) || work.contains_key(*name)).map(str::to_owned).collect();
    let mut operators = BTreeMap::new();
    for node in &nodes {
        *operators.entry(node.proto.operator()).or_insert(0) += 1;
    }
    let initializer = read.iter().filter(|name| constants.contains(name)).map(|name| constants.proto(name).map(|tensor| tensor.into_owned()));
    let initializer = initializer.collect::<Result<Vec<_>>>()?;
    let info = |name: &String| ValueInfoProto { name: name.clone(), value_type: None };
    let num_parameters = read.iter().filter_map(|name| constants.num_floats(name)).sum();
    let mut graph = GraphProto {
        name: name.clone(),
        input: inputs.iter().map(info).collect(),
        output: outputs.iter().map(info).collect(),
        initializer,
        node: nodes.into_iter().map(whole).collect(),
        ..GraphProto::default()
    };
    lower::graph(&mut graph, imports.opset(), types)?;
    let model = ModelProto { ir_version: imports.ir_version, opset_import: imports.opsets.clone(), graph: Some(graph), ..ModelProto::default() };
    let typed = outputs.iter().map(|name| (name.clone(), types.get(name).copied())).collect();
    let segment = Segment::new(model.encode_to_vec(), inputs.clone(), typed)?;
    let work = outputs.iter().map(|name| work.get(name).copied().unwrap_or(0)).collect();
    Ok(HostNode { name, segment, inputs, outputs, operators, work, num_parameters })
}

/// The node with its branches as graphs again.
fn whole(node: Node) -> NodeProto {
    let mut proto = node.proto;
    if let Some(branches) = node.branches {
        let [then, otherwise] = *branches;
        for (name, block) in [("then_branch", then), ("else_branch", otherwise)] {
            proto.attribute.retain(|attribute| attribute.name != name);
            proto.attribute.push(AttributeProto::of_graph(name, graph(block, &format!("{}.{name}", proto.name))));
        }
    }
    proto
}

/// A branch as a graph. What it passes on from outside, or twice, gets a name inside: a graph's outputs are its own.
fn graph(block: Block, name: &str) -> GraphProto {
    let mut own: BTreeSet<String> = block.nodes.iter().flat_map(Node::makes).map(str::to_owned).collect();
    let mut node: Vec<NodeProto> = block.nodes.into_iter().map(whole).collect();
    let mut output = Vec::new();
    for (place, from) in block.outputs.into_iter().enumerate() {
        let mut to = from.clone();
        if !own.remove(&from) {
            to = format!("{name}.{place}");
            node.push(NodeProto { op_type: "Identity".to_owned(), input: vec![from], output: vec![to.clone()], ..NodeProto::default() });
        }
        output.push(ValueInfoProto { name: to, value_type: None });
    }
    GraphProto { name: name.to_owned(), node, output, ..GraphProto::default() }
}
