//! A graph cut into steps: LSTMs for the device, small operators and changes of axes where the tensors are, and segments of everything else, which
//! another library runs on the CPU.
//!
//! A node's level is the number of segments that have to run before it, so that a graph is cut where an LSTM needs what a segment makes, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::constants::Constants;
use super::dense::{self, Finder};
use super::graph::{Block, Node};
use super::node::NodeReader;
use super::segment::{self, Imports};
use super::{operator, stack};
use crate::error::{Error, Result};
use crate::network::op::Op;
use crate::network::{DenseNode, HostNode, IfNode, LstmNode, Nodes, OpNode, Program, Step};
use crate::tensor::ElementType;

/// What a node becomes.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Lstm(Box<LstmNode>),
    Dense(DenseNode),
    Op(Op),
    /// an `If` with LSTMs in it
    If,
    /// a part of a segment
    Host,
}

/// A node and what it becomes.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) node: Node,
    pub(super) kind: Kind,
}

/// Cuts blocks into programs, and gathers what these share.
pub(super) struct Cutter<'a> {
    pub(super) reader: NodeReader<'a>,
    pub(super) imports: Imports,
    /// declared types of tensors, by name
    pub(super) types: BTreeMap<String, ElementType>,
    pub(super) lstms: Vec<LstmNode>,
    pub(super) dense: Vec<DenseNode>,
    /// numbers of axes, as far as the graph says them
    pub(super) ranks: BTreeMap<String, usize>,
    /// whether segments shall make what their arithmetic is counted by
    pub(super) counted: bool,
    /// constants that steps read by name
    pub(super) wanted: BTreeSet<String>,
    /// bytes of constants that segments may still have, of which each has a copy
    pub(super) room: usize,
    segments: usize,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(reader: NodeReader<'a>, imports: Imports, types: BTreeMap<String, ElementType>) -> Self {
        Self {
            reader,
            imports,
            types,
            lstms: Vec::new(),
            dense: Vec::new(),
            ranks: BTreeMap::new(),
            counted: false,
            wanted: BTreeSet::new(),
            room: usize::MAX,
            segments: 0,
        }
    }

    /// The program of `block`; what a branch reads from outside is `there` when it begins.
    pub(super) fn program(&mut self, block: Block, there: BTreeSet<String>) -> Result<Program> {
        let outputs = block.outputs.clone();
        let mut items = self.items(block, there)?;
        stack::join(&mut items, &outputs, self.reader.constants)?;
        let steps = self.steps(items, &outputs)?;
        self.wanted.extend(outputs.iter().filter(|name| self.reader.constants.contains(name)).cloned());
        Ok(Program::new(steps, outputs, Nodes { lstms: &self.lstms, dense: &self.dense }))
    }

    /// What every node of `block` becomes.
    fn items(&mut self, block: Block, there: BTreeSet<String>) -> Result<Vec<Item>> {
        let Block { nodes, outputs } = block;
        let mut lstms = Vec::new();
        for node in &nodes {
            lstms.push(if node.is("LSTM") { Some(self.reader.lstm(node).map_err(|error| error.within(node.proto.label()))?) } else { None });
        }
        let for_device = self.wanted_on_device(&nodes, &lstms);
        let finder = Finder::new(&nodes, &outputs, self.reader.opset);
        let mut places = Places { native: there, ..Places::default() };
        // names are unique in the whole model
        let mut ranks = std::mem::take(&mut self.ranks);
        let mut kinds: Vec<Option<Kind>> = Vec::with_capacity(nodes.len());
        let mut taken = BTreeSet::new();
        for (place, (node, lstm)) in nodes.iter().zip(lstms).enumerate() {
            dense::note_rank(node, &mut ranks, self.reader.constants);
            if taken.contains(&place) {
                kinds.push(None);
                continue;
            }
            let kind = match lstm {
                Some(lstm) => Kind::Lstm(Box::new(lstm)),
                None if node.branches.iter().any(|branches| branches.iter().any(has_lstm)) => Kind::If,
                None if self.only_moves_axes(node, &places) => Kind::If,
                None if node.makes().any(|name| for_device.contains(name)) && dense::is_lookup(node, self.reader.constants) => {
                    finder.embedding(node, self.reader.constants).map_or(Kind::Host, Kind::Dense)
                }
                None if node.input(0).is_some_and(|x| places.native.contains(x) && !places.small.contains(x)) => {
                    match finder.linear(place, &ranks, self.reader.constants) {
                        Some(found) => {
                            taken.extend(found.more);
                            Kind::Dense(found.node)
                        }
                        None => self.operator(node, &places, &for_device).map_or(Kind::Host, Kind::Op),
                    }
                }
                None => self.operator(node, &places, &for_device).map_or(Kind::Host, Kind::Op),
            };
            if let Kind::Dense(dense) = &kind {
                self.reader.spend(dense.stage.num_parameters())?;
            }
            places.note(node, &kind, self.reader.constants);
            kinds.push(Some(kind));
        }
        self.ranks = ranks;
        let item = |(mut node, kind): (Node, Option<Kind>)| {
            let kind = kind?;
            if let Kind::Dense(dense) = &kind {
                (node.proto.input, node.proto.output) = (vec![dense.x.clone()], vec![dense.y.clone()]);
            }
            Some(Item { node, kind })
        };
        Ok(nodes.into_iter().zip(kinds).filter_map(item).collect())
    }

    /// Tensors that LSTMs read as they are, with their axes changed, or looked up in a table.
    fn wanted_on_device(&self, nodes: &[Node], lstms: &[Option<LstmNode>]) -> BTreeSet<String> {
        let mut wanted: BTreeSet<String> = lstms.iter().flatten().flat_map(LstmNode::reads).map(str::to_owned).collect();
        for node in nodes.iter().rev() {
            if !node.makes().any(|name| wanted.contains(name)) {
                continue;
            }
            if dense::is_lookup(node, self.reader.constants) {
                wanted.extend(node.input(1).map(str::to_owned));
            } else if moves_axes(node) || node.is("Cast") {
                wanted.extend(node.input(0).map(str::to_owned));
            }
        }
        wanted
    }

    /// Whether the node is a choice between operators that are all run where their tensors are.
    fn only_moves_axes(&self, node: &Node, places: &Places) -> bool {
        let Some(branches) = &node.branches else { return false };
        let is_there = |name: &str| places.native.contains(name) || self.reader.constants.contains(name);
        let inside = |block: &Block| {
            let mut places = places.clone();
            block.nodes.iter().all(|node| {
                let kind = match self.operator(node, &places, &BTreeSet::new()) {
                    Some(op) => Kind::Op(op),
                    None => Kind::If,
                };
                let runs_there = matches!(kind, Kind::Op(_)) || self.only_moves_axes(node, &places);
                places.note(node, &kind, self.reader.constants);
                runs_there
            })
        };
        node.reads().into_iter().all(is_there) && branches.iter().all(inside)
    }

    /// The operator of a node that is run where its tensors are; `None` for one that belongs to a segment.
    fn operator(&self, node: &Node, places: &Places, for_device: &BTreeSet<String>) -> Option<Op> {
        if node.branches.is_some() || !node.captured.is_empty() {
            return None;
        }
        let op = operator::read(&node.proto, self.reader.opset).ok()??;
        let constants = &*self.reader.constants;
        let reads: Vec<&str> = node.reads().into_iter().filter(|name| !constants.contains(name)).collect();
        if node.is("Shape") || node.is("Size") {
            return reads.iter().all(|name| !places.host.contains(*name)).then_some(op);
        }
        let is_small = |name: &&str| places.small.contains(*name);
        if !reads.is_empty() && reads.iter().all(is_small) {
            return Some(op);
        }
        let (first, others) = (node.input(0)?, &node.proto.input[1..]);
        let others_are_small = others.iter().all(|name| name.is_empty() || constants.contains(name) || places.small.contains(name));
        if moves_axes(node) && others_are_small {
            let from_outside = !places.host.contains(first) && !constants.contains(first) && node.makes().any(|name| for_device.contains(name));
            return (places.native.contains(first) || from_outside).then_some(op);
        }
        if node.is("Concat") && reads.iter().all(|name| places.native.contains(*name)) {
            return Some(op);
        }
        let from_outside = !places.host.contains(first) && !constants.contains(first);
        (node.is("Cast") && from_outside && node.makes().any(|name| for_device.contains(name))).then_some(op)
    }

    /// The steps, in an order in which few segments are needed.
    fn steps(&mut self, items: Vec<Item>, outputs: &[String]) -> Result<Vec<Step>> {
        // for every tensor made here: how many segments come before it is there, and whether it is made by one
        let mut levels: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        let mut natives: Vec<Vec<Item>> = Vec::new();
        let mut hosts: Vec<Vec<Node>> = Vec::new();
        for item in items {
            let is_host = matches!(item.kind, Kind::Host);
            let level_of = |&(level, by_host): &(usize, bool)| if is_host { level } else { level + usize::from(by_host) };
            let reads = match &item.kind {
                Kind::Lstm(lstm) => lstm.reads().map(str::to_owned).collect(),
                _ => item.node.reads().into_iter().map(str::to_owned).collect::<Vec<_>>(),
            };
            let level = reads.iter().filter_map(|name| levels.get(name)).map(level_of).max().unwrap_or(0);
            levels.extend(item.node.makes().map(|name| (name.to_owned(), (level, is_host))));
            natives.resize_with(natives.len().max(level + 1), Vec::new);
            hosts.resize_with(hosts.len().max(level + 1), Vec::new);
            if is_host { hosts[level].push(item.node) } else { natives[level].push(item) }
        }
        let read: BTreeMap<String, usize> = readers(&natives, &hosts);
        let outputs: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
        let mut steps = Vec::new();
        for (level, (natives, host)) in natives.into_iter().zip(hosts).enumerate() {
            for item in natives {
                steps.push(self.native(item)?);
            }
            if !host.is_empty() {
                let is_read = |name: &str| outputs.contains(name) || read.get(name).is_some_and(|&last| last > 2 * level + 1);
                steps.push(Step::Host(Arc::new(self.host(host, is_read)?)));
            }
        }
        Ok(steps)
    }

    fn native(&mut self, item: Item) -> Result<Step> {
        let constants = &*self.reader.constants;
        let known = |name: &&str| constants.contains(name);
        match item.kind {
            Kind::Lstm(lstm) => {
                self.wanted.extend(lstm.reads().filter(known).map(str::to_owned));
                self.lstms.push(*lstm);
                Ok(Step::Lstm(self.lstms.len() - 1))
            }
            Kind::Dense(dense) => {
                self.dense.push(dense);
                Ok(Step::Dense(self.dense.len() - 1))
            }
            Kind::Op(op) => {
                self.wanted.extend(item.node.reads().into_iter().filter(|name| constants.contains(name)).map(str::to_owned));
                let proto = item.node.proto;
                Ok(Step::Op(OpNode { name: proto.label(), op, inputs: proto.input, outputs: proto.output }))
            }
            Kind::If => {
                let proto = item.node.proto;
                let condition =
                    proto.input.first().cloned().ok_or_else(|| Error::format(format!("{}: expected a condition, found none", proto.label())))?;
                let Some(branches) = item.node.branches else { unreachable!("an If has branches") };
                let [then, otherwise] = *branches;
                let there = |block: &Block| block.captured().into_iter().map(str::to_owned).collect();
                let (there_then, there_otherwise) = (there(&then), there(&otherwise));
                let branches = [self.program(then, there_then)?, self.program(otherwise, there_otherwise)?];
                Ok(Step::If(Box::new(IfNode { name: proto.label(), condition, branches, outputs: proto.output })))
            }
            Kind::Host => unreachable!("it is a segment's"),
        }
    }

    fn host(&mut self, nodes: Vec<Node>, is_read: impl Fn(&str) -> bool) -> Result<HostNode> {
        let name = format!("cpu {}", self.segments);
        self.segments += 1;
        let constants: BTreeSet<&str> = nodes.iter().flat_map(Node::reads).filter(|name| self.reader.constants.contains(name)).collect();
        let bytes = constants.iter().filter_map(|name| self.reader.constants.bytes(name)).fold(0, usize::saturating_add);
        let shared = || Error::limit("constants: expected ones that few parts of the graph share, found large ones that many do");
        self.room = self.room.checked_sub(bytes).ok_or_else(shared)?;
        let work = if self.counted { segment::work(&nodes, self.reader.constants) } else { BTreeMap::new() };
        segment::host_node(name, nodes, is_read, work, self.reader.constants, &self.imports, &self.types)
    }
}

