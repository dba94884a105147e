//! Arithmetic, comparisons and reductions.

use super::*;

fn binary(binary: Binary, left: impl Into<Tensor>, right: impl Into<Tensor>) -> Tensor {
    run(&Op::Binary(binary), &[&left.into(), &right.into()])
}

#[test]
fn shapes_broadcast() {
    let sum = binary(Binary::Add, arr2(&[[1_i64], [2]]), arr1(&[10_i64, 20, 30]));
    assert_eq!(sum, arr2(&[[11_i64, 21, 31], [12, 22, 32]]).into());
    assert_eq!(binary(Binary::Mul, arr1(&[2_u8]), arr1::<u8>(&[])), arr1::<u8>(&[]).into());
    let (two, three) = (counting(&[2]), counting(&[3]));
    let words = "operator `Add`: shapes: expected ones that broadcast together, found [3] beside [2]";
    refused(&Op::Binary(Binary::Add), &[&two, &three], ErrorKind::Shape, words);
    let floats = arr1(&[1.0_f32]).into();
    refused(&Op::Binary(Binary::Add), &[&two, &floats], ErrorKind::Shape, "operator `Add`: inputs: expected int64 like the others, found float32");
    let truth: Tensor = arr1(&[true]).into();
    refused(&Op::Binary(Binary::Sub), &[&truth, &truth], ErrorKind::Shape, "operator `Sub`: expected numbers, found bool");
}

#[test]
fn integers_wrap_and_divide_towards_zero() {
    assert_eq!(binary(Binary::Add, arr1(&[i64::MAX]), arr1(&[1_i64])), ints(&[i64::MIN]));
    assert_eq!(binary(Binary::Sub, arr1(&[0_u8]), arr1(&[1_u8])), arr1(&[255_u8]).into());
    assert_eq!(binary(Binary::Div, arr1(&[-7_i64, 7, i64::MIN]), arr1(&[2_i64, -2, -1])), ints(&[-3, -3, i64::MIN]));
    assert_eq!(binary(Binary::Div, arr1(&[1.0, -1.0]), arr0(0.0)), arr1(&[f64::INFINITY, f64::NEG_INFINITY]).into());
    for op in [Binary::Div, Binary::Mod { fmod: false }, Binary::Mod { fmod: true }] {
        let words = format!("operator `{}`: divisor: expected no 0 among integers, found one", op.name());
        refused(&Op::Binary(op), &[&ints(&[1, 2]), &ints(&[1, 0])], ErrorKind::Shape, &words);
    }
    let (left, right) = (arr1(&[-7_i64, 7, -7, i64::MIN]), arr1(&[3_i64, -3, -3, -1]));
    assert_eq!(binary(Binary::Mod { fmod: false }, left.clone(), right.clone()), ints(&[2, -2, -1, 0]));
    assert_eq!(binary(Binary::Mod { fmod: true }, left, right), ints(&[-1, 1, -1, 0]));
    assert_eq!(binary(Binary::Mod { fmod: true }, arr1(&[-5.5_f32]), arr1(&[2.0_f32])), arr1(&[-1.5_f32]).into());
    let floats: Tensor = arr1(&[1.0_f32]).into();
    let words = "operator `Mod`: expected integers where attribute `fmod` is 0, found float32";
    refused(&Op::Binary(Binary::Mod { fmod: false }), &[&floats, &floats], ErrorKind::Shape, words);
}

#[test]
fn powers_keep_the_type_of_their_base() {
    assert_eq!(binary(Binary::Pow, arr1(&[2_i64, -3, 2, -1, 3]), arr1(&[62_i64, 3, -1, i64::MIN, 0])), ints(&[1 << 62, -27, 0, 1, 1]));
    assert_eq!(binary(Binary::Pow, arr1(&[2.0_f32]), arr1(&[-2_i32])), arr1(&[0.25_f32]).into());
    assert_eq!(binary(Binary::Pow, arr1(&[9_i32]), arr1(&[0.5])), arr1(&[3_i32]).into());
    let words = "operator `Pow`: base: expected no 0 to a negative power among integers, found one";
    refused(&Op::Binary(Binary::Pow), &[&ints(&[0]), &ints(&[-1])], ErrorKind::Shape, words);
}

