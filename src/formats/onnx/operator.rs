//! Nodes of the operators that are run here, in the forms that the opsets give them.

use std::collections::BTreeMap;

use super::graph::is_onnx;
use super::proto::{AttributeProto, NodeProto};
use super::tensor::{decode, element_type};
use crate::error::{Error, Result};
use crate::network::op::{Binary, Compare, Logic, Op, Parts, Ranges, Reduction, Unary};
use crate::tensor::Tensor;

/// The operator of `node`; `None` for another one, and for one of element types that there are no tensors of here.
pub(super) fn read(node: &NodeProto, opset: i64) -> Result<Option<Op>> {
    if !is_onnx(&node.domain) {
        return Ok(None);
    }
    let read = || {
        let mut attributes = Attributes::of(node)?;
        let Some(op) = operator(node, opset, &mut attributes)? else { return Ok(None) };
        attributes.finish().map(|()| Some(op))
    };
    read().map_err(|error: Error| error.within(format!("operator `{}` of {}", node.op_type, node.label())))
}

fn operator(node: &NodeProto, opset: i64, attributes: &mut Attributes<'_>) -> Result<Option<Op>> {
    Ok(Some(match node.op_type.as_str() {
        "Identity" => Op::Identity,
        "Cast" => {
            // for types that are not here
            attributes.take("saturate");
            match i32::try_from(attributes.required("to")?.int()?).ok().and_then(element_type) {
                Some(to) => Op::Cast { to },
                None => return Ok(None),
            }
        }
        "Shape" if opset < 15 => Op::Shape { start: 0, end: None },
        "Shape" => Op::Shape { start: attributes.int("start", 0)?, end: attributes.take("end").map(AttributeProto::int).transpose()? },
        "Size" => Op::Size,
        "Transpose" => Op::Transpose { perm: attributes.ints("perm")? },
        "Reshape" if opset < 14 => Op::Reshape { allow_zero: false },
        "Reshape" => Op::Reshape { allow_zero: attributes.flag("allowzero", false)? },
        "Flatten" => Op::Flatten { axis: attributes.int("axis", 1)? },
        "Squeeze" if opset < 13 => Op::Squeeze { axes: attributes.ints("axes")? },
        "Squeeze" => Op::Squeeze { axes: None },
        "Unsqueeze" if opset < 13 => Op::Unsqueeze { axes: Some(attributes.required("axes")?.ints()?.to_vec()) },
        "Unsqueeze" => Op::Unsqueeze { axes: None },
        "Slice" if opset < 10 => {
            let (starts, ends) = (attributes.required("starts")?.ints()?.to_vec(), attributes.required("ends")?.ints()?.to_vec());
            Op::Slice { ranges: Some(Ranges { starts, ends, axes: attributes.ints("axes")?, steps: None }) }
        }
        "Slice" => Op::Slice { ranges: None },
        "Split" => split(node, opset, attributes)?,
        "Expand" if opset >= 8 => Op::Expand,
        "Tile" => Op::Tile,
        "Concat" => Op::Concat { axis: attributes.required("axis")?.int()? },
        "Gather" => Op::Gather { axis: attributes.int("axis", 0)? },
        "Where" if opset >= 9 => Op::Where,
        "NonZero" if opset >= 9 => Op::NonZero,
        "ReverseSequence" if opset >= 10 => {
            Op::ReverseSequence { batch_axis: attributes.int("batch_axis", 1)?, time_axis: attributes.int("time_axis", 0)? }
        }
        "ConstantOfShape" if opset >= 9 => match constant(attributes)? {
            Some(value) => Op::ConstantOfShape { value },
            None => return Ok(None),
        },
        "Range" if opset >= 11 => Op::Range,
        name if name.starts_with("Reduce") => return reduce(name, opset, attributes),
        name => return elementwise(name, opset, attributes),
    }))
}

fn split(node: &NodeProto, opset: i64, attributes: &mut Attributes<'_>) -> Result<Op> {
    let axis = attributes.int("axis", 0)?;
    let sizes = if opset < 13 { attributes.ints("split")? } else { None };
    let outputs = node.output.len();
    if opset >= 18
        && let Some(attribute) = attributes.take("num_outputs")
        && attribute.size()? != outputs
    {
        return Err(Error::config(format!("attribute `num_outputs`: expected {outputs}, one for each output, found {}", attribute.i)));
    }
    Ok(Op::Split { axis, parts: Parts { sizes, outputs, uneven: opset >= 18 } })
}

