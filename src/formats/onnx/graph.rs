//! The names of a graph: who makes which tensor, what it is called, and in which order nodes run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::proto::{AttributeKind, GraphProto, NodeProto, TensorProto};
use super::tensor::{FLOAT, INT64};
use crate::error::{Error, Result};
use crate::network::LstmNode;

/// Who makes a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// the call
    Input,
    /// the file: an initialiser or a `Constant` node
    Constant,
    /// an `LSTM` node
    Lstm,
    /// an `Identity` node: another name of the tensor that it reads
    Alias,
}

impl Maker {
    /// In words.
    fn name(self) -> &'static str {
        match self {
            Self::Input => "an input of the graph",
            Self::Constant => "a constant",
            Self::Lstm => "an output of an LSTM node",
            Self::Alias => "an output of an Identity node",
        }
    }
}

/// Every tensor of a graph.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    makers: BTreeMap<&'a str, Maker>,
    constants: BTreeMap<&'a str, Cow<'a, TensorProto>>,
    /// output of an `Identity` node -> the tensor that is not itself an output of an `Identity` node
    aliases: BTreeMap<&'a str, &'a str>,
    /// output of an `LSTM` node -> the graph output that an `Identity` node makes of it
    public: BTreeMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    /// Gathers the names of `graph`, whose nodes are all `LSTM`, `Constant` or `Identity`, and checks that each has one maker.
    pub(super) fn new(graph: &'a GraphProto) -> Result<Self> {
        let mut this = Self::default();
        for tensor in &graph.initializer {
            this.make(&tensor.name, Maker::Constant)?;
            this.constants.insert(&tensor.name, Cow::Borrowed(tensor));
        }
        let mut inputs = BTreeSet::new();
        for input in &graph.input {
            if !inputs.insert(&input.name) {
                return Err(Error::format(format!("input `{}`: expected one of that name, found two", input.name)));
            }
            // Up to IR version 3 the initialisers had to be inputs too.
            if !this.constants.contains_key(input.name.as_str()) {
                this.make(&input.name, Maker::Input)?;
            }
        }
        for node in &graph.node {
            match node.op_type.as_str() {
                "Constant" => {
                    let (name, tensor) = constant(node)?;
                    this.make(name, Maker::Constant)?;
                    this.constants.insert(name, tensor);
                }
                "Identity" => {
                    let ([from], [to]) = (node.input.as_slice(), node.output.as_slice()) else {
                        return Err(node.refused("one input and one output", format!("{} and {}", node.input.len(), node.output.len())));
                    };
                    this.make(to, Maker::Alias)?;
                    this.aliases.insert(to, from);
                }
                _ => node.output.iter().filter(|name| !name.is_empty()).try_for_each(|name| this.make(name, Maker::Lstm))?,
            }
        }
        this.follow_aliases()?;
        this.aliases.values().try_for_each(|root| this.root(root).map(drop))?;
        this.publish(graph)?;
        Ok(this)
    }

    /// Notes that `maker` makes the tensor `name`.
    fn make(&mut self, name: &'a str, maker: Maker) -> Result<()> {
        if name.is_empty() {
            return Err(Error::format(format!("tensor ``: expected a name for {}, found none", maker.name())));
        }
        match self.makers.insert(name, maker) {
            None => Ok(()),
            Some(other) => Err(Error::format(format!("tensor `{name}`: expected one maker, found {} and {}", other.name(), maker.name()))),
        }
    }

    /// Makes every alias point to a tensor that is none.
    fn follow_aliases(&mut self) -> Result<()> {
        let names: Vec<&'a str> = self.aliases.keys().copied().collect();
        let mut done = BTreeSet::new();
        for name in names {
            let (mut path, mut root) = (vec![name], self.aliases[name]);
            // Every alias is walked over once: those before this one already point to their ends.
            while let Some(&next) = self.aliases.get(root) {
                if !done.contains(root) {
                    path.push(root);
                    if path.len() > self.aliases.len() {
                        return Err(Error::format(format!("tensor `{name}`: expected an end of its chain of Identity nodes, found a cycle")));
                    }
                }
                root = next;
            }
            for alias in path {
                self.aliases.insert(alias, root);
                done.insert(alias);
            }
        }
        Ok(())
    }

    /// Checks that every output of the graph is an output of an `LSTM` node, and gives that tensor the output's name.
    fn publish(&mut self, graph: &'a GraphProto) -> Result<()> {
        for output in &graph.output {
            let name = output.name.as_str();
            let root = self.root(name).map_err(|error| error.within(format!("output `{name}`")))?;
            let maker = self.makers[root];
            if maker != Maker::Lstm {
                return Err(Error::config(format!("output `{name}`: expected an output of an LSTM node, found {}", maker.name())));
            }
            if let Some(other) = self.public.insert(root, name) {
                return Err(Error::config(format!("output `{name}`: expected a tensor of its own, found the one of output `{other}`")));
            }
        }
        Ok(())
    }

    /// The tensor that `name` stands for, past all `Identity` nodes.
    pub(super) fn root(&self, name: &'a str) -> Result<&'a str> {
        let root = self.aliases.get(name).copied().unwrap_or(name);
        if self.makers.contains_key(root) { Ok(root) } else { Err(Error::format(format!("tensor `{root}`: expected a maker, found none"))) }
    }

    /// What the network calls the tensor `root`.
    pub(super) fn public(&self, root: &'a str) -> &'a str {
        self.public.get(root).copied().unwrap_or(root)
    }

    /// Who makes the tensor `root`.
    pub(super) fn maker(&self, root: &str) -> Option<Maker> {
        self.makers.get(root).copied()
    }

    /// The constant `root`.
    pub(super) fn constant(&self, root: &str) -> Option<&TensorProto> {
        self.constants.get(root).map(AsRef::as_ref)
    }
}

/// The name and the value of a `Constant` node.
fn constant(node: &NodeProto) -> Result<(&str, Cow<'_, TensorProto>)> {
    let ([], [name], [attribute]) = (node.input.as_slice(), node.output.as_slice(), node.attribute.as_slice()) else {
        let found = format!("{}, {} and {}", node.input.len(), node.output.len(), node.attribute.len());
        return Err(node.refused("no input, one output and one attribute", found));
    };
    let list = |len: usize| i64::try_from(len).map(|len| vec![len]).unwrap_or_default();
    let tensor = match attribute.name.as_str() {
        "value" => {
            attribute.expect(AttributeKind::Tensor, "a tensor")?;
            Cow::Borrowed(attribute.t.as_ref().ok_or_else(|| node.refused("a tensor in its attribute `value`", "none"))?)
        }
        "value_int" => {
            attribute.expect(AttributeKind::Int, "an int")?;
            Cow::Owned(TensorProto { data_type: INT64, int64_data: vec![attribute.i], ..TensorProto::default() })
        }
        "value_ints" => {
            attribute.expect(AttributeKind::Ints, "ints")?;
            let (dims, int64_data) = (list(attribute.ints.len()), attribute.ints.clone());
            Cow::Owned(TensorProto { data_type: INT64, dims, int64_data, ..TensorProto::default() })
        }
        "value_float" => {
            attribute.expect(AttributeKind::Float, "a float")?;
            Cow::Owned(TensorProto { data_type: FLOAT, float_data: vec![attribute.f], ..TensorProto::default() })
        }
        "value_floats" => {
            attribute.expect(AttributeKind::Floats, "floats")?;
            let (dims, float_data) = (list(attribute.floats.len()), attribute.floats.clone());
            Cow::Owned(TensorProto { data_type: FLOAT, dims, float_data, ..TensorProto::default() })
        }
        other => return Err(node.refused("a tensor or numbers", format!("attribute `{other}`, which is not supported yet"))),
    };
    Ok((name, tensor))
}

/// The nodes in an order in which every tensor is made before it is read; nodes that may run stay in the file's order.
pub(super) fn sorted(nodes: Vec<LstmNode>) -> Result<Vec<LstmNode>> {
    let mut producers = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        producers.extend([&node.y, &node.h_n, &node.c_n].into_iter().flatten().map(|name| (name.as_str(), index)));
    }
    let waits: Vec<BTreeSet<usize>> = nodes.iter().map(|node| node.reads().filter_map(|name| producers.get(name).copied()).collect()).collect();
    let mut readers = vec![Vec::new(); nodes.len()];
    for (reader, producers) in waits.iter().enumerate() {
        producers.iter().for_each(|&producer| readers[producer].push(reader));
    }
    let mut missing: Vec<usize> = waits.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&index| missing[index] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if let Some(stuck) = (0..nodes.len()).find(|&index| missing[index] > 0) {
        // Every stuck node waits for a stuck one, so that as many steps as there are nodes end inside a cycle.
        let step = |index: usize| waits[index].iter().copied().find(|&producer| missing[producer] > 0).unwrap_or(index);
        let inside = (0..nodes.len()).fold(stuck, |index, _| step(index));
        return Err(Error::format(format!("node `{}`: expected inputs that do not depend on its outputs, found a cycle", nodes[inside].name)));
    }
    let mut nodes: Vec<Option<LstmNode>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| nodes[index].take()).collect())
}

impl NodeProto {
    /// The node in words; by an output where it has no name.
    pub(super) fn label(&self) -> String {
        let output = self.output.first().map_or("", String::as_str);
        if self.name.is_empty() { format!("the node that makes `{output}`") } else { format!("node `{}`", self.name) }
    }

    /// The error for a node that does not keep `rule`.
    fn refused(&self, rule: &str, found: impl std::fmt::Display) -> Error {
        Error::format(format!("operator `{}` of {}: expected {rule}, found {found}", self.op_type, self.label()))
    }
}
