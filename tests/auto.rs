//! The GPU and the CPU side by side: which of them runs what, and that it is said.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cellgate::{
    Crossover, DenseStage, DeviceChoice, DeviceKind, DeviceRequest, Direction, Embedding, Engine, ErrorKind, Inputs, Linear, Lstm, LstmConfig,
    Network, Options, RowFunction, ScheduleName, Session, Stage, Tuning,
};
use common::call::{Call, Rng, random_cells, same_bits, same_results};
use common::{Case, TestDevice, by_model, conclude, inputs, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array2, Array3, Axis, concatenate};
use serde_json::Value;
use tempfile::TempDir;

fn main() {
    let auto = auto();
    let mut trials = vec![
        trial(&auto, "the-expected-side-runs", expected_side),
        trial(&auto, "the-measured-side-runs", measured_side),
        trial(&auto, "a-side-gets-its-weights-when-it-runs", weights_come_late),
        trial(&auto, "states-and-streams-stay-on-their-side", states_and_streams),
        trial(&auto, "whole-networks", whole_networks),
        trial(&auto, "lstms-on-different-sides", mixed_networks),
        trial(&auto, "weights-that-come-with-the-call", weights_of_the_call),
        trial(&auto, "options-that-name-a-schedule", named_schedules),
        trial(&auto, "a-call-that-the-gpu-has-no-room-for", no_room),
        trial(&auto, "records-that-cannot-be-used", unusable_records),
        trial(&auto, "a-first-use-measures-both", first_use),
        trial(&auto, "both-sides-are-explained", explained),
        Trial::test("a-named-device-is-alone", named_devices),
    ];
    trials.push(match option_env!("CARGO_BIN_EXE_cellgate") {
        Some(program) => trial(&auto, "the-program-explains-both-sides", move |_| said(program)),
        None => Trial::test("auto/the-program-explains-both-sides (built without it)", || Ok(())).with_ignored_flag(true),
    });
    conclude(trials);
}

fn request() -> DeviceRequest {
    DeviceRequest { choice: DeviceChoice::Auto, allow_software: true, ..DeviceRequest::default() }
}

/// An engine of both sides, where there is an adapter.
fn auto() -> TestDevice {
    let engine = Engine::new(request()).ok().filter(|engine| engine.describe().device.kind == DeviceKind::Gpu);
    let name = engine.as_ref().and_then(|engine| engine.describe().device.name.split([' ', '/']).next().map(str::to_lowercase));
    TestDevice { name: format!("auto/{}", name.as_deref().unwrap_or("none")), engine, options: by_model() }
}

/// The engines of either side alone: the same adapter, and the CPU.
fn alone(auto: &Engine, side: DeviceKind) -> Result<Engine, Failed> {
    let backend = auto.describe().device.backend;
    Ok(match side {
        DeviceKind::Gpu => Engine::new(DeviceRequest { choice: DeviceChoice::Gpu, backend, ..request() })?,
        _ => Engine::new(DeviceChoice::Cpu)?,
    })
}

fn ensure(holds: bool, what: impl Into<String>) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

fn call(seq_len: usize, batch: usize) -> Call {
    Call::random(LstmConfig { num_layers: 2, ..LstmConfig::new(5, 12) }, seq_len, batch, &mut Rng::new(3))
}

fn options(folder: &Path, tuning: Tuning) -> Options {
    Options { tuning, cache: Some(folder.to_owned()), ..by_model() }
}

/// The only file in the folder.
fn file(folder: &Path) -> Result<PathBuf, Failed> {
    let mut entries = std::fs::read_dir(folder)?;
    let first = entries.next().ok_or("there is no file of records")??.path();
    ensure(entries.next().is_none(), "there are several files of records")?;
    Ok(first)
}

/// What `change` makes of every record in the folder.
fn change_records(folder: &Path, change: impl Fn(&mut Value)) -> Result<(), Failed> {
    let path = file(folder)?;
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    document["records"].as_array_mut().ok_or("records are a list")?.iter_mut().for_each(change);
    Ok(std::fs::write(&path, document.to_string())?)
}

