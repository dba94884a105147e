//! Under load: many threads on one engine, many sequences in one stream, sessions that are made and dropped all the time.
//!
//! A minute in all; `CELLGATE_LONG` runs 100,000 steps of 1,000 slots and 10,000 sessions.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cellgate::compare::{Tolerance, compare};
use cellgate::{DeviceKind, Direction, Engine, GraphicsBackend, Inputs, LstmConfig, Network, Slot};
use common::call::{Call, Results, Rng, same_results, widen};
use common::{TestDevice, by_model, conclude, devices, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

/// A sequence by itself is a batch of another size, for which a GPU may have another order of summation.
const ALONE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

const THREADS: usize = 16;
const SESSIONS: usize = 200;
const SLOTS: usize = 1000;

type Test = fn(&Engine) -> Result<(), Failed>;

/// Held by the trial that runs: each counts what there is on its device and in memory, or takes all threads.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    for device in devices().iter().filter(|device| device.name != "reference") {
        trials.push(threads_trial(device));
        let tests: [(&str, Test); 2] = [("streams-under-load", streams), ("sessions-come-and-go", sessions_come_and_go)];
        trials.extend(tests.into_iter().map(|(name, test)| alone(device, name, test)));
    }
    conclude(trials);
}

fn long() -> bool {
    std::env::var_os("CELLGATE_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// Threads on OpenGL have one context, and wgpu panics where one waits for another that compiles.
fn threads_trial(device: &TestDevice) -> Trial {
    let is_gl = device.engine.as_ref().is_some_and(|engine| engine.describe().device.backend == Some(GraphicsBackend::Gl));
    if is_gl {
        let name = format!("{}/16-threads-and-200-sessions (wgpu's OpenGL has one context for all threads)", device.name);
        return Trial::test(name, || Ok(())).with_ignored_flag(true);
    }
    alone(device, "16-threads-and-200-sessions", threads)
}

/// A trial while which no other runs.
fn alone(device: &TestDevice, name: &str, test: Test) -> Trial {
    trial(device, name, move |engine| {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        test(engine)
    })
}

/// Stacks that take different ways, each with a call.
fn calls() -> Vec<Call> {
    let plain = LstmConfig::new(7, 33);
    let configs = [
        plain.clone(),
        LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..plain.clone() },
        LstmConfig { num_layers: 3, ..plain.clone() },
        LstmConfig { proj_size: Some(9), peepholes: true, ..plain },
    ];
    let call = |(config, seed): (LstmConfig, u64)| {
        let mut rng = Rng::new(seed);
        Call::random(config, 9, 1 + seed as usize % 5, &mut rng).with_states(&mut rng)
    };
    configs.into_iter().zip(70..).map(call).collect()
}

/// Every thread makes sessions of shared networks on a shared engine, runs them twice, and drops some of them before they are done with.
fn threads(engine: &Engine) -> Result<(), Failed> {
    let calls = calls();
    let networks: Vec<Network> = calls.iter().map(Call::network).collect::<Result<_, _>>()?;
    let expected: Vec<Results> = calls.iter().map(|call| call.run(engine)).collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SESSIONS {
                return Ok(());
            }
            let which = number % calls.len();
            let mut session = engine.session(&networks[which], by_model())?;
            if number.is_multiple_of(7) {
                // made and dropped, its uploads perhaps under way
                continue;
            }
            for _ in 0..2 {
                same_results(&format!("session {number}"), &calls[which].run_in(&mut session)?, &expected[which])?;
            }
            if number.is_multiple_of(5) && calls[which].config.direction == Direction::Forward {
                let state = session.state(3)?;
                // the session goes before its state
                drop(session);
                drop(state);
            }
        }
    };
    let ends: Vec<Result<(), Failed>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    ends.into_iter().collect()
}

/// A sequence in the stream.
struct Sequence {
    slot: Slot,
    /// every chunk that it was given, `[steps, I]`
    given: Vec<Array2<f32>>,
    /// what came of them, `[steps, R]`
    got: Vec<Array2<f32>>,
    /// steps of the stream until it leaves
    left: usize,
}

