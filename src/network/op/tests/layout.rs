//! Layout operators. Each is run in all its forms, which must agree: a copy, and a place in a buffer.

use super::*;

/// The results of `op`, after a check that its place, wherever it is, says the same.
fn check(op: &Op, inputs: &[&Tensor]) -> Vec<Tensor> {
    let results = run_all(op, inputs).expect("inputs that fit the operator");
    let inputs: Vec<_> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
    let Some(Tensor::I64(array)) = inputs[0].as_ref().map(TensorView::to_owned) else { panic!("int64 here") };
    // the same tensor with its axes the other way round in memory
    let turned = array.t().as_standard_layout().into_owned();
    let perm: Vec<usize> = (0..array.ndim()).rev().collect();
    let places = [(&array, Strided::contiguous(array.shape())), (&turned, Strided::contiguous(turned.shape()).permuted(&perm))];
    for (buffer, place) in places {
        let elements = buffer.as_slice().expect("in row-major order");
        let view = place.view(0, elements);
        let mut others = vec![Some(view.into())];
        others.extend(inputs[1..].iter().cloned());
        assert_eq!(op.run(&others, PLENTY).expect("as above"), results, "strides {:?}", place.strides);
        if let Some(places) = op.relayout(&place, &inputs[1..]).expect("as above") {
            let found: Vec<Tensor> = places.iter().map(|place| place.view(0, elements).to_owned().into()).collect();
            assert_eq!(found, results, "place");
        }
    }
    results
}

