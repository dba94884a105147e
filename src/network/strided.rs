//! Where the elements of a tensor stand in a buffer: what operators on axes change, without the elements themselves.

use std::ops::Range;

use ndarray::{ArrayViewD, Axis, IxDyn, ShapeBuilder};

/// A tensor's place in a buffer: element `[i, j, ...]` is number `offset + i*strides[0] + j*strides[1] + ...` of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    /// number of the first element
    pub(crate) offset: usize,
    /// the size of every axis
    pub(crate) shape: Vec<usize>,
    /// how many elements lie between neighbours on every axis
    pub(crate) strides: Vec<isize>,
}

/// An axis of two tensors of one shape: its size, and the stride in each.
pub(crate) type Axes = Vec<(usize, isize, isize)>;

impl Strided {
    /// All elements of a buffer, in row-major order.
    pub(crate) fn contiguous(shape: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * signed(shape[axis].max(1));
        }
        Self { offset: 0, shape: shape.to_vec(), strides }
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements, from the first on, are neighbours in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let row_major = Self::contiguous(&self.shape).strides;
        let mut axes = self.shape.iter().zip(self.strides.iter().zip(row_major));
        self.len() == 0 || axes.all(|(&size, (&stride, expected))| size == 1 || stride == expected)
    }

    /// The axes in the order `perm`, which names every axis once.
    pub(crate) fn permuted(&self, perm: &[usize]) -> Self {
        let shape = perm.iter().map(|&axis| self.shape[axis]).collect();
        Self { offset: self.offset, shape, strides: perm.iter().map(|&axis| self.strides[axis]).collect() }
    }

    /// On `axis` the `len` indices `start`, `start + step`, ..., all of them inside.
    pub(crate) fn sliced(&self, axis: usize, start: usize, len: usize, step: isize) -> Self {
        let mut this = self.clone();
        this.shape[axis] = len;
        if len > 0 {
            this.offset = self.element(axis, start);
        }
        if len > 1 {
            this.strides[axis] *= step;
        }
        this
    }

    /// On `axis` the indices `range`, all of them inside.
    pub(crate) fn part(&self, axis: usize, range: Range<usize>) -> Self {
        self.sliced(axis, range.start, range.len(), 1)
    }

    /// The part at `index` of `axis`, without that axis.
    pub(crate) fn at(&self, axis: usize, index: usize) -> Self {
        let mut this = self.clone();
        this.offset = self.element(axis, index);
        this.shape.remove(axis);
        this.strides.remove(axis);
        this
    }

    /// One more axis, of size 1, before `axis`.
    pub(crate) fn inserted(&self, axis: usize) -> Self {
        let mut this = self.clone();
        this.shape.insert(axis, 1);
        this.strides.insert(axis, 0);
        this
    }

    /// Repeated to `shape`, to which it broadcasts.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Self {
        let mut strides = vec![0; shape.len()];
        let new = shape.len() - self.shape.len();
        for (axis, (&size, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            strides[new + axis] = if size == shape[new + axis] { stride } else { 0 };
        }
        Self { offset: self.offset, shape: shape.to_vec(), strides }
    }

    /// The same elements in the same order under other axes; `None` where no strides say so, and where the number of elements is another.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let len = |shape: &[usize]| shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size));
        if self.shape.contains(&0) || shape.contains(&0) {
            let same = self.shape.contains(&0) && shape.contains(&0);
            return same.then(|| Self { offset: self.offset, ..Self::contiguous(shape) });
        }
        if len(&self.shape)? != len(shape)? {
            return None;
        }
        let (mut old, mut strides) = (self.merged().into_iter(), vec![1; shape.len()]);
        // The axes of `shape` that one merged axis is cut into, from the last one.
        let mut axis = shape.len();
        while let Some((mut size, mut stride)) = old.next_back() {
            while size > 1 {
                axis = axis.checked_sub(1)?;
                if size % shape[axis] != 0 {
                    return None;
                }
                strides[axis] = stride;
                size /= shape[axis];
                stride = stride.saturating_mul(shape[axis].cast_signed());
            }
        }
        Some(Self { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// Sizes and strides, neighbouring axes as one wherever one stride says where all their elements are; none of size 1.
    fn merged(&self) -> Vec<(usize, isize)> {
        let mut merged: Vec<(usize, isize)> = Vec::with_capacity(self.shape.len());
        for (&size, &stride) in self.shape.iter().zip(&self.strides).filter(|(size, _)| **size != 1) {
            match merged.last_mut() {
                Some(last) if last.1 == stride.saturating_mul(size.cast_signed()) => *last = (last.0 * size, stride),
                _ => merged.push((size, stride)),
            }
        }
        merged
    }

    /// Number of the first element at `index` of `axis`.
    fn element(&self, axis: usize, index: usize) -> usize {
        self.offset.wrapping_add_signed(self.strides[axis].wrapping_mul(index.cast_signed()))
    }

    /// The least range of the buffer that has all elements; `None` where one would stand before its start.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        if self.len() == 0 {
            return Some(0..0);
        }
        let (mut first, mut last) = (self.offset, self.offset);
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = stride.checked_mul(signed(size - 1))?;
            if reach < 0 {
                first = first.checked_add_signed(reach)?;
            } else {
                last = last.checked_add_signed(reach)?;
            }
        }
        Some(first..last.checked_add(1)?)
    }

    /// The tensor in a buffer of which `elements` are those from number `start` on, a range as [`Strided::range`] says. Twin of `shaders/relayout.wgsl`.
    pub(crate) fn view<'a, T>(&self, start: usize, elements: &'a [T]) -> ArrayViewD<'a, T> {
        if self.len() == 0 {
            return ArrayViewD::from_shape(IxDyn(&self.shape), &[]).expect("no elements have any shape without");
        }
        // ndarray takes a slice from its lowest element on, and axes that run backwards are turned round after
        let backwards = || self.strides.iter().enumerate().filter(|(_, stride)| **stride < 0).map(|(axis, _)| axis);
        let lowest = backwards().fold(self.offset, |lowest, axis| lowest.wrapping_add_signed(self.strides[axis] * signed(self.shape[axis] - 1)));
        let strides: Vec<usize> = self.strides.iter().map(|stride| stride.unsigned_abs()).collect();
        let shape = IxDyn(&self.shape).strides(IxDyn(&strides));
        let mut view = ArrayViewD::from_shape(shape, &elements[lowest - start..]).expect("the elements are those of the range");
        for axis in backwards() {
            view.invert_axis(Axis(axis));
        }
        view
    }

    /// The axes but the last one, from the one with the largest stride to the one with the smallest: the order in which rows stand in the buffer.
    pub(crate) fn row_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.shape.len().saturating_sub(1)).collect();
        // stable: axes of one element stay where they are
        order.sort_by_key(|&axis| if self.shape[axis] == 1 { None } else { Some(std::cmp::Reverse(self.strides[axis])) });
        order
    }

    /// Number of the first row, where the rows of the last axis fill their part of the buffer without gaps, in whichever order the other axes are.
    pub(crate) fn first_row(&self) -> Option<usize> {
        let (&features, &stride) = (self.shape.last()?, self.strides.last()?);
        let mut expected = signed(features);
        let filled = self.row_order().into_iter().rev().filter(|&axis| self.shape[axis] != 1).all(|axis| {
            let fits = self.strides[axis] == expected;
            expected = expected.saturating_mul(signed(self.shape[axis]));
            fits
        });
        let rows = filled && (stride == 1 || features == 1) && features > 0 && self.offset.is_multiple_of(features);
        rows.then(|| self.offset / features)
    }

    /// Rows of `features` elements, `row_stride` apart, in the order in which this tensor's stand in its buffer, from the buffer's start on.
    pub(crate) fn with_rows(&self, features: usize, row_stride: usize) -> Self {
        let mut rows = Self { offset: 0, shape: self.shape.clone(), strides: vec![1; self.shape.len()] };
        let mut stride = signed(row_stride);
        for axis in self.row_order().into_iter().rev() {
            rows.strides[axis] = stride;
            stride = stride.saturating_mul(signed(self.shape[axis].max(1)));
        }
        if let Some(last) = rows.shape.last_mut() {
            *last = features;
        }
        rows
    }

    /// The axes of this tensor and of `other`, of the same shape; neighbours as one wherever one stride each says where all elements are, none of size 1.
    pub(crate) fn joint_axes(&self, other: &Self) -> Axes {
        let mut joint: Axes = Vec::with_capacity(self.shape.len());
        let axes = self.shape.iter().zip(self.strides.iter().zip(&other.strides));
        for (&size, (&ours, &others)) in axes.filter(|(size, _)| **size != 1) {
            let times = |stride: isize| stride.saturating_mul(signed(size));
            match joint.last_mut() {
                Some(last) if last.1 == times(ours) && last.2 == times(others) => *last = (last.0 * size, ours, others),
                _ => joint.push((size, ours, others)),
            }
        }
        joint
    }
}

