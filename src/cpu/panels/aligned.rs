//! Arrays that start at a cache line, so that no vector of a panel lies in two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A slice of fixed length that starts at a cache line.
pub(in crate::cpu) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` elements of the default value.
    pub(in crate::cpu) fn new(len: usize) -> Self {
        let values = vec![T::default(); len + LINE / size_of::<T>()];
        // where the system cannot tell, vectors lie as they come
        let start = Some(values.as_ptr().align_offset(LINE)).filter(|start| *start <= LINE / size_of::<T>()).unwrap_or(0);
        Self { values, start, len }
    }

    /// Makes room for `len` elements where there are fewer; the values are anything then.
    pub(in crate::cpu) fn make_room(&mut self, len: usize) {
        if self.len < len {
            *self = Self::new(len);
        }
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), start: 0, len: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_start_at_a_cache_line() {
        for len in [0, 1, 17, 1000] {
            let mut array = Aligned::<f32>::new(len);
            array.fill(1.0);
            assert_eq!((array.len(), array.as_ptr().addr() % LINE), (len, 0));
            array.make_room(5);
            assert_eq!(array.len(), len.max(5));
        }
    }
}