/// Where tensors are made.
#[derive(Clone, Default)]
struct Places {
    /// by segments
    host: BTreeSet<String>,
    /// by LSTMs, and by operators that are run where the tensors are
    native: BTreeSet<String>,
    /// few numbers: sizes of axes and what follows from them
    small: BTreeSet<String>,
}

impl Places {
    fn note(&mut self, node: &Node, kind: &Kind, constants: &Constants) {
        let made = || node.makes().map(str::to_owned);
        if matches!(kind, Kind::Host) {
            self.host.extend(made());
            return;
        }
        if let Kind::Dense(dense) = kind {
            self.native.insert(dense.y.clone());
            return;
        }
        self.native.extend(made());
        let grows = ["ConstantOfShape", "Expand", "Tile", "Range"].iter().any(|op_type| node.is(op_type));
        let of_small = node.reads().iter().all(|name| self.small.contains(*name) || constants.contains(name));
        if matches!(kind, Kind::Op(_)) && (node.is("Shape") || node.is("Size") || (of_small && !grows)) {
            self.small.extend(made());
        }
    }
}

/// The last place at which each tensor is read: `2 * level` by what runs before the segment of that level, `2 * level + 1` in that segment.
fn readers(natives: &[Vec<Item>], hosts: &[Vec<Node>]) -> BTreeMap<String, usize> {
    let mut last = BTreeMap::new();
    for (level, (natives, hosts)) in natives.iter().zip(hosts).enumerate() {
        for item in natives {
            let reads: Vec<&str> = match &item.kind {
                Kind::Lstm(lstm) => lstm.reads().collect(),
                _ => item.node.reads(),
            };
            last.extend(reads.into_iter().map(|name| (name.to_owned(), 2 * level)));
        }
        for node in hosts {
            last.extend(node.reads().into_iter().map(|name| (name.to_owned(), 2 * level + 1)));
        }
    }
    last
}

/// Whether there is an LSTM in the block or in branches within it.
fn has_lstm(block: &Block) -> bool {
    let mut found = false;
    block.each(&mut |node| found |= node.is("LSTM"));
    found
}

/// Whether the operator makes a view of its first input: other axes, the same elements.
pub(super) fn moves_axes(node: &Node) -> bool {
    ["Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split"].iter().any(|op_type| node.is(op_type))
}