fn one(op: &Op, inputs: &[&Tensor]) -> Tensor {
    let mut results = check(op, inputs);
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// The shape of the only result.
fn shape(op: &Op, inputs: &[&Tensor]) -> Vec<usize> {
    one(op, inputs).view().shape().to_vec()
}

fn sliced(x: &Tensor, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Tensor {
    one(&Op::Slice { ranges: None }, &[x, &ints(starts), &ints(ends), &ints(axes), &ints(steps)])
}

#[test]
fn axes_change_places() {
    let x = counting(&[2, 3]);
    assert_eq!(one(&Op::Identity, &[&x]), x);
    assert_eq!(one(&Op::Transpose { perm: None }, &[&x]), arr2(&[[0_i64, 3], [1, 4], [2, 5]]).into());
    assert_eq!(shape(&Op::Transpose { perm: Some(vec![2, 0, 1]) }, &[&counting(&[2, 3, 4])]), [4, 2, 3]);
    let words = "operator `Transpose`: attribute `perm`: expected every one of 2 axes once, found [0, 0]";
    refused(&Op::Transpose { perm: Some(vec![0, 0]) }, &[&x], ErrorKind::Shape, words);
    assert!(run_all(&Op::Transpose { perm: Some(vec![0, -1]) }, &[&x]).is_err());
}

#[test]
fn elements_stand_under_other_axes() {
    let (x, keep) = (counting(&[2, 3, 4]), Op::Reshape { allow_zero: false });
    for (target, expected) in [(vec![0, -1], vec![2, 12]), (vec![-1], vec![24]), (vec![4, 6], vec![4, 6]), (vec![2, 1, 12, 1], vec![2, 1, 12, 1])] {
        assert_eq!(shape(&keep, &[&x, &ints(&target)]), expected);
    }
    assert!(run_all(&keep, &[&counting(&[0, 3]), &ints(&[3, 0])]).is_err(), "0 is the 3 that was there");
    assert_eq!(shape(&Op::Reshape { allow_zero: true }, &[&counting(&[0, 3]), &ints(&[5, 0])]), [5, 0]);
    for (target, rule) in [
        ([-1, -1], "at most one -1"),
        ([5, -1], "as many elements as there are"),
        ([5, 5], "as many elements as there are"),
        ([24, -2], "sizes of 0 or more, or -1"),
    ] {
        let words = format!("operator `Reshape`: shape: expected {rule}, found {target:?} for [2, 3, 4]");
        refused(&keep, &[&x, &ints(&target)], ErrorKind::Shape, &words);
    }
    assert!(run_all(&Op::Reshape { allow_zero: true }, &[&counting(&[0]), &ints(&[0, -1])]).is_err());
    assert!(run_all(&keep, &[&counting(&[1]), &ints(&[1, 0])]).is_err());
    let words = "operator `Reshape`: input 1: expected int32 or int64, found float32";
    refused(&keep, &[&x, &arr1(&[24.0_f32]).into()], ErrorKind::Shape, words);
    refused(&keep, &[&x, &counting(&[1, 1])], ErrorKind::Shape, "operator `Reshape`: input 1: expected a list, found [1, 1]");

    for (axis, expected) in [(0, [1, 24]), (1, [2, 12]), (3, [24, 1]), (-1, [6, 4]), (-3, [1, 24])] {
        assert_eq!(shape(&Op::Flatten { axis }, &[&x]), expected);
    }
    assert_eq!(shape(&Op::Flatten { axis: 0 }, &[&counting(&[])]), [1, 1]);
    for axis in [4, -4, i64::MIN, i64::MAX] {
        assert!(run_all(&Op::Flatten { axis }, &[&x]).is_err());
    }
}

#[test]
fn axes_of_size_1_come_and_go() {
    let x = counting(&[1, 3, 1, 2]);
    for (axes, expected) in [(None, vec![3, 2]), (Some(vec![]), vec![3, 2]), (Some(vec![-2]), vec![1, 3, 2]), (Some(vec![2, 0]), vec![3, 2])] {
        assert_eq!(shape(&Op::Squeeze { axes: axes.clone() }, &[&x]), expected);
        if let Some(axes) = axes {
            assert_eq!(shape(&Op::Squeeze { axes: None }, &[&x, &ints(&axes)]), expected);
        }
    }
    let words = "operator `Squeeze`: axis 1: expected size 1 in order to leave it out, found 3";
    refused(&Op::Squeeze { axes: Some(vec![1]) }, &[&x], ErrorKind::Shape, words);
    let words = "operator `Squeeze`: axis: expected -4 or more and less than 4, found 4";
    refused(&Op::Squeeze { axes: Some(vec![4]) }, &[&x], ErrorKind::Shape, words);

    let x = counting(&[3, 2]);
    assert_eq!(shape(&Op::Unsqueeze { axes: Some(vec![-1, 0]) }, &[&x]), [1, 3, 2, 1]);
    assert_eq!(shape(&Op::Unsqueeze { axes: None }, &[&x, &ints(&[1])]), [3, 1, 2]);
    let words = "operator `Unsqueeze`: axes: expected each axis once, found [0, -4]";
    refused(&Op::Unsqueeze { axes: Some(vec![0, -4]) }, &[&x], ErrorKind::Shape, words);
}

#[test]
fn slices_stop_at_the_ends() {
    let x = counting(&[6]);
    for (start, end, step, expected) in [
        (1, 4, 1, vec![1, 2, 3]),
        (-2, i64::MAX, 1, vec![4, 5]),
        (i64::MIN, i64::MAX, 2, vec![0, 2, 4]),
        (i64::MAX, i64::MIN, -1, vec![5, 4, 3, 2, 1, 0]),
        (4, 0, -3, vec![4, 1]),
        (-1, -3, -1, vec![5, 4]),
        (2, 2, 1, vec![]),
        (0, 6, i64::MAX, vec![0]),
        (5, i64::MIN, i64::MIN, vec![5]),
        // an index before the axis is its first one: here ONNX is not NumPy
        (-100, i64::MIN, -1, vec![0]),
    ] {
        assert_eq!(sliced(&x, &[start], &[end], &[0], &[step]), ints(&expected), "{start} {end} {step}");
    }
    assert_eq!(sliced(&counting(&[0]), &[5], &[-9], &[0], &[-1]), ints(&[]));
    let x = counting(&[3, 4]);
    assert_eq!(sliced(&x, &[-1, 1], &[i64::MIN, 3], &[0, -1], &[-2, 1]), arr2(&[[9_i64, 10], [1, 2]]).into());
    let ranges = Ranges { starts: vec![1], ends: vec![2], axes: None, steps: None };
    assert_eq!(one(&Op::Slice { ranges: Some(ranges) }, &[&x]), arr2(&[[4_i64, 5, 6, 7]]).into());

    let op = Op::Slice { ranges: None };
    let (zero, two) = (ints(&[0]), ints(&[0, 0]));
    let words = "operator `Slice`: steps: expected another step than 0, found 0";
    refused(&op, &[&x, &zero, &zero, &zero, &zero], ErrorKind::Shape, words);
    let words = "operator `Slice`: starts, ends, axes and steps: expected one each for an axis of [3, 4], found [1, 2, 1, 1]";
    refused(&op, &[&x, &zero, &two], ErrorKind::Shape, words);
    refused(&op, &[&x, &two, &two, &two], ErrorKind::Shape, "operator `Slice`: axes: expected each axis once, found [0, 0]");
}

#[test]
fn parts_add_up() {
    let x = counting(&[2, 5]);
    let split =
        |axis, sizes: Option<&[i64]>, outputs, uneven| Op::Split { axis, parts: Parts { sizes: sizes.map(<[i64]>::to_vec), outputs, uneven } };
    let lens = |results: Vec<Tensor>| results.iter().map(|part| part.view().shape()[1]).collect::<Vec<_>>();
    assert_eq!(lens(check(&split(1, Some(&[2, 0, 3]), 3, false), &[&x])), [2, 0, 3]);
    assert_eq!(lens(check(&split(-1, None, 2, false), &[&x, &ints(&[4, 1])])), [4, 1]);
    assert_eq!(lens(check(&split(1, None, 3, true), &[&x])), [2, 2, 1]);
    let parts = check(&split(0, None, 2, false), &[&x]);
    assert_eq!(parts[1], arr2(&[[5_i64, 6, 7, 8, 9]]).into());
    let words = "operator `Split`: axis 1: expected a size to split into 2 parts, found 5";
    refused(&split(1, None, 2, false), &[&x], ErrorKind::Shape, words);
    assert!(run_all(&split(1, None, 4, true), &[&x]).is_err(), "2, 2, 1 and nothing");
    assert!(run_all(&split(1, None, 0, true), &[&x]).is_err());
    for sizes in [[2, 2], [6, -1], [i64::MAX, i64::MAX]] {
        let words = format!("split: expected 2 sizes that add up to 5, found {sizes:?}");
        let error = run_all(&split(1, Some(&sizes), 2, false), &[&x]).expect_err("other sizes").to_string();
        assert!(error.ends_with(&words) || error.ends_with("expected 0 or more each, found -1"), "{error}");
    }
}

#[test]
fn tensors_repeat() {
    let x = arr2(&[[1_i64, 2]]).into();
    assert_eq!(one(&Op::Expand, &[&x, &ints(&[2, 1])]), arr2(&[[1_i64, 2], [1, 2]]).into());
    assert_eq!(shape(&Op::Expand, &[&x, &ints(&[3, 0, 1])]), [3, 0, 2]);
    let words = "operator `Expand`: shapes: expected ones that broadcast together, found [3] beside [1, 2]";
    refused(&Op::Expand, &[&x, &ints(&[3])], ErrorKind::Shape, words);
    refused(&Op::Expand, &[&x, &ints(&[-1])], ErrorKind::Shape, "operator `Expand`: sizes: expected 0 or more each, found -1");
    assert_eq!(one(&Op::Tile, &[&x, &ints(&[2, 2])]), arr2(&[[1_i64, 2, 1, 2], [1, 2, 1, 2]]).into());
    assert_eq!(one(&Op::Tile, &[&x, &ints(&[1, 1])]), x);
    assert_eq!(shape(&Op::Tile, &[&x, &ints(&[0, 3])]), [0, 6]);
    refused(&Op::Tile, &[&x, &ints(&[2])], ErrorKind::Shape, "operator `Tile`: repeats: expected one for each axis of [1, 2], found 1");
}

#[test]
fn what_stays_where_it_is() {
    let (x, others) = (Strided::contiguous(&[2, 3]), [Some(ints(&[1]))]);
    let others: Vec<_> = others.iter().map(|other| other.as_ref().map(Tensor::view)).collect();
    let last = Op::Gather { axis: 0 }.relayout(&x, &[Some(TensorView::from(arr0(-1_i64).view()))]).expect("an index");
    assert_eq!(last, Some(vec![x.at(0, 1)]));
    assert_eq!(Op::Gather { axis: 0 }.relayout(&x, &others).expect("an index in a list"), None);
    assert_eq!(Op::Unary(Unary::Neg).relayout(&x, &[]).expect("an operator of its own"), None);
    assert!(Op::Gather { axis: 0 }.relayout(&x, &[]).is_err(), "no index");
    // columns, then one axis: no stride says it
    let turned = x.permuted(&[1, 0]);
    assert_eq!(Op::Flatten { axis: 0 }.relayout(&turned, &[]).expect("two axes"), None);
}
