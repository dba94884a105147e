//! What `explain` says a call takes on the device is what it takes.

mod common;

use cellgate::{DeviceUsage, Direction, Engine, LstmConfig};
use common::call::{Call, Rng};
use common::{conclude, gpus, trial};
use libtest_mimic::{Failed, Trial};

/// By how much the peak of a run may differ from what was explained.
const SHARE: f64 = 0.05;

/// What the graphics API may take besides: buffers start at multiples, and what is freed goes when the device has caught up.
const BESIDES: u64 = 64 << 10;

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    for device in &gpus() {
        for (name, call) in calls() {
            trials.push(trial(device, &name.replace(' ', "-"), move |engine| explained(engine, &call)));
        }
    }
    conclude(trials);
}

fn calls() -> Vec<(&'static str, Call)> {
    let mut rng = Rng::new(6);
    let mut call = |config: LstmConfig, seq_len, batch| Call::random(config, seq_len, batch, &mut rng);
    let plain = LstmConfig::new(40, 128);
    let (segments, blocks) = (LstmConfig::new(3, 5), LstmConfig::new(3, 1024));
    let both = LstmConfig { direction: Direction::Bidirectional, num_layers: 2, proj_size: Some(64), ..plain.clone() };
    let ragged = Call { lens: Some((0..32).map(|row| row % 31).collect()), ..call(plain.clone(), 30, 32) };
    let ragged_blocks = Call { lens: Some((0..101).map(|row| row % 3).collect()), ..call(blocks.clone(), 2, 101) };
    vec![
        ("plain", call(plain.clone(), 30, 32)),
        ("ragged", ragged),
        ("bidirectional", call(both, 21, 7)),
        ("stacked", call(LstmConfig { num_layers: 3, ..plain.clone() }, 21, 9)),
        ("reverse with layer norm", call(LstmConfig { direction: Direction::Reverse, layer_norm: Some(1e-5), ..plain }, 21, 9)),
        ("time in segments", call(segments.clone(), 4097, 2)),
        ("time in odd segments", call(segments.clone(), 3 * 4095, 1)),
        ("time in segments reverse", call(LstmConfig { direction: Direction::Reverse, ..segments }, 4097, 2)),
        ("rows in blocks", call(blocks, 2, 101)),
        ("rows in blocks ragged", ragged_blocks),
    ]
}

fn usage(engine: &Engine) -> Result<DeviceUsage, Failed> {
    Ok(engine.usage().ok_or("a GPU counts what it makes")?)
}

fn explained(engine: &Engine, call: &Call) -> Result<(), Failed> {
    // a device of its own: its peak is this call's
    let engine = common::opened_anew(engine)?;
    let before = usage(&engine)?;
    let mut session = call.session(&engine)?;
    let explanation = session.explain(call.batch(), call.seq_len())?.lstms.swap_remove(0);
    // the second time, every plan is there at once
    call.run_in(&mut session)?;
    call.run_in(&mut session)?;
    let after = usage(&engine)?;
    let expected = explanation.memory_bytes();
    let table: Vec<_> = explanation.memory.iter().map(|memory| format!("{} {}", memory.name, memory.bytes)).collect();
    eprintln!(
        "{}: {} blocks, {} segments: {expected} bytes explained ({}), at most {} in buffers, {:?} more at the API than {:?}",
        engine.describe().device,
        explanation.row_blocks,
        explanation.time_segments,
        table.join(", "),
        after.peak_buffer_bytes,
        after.allocated_bytes.zip(before.allocated_bytes).map(|(after, before)| after.saturating_sub(before)),
        before.allocated_bytes,
    );
    let within = |bytes: u64, besides: u64| bytes.abs_diff(expected) as f64 <= SHARE * expected as f64 + besides as f64;
    if !within(after.peak_buffer_bytes, 0) {
        return Err(format!("{expected} bytes were explained ({}), the buffers took {}", table.join(", "), after.peak_buffer_bytes).into());
    }
    if let Some((before, after)) = before.allocated_bytes.zip(after.allocated_bytes)
        && !within(after.saturating_sub(before), BESIDES)
    {
        return Err(format!("{expected} bytes were explained, the graphics API took {}", after.saturating_sub(before)).into());
    }
    drop(session);
    let left = usage(&engine)?.buffer_bytes;
    if left == 0 { Ok(()) } else { Err(format!("{left} bytes stay after the session").into()) }
}
