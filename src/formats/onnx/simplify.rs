//! What can be known of a graph without a call: constants are folded, `If` nodes of constant conditions decided, names of names followed, and what
//! nobody reads is dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::constants::Constants;
use super::graph::{Block, Node};
use super::operator;
use crate::error::Result;
use crate::tensor::TensorView;

/// Bytes that folding may read for each one that it may make: many operators may read one large constant and make little of it.
const READ_PER_BYTE: usize = 16;

/// Folds, decides, follows and drops in one block after the other.
pub(super) struct Simplifier<'a> {
    pub(super) constants: &'a mut Constants,
    pub(super) opset: i64,
    /// bytes that folded constants may still take
    pub(super) budget: usize,
    /// bytes that folding may still read
    effort: usize,
    /// a tensor that is another one -> that one
    aliases: BTreeMap<String, String>,
}

impl<'a> Simplifier<'a> {
    pub(super) fn new(constants: &'a mut Constants, opset: i64, budget: usize) -> Self {
        Self { constants, opset, budget, effort: budget.saturating_mul(READ_PER_BYTE), aliases: BTreeMap::new() }
    }

    /// What is left of `block`.
    pub(super) fn block(&mut self, block: Block) -> Result<Block> {
        let mut simple = Block { nodes: Vec::with_capacity(block.nodes.len()), outputs: block.outputs };
        self.nodes(block.nodes, &mut simple.nodes)?;
        for output in &mut simple.outputs {
            *output = self.root(output);
        }
        Ok(simple)
    }

    fn nodes(&mut self, nodes: Vec<Node>, kept: &mut Vec<Node>) -> Result<()> {
        for mut node in nodes {
            node.rename_reads(&|name| self.aliases.get(name).cloned());
            if let Some(branches) = node.branches.take() {
                self.branches(node, *branches, kept)?;
            } else if let Some(input) = self.same_as(&node).map(str::to_owned) {
                for output in node.makes() {
                    self.aliases.insert(output.to_owned(), input.clone());
                }
            } else if !self.fold(&node) {
                kept.push(node);
            }
        }
        Ok(())
    }

    /// An `If`: its branch where the condition is known, else both, simplified.
    fn branches(&mut self, mut node: Node, [then, otherwise]: [Block; 2], kept: &mut Vec<Node>) -> Result<()> {
        let condition = match node.input(0).filter(|name| self.constants.contains(name)).map(|name| self.constants.get(name)).transpose()? {
            Some(TensorView::Bool(value)) => value.first().copied(),
            _ => None,
        };
        let Some(condition) = condition else {
            node.branches = Some(Box::new([self.block(then)?, self.block(otherwise)?]));
            kept.push(node);
            return Ok(());
        };
        let taken = if condition { then } else { otherwise };
        self.nodes(taken.nodes, kept)?;
        for (name, value) in node.proto.output.into_iter().zip(taken.outputs).filter(|(name, _)| !name.is_empty()) {
            let value = self.root(&value);
            self.aliases.insert(name, value);
        }
        Ok(())
    }

    /// What `name` stands for.
    fn root(&self, name: &str) -> String {
        self.aliases.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The tensor that the node passes on as it is.
    fn same_as<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let input = node.input(0)?;
        if node.is("Identity") {
            return Some(input);
        }
        // a mask that somebody reads has to be made
        if node.is("Dropout") && node.output(1).is_none() {
            let training = node.input(2).map(|name| self.constants.contains(name).then(|| self.constants.get(name).ok()).flatten());
            let off = match training {
                None => true,
                Some(Some(TensorView::Bool(value))) => value.first() == Some(&false),
                Some(_) => false,
            };
            return off.then_some(input);
        }
        None
    }

    /// Computes the node where all that it reads is known and the result is of a size that the file bears out; whether it did.
    fn fold(&mut self, node: &Node) -> bool {
        let reads_nothing = node.proto.input.is_empty() || !node.captured.is_empty();
        if reads_nothing || !node.reads().iter().all(|name| self.constants.contains(name)) {
            return false;
        }
        // what cannot be folded is left to whoever runs it, who says what is wrong with it
        let Ok(Some(op)) = operator::read(&node.proto, self.opset) else { return false };
        for name in node.reads() {
            let bytes = if node.is("Shape") || node.is("Size") { 0 } else { self.constants.bytes(name).unwrap_or(0) };
            let Some(effort) = self.effort.checked_sub(bytes) else { return false };
            self.effort = effort;
            if self.constants.get(name).is_err() {
                return false;
            }
        }
        let inputs: Option<Vec<_>> = (0..node.proto.input.len())
            .map(|place| match node.input(place) {
                Some(name) => self.constants.decoded(name).map(Some),
                None => Some(None),
            })
            .collect();
        let Some(made) = inputs.and_then(|inputs| op.run(&inputs, self.budget).ok()) else { return false };
        for (name, tensor) in node.proto.output.iter().zip(made).filter(|(name, _)| !name.is_empty()) {
            self.budget = self.budget.saturating_sub(tensor.view().num_bytes());
            self.constants.insert_made(name, tensor);
        }
        true
    }
}

/// Drops the nodes whose results nobody reads; `wanted` are those that are read from outside.
pub(super) fn drop_dead(block: &mut Block) {
    let mut wanted: BTreeSet<String> = block.outputs.iter().cloned().collect();
    let mut kept = Vec::with_capacity(block.nodes.len());
    for mut node in std::mem::take(&mut block.nodes).into_iter().rev() {
        if !node.makes().any(|name| wanted.contains(name)) {
            continue;
        }
        let may_leave_out = ["LSTM", "Dropout", "DynamicQuantizeLSTM"].contains(&node.proto.op_type.as_str());
        for output in &mut node.proto.output {
            if may_leave_out && !wanted.contains(output.as_str()) {
                output.clear();
            }
        }
        if let Some(branches) = &mut node.branches {
            branches.iter_mut().for_each(drop_dead);
        }
        wanted.extend(node.reads().into_iter().map(str::to_owned));
        kept.push(node);
    }
    kept.reverse();
    block.nodes = kept;
}
