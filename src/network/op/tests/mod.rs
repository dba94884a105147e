//! Every operator on small tensors, and what each refuses with which words.

mod arithmetic;
mod layout;
mod select;
mod strided;

use ndarray::{ArrayD, IxDyn, arr0, arr1, arr2};

use super::*;
use crate::error::ErrorKind;

/// Room for every result here.
const PLENTY: usize = 1 << 16;

/// Counting numbers.
fn counting(shape: &[usize]) -> Tensor {
    let numbers = (0..).take(shape.iter().product()).collect::<Vec<i64>>();
    ArrayD::from_shape_vec(IxDyn(shape), numbers).expect("as many").into()
}

fn ints(values: &[i64]) -> Tensor {
    arr1(values).into()
}

fn run_all(op: &Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let inputs: Vec<_> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
    op.run(&inputs, PLENTY)
}

/// The only result.
fn run(op: &Op, inputs: &[&Tensor]) -> Tensor {
    let mut results = run_all(op, inputs).expect("inputs that fit the operator");
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Runs what must be refused with these words.
fn refused(op: &Op, inputs: &[&Tensor], kind: ErrorKind, words: &str) {
    let error = run_all(op, inputs).expect_err("inputs that must be refused");
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
}

#[test]
fn inputs_are_counted() {
    let x = ints(&[1, 2]);
    refused(&Op::Identity, &[], ErrorKind::Config, "operator `Identity`: inputs: expected 1, found 0");
    refused(&Op::Concat { axis: 0 }, &[], ErrorKind::Config, "operator `Concat`: inputs: expected 1 or more, found 0");
    refused(&Op::Slice { ranges: None }, &[&x], ErrorKind::Config, "operator `Slice`: inputs: expected 3 to 5, found 1");
    refused(&Op::Where, &[&x, &x, &x, &x], ErrorKind::Config, "operator `Where`: inputs: expected 3, found 4");
    let missing = Op::Where.run(&[None, Some(x.view()), Some(x.view())], PLENTY).expect_err("no condition");
    assert_eq!(missing.to_string(), "operator `Where`: input 0: expected a tensor, found none");
    // what is left out at the end does not count
    assert_eq!(Op::Identity.run(&[Some(x.view()), None], PLENTY).expect("one input"), [x]);
}

#[test]
fn results_stay_within_the_budget() {
    let x = ints(&[1, 2, 3]);
    assert!(Op::Identity.run(&[Some(x.view())], 24).is_ok());
    let few = arr1(&[1_000_000_i64, 1_000_000]).into();
    let one: Tensor = arr0(1_i8).into();
    let huge = ints(&[i64::MAX, i64::MAX]);
    let words = |op: &Op, inputs: &[&Tensor]| {
        let inputs: Vec<_> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
        let error = op.run(&inputs, 23).expect_err("too little room");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        error.to_string()
    };
    assert_eq!(words(&Op::Identity, &[&x]), "operator `Identity`: result of int64, [3]: expected at most 23 bytes, found 24");
    assert_eq!(
        words(&Op::Expand, &[&one, &few]),
        "operator `Expand`: result of int8, [1000000, 1000000]: expected at most 23 bytes, found 1000000000000"
    );
    let zeros = Op::ConstantOfShape { value: arr1(&[0_u8]).into() };
    words(&zeros, &[&few]);
    words(&zeros, &[&huge]);
    words(&Op::Expand, &[&one, &huge]);
    words(&Op::Tile, &[&arr2(&[[1_u8, 2]]).into(), &huge]);
    words(&Op::Range, &[&arr0(i64::MIN).into(), &arr0(i64::MAX).into(), &arr0(1_i64).into()]);
    words(&Op::Range, &[&arr0(0.0).into(), &arr0(f64::MAX).into(), &arr0(0.5).into()]);
    words(&Op::Binary(Binary::Add), &[&counting(&[4, 1]), &counting(&[1, 4])]);
    words(&Op::Gather { axis: 0 }, &[&x, &ints(&[0; 4])]);
    words(&Op::Concat { axis: 0 }, &[&x, &x]);
    words(&Op::Cast { to: ElementType::F64 }, &[&x]);
    words(&Op::NonZero, &[&x]);
    // all results together
    let halves = Op::Split { axis: 0, parts: Parts { sizes: Some(vec![1, 2]), outputs: 2, uneven: false } };
    words(&halves, &[&x]);
}

#[test]
fn the_number_of_axes_has_a_limit() {
    let many = ArrayD::<f32>::zeros(IxDyn(&[1; 65])).into();
    refused(&Op::Identity, &[&many], ErrorKind::Limit, "operator `Identity`: shape: expected at most 64 axes, found 65");
    let axes: Vec<i64> = (0..70).collect();
    refused(&Op::Unsqueeze { axes: Some(axes) }, &[&ints(&[1])], ErrorKind::Limit, "operator `Unsqueeze`: shape: expected at most 64 axes, found 65");
    refused(
        &Op::Reshape { allow_zero: false },
        &[&ints(&[1]), &ints(&[1; 65])],
        ErrorKind::Limit,
        "operator `Reshape`: shape: expected at most 64 axes, found 65",
    );
}

#[test]
fn shapes_are_numbers() {
    let x = counting(&[2, 3, 4]);
    let shape = |start, end| run(&Op::Shape { start, end }, &[&x]);
    assert_eq!(shape(0, None), ints(&[2, 3, 4]));
    assert_eq!(shape(-2, Some(-1)), ints(&[3]));
    assert_eq!(shape(i64::MIN, Some(i64::MAX)), ints(&[2, 3, 4]));
    assert_eq!(shape(2, Some(1)), ints(&[]));
    assert_eq!(run(&Op::Size, &[&x]), arr0(24_i64).into());
    assert_eq!(Op::Size.of_shape(&[5, 0]), Some(arr0(0_i64).into()));
    assert_eq!(Op::Identity.of_shape(&[5]), None);
}

#[test]
fn casts_keep_what_the_type_can_hold() {
    let cast = |to, tensor: Tensor| run(&Op::Cast { to }, &[&tensor]);
    assert_eq!(cast(ElementType::I32, arr1(&[1.9_f32, -1.9, f32::NAN, 1e20]).into()), arr1(&[1, -1, 0, i32::MAX]).into());
    assert_eq!(cast(ElementType::Bool, arr1(&[0.0, 0.1, -2.0]).into()), arr1(&[false, true, true]).into());
    assert_eq!(cast(ElementType::U8, ints(&[-1, 256, 7])), arr1(&[255_u8, 0, 7]).into());
    assert_eq!(cast(ElementType::I8, ints(&[128])), arr1(&[-128_i8]).into());
    assert_eq!(cast(ElementType::F32, arr1(&[false, true]).into()), arr1(&[0.0_f32, 1.0]).into());
    assert_eq!(cast(ElementType::F64, arr1(&[0.5_f32]).into()), arr1(&[0.5]).into());
    assert_eq!(cast(ElementType::I64, ints(&[i64::MAX])), ints(&[i64::MAX]));
}
