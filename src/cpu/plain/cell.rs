//! One row of a batch through one cell, from the pre-activations on: what [`LstmConfig`](crate::LstmConfig) writes as equations.

use super::activation::apply;
use super::pack::PackedCell;
use super::real::Real;
use crate::network::GATES;

impl<E: Real> PackedCell<E> {
    /// Updates `c [H]` and writes the hidden state before projection to `h [H]`. `raw [4H]` holds `weight_ih @ x + weight_hh @ h + bias`,
    /// and is used up.
    pub(super) fn finish_row(&self, raw: &mut [E], c: &mut [E], h: &mut [E]) {
        let hidden = self.hidden_size();
        debug_assert_eq!((raw.len(), c.len(), h.len()), (GATES * hidden, hidden, hidden));
        let (i, rest) = raw.split_at_mut(hidden);
        let (f, rest) = rest.split_at_mut(hidden);
        let (g, o) = rest.split_at_mut(hidden);
        self.gate(0, i, c);
        if self.input_forget {
            f.iter_mut().zip(&*i).for_each(|(f, &i)| *f = E::one() - i);
        } else {
            self.gate(1, f, c);
        }
        clamp(self.clip, g);
        apply(self.activations.candidate, g);
        for (((c, &i), &f), &g) in c.iter_mut().zip(&*i).zip(&*f).zip(&*g) {
            *c = f * *c + i * g;
        }
        clamp(self.cell_clip, c);
        self.gate(2, o, c);
        self.cell_out(c, h);
        h.iter_mut().zip(&*o).for_each(|(h, &o)| *h *= o);
    }

    /// A gate from its pre-activation; `peephole` is the row that belongs to it.
    fn gate(&self, peephole: usize, gate: &mut [E], c: &[E]) {
        if let Some(peepholes) = &self.peepholes {
            for ((gate, &weight), &c) in gate.iter_mut().zip(peepholes.row(peephole)).zip(c) {
                *gate += weight * c;
            }
        }
        clamp(self.clip, gate);
        apply(self.activations.gate, gate);
    }

    /// The cell state on its way out: normalised where the cell has that, then activated.
    fn cell_out(&self, c: &[E], out: &mut [E]) {
        out.copy_from_slice(c);
        if let Some(norm) = &self.layer_norm {
            normalise(out, norm.epsilon);
            for ((out, &gamma), &beta) in out.iter_mut().zip(&norm.gamma_c).zip(&norm.beta_c) {
                *out = *out * gamma + beta;
            }
        }
        apply(self.activations.output, out);
    }
}

/// Bounds the absolute value; NaN stays NaN.
pub(super) fn clamp<E: Real>(bound: Option<f32>, values: &mut [E]) {
    if let Some(bound) = bound {
        let bound = E::widen(bound);
        for value in values {
            *value = value.clamp(-bound, bound);
        }
    }
}

/// Mean 0 and variance 1 over the row: `(v - mean) / sqrt(variance + epsilon)`. Two passes, with sums in float64.
#[expect(clippy::cast_precision_loss, reason = "a row is short")]
pub(super) fn normalise<E: Real>(row: &mut [E], epsilon: f32) {
    let len = row.len() as f64;
    let mean = row.iter().map(|&value| value.wide()).sum::<f64>() / len;
    let variance = row.iter().map(|&value| (value.wide() - mean).powi(2)).sum::<f64>() / len;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for value in row {
        *value = E::nearest((value.wide() - mean) * scale);
    }
}
