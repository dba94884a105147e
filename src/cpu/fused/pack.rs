//! The weights of a stack in panels.

use crate::cpu::panels::{Aligned, Columns, Panels, lanes};
use crate::network::{CellActivations, CellWeights, Lstm, LstmConfig, Precision};

/// One layer and direction, ready to run.
pub(super) struct FusedCell {
    pub(super) weight_ih: Panels,
    pub(super) weight_hh: Panels,
    /// `bias_ih + bias_hh` in the order of the panels
    pub(super) bias: Aligned<f32>,
    pub(super) weight_hr: Option<Panels>,
    /// of the gates i, f, o: `[panels, lanes]` each
    pub(super) peepholes: Option<[Aligned<f32>; 3]>,
    /// this direction's
    pub(super) activations: CellActivations,
    /// whether the forget gate is `1 - i`
    pub(super) input_forget: bool,
    /// bound on the pre-activations
    pub(super) clip: Option<f32>,
    /// bound on the new cell state
    pub(super) cell_clip: Option<f32>,
    /// bound on the projected hidden state
    pub(super) proj_clip: Option<f32>,
}

impl FusedCell {
    /// Packs the weights of direction `dir`.
    #[expect(clippy::cast_possible_truncation, reason = "the sum of two float32 is rounded once")]
    fn new(config: &LstmConfig, weights: &CellWeights, dir: usize, precision: Precision) -> Self {
        let gates = Columns::Gates { hidden_size: config.hidden_size };
        let bias = weights.bias_sum();
        let peepholes = weights.peepholes.as_ref().map(|peepholes| {
            [0, 1, 2].map(|row| {
                let mut placed = Aligned::new(config.hidden_size.next_multiple_of(lanes()));
                placed.iter_mut().zip(peepholes.row(row)).for_each(|(placed, &weight)| *placed = weight);
                placed
            })
        });
        Self {
            weight_ih: Panels::new(&weights.weight_ih, gates, precision),
            weight_hh: Panels::new(&weights.weight_hh, gates, precision),
            bias: gates.place(|row| bias[row] as f32),
            weight_hr: weights.weight_hr.as_ref().map(|weight| Panels::new(weight, Columns::Plain { outputs: weight.nrows() }, precision)),
            peepholes,
            activations: config.activations[dir],
            input_forget: config.input_forget,
            clip: config.clip,
            cell_clip: config.cell_clip,
            proj_clip: config.proj_clip,
        }
    }
}

/// Every cell of a stack; cell `(layer, dir)` is number `layer * D + dir`.
pub(super) fn pack(lstm: &Lstm, precision: Precision) -> Vec<FusedCell> {
    let (config, dirs) = (lstm.config(), lstm.config().num_directions());
    (0..config.num_cells()).map(|number| FusedCell::new(config, lstm.cell(number / dirs, number % dirs), number % dirs, precision)).collect()
}
