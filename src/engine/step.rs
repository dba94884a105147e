//! A step of a stream: chunks of different lengths, side by side.

use ndarray::{Array2, Array3, ArrayView2, Axis, s};

use crate::engine::room::{check_call, float_bytes, largest};
use crate::engine::{Slot, Stream};
use crate::error::{Error, Result};
use crate::gpu::Wait;
use crate::network::check_room;

/// Bytes that the chunks and results of a step may take where every slot is as long as the longest: a longer step runs in windows of time.
const WINDOW_BYTES: u64 = 64 << 20;

/// What a step is given: chunks `[steps, I]`.
pub(super) type Chunks<'c> = [(Slot, ArrayView2<'c, f32>)];

impl Stream<'_> {
    pub(super) async fn step_and_wait(&mut self, chunks: &Chunks<'_>, wait: Wait) -> Result<Vec<Array2<f32>>> {
        let longest = self.check_chunks(chunks)?;
        let (runner, _) = self.session.only_runner()?;
        let (input_size, out_size) = (runner.config().input_size, runner.config().out_size());
        let window = self.window(chunks, longest, [input_size, out_size])?;
        let capacity = self.capacity();
        check_room::<f32>("chunks [steps, capacity, input_size]", [[window, capacity, input_size]])?;
        check_room::<f32>("results [steps, capacity, out_size]", [[window, capacity, out_size]])?;
        let results = chunks.iter().map(|(_, chunk)| {
            check_room::<f32>("results [steps, out_size]", [[chunk.nrows(), out_size]])?;
            Ok(Array2::zeros((chunk.nrows(), out_size)))
        });
        let mut results = results.collect::<Result<Vec<Array2<f32>>>>()?;
        for start in (0..longest).step_by(window) {
            let steps = window.min(longest - start);
            let (mut x, mut lens) = (Array3::zeros((steps, capacity, input_size)), vec![0_u32; capacity]);
            let part = |chunk: &ArrayView2<'_, f32>| start.min(chunk.nrows())..(start + steps).min(chunk.nrows());
            for (slot, chunk) in chunks {
                let part = part(chunk);
                x.slice_mut(s![..part.len(), slot.row(), ..]).assign(&chunk.slice(s![part.clone(), ..]));
                lens[slot.row()] = u32::try_from(part.len()).unwrap_or(u32::MAX);
            }
            let mut y = Array3::zeros((steps, capacity, out_size));
            let ran = self.run(x.view(), &lens, y.view_mut().insert_axis(Axis(2)), wait).await;
            if ran.is_err() && start > 0 {
                // the windows before have taken everybody further
                self.lose_all();
            }
            ran?;
            for ((slot, chunk), result) in chunks.iter().zip(&mut results) {
                let part = part(chunk);
                result.slice_mut(s![part.clone(), ..]).assign(&y.slice(s![..part.len(), slot.row(), ..]));
            }
        }
        Ok(results)
    }

    /// Checks that every chunk is one that its sequence can take; gives the steps of the longest.
    fn check_chunks(&mut self, chunks: &Chunks<'_>) -> Result<usize> {
        let (runner, _) = self.session.only_runner()?;
        let input_size = runner.config().input_size;
        let mut seen = vec![false; self.capacity()];
        for (slot, chunk) in chunks {
            self.holding(*slot)?;
            let row = slot.row();
            if std::mem::replace(&mut seen[row], true) {
                return Err(Error::config(format!("stream: slot {row} is given twice in one step")));
            }
            if chunk.ncols() != input_size {
                return Err(Error::shape(format!("chunk of slot {row}: expected [steps, input_size = {input_size}], found {:?}", chunk.shape())));
            }
            u32::try_from(chunk.nrows()).map_err(|_| Error::shape(format!("chunk of slot {row}: too many steps")))?;
        }
        Ok(chunks.iter().map(|(_, chunk)| chunk.nrows()).max().unwrap_or(0))
    }

    /// Steps that run at once: all that take no more memory than is worth while, and than is allowed.
    fn window(&mut self, chunks: &Chunks<'_>, longest: usize, [input_size, out_size]: [usize; 2]) -> Result<usize> {
        let (capacity, allowed) = (self.capacity(), self.session.options.max_call_bytes);
        let padded = |steps: usize| float_bytes(&[steps, capacity, input_size]).saturating_add(float_bytes(&[steps, capacity, out_size]));
        let window = largest(longest, |steps| padded(steps) <= WINDOW_BYTES).max(1);
        let results = chunks.iter().fold(0_u64, |sum, (_, chunk)| sum.saturating_add(float_bytes(&[chunk.nrows(), out_size])));
        let Some(allowed) = allowed else { return Ok(window) };
        let need = |steps: usize| padded(steps).saturating_add(results).saturating_add(self.device_bytes(capacity, steps));
        match largest(window, |steps| need(steps) <= allowed) {
            0 => {
                check_call(Some(allowed), [capacity, 1], |[_, steps]| need(steps))?;
                Ok(window)
            }
            steps => Ok(steps),
        }
    }
}
