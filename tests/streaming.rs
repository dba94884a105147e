//! Streams: sequences that join and leave at any time, in chunks of any length, get what they would have got alone.

mod common;

use cellgate::compare::{Tolerance, compare};
use cellgate::{DeviceKind, Engine, ErrorKind, Inputs, LstmConfig, Slot, Stream};
use common::call::{Call, Rng, same_bits, widen};
use common::{conclude, devices, gpus_by_schedule, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

/// A sequence by itself is a batch of another size, for which another order of summation may be faster.
const ALONE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

const CAPACITY: usize = 6;

type Test = fn(&Engine) -> Result<(), Failed>;

const TESTS: &[(&str, Test)] = &[
    ("sequences that come and go for 300 steps", come_and_go),
    ("a sequence does not see who held its slot before", slots_are_clean),
    ("chunks of any length give the same bits", any_chunks),
    ("step_all is step for everybody", step_all),
    ("a state that is read joins again", read_and_join),
    ("a stream can own its session", owned),
    ("async calls give the same bits", async_calls),
    ("wrong use is an error of the right kind", wrong_use),
    ("a call that is given up leaves no state to go on with", given_up),
    ("a call that fails behind its first LSTM leaves no state to go on with", half_done),
];

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    for device in devices().iter().chain(&gpus_by_schedule()) {
        trials.extend(TESTS.iter().map(|(name, test)| trial(device, &name.replace(' ', "-"), *test)));
    }
    conclude(trials);
}

/// The variants that a stream can run, each with weights; the input of the call is not used.
fn calls() -> Vec<Call> {
    let plain = LstmConfig::new(5, 33);
    let everything = LstmConfig {
        num_layers: 2,
        proj_size: Some(7),
        peepholes: true,
        layer_norm: Some(1e-3),
        clip: Some(2.0),
        cell_clip: Some(1.5),
        proj_clip: Some(0.9),
        ..plain.clone()
    };
    [plain.clone(), LstmConfig { num_layers: 3, ..plain }, everything]
        .into_iter()
        .zip(20..)
        .map(|(config, seed)| Call::random(config, 1, 1, &mut Rng::new(seed)))
        .collect()
}

/// Steps one sequence in a stream in which nobody else is.
fn step_one(stream: &mut Stream<'_>, slot: Slot, chunk: ArrayView2<'_, f32>) -> Result<Array2<f32>, Failed> {
    let mut y = stream.step(&[(slot, chunk)])?;
    match (y.pop(), y.is_empty()) {
        (Some(y), true) => Ok(y),
        _ => Err("one chunk, but not one result".into()),
    }
}

/// A sequence on its way through a stream: what went in and what came out.
struct Sequence {
    slot: Slot,
    x: Vec<Array2<f32>>,
    y: Vec<Array2<f32>>,
}

impl Sequence {
    fn whole(parts: &[Array2<f32>]) -> Result<Array2<f32>, Failed> {
        Ok(concatenate(Axis(0), &parts.iter().map(|part| part.view()).collect::<Vec<_>>())?)
    }

    /// The sequence in a stream of the same capacity of its own, to the bit; and as one call of one row, within a tolerance.
    fn check(&self, call: &Call, engine: &Engine) -> Result<(), Failed> {
        if self.x.is_empty() {
            return Ok(());
        }
        let (x, y) = (Self::whole(&self.x)?, Self::whole(&self.y)?);
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let slot = stream.join()?;
        same_bits("beside others and alone in a stream", &y, &step_one(&mut stream, slot, x.view())?)?;
        let solo = Call { x: x.insert_axis(Axis(1)), ..call.clone() }.run(engine)?;
        close("in a stream and in a call", &y, &solo.y.index_axis(Axis(1), 0).to_owned())
    }
}

fn close(what: &str, actual: &Array2<f32>, expected: &Array2<f32>) -> Result<(), Failed> {
    let comparison = compare(actual.view().into_dyn(), widen(expected).view(), ALONE);
    if comparison.passed() { Ok(()) } else { Err(format!("{what}: {comparison}").into()) }
}

