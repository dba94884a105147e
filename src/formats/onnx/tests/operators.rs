//! Nodes of operators other than LSTM, in the forms of all opsets.

use super::*;
use crate::formats::onnx::operator;
use crate::formats::onnx::tensor::{BOOL, FLOAT16, INT8};
use crate::network::op::{Binary, Op, Parts, Ranges, Reduction};
use crate::tensor::ElementType;

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeKind::Ints) }
}

/// What a node with these attributes is, in this opset.
fn op(op_type: &str, attributes: &[AttributeProto], opset: i64) -> Result<Option<Op>> {
    operator::read(&NodeProto { attribute: attributes.to_vec(), ..node(op_type, "n", &["x"], &["y", "z"]) }, opset)
}

fn is(op_type: &str, attributes: &[AttributeProto], opset: i64, expected: &Op) {
    assert_eq!(op(op_type, attributes, opset).expect("attributes that fit").as_ref(), Some(expected), "{op_type} of opset {opset}");
}

fn words(op_type: &str, attributes: &[AttributeProto], opset: i64, words: &str) {
    let error = op(op_type, attributes, opset).expect_err("attributes that must be refused");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Config, format!("operator `{op_type}` of node `n`: {words}")));
}

#[test]
fn attributes_became_inputs() {
    let axes = [ints("axes", &[0, -1])];
    is("Squeeze", &[], 11, &Op::Squeeze { axes: None });
    is("Squeeze", &axes, 11, &Op::Squeeze { axes: Some(vec![0, -1]) });
    is("Squeeze", &[], 13, &Op::Squeeze { axes: None });
    is("Unsqueeze", &axes, 12, &Op::Unsqueeze { axes: Some(vec![0, -1]) });
    is("Unsqueeze", &[], 13, &Op::Unsqueeze { axes: None });
    words("Unsqueeze", &axes, 13, "attribute `axes`: expected an attribute of the operator, found one that it does not have in this opset");
    words("Unsqueeze", &[], 12, "attribute `axes`: expected one of that name, found none");
    let ranges = Ranges { starts: vec![1], ends: vec![2], axes: None, steps: None };
    is("Slice", &[ints("starts", &[1]), ints("ends", &[2])], 9, &Op::Slice { ranges: Some(ranges) });
    is("Slice", &[], 10, &Op::Slice { ranges: None });
    let parts = |sizes, uneven| Op::Split { axis: 0, parts: Parts { sizes, outputs: 2, uneven } };
    is("Split", &[ints("split", &[1, 2])], 11, &parts(Some(vec![1, 2]), false));
    is("Split", &[], 13, &parts(None, false));
    is("Split", &[int("num_outputs", 2)], 18, &parts(None, true));
    words("Split", &[int("num_outputs", 3)], 18, "attribute `num_outputs`: expected 2, one for each output, found 3");
    let reduce = |how, axes, none_is_none| Op::Reduce { how, axes, keep_dims: false, none_is_none };
    let keep = int("keepdims", 0);
    is("ReduceSum", &[keep.clone(), ints("axes", &[1])], 11, &reduce(Reduction::Sum, Some(vec![1]), false));
    is("ReduceSum", &[keep.clone(), int("noop_with_empty_axes", 1)], 13, &reduce(Reduction::Sum, None, true));
    is("ReduceMax", std::slice::from_ref(&keep), 17, &reduce(Reduction::Max, Some(vec![]), false));
    is("ReduceMax", &[keep], 18, &reduce(Reduction::Max, None, false));
    is("Shape", &[], 13, &Op::Shape { start: 0, end: None });
    is("Shape", &[int("start", 1), int("end", -1)], 15, &Op::Shape { start: 1, end: Some(-1) });
    is("Reshape", &[int("allowzero", 1)], 14, &Op::Reshape { allow_zero: true });
    is("Mod", &[int("fmod", 1)], 10, &Op::Binary(Binary::Mod { fmod: true }));
    is("Sum", &[], 8, &Op::Fold(Binary::Add));
}

#[test]
fn element_types_of_other_libraries_are_theirs() {
    is("Cast", &[int("to", BOOL.into())], 9, &Op::Cast { to: ElementType::Bool });
    assert!(op("Cast", &[int("to", FLOAT16.into())], 9).expect("a half").is_none());
    words("Cast", &[float("to", 1.0)], 9, "attribute `to`: expected an int, found an attribute of ONNX type 1");
    let value = |data_type| AttributeProto {
        t: Some(TensorProto { data_type, dims: vec![1], int32_data: vec![3], ..TensorProto::default() }),
        ..attribute("value", AttributeKind::Tensor)
    };
    is("ConstantOfShape", &[], 9, &Op::ConstantOfShape { value: ndarray::arr1(&[0.0_f32]).into() });
    is("ConstantOfShape", &[value(INT8)], 9, &Op::ConstantOfShape { value: ndarray::arr1(&[3_i8]).into() });
    assert!(op("ConstantOfShape", &[value(FLOAT16)], 9).expect("a half").is_none());
    assert!(op("ConstantOfShape", &[value(FLOAT)], 9).is_err(), "no element");
}

#[test]
fn other_operators_are_none() {
    for op_type in ["MatMul", "ReduceL2", "LSTM"] {
        assert!(op(op_type, &[int("whatever", 1)], 13).expect("not read").is_none(), "{op_type}");
    }
    assert!(op("Range", &[], 10).expect("opset 11 has it").is_none());
    let mut node = node("Add", "n", &["x"], &["y"]);
    for (domain, known) in [("", true), ("ai.onnx", true), ("com.microsoft", false)] {
        node.domain = domain.to_owned();
        assert_eq!(operator::read(&node, 13).expect("no attributes").is_some(), known, "{domain}");
    }
    words("Concat", &[int("axis", 0), int("axis", 1)], 13, "attribute `axis`: expected one of that name, found two");
}
