//! Measuring which schedule is the fastest, and the records of it.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cellgate::{ChoiceReason, DeviceChoice, Direction, Engine, ErrorKind, LstmConfig, Options, Session, TuneReport, Tuning};
use common::call::{Call, Rng, same_bits, same_results};
use common::{TestDevice, by_model, conclude, gpus, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Axis, concatenate};
use tempfile::TempDir;

fn main() {
    let mut trials = vec![Trial::test("cpu/there-is-nothing-to-measure", nothing_to_measure)];
    for device in &gpus() {
        trials.push(trial(device, "the-winner-is-recorded-and-found", recorded));
        trials.push(trial(device, "records-that-cannot-be-used-are-noted", unusable_records));
        trials.push(trial(device, "a-first-use-measures-once", first_use));
        trials.push(trial(device, "a-state-keeps-its-choice", states_keep_their_choice));
        trials.push(trial(device, "what-cannot-be-tuned", refused));
        trials.push(program_trial(device));
    }
    conclude(trials);
}

/// A call of few candidates; each takes a moment.
fn call(batch: usize) -> Call {
    Call::random(LstmConfig { num_layers: 2, ..LstmConfig::new(5, 12) }, 10, batch, &mut Rng::new(3))
}

fn options(folder: &Path, tuning: Tuning) -> Options {
    Options { cache: Some(folder.to_owned()), ..Options { tuning, ..by_model() } }
}

fn session(engine: &Engine, call: &Call, folder: &TempDir, tuning: Tuning) -> Result<Session, Failed> {
    Ok(engine.session(&call.network()?, options(folder.path(), tuning))?)
}

/// The only file in the folder.
fn file(folder: &Path) -> Result<PathBuf, Failed> {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    match &files[..] {
        [one] => Ok(one.clone()),
        _ => Err(format!("expected one file of records, found {files:?}").into()),
    }
}

fn ensure(holds: bool, what: impl Into<String>) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

fn check_report(report: &TuneReport, session: &Session, rows: usize) -> Result<(), Failed> {
    let [lstm] = &report.lstms[..] else { return Err(format!("expected one LSTM: {report:?}").into()) };
    let candidates = session.candidates(rows);
    ensure(lstm.rows == rows && lstm.candidates.len() == candidates.len(), format!("{report:?}"))?;
    let fastest = lstm.candidates.iter().filter_map(|candidate| Some((candidate.measured_seconds?, candidate.choice)));
    let fastest = fastest.min_by(|a, b| a.0.total_cmp(&b.0)).ok_or("nothing was measured")?;
    ensure(fastest.1 == lstm.winner, format!("{:?} won against {fastest:?}", lstm.winner))?;
    for candidate in &lstm.candidates {
        ensure(candidate.measured_seconds.is_some() || candidate.why_not.is_some(), format!("not measured, and nobody says why: {candidate:?}"))?;
        ensure(candidate.predicted_seconds > 0.0 && candidate.tried == (candidate.n > 0) || candidate.why_not.is_some(), format!("{candidate:?}"))?;
        // the small network makes little of rounding: all candidates give the same
        let differs = candidate.why_not.as_ref().is_some_and(|why| why.contains("differ") || why.contains("does not run"));
        ensure(!differs, format!("{candidate:?}"))?;
    }
    Ok(())
}

fn recorded(engine: &Engine) -> Result<(), Failed> {
    let (folder, call) = (tempfile::tempdir()?, call(3));
    let mut tuned = session(engine, &call, &folder, Tuning::Recorded)?;
    let expected = call.run_in(&mut session(engine, &call, &folder, Tuning::Model)?)?;
    let report = tuned.tune(3, 10)?;
    check_report(&report, &tuned, 3)?;
    ensure(report.records.as_deref() == Some(&file(folder.path())?), format!("{:?}", report.records))?;
    let winner = report.lstms[0].winner;
    let reason = |session: &Session| Ok::<_, Failed>(session.explain(3, 10)?.lstms[0].clone());
    let explained = reason(&tuned)?;
    ensure(matches!(explained.reason, ChoiceReason::Measured { .. }), format!("{explained:?}"))?;
    let chosen: Vec<_> = explained.alternatives.iter().filter(|alternative| alternative.chosen).collect();
    ensure(chosen.len() == 1 && chosen[0].choice == winner && chosen[0].measured_seconds.is_some(), format!("{explained:?}"))?;
    let fastest = call.run_in(&mut tuned)?;
    for ((name, fast), (_, model)) in fastest.tensors().into_iter().zip(expected.tensors()) {
        let apart = fast.iter().zip(model).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        ensure(apart < 2e-5, format!("{name}: {apart:e} apart"))?;
    }
    let mut later = session(engine, &call, &folder, Tuning::Recorded)?;
    let explained = reason(&later)?;
    ensure(matches!(explained.reason, ChoiceReason::Recorded { .. }), format!("{explained:?}"))?;
    same_results("by the record", &call.run_in(&mut later)?, &fastest)?;
    let why = &later.schedules()[0].why;
    ensure(why.contains("by the record of 2") && later.schedules()[0].schedule == winner.schedule.to_string(), why)?;
    ensure(later.notes().is_empty(), format!("{:?}", later.notes()))?;
    // other rows, another precision and a session that asks for a schedule know nothing of it
    let model = reason(&session(engine, &call, &folder, Tuning::Model)?)?;
    ensure(matches!(model.reason, ChoiceReason::Model { .. }), format!("{model:?}"))?;
    ensure(matches!(later.explain(4, 10)?.lstms[0].reason, ChoiceReason::Model { .. }), "rows that were not measured")?;
    let by_name = Options { schedule: Some(winner.schedule.name()), ..options(folder.path(), Tuning::Recorded) };
    ensure(matches!(reason(&engine.session(&call.network()?, by_name)?)?.reason, ChoiceReason::Model { .. }), "of one schedule alone")
}