fn come_and_go(engine: &Engine) -> Result<(), Failed> {
    for call in calls() {
        let mut rng = Rng::new(1);
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let (mut active, mut ended): (Vec<Sequence>, Vec<Sequence>) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            if active.len() < CAPACITY && rng.below(3) == 0 {
                active.push(Sequence { slot: stream.join()?, x: Vec::new(), y: Vec::new() });
            }
            if !active.is_empty() && rng.below(8) == 0 {
                let sequence = active.swap_remove(rng.below(active.len()));
                stream.leave(sequence.slot)?;
                ended.push(sequence);
            }
            if stream.active() != active.len() {
                return Err(format!("{} sequences are active, the stream says {}", active.len(), stream.active()).into());
            }
            // most have something new, in any order, sometimes nothing at all
            let mut chunks: Vec<(usize, Array2<f32>)> = Vec::new();
            for place in rng.permutation(active.len()) {
                if rng.below(4) > 0 {
                    let steps = [1, 1, 1, 2, 5, 0][rng.below(6)];
                    chunks.push((place, rng.array((steps, 5), 1.0)));
                }
            }
            let given: Vec<(Slot, ArrayView2<'_, f32>)> = chunks.iter().map(|(place, chunk)| (active[*place].slot, chunk.view())).collect();
            let results = stream.step(&given)?;
            if results.len() != chunks.len() {
                return Err(format!("{} chunks gave {} results", chunks.len(), results.len()).into());
            }
            for ((place, chunk), y) in chunks.into_iter().zip(results) {
                if y.dim() != (chunk.nrows(), call.config.out_size()) {
                    return Err(format!("a chunk of {:?} gave {:?}", chunk.dim(), y.dim()).into());
                }
                active[place].x.push(chunk);
                active[place].y.push(y);
            }
        }
        ended.append(&mut active);
        if ended.len() < 20 {
            return Err(format!("only {} sequences: the test tests little", ended.len()).into());
        }
        ended.iter().try_for_each(|sequence| sequence.check(&call, engine))?;
    }
    Ok(())
}

fn slots_are_clean(engine: &Engine) -> Result<(), Failed> {
    for call in calls() {
        let mut rng = Rng::new(2);
        let x: Array2<f32> = rng.array((4, 5), 1.0);
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let first = stream.join()?;
        let expected = step_one(&mut stream, first, x.view())?;
        for garbage in [1e30, f32::NAN] {
            let slot = stream.join()?;
            step_one(&mut stream, slot, Array2::from_elem((3, 5), garbage).view())?;
            stream.leave(slot)?;
            // the next one to join takes the lowest free slot: the one that was left
            let next = stream.join()?;
            same_bits("in a slot that was used before", &step_one(&mut stream, next, x.view())?, &expected)?;
            stream.leave(next)?;
        }
    }
    Ok(())
}

fn any_chunks(engine: &Engine) -> Result<(), Failed> {
    for call in calls() {
        let x: Array2<f32> = Rng::new(3).array((12, 5), 1.0);
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let slot = stream.join()?;
        let expected = step_one(&mut stream, slot, x.view())?;
        let end = stream.read(slot)?;
        stream.leave(slot)?;
        for ends in [&[1, 12][..], &[5, 6, 12], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[4, 4, 12]] {
            let slot = stream.join()?;
            let (mut from, mut parts) = (0, Vec::new());
            for &end in ends {
                parts.push(step_one(&mut stream, slot, x.slice(s![from..end, ..]))?);
                from = end;
            }
            same_bits(&format!("chunks that end at {ends:?}"), &Sequence::whole(&parts)?, &expected)?;
            if stream.read(slot)? != end {
                return Err(format!("chunks that end at {ends:?} leave another state").into());
            }
            stream.leave(slot)?;
        }
    }
    Ok(())
}

fn step_all(engine: &Engine) -> Result<(), Failed> {
    for batch_first in [false, true] {
        for call in calls() {
            let call = Call { batch_first, ..call };
            let mut rng = Rng::new(4);
            let mut session = call.session(engine)?;
            let x = rng.array((3, CAPACITY, 5), 1.0);
            let mut stream = session.stream(CAPACITY)?;
            let slots = [stream.join()?, stream.join()?, stream.join()?];
            stream.leave(slots[1])?;
            let expected = stream.step(&[(slots[0], x.slice(s![.., 0, ..])), (slots[2], x.slice(s![.., 2, ..]))])?;

            let mut session = call.session(engine)?;
            let mut stream = session.stream(CAPACITY)?;
            let slots = [stream.join()?, stream.join()?, stream.join()?];
            stream.leave(slots[1])?;
            let given = if batch_first { x.view().permuted_axes([1, 0, 2]) } else { x.view() };
            let y = stream.step_all(given)?.into_dimensionality::<ndarray::Ix3>()?;
            let y = if batch_first { y.permuted_axes([1, 0, 2]) } else { y };
            for row in 0..CAPACITY {
                let row_y = y.index_axis(Axis(1), row).to_owned();
                match row {
                    0 => same_bits("row 0", &row_y, &expected[0])?,
                    2 => same_bits("row 2", &row_y, &expected[1])?,
                    _ => same_bits(&format!("row {row}, which nobody holds"), &row_y, &Array2::zeros(row_y.dim()))?,
                }
            }
        }
    }
    Ok(())
}