/// Records of calls of so many rows, as if the side that is given had been a thousand times faster.
fn forced(engine: &Engine, call: &Call, sides: &[(usize, DeviceKind)]) -> Result<TempDir, Failed> {
    let rows: Vec<usize> = sides.iter().map(|(rows, _)| *rows).collect();
    forced_by(engine, &call.network()?, &rows, |key| {
        let side = sides.iter().find(|(rows, _)| key["rows"].as_u64() == Some(*rows as u64));
        side.map_or(DeviceKind::Cpu, |(_, side)| *side)
    })
}

/// As [`forced`], for every LSTM of a network the side that `side` says for its key.
fn forced_by(engine: &Engine, network: &Network, rows: &[usize], side: impl Fn(&Value) -> DeviceKind) -> Result<TempDir, Failed> {
    let folder = tempfile::tempdir()?;
    let mut session = engine.session(network, options(folder.path(), Tuning::Recorded))?;
    for rows in rows {
        for lstm in session.tune(*rows, 4)?.lstms {
            let measured = lstm.sides.ok_or("the CPU was not measured")?;
            ensure(measured.gpu_seconds > 0.0 && measured.cpu_seconds > 0.0, format!("{measured:?}"))?;
        }
    }
    change_records(folder.path(), |record| {
        let (gpu, cpu) = if side(&record["key"]) == DeviceKind::Gpu { (1e-6, 1e-3) } else { (1e-3, 1e-6) };
        (record["sides"]["gpu_seconds"], record["sides"]["cpu_seconds"]) = (gpu.into(), cpu.into());
    })?;
    Ok(folder)
}

/// The last thing that is said of where the session runs.
fn last(session: &Session) -> Result<(DeviceKind, String), Failed> {
    let used = session.schedules().last().ok_or("nothing is said of what ran")?;
    Ok((used.device, used.why.clone()))
}

fn expected_side(engine: &Engine) -> Result<(), Failed> {
    let mut seen = Vec::new();
    for (seq_len, batch) in [(1, 1), (7, 3), (40, 2)] {
        let call = call(seq_len, batch);
        let mut session = call.session(engine)?;
        let explained = session.explain(batch, seq_len)?.lstms.swap_remove(0);
        let sides = explained.sides.ok_or("an engine of both sides explains both")?;
        let results = call.run_in(&mut session)?;
        let (side, why) = last(&session)?;
        let name = if side == DeviceKind::Gpu { "GPU" } else { "CPU" };
        ensure(side == sides.chosen && why.starts_with(&sides.why) && explained.why == why, format!("{why}, explained as {sides:?}"))?;
        ensure(why.starts_with(&format!("{name}: ")) && why.contains(" expected, "), why.clone())?;
        let used = &session.schedules()[0];
        ensure((used.seq_len, used.rows) == (Some(seq_len), batch), format!("{used:?}"))?;
        same_results("as on that side alone", &results, &call.run(&alone(engine, side)?)?)?;
        // a second call says nothing new, and a second session says the same
        same_results("again", &call.run_in(&mut session)?, &results)?;
        ensure(session.schedules().len() == 1, format!("{:?}", session.schedules()))?;
        let mut second = call.session(engine)?;
        same_results("another session", &call.run_in(&mut second)?, &results)?;
        ensure(last(&second)? == (side, why.clone()), why)?;
        seen.push(side);
    }
    // of a software adapter nobody expects as much as of the CPU that it runs on
    let software = engine.describe().device.is_software();
    ensure(!software || seen.iter().all(|side| *side == DeviceKind::Cpu), format!("{seen:?}"))
}

