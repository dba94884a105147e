//! Into which blocks of rows and segments of time a call is split.
//!
//! Rows are independent, so any batch can be split. Time can be split where every layer walks the same way: the state is carried
//! from segment to segment. A bidirectional stack needs all of its time at once.

use crate::error::{Error, Result};
use crate::gpu::plan::DeviceProfile;
use crate::gpu::plan::build::gates_parts;
use crate::network::{Direction, GATES, LstmConfig};

/// How a call is split: every block has at most `rows` rows, every segment at most `steps` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// rows of a block
    pub rows: usize,
    /// steps of a segment
    pub steps: usize,
}

/// Steps beyond which a longer segment gains nothing: a plan has uniforms and dispatches for every step of it.
const MAX_STEPS: usize = 4096;

const F32: u64 = size_of::<f32>() as u64;

/// Splits a call of `batch` rows and `seq_len` steps so that no buffer exceeds what the device binds, and all of them together
/// stay below what the profile allows. For a stack whose time can be split, `rows` does not depend on `seq_len`, so that a state
/// fits every later call.
///
/// # Errors
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) where one row of one step, or of all steps of a bidirectional stack, does not fit.
pub fn split(config: &LstmConfig, batch: usize, seq_len: usize, profile: &DeviceProfile) -> Result<Split> {
    let needed = loop_iterations(config);
    if needed > profile.max_loop_iterations {
        return Err(Error::limit(format!(
            "limit loop iterations of a thread: need {needed} for input_size = {}, hidden_size = {}, the driver allows {}",
            config.input_size, config.hidden_size, profile.max_loop_iterations,
        )));
    }
    let (dirs, hidden, out) = (config.num_directions() as u64, config.hidden_size as u64, config.out_size() as u64);
    let gates_row = dirs * hidden * GATES as u64 * F32;
    let gates_parts = gates_parts(config) as u64;
    let state_row = config.num_cells() as u64 * (2 * out + hidden) * F32;
    let scratch_row = gates_row + dirs * hidden * F32;
    let sequence_row = config.input_size.max(config.y_size()) as u64 * F32;
    let binding = profile.max_binding_bytes.min(profile.activation_bytes);

    let mut rows = batch.max(1) as u64;
    let mut fit = |name: &str, row_bytes: u64, limit: u64| {
        rows = rows.min(limit / row_bytes);
        if rows == 0 { Err(too_large(name, row_bytes, limit)) } else { Ok(()) }
    };
    fit("state [L*D, N, 2*R+H]", state_row, profile.max_binding_bytes)?;
    fit("gates_x [D, 1, N, 4*H]", gates_row * gates_parts, profile.max_binding_bytes)?;
    fit("scratch [D, N, 5*H]", scratch_row, profile.max_binding_bytes)?;
    fit("x or y [1, N, features]", sequence_row, profile.max_binding_bytes)?;

    // one step of all rows should not fill a submit by itself
    let step_flops = (dirs * 2 * GATES as u64 * hidden * (out + config.layer_input_size(0).max(config.y_size()) as u64)) as f64;
    rows = rows.min(((profile.flops_per_submit() / step_flops) as u64).max(4)).min(u64::from(profile.max_workgroups));

    let per_step = |rows: u64| rows * sequence_row;
    let steps = if config.direction == Direction::Bidirectional {
        let all_steps = sequence_row * seq_len.max(1) as u64;
        if all_steps > profile.max_binding_bytes {
            return Err(too_large("x or y [T, 1, features], which a bidirectional stack needs whole,", all_steps, profile.max_binding_bytes));
        }
        rows = rows.min((binding / all_steps).max(1));
        seq_len
    } else {
        // even segments: 1000 steps in four times 250 rather than three times 300 and 100
        let fit = (binding / per_step(rows)).clamp(1, seq_len.clamp(1, MAX_STEPS) as u64) as usize;
        seq_len.div_ceil(seq_len.div_ceil(fit).max(1))
    };
    let rows = usize::try_from(rows).expect("at most the batch, which is a usize");
    // even blocks, likewise
    Ok(Split { rows: batch.div_ceil(batch.div_ceil(rows).max(1)).max(1), steps: steps.max(1) })
}

/// Loop iterations of the longest-running thread of any kernel, the last test of every loop included.
fn loop_iterations(config: &LstmConfig) -> u64 {
    let largest_input = (0..config.num_layers.min(2)).map(|layer| config.layer_input_size(layer)).max().unwrap_or(0) as u64;
    // a tile of 16: itself, staging twice, the products, each with the test that ends its loop; behind the tiles, the loop that stores
    let input_gates = largest_input.div_ceil(16) * (1 + 3 + 5 + 17) + 8;
    // a tile of 64 for one thread a sum
    let row_product = (config.hidden_size.max(config.out_size()) as u64).div_ceil(64) * (64 + 4) + 8;
    input_gates.max(row_product)
}

fn too_large(name: &str, need: u64, allowed: u64) -> Error {
    Error::limit(format!("limit max_storage_buffer_binding_size: need {need} bytes for one row of {name} the adapter allows {allowed}"))
}