fn read_and_join(engine: &Engine) -> Result<(), Failed> {
    for call in calls() {
        let mut rng = Rng::new(5);
        let x: Array2<f32> = rng.array((9, 5), 1.0);
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let slot = stream.join()?;
        step_one(&mut stream, slot, x.slice(s![..4, ..]))?;
        let state = stream.read(slot)?;
        let copy = stream.join_with(&state)?;
        if stream.read(copy)? != state {
            return Err("a state that joined is read back differently".into());
        }
        let (expected, actual) = (step_one(&mut stream, slot, x.slice(s![4.., ..]))?, step_one(&mut stream, copy, x.slice(s![4.., ..]))?);
        if engine.describe().device.kind == DeviceKind::Reference {
            // it keeps states in float64, and a state that is read is float32
            close("the copy goes on", &actual, &expected)?;
            continue;
        }
        same_bits("the copy goes on", &actual, &expected)?;
        // whose steps left the other one alone
        if stream.read(slot)? != stream.read(copy)? {
            return Err("the sequence and its copy end in different states".into());
        }
    }
    Ok(())
}

/// What a service keeps: no lifetime, and it may go to another thread.
struct Service {
    stream: Stream<'static>,
    slot: Slot,
}

fn owned(engine: &Engine) -> Result<(), Failed> {
    let call = calls().swap_remove(0);
    let x: Array2<f32> = Rng::new(9).array((4, 5), 1.0);
    let mut session = call.session(engine)?;
    let mut stream = session.stream(2)?;
    let slot = stream.join()?;
    let expected = step_one(&mut stream, slot, x.view())?;
    if stream.into_session().is_some() {
        return Err("a stream gives away a session that it borrowed".into());
    }
    let mut stream = session.into_stream(2)?;
    let mut service = Service { slot: stream.join()?, stream };
    let (service, y) = std::thread::scope(|scope| {
        let run = || step_one(&mut service.stream, service.slot, x.view()).map(|y| (service, y));
        scope.spawn(run).join().map_err(|_| "the thread panicked")
    })??;
    same_bits("from a stream that owns its session", &y, &expected)?;
    let mut session = service.stream.into_session().ok_or("no session comes back")?;
    call.run_in(&mut session)?;
    Ok(())
}

fn async_calls(engine: &Engine) -> Result<(), Failed> {
    for call in calls() {
        let mut rng = Rng::new(6);
        let (a, b): (Array2<f32>, Array2<f32>) = (rng.array((3, 5), 1.0), rng.array((2, 5), 1.0));
        let mut session = call.session(engine)?;
        let mut stream = session.stream(CAPACITY)?;
        let slots = [stream.join()?, stream.join()?, stream.join()?, stream.join()?];
        let blocking = stream.step(&[(slots[0], a.view()), (slots[1], b.view())])?;
        let awaited = pollster::block_on(stream.step_async(&[(slots[2], a.view()), (slots[3], b.view())]))?;
        for (awaited, blocking) in awaited.iter().zip(&blocking) {
            same_bits("step_async", awaited, blocking)?;
        }

        if pollster::block_on(stream.read_async(slots[0]))? != stream.read(slots[0])? {
            return Err("read_async gives another state than read".into());
        }
        let mut all = |seed, wait| -> Result<ndarray::ArrayD<f32>, Failed> {
            let mut stream = session.stream(2)?;
            stream.join()?;
            let x: ndarray::Array3<f32> = Rng::new(seed).array((3, 2, 5), 1.0);
            Ok(if wait { stream.step_all(x.view())? } else { pollster::block_on(stream.step_all_async(x.view()))? })
        };
        same_bits("step_all_async", &all(7, false)?, &all(7, true)?)?;

        // and those of the session that the stream belongs to
        let x = a.view().insert_axis(Axis(1));
        let inputs = Inputs::new().with("x", x);
        let blocking = session.run(&inputs)?;
        if pollster::block_on(session.run_async(&inputs))? != blocking {
            return Err("run_async gives other values than run".into());
        }
        let mut state = session.state(1)?;
        if pollster::block_on(session.run_with_state_async(&inputs, &mut state))? != blocking {
            return Err("run_with_state_async gives other values than run".into());
        }
        if pollster::block_on(session.read_state_async(&state))? != session.read_state(&state)? {
            return Err("read_state_async gives other values than read_state".into());
        }
        let mut opened = pollster::block_on(engine.session_async(session.network(), common::options(engine, session.network())))?;
        if opened.run(&inputs)? != blocking {
            return Err("session_async makes another session than session".into());
        }
    }
    Ok(())
}

