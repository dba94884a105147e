//! What an LSTM is: its sizes, its variant, and every shape that follows from them.

use crate::error::{Error, Result};
use crate::network::{CellActivations, Precision};

/// The gates of a cell, in the order in which they are stored everywhere inside this crate (PyTorch's order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// input gate
    I = 0,
    /// forget gate
    F = 1,
    /// cell candidate
    G = 2,
    /// output gate
    O = 3,
}

/// How many gates a cell has.
pub const GATES: usize = 4;

/// In which direction, or directions, a layer walks over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// from the first step to the last
    #[default]
    Forward,
    /// from each sequence's own last step to the first
    Reverse,
    /// both; direction 0 is forward, direction 1 is reverse
    Bidirectional,
}

impl Direction {
    /// Its name in the ONNX operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Bidirectional => "bidirectional",
        }
    }

    /// The direction called `name` in the ONNX operator.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Forward, Self::Reverse, Self::Bidirectional].into_iter().find(|direction| direction.name() == name)
    }
}

/// The sizes and the variant of a stack of LSTM layers.
///
/// All layers of a stack share one variant. The equations, for one layer and one direction at time `t`
/// (`@` is a matrix product, `*` is element by element, a bracketed term is there where the option is set):
///
/// ```text
/// raw    = weight_ih @ x[t] + weight_hh @ h[t-1] + bias_ih + bias_hh
/// i      = gate(clip(raw_i [+ p_i * c[t-1]]))
/// f      = gate(clip(raw_f [+ p_f * c[t-1]]))           or, with input_forget, 1 - i
/// g      = candidate(clip(raw_g))
/// c[t]   = cell_clip(f * c[t-1] + i * g)
/// o      = gate(clip(raw_o [+ p_o * c[t]]))
/// h[t]   = o * output(c[t])                             [h[t] = proj_clip(weight_hr @ h[t])]
/// ```
///
/// With layer normalisation, `raw = ln(weight_ih @ x[t]) * gamma_ih + ln(weight_hh @ h[t-1]) * gamma_hh + bias_ih + bias_hh`,
/// where `ln` takes mean and variance over all `4 * hidden_size` values, and `output(ln(c[t]) * gamma_c + beta_c)` takes the
/// place of `output(c[t])`, as in the haste library's `LayerNormLSTM`.
///
/// Sources: Hochreiter and Schmidhuber 1997; Gers and Schmidhuber 2000 (peepholes); Sak et al. 2014 (projection);
/// Ba et al. 2016 (layer normalisation); the ONNX `LSTM` operator; `torch.nn.LSTM`; TensorFlow's `LSTMCell` (`cell_clip`, `proj_clip`).
#[derive(Clone, Debug, PartialEq)]
pub struct LstmConfig {
    /// I: features of one input step
    pub input_size: usize,
    /// H: units of a cell
    pub hidden_size: usize,
    /// L: layers in the stack
    pub num_layers: usize,
    /// D is 2 where this is bidirectional, else 1
    pub direction: Direction,
    /// P: size of the projected hidden state (LSTMP); `None`: no projection
    pub proj_size: Option<usize>,
    /// whether the gates have biases
    pub bias: bool,
    /// whether the gates see the cell state
    pub peepholes: bool,
    /// `epsilon` of the layer normalisation; `None`: no normalisation
    pub layer_norm: Option<f32>,
    /// coupled gates: the forget gate is `1 - i`, and its own weights are ignored
    pub input_forget: bool,
    /// activations of direction 0 and direction 1
    pub activations: [CellActivations; 2],
    /// bound on the absolute value of the pre-activations (ONNX `clip`)
    pub clip: Option<f32>,
    /// bound on the absolute value of the new cell state (TensorFlow `cell_clip`)
    pub cell_clip: Option<f32>,
    /// bound on the absolute value of the projected hidden state (TensorFlow `proj_clip`)
    pub proj_clip: Option<f32>,
}

