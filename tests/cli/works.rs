//! What works, and what it prints and writes.

use std::fs;
use std::process::Stdio;

use ndarray::{Array1, ArrayD, IxDyn};
use serde_json::Value;

use super::{Folder, HIDDEN, INPUT, ROWS, STEPS, config, program, safetensors, shape, text, weights};

#[test]
fn help_and_version_go_to_stdout() {
    let folder = Folder::new();
    assert_eq!(folder.succeeds(&["--version"]), format!("cellgate {}\n", env!("CARGO_PKG_VERSION")));
    let help = folder.succeeds(&["--help"]);
    for command in ["devices", "inspect", "run", "verify", "explain", "convert", "bench", "demo"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in: {help}");
        assert!(folder.succeeds(&[command, "--help"]).contains("--json"));
    }
    for device in ["--device", "--adapter", "--backend", "--allow-software", "--least-limits"] {
        assert!(folder.succeeds(&["run", "--help"]).contains(device));
    }
}

#[test]
fn devices_lists_the_cpu_and_what_would_be_used() {
    let folder = Folder::new();
    let report = folder.json(&["devices"]);
    let devices = report["devices"].as_array().unwrap();
    assert!(devices.iter().any(|device| device["kind"] == "cpu" && device["unusable"].is_null()));
    assert!(report["auto"]["device"] == "cpu" || report["auto"]["device"] == "gpu");
    assert!(report["gpu"]["device"] == "gpu" || report["gpu"]["error"].is_string());
    let text = folder.succeeds(&["devices"]);
    assert!(text.contains("CPU, ") && text.contains("--device auto uses ") && text.contains("--device gpu "), "{text}");
}

#[test]
fn inspect_shows_the_model() {
    let folder = Folder::new();
    for device in ["cpu", "reference"] {
        let report = folder.json(&["inspect", "model.safetensors", "--device", device]);
        assert_eq!((&report["format"], &report["num_parameters"], &report["device"]), (&"safetensors".into(), &144.into(), &device.into()));
        let lstm = &report["lstms"][0];
        assert_eq!((&lstm["input_size"], &lstm["hidden_size"], &lstm["weights"]), (&3.into(), &4.into(), &"constant".into()));
        assert_eq!(report["inputs"][0]["axes"], serde_json::json!(["seq_len", "batch", 3]));
        let names: Vec<&str> = report["outputs"].as_array().unwrap().iter().filter_map(|port| port["name"].as_str()).collect();
        assert_eq!(names, ["y", "h_n", "c_n"]);
    }
    let text = folder.succeeds(&["inspect", "model.safetensors", "--device", "cpu"]);
    for words in ["144", "sequence_lens", "optional", "[seq_len, batch, 3]", "gates Sigmoid, candidate Tanh, output Tanh", "asked for"] {
        assert!(text.contains(words), "`{words}` in: {text}");
    }
}

#[test]
fn run_writes_every_output_or_the_named_ones() {
    let folder = Folder::new();
    let mut outputs = Vec::new();
    for device in ["cpu", "reference"] {
        let out = format!("deep/{device}");
        let report = folder.json(&["run", "model.safetensors", "--input", "x.npy", "--out", &out, "--device", device]);
        assert_eq!((&report["device"], &report["reason"]), (&device.into(), &"asked for".into()));
        assert!(report["ms"].as_f64().unwrap() > 0.0);
        let written = report["outputs"].as_array().unwrap();
        assert_eq!(written.iter().map(|output| output["name"].as_str().unwrap()).collect::<Vec<_>>(), ["y", "h_n", "c_n"]);
        assert_eq!(shape(&written[0]), [STEPS as u64, ROWS as u64, HIDDEN as u64]);
        assert_eq!((&written[0]["dtype"], &written[0]["file"]), (&"float32".into(), &format!("{out}/y.npy").into()));
        outputs.push(["y", "h_n", "c_n"].map(|name| folder.read(&format!("{out}/{name}.npy"))));
    }
    for (cpu, reference) in outputs[0].iter().zip(&outputs[1]) {
        assert!(cpu.iter().zip(reference).all(|(cpu, reference)| (cpu - reference).abs() < 1e-6));
        assert!(cpu.iter().any(|value| value.abs() > 0.01));
    }

    let printed = folder.succeeds(&["run", "model.safetensors", "--input", "x=x.npy", "--output", "h_n=h.npy", "--device", "cpu"]);
    assert_eq!(printed, "h_n  float32  [1, 2, 4]  h.npy\n");
    assert_eq!(folder.read("h.npy"), outputs[0][1]);
    folder.succeeds(&["run", "model.safetensors", "--input", "x.npy", "--output", "c_n", "--out", "one", "--device", "cpu"]);
    assert_eq!(fs::read_dir(folder.path("one")).unwrap().count(), 1);
    assert_eq!(folder.read("one/c_n.npy"), outputs[0][2]);
}

