//! What a network is made of, in words for people: which parts there are, and why each runs where it does.

use std::collections::BTreeMap;

use crate::network::{DenseStage, Network, Program, Step};

/// A part of a network, in the order in which a call comes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// the model's name for it, or this crate's where it is many nodes
    pub name: String,
    /// what it is
    pub kind: PartKind,
    /// the choices that a call makes before it comes to this part, outermost first
    pub within: Vec<Branch>,
    /// how often each operator of the model is in it
    pub operators: BTreeMap<String, usize>,
}

/// What a [`Part`] is, which says where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartKind {
    /// a stack of LSTM layers, on the device
    Lstm,
    /// a table of vectors, on the device
    Embedding,
    /// a linear layer and the function behind it, on the device
    Linear,
    /// operators on sizes and axes, done where the tensors are
    Axes,
    /// other operators, on the CPU
    Cpu,
}

/// A branch of an `If` of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// the model's name for the `If`
    pub choice: String,
    /// whether it is the one that is taken where the condition holds
    pub holds: bool,
}

impl PartKind {
    /// What a layer is.
    pub(crate) fn of(stage: &DenseStage) -> Self {
        match stage {
            DenseStage::Embedding(_) => Self::Embedding,
            DenseStage::Linear(..) | DenseStage::Function(_) => Self::Linear,
        }
    }

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Embedding => "embedding",
            Self::Linear => "linear",
            Self::Axes => "axes",
            Self::Cpu => "cpu",
        }
    }

    /// Whether it runs on the session's device.
    pub fn on_device(self) -> bool {
        matches!(self, Self::Lstm | Self::Embedding | Self::Linear)
    }

    /// Why it runs where it does.
    pub fn why(self) -> &'static str {
        match self {
            Self::Lstm => "an LSTM: on the device",
            Self::Embedding | Self::Linear => "a layer beside an LSTM: on the device, where its tensors are",
            Self::Axes => "sizes, and other views of the same tensors: nothing is computed",
            Self::Cpu => "neither an LSTM nor a layer beside one: on the CPU, in float32",
        }
    }
}

impl Network {
    /// The parts of the network, in the order in which a call comes to them; of an `If`, those of both branches.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.add_parts(&self.program, &mut Vec::new(), &mut parts);
        parts
    }

    fn add_parts(&self, program: &Program, within: &mut Vec<Branch>, parts: &mut Vec<Part>) {
        for step in &program.steps {
            let part = match step {
                Step::Lstm(number) => Part::new(&self.nodes[*number].name, PartKind::Lstm, within, [("LSTM", self.nodes[*number].merged)]),
                Step::Dense(number) => {
                    let node = &self.dense[*number];
                    let kind = PartKind::of(&node.stage);
                    let operator = if kind == PartKind::Embedding { "Gather" } else { "Linear" };
                    Part::new(&node.name, kind, within, [(operator, 1)])
                }
                // neighbours are one part
                Step::Op(node) => match parts.last_mut() {
                    Some(last) if last.kind == PartKind::Axes && last.within == *within => {
                        *last.operators.entry(node.op.name().to_owned()).or_insert(0) += 1;
                        continue;
                    }
                    _ => Part::new("sizes and axes", PartKind::Axes, within, [(node.op.name(), 1)]),
                },
                Step::Host(node) => {
                    let mut part = Part::new(&node.name, PartKind::Cpu, within, []);
                    part.operators.clone_from(&node.operators);
                    part
                }
                Step::If(node) => {
                    for (branch, holds) in node.branches.iter().zip([true, false]) {
                        within.push(Branch { choice: node.name.clone(), holds });
                        self.add_parts(branch, within, parts);
                        within.pop();
                    }
                    continue;
                }
            };
            parts.push(part);
        }
    }
}

impl Part {
    fn new<'o>(name: &str, kind: PartKind, within: &[Branch], operators: impl IntoIterator<Item = (&'o str, usize)>) -> Self {
        let operators = operators.into_iter().map(|(operator, count)| (operator.to_owned(), count)).collect();
        Self { name: name.to_owned(), kind, within: within.to_vec(), operators }
    }
}
