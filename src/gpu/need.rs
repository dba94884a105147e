//! What calls need of a device's memory, and what an error says of it where there is not enough.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::gpu::form::Choice;
use crate::gpu::pack::PackedWeights;
use crate::gpu::plan::{BufferId, Request, Split};
use crate::gpu::{GpuDense, GpuDevice, GpuLstm};
use crate::network::Precision;

/// The sizes of the pieces into which `whole` is cut, the last and shorter one first, and how often there is one of that size.
pub(crate) fn pieces(whole: usize, piece: usize) -> impl Iterator<Item = (usize, usize)> {
    [(whole % piece, 1), (piece, whole / piece)].into_iter().filter(|&(size, times)| size > 0 && times > 0)
}

impl GpuDevice {
    /// That there is no memory for `subject`: with what is taken, as far as anybody tells.
    pub(super) fn out_of_memory(&self, subject: &str, why: &str) -> Error {
        let usage = self.usage();
        let all = usage.allocated_bytes.map_or_else(String::new, |bytes| format!(", the graphics API {bytes} in all"));
        let taken = format!("this engine's buffers take {} bytes{all}", usage.buffer_bytes);
        Error::new(ErrorKind::OutOfMemory, format!("{}: {subject}: {why}; {taken}", self.info()))
    }
}

impl GpuLstm {
    /// Bytes of what a call takes beside the weights, each block of rows built to what `choose` says. `None` where a sum overflows.
    pub(crate) fn memory(&self, split: Split, [batch, seq_len]: [usize; 2], choose: impl Fn(usize) -> Choice) -> Option<Vec<(String, u64)>> {
        let mut memory: BTreeMap<BufferId, u64> = BTreeMap::new();
        for (rows, blocks) in pieces(batch, split.rows) {
            let (mut state_bytes, choice) = (0, choose(rows));
            for (steps, segments) in pieces(seq_len, split.steps) {
                let plan = self.plan(Request { batch: rows, seq_len: steps, ragged: false, start_slot: 0 }, choice);
                for &(id, bytes) in &plan.buffers {
                    let known = memory.entry(id).or_default();
                    match id {
                        BufferId::State => state_bytes = bytes,
                        // every kept plan has its uniforms; segments of odd length start from either slot of h in turn, with a plan for each
                        BufferId::Params => {
                            let plans = if steps % 2 == 1 && segments > 1 { 2 } else { 1 };
                            *known = known.checked_add(bytes.checked_mul(plans)?)?;
                        }
                        _ => *known = bytes.max(*known),
                    }
                }
            }
            // every block has its states
            let known = memory.entry(BufferId::State).or_default();
            *known = known.checked_add(state_bytes.checked_mul(blocks as u64)?)?;
        }
        let (rows, steps) = (split.rows.min(batch), split.steps.min(seq_len));
        let staging = [("upload", self.upload_bytes(rows, steps)), ("download", self.download_bytes(rows, steps))];
        let mut memory: Vec<(String, u64)> = memory.into_iter().map(|(id, bytes)| (id.name(), bytes)).collect();
        memory.extend(staging.map(|(name, bytes)| (name.to_owned(), bytes)));
        Some(memory)
    }

    /// The error of a call, or of states, with what less would take; as it is where it is not one of memory.
    pub(super) fn call_error(&self, error: Error, sizes: [usize; 2], choose: impl Fn(usize) -> Choice) -> Error {
        let [batch, seq_len] = sizes;
        if error.kind() != ErrorKind::OutOfMemory {
            return error;
        }
        let Some((split, memory)) = self.split(batch, seq_len).ok().and_then(|split| Some((split, self.memory(split, sizes, choose)?))) else {
            return error;
        };
        let bytes: u64 = memory.iter().map(|(_, bytes)| bytes).sum();
        let row_bytes = bytes / split.rows.min(batch).max(1) as u64;
        let blocks = if split.rows < batch { format!(" in blocks of {}", split.rows) } else { String::new() };
        error.followed_by(format!(
            "calls of {seq_len} steps and {batch} rows{blocks} take {bytes} bytes beside the weights, {row_bytes} a row: fewer rows or steps need less"
        ))
    }