#[test]
fn folds_take_any_number_of_inputs() {
    let (a, b, c) = (ints(&[1, 5]), ints(&[3]), counting(&[2, 1]));
    assert_eq!(run(&Op::Fold(Binary::Add), &[&a]), a);
    assert_eq!(run(&Op::Fold(Binary::Add), &[&a, &b, &c]), arr2(&[[4_i64, 8], [5, 9]]).into());
    assert_eq!(run(&Op::Fold(Binary::Max), &[&a, &b, &c]), arr2(&[[3_i64, 5], [3, 5]]).into());
    let nan = run(&Op::Fold(Binary::Min), &[&arr1(&[f32::NAN, 1.0]).into(), &arr1(&[1.0, f32::NAN]).into()]);
    assert!(nan.as_f32().is_some_and(|nan| nan.iter().all(|value| value.is_nan())));
    refused(&Op::Fold(Binary::Add), &[], ErrorKind::Config, "operator `Sum`: inputs: expected 1 or more, found 0");
}

#[test]
fn comparisons_and_truth_values() {
    let (a, b) = (ints(&[1, 2, 3]), ints(&[2]));
    let truth = |values: [bool; 3]| Tensor::from(arr1(&values));
    for (compare, expected) in [
        (Compare::Equal, [false, true, false]),
        (Compare::Less, [true, false, false]),
        (Compare::LessOrEqual, [true, true, false]),
        (Compare::Greater, [false, false, true]),
        (Compare::GreaterOrEqual, [false, true, true]),
    ] {
        assert_eq!(run(&Op::Compare(compare), &[&a, &b]), truth(expected), "{}", compare.name());
    }
    let (left, right) = (truth([false, false, true]), truth([false, true, true]));
    assert_eq!(run(&Op::Compare(Compare::Equal), &[&left, &right]), truth([true, false, true]));
    assert_eq!(run(&Op::Logic(Logic::And), &[&left, &right]), truth([false, false, true]));
    assert_eq!(run(&Op::Logic(Logic::Or), &[&left, &right]), truth([false, true, true]));
    assert_eq!(run(&Op::Logic(Logic::Xor), &[&left, &right]), truth([false, true, false]));
    assert_eq!(run(&Op::Not, &[&left]), truth([true, true, false]));
    refused(&Op::Compare(Compare::Less), &[&left, &right], ErrorKind::Shape, "operator `Less`: expected numbers, found bool");
    refused(&Op::Logic(Logic::Xor), &[&left, &a], ErrorKind::Shape, "operator `Xor`: inputs: expected bool like the others, found int64");
    refused(&Op::Not, &[&a], ErrorKind::Shape, "operator `Not`: inputs: expected bool like the others, found int64");
}