/// No buffer has so many elements that its indices do not fit.
fn signed(value: usize) -> isize {
    isize::try_from(value).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use ndarray::Dimension;

    use super::*;

    fn strided(offset: usize, shape: &[usize], strides: &[isize]) -> Strided {
        Strided { offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn a_view_has_the_elements_that_the_strides_say() {
        let elements: Vec<usize> = (0..60).collect();
        let cases = [
            strided(0, &[3, 4, 5], &[20, 5, 1]),
            strided(5, &[4, 2, 3], &[5, 20, 1]),
            strided(59, &[3, 5], &[-20, -1]),
            strided(7, &[2, 3], &[0, 2]),
            strided(3, &[], &[]),
        ];
        for layout in cases {
            let range = layout.range().expect("it is inside");
            let view = layout.view(range.start, &elements[range.clone()]);
            assert_eq!((view.iter().min(), view.iter().max()), (Some(&range.start), Some(&(range.end - 1))), "{layout:?}");
            for (index, &value) in view.indexed_iter() {
                let steps = index.slice().iter().zip(&layout.strides).map(|(&at, stride)| signed(at) * stride).sum();
                assert_eq!(value, layout.offset.wrapping_add_signed(steps), "{layout:?} at {index:?}");
            }
        }
        assert_eq!(strided(9, &[0, 5], &[5, 1]).view(0, &elements).shape(), [0, 5]);
        assert_eq!(strided(1, &[3], &[-1]).range(), None);
    }

    #[test]
    fn rows_are_found_in_any_order_of_their_axes() {
        // [T, N, F] = [3, 4, 5], the batch first, and its last two steps
        let batch_first = strided(0, &[4, 3, 5], &[5, 20, 1]);
        assert_eq!((batch_first.first_row(), batch_first.row_order()), (Some(0), vec![1, 0]));
        assert_eq!(batch_first.with_rows(7, 8), strided(0, &[4, 3, 7], &[8, 32, 1]));
        assert_eq!(batch_first.sliced(1, 1, 2, 1).first_row(), Some(4));
        // gaps between rows, rows that run backwards, features that are no neighbours
        assert_eq!(batch_first.sliced(0, 1, 2, 1).first_row(), None);
        assert_eq!(strided(0, &[3, 5], &[8, 1]).first_row(), None);
        assert_eq!(strided(10, &[3, 5], &[-5, 1]).first_row(), None);
        assert_eq!(strided(0, &[3, 5], &[1, 3]).first_row(), None);
        assert_eq!(strided(0, &[3, 5], &[0, 1]).first_row(), None);
        // strides of axes of one element say nothing
        assert_eq!(strided(2, &[1, 3, 1], &[77, 1, 99]).first_row(), Some(2));
        assert_eq!(strided(0, &[5], &[1]).first_row(), Some(0));
    }

    #[test]
    fn axes_are_joined_where_both_tensors_allow_it() {
        let from = strided(0, &[3, 4, 5], &[20, 5, 1]);
        assert_eq!(from.joint_axes(&Strided::contiguous(&[3, 4, 5])), [(60, 1, 1)]);
        assert_eq!(from.joint_axes(&strided(0, &[3, 4, 5], &[32, 8, 1])), [(12, 5, 8), (5, 1, 1)]);
        assert!(Strided::contiguous(&[3, 0]).is_contiguous() && strided(0, &[1, 5], &[9, 1]).is_contiguous());
    }
}
