//! Where the elements of a tensor stand among others: what the layout operators change, without the elements themselves.

use ndarray::{ArrayViewD, Axis, IxDyn, ShapeBuilder};

/// A tensor's place in a buffer: element `[i, j, ...]` is number `offset + i*strides[0] + j*strides[1] + ...` of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Strided {
    /// All elements of a buffer, in row-major order.
    pub(crate) fn contiguous(shape: &[usize]) -> Self {
        let mut stride = 1_isize;
        let mut strides: Vec<isize> = Vec::with_capacity(shape.len());
        for &size in shape.iter().rev() {
            strides.push(stride);
            // saturates only where another axis is empty
            stride = stride.saturating_mul(isize::try_from(size.max(1)).unwrap_or(isize::MAX));
        }
        strides.reverse();
        Self { offset: 0, shape: shape.to_vec(), strides }
    }

    /// Number of the first element.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The size of every axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements lie between neighbours on every axis.
    pub(crate) fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Whether the elements, from the first on, are neighbours in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let mut expected = 1_isize;
        self.shape.iter().zip(&self.strides).rev().filter(|(size, _)| **size != 1).all(|(&size, &stride)| {
            let fits = stride == expected;
            expected = expected.saturating_mul(size.cast_signed());
            fits
        })
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

    /// The tensor in the buffer `elements`; `None` where that is too short.
    pub(crate) fn view<'a, T>(&self, elements: &'a [T]) -> Option<ArrayViewD<'a, T>> {
        if self.shape.contains(&0) {
            return ArrayViewD::from_shape(IxDyn(&self.shape), &[]).ok();
        }
        // ndarray takes a slice from its lowest element on, and axes that run backwards are turned round after.
        let mut lowest = self.offset;
        for (axis, _) in self.strides.iter().enumerate().filter(|(_, stride)| **stride < 0) {
            lowest = lowest.checked_add_signed(self.strides[axis].checked_mul((self.shape[axis] - 1).cast_signed())?)?;
        }
        let strides: Vec<usize> = self.strides.iter().map(|stride| stride.unsigned_abs()).collect();
        let mut view = ArrayViewD::from_shape(IxDyn(&self.shape).strides(IxDyn(&strides)), elements.get(lowest..)?).ok()?;
        for (axis, _) in self.strides.iter().enumerate().filter(|(_, stride)| **stride < 0) {
            view.invert_axis(Axis(axis));
        }
        Some(view)
    }

    /// Number of the first element at `index` of `axis`.
    fn element(&self, axis: usize, index: usize) -> usize {
        self.offset.wrapping_add_signed(self.strides[axis].wrapping_mul(index.cast_signed()))
    }
}
