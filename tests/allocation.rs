//! A call like an earlier one makes nothing on the device, and allocates nothing on the host that grows with its tensors; timed calls say where
//! their time went, and do not either.

mod common;
#[path = "common/counting.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test program is a crate of its own and uses a part of it")]
mod counting;

use std::sync::atomic::Ordering;

use cellgate::{Direction, Engine, LstmConfig, Options, Outputs};
use common::call::{Call, Rng};
use common::{by_model, devices, trial};
use counting::{ALLOCATED, Counting};
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a warmed-up call may allocate besides, for a submit and for each of its dispatches: wgpu records commands in vectors that grow.
const SUBMIT_BYTES: usize = 96 << 10;
const DISPATCH_BYTES: usize = 4 << 10;

/// What a warmed-up call on the CPU may allocate: names of tensors and the like, which are some 5 KB whatever the call.
const HOST_BYTES: usize = 8 << 10;

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    for device in devices().iter().filter(|device| device.name.starts_with("gpu")) {
        trials.push(trial(device, "a-call-like-an-earlier-one", again));
        trials.push(trial(device, "calls-of-any-lengths", lengths));
        trials.push(trial(device, "timed-calls", timed));
    }
    for device in devices().iter().filter(|device| device.name == "cpu") {
        trials.push(trial(device, "a-call-like-an-earlier-one", on_the_host));
    }
    // one after the other: all count together
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit()
}

/// Bytes that `run` allocates, of several times the least, because pools grow now and then.
fn allocated(mut run: impl FnMut() -> Result<(), Failed>) -> Result<usize, Failed> {
    let mut least = usize::MAX;
    for _ in 0..5 {
        let before = ALLOCATED.load(Ordering::Relaxed);
        run()?;
        least = least.min(ALLOCATED.load(Ordering::Relaxed) - before);
    }
    Ok(least)
}

/// Buffers, bind groups and pipelines made so far.
fn made(engine: &Engine) -> Option<[u64; 3]> {
    engine.usage().map(|usage| [usage.buffers_made, usage.bind_groups_made, usage.pipelines_made])
}

fn variants() -> Vec<(&'static str, LstmConfig)> {
    let plain = LstmConfig::new(64, 64);
    vec![
        ("plain", plain.clone()),
        ("bidirectional, two layers", LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..plain.clone() }),
        ("layer norm and projection", LstmConfig { layer_norm: Some(1e-5), proj_size: Some(32), ..plain }),
    ]
}

/// `call`, warmed up: the bytes that it allocates, and the dispatches and submits that it has.
fn warmed_up(engine: &Engine, call: &Call) -> Result<(usize, usize, usize), Failed> {
    let mut session = call.session(engine)?;
    let lens = call.lens.clone().map(ndarray::Array1::from);
    let x = if call.batch_first { call.x.view().permuted_axes([1, 0, 2]) } else { call.x.view() };
    let mut inputs = cellgate::Inputs::new().with("x", x);
    if let Some(lens) = &lens {
        inputs.insert("sequence_lens", lens.view());
    }
    for (name, state) in [("h_0", &call.h_0), ("c_0", &call.c_0)] {
        if let Some(state) = state {
            inputs.insert(name, state.view());
        }
    }
    let expected = session.run(&inputs)?;
    let mut outputs = Outputs::default();
    for _ in 0..3 {
        session.run_into(&inputs, &mut outputs)?;
    }
    let before = made(engine);
    let bytes = allocated(|| Ok(session.run_into(&inputs, &mut outputs)?))?;
    if made(engine) != before {
        return Err(format!("a warmed-up call made something: {:?}, before {before:?}", made(engine)).into());
    }
    if outputs != expected {
        return Err("run_into gives other values than run".into());
    }
    let lstm = session.explain(call.batch(), call.seq_len())?.lstms.swap_remove(0);
    Ok((bytes, lstm.num_dispatches(), lstm.submits))
}

