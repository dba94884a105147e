//! ONNX graphs made of `LSTM` nodes, with `Constant` and `Identity` between them.

mod attribute;
mod graph;
mod lstm;
#[cfg_attr(not(test), expect(dead_code, reason = "graphs do not hold these operators yet"))]
mod operator;
mod ports;
mod proto;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::ArrayD;
use prost::Message;

use self::graph::{Maker, Names};
pub(crate) use self::lstm::RunTimeWeights;
use self::lstm::{LstmAttributes, OnnxWeights};
use self::ports::{INPUT_ROLES, NodeSizes, OUTPUT_ROLES, Role};
use self::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::error::{Error, Result};
use crate::network::{LstmNode, Network, Port, Weights};
use crate::tensor::Tensor;

/// The oldest version of the file format itself, its IR version. Newer ones add fields, and the meaning of an operator hangs on [`OPSETS`] alone.
const OLDEST_IR_VERSION: i64 = 3;

/// Versions of the operator set; within them `LSTM` changed by its attribute `layout` and by element types only.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=22;

/// How many weights all nodes together may have for each byte of the file; at most one, where no two nodes share weights.
const WEIGHTS_PER_BYTE: usize = 16;

/// Reads an ONNX model.
pub(crate) fn read(bytes: &[u8]) -> Result<Network> {
    let model = ModelProto::decode(bytes).map_err(|error| not_onnx(bytes, &format!("data that is damaged or cut off ({error})")))?;
    let Some(graph) = model.graph.as_ref().filter(|_| !model.opset_import.is_empty()) else {
        // Protobuf has no signature: many a short file decodes to a message of which nothing is known.
        return Err(not_onnx(bytes, "no graph and operator set in it"));
    };
    let opset = opset(&model)?;
    let lstms = check_operators(graph)?;
    if graph.output.is_empty() {
        return Err(Error::format("graph: expected at least one output, found none"));
    }
    let mut notes = vec![made_by(&model, opset)];
    let mut reader = Reader {
        names: Names::new(graph)?,
        opset,
        constants: BTreeMap::new(),
        notes: Vec::new(),
        converted: BTreeSet::new(),
        budget: bytes.len().saturating_mul(WEIGHTS_PER_BYTE),
        uses: BTreeMap::new(),
    };
    let mut nodes = Vec::with_capacity(lstms.len());
    for (name, proto) in node_names(&lstms).into_iter().zip(&lstms) {
        let prefix = if lstms.len() == 1 { String::new() } else { format!("{name}.") };
        nodes.push(reader.node(&name, prefix, proto).map_err(|error| error.within(format!("node `{name}`")))?);
    }
    let (inputs, outputs) = reader.ports(graph)?;
    notes.append(&mut reader.notes);
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(Network { format: "onnx", inputs, outputs, nodes: graph::sorted(nodes)?, constants: reader.constants, notes, metadata })
}

/// The error for a file that is not ONNX; `found` is for one whose kind cannot be told by its first bytes.
fn not_onnx(bytes: &[u8], found: &str) -> Error {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).trim_start().to_ascii_lowercase();
    let found = if bytes.starts_with(b"PK\x03\x04") {
        "a zip archive, such as a PyTorch checkpoint or a Keras model"
    } else if bytes.first() == Some(&0x80) && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
        "a Python pickle, such as a PyTorch checkpoint"
    } else if bytes.starts_with(b"\x89HDF") {
        "an HDF5 file, such as a Keras model"
    } else if bytes.get(4..8) == Some(b"TFL3") {
        "a TensorFlow Lite model"
    } else if bytes.starts_with(b"\x93NUMPY") {
        "a NumPy array"
    } else if text.starts_with("version https://git-lfs") {
        "a Git LFS pointer, whose file has not been fetched"
    } else if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") {
        "an HTML or XML page"
    } else if text.starts_with('{') || text.starts_with('[') {
        "JSON text"
    } else {
        found
    };
    Error::format(format!("expected a safetensors or ONNX model, found {found}"))
}

