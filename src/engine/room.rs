//! How much memory a call may take, and what would fit where it needs more.

use crate::device::DeviceKind;
use crate::engine::runner::Runner;
use crate::error::{Error, Result};
use crate::gpu::form::Choice;
use crate::gpu::plan::BufferId;

/// Bytes of so many numbers: more than there are where a product overflows.
pub(super) fn float_bytes(axes: &[usize]) -> u64 {
    axes.iter().fold(size_of::<f32>() as u64, |bytes, &axis| bytes.saturating_mul(axis as u64))
}

/// The largest number up to `most` that `fits`, where all below it do; 0 where none does.
pub(super) fn largest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut end) = (0, most.saturating_add(1));
    while end - fitting > 1 {
        let middle = usize::midpoint(fitting, end);
        if fits(middle) { fitting = middle } else { end = middle }
    }
    fitting
}

/// Checks that a call of `batch` rows and `seq_len` steps, which takes so many `bytes`, takes no more than is allowed.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where it would; the message says what would fit.
pub(super) fn check_call(allowed: Option<u64>, [batch, seq_len]: [usize; 2], bytes: impl Fn([usize; 2]) -> u64) -> Result<()> {
    let need = bytes([batch, seq_len]);
    let Some(allowed) = allowed.filter(|allowed| need > *allowed) else { return Ok(()) };
    let fits = match largest(batch, |rows| bytes([rows, seq_len]) <= allowed) {
        0 => match largest(seq_len, |steps| bytes([1, steps]) <= allowed) {
            0 => "not even one row of one step would fit".to_owned(),
            steps => format!("one row of {steps} steps would fit"),
        },
        rows => format!("{rows} rows would fit"),
    };
    let what = format!("need {need} bytes for results, staging and buffers of {seq_len} steps and {batch} rows");
    Err(Error::limit(format!("limit max_call_bytes: {what}, allowed are {allowed}; {fits}")))
}

impl Runner {
    /// Bytes of the buffers and the staging of a call on a side, weights left out, and states as well where the call finds them there. A call that the
    /// GPU cannot run takes none: it says so itself.
    pub(super) fn device_bytes(&self, side: DeviceKind, sizes: [usize; 2], carried: bool, choose: impl Fn(usize) -> Choice) -> u64 {
        let Some(gpu) = self.gpu().filter(|_| side == DeviceKind::Gpu) else { return 0 };
        let Ok(split) = gpu.split(sizes[0], sizes[1]) else { return 0 };
        let Some(memory) = gpu.memory(split, sizes, choose) else { return u64::MAX };
        let states = BufferId::State.name();
        memory.iter().filter(|(name, _)| !(carried && *name == states)).fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_is_found() {
        for fits in 0..9 {
            assert_eq!(largest(7, |number| number <= fits), fits.min(7), "{fits}");
        }
        assert_eq!(largest(0, |_| true), 0);
    }

    #[test]
    fn what_would_fit_is_said() {
        let bytes = |[rows, steps]: [usize; 2]| (10 + rows * (2 + 5 * steps)) as u64;
        let text = |allowed| check_call(Some(allowed), [8, 4], bytes).expect_err("it needs 186").to_string();
        assert!(check_call(Some(186), [8, 4], bytes).is_ok() && check_call(None, [8, 4], bytes).is_ok());
        assert_eq!(
            text(185),
            "limit max_call_bytes: need 186 bytes for results, staging and buffers of 4 steps and 8 rows, allowed are 185; 7 rows would fit"
        );
        assert!(text(31).ends_with("; one row of 3 steps would fit"));
        assert!(text(16).ends_with("; not even one row of one step would fit"));
    }
}
