//! ONNX graphs: LSTMs for the device, and everything around them.
//!
//! A file goes through these, in this order: [`external`] fetches what is beside it, [`functions`] puts bodies in the place of the operators that it
//! defines, [`graph`] makes names unique and orders nodes, [`widen`] leaves `float32` as the only kind of float that is narrower than `float64`,
//! [`rewrite`] and [`quantised`] say in the specification's operators what ONNX Runtime says in its own, [`simplify`] folds what is known, [`cell`]
//! finds LSTMs that are written as elementary operators, and [`cut`] turns what is left into the steps of a [`Network`]: LSTMs ([`node`], [`lstm`],
//! joined by [`stack`]), layers around them ([`dense`]), small operators ([`operator`]), and segments for the CPU
//! ([`segment`], whose operators [`lower`] makes of others where that is needed).

mod attribute;
mod cell;
mod constants;
mod cut;
mod dense;
mod external;
mod facts;
mod functions;
mod graph;
mod lower;
mod lstm;
mod node;
mod operator;
mod ports;
mod proto;
mod quantised;
mod rewrite;
mod scan;
mod segment;
mod simplify;
mod stack;
mod tensor;
#[cfg(test)]
mod tests;
mod widen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;

use self::constants::Constants;
use self::cut::Cutter;
use self::external::ExternalData;
use self::graph::{Block, GraphReader};
pub(crate) use self::lstm::RunTimeWeights;
use self::node::NodeReader;
use self::proto::{GraphProto, ModelProto, ValueInfoProto};
use self::segment::Imports;
use self::simplify::{Simplifier, drop_dead};
use crate::error::{Error, Result};
use crate::host;
use crate::network::{Network, Port};
use crate::tensor::{ElementType, Tensor};

/// The oldest version of the file format itself, its IR version. Newer ones add fields, and the meaning of an operator hangs on [`OPSETS`] alone.
const OLDEST_IR_VERSION: i64 = 3;

/// Versions of the operator set; within them `LSTM` changed by its attribute `layout` and by element types only.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=22;

/// Bytes that folded constants, and the copies that parts of the graph have of constants, may take for each byte of the file.
const FOLDED_PER_BYTE: usize = 4;

/// Bytes that either may take however small the file is.
const FOLDED_AT_LEAST: usize = 1 << 16;

/// Reads an ONNX model; `folder` is where its file is, for what lies beside it, and `counted` whether segments shall say what they compute.
pub(crate) fn read(bytes: &[u8], folder: Option<&Path>, counted: bool) -> Result<Network> {
    scan::check(bytes)?;
    let mut model = ModelProto::decode(bytes).map_err(|error| not_onnx(bytes, &format!("data that is damaged or cut off ({error})")))?;
    if model.graph.is_none() || model.opset_import.is_empty() {
        // Protobuf has no signature: many a short file decodes to a message of which nothing is known.
        return Err(not_onnx(bytes, "no graph and operator set in it"));
    }
    let opset = opset(&model)?;
    functions::inline(&mut model, bytes.len())?;
    let mut notes = vec![made_by(&model, opset)];
    let Some(mut graph) = model.graph.take() else { unreachable!("it was there") };
    if graph.output.is_empty() {
        return Err(Error::format("graph: expected at least one output, found none"));
    }
    if let Some(folder) = folder {
        ExternalData::new(folder).load(&mut graph)?;
    }
    let inputs = inputs(&mut graph)?;
    let outputs = std::mem::take(&mut graph.output);
    graph.output.clone_from(&outputs);
    let (types, ranks) = (types(&graph), ranks(&graph));

    let mut constants = Constants::default();
    let mut block = GraphReader::new(&mut constants).block(graph)?;
    notes.extend(widen::floats(&mut block, &constants, inputs.iter().chain(&outputs)));
    rewrite::fused(&mut block, &mut constants, opset);
    notes.extend(quantised::widen(&mut block, &mut constants)?);
    let budget = bytes.len().saturating_mul(FOLDED_PER_BYTE).max(FOLDED_AT_LEAST);
    let mut block = Simplifier::new(&mut constants, opset, budget).block(block)?;
    drop_dead(&mut block);
    cell::recognise(&mut block, &mut constants, opset, &inputs, budget)?;
    node::drop_zero_states(&mut block, &mut constants);
    drop_dead(&mut block);

    let mut read = BTreeSet::new();
    let mut num_lstms = 0;
    block.each(&mut |node| {
        read.extend(node.reads().into_iter().map(str::to_owned));
        num_lstms += usize::from(node.is("LSTM"));
    });
    read.extend(block.outputs.iter().cloned());
    if num_lstms == 0 {
        notes.push("no LSTM was found in the graph: all of it runs on the CPU".to_owned());
    }
    check_operators(&block)?;
    let imports = Imports { ir_version: model.ir_version, opsets: std::mem::take(&mut model.opset_import) };
    let reader = NodeReader::new(&mut constants, opset, bytes.len(), num_lstms);
    let mut cutter = Cutter::new(reader, imports, types);
    (cutter.ranks, cutter.counted, cutter.room) = (ranks, counted, budget.saturating_mul(2));
    let program = cutter.program(block, BTreeSet::new())?;
    let Cutter { mut reader, lstms: nodes, dense, wanted, .. } = cutter;
    let uses = std::mem::take(&mut reader.uses);
    let role = |name: &str| uses.get(name).map(|(sizes, role)| (sizes.as_ref(), *role));
    let inputs = inputs.iter().map(|info| ports::port("input", info, role(&info.name), !read.contains(&info.name)));
    let inputs = inputs.collect::<Result<Vec<Port>>>()?;
    let outputs = outputs.iter().zip(&program.outputs).map(|(info, made)| ports::port("output", info, role(made), false));
    let outputs = outputs.collect::<Result<Vec<Port>>>()?;
    notes.append(&mut reader.notes);
    let kept = wanted.into_iter().map(|name| Ok((name.clone(), reader.constants.get(&name)?.to_owned()))).collect::<Result<BTreeMap<_, Tensor>>>()?;
    notes.append(&mut reader.constants.take_notes());
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(Network { format: "onnx", inputs, outputs, nodes, dense, program, constants: kept, notes, metadata })
}