/// Checks the versions and what the file defines beyond its graph; the version of the operator set.
fn opset(model: &ModelProto) -> Result<i64> {
    if model.ir_version < OLDEST_IR_VERSION {
        return Err(Error::config(format!("ONNX IR version: expected {OLDEST_IR_VERSION} or above, found {}", model.ir_version)));
    }
    let versions = model.opset_import.iter().filter(|set| is_onnx(&set.domain)).map(|set| set.version);
    // The specification binds nodes to the highest version of their set.
    let opset = versions.max().ok_or_else(|| {
        let domains: Vec<_> = model.opset_import.iter().map(|set| format!("`{}`", set.domain)).collect();
        Error::config(format!("ONNX operator sets: expected that of domain `ai.onnx`, found only {}", domains.join(", ")))
    })?;
    if !OPSETS.contains(&opset) {
        return Err(Error::config(format!("ONNX opset: expected {} to {}, found {opset}", OPSETS.start(), OPSETS.end())));
    }
    if !model.functions.is_empty() {
        return Err(Error::config(format!(
            "functions: expected none, found {}; models that define operators are not supported yet",
            model.functions.len()
        )));
    }
    Ok(opset)
}

/// Whether `domain` is that of the operators of the specification.
fn is_onnx(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Checks that the graph has supported operators only; its `LSTM` nodes.
fn check_operators(graph: &GraphProto) -> Result<Vec<&NodeProto>> {
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::config(format!(
            "sparse initialisers: expected none, found {}; they are not supported yet",
            graph.sparse_initializer.len()
        )));
    }
    let supported = |node: &NodeProto| is_onnx(&node.domain) && ["LSTM", "Constant", "Identity"].contains(&node.op_type.as_str());
    let operator = |node: &NodeProto| if is_onnx(&node.domain) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) };
    let lstms: Vec<&NodeProto> = graph.node.iter().filter(|node| supported(node) && node.op_type == "LSTM").collect();
    if let Some(first) = graph.node.iter().find(|node| !supported(node)) {
        let name = operator(first);
        let others: BTreeSet<String> = graph.node.iter().filter(|node| !supported(node)).map(operator).filter(|other| *other != name).collect();
        let also = if others.is_empty() { String::new() } else { format!(" (also: {})", others.into_iter().collect::<Vec<_>>().join(", ")) };
        let without = if lstms.is_empty() { "; the graph has no `LSTM` node" } else { "" };
        return Err(Error::config(format!("operator `{name}` of {} is not supported yet{also}{without}", first.label())));
    }
    if lstms.is_empty() {
        return Err(Error::config("graph: expected at least one `LSTM` node, found none"));
    }
    Ok(lstms)
}

/// The names of `nodes`, each of its own: one that has none, or another's, gets `LSTM_0` and so on.
fn node_names(nodes: &[&NodeProto]) -> Vec<String> {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let own: Vec<bool> = nodes.iter().map(|node| !node.name.is_empty() && taken.insert(&node.name)).collect();
    let mut free = (0..).map(|number| format!("LSTM_{number}")).filter(|name| !taken.contains(name.as_str()));
    nodes.iter().zip(own).map(|(node, own)| if own { node.name.clone() } else { free.next().unwrap_or_default() }).collect()
}

/// A note on who made the file, and in which version of the format.
fn made_by(model: &ModelProto, opset: i64) -> String {
    let producer = format!("{} {}", model.producer_name, model.producer_version);
    let producer = if producer.trim().is_empty() { String::new() } else { format!(", made by {}", producer.trim()) };
    format!("ONNX opset {opset}, IR version {}{producer}", model.ir_version)
}