/// Polls `future` once and drops it; whether it came to its end. The host computes within the first poll, a GPU does not.
fn poll_once<T>(future: impl Future<Output = cellgate::Result<T>>) -> Result<bool, Failed> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => Ok(result.map(|_| true)?),
        std::task::Poll::Pending => Ok(false),
    }
}

fn given_up(engine: &Engine) -> Result<(), Failed> {
    const UNFINISHED: &[&str] = &["state: the last call on it did not finish"];
    const LOST: &[&str] = &["slot 0 lost its state", "leave"];
    for call in calls() {
        let x: Array2<f32> = Rng::new(7).array((4, 5), 1.0);
        let mut session = call.session(engine)?;
        let rows = x.view().insert_axis(Axis(1));
        let inputs = Inputs::new().with("x", rows);
        let mut state = session.state(1)?;
        let zeros = session.read_state(&state)?;
        let expected = session.run_with_state(&inputs, &mut state)?;
        if !poll_once(session.run_with_state_async(&inputs, &mut state))? {
            error("a run on it", ErrorKind::StateLost, UNFINISHED, session.run_with_state(&inputs, &mut state))?;
            error("reading it", ErrorKind::StateLost, UNFINISHED, session.read_state(&state))?;
        }
        session.write_state(&mut state, &zeros)?;
        if session.run_with_state(&inputs, &mut state)? != expected {
            return Err("a state written anew does not run like a new one".into());
        }

        let mut stream = session.stream(3)?;
        let (old, other) = (stream.join()?, stream.join()?);
        let expected = step_one(&mut stream, old, x.view())?;
        let finished = poll_once(stream.step_async(&[(other, x.view())]))?;
        let new = stream.join()?;
        if !finished {
            error("a step of it", ErrorKind::StateLost, LOST, stream.step(&[(new, x.view()), (old, x.view())]))?;
            error("reading it", ErrorKind::StateLost, LOST, stream.read(old))?;
            error("a step of all", ErrorKind::StateLost, LOST, stream.step_all(ndarray::Array3::zeros((1, 3, 5)).view()))?;
        }
        same_bits("who joins afterwards", &step_one(&mut stream, new, x.view())?, &expected)?;
        stream.leave(old)?;
        let heir = stream.join()?;
        same_bits("in the slot that was lost", &step_one(&mut stream, heir, x.view())?, &expected)?;
    }
    Ok(())
}

fn half_done(engine: &Engine) -> Result<(), Failed> {
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx-encoder-decoder/model.onnx");
    let mut session = engine.session(&cellgate::Network::open(model)?, common::by_model())?;
    let (source, target, wrong) = (widths(5, 3), widths(3, 4), widths(3, 5));
    let right = Inputs::new().with("source", source.view()).with("target", target.view());
    let mut state = session.state(2)?;
    let expected = session.run_with_state(&right, &mut state)?;
    let before = session.read_state(&state)?;
    error("no target", ErrorKind::Shape, &["`target`"], session.run_with_state(&Inputs::new().with("source", source.view()), &mut state))?;
    if session.read_state(&state)? != before {
        return Err("a refused call moved a state".into());
    }
    // the encoder has run by then
    let wrong = Inputs::new().with("source", source.view()).with("target", wrong.view());
    error("a target too wide", ErrorKind::Shape, &["`target`", "input_size = 4"], session.run_with_state(&wrong, &mut state))?;
    error("going on", ErrorKind::StateLost, &["did not finish"], session.run_with_state(&right, &mut state))?;
    let mut zeros = before;
    zeros[0].h.fill(0.0);
    zeros[0].c.fill(0.0);
    session.write_state(&mut state, &zeros)?;
    if session.run_with_state(&right, &mut state)? != expected {
        return Err("a state written anew does not run like a new one".into());
    }
    Ok(())
}

