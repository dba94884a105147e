//! What a network is: plain data, without a device. Every shape formula lives here.

mod activation;
mod call;
mod config;
mod dense;
mod layout;
pub(crate) mod op;
mod parts;
mod precision;
mod program;
mod stages;
mod strided;
mod weights;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use activation::{Activation, CellActivations};
pub(crate) use call::{InitialState, LstmCall, LstmResults, LstmState, check_room};
pub use config::{Direction, GATES, Gate, LstmConfig};
pub use dense::{DenseStage, Embedding, Linear, RowFunction};
pub use layout::Layout;
pub use parts::{Branch, Part, PartKind};
pub use precision::Precision;
pub(crate) use precision::{int8_scales, to_int8};
pub(crate) use program::{DenseNode, HostNode, IfNode, Nodes, OpNode, Program, Step};
pub use stages::Stage;
pub(crate) use strided::Strided;
pub use weights::{CellWeights, LayerNormWeights, Lstm};

use crate::error::{Error, Result};
use crate::formats::onnx::RunTimeWeights;
use crate::formats::{self, Reading};
use crate::tensor::{ElementType, Tensor};

/// A network read from a file or made from weights: LSTM nodes, joined by the names of the tensors between them.
///
/// ```no_run
/// let network = cellgate::Network::open("model.onnx")?;
/// println!("{} parameters", network.num_parameters());
/// # Ok::<(), cellgate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) format: &'static str,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// the LSTMs, by the numbers that the program has for them
    pub(crate) nodes: Vec<LstmNode>,
    /// the layers beside them, likewise
    pub(crate) dense: Vec<DenseNode>,
    /// what a call does
    pub(crate) program: Program,
    /// tensors that the file itself holds and steps read by name
    pub(crate) constants: BTreeMap<String, Tensor>,
    /// what a user should know about how the file was understood
    pub(crate) notes: Vec<String>,
    /// what the file says about itself, by key
    pub(crate) metadata: BTreeMap<String, String>,
}

/// An input or output of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// its name, as the model gives it
    pub name: String,
    /// the type of its elements
    pub element_type: ElementType,
    /// its axes; empty where the model says nothing
    pub axes: Vec<AxisSize>,
    /// whether a call may leave it out
    pub optional: bool,
}

/// The size of an axis of a [`Port`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AxisSize {
    /// fixed by the model
    Fixed(usize),
    /// given by the call; the same name stands for the same size
    Named(String),
}

impl fmt::Display for AxisSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// One LSTM stack of a network, and the names of the tensors that it reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct LstmNode {
    pub(crate) name: String,
    /// how many LSTMs of the file are its layers
    pub(crate) merged: usize,
    pub(crate) layout: Layout,
    pub(crate) weights: Weights,
    pub(crate) x: String,
    pub(crate) sequence_lens: Option<String>,
    pub(crate) h_0: Option<String>,
    pub(crate) c_0: Option<String>,
    pub(crate) y: Option<String>,
    pub(crate) h_n: Option<String>,
    pub(crate) c_n: Option<String>,
}

/// Where a node's weights come from.
#[derive(Clone, Debug)]
pub(crate) enum Weights {
    /// the file
    Constant(Arc<Lstm>),
    /// tensors of the call
    RunTime(RunTimeWeights),
}