#[test]
fn lengths_are_int32_or_int64() {
    let folder = Folder::new();
    folder.tensor("lens32.npy", Array1::from_vec(vec![5_i32, 2]));
    folder.tensor("lens64.npy", Array1::from_vec(vec![5_i64, 2]));
    for lens in ["lens32", "lens64"] {
        let lens_input = format!("sequence_lens={lens}.npy");
        folder.succeeds(&["run", "model.safetensors", "--input", "x=x.npy", "--input", &lens_input, "--out", lens, "--device", "cpu"]);
    }
    let y = folder.read("lens32/y.npy");
    assert_eq!(y, folder.read("lens64/y.npy"));
    assert!(y.slice(ndarray::s![2.., 1, ..]).iter().all(|&value| value == 0.0) && y[[4, 0, 0]] != 0.0);
}

#[test]
fn no_rows_and_no_steps_are_valid() {
    let folder = Folder::new();
    folder.array("rows.npy", &[STEPS, 0, INPUT]);
    folder.array("steps.npy", &[0, ROWS, INPUT]);
    for device in ["cpu", "reference"] {
        folder.succeeds(&["run", "model.safetensors", "--input", "rows.npy", "--out", "rows", "--device", device]);
        assert_eq!(folder.read("rows/y.npy").shape(), [STEPS, 0, HIDDEN]);
        assert_eq!(folder.read("rows/h_n.npy").shape(), [1, 0, HIDDEN]);
        folder.succeeds(&["run", "model.safetensors", "--input", "steps.npy", "--out", "steps", "--device", device]);
        assert_eq!(folder.read("steps/y.npy").shape(), [0, ROWS, HIDDEN]);
        assert_eq!(folder.read("steps/c_n.npy"), ArrayD::<f32>::zeros(IxDyn(&[1, ROWS, HIDDEN])));
        folder.succeeds(&["verify", "model.safetensors", "--batch", "0", "--seq-len", "3", "--device", device]);
        folder.succeeds(&["explain", "model.safetensors", "--batch", "0", "--seq-len", "0", "--device", device]);
    }
}

