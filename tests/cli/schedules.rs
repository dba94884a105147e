//! Schedules, precisions and what is said of them.

use serde_json::Value;

use super::{Folder, config, safetensors, text, weights};

#[test]
fn what_ran_is_said() {
    let folder = Folder::new();
    let run = ["run", "model.safetensors", "--input", "x.npy", "--out", "out", "--device", "cpu"];
    let demo = ["demo", "--device", "cpu", "--length", "3"];
    for arguments in [&run[..], &["verify", "model.safetensors", "--device", "cpu"], &demo] {
        let report = folder.json(arguments);
        let schedule = report["schedule"].as_str().unwrap_or_default();
        assert!(schedule.contains("thread"), "{schedule}");
        let output = folder.cellgate(arguments);
        assert!(text(&output.stderr).contains(&format!("schedule: {schedule}, on CPU, ")), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("(the only schedule of this device)"), "{}", text(&output.stderr));
        assert_eq!(report["schedules"][0]["why"], "the only schedule of this device");
    }
    let report = folder.json(&["explain", "model.safetensors", "--batch", "2", "--seq-len", "3", "--device", "cpu"]);
    assert_eq!((&report["schedule"], &report["tuning"]), (&"one thread".into(), &Value::Null));
    assert_eq!(report["lstms"][0]["reason"]["by"], "only");
    let report = folder.json(&["explain", "model.safetensors", "--batch", "100000", "--seq-len", "300", "--device", "cpu"]);
    assert!(
        report["schedule"].as_str().is_some_and(|schedule| schedule == "one thread" || schedule.ends_with(" blocks of rows, a thread each")),
        "{report}"
    );
}

#[test]
fn schedules_need_a_gpu() {
    let folder = Folder::new();
    for arguments in [
        &["run", "model.safetensors", "--input", "x.npy", "--out", "out"][..],
        &["verify", "model.safetensors"],
        &["explain", "model.safetensors", "--batch", "1", "--seq-len", "1"],
        &["demo"],
    ] {
        let flags = ["--device", "cpu", "--schedule", "resident"];
        folder.fails(&[arguments, &flags].concat(), &["schedule resident", "needs a GPU", "found CPU"]);
    }
    folder.fails(&["verify", "model.safetensors", "--schedule", "fastest"], &["fastest", "--schedule"]);
    // a CPU has nothing to measure, and says so
    let output = folder.cellgate(&["explain", "model.safetensors", "--batch", "1", "--seq-len", "1", "--device", "cpu", "--tune"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nothing to measure"), "{}", text(&output.stderr));
}

#[test]
fn weights_in_fewer_bits_are_judged_twice() {
    let folder = Folder::new();
    for (precision, bound) in [("f16", 0.02), ("int8", 0.16)] {
        let arguments = ["verify", "model.safetensors", "--device", "cpu", "--precision", precision];
        let report = folder.json(&arguments);
        assert_eq!((&report["precision"], &report["atol"], &report["passed"]), (&precision.into(), &1e-5.into(), &true.into()));
        let error = |outputs: &Value| outputs[0]["max_abs_err"].as_f64().unwrap();
        let (device, stored) = (error(&report["outputs"]), error(&report["stored"]["outputs"]));
        assert!(device < 1e-5 && stored > 1e-5 && report["stored"]["atol"] == bound, "{report}");
        let printed = folder.succeeds(&arguments);
        assert!(printed.contains(&format!("{precision} weights against those given")), "{printed}");
        assert!(printed.matches("pass: every value within").count() == 2, "{printed}");
    }
    assert_eq!(folder.json(&["verify", "model.safetensors", "--device", "cpu"])["stored"], Value::Null);
    // weights so large that a rounding of them decides where the gates go
    folder.put("chaos.safetensors", &safetensors(&weights(8, 64, 12.0), Some(&config(8, 64))));
    let output = folder.cellgate(&["verify", "chaos.safetensors", "--device", "cpu", "--seq-len", "20", "--precision", "int8"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("int8 weights against those given") && printed.contains("FAIL: not every value within"), "{printed}");
    // the demo's reference has the same weights
    let report = folder.json(&["demo", "--device", "cpu", "--length", "5", "--precision", "f16"]);
    assert!(report["max_abs_err"].as_f64().unwrap() < 1e-4);
}