impl Network {
    /// Reads a model file: safetensors with the key names of a PyTorch module, or ONNX. The content decides, not the file's name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the file cannot be read, [`ErrorKind::Format`](crate::ErrorKind::Format) where it is neither,
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) and [`ErrorKind::Config`](crate::ErrorKind::Config) where its tensors or operators do not make a network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        formats::open(path.as_ref(), Reading::default())
    }

    /// As [`Network::open`], from the bytes of a file that is in memory already.
    ///
    /// # Errors
    /// As [`Network::open`], without [`ErrorKind::Io`](crate::ErrorKind::Io).
    ///
    /// ```
    /// let error = cellgate::Network::from_bytes(b"").expect_err("an empty file is no model");
    /// assert_eq!(error.kind(), cellgate::ErrorKind::Format);
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes, Reading::default())
    }

    /// Reads a safetensors file whose metadata does not say how the LSTM was made: `config` says it,
    /// and `batch_first` whether its inputs have the batch axis first.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn open_with(path: impl AsRef<Path>, config: &LstmConfig, batch_first: bool) -> Result<Self> {
        formats::open(path.as_ref(), Reading { config: Some((config, batch_first)), ..Reading::default() })
    }

    /// As [`Network::open_with`], from the bytes of a file that is in memory already.
    ///
    /// # Errors
    /// As [`Network::from_bytes`].
    pub fn from_bytes_with(bytes: &[u8], config: &LstmConfig, batch_first: bool) -> Result<Self> {
        Self::read(bytes, Reading { config: Some((config, batch_first)), ..Reading::default() })
    }

    /// As [`Network::from_bytes`], with all that can be said about how.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn read(bytes: &[u8], reading: Reading<'_>) -> Result<Self> {
        formats::read(bytes, &reading)
    }

    /// What kind of file the network came from.
    pub fn format(&self) -> &str {
        self.format
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// What a user should know about how the file was understood: inferred settings, weights that are not finite.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the file says about itself under `key`: the metadata of a safetensors file, or the `metadata_props` of an ONNX model.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The LSTM stacks in the order in which they run, by node name; `None` for a stack whose weights come with each call.
    pub fn lstms(&self) -> impl Iterator<Item = (&str, Option<&Lstm>)> {
        self.nodes.iter().map(|node| (node.name.as_str(), node.constant_weights()))
    }

    /// How many numbers the weights in the file hold, those of parts on the CPU included.
    pub fn num_parameters(&self) -> usize {
        let mut on_host = 0;
        self.program.each(&mut |step| {
            if let Step::Host(node) = step {
                on_host += node.num_parameters;
            }
        });
        let lstms = self.lstms().filter_map(|(_, lstm)| lstm).map(|lstm| lstm.config().num_parameters());
        lstms.chain(self.dense.iter().map(|node| node.stage.num_parameters())).sum::<usize>() + on_host
    }

    /// Whether the node's initial state comes from outside the network, so that a [`State`](crate::State) can take its place.
    pub(crate) fn carries(&self, node: &LstmNode) -> bool {
        let outside = |name: &Option<String>| name.as_ref().is_none_or(|name| self.inputs.iter().any(|port| port.name == *name));
        outside(&node.h_0) && outside(&node.c_0)
    }

    /// The input called `name`, or an error that lists the inputs there are.
    pub(crate) fn input(&self, name: &str) -> Result<&Port> {
        self.inputs.iter().find(|port| port.name == name).ok_or_else(|| {
            let names: Vec<_> = self.inputs.iter().map(|port| format!("`{}`", port.name)).collect();
            Error::shape(format!("no input is called `{name}`; the model's inputs are {}", names.join(", ")))
        })
    }
}

impl LstmNode {
    pub(crate) fn constant_weights(&self) -> Option<&Lstm> {
        match &self.weights {
            Weights::Constant(lstm) => Some(lstm),
            Weights::RunTime(_) => None,
        }
    }

    /// Names of the tensors that the node makes.
    pub(crate) fn makes(&self) -> impl Iterator<Item = &str> {
        [&self.y, &self.h_n, &self.c_n].into_iter().flatten().map(String::as_str)
    }

    /// Names of the tensors that the node reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        let weights = match &self.weights {
            Weights::Constant(_) => Vec::new(),
            Weights::RunTime(weights) => weights.names().collect(),
        };
        let own = [Some(&self.x), self.sequence_lens.as_ref(), self.h_0.as_ref(), self.c_0.as_ref()];
        own.into_iter().flatten().map(String::as_str).chain(weights)
    }
}
