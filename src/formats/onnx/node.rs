//! `LSTM` nodes -> [`LstmNode`]s, and what they tell of the tensors at the border of the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::constants::Constants;
use super::graph::{Block, Node};
use super::lstm::{LstmAttributes, OnnxWeights, RunTimeWeights};
use super::ports::{INPUT_ROLES, NodeSizes, OUTPUT_ROLES, Role};
use crate::error::{Error, Result};
use crate::network::{LstmNode, Weights};
use crate::tensor::TensorView;

/// How many weights all nodes together may have for each byte of the file; at most one, where no two nodes share weights.
const WEIGHTS_PER_BYTE: usize = 16;

/// Reads nodes.
pub(super) struct NodeReader<'a> {
    pub(super) constants: &'a mut Constants,
    pub(super) opset: i64,
    pub(super) notes: Vec<String>,
    /// what is done with a tensor, by the first node that does something with it
    pub(super) uses: BTreeMap<String, (Arc<NodeSizes>, Role)>,
    /// how many more weights the nodes may have
    budget: usize,
    /// nodes in all: one alone needs no prefix for the names of its axes
    num_nodes: usize,
    names: BTreeSet<String>,
    /// the number of the next node without a name
    next: usize,
}

impl<'a> NodeReader<'a> {
    /// For a file of `file_bytes` with `num_nodes` LSTMs.
    pub(super) fn new(constants: &'a mut Constants, opset: i64, file_bytes: usize, num_nodes: usize) -> Self {
        let budget = file_bytes.saturating_mul(WEIGHTS_PER_BYTE);
        Self { constants, opset, notes: Vec::new(), uses: BTreeMap::new(), budget, num_nodes, names: BTreeSet::new(), next: 0 }
    }

    /// A name that no other node has: the file's, or `LSTM_0` and so on.
    fn name(&mut self, node: &Node) -> String {
        let mut name = node.proto.name.clone();
        while name.is_empty() || self.names.contains(&name) {
            name = format!("LSTM_{}", self.next);
            self.next += 1;
        }
        self.names.insert(name.clone());
        name
    }

    /// The LSTM that `node` is.
    pub(super) fn lstm(&mut self, node: &Node) -> Result<LstmNode> {
        let proto = &node.proto;
        let (num_inputs, num_outputs) = (proto.input.len(), proto.output.len());
        if num_inputs > INPUT_ROLES.len() || num_outputs > OUTPUT_ROLES.len() {
            return Err(Error::format(format!("expected at most 8 inputs and 3 outputs, found {num_inputs} and {num_outputs}")));
        }
        let name = self.name(node);
        let mut notes = Vec::new();
        let attributes = LstmAttributes::read(proto, self.opset, &mut notes)?;
        let required = |place: usize, input: &str| node.input(place).ok_or_else(|| Error::format(format!("expected an input {input}, found none")));
        let (x, w, r) = (required(0, "X")?, required(1, "W")?, required(2, "R")?);
        let (layout, num_directions, hidden_size) = (attributes.layout, attributes.num_directions(), attributes.hidden_size);
        let weights = self.weights(attributes, w, r, node.input(3), node.input(7))?;
        let prefix = if self.num_nodes == 1 { String::new() } else { format!("{name}.") };
        let mut sizes = NodeSizes { layout, num_directions, hidden_size, input_size: None, prefix };
        if let Weights::Constant(lstm) = &weights {
            sizes.hidden_size = Some(lstm.config().hidden_size);
            sizes.input_size = Some(lstm.config().input_size);
            notes.extend(lstm.non_finite().into_iter().map(|tensor| format!("{tensor} holds NaN or infinity")));
        }
        self.notes.extend(notes.into_iter().map(|note| format!("node `{name}`: {note}")));
        self.check_lens(node.input(4))?;
        for name in [Some(x), node.input(5), node.input(6)].into_iter().flatten() {
            self.keep_float32(name)?;
        }
        let sizes = Arc::new(sizes);
        for (place, role) in INPUT_ROLES.into_iter().enumerate() {
            if let Some(read) = node.input(place) {
                self.uses.entry(read.to_owned()).or_insert_with(|| (sizes.clone(), role));
            }
        }
        for (place, role) in OUTPUT_ROLES.into_iter().enumerate() {
            if let Some(made) = node.output(place) {
                // Its maker knows a tensor better than a reader that came before.
                self.uses.insert(made.to_owned(), (sizes.clone(), role));
            }
        }
        let owned = |name: Option<&str>| name.map(str::to_owned);
        Ok(LstmNode {
            name,
            merged: 1,
            layout,
            weights,
            x: x.to_owned(),
            sequence_lens: owned(node.input(4)),
            h_0: owned(node.input(5)),
            c_0: owned(node.input(6)),
            y: owned(node.output(0)),
            h_n: owned(node.output(1)),
            c_n: owned(node.output(2)),
        })
    }

