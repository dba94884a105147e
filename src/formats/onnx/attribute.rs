//! The values of a node's attributes.

use super::proto::{AttributeKind, AttributeProto, NodeProto, TensorProto};
use crate::error::{Error, Result};
use crate::network::Direction;

impl NodeProto {
    /// The attribute called `name`.
    pub(super) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }
}

impl AttributeProto {
    /// The error for an attribute that does not keep `rule`.
    pub(super) fn refused(&self, rule: &str, found: impl std::fmt::Display) -> Error {
        Error::config(format!("attribute `{}`: expected {rule}, found {found}", self.name))
    }

    /// Checks that the attribute is of `kind`, called `name` in words.
    pub(super) fn expect(&self, kind: AttributeKind, name: &str) -> Result<()> {
        if self.kind == kind as i32 { Ok(()) } else { Err(self.refused(name, format!("an attribute of ONNX type {}", self.kind))) }
    }

    /// The value of a list of texts.
    pub(super) fn strings(&self) -> Result<&[Vec<u8>]> {
        self.expect(AttributeKind::Strings, "strings").map(|()| self.strings.as_slice())
    }

    /// The value of a list of numbers.
    pub(super) fn floats(&self) -> Result<&[f32]> {
        self.expect(AttributeKind::Floats, "floats").map(|()| self.floats.as_slice())
    }

    /// The value of a list of whole numbers.
    pub(super) fn ints(&self) -> Result<&[i64]> {
        self.expect(AttributeKind::Ints, "ints").map(|()| self.ints.as_slice())
    }

    /// The value of a whole number.
    pub(super) fn int(&self) -> Result<i64> {
        self.expect(AttributeKind::Int, "an int").map(|()| self.i)
    }

    /// The value of a tensor.
    pub(super) fn tensor(&self) -> Result<&TensorProto> {
        self.expect(AttributeKind::Tensor, "a tensor")?;
        self.t.as_ref().ok_or_else(|| self.refused("a tensor", "none"))
    }

    /// The value of a number above 0; an infinite one bounds nothing.
    pub(super) fn bound(&self) -> Result<Option<f32>> {
        self.expect(AttributeKind::Float, "a float")?;
        if self.f > 0.0 { Ok(Some(self.f).filter(|bound| bound.is_finite())) } else { Err(self.refused("a bound above 0", self.f)) }
    }

    /// A direction; ONNX Runtime ignores case, so files with any case exist.
    pub(super) fn direction(&self) -> Result<Direction> {
        self.expect(AttributeKind::String, "a string")?;
        let name = String::from_utf8_lossy(&self.s);
        Direction::from_name(&name.to_ascii_lowercase()).ok_or_else(|| self.refused("forward, reverse or bidirectional", format!("`{name}`")))
    }

    /// The value of a whole number of 1 or more.
    pub(super) fn size(&self) -> Result<usize> {
        self.expect(AttributeKind::Int, "an int")?;
        usize::try_from(self.i).ok().filter(|&size| size > 0).ok_or_else(|| self.refused("1 or more", self.i))
    }

    /// The value of a whole number that stands for false or true.
    pub(super) fn flag(&self) -> Result<bool> {
        self.expect(AttributeKind::Int, "an int")?;
        if self.i == 0 || self.i == 1 { Ok(self.i == 1) } else { Err(self.refused("0 or 1", self.i)) }
    }
}
