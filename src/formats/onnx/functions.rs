//! Operators that a file defines itself: every node that is one becomes the nodes of its body.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::graph::MAX_NESTING;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use crate::error::{Error, Result};

/// Functions within functions; more is a mistake or an attack.
const MAX_DEPTH: usize = 32;

/// Bytes that all bodies together may take for each byte of the file.
const BYTES_PER_BYTE: usize = 16;

/// Bytes that all bodies together may take however small the file is.
const BYTES_AT_LEAST: usize = 1 << 16;

/// Puts bodies in the place of nodes, in the graph and all graphs within it.
pub(super) fn inline(model: &mut ModelProto, file_bytes: usize) -> Result<()> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let functions = std::mem::take(&mut model.functions);
    let room = Room { nodes: file_bytes, bytes: file_bytes.saturating_mul(BYTES_PER_BYTE).max(BYTES_AT_LEAST) };
    let mut inliner = Inliner { by_name: BTreeMap::new(), opset: version_in(&model.opset_import), uses: 0, room };
    let mut domains: BTreeSet<String> = model.opset_import.iter().map(|set| own_domain(&set.domain).to_owned()).collect();
    for function in &functions {
        let key = (own_domain(&function.domain), function.name.as_str(), function.overload.as_str());
        if inliner.by_name.insert(key, function).is_some() {
            return Err(Error::format(format!("function `{}`: expected one of that name, found two", function.name)));
        }
        for set in &function.opset_import {
            // the model's own imports are what nodes are read by
            if domains.insert(own_domain(&set.domain).to_owned()) {
                model.opset_import.push(set.clone());
            }
        }
    }
    if let Some(graph) = &mut model.graph {
        inliner.graph(graph, 0, 0)?;
    }
    Ok(())
}

/// The version of the specification's operators.
fn version_in(sets: &[OperatorSetIdProto]) -> Option<i64> {
    sets.iter().filter(|set| own_domain(&set.domain).is_empty()).map(|set| set.version).max()
}

/// The specification's domain has two names.
fn own_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

struct Inliner<'a> {
    by_name: BTreeMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
    /// version of the specification's operators in the model
    opset: Option<i64>,
    /// bodies so far: each names its tensors apart from all others
    uses: usize,
    room: Room,
}

/// What bodies may still take.
struct Room {
    nodes: usize,
    bytes: usize,
}

impl Room {
    fn take_nodes(&mut self, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.checked_sub(nodes).ok_or_else(|| Error::limit("expected fewer nodes than functions make"))?;
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<()> {
        let most = "expected functions whose bodies are no larger in all than";
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| Error::limit(format!("{most} {BYTES_PER_BYTE} times the file, found more")))?;
        Ok(())
    }
}

impl Inliner<'_> {
    /// A graph in `depth` functions and `nesting` graphs.
    fn graph(&mut self, graph: &mut GraphProto, depth: usize, nesting: usize) -> Result<()> {
        if nesting > MAX_NESTING {
            return Err(Error::limit(format!("graphs within graphs: expected at most {MAX_NESTING}, found more")));
        }
        graph.node = self.nodes(std::mem::take(&mut graph.node), depth, nesting)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>, depth: usize, nesting: usize) -> Result<Vec<NodeProto>> {
        let mut made = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            let Some(&function) = self.by_name.get(&(own_domain(&node.domain), node.op_type.as_str(), node.overload.as_str())) else {
                node.attribute.iter_mut().flat_map(AttributeProto::graphs_mut).try_for_each(|graph| self.graph(graph, depth, nesting + 1))?;
                made.push(node);
                continue;
            };
            let label = node.label();
            if depth == MAX_DEPTH {
                return Err(Error::format(format!("{label}: expected functions within functions to a depth of {MAX_DEPTH}, found more")));
            }
            let body = self.body(&node, function).map_err(|error| error.within(label))?;
            made.extend(self.nodes(body, depth + 1, nesting)?);
        }
        Ok(made)
    }

    /// The nodes of `function` in the names of `node`.
    fn body(&mut self, node: &NodeProto, function: &FunctionProto) -> Result<Vec<NodeProto>> {
        let (inputs, outputs) = (node.input.len(), node.output.len());
        if inputs > function.input.len() || outputs > function.output.len() {
            let (most_in, most_out) = (function.input.len(), function.output.len());
            return Err(Error::format(format!("expected at most {most_in} inputs and {most_out} outputs, found {inputs} and {outputs}")));
        }
        // its nodes are read by the model's version from here on
        if let (Some(own), Some(opset)) = (version_in(&function.opset_import), self.opset)
            && own != opset
        {
            return Err(Error::config(format!("function `{}`: expected opset {opset} as the model has it, found {own}", function.name)));
        }
        self.room.take_nodes(function.node.len())?;
        self.uses += 1;
        let mut names = BTreeMap::new();
        for (place, formal) in function.input.iter().enumerate() {
            names.insert(formal.as_str(), node.input.get(place).cloned().unwrap_or_default());
        }
        for (formal, actual) in function.output.iter().zip(&node.output).filter(|(_, actual)| !actual.is_empty()) {
            names.insert(formal.as_str(), actual.clone());
        }
        let prefix = format!("{}.{}/", if node.name.is_empty() { &node.op_type } else { &node.name }, self.uses);
        let attribute = |name: &str| {
            let given = node.attribute(name);
            given.or_else(|| function.attribute_proto.iter().find(|attribute| attribute.name == name)).cloned()
        };
        let mut body = Body { names, prefix, attribute: &attribute, room: &mut self.room };
        let copied = |node: &NodeProto| {
            body.room.take_bytes(node.encoded_len())?;
            body.node(node.clone())
        };
        function.node.iter().map(copied).collect()
    }
}

/// The names and attributes of one use of a function.
struct Body<'a> {
    names: BTreeMap<&'a str, String>,
    prefix: String,
    attribute: &'a dyn Fn(&str) -> Option<AttributeProto>,
    room: &'a mut Room,
}

impl Body<'_> {
    fn name(&mut self, name: &mut String) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        *name = self.names.get(name.as_str()).cloned().unwrap_or_else(|| format!("{}{name}", self.prefix));
        self.room.take_bytes(name.len())
    }

    fn node(&mut self, mut node: NodeProto) -> Result<NodeProto> {
        node.input.iter_mut().chain(&mut node.output).try_for_each(|name| self.name(name))?;
        node.name = format!("{}{}", self.prefix, node.name);
        self.room.take_bytes(node.name.len())?;
        node.attribute = node.attribute.into_iter().filter_map(|attribute| self.attribute(attribute).transpose()).collect::<Result<_>>()?;
        Ok(node)
    }

    /// The attribute with the value that it refers to; none where the node gives none, so that the operator's own default holds.
    fn attribute(&mut self, mut attribute: AttributeProto) -> Result<Option<AttributeProto>> {
        if !attribute.ref_attr_name.is_empty() {
            let Some(value) = (self.attribute)(&attribute.ref_attr_name) else { return Ok(None) };
            self.room.take_bytes(value.encoded_len())?;
            return Ok(Some(AttributeProto { name: attribute.name, ..value }));
        }
        for graph in attribute.graphs_mut() {
            graph.node = std::mem::take(&mut graph.node).into_iter().map(|node| self.node(node)).collect::<Result<_>>()?;
            graph.initializer.iter_mut().try_for_each(|tensor| self.name(&mut tensor.name))?;
            graph.input.iter_mut().chain(&mut graph.output).try_for_each(|info| self.name(&mut info.name))?;
        }
        Ok(Some(attribute))
    }
}
