//! Loops that would not end.

use super::bounds::Scope;
use super::proto::{GraphProto, NodeProto};
use crate::error::{Error, Result};

/// rten counts trips as `int32`, so that this many stand for no end.
const ENDLESS: i64 = i32::MAX as i64;

/// Refuses the loop `node` where neither its bound nor its condition, by what its body says alone, can end it.
pub(super) fn check(node: &NodeProto, body: &GraphProto, scope: &Scope<'_>) -> Result<()> {
    let trips = match node.input(0) {
        None => i64::MAX,
        Some(_) => scope.values(node, 0).and_then(|values| values.first().copied()).unwrap_or(0),
    };
    if trips < ENDLESS || !goes_on(node, body, scope) {
        return Ok(());
    }
    let found = "no bound of its trips, and a condition that always holds";
    Err(Error::limit(format!("node `{}` (Loop): expected one that ends, found {found}", node.name)))
}

/// Whether the condition of the loop `node` holds for ever, by what its body says alone.
fn goes_on(node: &NodeProto, body: &GraphProto, scope: &Scope<'_>) -> bool {
    let is_true = |name: &str| {
        let constant = body.node.iter().find(|node| node.op_type == "Constant" && node.output.iter().any(|output| output == name));
        let own = body.initializer.iter().find(|tensor| tensor.name == name);
        let tensor = own.or_else(|| constant.and_then(|node| node.attribute("value")).and_then(|value| value.t.as_ref()));
        let values = tensor.and_then(|tensor| tensor.integers());
        values.as_deref().or_else(|| scope.get(name)?.values.as_deref()).and_then(|values| values.first()).is_some_and(|&value| value != 0)
    };
    let Some(mut name) = body.output.first().map(|output| output.name.as_str()) else { return false };
    // as many steps as there are nodes end any chain of them
    for _ in 0..=body.node.len() {
        if body.input.get(1).is_some_and(|condition| condition.name == name) {
            return node.input(1).is_none_or(is_true);
        }
        let maker = body.node.iter().find(|node| node.output.first().is_some_and(|output| output == name));
        match maker.filter(|maker| matches!(maker.op_type.as_str(), "Identity" | "Cast")).and_then(|maker| maker.input(0)) {
            Some(source) => name = source,
            None => return is_true(name),
        }
    }
    false
}