fn measured_side(engine: &Engine) -> Result<(), Failed> {
    let (few, many) = (call(6, 2), call(6, 3));
    let folder = forced(engine, &few, &[(2, DeviceKind::Gpu), (3, DeviceKind::Cpu)])?;
    let mut session = engine.session(&few.network()?, options(folder.path(), Tuning::Recorded))?;
    for (call, side) in [(&few, DeviceKind::Gpu), (&many, DeviceKind::Cpu)] {
        let mut expected = alone(engine, side)?.session(&call.network()?, options(folder.path(), Tuning::Recorded))?;
        same_results("as on that side alone", &call.run_in(&mut session)?, &call.run_in(&mut expected)?)?;
        let (ran, why) = last(&session)?;
        ensure(ran == side && why.contains("by what was measured"), why)?;
    }
    // rows of other lengths, and no rows at all, come to the same place
    let ragged = Call { lens: Some(vec![6, 0]), ..few.clone() };
    let mut expected = alone(engine, DeviceKind::Gpu)?.session(&few.network()?, options(folder.path(), Tuning::Recorded))?;
    same_results("ragged", &ragged.run_in(&mut session)?, &ragged.run_in(&mut expected)?)?;
    let none = few.steps(0, 0);
    same_results("no steps", &none.run_in(&mut session)?, &none.run_in(&mut expected)?)?;
    ensure(session.notes().is_empty() && session.schedules().len() == 2, format!("{:?}, {:?}", session.notes(), session.schedules()))
}

/// Shapes that take turns on both sides make nothing after the first round, and a side that never runs has nothing.
fn weights_come_late(_: &Engine) -> Result<(), Failed> {
    // what an engine makes is counted for all of its sessions: this one has its own
    let engine = &Engine::new(request())?;
    let (few, many) = (call(6, 2), call(6, 3));
    let folder = forced(engine, &few, &[(2, DeviceKind::Gpu), (3, DeviceKind::Cpu)])?;
    let made = || Ok::<_, Failed>(engine.usage().map(|usage| (usage.buffers_made, usage.bind_groups_made)).ok_or("a GPU counts what it makes")?);
    let before = made()?;
    let mut session = engine.session(&few.network()?, options(folder.path(), Tuning::Recorded))?;
    many.run_in(&mut session)?;
    session.explain(2, 6)?;
    ensure(made()? == before, "weights were uploaded for calls of the CPU")?;
    for _ in 0..2 {
        few.run_in(&mut session)?;
        many.run_in(&mut session)?;
    }
    let warm = made()?;
    ensure(warm.0 > before.0, "the GPU ran without buffers")?;
    for _ in 0..2 {
        few.run_in(&mut session)?;
        many.run_in(&mut session)?;
    }
    ensure(made()? == warm, "calls like earlier ones made something")
}

fn states_and_streams(engine: &Engine) -> Result<(), Failed> {
    for side in [DeviceKind::Gpu, DeviceKind::Cpu] {
        let call = call(9, 2);
        let folder = forced(engine, &call, &[(2, side)])?;
        let session = |engine: &Engine| Ok::<_, Failed>(engine.session(&call.network()?, options(folder.path(), Tuning::Recorded))?);
        let whole = call.run_in(&mut session(&alone(engine, side)?)?)?;
        let mut session = session(engine)?;
        let mut state = session.state(2)?;
        ensure(last(&session)?.0 == side, "the state is on the other side")?;
        let mut parts = Vec::new();
        for (start, end) in [(0, 4), (4, 5), (5, 9)] {
            let part = call.steps(start, end);
            parts.push(call.results(session.run_with_state(&Inputs::new().with("x", part.x.view()), &mut state)?).y);
            // what is carried goes to the host and back
            let host = session.read_state(&state)?;
            session.write_state(&mut state, &host)?;
        }
        let joined = concatenate(Axis(0), &parts.iter().map(|part| part.view()).collect::<Vec<_>>())?;
        same_bits("with a state", &joined, &whole.y)?;
        ensure(session.schedules().iter().all(|used| used.device == side && used.seq_len == Some(1)), format!("{:?}", session.schedules()))?;
        let mut stream = session.stream(2)?;
        let slots = [stream.join()?, stream.join()?];
        for (start, end) in [(0, 3), (3, 9)] {
            let part = call.steps(start, end).x;
            let chunks: Vec<_> = slots.iter().enumerate().map(|(row, slot)| (*slot, part.index_axis(Axis(1), row))).collect();
            for (row, y) in stream.step(&chunks)?.iter().enumerate() {
                same_bits("a stream", y, &whole.y.slice(ndarray::s![start..end, row, ..]).to_owned())?;
            }
        }
        // a state stays where it is, whatever is measured
        session.tune(2, 4)?;
        session.run_with_state(&Inputs::new().with("x", call.x.view()), &mut state)?;
    }
    Ok(())
}

