//! Into which blocks of rows and segments of time a call is split.
//!
//! Rows are independent, so any batch can be split. Time can be split where every layer walks the same way: the state is carried
//! from segment to segment. A bidirectional stack needs all of its time at once.

use crate::error::{Error, Result};
use crate::gpu::plan::DeviceProfile;
use crate::gpu::plan::build::{cost_factor, gates_parts};
use crate::gpu::plan::candidates::loops_fit;
use crate::gpu::region::beyond_a_binding;
use crate::network::{Direction, GATES, LstmConfig};

/// How a call is split: every block has at most `rows` rows, every segment at most `steps` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// rows of a block
    pub rows: usize,
    /// steps of a segment
    pub steps: usize,
}

/// Steps beyond which a longer segment gains nothing.
const MAX_STEPS: usize = 4096;

/// Dispatches of a plan where time can be split; each has uniforms of its own.
const MAX_SEGMENT_DISPATCHES: usize = 1 << 14;

/// Dispatches of a plan where time cannot be split.
const MAX_DISPATCHES: usize = 1 << 20;

const F32: u64 = size_of::<f32>() as u64;

/// Splits a call of `batch` rows and `seq_len` steps so that no buffer exceeds what the device binds, and `x`, `y` and what lies between
/// the layers together stay below what the profile allows. For a stack whose time can be split, `rows` does not depend on `seq_len`, so
/// that a state fits every later call.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where one row of one step, or of all steps of a bidirectional stack, does not fit,
/// or where an input is so wide that the driver would end a kernel's loops early.
pub fn split(config: &LstmConfig, batch: usize, seq_len: usize, profile: &DeviceProfile) -> Result<Split> {
    check_loops(config, profile)?;
    let mut rows = max_rows(config, profile)?.min(batch.max(1) as u64);
    let sequence_row = config.input_size.max(config.y_size()) as u64 * F32;
    // x, the sequences between layers, and y once more on its way to the host
    let all_rows = (config.input_size + (config.num_layers.min(2) + 1) * config.y_size()) as u64 * F32;
    let step_dispatches = config.num_layers * (1 + usize::from(config.layer_norm.is_some()) + usize::from(config.proj_size.is_some()));
    let steps = if config.direction == Direction::Bidirectional {
        let steps = seq_len.max(1) as u64;
        if steps.saturating_mul(sequence_row) > profile.max_binding_bytes {
            let name = "x or y [T, 1, features], which a bidirectional stack needs whole";
            return Err(beyond_a_binding(&format!("one row of {name}"), steps.saturating_mul(sequence_row), profile.max_binding_bytes));
        }
        if seq_len.saturating_mul(step_dispatches) > MAX_DISPATCHES {
            return Err(Error::limit(format!(
                "limit dispatches of a call: need {} for seq_len = {seq_len} of {} bidirectional layers, which are run whole, allowed are {}",
                seq_len.saturating_mul(step_dispatches),
                config.num_layers,
                MAX_DISPATCHES
            )));
        }
        rows = rows.min(profile.max_binding_bytes / (steps * sequence_row)).min((profile.activation_bytes / (steps * all_rows)).max(1));
        seq_len
    } else {
        let by_memory = (profile.max_binding_bytes / (rows * sequence_row)).min(profile.activation_bytes / (rows * all_rows)).max(1);
        let by_plan = MAX_STEPS.min(MAX_SEGMENT_DISPATCHES / step_dispatches).max(1);
        // even segments: 1000 steps in four times 250 rather than three times 300 and 100
        let fit = by_plan.min(usize::try_from(by_memory).unwrap_or(usize::MAX));
        seq_len.div_ceil(seq_len.div_ceil(fit).max(1))
    };
    let rows = usize::try_from(rows).expect("at most the batch, which is a usize");
    // even blocks, likewise
    Ok(Split { rows: batch.div_ceil(batch.div_ceil(rows).max(1)).max(1), steps: steps.max(1) })
}

/// Whether `rows` rows run so many steps in one block and one segment.
pub fn is_one_segment(config: &LstmConfig, rows: usize, seq_len: usize, profile: &DeviceProfile) -> bool {
    rows > 0 && seq_len > 0 && split(config, rows, seq_len, profile).is_ok_and(|split| rows <= split.rows && seq_len <= split.steps)
}

/// How many rows one step can have.
fn max_rows(config: &LstmConfig, profile: &DeviceProfile) -> Result<u64> {
    let (dirs, hidden, out) = (config.num_directions() as u64, config.hidden_size as u64, config.out_size() as u64);
    let gates_row = dirs * hidden * GATES as u64 * F32;
    let buffers = [
        ("state [L*D, N, 2*R+H]", config.num_cells() as u64 * (2 * out + hidden) * F32),
        ("gates_x [D, 1, N, 4*H]", gates_row * gates_parts(config) as u64),
        ("scratch [D, N, 5*H]", gates_row + dirs * hidden * F32),
        ("x or y [1, N, features]", config.input_size.max(config.y_size()) as u64 * F32),
    ];
    let mut rows = u64::from(profile.max_workgroups);
    for (name, row_bytes) in buffers {
        rows = rows.min(profile.max_binding_bytes / row_bytes);
        if rows == 0 {
            return Err(beyond_a_binding(&format!("one row of {name}"), row_bytes, profile.max_binding_bytes));
        }
    }
    // one step of all rows should not fill a submit by itself
    let widest = config.layer_input_size(0).max(config.y_size()) as u64;
    let step_flops = (dirs * 2 * GATES as u64 * hidden * (out + widest)) as f64 * cost_factor(config);
    Ok(rows.min(((profile.flops_per_submit() / step_flops) as u64).max(4)))
}

/// Refuses what a driver would end early, in silence.
fn check_loops(config: &LstmConfig, profile: &DeviceProfile) -> Result<()> {
    if loops_fit(config, profile) {
        return Ok(());
    }
    Err(Error::limit(format!(
        "limit loop iterations of a thread: needs more for input_size = {}, hidden_size = {} than the {} that the driver allows",
        config.input_size, config.hidden_size, profile.max_loop_iterations,
    )))
}
