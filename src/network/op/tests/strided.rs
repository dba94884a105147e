//! Places in a buffer, beside ndarray's own views of the same elements.

use ndarray::{ArrayViewD, Axis, Slice};
use proptest::prelude::*;

use super::*;

/// One step of a random walk; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Permute(Vec<usize>),
    Slice { axis: usize, start: usize, end: usize, step: isize },
    At { axis: usize, index: usize },
    Insert(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        prop::collection::vec(0..100_usize, 6).prop_map(Step::Permute),
        (0..100_usize, 0..100_usize, 0..100_usize, prop::sample::select(vec![-3, -2, -1, 1, 2, 3]))
            .prop_map(|(axis, start, end, step)| Step::Slice { axis, start, end, step }),
        (0..100_usize, 0..100_usize).prop_map(|(axis, index)| Step::At { axis, index }),
        (0..100_usize).prop_map(Step::Insert),
    ];
    prop::collection::vec(step, 0..5)
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1 => Just(0), 4 => Just(1), 15 => 2..5_usize], 0..5)
}

/// The place and ndarray's view after one step.
fn walk<'a>(place: &Strided, mut view: ArrayViewD<'a, usize>, step: &Step) -> (Strided, ArrayViewD<'a, usize>) {
    let rank = view.ndim();
    match step {
        Step::Permute(keys) => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.sort_by_key(|&axis| keys[axis % keys.len()]);
            (place.permuted(&perm), view.permuted_axes(perm))
        }
        Step::Slice { axis, start, end, step } if rank > 0 => {
            let axis = axis % rank;
            let (a, b) = (start % (view.shape()[axis] + 1), end % (view.shape()[axis] + 1));
            let (low, high) = (a.min(b), a.max(b));
            view.slice_axis_inplace(Axis(axis), Slice::new(low as isize, Some(high as isize), *step));
            let first = if *step < 0 { high.saturating_sub(1) } else { low };
            (place.sliced(axis, first, (high - low).div_ceil(step.unsigned_abs()), *step), view)
        }
        Step::At { axis, index } if rank > 0 && view.shape()[axis % rank] > 0 => {
            let index = index % view.shape()[axis % rank];
            (place.at(axis % rank, index), view.index_axis_move(Axis(axis % rank), index))
        }
        Step::Insert(axis) => (place.inserted(axis % (rank + 1)), view.insert_axis(Axis(axis % (rank + 1)))),
        _ => (place.clone(), view),
    }
}

/// Shapes of as many elements as `shape`: its axes cut in two or joined to one.
fn others(shape: &[usize], at: usize) -> Vec<Vec<usize>> {
    let len = shape.iter().product();
    let mut found = vec![vec![len], vec![1, len, 1]];
    if !shape.is_empty() {
        let axis = at % shape.len();
        let (before, after) = (&shape[..axis], &shape[axis + 1..]);
        found.extend((1..=shape[axis]).filter(|by| shape[axis].is_multiple_of(*by)).map(|by| [before, &[shape[axis] / by, by], after].concat()));
        if let Some((next, after)) = after.split_first() {
            found.push([before, &[shape[axis] * next], after].concat());
        }
    }
    found
}

proptest! {
    #[test]
    fn places_agree_with_ndarray(shape in shapes(), steps in steps(), at in 0..5_usize) {
        let elements: Vec<usize> = (0..shape.iter().product()).collect();
        let start = ArrayViewD::from_shape(IxDyn(&shape), &elements).expect("as many");
        let (place, view) = steps.iter().fold((Strided::contiguous(&shape), start), |(place, view), step| walk(&place, view, step));
        prop_assert_eq!(place.shape.as_slice(), view.shape());
        let found = place.view(0, &elements);
        prop_assert_eq!(&found, &view);
        prop_assert_eq!(place.is_contiguous(), view.is_standard_layout());
        prop_assert_eq!(found.first().copied(), elements.get(place.offset).copied().filter(|_| !found.is_empty()));
        // another shape: the same elements in the same order, and no `None` where axes are only cut or the place is contiguous
        for target in others(&place.shape, at) {
            let expected = view.to_shape(target.as_slice()).expect("as many");
            match place.reshaped(&target) {
                Some(place) => prop_assert_eq!(place.view(0, &elements), expected.view(), "{:?}", target),
                None => prop_assert!(!place.is_contiguous() && target.len() <= view.ndim().max(3), "{:?} to {:?}", place, target),
            }
        }
    }
}

#[test]
fn axes_merge_where_one_stride_says_it() {
    // [2, 3, 4] in a buffer of [2, 5, 4]: the last two axes are one in memory, the first is apart
    let part = Strided::contiguous(&[2, 5, 4]).sliced(1, 1, 3, 1);
    assert_eq!(part.reshaped(&[2, 12]).map(|place| (place.offset, place.strides.to_vec())), Some((4, vec![20, 1])));
    assert_eq!(part.reshaped(&[2, 1, 2, 6]).map(|place| place.strides.to_vec()), Some(vec![20, 20, 6, 1]));
    assert_eq!(part.reshaped(&[6, 4]), None);
    assert_eq!(part.reshaped(&[24]), None);
    assert_eq!(part.reshaped(&[2, 11]), None, "another number of elements");
    // backwards all the way
    let back = Strided::contiguous(&[6]).sliced(0, 5, 6, -1);
    assert_eq!(back.reshaped(&[2, 3]).map(|place| (place.offset, place.strides.to_vec())), Some((5, vec![-3, -1])));
    let empty = Strided::contiguous(&[0, 3]);
    assert!(empty.reshaped(&[3, 0]).is_some() && empty.reshaped(&[3]).is_none() && empty.is_contiguous());
    assert_eq!(Strided::contiguous(&[]).reshaped(&[1, 1]).map(|place| place.shape.to_vec()), Some(vec![1, 1]));
    // the same element again and again
    let repeated = Strided::contiguous(&[1]).broadcast(&[2, 3]);
    assert_eq!(repeated.reshaped(&[6]).map(|place| place.view(0, &[7]).sum()), Some(42));
}