fn unusable_records(engine: &Engine) -> Result<(), Failed> {
    let (folder, call) = (tempfile::tempdir()?, call(1));
    session(engine, &call, &folder, Tuning::Recorded)?.tune(1, 4)?;
    let path = file(folder.path())?;
    let whole = std::fs::read_to_string(&path)?;
    let with_form = |place: &str, form: serde_json::Value| -> Result<String, Failed> {
        let mut document: serde_json::Value = serde_json::from_str(&whole)?;
        document["records"][0].pointer_mut(place).ok_or("it is there")?["input"] = form;
        Ok(document.to_string())
    };
    let no_lanes = serde_json::json!({"Rows": {"workgroup_size": 63, "rows": 5, "k_lanes": 0}});
    let endless = serde_json::json!({"Tile": {"row_threads": u32::MAX, "unit_threads": u32::MAX, "row_quads": u32::MAX, "units": u32::MAX}});
    let mut contents = vec![("{".to_owned(), "expected tuning records as JSON")];
    contents.push((whole.replace("\"driver\": \"", "\"driver\": \"an older "), "expected records of this adapter"));
    for (place, form) in [("/choice", &no_lanes), ("/choice", &endless), ("/measured/0/choice", &no_lanes), ("/measured/0/choice", &endless)] {
        contents.push((with_form(place, form.clone())?, "expected one of the candidates"));
    }
    for (content, words) in contents {
        std::fs::write(&path, content)?;
        let mut session = session(engine, &call, &folder, Tuning::Recorded)?;
        session.explain(1, 4)?;
        call.run_in(&mut session)?;
        let notes = session.notes().join("; ");
        ensure(notes.contains(words) && notes.contains("ignored") && notes.contains("tuning records "), format!("`{words}` in: {notes}"))?;
        ensure(session.schedules()[0].why.contains("by the cost model") || session.candidates(1).len() == 1, &session.schedules()[0].why)?;
    }
    Ok(())
}

fn first_use(engine: &Engine) -> Result<(), Failed> {
    let (folder, call) = (tempfile::tempdir()?, call(1));
    let mut first = session(engine, &call, &folder, Tuning::AtFirstUse)?;
    let results = call.run_in(&mut first)?;
    ensure(first.schedules()[0].why.contains("measured in this session"), &first.schedules()[0].why)?;
    let written = std::fs::metadata(file(folder.path())?)?.modified()?;
    let mut second = session(engine, &call, &folder, Tuning::AtFirstUse)?;
    same_results("by the record", &call.run_in(&mut second)?, &results)?;
    ensure(second.schedules()[0].why.contains("by the record of"), &second.schedules()[0].why)?;
    ensure(std::fs::metadata(file(folder.path())?)?.modified()? == written, "what was recorded was measured again")?;
    // a folder that cannot be made: the measurement holds for the session, and a note says that it is not kept
    let nowhere = options(&file(folder.path())?.join("below"), Tuning::AtFirstUse);
    let mut session = engine.session(&call.network()?, nowhere)?;
    call.run_in(&mut session)?;
    call.run_in(&mut session)?;
    let notes = session.notes().join("; ");
    ensure(notes.contains("not written"), notes)
}

/// Tuning in the middle of a sequence changes nothing about it.
fn states_keep_their_choice(engine: &Engine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let call = call(1);
    let whole = call.run_in(&mut session(engine, &call, &folder, Tuning::Model)?)?;
    let mut session = session(engine, &call, &folder, Tuning::Recorded)?;
    let mut state = session.state(1)?;
    let mut parts = Vec::new();
    for (start, end) in [(0, 4), (4, 10)] {
        let part = call.steps(start, end);
        parts.push(part.results(session.run_with_state(&cellgate::Inputs::new().with("x", part.x.view()), &mut state)?).y);
        session.tune(1, 10)?;
    }
    same_bits("in two parts", &concatenate(Axis(0), &[parts[0].view(), parts[1].view()])?, &whole.y)?;
    // what starts anew is built to the winner
    let new = session.state(1)?;
    let why = session.schedules().last().map(|used| used.why.clone()).unwrap_or_default();
    ensure(new.batch() == 1 && why.contains("measured in this session"), why)
}