/// Turns the nodes of a graph into those of a [`Network`].
struct Reader<'a> {
    names: Names<'a>,
    opset: i64,
    constants: BTreeMap<String, Tensor>,
    notes: Vec<String>,
    /// constants on whose conversion there is a note
    converted: BTreeSet<&'a str>,
    /// how many more weights the nodes may have
    budget: usize,
    /// what is done with a tensor, by the first node that does something with it
    uses: BTreeMap<&'a str, (Arc<NodeSizes>, Role)>,
}

impl<'a> Reader<'a> {
    /// The node `proto`, called `name`; `prefix` goes before the names of its axes.
    fn node(&mut self, name: &str, prefix: String, proto: &'a NodeProto) -> Result<LstmNode> {
        let (num_inputs, num_outputs) = (proto.input.len(), proto.output.len());
        if num_inputs > INPUT_ROLES.len() || num_outputs > OUTPUT_ROLES.len() {
            return Err(Error::format(format!("expected at most 8 inputs and 3 outputs, found {num_inputs} and {num_outputs}")));
        }
        let mut notes = Vec::new();
        let attributes = LstmAttributes::read(proto, self.opset, &mut notes)?;
        let mut roots: [Option<&'a str>; 8] = [None; 8];
        for (root, input) in roots.iter_mut().zip(&proto.input).filter(|(_, input)| !input.is_empty()) {
            *root = Some(self.names.root(input)?);
        }
        let [x, w, r, b, sequence_lens, h_0, c_0, p] = roots;
        let required = |root: Option<&'a str>, input: &str| root.ok_or_else(|| Error::format(format!("expected an input {input}, found none")));
        let (x, w, r) = (required(x, "X")?, required(w, "W")?, required(r, "R")?);
        let (layout, num_directions, hidden_size) = (attributes.layout, attributes.num_directions(), attributes.hidden_size);
        let weights = self.weights(attributes, w, r, b, p)?;
        let mut sizes = NodeSizes { layout, num_directions, hidden_size, input_size: None, prefix };
        if let Weights::Constant(lstm) = &weights {
            sizes.hidden_size = Some(lstm.config().hidden_size);
            sizes.input_size = Some(lstm.config().input_size);
            notes.extend(lstm.non_finite().into_iter().map(|tensor| format!("{tensor} holds NaN or infinity")));
        }
        self.notes.extend(notes.into_iter().map(|note| format!("node `{name}`: {note}")));
        for root in [Some(x), h_0, c_0].into_iter().flatten() {
            self.keep_float32(root)?;
        }
        if let Some(root) = sequence_lens {
            self.keep_sequence_lens(root)?;
        }
        let output = |number: usize| proto.output.get(number).map(String::as_str).filter(|name| !name.is_empty());
        let sizes = Arc::new(sizes);
        for (root, role) in roots.into_iter().zip(INPUT_ROLES) {
            if let Some(root) = root {
                self.uses.entry(root).or_insert_with(|| (sizes.clone(), role));
            }
        }
        for (number, role) in OUTPUT_ROLES.into_iter().enumerate() {
            if let Some(root) = output(number) {
                // Its maker knows a tensor better than a reader that came before.
                self.uses.insert(root, (sizes.clone(), role));
            }
        }
        let public = |root: &'a str| self.names.public(root).to_owned();
        Ok(LstmNode {
            name: name.to_owned(),
            layout,
            weights,
            x: public(x),
            sequence_lens: sequence_lens.map(public),
            h_0: h_0.map(public),
            c_0: c_0.map(public),
            y: output(0).map(public),
            h_n: output(1).map(public),
            c_n: output(2).map(public),
        })
    }

    /// The weights of a node: of the file where all of them are, else of the call.
    fn weights(&mut self, attributes: LstmAttributes, w: &'a str, r: &'a str, b: Option<&'a str>, p: Option<&'a str>) -> Result<Weights> {
        let all = || [Some(w), Some(r), b, p].into_iter().flatten();
        if let Some(root) = all().find(|root| self.names.maker(root) == Some(Maker::Lstm)) {
            return Err(Error::config(format!("tensor `{root}`: expected weights from the file or the call, found the output of an LSTM node")));
        }
        if all().any(|root| self.names.constant(root).is_none()) {
            for root in all() {
                self.keep_float32(root)?;
            }
            let [w, r] = [w, r].map(str::to_owned);
            return Ok(Weights::RunTime(RunTimeWeights { attributes, w, r, b: b.map(str::to_owned), p: p.map(str::to_owned) }));
        }
        let (w_array, r_array) = (self.constant(w)?, self.constant(r)?);
        let b_array = b.map(|b| self.constant(b)).transpose()?;
        let p_array = p.map(|p| self.constant(p)).transpose()?;
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
    fn spend(&mut self, num_parameters: usize) -> Result<()> {
        self.budget = self.budget.checked_sub(num_parameters).ok_or_else(|| {
            Error::config(format!("weights: expected no more than {WEIGHTS_PER_BYTE} numbers for each byte of the file, found nodes that share more"))
        })?;
        Ok(())
    }

    /// The constant `root` as `float32`, with a note where it is of another type.
    fn constant(&mut self, root: &'a str) -> Result<ArrayD<f32>> {
        let proto = self.names.constant(root).ok_or_else(|| Error::format(format!("tensor `{root}`: expected a constant, found none")))?;
        let array = tensor::float32(root, proto)?;
        if let Some(note) = conversion(root, proto)
            && self.converted.insert(root)
        {
            self.notes.push(note);
        }
        Ok(array)
    }

    /// Keeps the tensor `root` for the calls, if it is a constant.
    fn keep_float32(&mut self, root: &'a str) -> Result<()> {
        if self.names.constant(root).is_some() && !matches!(self.constants.get(root), Some(Tensor::F32(_))) {
            let array = self.constant(root)?;
            self.constants.insert(root.to_owned(), array.into());
        }
        Ok(())
    }

    /// Keeps the sequence lengths `root` for the calls, if they are a constant.
    fn keep_sequence_lens(&mut self, root: &str) -> Result<()> {
        if matches!(self.constants.get(root), Some(Tensor::I32(_) | Tensor::I64(_))) {
            return Ok(());
        }
        let Some(proto) = self.names.constant(root) else { return Ok(()) };
        let tensor = tensor::decode(root, proto)?;
        if !matches!(tensor, Tensor::I32(_) | Tensor::I64(_)) {
            return Err(Error::shape(format!("tensor `{root}`: expected int32 or int64, found {}", tensor.view().element_type())));
        }
        self.constants.insert(root.to_owned(), tensor);
        Ok(())
    }

    /// The network's inputs and outputs, in the graph's order.
    fn ports(&self, graph: &'a GraphProto) -> Result<(Vec<Port>, Vec<Port>)> {
        let role = |root: &str| self.uses.get(root).map(|(sizes, role)| (sizes.as_ref(), *role));
        let inputs = graph.input.iter().filter(|info| self.names.maker(&info.name) == Some(Maker::Input));
        let inputs = inputs.map(|info| ports::port("input", info, role(&info.name))).collect::<Result<_>>()?;
        let outputs = graph.output.iter().map(|info| ports::port("output", info, role(self.names.root(&info.name)?)));
        Ok((inputs, outputs.collect::<Result<_>>()?))
    }
}

/// A note on a constant that is not `float32` in the file.
fn conversion(name: &str, proto: &TensorProto) -> Option<String> {
    let found = tensor::type_name(proto.data_type);
    match proto.data_type {
        tensor::FLOAT16 | tensor::BFLOAT16 => Some(format!("tensor `{name}`: widened from {found} to float32")),
        tensor::DOUBLE => Some(format!("tensor `{name}`: narrowed from {found} to float32")),
        _ => None,
    }
}
