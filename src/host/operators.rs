//! Which operators rten has, and which of their variants it computes wrongly.

use super::proto::{BOOL, NodeProto};

/// The operators of the ONNX specification that rten has in the form this crate builds it: without `random`.
/// A test compares the list with what rten says of each.
pub(super) const OPERATORS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "BitCast",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Concat",
    "ConcatFromSequence",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "If",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "Loop",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "RMSNormalization",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "RotaryEmbedding",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "STFT",
    "SequenceLength",
    "Shape",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "SplitToSequence",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// The operators of ONNX Runtime's own domain that rten has.
pub(super) const MICROSOFT: &[&str] = &["BiasGelu", "FastGelu", "Gelu", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"];

/// An operator that the CPU does not have, or not in this variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// of the node
    pub(crate) node: String,
    /// `Operator`, or `domain/Operator` outside the specification
    pub(crate) operator: String,
    /// what of it is missing; empty where all of it is
    pub(crate) why: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (node `{}`)", self.operator, self.node)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
    }
}

/// Whether the CPU has this operator in at least one variant.
pub(crate) fn has_operator(domain: &str, op_type: &str) -> bool {
    match domain {
        "" | "ai.onnx" => OPERATORS.contains(&op_type),
        "com.microsoft" => MICROSOFT.contains(&op_type),
        _ => false,
    }
}

/// Of nodes given as (domain, operator, name), those whose operator the CPU does not have.
pub(crate) fn missing_operators<'a>(nodes: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Vec<Missing> {
    let missing = nodes.into_iter().filter(|(domain, op_type, _)| !has_operator(domain, op_type));
    missing.map(|(domain, op_type, name)| named(domain, op_type, name, String::new())).collect()
}

fn named(domain: &str, op_type: &str, name: &str, why: String) -> Missing {
    let operator = if matches!(domain, "" | "ai.onnx") { op_type.to_owned() } else { format!("{domain}/{op_type}") };
    Missing { node: name.to_owned(), operator, why }
}

/// What is missing of a node's operator: all of it, or the variant that the node asks for, where rten would take the node and
/// compute something else. `scale_len` is the number of elements of input 1 where that is a constant.
pub(super) fn missing(node: &NodeProto, opset: i64, scale_len: Option<usize>) -> Option<Missing> {
    if !has_operator(&node.domain, &node.op_type) {
        return Some(named(&node.domain, &node.op_type, &node.name, String::new()));
    }
    let int = |name: &str, default: i64| node.attribute(name).map_or(default, |attribute| attribute.i);
    let text = |name: &str| node.attribute(name).map_or(&b""[..], |attribute| &attribute.s);
    let uses = |k: usize| node.input(k).is_some();
    let why = match node.op_type.as_str() {
        // rten sums over the axis alone in every version
        "Softmax" | "LogSoftmax" if opset < 13 && int("axis", 1) != -1 => {
            format!("axis {} of operator set {opset}, which means all axes from it on; only the last axis is possible", int("axis", 1))
        }
        "Cast" if int("to", 0) == i64::from(BOOL) => "to bool keeps the numbers as they are".to_owned(),
        "Sign" => "of 0 is 1".to_owned(),
        "Softplus" => "of numbers above 88 is infinite".to_owned(),
        "ArgMax" | "ArgMin" => "of equal elements is the last one's place, not the first one's".to_owned(),
        "Resize" if text("mode") == b"cubic" => "mode cubic".to_owned(),
        "Conv" | "ConvInteger" | "ConvTranspose" | "MaxPool" | "AveragePool" if text("auto_pad") == b"SAME_LOWER" => "auto_pad SAME_LOWER".to_owned(),
        "BatchNormalization" if node.output.iter().skip(1).any(|name| !name.is_empty()) => "outputs of training".to_owned(),
        "DFT" if int("inverse", 0) != 0 && int("onesided", 0) != 0 && uses(1) => "an inverse of half a spectrum to a length that is given".to_owned(),
        "GRU" if int("linear_before_reset", 0) == 0 => "linear_before_reset 0".to_owned(),
        "LSTM" | "GRU" if uses(4) => "sequence_lens".to_owned(),
        "LSTM" if uses(7) => "peepholes".to_owned(),
        "QuantizeLinear" if node.attribute("axis").is_none() && scale_len != Some(1) => "scales along an axis that the node does not name".to_owned(),
        _ => return None,
    };
    Some(named(&node.domain, &node.op_type, &node.name, why))
}