/// Layers beside an LSTM run where their input is.
fn whole_networks(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(7);
    let call = Call::random(LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(6, 8) }, 5, 3, rng);
    let lstm = Lstm::new(call.config.clone(), call.cells.clone())?;
    let stages = [
        ("embedding".to_owned(), Stage::Dense(DenseStage::Embedding(Embedding::new(rng.array((11, 6), 1.0))?))),
        ("lstm".to_owned(), Stage::Lstm(lstm)),
        ("fc".to_owned(), Stage::Dense(DenseStage::Linear(Linear::new(rng.array((7, 16), 0.3), Some(rng.array(7, 1.0)))?, RowFunction::LogSoftmax))),
    ];
    let network = Network::from_stages(stages.to_vec(), false)?;
    let ids = Array2::from_shape_fn((5, 3), |(step, row)| (step * 3 + row) as i64 % 11);
    for side in [DeviceKind::Gpu, DeviceKind::Cpu] {
        let folder = forced(engine, &call, &[(3, side)])?;
        let run = |engine: &Engine| -> Result<_, Failed> {
            let mut session = engine.session(&network, options(folder.path(), Tuning::Recorded))?;
            let outputs = session.run(&Inputs::new().with("x", ids.view()))?;
            ensure(session.run(&Inputs::new().with("x", ids.view()))? == outputs, "a second call differs")?;
            Ok((outputs, session))
        };
        let (found, session) = run(engine)?;
        ensure(last(&session)?.0 == side && session.notes().is_empty(), format!("{:?}", session.schedules()))?;
        let (expected, _) = run(&alone(engine, side)?)?;
        ensure(found == expected, format!("other results than on the {side:?} alone"))?;
    }
    Ok(())
}

/// Two LSTMs on different sides: what one leaves on its side, the other gets on its own.
fn mixed_networks(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(9);
    let mut stage = |config: LstmConfig| Ok::<_, Failed>(Stage::Lstm(Lstm::new(config.clone(), random_cells(&config, 1.0, rng))?));
    let stages = vec![("first".to_owned(), stage(LstmConfig::new(6, 8))?), ("second".to_owned(), stage(LstmConfig::new(8, 5))?)];
    let network = Network::from_stages(stages, true)?;
    let x: Array3<f32> = Rng::new(1).array((3, 7, 6), 1.0);
    let inputs = || Inputs::new().with("x", x.view());
    let expected = Engine::new(DeviceChoice::Reference)?.session(&network, by_model())?.run(&inputs())?;
    for gpu_is in [8_usize, 5] {
        let on = |hidden: usize| if hidden == gpu_is { DeviceKind::Gpu } else { DeviceKind::Cpu };
        let of = |key: &Value| if key["lstm"].as_str().is_some_and(|lstm| lstm.contains("hidden_size: 8")) { on(8) } else { on(5) };
        let folder = forced_by(engine, &network, &[3], of)?;
        let mut session = engine.session(&network, options(folder.path(), Tuning::Recorded))?;
        let found = session.run(&inputs())?;
        let ran: Vec<_> = session.schedules().iter().map(|used| (used.node.as_str(), used.device)).collect();
        ensure(ran == [("first", on(8)), ("second", on(5))], format!("{ran:?}"))?;
        for (found, expected) in found["y"].iter().zip(&expected["y"]) {
            ensure((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), format!("{found:e}, expected {expected:e}"))?;
        }
        let mut state = session.state(3)?;
        let carried = session.run_with_state(&inputs(), &mut state)?;
        ensure(carried["y"] == found["y"], "on a state that is on both sides")?;
        ensure(session.read_state(&state)?.len() == 2, "both have a state")?;
    }
    Ok(())
}

