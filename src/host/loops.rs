//! Loops that would not end, or would take their time while a model is loaded: rten computes at once whatever follows from constants alone.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};
use crate::error::{Error, Result};

/// Trips that loops over constants may make while a model is loaded.
const MOST_TRIPS: i64 = 1 << 20;

/// rten counts trips as `int32`, so that this many stand for no end.
const ENDLESS: i64 = i32::MAX as i64;

/// Numbers that are known before a run, by name.
type Numbers<'a> = HashMap<&'a str, Vec<i64>>;

/// What rten knows as it loads a graph: tensors that follow from constants alone.
#[derive(Clone, Default)]
pub(super) struct AtLoad<'a> {
    names: HashSet<&'a str>,
    /// trips that the loops around the graph make then; 0 around one that waits for a run
    trips: i64,
}

impl<'a> AtLoad<'a> {
    /// Adds what is known at the start of `graph`.
    pub(super) fn enter(&self, graph: &'a GraphProto) -> Self {
        let mut inside = self.clone();
        inside.names.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
        inside
    }

    /// Adds the outputs of `node` where all that it reads is known; whether it is.
    pub(super) fn note(&mut self, node: &'a NodeProto) -> bool {
        let mut reads = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect::<HashSet<_>>();
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|graph| captured(graph, &mut reads));
        let known = reads.is_subset(&self.names);
        if known {
            self.names.extend(node.output.iter().map(String::as_str));
        }
        known
    }

    /// What is known in the body of the loop `node`, which is computed at load if `known`; refuses a loop that has no end.
    pub(super) fn body(&self, node: &'a NodeProto, body: &'a GraphProto, known: bool, numbers: &Numbers<'_>) -> Result<Self> {
        let mut inside = self.clone();
        let first = |name: &str| numbers.get(name).and_then(|values| values.first().copied());
        let trips = match node.input(0) {
            None => i64::MAX,
            Some(name) => first(name).unwrap_or(if known { i64::MAX } else { 0 }),
        };
        let refused = |found: &str| Err(Error::limit(format!("node `{}` (Loop): expected one that ends, found {found}", node.name)));
        if trips >= ENDLESS && goes_on(node, body, numbers) {
            return refused("no bound of its trips, and a condition that always holds");
        }
        if known {
            inside.trips = self.trips.max(1).saturating_mul(trips.max(1));
            if inside.trips > MOST_TRIPS {
                return refused(&format!("constants alone, which it may go over more than {MOST_TRIPS} times while the model is loaded"));
            }
            inside.names.extend(body.input.iter().map(|input| input.name.as_str()));
        }
        Ok(inside)
    }
}

/// Adds the names that `graph` reads and does not make.
fn captured<'a>(graph: &'a GraphProto, reads: &mut HashSet<&'a str>) {
    let mut inner = graph.output.iter().map(|output| output.name.as_str()).collect::<HashSet<_>>();
    for node in &graph.node {
        inner.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|graph| captured(graph, &mut inner));
    }
    let own = graph.input.iter().map(|input| &input.name).chain(graph.initializer.iter().map(|tensor| &tensor.name));
    let own = own.chain(graph.node.iter().flat_map(|node| &node.output)).map(String::as_str).collect::<HashSet<_>>();
    reads.extend(inner.difference(&own));
}

/// Whether the condition of the loop `node` holds for ever, by what its body says alone.
fn goes_on(node: &NodeProto, body: &GraphProto, numbers: &Numbers<'_>) -> bool {
    let is_true = |name: &str| {
        let constant = body.node.iter().find(|node| node.op_type == "Constant" && node.output.iter().any(|output| output == name));
        let own = body.initializer.iter().find(|tensor| tensor.name == name);
        let tensor = own.or_else(|| constant.and_then(|node| node.attribute("value")).and_then(|value| value.t.as_ref()));
        let values = tensor.and_then(|tensor| tensor.integers());
        values.as_ref().or_else(|| numbers.get(name)).and_then(|values| values.first()).is_some_and(|&value| value != 0)
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
