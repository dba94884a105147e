//! A graph with its names made unique, its nodes in order, its constants in one place: what all later passes work on.
//!
//! The two graphs of an `If` become [`Block`]s beside the nodes around them. The bodies of loops stay what they were, opaque, but for their names.

use std::collections::{BTreeMap, BTreeSet};

use super::constants::Constants;
use super::proto::{AttributeKind, AttributeProto, GraphProto, NodeProto};
use crate::error::{Error, Result};

/// Graphs within graphs, those in the bodies of functions included; passes go down with them, and stacks are of one size.
pub(super) const MAX_NESTING: usize = 64;

/// Nodes that run one after the other: those of the graph itself, or of a branch of an `If`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Block {
    /// in an order in which every tensor is made before it is read
    pub(super) nodes: Vec<Node>,
    /// names of the tensors that it makes for whoever runs it
    pub(super) outputs: Vec<String>,
}

/// A node; its operator decides what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// the operator, its attributes and names; the graphs of an `If` are in `branches`
    pub(super) proto: NodeProto,
    /// of an `If`: what runs where its condition holds, and what where it does not
    pub(super) branches: Option<Box<[Block; 2]>>,
    /// what graphs among its attributes read from outside of themselves
    pub(super) captured: Vec<String>,
}

impl Node {
    /// Whether the node is an operator of the specification called `op_type`.
    pub(super) fn is(&self, op_type: &str) -> bool {
        is_onnx(&self.proto.domain) && self.proto.op_type == op_type
    }