fn weights_of_the_call(engine: &Engine) -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx-runtime-weights");
    let case = Case::open(&folder).ok_or("the case is there")?;
    let (network, tensors) = (Network::open(&case.model)?, case.read_inputs()?);
    let mut session = engine.session(&network, by_model())?;
    let found = session.run(&inputs(&tensors))?;
    let (side, why) = last(&session)?;
    let expected = alone(engine, side)?.session(&network, by_model())?.run(&inputs(&tensors))?;
    ensure(found == expected, format!("other results than on that side alone ({why})"))?;
    ensure(session.explain(1, 1)?.lstms[0].sides.is_some(), "weights that came are explained")?;
    match session.state(1) {
        Err(error) if error.kind() == ErrorKind::Config => Ok(()),
        other => Err(format!("expected a refusal, found {other:?}").into()),
    }
}

fn named_schedules(engine: &Engine) -> Result<(), Failed> {
    let call = call(4, 2);
    let named = Options { schedule: Some(ScheduleName::PerStep), ..by_model() };
    let mut session = engine.session(&call.network()?, named.clone())?;
    let expected = call.run_in(&mut alone(engine, DeviceKind::Gpu)?.session(&call.network()?, named)?)?;
    same_results("the GPU", &call.run_in(&mut session)?, &expected)?;
    let (side, why) = last(&session)?;
    ensure(side == DeviceKind::Gpu && why.starts_with("GPU: the options name") && why.contains("of schedule per-step alone"), why)?;
    let explained = session.explain(2, 4)?.lstms.swap_remove(0);
    ensure(explained.sides.is_none() && explained.why.starts_with("GPU: the options name"), explained.why)?;
    let choice = session.candidates(2).first().map(|(choice, _)| *choice);
    let mut session = engine.session(&call.network()?, Options { choice, ..by_model() })?;
    call.run_in(&mut session)?;
    ensure(last(&session)?.0 == DeviceKind::Gpu, "a choice is of the GPU")?;
    // one that does not suit the stack is an error here as well
    let single = Call::random(LstmConfig::new(3, 4), 2, 1, &mut Rng::new(0)).network()?;
    match engine.session(&single, Options { schedule: Some(ScheduleName::Wavefront), ..by_model() }) {
        Err(error) if error.kind() == ErrorKind::Config => ensure(error.to_string().contains("needs two layers or more"), error.to_string()),
        other => Err(format!("expected a refusal, found {other:?}").into()),
    }
}

/// A bidirectional stack needs all of its time at once, and a GPU has room, or patience, for so much of it only.
fn no_room(engine: &Engine) -> Result<(), Failed> {
    let config = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(1, 1) };
    let gpu = alone(engine, DeviceKind::Gpu)?;
    let mut call = Call::random(config, 1, 1, &mut Rng::new(5));
    let session = call.session(&gpu)?;
    let Some(seq_len) = (16..24).map(|power| 1 << power).find(|&seq_len| session.explain(1, seq_len).is_err()) else {
        return Ok(()); // one that has room for all of this
    };
    call.x = Array3::from_elem((seq_len, 1, 1), 0.5);
    let mut session = call.session(engine)?;
    let results = call.run_in(&mut session)?;
    let (side, why) = last(&session)?;
    ensure(side == DeviceKind::Cpu && why.starts_with("CPU: the GPU cannot: ") && why.contains("limit"), why)?;
    same_results("the CPU", &results, &call.run(&alone(engine, DeviceKind::Cpu)?)?)?;
    let sides = session.explain(1, seq_len)?.lstms.swap_remove(0).sides.ok_or("both sides are explained")?;
    ensure(sides.chosen == DeviceKind::Cpu && sides.gpu.unable.is_some() && sides.gpu.seconds.is_none(), format!("{sides:?}"))?;
    ensure(session.tune(1, seq_len).is_err_and(|error| error.kind() == ErrorKind::Limit), "what cannot be measured is said")
}

