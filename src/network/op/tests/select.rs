//! Operators that choose elements, and those that make tensors of nothing.

use super::*;

#[test]
fn tensors_are_joined() {
    let (a, b) = (arr2(&[[1_i64, 2]]).into(), arr2(&[[3_i64, 4], [5, 6]]).into());
    assert_eq!(run(&Op::Concat { axis: -2 }, &[&a, &b]), arr2(&[[1_i64, 2], [3, 4], [5, 6]]).into());
    assert_eq!(run(&Op::Concat { axis: 1 }, &[&a, &a]), arr2(&[[1_i64, 2, 1, 2]]).into());
    let words = "operator `Concat`: inputs: expected shapes that differ on axis 1 alone, found [1, 2] and [2, 2]";
    refused(&Op::Concat { axis: 1 }, &[&a, &b], ErrorKind::Shape, words);
    refused(
        &Op::Concat { axis: 0 },
        &[&arr0(1_i64).into()],
        ErrorKind::Shape,
        "operator `Concat`: axis: expected -0 or more and less than 0, found 0",
    );
    let floats = arr2(&[[1.0_f32, 2.0]]).into();
    refused(&Op::Concat { axis: 0 }, &[&a, &floats], ErrorKind::Shape, "operator `Concat`: inputs: expected int64 like the others, found float32");
}

#[test]
fn indices_choose() {
    let x = counting(&[2, 3]);
    let gather = |axis, indices: Tensor| run(&Op::Gather { axis }, &[&x, &indices]);
    assert_eq!(gather(1, arr2(&[[0_i32, -1]]).into()), ndarray::arr3(&[[[0_i64, 2]], [[3, 5]]]).into());
    assert_eq!(gather(0, arr0(-1_i64).into()), ints(&[3, 4, 5]));
    assert_eq!(gather(-1, ints(&[])).view().shape(), [2, 0]);
    for indices in [ints(&[2]), arr0(2_i64).into()] {
        let words = "operator `Gather`: indices: expected -2 or more and less than 2 for axis 0, found 2";
        refused(&Op::Gather { axis: 0 }, &[&x, &indices], ErrorKind::Shape, words);
    }
    let floats = arr1(&[0.0_f32]).into();
    refused(&Op::Gather { axis: 0 }, &[&x, &floats], ErrorKind::Shape, "operator `Gather`: indices: expected int32 or int64, found float32");
    let nothing = ArrayD::<f32>::zeros(IxDyn(&[0, 3])).into();
    assert!(run_all(&Op::Gather { axis: 0 }, &[&nothing, &ints(&[0])]).is_err());
}

#[test]
fn conditions_choose() {
    let condition = arr2(&[[true], [false]]).into();
    assert_eq!(run(&Op::Where, &[&condition, &ints(&[1, 2]), &ints(&[9])]), arr2(&[[1_i64, 2], [9, 9]]).into());
    let x = ints(&[1]);
    refused(&Op::Where, &[&x, &x, &x], ErrorKind::Shape, "operator `Where`: condition: expected bool, found int64");
    let places = run(&Op::NonZero, &[&arr2(&[[0.0_f32, 2.0], [-1.0, f32::NAN]]).into()]);
    assert_eq!(places, arr2(&[[0_i64, 1, 1], [1, 0, 1]]).into());
    assert_eq!(run(&Op::NonZero, &[&arr0(true).into()]).view().shape(), [0, 1]);
}

#[test]
fn sequences_turn_round() {
    let x = counting(&[3, 2]);
    let time_first = Op::ReverseSequence { batch_axis: 1, time_axis: 0 };
    assert_eq!(run(&time_first, &[&x, &ints(&[2, 3])]), arr2(&[[2_i64, 5], [0, 3], [4, 1]]).into());
    let batch_first = Op::ReverseSequence { batch_axis: 0, time_axis: 1 };
    assert_eq!(run(&batch_first, &[&x, &ints(&[2, 1, 0])]), arr2(&[[1_i64, 0], [2, 3], [4, 5]]).into());
    let words = "operator `ReverseSequence`: tensor `sequence_lens`: expected lengths from 0 to seq_len = 3, found 4 in row 1";
    refused(&time_first, &[&x, &ints(&[2, 4])], ErrorKind::Shape, words);
    let words = "operator `ReverseSequence`: attributes `batch_axis` and `time_axis`: expected 0 and 1 in either order, found (1, 1)";
    refused(&Op::ReverseSequence { batch_axis: 1, time_axis: 1 }, &[&x, &ints(&[1, 1])], ErrorKind::Shape, words);
}

#[test]
fn tensors_of_nothing() {
    let constant = |value: Tensor| Op::ConstantOfShape { value };
    assert_eq!(run(&constant(arr1(&[7_i8]).into()), &[&ints(&[1, 2])]), arr2(&[[7_i8, 7]]).into());
    assert_eq!(run(&constant(arr1(&[true]).into()), &[&ints(&[])]), arr0(true).into());
    refused(
        &constant(ints(&[1, 2])),
        &[&ints(&[1])],
        ErrorKind::Shape,
        "operator `ConstantOfShape`: attribute `value`: expected one element, found 2",
    );
    let words = "operator `ConstantOfShape`: sizes: expected 0 or more each, found -1";
    refused(&constant(ints(&[1])), &[&ints(&[-1])], ErrorKind::Shape, words);

    let range = |start: Tensor, limit: Tensor, delta: Tensor| run(&Op::Range, &[&start, &limit, &delta]);
    assert_eq!(range(arr0(1_i64).into(), arr0(8_i64).into(), arr0(3_i64).into()), ints(&[1, 4, 7]));
    assert_eq!(range(arr0(3_i32).into(), arr0(-1_i32).into(), arr0(-2_i32).into()), arr1(&[3_i32, 1]).into());
    assert_eq!(range(arr0(0_i64).into(), arr0(-1_i64).into(), arr0(1_i64).into()), ints(&[]));
    assert_eq!(range(arr0(0.0_f32).into(), arr0(1.0_f32).into(), arr0(0.4_f32).into()), arr1(&[0.0_f32, 0.4, 0.8]).into());
    let words = "operator `Range`: start, limit and delta: expected finite numbers and a delta other than 0, found others";
    let (zero, nan) = (arr0(0_i64).into(), arr0(f32::NAN).into());
    refused(&Op::Range, &[&zero, &zero, &zero], ErrorKind::Shape, words);
    refused(&Op::Range, &[&nan, &nan, &nan], ErrorKind::Shape, words);
    let words = "operator `Range`: start, limit and delta: expected one number each, found [2]";
    refused(&Op::Range, &[&ints(&[1, 2]), &zero, &zero], ErrorKind::Shape, words);
}
