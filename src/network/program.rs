//! What a call does beside its LSTMs, and in which order: plain data, tensors by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::host::Segment;
use crate::network::op::Op;
use crate::network::{DenseStage, LstmNode};

/// Steps that run one after the other: those of a network, or of a branch of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    /// in an order in which every tensor is made before it is read
    pub(crate) steps: Vec<Step>,
    /// for every step: tensors that no later one needs
    pub(crate) done: Vec<Vec<String>>,
    /// tensors that it makes for whoever runs it, in order
    pub(crate) outputs: Vec<String>,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// the LSTM of this number among the network's
    Lstm(usize),
    /// the layer of this number among the network's
    Dense(usize),
    /// a small operator, or one that only moves axes: done where the tensors are
    Op(OpNode),
    /// a part of the graph that another library runs on the CPU
    Host(Arc<HostNode>),
    /// one of two programs
    If(Box<IfNode>),
}

/// A layer beside the LSTMs, and the names of its tensors.
#[derive(Clone, Debug)]
pub(crate) struct DenseNode {
    /// of the model's node
    pub(crate) name: String,
    pub(crate) stage: Arc<DenseStage>,
    /// features, or the ids of an embedding
    pub(crate) x: String,
    pub(crate) y: String,
}

/// An operator and the names of its tensors; an empty name stands for an optional one that is not there.
#[derive(Clone, Debug)]
pub(crate) struct OpNode {
    /// of the model's node
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

/// Operators of the model that run together on the CPU.
#[derive(Debug)]
pub(crate) struct HostNode {
    /// `cpu 0` and so on
    pub(crate) name: String,
    pub(crate) segment: Segment,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    /// how often each operator is in it
    pub(crate) operators: BTreeMap<String, usize>,
    /// floats among its constants
    pub(crate) num_parameters: usize,
    /// multiplications and additions for each element of the outputs, where these are counted
    pub(crate) work: Vec<u64>,
}

/// A choice between two programs that a call makes.
#[derive(Clone, Debug)]
pub(crate) struct IfNode {
    /// of the model's node
    pub(crate) name: String,
    pub(crate) condition: String,
    /// what runs where the condition holds, and what where it does not
    pub(crate) branches: [Program; 2],
    /// what the outputs of either branch are called outside
    pub(crate) outputs: Vec<String>,
}

/// What steps refer to by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nodes<'a> {
    pub(crate) lstms: &'a [LstmNode],
    pub(crate) dense: &'a [DenseNode],
}

impl Program {
    /// The program of `steps`, which are in order, with the tensors that each has no later use for.
    pub(crate) fn new(steps: Vec<Step>, outputs: Vec<String>, nodes: Nodes<'_>) -> Self {
        // what comes from outside may be read there again
        let made: BTreeSet<String> = steps.iter().flat_map(|step| step.names(nodes).1).map(str::to_owned).collect();
        let mut later: BTreeSet<String> = outputs.iter().cloned().collect();
        let mut done = Vec::with_capacity(steps.len());
        for step in steps.iter().rev() {
            let (reads, makes) = step.names(nodes);
            let ends = reads.iter().chain(&makes).filter(|name| made.contains(**name) && !later.contains(**name));
            let ends: BTreeSet<String> = ends.map(|name| (*name).to_owned()).collect();
            later.extend(reads.iter().map(|name| (*name).to_owned()));
            done.push(ends.into_iter().collect());
        }
        done.reverse();
        Self { steps, done, outputs }
    }

    /// Names of the tensors that the program reads and does not make.
    fn captured<'a>(&'a self, nodes: Nodes<'a>) -> Vec<&'a str> {
        let (mut made, mut captured) = (BTreeSet::new(), Vec::new());
        for step in &self.steps {
            let (reads, makes) = step.names(nodes);
            captured.extend(reads.into_iter().filter(|name| !made.contains(name)));
            made.extend(makes);
        }
        captured.extend(self.outputs.iter().map(String::as_str).filter(|name| !made.contains(name)));
        captured
    }

    /// Adds the names of the tensors that LSTMs and layers read, as they are or with their axes changed: those that had better stay on the device.
    pub(crate) fn add_kept<'a>(&'a self, nodes: Nodes<'a>, kept: &mut BTreeSet<&'a str>) {
        for step in self.steps.iter().rev() {
            match step {
                Step::Lstm(number) => kept.insert(nodes.lstms[*number].x.as_str()),
                Step::Dense(number) => kept.insert(nodes.dense[*number].x.as_str()),
                Step::Op(node) if node.op.moves_elements_nowhere() && node.outputs.iter().any(|name| kept.contains(name.as_str())) => {
                    kept.insert(node.inputs[0].as_str())
                }
                Step::If(node) => {
                    node.branches.iter().for_each(|branch| branch.add_kept(nodes, kept));
                    false
                }
                Step::Op(_) | Step::Host(_) => false,
            };
        }
    }

    /// Calls `visit` with every step, those of branches behind their `If`.
    pub(crate) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Step)) {
        for step in &self.steps {
            visit(step);
            if let Step::If(node) = step {
                node.branches.iter().for_each(|branch| branch.each(visit));
            }
        }
    }
}

impl Step {
    /// Names of the tensors that it reads and that it makes.
    fn names<'a>(&'a self, nodes: Nodes<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
        let present = |names: &'a [String]| names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        match self {
            Self::Lstm(number) => (nodes.lstms[*number].reads().collect(), nodes.lstms[*number].makes().collect()),
            Self::Dense(number) => (vec![nodes.dense[*number].x.as_str()], vec![nodes.dense[*number].y.as_str()]),
            Self::Op(node) => (present(&node.inputs), present(&node.outputs)),
            Self::Host(node) => (present(&node.inputs), present(&node.outputs)),
            Self::If(node) => {
                let mut reads = vec![node.condition.as_str()];
                node.branches.iter().for_each(|branch| reads.extend(branch.captured(nodes)));
                (reads, present(&node.outputs))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(input: &str, output: &str) -> Step {
        let names = |name: &str| vec![name.to_owned()];
        Step::Op(OpNode { name: String::new(), op: Op::Identity, inputs: names(input), outputs: names(output) })
    }

    #[test]
    fn a_tensor_is_done_with_after_its_last_use_by_those_who_made_it() {
        let nodes = Nodes { lstms: &[], dense: &[] };
        let branch = |input: &str| Program::new(vec![op(input, "inner"), op("inner", "result")], vec!["result".to_owned()], nodes);
        let branches = [branch("a"), branch("a")];
        // the branch leaves `a`, which is not its own, to the program around it
        assert_eq!(branches[0].done, [Vec::<String>::new(), vec!["inner".to_owned()]]);
        let choice = Step::If(Box::new(IfNode { name: String::new(), condition: "x".to_owned(), branches, outputs: vec!["b".to_owned()] }));
        let program = Program::new(vec![op("x", "a"), choice, op("a", "c"), op("b", "unread")], vec!["c".to_owned()], nodes);
        let done: Vec<Vec<&str>> = program.done.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
        assert_eq!(done, [vec![], vec![], vec!["a"], vec!["b", "unread"]]);
    }
}