fn unusable_records(engine: &Engine) -> Result<(), Failed> {
    let call = call(4, 2);
    let run = |folder: &TempDir| -> Result<(Session, String), Failed> {
        let mut session = engine.session(&call.network()?, options(folder.path(), Tuning::Recorded))?;
        call.run_in(&mut session)?;
        let why = last(&session)?.1;
        Ok((session, why))
    };
    let impossible: [fn(&mut Value); 4] = [
        |record| record["sides"]["gpu_seconds"] = 0.0.into(),
        |record| record["sides"]["cpu_seconds"] = (-1.0).into(),
        |record| record["seq_len"] = 0.into(),
        |record| record["seq_len"] = usize::MAX.into(),
    ];
    for change in impossible {
        let folder = forced(engine, &call, &[(2, DeviceKind::Gpu)])?;
        change_records(folder.path(), change)?;
        let (session, why) = run(&folder)?;
        ensure(why.contains("expected, ") && session.notes().join("").contains("ignored for 2 rows: expected times of calls "), why)?;
    }
    // what an earlier version wrote, or was measured with other threads, says which schedule is the fastest and nothing of the CPU
    let earlier: [fn(&mut Value); 2] =
        [|record| drop(record.as_object_mut().and_then(|record| record.remove("sides"))), |record| record["sides"]["cpu"] = "4096 threads".into()];
    for change in earlier {
        let folder = forced(engine, &call, &[(2, DeviceKind::Gpu)])?;
        change_records(folder.path(), change)?;
        let (session, why) = run(&folder)?;
        ensure(why.contains(" expected, ") && session.notes().is_empty(), format!("{why}, {:?}", session.notes()))?;
    }
    let folder = forced(engine, &call, &[(2, DeviceKind::Gpu)])?;
    std::fs::write(file(folder.path())?, "{")?;
    let (session, why) = run(&folder)?;
    ensure(why.contains(" expected, ") && session.notes().join("").contains("expected tuning records as JSON"), why)
}

fn first_use(engine: &Engine) -> Result<(), Failed> {
    let (folder, call) = (tempfile::tempdir()?, call(4, 2));
    let mut session = engine.session(&call.network()?, options(folder.path(), Tuning::AtFirstUse))?;
    let results = call.run_in(&mut session)?;
    let (side, why) = last(&session)?;
    ensure(why.contains("by what was measured"), why)?;
    let mut expected = alone(engine, side)?.session(&call.network()?, options(folder.path(), Tuning::Recorded))?;
    same_results("as on that side alone", &results, &call.run_in(&mut expected)?)?;
    let mut later = engine.session(&call.network()?, options(folder.path(), Tuning::Recorded))?;
    same_results("by the record", &call.run_in(&mut later)?, &results)?;
    ensure(last(&later)?.0 == side, "the record says another side")
}

fn explained(engine: &Engine) -> Result<(), Failed> {
    let config = LstmConfig::new(16, 32);
    let cells = random_cells(&config, 1.0, &mut Rng::new(2));
    let network = Network::from_lstm(Lstm::new(config, cells)?, false);
    let session = engine.session(&network, by_model())?;
    let sides = |batch: usize, seq_len: usize| -> Result<_, Failed> {
        Ok(session.explain(batch, seq_len)?.lstms.swap_remove(0).sides.ok_or("both sides are explained")?)
    };
    let one = sides(1, 20)?;
    let crossover = one.crossover.ok_or("there is a GPU")?;
    ensure(one.cpu.schedule.is_some() && one.gpu.schedule.is_some(), format!("{one:?}"))?;
    ensure((one.chosen == DeviceKind::Gpu) == (one.gpu.seconds <= one.cpu.seconds), format!("{one:?}"))?;
    ensure(sides(9, 20)?.crossover == Some(crossover), "the crossover does not depend on the batch")?;
    // what is said of the crossover holds
    let wins = |batch| Ok::<_, Failed>(sides(batch, 20)?.chosen == DeviceKind::Gpu);
    let holds = match crossover {
        Crossover::Gpu => wins(1)? && wins(65_536)?,
        Crossover::GpuFrom { batch } => wins(batch)? && !wins(batch - 1)? && wins(65_536)?,
        Crossover::Cpu { up_to } => !wins(1)? && !wins(up_to)?,
        other => return Err(format!("unlikely: {other}").into()),
    };
    ensure(holds, crossover.to_string())?;
    ensure(session.explain(0, 20)?.lstms[0].sides.is_none(), "nothing runs")?;
    for side in [DeviceKind::Gpu, DeviceKind::Cpu] {
        let session = alone(engine, side)?.session(&network, by_model())?;
        ensure(session.explain(1, 20)?.lstms[0].sides.is_none(), "a device that is asked for is alone")?;
    }
    Ok(())
}