    /// The error of an upload of weights, with what they take and would take; as it is where it is not one of memory.
    pub(super) fn weights_error(&self, error: Error, packed: &PackedWeights) -> Error {
        if error.kind() == ErrorKind::OutOfMemory { error.followed_by(weights_need(packed)) } else { error }
    }
}

impl GpuDense {
    /// The error of a call for an `x` of this shape, with what less would take; as it is where it is not one of memory.
    pub(super) fn call_error(&self, error: Error, x_shape: &[usize]) -> Error {
        let Some(plan) = self.plan(x_shape).ok().filter(|_| error.kind() == ErrorKind::OutOfMemory) else { return error };
        let (bytes, rows) = (plan.buffers.iter().map(|(_, bytes)| bytes).sum::<u64>(), plan.request.rows.max(1));
        error.followed_by(format!("blocks of {rows} rows take {bytes} bytes beside the weights, {} a row: fewer rows need less", bytes / rows as u64))
    }
}

/// What weights take, and would take where they are stored in fewer bits.
fn weights_need(packed: &PackedWeights) -> String {
    let matrices: u64 = packed.arenas.iter().map(|arena| size_of_val(&arena[..]) as u64).sum();
    let (others, stored) = (packed.bytes() - matrices, packed.layout.precision);
    let as_stored = |precision: Precision| others + matrices / stored.weight_bytes() as u64 * precision.weight_bytes() as u64;
    let need = format!("the weights of the stack take {} bytes as {}", packed.bytes(), stored.name());
    let less: Vec<String> = Precision::ALL
        .into_iter()
        .filter(|precision| precision.weight_bytes() < stored.weight_bytes())
        .map(|precision| format!("{} as {}", as_stored(precision), precision.name()))
        .collect();
    if less.is_empty() { need } else { format!("{need}, and would take {}", less.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::gpu::pack::pack;
    use crate::network::{CellWeights, Lstm, LstmConfig};

    #[test]
    fn pieces_make_the_whole() {
        for (whole, piece, expected) in [(10, 5, &[(5, 2)][..]), (11, 5, &[(1, 1), (5, 2)]), (3, 5, &[(3, 1)]), (0, 5, &[])] {
            assert_eq!(pieces(whole, piece).collect::<Vec<_>>(), expected, "{whole} in pieces of {piece}");
        }
    }

    #[test]
    fn what_other_weights_would_take_is_what_they_take() {
        let config = LstmConfig { proj_size: Some(3), bias: false, ..LstmConfig::new(5, 7) };
        let cell = CellWeights {
            weight_ih: Array2::from_elem((28, 5), 0.5),
            weight_hh: Array2::from_elem((28, 3), 0.5),
            bias_ih: None,
            bias_hh: None,
            weight_hr: Some(Array2::from_elem((3, 7), 0.5)),
            peepholes: None,
            layer_norm: None,
        };
        let lstm = Lstm::new(config, vec![cell]).expect("it is valid");
        let packed = |precision| pack(&lstm, precision, u64::MAX).expect("it fits");
        let bytes = Precision::ALL.map(|precision| packed(precision).bytes());
        assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
        let [f32, f16, int8] = bytes;
        let texts = Precision::ALL.map(|precision| weights_need(&packed(precision)));
        assert_eq!(texts[0], format!("the weights of the stack take {f32} bytes as f32, and would take {f16} as f16 or {int8} as int8"));
        assert_eq!(texts[1], format!("the weights of the stack take {f16} bytes as f16, and would take {int8} as int8"));
        assert_eq!(texts[2], format!("the weights of the stack take {int8} bytes as int8"));
    }
}