/// Sequences join and leave a stream of 1,000 slots at random, in chunks of up to three steps; each is then run alone, as a whole.
fn streams(engine: &Engine) -> Result<(), Failed> {
    let on_cpu = engine.describe().device.kind == DeviceKind::Cpu;
    let steps = match (long(), on_cpu) {
        (true, true) => 100_000,
        (true, false) => 2_000,
        (false, true) => 300,
        (false, false) => 30,
    };
    let call = Call::random(LstmConfig::new(3, 9), 1, 1, &mut Rng::new(80));
    let mut alone = call.session(engine)?;
    let mut stream = call.session(engine)?.into_stream(SLOTS)?;
    let (mut rng, mut active, mut checked) = (Rng::new(81), Vec::<Sequence>::new(), 0);
    for _ in 0..steps {
        for _ in 0..rng.below(40) {
            if active.len() == SLOTS {
                break;
            }
            active.push(Sequence { slot: stream.join()?, given: Vec::new(), got: Vec::new(), left: 1 + rng.below(100) });
        }
        for sequence in &mut active {
            let chunk = rng.below(4);
            sequence.given.push(rng.array((chunk, 3), 1.0));
        }
        let chunks: Vec<(Slot, ArrayView2<'_, f32>)> =
            active.iter().filter_map(|sequence| Some((sequence.slot, sequence.given.last()?.view()))).collect();
        let results = stream.step(&chunks)?;
        for (sequence, result) in active.iter_mut().zip(results) {
            sequence.got.push(result);
            sequence.left -= 1;
        }
        for sequence in active.extract_if(.., |sequence| sequence.left == 0) {
            stream.leave(sequence.slot)?;
            same_as_alone(&mut alone, &sequence, on_cpu)?;
            checked += 1;
        }
    }
    eprintln!("{}: {steps} steps, {checked} sequences that left, {} in the stream", engine.describe().device, active.len());
    if checked == 0 { Err("no sequence left".into()) } else { Ok(()) }
}

/// On the CPU a row has the same bits in every batch.
fn same_as_alone(alone: &mut cellgate::Session, sequence: &Sequence, on_cpu: bool) -> Result<(), Failed> {
    let join = |parts: &[Array2<f32>]| concatenate(Axis(0), &parts.iter().map(|part| part.view()).collect::<Vec<_>>());
    let (x, got) = (join(&sequence.given)?, join(&sequence.got)?);
    let out = alone.run(&Inputs::new().with("x", x.view().insert_axis(Axis(1))))?;
    let expected = out["y"].index_axis(Axis(1), 0);
    if on_cpu && got.view().into_dyn() != expected {
        return Err(format!("a sequence of {} steps has other bits than alone", x.nrows()).into());
    }
    let comparison = compare(got.view().into_dyn(), widen(&expected.to_owned()).view(), ALONE);
    if comparison.passed() { Ok(()) } else { Err(comparison.to_string().into()) }
}

/// Sessions that are made, run and dropped leave nothing behind, neither on the device nor on the host.
fn sessions_come_and_go(engine: &Engine) -> Result<(), Failed> {
    let (warm, sessions) = if long() { (200, 10_000) } else { (30, 300) };
    let calls = calls();
    let networks: Vec<Network> = calls.iter().map(Call::network).collect::<Result<_, _>>()?;
    let live = || engine.usage().map(|usage| usage.buffer_bytes);
    let one = |number: usize| -> Result<(), Failed> {
        let which = number % calls.len();
        let mut session = engine.session(&networks[which], by_model())?;
        calls[which].run_in(&mut session)?;
        Ok(())
    };
    (0..warm).try_for_each(one)?;
    let (device, host) = (live(), resident_bytes());
    (0..sessions).try_for_each(one)?;
    if live() != device {
        return Err(format!("after {sessions} sessions the device holds {:?} bytes, before {device:?}", live()).into());
    }
    let grown = resident_bytes().zip(host).map(|(after, before)| after.saturating_sub(before));
    eprintln!("{}: {sessions} sessions, {grown:?} bytes more in memory", engine.describe().device);
    match grown {
        // what an allocator keeps does not grow with the number of sessions; a driver's caches of a few kilobytes a session are not ours
        Some(grown) if grown > ALLOCATOR + sessions as u64 * PER_SESSION => Err(format!("{sessions} sessions left {grown} bytes in memory").into()),
        _ => Ok(()),
    }
}

/// What an allocator may keep of memory that was given back, and what a session may leave of it in its bookkeeping.
const ALLOCATOR: u64 = 32 << 20;
const PER_SESSION: u64 = 4 << 10;

/// Memory of this process that is there, where the system says.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}