#[test]
fn functions_of_one_number() {
    let unary = |unary, values: [f64; 2]| run(&Op::Unary(unary), &[&arr1(&values).into()]);
    for (function, from, to) in [
        (Unary::Neg, [1.0, -2.0], [-1.0, 2.0]),
        (Unary::Abs, [1.0, -2.0], [1.0, 2.0]),
        (Unary::Sign, [0.0, -2.0], [0.0, -1.0]),
        (Unary::Floor, [1.5, -1.5], [1.0, -2.0]),
        (Unary::Ceil, [1.5, -1.5], [2.0, -1.0]),
        (Unary::Round, [1.5, -2.5], [2.0, -2.0]),
        (Unary::Sqrt, [4.0, 0.25], [2.0, 0.5]),
        (Unary::Reciprocal, [4.0, 0.25], [0.25, 4.0]),
        (Unary::Exp, [0.0, f64::NEG_INFINITY], [1.0, 0.0]),
        (Unary::Log, [1.0, 0.0], [0.0, f64::NEG_INFINITY]),
    ] {
        assert_eq!(unary(function, from), arr1(&to).into(), "{}", function.name());
    }
    assert_eq!(run(&Op::Unary(Unary::Abs), &[&ints(&[i64::MIN, -3])]), ints(&[i64::MIN, 3]));
    assert_eq!(run(&Op::Unary(Unary::Neg), &[&ints(&[i64::MIN, -3])]), ints(&[i64::MIN, 3]));
    assert_eq!(run(&Op::Unary(Unary::Sign), &[&arr1(&[0_u8, 9]).into()]), arr1(&[0_u8, 1]).into());
    refused(&Op::Unary(Unary::Sqrt), &[&ints(&[4])], ErrorKind::Shape, "operator `Sqrt`: expected float32 or float64, found int64");
    refused(&Op::Unary(Unary::Neg), &[&arr1(&[4_u8]).into()], ErrorKind::Shape, "operator `Neg`: expected numbers with a sign, found uint8");
}

#[test]
fn many_become_one() {
    let x = counting(&[2, 3]);
    let reduce = |how, axes: Option<&[i64]>, keep_dims| Op::Reduce { how, axes: axes.map(<[i64]>::to_vec), keep_dims, none_is_none: false };
    for (how, expected) in
        [(Reduction::Sum, [3, 12]), (Reduction::Prod, [0, 60]), (Reduction::Min, [0, 3]), (Reduction::Max, [2, 5]), (Reduction::Mean, [1, 4])]
    {
        assert_eq!(run(&reduce(how, Some(&[-1]), false), &[&x]), ints(&expected), "{}", how.name());
        assert_eq!(run(&reduce(how, None, false), &[&x, &ints(&[1])]), ints(&expected));
    }
    assert_eq!(run(&reduce(Reduction::Sum, None, true), &[&x]), arr2(&[[15_i64]]).into());
    assert_eq!(run(&reduce(Reduction::Max, Some(&[0]), true), &[&x]), arr2(&[[3_i64, 4, 5]]).into());
    let none = Op::Reduce { how: Reduction::Sum, axes: None, keep_dims: false, none_is_none: true };
    assert_eq!(run(&none, &[&x]), x);
    assert_eq!(run(&reduce(Reduction::Sum, None, false), &[&arr1(&[200_u8, 100]).into()]), arr0(44_u8).into());
    // the sum of many small numbers beside a large one
    let many = ndarray::Array1::from_shape_fn(1025, |index| if index == 0 { 16_777_216.0_f32 } else { 1.0 });
    assert_eq!(run(&reduce(Reduction::Sum, None, false), &[&many.into()]), arr0(16_778_240.0_f32).into());

    let empty: Tensor = ArrayD::<f32>::zeros(IxDyn(&[2, 0])).into();
    assert_eq!(run(&reduce(Reduction::Prod, Some(&[1]), false), &[&empty]), arr1(&[1.0_f32, 1.0]).into());
    assert_eq!(run(&reduce(Reduction::Min, Some(&[1]), false), &[&empty]), arr1(&[f32::INFINITY; 2]).into());
    assert_eq!(run(&reduce(Reduction::Mean, Some(&[0]), false), &[&empty]), arr1::<f32>(&[]).into());
    let words = "operator `ReduceMean`: axes [1]: expected elements to take the mean of, found none in [2, 0]";
    refused(&reduce(Reduction::Mean, Some(&[1]), false), &[&empty], ErrorKind::Shape, words);
    let words = "operator `ReduceSum`: axes: expected each axis once, found [1, -1]";
    refused(&reduce(Reduction::Sum, Some(&[1, -1]), false), &[&x], ErrorKind::Shape, words);
}