impl LstmConfig {
    /// One forward layer with biases and the usual activations, as `torch.nn.LSTM(input_size, hidden_size)` makes it.
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        Self {
            input_size,
            hidden_size,
            num_layers: 1,
            direction: Direction::Forward,
            proj_size: None,
            bias: true,
            peepholes: false,
            layer_norm: None,
            input_forget: false,
            activations: [CellActivations::default(); 2],
            clip: None,
            cell_clip: None,
            proj_clip: None,
        }
    }

    /// D: 2 where the stack is bidirectional, else 1.
    pub fn num_directions(&self) -> usize {
        if self.direction == Direction::Bidirectional { 2 } else { 1 }
    }

    /// L * D: how many cells, each with weights and states of its own, the stack has. Cell `(layer, dir)` is number `layer * D + dir`.
    pub fn num_cells(&self) -> usize {
        self.num_layers * self.num_directions()
    }

    /// R: the size of a hidden state, `proj_size` where there is a projection, else `hidden_size`.
    pub fn out_size(&self) -> usize {
        self.proj_size.unwrap_or(self.hidden_size)
    }

    /// D * R: features of one output step.
    pub fn y_size(&self) -> usize {
        self.num_directions() * self.out_size()
    }

    /// The input size of `layer`: I for the first, D * R above.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.y_size() }
    }

    /// Whether direction `dir` walks backwards over time.
    pub fn is_reversed(&self, dir: usize) -> bool {
        match self.direction {
            Direction::Forward => false,
            Direction::Reverse => true,
            Direction::Bidirectional => dir == 1,
        }
    }

    /// Whether rounding can grow from step to step: gates or outputs that are not bounded let a state grow, and its errors with it.
    ///
    /// The backends compute such stacks with twice `float32`'s precision between two steps, at several times the cost; the GPU does not where
    /// the stack is layer-normalised as well.
    pub fn amplifies_rounding(&self) -> bool {
        let used = &self.activations[..self.num_directions()];
        used.iter().any(|activations| !activations.gate.is_bounded() || !activations.output.is_bounded())
    }

    /// How many numbers the weights hold.
    pub fn num_parameters(&self) -> usize {
        let (hidden, out) = (self.hidden_size, self.out_size());
        let per_cell = |layer: usize| {
            GATES * hidden * (self.layer_input_size(layer) + out)
                + if self.bias { 2 * GATES * hidden } else { 0 }
                + if self.peepholes { 3 * hidden } else { 0 }
                + self.proj_size.map_or(0, |proj| proj * hidden)
                + if self.layer_norm.is_some() { 2 * GATES * hidden + 2 * hidden } else { 0 }
        };
        (0..self.num_layers).map(per_cell).sum::<usize>() * self.num_directions()
    }

    /// Multiplications and additions of the matrix products for one step of one sequence.
    pub fn flops_per_step(&self) -> u64 {
        let (hidden, out) = (self.hidden_size as u64, self.out_size() as u64);
        let per_cell = |layer: usize| {
            2 * GATES as u64 * hidden * (self.layer_input_size(layer) as u64 + out) + self.proj_size.map_or(0, |proj| 2 * proj as u64 * hidden)
        };
        (0..self.num_layers).map(per_cell).sum::<u64>() * self.num_directions() as u64
    }

    /// Bytes that a call of `batch` rows and `seq_len` steps moves, with matrices stored as `precision` says, if every step reads its recurrent ones
    /// (`weight_hh`, `weight_hr`) and everything else moves once, the other weights, and in float32 biases and the like, `x` and `y`: what an LSTM
    /// asks of a memory that nothing stands before. Scales of int8 are left out.
    pub fn streamed_bytes(&self, batch: usize, seq_len: usize, precision: Precision) -> u64 {
        let (hidden, out) = (self.hidden_size as u64, self.out_size() as u64);
        let recurrent = self.num_cells() as u64 * (GATES as u64 * hidden * out + self.proj_size.map_or(0, |proj| proj as u64 * hidden));
        let steps = (batch as u64).saturating_mul(seq_len as u64);
        if steps == 0 {
            return 0;
        }
        // a weight of a matrix is a multiplication and an addition
        let matrices = self.flops_per_step() / 2;
        let vectors = self.num_parameters() as u64 - matrices;
        let weights = matrices.saturating_add((seq_len as u64 - 1).saturating_mul(recurrent));
        let numbers = steps.saturating_mul((self.input_size + self.y_size()) as u64).saturating_add(vectors);
        weights.saturating_mul(precision.weight_bytes() as u64).saturating_add(numbers.saturating_mul(size_of::<f32>() as u64))
    }

    /// Checks that the sizes and options make an LSTM.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) names the field, the rule and the value found.
    pub fn validate(&self) -> Result<()> {
        /// Far above any real network, and low enough that no product of sizes overflows.
        const LARGEST: usize = 1 << 19;
        for (name, value) in [("input_size", self.input_size), ("hidden_size", self.hidden_size), ("num_layers", self.num_layers)] {
            if value == 0 || value > LARGEST {
                return Err(Error::config(format!("{name}: expected 1 to {LARGEST}, found {value}")));
            }
        }
        if let Some(proj) = self.proj_size
            && (proj == 0 || proj > LARGEST)
        {
            return Err(Error::config(format!("proj_size: expected 1 to {LARGEST}, found {proj}")));
        }
        if self.proj_clip.is_some() && self.proj_size.is_none() {
            return Err(Error::config("proj_clip: needs a projection, found proj_size = 0"));
        }
        for (name, bound) in [("clip", self.clip), ("cell_clip", self.cell_clip), ("proj_clip", self.proj_clip)] {
            if let Some(bound) = bound
                && (bound <= 0.0 || !bound.is_finite())
            {
                return Err(Error::config(format!("{name}: expected a bound above 0, or none in place of an infinite one, found {bound}")));
            }
        }
        for (dir, used) in self.activations[..self.num_directions()].iter().enumerate() {
            for (role, activation) in [("gate", used.gate), ("candidate", used.candidate), ("output", used.output)] {
                let (alpha, beta) = activation.parameters();
                for (parameter, value) in [("alpha", alpha), ("beta", beta)] {
                    if !value.is_finite() {
                        let (subject, name) = (format!("{role} activation of direction {dir}"), activation.name());
                        return Err(Error::config(format!("{subject}: expected a finite {parameter} of {name}, found {value}")));
                    }
                }
            }
        }
        if let Some(epsilon) = self.layer_norm
            && (epsilon <= 0.0 || !epsilon.is_finite())
        {
            return Err(Error::config(format!("layer_norm epsilon: expected a small number above 0, found {epsilon}")));
        }
        Ok(())
    }
}