fn refused(engine: &Engine) -> Result<(), Failed> {
    let call = call(2);
    let mut session = engine.session(&call.network()?, by_model())?;
    let config = |result: cellgate::Result<TuneReport>| match result {
        Err(error) if error.kind() == ErrorKind::Config => Ok(error.to_string()),
        other => Err(Failed::from(format!("expected a refusal, found {other:?}"))),
    };
    ensure(config(session.tune(0, 5))?.contains("batch 0"), "no rows")?;
    ensure(config(session.tune(5, 0))?.contains("seq_len 0"), "no steps")?;
    let choice = session.candidates(2).last().map(|(choice, _)| *choice);
    let mut fixed = engine.session(&call.network()?, Options { choice, ..by_model() })?;
    ensure(config(fixed.tune(2, 5))?.contains("options choose one"), "a choice")?;
    // without records, the winner is this session's alone
    let both = Call::random(LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(3, 4) }, 4, 2, &mut Rng::new(1));
    let mut unrecorded = engine.session(&both.network()?, by_model())?;
    let report = unrecorded.tune(2, 4)?;
    check_report(&report, &unrecorded, 2)?;
    ensure(report.records.is_none() && report.notes.is_empty(), format!("{report:?}"))?;
    both.run_in(&mut unrecorded)?;
    ensure(unrecorded.schedules()[0].why.contains("measured in this session"), &unrecorded.schedules()[0].why)
}

fn nothing_to_measure() -> Result<(), Failed> {
    let call = call(2);
    let engine = Engine::new(DeviceChoice::Cpu)?;
    let mut session = engine.session(&call.network()?, by_model())?;
    ensure(session.tune(2, 10)?.lstms.is_empty(), "a CPU was tuned")?;
    call.run_in(&mut session)?;
    ensure(session.schedules()[0].why == "the only schedule of this device", &session.schedules()[0].why)
}

/// The program says what it measured, and later what it found.
fn program_trial(device: &TestDevice) -> Trial {
    match option_env!("CARGO_BIN_EXE_cellgate") {
        Some(program) => trial(device, "the-program-says-what-it-measured", move |engine| said(engine, program)),
        None => Trial::test(format!("{}/the-program-says-what-it-measured (built without it)", device.name), || Ok(())).with_ignored_flag(true),
    }
}

fn said(engine: &Engine, program: &str) -> Result<(), Failed> {
    let backend = engine.describe().device.backend.ok_or("a GPU has a graphics API")?.to_string();
    let folder = tempfile::tempdir()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch-h33-states/model.safetensors");
    let run = |command: &str, arguments: &[&str]| -> Result<(Option<i32>, String, String), Failed> {
        let device = ["--batch", "3", "--seq-len", "6", "--device", "gpu", "--allow-software", "--backend", &backend];
        let mut process = Command::new(program);
        process.arg(command).arg(&model).args(device).args(arguments).stdin(Stdio::null()).env("CELLGATE_CACHE", folder.path());
        let output = process.output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let (code, before, _) = run("explain", &[])?;
    ensure(code == Some(0) && before.contains("by the cost model") && before.contains("does not suit: schedule wavefront"), before)?;
    let (code, measured, said) = run("explain", &["--tune"])?;
    ensure(code == Some(0) && measured.contains("measured in this session") && measured.contains("measured on "), measured)?;
    ensure(said.contains("candidates timed on calls of 3 rows") && said.contains("recorded in "), said)?;
    let (code, json, _) = run("explain", &["--json"])?;
    let report: serde_json::Value = serde_json::from_str(&json)?;
    ensure(code == Some(0) && report["lstms"][0]["reason"]["by"] == "recorded" && report["schedule"].is_string(), json)?;
    let (code, json, said) = run("verify", &["--tune", "--json"])?;
    ensure(code == Some(0) && said.contains("schedule: ") && said.contains("by the record of "), said)?;
    let report: serde_json::Value = serde_json::from_str(&json)?;
    ensure(report["schedules"][0]["rows"] == 3, json)?;
    let (code, _, said) = run("verify", &["--schedule", "per-step"])?;
    ensure(code == Some(0) && said.contains("schedule: per-step") && said.contains("of schedule per-step alone"), said)?;
    let (code, _, said) = run("verify", &["--schedule", "wavefront"])?;
    ensure(code == Some(2) && said.contains("error: schedule wavefront: needs two layers or more, found one"), said)
}
