//! ONNX graphs made of `LSTM` nodes.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::network::{Lstm, LstmConfig, Network};
use crate::tensor::TensorView;

/// An `LSTM` node whose weights are tensors of the call, not of the file.
#[derive(Clone, Debug)]
pub(crate) struct RunTimeWeights {
    /// everything that the node's attributes say; sizes come with the tensors
    template: LstmConfig,
    w: String,
    r: String,
    b: Option<String>,
    p: Option<String>,
}

impl RunTimeWeights {
    /// Names of the tensors that hold the weights.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.w), Some(&self.r), self.b.as_ref(), self.p.as_ref()].into_iter().flatten().map(String::as_str)
    }

    /// The stack that these tensors make, in this crate's gate order.
    pub(crate) fn resolve(&self, _tensors: &BTreeMap<&str, TensorView<'_>>) -> Result<Lstm> {
        Err(Error::format(format!("onnx: not yet {:?}", self.template)))
    }
}

pub(crate) fn read(_bytes: &[u8]) -> Result<Network> {
    Err(Error::format("onnx: not yet"))
}