fn widths(seq_len: usize, features: usize) -> ndarray::Array3<f32> {
    Rng::new(8).array((seq_len, 2, features), 1.0)
}

/// The error that `result` must be.
fn error<T>(what: &str, kind: ErrorKind, words: &[&str], result: cellgate::Result<T>) -> Result<(), Failed> {
    let Err(error) = result else { return Err(format!("{what}: no error").into()) };
    if error.kind() != kind {
        return Err(format!("{what}: {:?}, expected {kind:?}: {error}", error.kind()).into());
    }
    match words.iter().find(|word| !error.to_string().contains(**word)) {
        Some(word) => Err(format!("{what}: no `{word}` in: {error}").into()),
        None => Ok(()),
    }
}

fn wrong_use(engine: &Engine) -> Result<(), Failed> {
    let call = calls().swap_remove(0);
    let mut session = call.session(engine)?;
    error("no slots", ErrorKind::Config, &["at least one slot", "found 0"], session.stream(0))?;
    let mut stream = session.stream(2)?;
    let (one, two) = (stream.join()?, stream.join()?);
    error("a full stream", ErrorKind::Limit, &["all 2 slots are taken"], stream.join())?;
    let x: Array2<f32> = Array2::ones((2, 5));
    let before = stream.read(one)?;
    error("a slot twice", ErrorKind::Config, &["slot 0", "twice"], stream.step(&[(one, x.view()), (one, x.view())]))?;
    let narrow = Array2::ones((2, 4));
    error("a chunk too narrow", ErrorKind::Shape, &["slot 1", "input_size = 5", "[2, 4]"], stream.step(&[(one, x.view()), (two, narrow.view())]))?;
    let empty = Array2::zeros((1 << 60, 0));
    error("steps of nothing", ErrorKind::Shape, &["slot 0", "input_size = 5"], stream.step(&[(one, empty.view())]))?;
    if stream.read(one)? != before {
        return Err("a refused step moved a state".into());
    }
    stream.leave(two)?;
    error("leaving twice", ErrorKind::Config, &["slot 1", "has ended"], stream.leave(two))?;
    error("a step after the end", ErrorKind::Config, &["slot 1", "has ended"], stream.step(&[(two, x.view())]))?;
    error("reading after the end", ErrorKind::Config, &["slot 1", "has ended"], stream.read(two))?;
    let heir = stream.join()?;
    error("a step in somebody else's slot", ErrorKind::Config, &["slot 1", "has ended"], stream.step(&[(two, x.view())]))?;
    let mut state = stream.read(heir)?;
    stream.leave(heir)?;
    state.h = ndarray::Array3::zeros((1, 2, 33));
    error("a state of two rows", ErrorKind::Shape, &["`h`", "[1, 1, 33]", "[1, 2, 33]"], stream.join_with(&state))?;
    if stream.active() != 1 {
        return Err("a refused join took a slot".into());
    }
    let all = ndarray::Array3::<f32>::zeros((2, 3, 5));
    error("step_all of three rows", ErrorKind::Shape, &["`x`", "[2, 2, 5]", "[2, 3, 5]"], stream.step_all(all.view()))?;
    // nothing new is not an error
    if !stream.step(&[])?.is_empty() || stream.step_all(ndarray::Array3::zeros((0, 2, 5)).view())?.shape() != [0, 2, 33] {
        return Err("a step of nothing gives something".into());
    }
    let mut other = call.session(engine)?;
    let mut other = other.stream(2)?;
    let foreign = other.join()?;
    error("a slot of another stream", ErrorKind::Config, &["slot 0", "another stream's"], stream.step(&[(foreign, x.view())]))?;
    error("leaving another stream", ErrorKind::Config, &["slot 0", "another stream's"], other.leave(one))?;
    drop(stream);

    let backwards = LstmConfig { direction: cellgate::Direction::Bidirectional, ..call.config.clone() };
    let mut session = Call::random(backwards, 1, 1, &mut Rng::new(0)).session(engine)?;
    error("a bidirectional stream", ErrorKind::Config, &["forward LSTM", "bidirectional"], session.stream(2))?;
    error("a bidirectional state", ErrorKind::Config, &["forward LSTM", "bidirectional"], session.state(2))
}