    /// The input at `place`; `None` where it is left out.
    pub(super) fn input(&self, place: usize) -> Option<&str> {
        self.proto.input.get(place).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The output at `place`; `None` where it is left out.
    pub(super) fn output(&self, place: usize) -> Option<&str> {
        self.proto.output.get(place).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Names of the tensors that it makes.
    pub(super) fn makes(&self) -> impl Iterator<Item = &str> {
        self.proto.output.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Names of the tensors that it reads, those that its branches read from outside included; some more than once.
    pub(super) fn reads(&self) -> Vec<&str> {
        let own = self.proto.input.iter().filter(|name| !name.is_empty()).chain(&self.captured);
        let mut names: Vec<&str> = own.map(String::as_str).collect();
        for block in self.branches.iter().flat_map(|branches| branches.iter()) {
            names.extend(block.captured());
        }
        names
    }

    /// Changes every name that it reads.
    pub(super) fn rename_reads(&mut self, rename: &impl Fn(&str) -> Option<String>) {
        let change = |name: &mut String| {
            if let Some(new) = rename(name).filter(|_| !name.is_empty()) {
                *name = new;
            }
        };
        self.proto.input.iter_mut().chain(&mut self.captured).for_each(change);
        self.proto.attribute.iter_mut().flat_map(AttributeProto::graphs_mut).for_each(|graph| rename_captured(graph, rename));
        for block in self.branches.iter_mut().flat_map(|branches| branches.iter_mut()) {
            block.nodes.iter_mut().for_each(|node| node.rename_reads(rename));
            block.outputs.iter_mut().for_each(change);
        }
    }
}

impl Block {
    /// Names of the tensors that it reads and does not make.
    pub(super) fn captured(&self) -> Vec<&str> {
        let made: BTreeSet<&str> = self.nodes.iter().flat_map(Node::makes).collect();
        let read = self.nodes.iter().flat_map(Node::reads).chain(self.outputs.iter().map(String::as_str));
        read.filter(|name| !name.is_empty() && !made.contains(name)).collect()
    }

    /// Calls `visit` with every node, those of branches behind their `If`.
    pub(super) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        for node in &self.nodes {
            visit(node);
            for block in node.branches.iter().flat_map(|branches| branches.iter()) {
                block.each(visit);
            }
        }
    }
}

/// Whether `domain` is that of the operators of the specification.
pub(super) fn is_onnx(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Names that are seen at a place in a graph, innermost scope last: as the file has them, and as they are called here.
type Scopes = Vec<BTreeMap<String, String>>;

/// Reads a graph and all graphs within it.
pub(super) struct GraphReader<'a> {
    /// every name so far, for no two tensors of a model have the same one, and the number to try next behind it
    taken: BTreeMap<String, usize>,
    scopes: Scopes,
    constants: &'a mut Constants,
}

impl<'a> GraphReader<'a> {
    pub(super) fn new(constants: &'a mut Constants) -> Self {
        Self { taken: BTreeMap::new(), scopes: Vec::new(), constants }
    }

    /// The nodes of `graph`; its initialisers, and the values of its `Constant` nodes, go to the constants.
    pub(super) fn block(&mut self, mut graph: GraphProto) -> Result<Block> {
        self.enter(&graph)?;
        for mut tensor in std::mem::take(&mut graph.initializer) {
            tensor.name = self.seen(&tensor.name)?;
            self.constants.insert(tensor)?;
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for proto in std::mem::take(&mut graph.node) {
            let label = proto.label();
            let read = || {
                let node = self.node(proto)?;
                if node.is("Constant") {
                    return self.constants.insert_node(&node.proto);
                }
                nodes.push(node);
                Ok(())
            };
            read().map_err(|error| error.within(label))?;
        }
        let outputs = graph.output.iter().map(|output| self.seen(&output.name)).collect::<Result<Vec<_>>>()?;
        self.scopes.pop();
        Ok(Block { nodes: sorted(nodes)?, outputs })
    }

    /// Opens the scope of a graph: gathers what it defines, each under a name of its own.
    fn enter(&mut self, graph: &GraphProto) -> Result<()> {
        if !graph.sparse_initializer.is_empty() {
            let found = graph.sparse_initializer.len();
            return Err(Error::config(format!("sparse initialisers: expected none, found {found}; they are not supported yet")));
        }
        if self.scopes.len() > MAX_NESTING {
            return Err(Error::limit(format!("graphs within graphs: expected at most {MAX_NESTING}, found more")));
        }
        let mut scope = BTreeMap::new();
        let initializers: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        // Up to IR version 3 the initialisers had to be inputs too.
        let inputs = graph.input.iter().map(|input| input.name.as_str()).filter(|name| !initializers.contains(name));
        let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).filter(|name| !name.is_empty());
        for name in graph.initializer.iter().map(|tensor| tensor.name.as_str()).chain(inputs).chain(made) {
            if name.is_empty() {
                return Err(Error::format("tensor ``: expected a name, found none"));
            }
            if scope.insert(name.to_owned(), self.fresh(name)).is_some() {
                return Err(Error::format(format!("tensor `{name}`: expected one maker, found two")));
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// A name that no tensor has yet: `name`, or that and a number.
    fn fresh(&mut self, name: &str) -> String {
        let Some(mut number) = self.taken.get(name).copied() else {
            self.taken.insert(name.to_owned(), 2);
            return name.to_owned();
        };
        let fresh = loop {
            let fresh = format!("{name}.{number}");
            number += 1;
            if !self.taken.contains_key(&fresh) {
                break fresh;
            }
        };
        self.taken.insert(name.to_owned(), number);
        self.taken.insert(fresh.clone(), 2);
        fresh
    }

    /// What the tensor `name` is called.
    fn seen(&self, name: &str) -> Result<String> {
        self.found(name).map(|(_, own)| own)
    }

    /// The scope of the tensor `name`, and what it is called.
    fn found(&self, name: &str) -> Result<(usize, String)> {
        let found = self.scopes.iter().enumerate().rev().find_map(|(scope, names)| Some((scope, names.get(name)?.clone())));
        found.ok_or_else(|| Error::format(format!("tensor `{name}`: expected a maker, found none")))
    }

    fn node(&mut self, mut proto: NodeProto) -> Result<Node> {
        for name in proto.input.iter_mut().chain(&mut proto.output).filter(|name| !name.is_empty()) {
            *name = self.seen(name)?;
        }
        if is_onnx(&proto.domain) && proto.op_type == "If" {
            let branches = Some(Box::new([self.branch(&mut proto, "then_branch")?, self.branch(&mut proto, "else_branch")?]));
            return Ok(Node { proto, branches, captured: Vec::new() });
        }
        let mut captured = BTreeMap::new();
        for graph in proto.attribute.iter_mut().flat_map(AttributeProto::graphs_mut) {
            self.body(graph, &mut captured)?;
        }
        Ok(Node { proto, branches: None, captured: captured.into_keys().collect() })
    }

    /// Takes a branch out of an `If`.
    fn branch(&mut self, proto: &mut NodeProto, name: &str) -> Result<Block> {
        let attribute = proto.attribute.iter_mut().find(|attribute| attribute.name == name);
        let graph =
            attribute.and_then(|attribute| attribute.g.take()).ok_or_else(|| Error::format(format!("expected a graph `{name}`, found none")))?;
        if !graph.input.is_empty() || graph.output.len() != proto.output.len() {
            let (inputs, outputs) = (graph.input.len(), graph.output.len());
            let expected = proto.output.len();
            return Err(Error::format(format!("`{name}`: expected no inputs and {expected} outputs, found {inputs} and {outputs}")));
        }
        self.block(*graph).map_err(|error| error.within(format!("`{name}`")))
    }

    /// Gives the tensors of a graph that stays as it is their own names; what it reads from outside goes to `captured`, with its scope.
    fn body(&mut self, graph: &mut GraphProto, captured: &mut BTreeMap<String, usize>) -> Result<()> {
        self.enter(graph)?;
        let inside = self.scopes.len() - 1;
        let own = |reader: &Self, name: &str, captured: &mut BTreeMap<String, usize>| -> Result<String> {
            let (scope, own) = reader.found(name)?;
            if scope < inside {
                captured.insert(own.clone(), scope);
            }
            Ok(own)
        };
        // what is said of tensors that are not there may be true of others
        let scope = &self.scopes[inside];
        graph.value_info.retain_mut(|info| scope.get(&info.name).cloned().map(|own| info.name = own).is_some());
        graph.initializer.iter_mut().try_for_each(|tensor| self.seen(&tensor.name).map(|name| tensor.name = name))?;
        graph.input.iter_mut().try_for_each(|input| self.seen(&input.name).map(|name| input.name = name))?;
        for node in &mut graph.node {
            for name in node.input.iter_mut().chain(&mut node.output).filter(|name| !name.is_empty()) {
                *name = own(self, name, captured)?;
            }
            let mut inner = BTreeMap::new();
            for graph in node.attribute.iter_mut().flat_map(AttributeProto::graphs_mut) {
                self.body(graph, &mut inner)?;
            }
            captured.extend(inner.into_iter().filter(|(_, scope)| *scope < inside));
        }
        for output in &mut graph.output {
            output.name = own(self, &output.name, captured)?;
        }
        self.scopes.pop();
        Ok(())
    }
}

impl AttributeProto {
    /// The graphs that the attribute holds.
    pub(super) fn graphs_mut(&mut self) -> impl Iterator<Item = &mut GraphProto> {
        self.g.iter_mut().map(AsMut::as_mut).chain(&mut self.graphs)
    }

    /// The graph of this name that holds `graph`.
    pub(super) fn of_graph(name: &str, graph: GraphProto) -> Self {
        Self { name: name.to_owned(), kind: AttributeKind::Graph as i32, g: Some(Box::new(graph)), ..Self::default() }
    }
}

/// Changes the names that `graph` reads from outside; they are nobody's inside, as all names differ.
fn rename_captured(graph: &mut GraphProto, rename: &impl Fn(&str) -> Option<String>) {
    let change = |name: &mut String| {
        if let Some(new) = rename(name).filter(|_| !name.is_empty()) {
            *name = new;
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().for_each(change);
        node.attribute.iter_mut().flat_map(AttributeProto::graphs_mut).for_each(|graph| rename_captured(graph, rename));
    }
    graph.output.iter_mut().for_each(|output| change(&mut output.name));
}

/// The nodes in an order in which every tensor is made before it is read, as near to the file's as can be.
fn sorted(nodes: Vec<Node>) -> Result<Vec<Node>> {
    in_order(nodes, |node| node)
}

/// As [`sorted`], for what has nodes in it.
pub(super) fn in_order<T>(items: Vec<T>, node: impl Fn(&T) -> &Node) -> Result<Vec<T>> {
    let mut producers = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        producers.extend(node(item).makes().map(|name| (name, index)));
    }
    let waits_of = |item: &T| node(item).reads().iter().filter_map(|name| producers.get(name).copied()).collect::<BTreeSet<usize>>();
    let waits: Vec<BTreeSet<usize>> = items.iter().map(waits_of).collect();
    if waits.iter().enumerate().all(|(index, waits)| waits.iter().all(|&producer| producer < index)) {
        return Ok(items);
    }
    let mut readers = vec![Vec::new(); items.len()];
    for (reader, producers) in waits.iter().enumerate() {
        producers.iter().for_each(|&producer| readers[producer].push(reader));
    }
    let mut missing: Vec<usize> = waits.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..items.len()).filter(|&index| missing[index] == 0).collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if let Some(stuck) = (0..items.len()).find(|&index| missing[index] > 0) {
        // Every stuck node waits for a stuck one, so that the first one to come twice is inside a cycle.
        let step = |index: usize| waits[index].iter().copied().find(|&producer| missing[producer] > 0).unwrap_or(index);
        let (mut inside, mut seen) = (stuck, BTreeSet::new());
        while seen.insert(inside) {
            inside = step(inside);
        }
        let label = node(&items[inside]).proto.label();
        return Err(Error::format(format!("{label}: expected inputs that do not depend on its outputs, found a cycle")));
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| items[index].take()).collect())
}

impl NodeProto {
    /// The node in words; by an output where it has no name.
    pub(super) fn label(&self) -> String {
        let output = self.output.first().map_or("", String::as_str);
        if self.name.is_empty() { format!("the node that makes `{output}`") } else { format!("node `{}`", self.name) }
    }

    /// The operator, with its domain where that is not the specification's.
    pub(super) fn operator(&self) -> String {
        if is_onnx(&self.domain) { self.op_type.clone() } else { format!("{}.{}", self.domain, self.op_type) }
    }
}
