//! The float64 oracle: every variant of an LSTM, one row and one step at a time, as the equations in [`LstmConfig`] read.
//!
//! It is what the other backends are judged by, so it is short and does nothing cleverly. Each file is the twin of the
//! kernel of the same name in `shaders/`.

mod activation;
mod cell;
mod embed;
mod input_gates;
mod linear;
mod norm_cell;
mod norm_gates;
mod project;
mod roofline;
mod row_function;
mod step;

use ndarray::{Array2, Array3, ArrayD, ArrayView1, ArrayView2, ArrayViewD, Axis, IxDyn, concatenate, s};
use rayon::prelude::*;

use crate::network::{CellActivations, CellWeights, Embedding, Linear, Lstm, LstmCall, LstmConfig, LstmState, RowFunction};
pub(crate) use roofline::roofline;

/// One layer and direction, as the kernels see it.
struct Cell<'a> {
    config: &'a LstmConfig,
    weights: &'a CellWeights,
    activations: CellActivations,
    reversed: bool,
}

/// What one row of one layer and direction gives: its output `[T, R]` and its final states `[R]`, `[H]`.
struct Row {
    y: Array2<f64>,
    h: Vec<f64>,
    c: Vec<f64>,
}

/// Runs the stack; returns `y [T, N, D*R]` and leaves the final states in `state`.
pub(crate) fn run(lstm: &Lstm, call: &LstmCall<'_>, state: &mut LstmState<f64>) -> Array3<f64> {
    let (config, dirs) = (lstm.config(), lstm.config().num_directions());
    let mut x = call.x.mapv(f64::from);
    for layer in 0..config.num_layers {
        let mut y = Vec::new();
        for dir in 0..dirs {
            let cell = Cell { config, weights: lstm.cell(layer, dir), activations: config.activations[dir], reversed: config.is_reversed(dir) };
            let number = layer * dirs + dir;
            let rows: Vec<Row> = (0..call.batch())
                .into_par_iter()
                .map(|n| {
                    let (h_0, c_0) = (state.h.slice(s![number, n, ..]), state.c.slice(s![number, n, ..]));
                    run_row(&cell, x.index_axis(Axis(1), n), call.len(n), h_0, c_0)
                })
                .collect();
            let mut y_dir = Array3::zeros((call.seq_len(), call.batch(), config.out_size()));
            for (n, row) in rows.into_iter().enumerate() {
                y_dir.index_axis_mut(Axis(1), n).assign(&row.y);
                state.h.slice_mut(s![number, n, ..]).assign(&ArrayView1::from(&row.h));
                state.c.slice_mut(s![number, n, ..]).assign(&ArrayView1::from(&row.c));
            }
            y.push(y_dir);
        }
        let views: Vec<_> = y.iter().map(|y_dir| y_dir.view()).collect();
        // `concatenate` prefers the order of axes of what it joins; row-major is what callers expect
        x = concatenate(Axis(2), &views).expect("the directions have the same steps and rows").as_standard_layout().into_owned();
    }
    x
}

/// The vectors of ids in range, `[.., E]` for ids `[..]`.
pub(crate) fn embed(embedding: &Embedding, ids: ArrayViewD<'_, u32>) -> ArrayD<f64> {
    let shape = [ids.shape(), &[embedding.embedding_dim()]].concat();
    let values = ids.iter().flat_map(|&id| embed::embed(embedding, id)).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).expect("a vector for every id")
}

/// A linear layer, if there is one, and a function of every row: `[.., F]` for `x [.., I]`.
pub(crate) fn dense(linear: Option<&Linear>, function: RowFunction, x: ArrayViewD<'_, f32>) -> ArrayD<f64> {
    let mut shape = x.shape().to_vec();
    let rows = x.rows().into_iter().map(|row| row.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
    let row = |x: Vec<f64>| row_function::row_function(&linear.map_or(x.clone(), |linear| linear::linear(&x, linear)), function);
    let values = rows.flat_map(row).collect();
    if let (Some(features), Some(linear)) = (shape.last_mut(), linear) {
        *features = linear.out_features();
    }
    ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many results as there are features")
}

/// One row of one layer and direction: `x [T, I]`, of which the first `len` steps count.
fn run_row(cell: &Cell<'_>, x: ArrayView2<'_, f64>, len: usize, h_0: ArrayView1<'_, f64>, c_0: ArrayView1<'_, f64>) -> Row {
    let mut row = Row { y: Array2::zeros((x.nrows(), cell.config.out_size())), h: h_0.to_vec(), c: c_0.to_vec() };
    for s in 0..len {
        let t = if cell.reversed { len - 1 - s } else { s };
        let mut gates_x = input_gates::input_gates(&x.row(t).to_vec(), cell);
        let mut h = match &cell.weights.layer_norm {
            None => step::step(&gates_x, &row.h, &mut row.c, cell),
            Some(norm) => {
                norm_gates::norm_gates(&mut gates_x, &norm.gamma_ih, cell);
                norm_cell::norm_cell(&gates_x, &row.h, &mut row.c, norm, cell)
            }
        };
        if let Some(weight_hr) = &cell.weights.weight_hr {
            h = project::project(&h, weight_hr, cell);
        }
        row.y.row_mut(t).assign(&ArrayView1::from(&h));
        row.h = h;
    }
    row
}

/// `sum_k weights[k] * values[k]`
fn dot(weights: ArrayView1<'_, f32>, values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(&weight, value)| f64::from(weight) * value).sum()
}

/// `value` within `[-bound, bound]`; without a bound, `value`. NaN stays NaN.
fn clip(value: f64, bound: Option<f32>) -> f64 {
    bound.map_or(value, |bound| value.clamp(-f64::from(bound), f64::from(bound)))
}
