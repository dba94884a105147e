//! How large tensors are that follow from constants: rten computes those as it loads a model, and lists of sizes that it follows symbol by symbol.

use std::collections::HashMap;

use super::proto::{FLOAT, NodeProto};

/// What is known of a tensor before a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// elements that it has at most
    pub(super) len: u64,
    /// whether it follows from constants alone
    pub(super) constant: bool,
    /// its elements, if it is a constant of whole numbers
    pub(super) values: Option<Vec<i64>>,
}

/// The tensors of a graph, and of those around it.
#[derive(Default)]
pub(super) struct Scope<'a> {
    own: HashMap<&'a str, Known>,
    outer: Option<&'a Self>,
}

impl<'a> Scope<'a> {
    /// A scope inside of `outer`.
    pub(super) fn within(outer: Option<&'a Self>) -> Self {
        Self { own: HashMap::new(), outer }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Known> {
        self.own.get(name).or_else(|| self.outer?.get(name))
    }

    pub(super) fn insert(&mut self, name: &'a str, known: Known) {
        self.own.insert(name, known);
    }

    /// The elements of input `k` of `node`, if it is a constant of whole numbers.
    pub(super) fn values(&self, node: &NodeProto, k: usize) -> Option<&[i64]> {
        self.get(node.input(k)?)?.values.as_deref()
    }
}

/// Axes that a tensor may be expected to have.
const AXES: u64 = 64;

/// How many elements an output of the node has at most, if its inputs have `lens`; `claimed` is what its constants ask for. `None` where that does
/// not follow.
pub(super) fn most(op_type: &str, lens: &[u64], claimed: Option<u64>) -> Option<u64> {
    let first = lens.first().copied();
    let product = || lens.iter().fold(1_u64, |len, &other| len.saturating_mul(other.max(1)));
    match op_type {
        "Abs"
        | "Acos"
        | "Acosh"
        | "ArgMax"
        | "ArgMin"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BatchNormalization"
        | "BitCast"
        | "Cast"
        | "CastLike"
        | "Ceil"
        | "Clip"
        | "Cos"
        | "Cosh"
        | "CumSum"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Flatten"
        | "Floor"
        | "Gelu"
        | "HardSigmoid"
        | "HardSwish"
        | "Identity"
        | "InstanceNormalization"
        | "IsInf"
        | "IsNaN"
        | "LayerNormalization"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "Neg"
        | "Not"
        | "QuantizeLinear"
        | "RMSNormalization"
        | "Reciprocal"
        | "ReduceL1"
        | "ReduceL2"
        | "ReduceLogSum"
        | "ReduceLogSumExp"
        | "ReduceMax"
        | "ReduceMean"
        | "ReduceMin"
        | "ReduceProd"
        | "ReduceSum"
        | "ReduceSumSquare"
        | "Relu"
        | "Reshape"
        | "ReverseSequence"
        | "Round"
        | "Scatter"
        | "ScatterElements"
        | "ScatterND"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Slice"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "Split"
        | "Sqrt"
        | "Squeeze"
        | "Swish"
        | "Tan"
        | "Tanh"
        | "TopK"
        | "Transpose"
        | "Trilu"
        | "Unsqueeze" => first,
        "NonZero" => first.map(|len| len.saturating_mul(AXES)),
        "Shape" => Some(AXES),
        "Size" => Some(1),
        "Constant" => Some(0),
        "Concat" => Some(lens.iter().fold(0, |len, &other| len.saturating_add(other))),
        // [n, 1] and [1, m] make [n, m]; so do rows and columns
        "Add" | "And" | "Div" | "Equal" | "Gemm" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "MatMul" | "MatMulInteger" | "Max"
        | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "Sub" | "Sum" | "Where" | "Xor" | "Gather" | "GatherElements" | "GatherND" => {
            Some(product())
        }
        "ConstantOfShape" | "Range" => claimed,
        "Expand" | "OneHot" | "Tile" => claimed.zip(first).map(|(claimed, first)| claimed.saturating_mul(first.max(1))),
        _ => None,
    }
}

/// How many sizes there are at most in the list that the node makes of lists of sizes, which rten follows as symbols; `None` where it makes no list.
pub(super) fn listed(node: &NodeProto, lens: &[u64], claimed: Option<u64>) -> Option<u64> {
    /// longer ones are not followed
    const LONGEST_RANGE: u64 = 1024;
    let first = lens.first().copied();
    match node.op_type.as_str() {
        "Shape" => Some(AXES),
        "Size" => Some(1),
        "Add" | "Div" | "Equal" | "Mul" | "Sub" | "Where" => lens.iter().max().copied(),
        "Cast" | "Identity" | "Neg" | "Reshape" | "Slice" | "Squeeze" | "Unsqueeze" => first,
        "Concat" => Some(lens.iter().fold(0, |len, &other| len.saturating_add(other))),
        "Gather" => lens.get(1).copied(),
        "Range" => Some(LONGEST_RANGE),
        "ConstantOfShape" => {
            let value = node.attribute("value").and_then(|attribute| attribute.t.as_ref());
            value.filter(|value| value.data_type != FLOAT).map(|_| claimed.unwrap_or(u64::MAX))
        }
        _ => None,
    }
}