    /// The weights of a node: of the file where all of them are, else of the call.
    fn weights(&mut self, attributes: LstmAttributes, w: &str, r: &str, b: Option<&str>, p: Option<&str>) -> Result<Weights> {
        let all = || [Some(w), Some(r), b, p].into_iter().flatten();
        if all().any(|name| !self.constants.contains(name)) {
            all().try_for_each(|name| self.keep_float32(name))?;
            let [w, r] = [w, r].map(str::to_owned);
            return Ok(Weights::RunTime(RunTimeWeights { attributes, w, r, b: b.map(str::to_owned), p: p.map(str::to_owned) }));
        }
        let (w_array, r_array) = (self.constants.float32(w)?, self.constants.float32(r)?);
        let b_array = b.map(|b| self.constants.float32(b)).transpose()?;
        let p_array = p.map(|p| self.constants.float32(p)).transpose()?;
        all().for_each(|name| self.constants.forget(name));
        let lstm = attributes.lstm(&OnnxWeights {
            w: (w, w_array.view()),
            r: (r, r_array.view()),
            b: b.zip(b_array.as_ref().map(|array| array.view())),
            p: p.zip(p_array.as_ref().map(|array| array.view())),
        })?;
        self.spend(lstm.config().num_parameters())?;
        Ok(Weights::Constant(Arc::new(lstm)))
    }

    /// Counts the weights of one more node, of which each has a copy: a small file in which many nodes share large weights must not fill the memory.
    pub(super) fn spend(&mut self, num_parameters: usize) -> Result<()> {
        self.budget = self.budget.checked_sub(num_parameters).ok_or_else(|| {
            Error::config(format!("weights: expected no more than {WEIGHTS_PER_BYTE} numbers for each byte of the file, found nodes that share more"))
        })?;
        Ok(())
    }

    /// Sees that the tensor `name` is of `float32`, if it is a constant.
    fn keep_float32(&mut self, name: &str) -> Result<()> {
        if self.constants.contains(name) && !matches!(self.constants.get(name)?, TensorView::F32(_)) {
            let narrow = self.constants.float32(name)?;
            self.constants.insert_made(name, narrow.into());
        }
        Ok(())
    }

    /// Checks the type of constant sequence lengths.
    fn check_lens(&mut self, name: Option<&str>) -> Result<()> {
        let Some(name) = name.filter(|name| self.constants.contains(name)) else { return Ok(()) };
        match self.constants.get(name)? {
            TensorView::I32(_) | TensorView::I64(_) => Ok(()),
            other => Err(Error::shape(format!("tensor `{name}`: expected int32 or int64, found {}", other.element_type()))),
        }
    }
}

/// Drops initial states that are zeros however they are made: a call starts from zeros anyway.
pub(super) fn drop_zero_states(block: &mut Block, constants: &mut Constants) {
    Zeros::default().drop_states(block, constants);
}

/// Tensors that are zeros by the way they are made, however large.
#[derive(Default)]
struct Zeros {
    names: BTreeSet<String>,
    /// constants that were looked at
    seen: BTreeSet<String>,
}

impl Zeros {
    fn drop_states(&mut self, block: &mut Block, constants: &mut Constants) {
        self.add(block, constants);
        for node in &mut block.nodes {
            if node.is("LSTM") {
                for name in node.proto.input.iter_mut().skip(5).take(2) {
                    if self.names.contains(name.as_str()) {
                        name.clear();
                    }
                }
            }
            node.branches.iter_mut().flat_map(|branches| branches.iter_mut()).for_each(|block| self.drop_states(block, constants));
        }
    }

    /// Adds those that `block` makes and the constants that it reads.
    fn add(&mut self, block: &Block, constants: &mut Constants) {
        for name in block.nodes.iter().flat_map(Node::reads) {
            if constants.contains(name) && self.seen.insert(name.to_owned()) && is_zero_constant(name, constants) {
                self.names.insert(name.to_owned());
            }
        }
        for node in &block.nodes {
            if self.makes_zeros(node) {
                self.names.extend(node.makes().map(str::to_owned));
            }
        }
    }

    fn makes_zeros(&self, node: &Node) -> bool {
        let is_zero = |place: usize| node.input(place).is_some_and(|name| self.names.contains(name));
        let keeps = ["Identity", "Expand", "Tile", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split", "Cast"];
        if node.is("ConstantOfShape") {
            let value = node.proto.attribute("value").and_then(|attribute| attribute.t.as_ref());
            value.is_none_or(|value| super::tensor::decode("value", value).is_ok_and(|value| is_zero_tensor(&value.view())))
        } else if node.is("Concat") {
            !node.proto.input.is_empty() && (0..node.proto.input.len()).all(is_zero)
        } else {
            keeps.iter().any(|op_type| node.is(op_type)) && is_zero(0)
        }
    }
}

fn is_zero_constant(name: &str, constants: &mut Constants) -> bool {
    /// larger ones are weights, and not looked at
    const MOST_BYTES: usize = 1 << 20;
    constants.bytes(name).is_some_and(|bytes| bytes <= MOST_BYTES) && constants.get(name).is_ok_and(|tensor| is_zero_tensor(&tensor))
}

fn is_zero_tensor(tensor: &TensorView<'_>) -> bool {
    match tensor {
        TensorView::F32(values) => values.iter().all(|&value| value == 0.0),
        TensorView::F64(values) => values.iter().all(|&value| value == 0.0),
        _ => false,
    }
}