fn again(engine: &Engine) -> Result<(), Failed> {
    for (name, config) in variants() {
        for (batch_first, ragged) in [(false, false), (true, true)] {
            let mut sizes = Vec::new();
            for batch in [16, 64] {
                let mut rng = Rng::new(1);
                let mut call = Call { batch_first, ..Call::random(config.clone(), 6, batch, &mut rng).with_states(&mut rng) };
                // the last row has all steps, so that all are run
                call.lens = ragged.then(|| (0..batch as i64).map(|row| if row + 1 == batch as i64 { 6 } else { row % 6 }).collect());
                let tensors = (call.x.len() + 6 * batch * config.y_size()) * size_of::<f32>();
                let (bytes, dispatches, submits) = warmed_up(engine, &call)?;
                let bound = submits * SUBMIT_BYTES + dispatches * DISPATCH_BYTES;
                if bytes > bound {
                    return Err(format!("{name}, {batch} rows: {bytes} bytes allocated, at most {bound} expected").into());
                }
                sizes.push((bytes, tensors, (dispatches, submits)));
            }
            let [(few, few_tensors, few_commands), (many, many_tensors, many_commands)] = sizes[..] else { return Err("two sizes were run".into()) };
            if few_commands != many_commands {
                return Err(format!("{name}: the sizes cannot be compared: {few_commands:?} and {many_commands:?} dispatches and submits").into());
            }
            // an array of the call's would grow by far more than this
            if many > few + (many_tensors - few_tensors) / 16 {
                return Err(format!("{name}: four times the rows allocate {many} bytes, one time {few}").into());
            }
            let device = &engine.describe().device;
            eprintln!(
                "{device}: {name}: {few} bytes with tensors of {few_tensors}, {many} with {many_tensors}, {few_commands:?} dispatches and submits"
            );
        }
    }
    Ok(())
}

/// Few rows and many, in the same memory however long the call is. Layer-normalised stacks make their arrays anew.
fn on_the_host(engine: &Engine) -> Result<(), Failed> {
    let plain = LstmConfig::new(64, 64);
    let variants = [
        ("plain", plain.clone()),
        ("three layers", LstmConfig { num_layers: 3, ..plain.clone() }),
        ("bidirectional, two layers", LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..plain.clone() }),
        ("projection", LstmConfig { proj_size: Some(32), ..plain }),
    ];
    for (name, config) in variants {
        for (batch, seq_len, ragged) in [(1, 1, false), (1, 100, false), (1, 400, false), (3, 200, true), (64, 50, false), (64, 200, true)] {
            let mut rng = Rng::new(4);
            let mut call = Call::random(config.clone(), seq_len, batch, &mut rng).with_states(&mut rng);
            call.lens = ragged.then(|| (0..batch).map(|row| (seq_len - row) as i64).collect());
            let (bytes, ..) = warmed_up(engine, &call)?;
            eprintln!("{name}, {batch} x {seq_len}: {bytes} bytes");
            if bytes > HOST_BYTES {
                return Err(format!("{name}, {batch} rows, {seq_len} steps: {bytes} bytes allocated, at most {HOST_BYTES} expected").into());
            }
        }
    }
    Ok(())
}

/// Rows of other lengths in every call share a few plans, which are all there after a while.
fn lengths(engine: &Engine) -> Result<(), Failed> {
    let (seq_len, batch) = (50, 5);
    let call = Call::random(LstmConfig::new(7, 33), seq_len, batch, &mut Rng::new(2));
    let mut session = call.session(engine)?;
    let mut run = |longest: usize| -> Result<(), Failed> {
        let lens = (0..batch).map(|row| longest.saturating_sub(row) as i64).collect();
        Call { lens: Some(lens), ..call.clone() }.run_in(&mut session)?;
        Ok(())
    };
    // buffers grow with the longest call so far, and take the plans bound to them along: the second time all are there
    (0..=seq_len).try_for_each(&mut run)?;
    (0..=seq_len).try_for_each(&mut run)?;
    let before = made(engine);
    (0..=seq_len).try_for_each(&mut run)?;
    if made(engine) == before { Ok(()) } else { Err(format!("lengths seen before made something: {:?}, before {before:?}", made(engine)).into()) }
}

/// A session that times its calls gives the same values, and says where the time went; several submits are timed together.
fn timed(engine: &Engine) -> Result<(), Failed> {
    let call = Call::random(LstmConfig { num_layers: 2, ..LstmConfig::new(3, 5) }, 2500, 2, &mut Rng::new(3));
    let mut plain = call.session(engine)?;
    let expected = call.run_in(&mut plain)?;
    if plain.profile().is_some() {
        return Err("a session that times nothing has times".into());
    }
    let mut session = engine.session(&call.network()?, Options { profile: true, ..by_model() })?;
    call.run_in(&mut session)?;
    let before = made(engine);
    let began = std::time::Instant::now();
    if call.run_in(&mut session)? != expected {
        return Err("a timed call gives other values".into());
    }
    let took = began.elapsed();
    if made(engine) != before {
        return Err(format!("a warmed-up timed call made something: {:?}, before {before:?}", made(engine)).into());
    }
    let profile = session.profile().ok_or("a timed session has no times")?;
    let submits = session.explain(2, 2500)?.lstms[0].submits;
    eprintln!("{}: {submits} submits, {took:?}: {profile:?}", engine.describe().device);
    let host = [profile.encode, profile.submit_to_done, profile.readback];
    if host.iter().any(|phase| phase.is_zero() || *phase > took) || profile.device.is_some_and(|device| device.is_zero() || device > took) {
        return Err(format!("times that cannot be of a call of {took:?}: {profile:?}").into());
    }
    Ok(())
}
