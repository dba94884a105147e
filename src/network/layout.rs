//! The four orders of axes that models use at their border, seen as views of the one order used inside.
//!
//! Inside: `x [T, N, I]`, `y [T, N, D*R]`, `h [L*D, N, R]`, `c [L*D, N, H]`, which is PyTorch's order.

use ndarray::{ArrayD, ArrayView3, ArrayViewD, ArrayViewMut3, ArrayViewMut4, Ix3, IxDyn};

use crate::error::{Error, Result};
use crate::network::Strided;

/// The order of a model's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// PyTorch: `x [T, N, I]`, `y [T, N, D*R]`, `h [L*D, N, R]`
    #[default]
    TimeFirst,
    /// PyTorch with `batch_first`: `x [N, T, I]`, `y [N, T, D*R]`, `h [L*D, N, R]`
    BatchFirst,
    /// ONNX with `layout = 0`: `x [T, N, I]`, `y [T, D, N, R]`, `h [D, N, R]`
    OnnxTimeFirst,
    /// ONNX with `layout = 1`: `x [N, T, I]`, `y [N, T, D, R]`, `h [N, D, R]`
    OnnxBatchFirst,
}

impl Layout {
    /// Whether `x` and `y` have the batch axis first.
    pub fn batch_first(self) -> bool {
        matches!(self, Self::BatchFirst | Self::OnnxBatchFirst)
    }

    /// The axes of `x`, in words.
    pub fn x_axes(self) -> &'static str {
        if self.batch_first() { "[batch, seq_len, input_size]" } else { "[seq_len, batch, input_size]" }
    }

    /// The axes of a state, in words.
    pub fn state_axes(self) -> &'static str {
        if self == Self::OnnxBatchFirst { "[batch, num_directions, size]" } else { "[num_layers*num_directions, batch, size]" }
    }

    /// The shape of `x` for a batch and a length.
    pub fn x_shape(self, batch: usize, seq_len: usize, input_size: usize) -> [usize; 3] {
        if self.batch_first() { [batch, seq_len, input_size] } else { [seq_len, batch, input_size] }
    }

    /// T and N of an `x` of this shape; `None` where it cannot be one.
    pub(crate) fn seq_len_and_batch(self, x_shape: &[usize]) -> Option<(usize, usize)> {
        let [first, second, _] = *x_shape else { return None };
        Some(if self.batch_first() { (second, first) } else { (first, second) })
    }

    /// A view of `x` in the inner order `[T, N, I]`.
    pub(crate) fn x_inside<'a>(self, name: &str, x: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
        let mut x = three_axes(name, self.x_axes(), x)?;
        if self.batch_first() {
            x.swap_axes(0, 1);
        }
        Ok(x)
    }

    /// Where `x` in the inner order `[T, N, I]` is, of one that is at `x`.
    pub(crate) fn x_place(self, name: &str, x: &Strided) -> Result<Strided> {
        if x.shape.len() != 3 {
            return Err(Error::shape(format!("tensor `{name}`: expected {}, found {:?}", self.x_axes(), x.shape)));
        }
        Ok(if self.batch_first() { x.permuted(&[1, 0, 2]) } else { x.clone() })
    }

    /// Where `y` outside is, of `[T, N, D, R]` inside, whose last two axes lie together.
    pub(crate) fn y_place(self, y: &Strided) -> Strided {
        let joined = |y: Strided| y.reshaped(&[y.shape[0], y.shape[1], y.shape[2] * y.shape[3]]).unwrap_or(y);
        match self {
            Self::TimeFirst => joined(y.clone()),
            Self::BatchFirst => joined(y.permuted(&[1, 0, 2, 3])),
            Self::OnnxTimeFirst => y.permuted(&[0, 2, 1, 3]),
            Self::OnnxBatchFirst => y.permuted(&[1, 0, 2, 3]),
        }
    }

    /// A view of a state in the inner order `[L*D, N, R]`.
    pub(crate) fn state_inside<'a>(self, name: &str, state: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
        let mut state = three_axes(name, self.state_axes(), state)?;
        if self == Self::OnnxBatchFirst {
            state.swap_axes(0, 1);
        }
        Ok(state)
    }

    /// The shape of `y` outside.
    pub(crate) fn y_shape(self, seq_len: usize, batch: usize, num_directions: usize, out_size: usize) -> IxDyn {
        match self {
            Self::TimeFirst => IxDyn(&[seq_len, batch, num_directions * out_size]),
            Self::BatchFirst => IxDyn(&[batch, seq_len, num_directions * out_size]),
            Self::OnnxTimeFirst => IxDyn(&[seq_len, num_directions, batch, out_size]),
            Self::OnnxBatchFirst => IxDyn(&[batch, seq_len, num_directions, out_size]),
        }
    }

    /// A view of a row-major `y` in the inner order `[T, N, D, R]`.
    pub(crate) fn y_inside_mut(self, y: &mut ArrayD<f32>, num_directions: usize) -> ArrayViewMut4<'_, f32> {
        let shape = y.shape();
        let split = match self {
            Self::TimeFirst | Self::BatchFirst => [shape[0], shape[1], num_directions, shape[2] / num_directions],
            Self::OnnxTimeFirst | Self::OnnxBatchFirst => [shape[0], shape[1], shape[2], shape[3]],
        };
        let y = y.view_mut().into_shape_with_order(split).expect("y is row-major, and its last axis is num_directions * out_size");
        match self {
            Self::TimeFirst => y,
            Self::BatchFirst | Self::OnnxBatchFirst => y.permuted_axes([1, 0, 2, 3]),
            Self::OnnxTimeFirst => y.permuted_axes([0, 2, 1, 3]),
        }
    }

    /// The shape of a state outside.
    pub(crate) fn state_shape(self, num_cells: usize, batch: usize, size: usize) -> IxDyn {
        if self == Self::OnnxBatchFirst { IxDyn(&[batch, num_cells, size]) } else { IxDyn(&[num_cells, batch, size]) }
    }

    /// A view of a state in the inner order `[L*D, N, R]`.
    pub(crate) fn state_inside_mut(self, state: &mut ArrayD<f32>) -> ArrayViewMut3<'_, f32> {
        let mut state = state.view_mut().into_dimensionality::<Ix3>().expect("a state has three axes");
        if self == Self::OnnxBatchFirst {
            state.swap_axes(0, 1);
        }
        state
    }
}

fn three_axes<'a>(name: &str, axes: &str, view: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
    let found = view.shape().to_vec();
    view.into_dimensionality::<Ix3>().map_err(|_| Error::shape(format!("tensor `{name}`: expected {axes}, found {found:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_puts_the_same_value_in_its_place() {
        let (seq_len, batch, dirs, out) = (3, 2, 2, 5);
        for layout in [Layout::TimeFirst, Layout::BatchFirst, Layout::OnnxTimeFirst, Layout::OnnxBatchFirst] {
            let mut outside = ArrayD::zeros(layout.y_shape(seq_len, batch, dirs, out));
            for ((t, n, dir, k), value) in layout.y_inside_mut(&mut outside, dirs).indexed_iter_mut() {
                *value = (t * 1000 + n * 100 + dir * out + k) as f32;
            }
            let (t, n, dir, k) = (2, 1, 1, 3);
            let index: &[usize] = match layout {
                Layout::TimeFirst => &[t, n, dir * out + k],
                Layout::BatchFirst => &[n, t, dir * out + k],
                Layout::OnnxTimeFirst => &[t, dir, n, k],
                Layout::OnnxBatchFirst => &[n, t, dir, k],
            };
            assert_eq!(outside[index], 2108.0, "{layout:?}");
        }
    }
}
