//! The four orders of axes that models use at their border, seen as views of the one order used inside.
//!
//! Inside: `x [T, N, I]`, `y [T, N, D*R]`, `h [L*D, N, R]`, `c [L*D, N, H]`, which is PyTorch's order.

use ndarray::{ArrayD, ArrayView3, ArrayViewD, Ix3};

use crate::error::{Error, Result};

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

    /// A view of `x` in the inner order `[T, N, I]`.
    pub(crate) fn x_inside<'a>(self, name: &str, x: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
        let mut x = three_axes(name, self.x_axes(), x)?;
        if self.batch_first() {
            x.swap_axes(0, 1);
        }
        Ok(x)
    }

    /// A view of a state in the inner order `[L*D, N, R]`.
    pub(crate) fn state_inside<'a>(self, name: &str, state: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
        let mut state = three_axes(name, self.state_axes(), state)?;
        if self == Self::OnnxBatchFirst {
            state.swap_axes(0, 1);
        }
        Ok(state)
    }

    /// `y [T, N, D*R]` in this order of axes, row-major.
    pub(crate) fn y_outside(self, y: ndarray::Array3<f32>, num_directions: usize) -> ArrayD<f32> {
        let (seq_len, batch, features) = y.dim();
        match self {
            Self::TimeFirst => y.into_dyn(),
            Self::BatchFirst => row_major(y.permuted_axes([1, 0, 2]).into_dyn()),
            Self::OnnxTimeFirst | Self::OnnxBatchFirst => {
                let split = y
                    .into_shape_with_order((seq_len, batch, num_directions, features / num_directions))
                    .expect("y is row-major and its last axis is num_directions * out_size");
                let axes = if self == Self::OnnxTimeFirst { [0, 2, 1, 3] } else { [1, 0, 2, 3] };
                row_major(split.permuted_axes(axes).into_dyn())
            }
        }
    }

    /// A state `[L*D, N, R]` in this order of axes, row-major.
    pub(crate) fn state_outside(self, state: ndarray::Array3<f32>) -> ArrayD<f32> {
        if self == Self::OnnxBatchFirst { row_major(state.permuted_axes([1, 0, 2]).into_dyn()) } else { state.into_dyn() }
    }
}

fn three_axes<'a>(name: &str, axes: &str, view: ArrayViewD<'a, f32>) -> Result<ArrayView3<'a, f32>> {
    let found = view.shape().to_vec();
    view.into_dimensionality::<Ix3>().map_err(|_| Error::shape(format!("tensor `{name}`: expected {axes}, found {found:?}")))
}

fn row_major(array: ArrayD<f32>) -> ArrayD<f32> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn every_layout_puts_the_same_value_in_its_place() {
        let (seq_len, batch, dirs, out) = (3, 2, 2, 5);
        let y = Array3::from_shape_fn((seq_len, batch, dirs * out), |(t, n, k)| (t * 1000 + n * 100 + k) as f32);
        for layout in [Layout::TimeFirst, Layout::BatchFirst, Layout::OnnxTimeFirst, Layout::OnnxBatchFirst] {
            let outside = layout.y_outside(y.clone(), dirs);
            assert!(outside.is_standard_layout());
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
