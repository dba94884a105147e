//! The projection of LSTMP. Twin of `shaders/project.wgsl`.

use ndarray::Array2;

use super::{Cell, clip, dot};

/// `proj_clip(weight_hr @ cell_out)`: `[P]` from `[H]`
pub(super) fn project(cell_out: &[f64], weight_hr: &Array2<f32>, cell: &Cell<'_>) -> Vec<f64> {
    weight_hr.rows().into_iter().map(|row| clip(dot(row, cell_out), cell.config.proj_clip)).collect()
}