/// Checks that whatever is neither an LSTM nor run where tensors are has an operator that the CPU knows; names all that it does not.
fn check_operators(block: &Block) -> Result<()> {
    let mut nodes = Vec::new();
    block.each(&mut |node| {
        if node.branches.is_none() && !node.is("LSTM") && !lower::knows(&node.proto.domain, &node.proto.op_type) {
            nodes.push((node.proto.domain.as_str(), node.proto.op_type.as_str(), node.proto.name.as_str()));
        }
    });
    let missing = host::missing_operators(nodes);
    let Some((first, others)) = missing.split_first() else { return Ok(()) };
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    let also = if others.is_empty() { String::new() } else { format!(" (also: {})", others.join(", ")) };
    Err(Error::config(format!("operators: expected those of an LSTM, or ones that the CPU has, found {first}{also}")))
}

/// The inputs of the graph that a call gives.
fn inputs(graph: &mut GraphProto) -> Result<Vec<ValueInfoProto>> {
    let initializers: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    for input in &graph.input {
        if !seen.insert(input.name.as_str()) {
            return Err(Error::format(format!("input `{}`: expected one of that name, found two", input.name)));
        }
    }
    // Up to IR version 3 the initialisers had to be inputs too.
    Ok(graph.input.iter().filter(|input| !initializers.contains(input.name.as_str())).cloned().collect())
}

/// Element types of tensors, as far as the graph says them.
fn types(graph: &GraphProto) -> BTreeMap<String, ElementType> {
    let known = |info: &ValueInfoProto| {
        let declared = info.value_type.as_ref()?.tensor_type.as_ref()?.elem_type;
        let element_type = if tensor::is_half(declared) { ElementType::F32 } else { tensor::element_type(declared)? };
        Some((info.name.clone(), element_type))
    };
    graph.value_info.iter().chain(&graph.output).filter_map(known).collect()
}

/// Numbers of axes of tensors, as far as the graph says them.
fn ranks(graph: &GraphProto) -> BTreeMap<String, usize> {
    let known = |info: &ValueInfoProto| Some((info.name.clone(), info.value_type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim.len()));
    graph.value_info.iter().chain(&graph.input).chain(&graph.output).filter_map(known).collect()
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
    let versions = model.opset_import.iter().filter(|set| graph::is_onnx(&set.domain)).map(|set| set.version);
    // The specification binds nodes to the highest version of their set.
    let opset = versions.max().ok_or_else(|| {
        let domains: Vec<_> = model.opset_import.iter().map(|set| format!("`{}`", set.domain)).collect();
        Error::config(format!("ONNX operator sets: expected that of domain `ai.onnx`, found only {}", domains.join(", ")))
    })?;
    if !OPSETS.contains(&opset) {
        return Err(Error::config(format!("ONNX opset: expected {} to {}, found {opset}", OPSETS.start(), OPSETS.end())));
    }
    Ok(opset)
}

/// A note on who made the file, and in which version of the format.
fn made_by(model: &ModelProto, opset: i64) -> String {
    let producer = format!("{} {}", model.producer_name, model.producer_version);
    let producer = if producer.trim().is_empty() { String::new() } else { format!(", made by {}", producer.trim()) };
    format!("ONNX opset {opset}, IR version {}{producer}", model.ir_version)
}