#[test]
fn a_file_without_metadata_is_understood_with_flags() {
    let folder = Folder::new();
    folder.put("plain.safetensors", &safetensors(&weights(INPUT, HIDDEN, 0.5), None));
    folder.tensor("batch_first.npy", folder.read("x.npy").permuted_axes(IxDyn(&[1, 0, 2])).as_standard_layout().into_owned());
    let run = |out: &str, input: &str, flags: &[&str]| {
        folder.succeeds(&[&["run", "plain.safetensors", "--device", "cpu", "--out", out, "--input", input], flags].concat());
        folder.read(&format!("{out}/h_n.npy"))
    };
    let expected = run("a", "x.npy", &[]);
    assert_eq!(run("b", "batch_first.npy", &["--batch-first"]), expected);
    assert_eq!(run("c", "x.npy", &["--config", &config(INPUT, HIDDEN)]), expected);
    assert_eq!(run("d", "batch_first.npy", &["--config", r#"{"input_size": 3, "hidden_size": 4, "batch_first": true}"#]), expected);
    assert_eq!(folder.read("b/y.npy").shape(), [ROWS, STEPS, HIDDEN]);
    folder.fails(&["inspect", "plain.safetensors", "--config", r#"{"input_size": 3}"#], &["--config", "hidden_size"]);
    folder.fails(&["inspect", "plain.safetensors", "--config", &config(INPUT, 5)], &["weight_ih_l0", "[20, 3]", "[16, 3]"]);
    folder.fails(&["inspect", "model.safetensors", "--batch-first"], &["--batch-first", "model.safetensors", "`batch_first` is false"]);
    folder.fails(&["inspect", "model.safetensors", "--config", &config(INPUT, 5)], &["--config", "model.safetensors", "hidden_size"]);
    let stored = r#"{"input_size": 3, "hidden_size": 4, "batch_first": true}"#;
    folder.put("agrees.safetensors", &safetensors(&weights(INPUT, HIDDEN, 0.5), Some(stored)));
    folder.succeeds(&["inspect", "agrees.safetensors", "--batch-first", "--device", "cpu"]);
}

#[test]
#[cfg(unix)]
fn a_model_may_come_through_a_pipe() {
    let model = safetensors(&weights(INPUT, HIDDEN, 0.5), None);
    let mut command = program(&["inspect", "/dev/stdin", "--batch-first", "--device", "cpu"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &model).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("[batch, seq_len, 3]"), "{}", text(&output.stdout));
}

#[test]
fn verify_passes_and_fails() {
    let folder = Folder::new();
    for device in ["cpu", "reference"] {
        let report = folder.json(&["verify", "model.safetensors", "--device", device]);
        assert_eq!((&report["passed"], &report["seed"], &report["device"]), (&true.into(), &1.into(), &device.into()));
        assert_eq!(shape(&report["inputs"][0]), [32, 4, INPUT as u64]);
        let outputs = report["outputs"].as_array().unwrap();
        assert_eq!(outputs.iter().map(|output| output["name"].as_str().unwrap()).collect::<Vec<_>>(), ["y", "h_n", "c_n"]);
        for output in outputs {
            assert!(output["worst"]["ratio"].as_f64().unwrap() < 1.0 && output["num_outside"] == 0, "{output}");
        }
    }
    let given = folder.json(&["verify", "model.safetensors", "--input", "x.npy", "--device", "cpu"]);
    assert_eq!((shape(&given["inputs"][0]), &given["seed"]), (vec![STEPS as u64, ROWS as u64, INPUT as u64], &Value::Null));
    assert!(folder.succeeds(&["verify", "model.safetensors", "--device", "cpu"]).contains("pass: every value"));

    // The bundled model feeds its logits back, and so makes much of rounding, within what can still be judged.
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/char-lm.safetensors");
    let report = folder.json(&["verify", bundled, "--device", "cpu"]);
    assert_eq!(report["passed"], true);
    let (allowed, worst) = (&report["outputs"][0]["allowed_ratio"], &report["outputs"][0]["worst"]["ratio"]);
    assert!(allowed.as_f64() > Some(1.0) && worst.as_f64() < allowed.as_f64(), "{report}");

    // Gains far above 1 make a chaotic system: in float32 and in float64 it takes different ways.
    folder.put("chaos.safetensors", &safetensors(&weights(8, 64, 12.0), Some(&config(8, 64))));
    let arguments = ["verify", "chaos.safetensors", "--device", "cpu", "--seq-len", "300"];
    let output = folder.cellgate(&arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    assert!(stderr.contains("moves the reference's own `y`") && stderr.contains("nothing can be judged"), "{stderr}");
    assert!(stdout.contains("FAIL") && stdout.contains("values outside") && !stderr.contains("error"), "{stdout}\n{stderr}");
    let output = folder.cellgate(&[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["passed"], false);
    assert!(report["outputs"].as_array().unwrap().iter().any(|output| output["num_outside"].as_u64() > Some(0)));
}

#[test]
fn the_reference_against_itself_is_said() {
    let folder = Folder::new();
    let output = folder.cellgate(&["verify", "model.safetensors", "--device", "reference"]);
    assert!(text(&output.stderr).contains("comparing it with itself shows nothing"));
}

#[test]
fn made_up_inputs_depend_on_the_seed_alone() {
    let folder = Folder::new();
    let outputs = |seed: &str| folder.json(&["verify", "model.safetensors", "--device", "cpu", "--seed", seed])["outputs"].clone();
    assert_eq!(outputs("5"), outputs("5"));
    assert_ne!(outputs("5"), outputs("6"));
}

#[test]
fn explain_shows_the_plan() {
    let folder = Folder::new();
    for device in ["cpu", "reference"] {
        let report = folder.json(&["explain", "model.safetensors", "--batch", "8", "--seq-len", "10", "--device", device]);
        assert_eq!((&report["batch"], &report["seq_len"], &report["device"]), (&8.into(), &10.into(), &device.into()));
        // 2 operations for each weight of the matrices, row and step
        assert_eq!(report["lstms"][0]["flops"], 2 * 16 * (INPUT + HIDDEN) * 8 * 10);
    }
    let text = folder.succeeds(&["explain", "model.safetensors", "--batch", "8", "--seq-len", "10", "--device", "cpu"]);
    assert!(text.contains("17.92 kFLOP") && text.contains("schedule") && text.contains("FLOP/byte"), "{text}");
}

#[test]
fn demo_writes_text_on_the_device_it_names() {
    let folder = Folder::new();
    for device in ["cpu", "reference"] {
        let arguments = ["demo", "--device", device, "--prompt", "When ", "--length", "30", "--seed", "3"];
        let report = folder.json(&arguments);
        let written = report["text"].as_str().unwrap();
        assert!(written.starts_with("When ") && written.chars().count() == 35, "{written}");
        assert_eq!(report["device"], device);
        assert!(report["max_abs_err"].as_f64().unwrap() < 1e-4 && report["characters_per_second"].as_f64().unwrap() > 0.0);
        let output = folder.cellgate(&arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{written}\n")));
        let stderr = text(&output.stderr);
        for words in ["device: ", "asked for", "characters per second", "the float64 reference gives the same logits"] {
            assert!(stderr.contains(words), "`{words}` in: {stderr}");
        }
    }
    let greedy = |seed| folder.json(&["demo", "--device", "cpu", "--length", "30", "--temperature", "0", "--seed", seed])["text"].clone();
    assert_eq!(greedy("1"), greedy("2"));
    assert_eq!(folder.json(&["demo", "--device", "cpu", "--length", "0", "--prompt", "a"])["text"], "a");

    // what PyTorch makes of the same model
    let check: Value = serde_json::from_str(include_str!("../../assets/char-lm.check.json")).unwrap();
    let (prompt, text) = (check["prompt"].as_str().unwrap(), check["greedy"].as_str().unwrap());
    let length = text.chars().count().to_string();
    let report = folder.json(&["demo", "--device", "cpu", "--prompt", prompt, "--length", &length, "--temperature", "0"]);
    assert_eq!(report["text"], format!("{prompt}{text}"));
}

#[test]
fn what_runs_says_where_and_why() {
    let folder = Folder::new();
    for arguments in [&["run", "model.safetensors", "--input", "x.npy", "--out", "out"][..], &["verify", "model.safetensors"]] {
        let output = folder.cellgate(&[arguments, &["--device", "cpu"]].concat());
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with("device: CPU, ") && stderr.contains("(asked for)"), "{stderr}");
    }
}

#[test]
fn weights_that_are_not_finite_are_noted() {
    let folder = Folder::new();
    let mut broken = weights(INPUT, HIDDEN, 0.5);
    broken.get_mut("weight_hh_l0").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.put("nan.safetensors", &safetensors(&broken, Some(&config(INPUT, HIDDEN))));
    let output = folder.cellgate(&["run", "nan.safetensors", "--input", "x.npy", "--out", "out", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("note: weight_hh of layer 0, direction 0 holds NaN or infinity"));
    let num_nan = folder.read("out/y.npy").iter().filter(|value| value.is_nan()).count();
    assert!(num_nan > 0);
    assert_eq!(text(&output.stderr).matches(&format!("note: output `y` holds {num_nan} values that are NaN or infinite\n")).count(), 1);
    assert!(folder.json(&["inspect", "nan.safetensors", "--device", "cpu"])["notes"][0].as_str().unwrap().contains("weight_hh"));
    let output = folder.cellgate(&["verify", "nan.safetensors", "--device", "cpu"]);
    assert!(text(&output.stderr).contains("NaN or infinite"));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let folder = Folder::new();
    for arguments in [&["inspect", "model.safetensors", "--device", "cpu"][..], &["demo", "--device", "cpu", "--length", "500"], &["--help"]] {
        let mut command = program(arguments);
        let mut child = command.current_dir(folder.0.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("error"), "{arguments:?}\n{}", text(&output.stderr));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let folder = Folder::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program(&["inspect", "model.safetensors", "--device", "cpu"]).current_dir(folder.0.path()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: stdout: cannot write: "), "{}", text(&output.stderr));
}
