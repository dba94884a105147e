//! Whether the inputs of a call are those that a network takes.

use crate::error::{Error, Result};
use crate::network::{Network, Port, Step};
use crate::tensor::ElementType::{I32, I64};
use crate::tensor::{Inputs, TensorView};

/// Checks names, presence, element types and numbers of axes; sizes are checked by what reads them. A call on a state that is `carried` gives none.
pub(super) fn check(network: &Network, inputs: &Inputs<'_>, carried: bool) -> Result<()> {
    for name in inputs.names() {
        network.input(name)?;
    }
    let is_state = |name: &str| {
        let reads = |part: &Option<String>| part.as_deref() == Some(name);
        network.nodes.iter().any(|node| network.carries(node) && (reads(&node.h_0) || reads(&node.c_0)))
    };
    // an LSTM names the axes that it wants better than a declaration does
    let only_lstms = network.program.steps.iter().all(|step| matches!(step, Step::Lstm(_)));
    for port in &network.inputs {
        match inputs.get(&port.name) {
            Some(_) if carried && is_state(&port.name) => {
                return Err(Error::config(format!("input `{}`: an initial state, but the call carries a state already", port.name)));
            }
            Some(tensor) => {
                check_element_type(port, tensor)?;
                if !only_lstms {
                    check_rank(port, tensor)?;
                }
            }
            None if port.optional || (carried && is_state(&port.name)) => {}
            None => return Err(Error::shape(format!("input `{}`: missing", port.name))),
        }
    }
    Ok(())
}

fn check_element_type(port: &Port, tensor: &TensorView<'_>) -> Result<()> {
    let (expected, found) = (port.element_type, tensor.element_type());
    // lengths are int64 in PyTorch and int32 in ONNX; NumPy users have either
    if expected == found || (matches!(expected, I32 | I64) && matches!(found, I32 | I64)) {
        Ok(())
    } else {
        Err(Error::shape(format!("input `{}`: expected {expected}, found {found}", port.name)))
    }
}

fn check_rank(port: &Port, tensor: &TensorView<'_>) -> Result<()> {
    // a model may say nothing of a tensor's axes, and says as much of a scalar
    if port.axes.is_empty() || port.axes.len() == tensor.shape().len() {
        return Ok(());
    }
    let axes: Vec<String> = port.axes.iter().map(ToString::to_string).collect();
    Err(Error::shape(format!("input `{}`: expected [{}], found {:?}", port.name, axes.join(", "), tensor.shape())))
}
