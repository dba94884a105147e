//! `ValueInfoProto` -> [`Port`].

use super::proto::{DimensionProto, ValueInfoProto};
use super::tensor::{FLOAT, element_type, is_half, type_name};
use crate::error::{Error, Result};
use crate::network::{AxisSize, Layout, Port};
use crate::tensor::ElementType;

/// What an `LSTM` node does with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// input sequence
    X,
    /// weights of the inputs
    W,
    /// weights of the recurrence
    R,
    /// biases
    B,
    /// length of every row
    SequenceLens,
    /// hidden or cell state, initial or final
    State,
    /// peepholes
    P,
    /// output sequence
    Y,
}

/// What the inputs of an `LSTM` node are, in the operator's order.
pub(super) const INPUT_ROLES: [Role; 8] = [Role::X, Role::W, Role::R, Role::B, Role::SequenceLens, Role::State, Role::State, Role::P];

/// What the outputs of an `LSTM` node are, in the operator's order.
pub(super) const OUTPUT_ROLES: [Role; 3] = [Role::Y, Role::State, Role::State];

/// What is known of a node's sizes before a call.
#[derive(Clone, Debug)]
pub(super) struct NodeSizes {
    pub(super) layout: Layout,
    pub(super) num_directions: usize,
    pub(super) hidden_size: Option<usize>,
    pub(super) input_size: Option<usize>,
    /// put before the names of this node's axes: what two nodes call `batch` need not be of the same size
    pub(super) prefix: String,
}

impl NodeSizes {
    /// The axes of a tensor of this node where the model does not say them.
    fn axes(&self, role: Role) -> Vec<AxisSize> {
        let named = |name: &str| AxisSize::Named(format!("{}{name}", self.prefix));
        let size = |size: Option<usize>, name: &str| size.map_or_else(|| named(name), AxisSize::Fixed);
        // A hidden size is one of a real network's or a number that its weights will refuse: a product too large is as good as unknown.
        let hidden = |times: usize, name: &str| size(self.hidden_size.and_then(|hidden| hidden.checked_mul(times)), name);
        let dirs = AxisSize::Fixed(self.num_directions);
        let batch_first = self.layout.batch_first();
        match role {
            Role::X if batch_first => vec![named("batch"), named("seq_len"), size(self.input_size, "input_size")],
            Role::X => vec![named("seq_len"), named("batch"), size(self.input_size, "input_size")],
            Role::W => vec![dirs, hidden(4, "4*hidden_size"), size(self.input_size, "input_size")],
            Role::R => vec![dirs, hidden(4, "4*hidden_size"), hidden(1, "hidden_size")],
            Role::B => vec![dirs, hidden(8, "8*hidden_size")],
            Role::P => vec![dirs, hidden(3, "3*hidden_size")],
            Role::SequenceLens => vec![named("batch")],
            Role::State if batch_first => vec![named("batch"), dirs, hidden(1, "hidden_size")],
            Role::State => vec![dirs, named("batch"), hidden(1, "hidden_size")],
            Role::Y if batch_first => vec![named("batch"), named("seq_len"), dirs, hidden(1, "hidden_size")],
            Role::Y => vec![named("seq_len"), dirs, named("batch"), hidden(1, "hidden_size")],
        }
    }
}

/// The port that `info` describes; `role` is what an LSTM does with it, `None` where none reads or makes it; a call may leave out what is `optional`.
pub(super) fn port(what: &str, info: &ValueInfoProto, role: Option<(&NodeSizes, Role)>, optional: bool) -> Result<Port> {
    let name = &info.name;
    let defaults = role.map(|(sizes, role)| sizes.axes(role));
    let lens = matches!(role, Some((_, Role::SequenceLens)));
    let Some(value_type) = &info.value_type else {
        let element_type = if lens { ElementType::I32 } else { ElementType::F32 };
        return Ok(Port { name: name.clone(), element_type, axes: defaults.unwrap_or_default(), optional });
    };
    let Some(tensor_type) = &value_type.tensor_type else {
        return Err(Error::shape(format!("{what} `{name}`: expected a tensor, found a value of another kind")));
    };
    let (rule, fits): (_, fn(ElementType) -> bool) = match role {
        Some(_) if lens => ("int32 or int64", |found| matches!(found, ElementType::I32 | ElementType::I64)),
        Some(_) => ("float32", |found| found == ElementType::F32),
        None => ("a supported element type", |_| true),
    };
    let declared = if is_half(tensor_type.elem_type) { FLOAT } else { tensor_type.elem_type };
    let element_type = element_type(declared).filter(|&found| fits(found)).ok_or_else(|| {
        Error::shape(format!("{what} `{name}`: expected {rule}, found {}, which is not supported", type_name(tensor_type.elem_type)))
    })?;
    let axes = match &tensor_type.shape {
        None => defaults.unwrap_or_default(),
        Some(shape) => {
            let rank = shape.dim.len();
            let unnamed = |axis: usize| match &defaults {
                Some(defaults) if defaults.len() == rank => defaults[axis].clone(),
                _ => AxisSize::Named(format!("{name}.{axis}")),
            };
            // Exporters write 0 and -1 for an axis whose size they do not know.
            let size = |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0);
            let axis = |(axis, dim): (usize, &DimensionProto)| match (size(dim.dim_value), &dim.dim_param) {
                (Some(size), _) => AxisSize::Fixed(size),
                (None, Some(param)) if !param.is_empty() => AxisSize::Named(param.clone()),
                (None, _) => unnamed(axis),
            };
            let axes: Vec<AxisSize> = shape.dim.iter().enumerate().map(axis).collect();
            if let ("input", Some(defaults)) = (what, &defaults) {
                check_declared(name, &axes, defaults)?;
            }
            axes
        }
    };
    Ok(Port { name: name.clone(), element_type, axes, optional })
}

/// Checks the axes that the graph declares for an input against those that its node and the node's weights need.
fn check_declared(name: &str, declared: &[AxisSize], needed: &[AxisSize]) -> Result<()> {
    let contradicts = |(declared, needed): (&AxisSize, &AxisSize)| matches!((declared, needed), (AxisSize::Fixed(a), AxisSize::Fixed(b)) if a != b);
    if declared.len() == needed.len() && !declared.iter().zip(needed).any(contradicts) {
        return Ok(());
    }
    let list = |axes: &[AxisSize]| axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::shape(format!("input `{name}`: expected [{}] as its node and weights have it, found [{}] declared", list(needed), list(declared))))
}