/// What names an adapter or a graphics API has no other side, and what has no GPU says why.
fn named_devices() -> Result<(), Failed> {
    let call = call(3, 2);
    if let Some(backend) = Engine::new(request())?.describe().device.backend {
        let named = Engine::new(DeviceRequest { backend: Some(backend), ..request() })?;
        let mut session = call.session(&named)?;
        call.run_in(&mut session)?;
        let used = &session.schedules()[0];
        ensure(used.device == DeviceKind::Gpu && used.seq_len.is_none() && !used.why.contains("CPU"), format!("{used:?}"))?;
    }
    let hardware = Engine::new(DeviceChoice::Auto)?;
    if hardware.describe().device.kind == DeviceKind::Cpu {
        let sides = call.session(&hardware)?.explain(2, 3)?.lstms.swap_remove(0).sides.ok_or("the CPU is explained, and why there is no GPU")?;
        ensure(sides.chosen == DeviceKind::Cpu && sides.crossover.is_none() && sides.cpu.seconds.is_some(), format!("{sides:?}"))?;
        ensure(sides.gpu.unable.as_ref().is_some_and(|why| why.contains("GPU")), format!("{sides:?}"))?;
    }
    Ok(())
}

fn said(program: &str) -> Result<(), Failed> {
    let (folder, model) = (tempfile::tempdir()?, Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch-h33-states/model.safetensors"));
    let run = |command: &str, arguments: &[&str]| -> Result<(String, String), Failed> {
        let mut process = Command::new(program);
        process.arg(command).arg(&model).args(["--batch", "3", "--seq-len", "6", "--device", "auto", "--allow-software"]).args(arguments);
        let output = process.stdin(Stdio::null()).env("CELLGATE_CACHE", folder.path()).output()?;
        let texts = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure(output.status.code() == Some(0), texts.1.clone())?;
        Ok(texts)
    };
    let (text, _) = run("explain", &[])?;
    for words in ["sides", "GPU", "CPU", " for the whole call", "crossover: the ", " wins ", " expected, "] {
        ensure(text.contains(words), format!("`{words}` in {text}"))?;
    }
    let report: Value = serde_json::from_str(&run("explain", &["--json"])?.0)?;
    let sides = &report["lstms"][0]["sides"];
    ensure(sides["gpu"]["seconds"].is_f64() && sides["cpu"]["seconds"].is_f64() && sides["crossover"]["wins"].is_string(), sides.to_string())?;
    let chosen = sides["chosen"].as_str().ok_or("the chosen side has a name")?.to_uppercase();
    ensure(sides["why"].as_str().is_some_and(|why| why.starts_with(&chosen)), sides.to_string())?;
    let (measured, said) = run("explain", &["--tune"])?;
    ensure(measured.contains("by what was measured") && said.contains(" on the GPU, ") && said.contains(" on the CPU ("), said)?;
    let (json, said) = run("verify", &["--json"])?;
    let report: Value = serde_json::from_str(&json)?;
    let used = &report["schedules"][0];
    ensure(used["seq_len"] == 6 && used["why"].as_str().is_some_and(|why| why.contains("by what was measured")), json.clone())?;
    let name = if used["device"] == "cpu" { "on the CPU (CPU: " } else { " (GPU: " };
    ensure(said.contains(name), said)
}