/// The value of a `ConstantOfShape`; `None` where it is of a type that is not here.
fn constant(attributes: &mut Attributes<'_>) -> Result<Option<Tensor>> {
    let Some(attribute) = attributes.take("value") else { return Ok(Some(ndarray::arr1(&[0.0_f32]).into())) };
    let proto = attribute.tensor()?;
    if element_type(proto.data_type).is_none() {
        return Ok(None);
    }
    decode("value", proto).map(Some)
}

fn reduce(name: &str, opset: i64, attributes: &mut Attributes<'_>) -> Result<Option<Op>> {
    let how = match name {
        "ReduceSum" => Reduction::Sum,
        "ReduceProd" => Reduction::Prod,
        "ReduceMin" => Reduction::Min,
        "ReduceMax" => Reduction::Max,
        "ReduceMean" => Reduction::Mean,
        _ => return Ok(None),
    };
    // the opset from which on the axes are an input
    let axes_input = if how == Reduction::Sum { 13 } else { 18 };
    let (axes, none_is_none) = if opset < axes_input {
        // an attribute that is not there stands for all axes
        (Some(attributes.ints("axes")?.unwrap_or_default()), false)
    } else {
        (None, attributes.flag("noop_with_empty_axes", false)?)
    };
    Ok(Some(Op::Reduce { how, axes, keep_dims: attributes.flag("keepdims", true)?, none_is_none }))
}

fn elementwise(name: &str, opset: i64, attributes: &mut Attributes<'_>) -> Result<Option<Op>> {
    Ok(Some(match name {
        "Add" => Op::Binary(Binary::Add),
        "Sub" => Op::Binary(Binary::Sub),
        "Mul" => Op::Binary(Binary::Mul),
        "Div" => Op::Binary(Binary::Div),
        "Pow" => Op::Binary(Binary::Pow),
        "Mod" if opset >= 10 => Op::Binary(Binary::Mod { fmod: attributes.flag("fmod", false)? }),
        "Sum" => Op::Fold(Binary::Add),
        "Min" => Op::Fold(Binary::Min),
        "Max" => Op::Fold(Binary::Max),
        "Equal" => Op::Compare(Compare::Equal),
        "Less" => Op::Compare(Compare::Less),
        "LessOrEqual" if opset >= 12 => Op::Compare(Compare::LessOrEqual),
        "Greater" => Op::Compare(Compare::Greater),
        "GreaterOrEqual" if opset >= 12 => Op::Compare(Compare::GreaterOrEqual),
        "And" => Op::Logic(Logic::And),
        "Or" => Op::Logic(Logic::Or),
        "Xor" => Op::Logic(Logic::Xor),
        "Not" => Op::Not,
        "Neg" => Op::Unary(Unary::Neg),
        "Abs" => Op::Unary(Unary::Abs),
        "Sign" if opset >= 9 => Op::Unary(Unary::Sign),
        "Floor" => Op::Unary(Unary::Floor),
        "Ceil" => Op::Unary(Unary::Ceil),
        "Round" if opset >= 11 => Op::Unary(Unary::Round),
        "Sqrt" => Op::Unary(Unary::Sqrt),
        "Reciprocal" => Op::Unary(Unary::Reciprocal),
        "Exp" => Op::Unary(Unary::Exp),
        "Log" => Op::Unary(Unary::Log),
        _ => return Ok(None),
    }))
}

/// The attributes of a node that are still to be read.
struct Attributes<'a>(BTreeMap<&'a str, &'a AttributeProto>);

impl<'a> Attributes<'a> {
    fn of(node: &'a NodeProto) -> Result<Self> {
        let mut attributes = BTreeMap::new();
        for attribute in &node.attribute {
            if attributes.insert(attribute.name.as_str(), attribute).is_some() {
                return Err(attribute.refused("one of that name", "two"));
            }
        }
        Ok(Self(attributes))
    }

    fn take(&mut self, name: &str) -> Option<&'a AttributeProto> {
        self.0.remove(name)
    }

    fn required(&mut self, name: &str) -> Result<&'a AttributeProto> {
        self.take(name).ok_or_else(|| Error::config(format!("attribute `{name}`: expected one of that name, found none")))
    }

    fn int(&mut self, name: &str, default: i64) -> Result<i64> {
        self.take(name).map_or(Ok(default), AttributeProto::int)
    }

    fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        self.take(name).map(|attribute| attribute.ints().map(<[i64]>::to_vec)).transpose()
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        self.take(name).map_or(Ok(default), AttributeProto::flag)
    }

    /// Checks that none is left that nobody asked for.
    fn finish(self) -> Result<()> {
        self.0
            .values()
            .next()
            .map_or(Ok(()), |attribute| Err(attribute.refused("an attribute of the operator", "one that it does not have in this opset")))
    }
}
