//! Tensors whose elements are known when a model is read: of the file, or made of such.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayD;

use super::proto::{AttributeKind, NodeProto, TensorProto};
use super::tensor::{self, FLOAT, INT64};
use crate::error::{Error, Result};
use crate::tensor::{ElementType, Tensor, TensorView};

/// A constant as it came.
#[derive(Clone, Debug, PartialEq)]
enum Constant {
    /// an initialiser or the value of a `Constant` node
    File(Box<TensorProto>),
    /// what operators make of others
    Made(Tensor),
}

/// The constants of a model, by name.
#[derive(Debug, Default)]
pub(super) struct Constants {
    tensors: BTreeMap<String, Constant>,
    /// what was decoded already
    decoded: BTreeMap<String, Tensor>,
    /// conversions that a user should know of
    notes: Vec<String>,
    /// tensors of which there is a note
    noted: BTreeSet<String>,
}

impl Constants {
    /// Adds a tensor of the file, under its name.
    pub(super) fn insert(&mut self, tensor: TensorProto) -> Result<()> {
        tensor::check_size(&tensor)?;
        self.tensors.insert(tensor.name.clone(), Constant::File(Box::new(tensor)));
        Ok(())
    }

    /// Adds the value of a `Constant` node.
    pub(super) fn insert_node(&mut self, node: &NodeProto) -> Result<()> {
        self.insert(value(node)?)
    }

    /// Adds a tensor that operators made.
    pub(super) fn insert_made(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), Constant::Made(tensor));
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Bytes of the constant `name`; nothing is decoded.
    pub(super) fn bytes(&self, name: &str) -> Option<usize> {
        Some(match self.tensors.get(name)? {
            Constant::File(proto) => tensor::num_bytes(proto),
            Constant::Made(tensor) => tensor.view().num_bytes(),
        })
    }

    /// How many floats the constant `name` has; `None` where it is of another type.
    pub(super) fn num_floats(&self, name: &str) -> Option<usize> {
        let is_float = match self.tensors.get(name)? {
            Constant::File(proto) => tensor::is_half(proto.data_type) || [FLOAT, tensor::DOUBLE].contains(&proto.data_type),
            Constant::Made(tensor) => matches!(tensor, Tensor::F32(_) | Tensor::F64(_)),
        };
        self.shape(name).filter(|_| is_float).map(|shape| shape.iter().product())
    }

    /// The axes of the constant `name`.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.tensors.get(name)? {
            Constant::File(proto) => proto.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
            Constant::Made(tensor) => Some(tensor.view().shape().to_vec()),
        }
    }

    /// Whether the constant `name` is of `float32`, or of a narrower type that is widened to it.
    pub(super) fn is_float32(&self, name: &str) -> bool {
        match self.tensors.get(name) {
            Some(Constant::File(proto)) => proto.data_type == FLOAT || tensor::is_half(proto.data_type),
            Some(Constant::Made(tensor)) => tensor.view().element_type() == ElementType::F32,
            None => false,
        }
    }

    /// The elements of the constant `name`, which is one; what floats are narrower than `float32` are widened.
    pub(super) fn get(&mut self, name: &str) -> Result<TensorView<'_>> {
        if let Some(Constant::File(proto)) = self.tensors.get(name)
            && !self.decoded.contains_key(name)
        {
            let tensor = tensor::decode(name, proto)?;
            self.decoded.insert(name.to_owned(), tensor);
        }
        match self.tensors.get(name) {
            Some(Constant::Made(tensor)) => Ok(tensor.view()),
            _ => self.decoded.get(name).map(Tensor::view).ok_or_else(|| Error::format(format!("tensor `{name}`: expected a constant, found none"))),
        }
    }

    /// The elements of the constant `name`, if [`Constants::get`] made them before.
    pub(super) fn decoded(&self, name: &str) -> Option<TensorView<'_>> {
        match self.tensors.get(name)? {
            Constant::Made(tensor) => Some(tensor.view()),
            Constant::File(_) => self.decoded.get(name).map(Tensor::view),
        }
    }

    /// The constant `name` as `float32`, with a note where the file has it otherwise.
    pub(super) fn float32(&mut self, name: &str) -> Result<ArrayD<f32>> {
        let array = match self.get(name)? {
            TensorView::F32(array) => array.to_owned(),
            #[expect(clippy::cast_possible_truncation, reason = "weights are float32 inside; there is a note on it")]
            TensorView::F64(array) => array.mapv(|value| value as f32),
            other => return Err(Error::shape(format!("tensor `{name}`: expected float32, found {}", other.element_type()))),
        };
        if let Some(Constant::File(proto)) = self.tensors.get(name)
            && let Some(note) = conversion(name, proto)
            && self.noted.insert(name.to_owned())
        {
            self.notes.push(note);
        }
        Ok(array)
    }

    /// Forgets the decoded form of `name`, which nobody needs twice.
    pub(super) fn forget(&mut self, name: &str) {
        self.decoded.remove(name);
    }

    /// The constant `name` as a message; floats narrower than `float32` are widened.
    pub(super) fn proto(&self, name: &str) -> Result<Cow<'_, TensorProto>> {
        match self.tensors.get(name) {
            Some(Constant::File(proto)) if tensor::is_half(proto.data_type) => Ok(Cow::Owned(tensor::encode(name, &tensor::decode(name, proto)?))),
            Some(Constant::File(proto)) => Ok(Cow::Borrowed(proto)),
            Some(Constant::Made(made)) => Ok(Cow::Owned(tensor::encode(name, made))),
            None => Err(Error::format(format!("tensor `{name}`: expected a constant, found none"))),
        }
    }

    /// Conversions that a user should know of.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Names of all constants of a floating point type narrower than `float32`.
    pub(super) fn halves(&self) -> impl Iterator<Item = &str> {
        let is_half = |constant: &Constant| matches!(constant, Constant::File(proto) if tensor::is_half(proto.data_type));
        self.tensors.iter().filter(move |(_, constant)| is_half(constant)).map(|(name, _)| name.as_str())
    }
}

/// A note on a constant that is not `float32` in the file.
fn conversion(name: &str, proto: &TensorProto) -> Option<String> {
    let found = tensor::type_name(proto.data_type);
    (proto.data_type == tensor::DOUBLE).then(|| format!("tensor `{name}`: narrowed from {found} to float32"))
}

/// The value of a `Constant` node, under the name of its output.
fn value(node: &NodeProto) -> Result<TensorProto> {
    let refused = |rule: &str, found: String| Error::format(format!("operator `Constant`: expected {rule}, found {found}"));
    let ([], [name], [attribute]) = (node.input.as_slice(), node.output.as_slice(), node.attribute.as_slice()) else {
        let found = format!("{}, {} and {}", node.input.len(), node.output.len(), node.attribute.len());
        return Err(refused("no input, one output and one attribute", found));
    };
    let list = |len: usize| i64::try_from(len).map(|len| vec![len]).unwrap_or_default();
    let tensor = match attribute.name.as_str() {
        "value" => {
            attribute.expect(AttributeKind::Tensor, "a tensor")?;
            attribute.t.clone().ok_or_else(|| refused("a tensor in its attribute `value`", "none".to_owned()))?
        }
        "value_int" => {
            attribute.expect(AttributeKind::Int, "an int")?;
            TensorProto { data_type: INT64, int64_data: vec![attribute.i], ..TensorProto::default() }
        }
        "value_ints" => {
            attribute.expect(AttributeKind::Ints, "ints")?;
            TensorProto { data_type: INT64, dims: list(attribute.ints.len()), int64_data: attribute.ints.clone(), ..TensorProto::default() }
        }
        "value_float" => {
            attribute.expect(AttributeKind::Float, "a float")?;
            TensorProto { data_type: FLOAT, float_data: vec![attribute.f], ..TensorProto::default() }
        }
        "value_floats" => {
            attribute.expect(AttributeKind::Floats, "floats")?;
            TensorProto { data_type: FLOAT, dims: list(attribute.floats.len()), float_data: attribute.floats.clone(), ..TensorProto::default() }
        }
        other => return Err(refused("a tensor or numbers", format!("attribute `{other}`, which is not supported yet"))),
    };
    Ok(TensorProto { name: name.clone(), ..tensor })
}
