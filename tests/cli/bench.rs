//! `cellgate bench`: rows, files, pages.

use std::fs;

use serde_json::Value;

use super::{Folder, ROWS, STEPS, text};

/// A quick run on the CPU: two batches, two sizes.
const QUICK: &[&str] = &["bench", "--device", "cpu", "--batch", "1-3*3", "--hidden", "4,8", "--seq-len", "5", "--repeat", "3", "--warm-up", "0"];

/// A model of another project whose sizes are fixed: one row and one step of 257 features.
const FIXED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/networks/models/dtln-1/model.onnx");

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [QUICK, more].concat()
}

#[test]
fn every_combination_is_a_row_that_is_verified() {
    let folder = Folder::new();
    let rows = rows(&folder.succeeds(&with(&["--json", "-", "--precision", "f32,int8"])));
    let sizes: Vec<[u64; 3]> = rows.iter().map(|row| ["hidden_size", "batch", "input_size"].map(|name| row[name].as_u64().unwrap())).collect();
    let expected: Vec<[u64; 3]> = [4, 8].iter().flat_map(|&hidden| [1, 1, 3, 3].map(|batch| [hidden, batch, hidden])).collect();
    assert_eq!(sizes, expected);
    for (number, row) in rows.iter().enumerate() {
        let name = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((name("device").as_str(), name("precision").as_str()), ("cpu", ["f32", "int8"][number % 2]), "{row}");
        assert!(name("adapter").starts_with("CPU, ") && !name("driver").is_empty() && !name("schedule").is_empty() && !name("why").is_empty());
        assert_eq!((&row["backend"], &row["model"], &row["failure"], &row["verified"]), (&Value::Null, &Value::Null, &Value::Null, &true.into()));
        assert_eq!(
            (&row["n"], &row["layers"], &row["directions"], &row["seq_len"], &row["ratio_to_cpu"]),
            (&3.into(), &1.into(), &1.into(), &5.into(), &1.0.into())
        );
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
        for positive in ["median_ms", "min_ms", "p95_ms", "us_per_step", "gflops", "peak_gflops", "peak_gb_per_s", "peak_share", "bandwidth_share"] {
            assert!(number(positive) > 0.0, "{positive} in {row}");
        }
        assert!(
            number("mad_ms") >= 0.0
                && number("max_abs_err") < 1e-5
                && number("min_ms") <= number("median_ms")
                && number("median_ms") <= number("p95_ms")
        );
        assert!((number("us_per_step") / (number("median_ms") * 200.0) - 1.0).abs() < 1e-9);
        let hidden = number("hidden_size");
        assert_eq!(number("flops"), 2.0 * 4.0 * hidden * 2.0 * hidden * number("batch") * 5.0);
    }
}

#[test]
fn models_are_timed_as_they_are() {
    let folder = Folder::new();
    let run = ["bench", "model.safetensors", "--device", "cpu", "--batch", "2,4", "--seq-len", "6", "--repeat", "2", "--json", "rows.jsonl"];
    let table = folder.succeeds(&run);
    assert!(table.contains("model model.safetensors") && table.contains("batch") && table.contains("median ms"), "{table}");
    let rows = rows(&fs::read_to_string(folder.path("rows.jsonl")).unwrap());
    assert_eq!(rows.iter().map(|row| row["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4]);
    assert!(
        rows.iter().all(|row| row["model"] == "model.safetensors" && row["verified"] == true && row["hidden_size"] == 4 && row["input_size"] == 3)
    );
}

#[test]
fn a_call_has_the_sizes_that_its_model_or_its_files_have() {
    let folder = Folder::new();
    let sizes = |arguments: &[&str]| {
        let rows = rows(&folder.succeeds(&[&["bench", "--device", "cpu", "--repeat", "1", "--json", "-"], arguments].concat()));
        rows.iter().map(|row| ["batch", "seq_len"].map(|name| row[name].as_u64().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&["model.safetensors", "--input", "x.npy"]), [[ROWS as u64, STEPS as u64]]);
    assert_eq!(sizes(&[FIXED]), [[1, 1]]);
}

#[test]
fn records_become_tables_and_pages() {
    let folder = Folder::new();
    folder.succeeds(&with(&["--json", "rows.jsonl", "--csv", "rows.csv", "--report", "page.html"]));
    let csv = fs::read_to_string(folder.path("rows.csv")).unwrap();
    let (names, first) = (csv.lines().next().unwrap(), csv.lines().nth(1).unwrap());
    assert_eq!(csv.lines().count(), 5);
    let row = rows(&fs::read_to_string(folder.path("rows.jsonl")).unwrap()).remove(0);
    assert!(names.split(',').all(|name| row.get(name).is_some()) && first.contains("cpu"), "{names}\n{first}");
    let page = fs::read_to_string(folder.path("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg") && page.contains("prefers-color-scheme"), "{page}");
    // nothing that a browser would fetch
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("url(") && page.len() < 2 << 20, "{} bytes", page.len());
    // the same from the record, without measuring
    let table = folder.succeeds(&["bench", "--from", "rows.jsonl", "--report", "again.html"]);
    assert_eq!(fs::read_to_string(folder.path("again.html")).unwrap(), page);
    folder.put("page.md", b"# Page\n<!-- BEGIN bench -->\nold\n<!-- END bench -->\nend\n");
    folder.succeeds(&["bench", "--from", "rows.jsonl", "--splice", "page.md"]);
    let spliced = fs::read_to_string(folder.path("page.md")).unwrap();
    assert!(spliced.starts_with("# Page\n<!-- BEGIN bench -->\n") && spliced.ends_with("\n<!-- END bench -->\nend\n") && !spliced.contains("old"));
    assert_eq!(spliced.lines().filter(|line| line.starts_with("| ")).count(), table.lines().count(), "{spliced}");
    assert!(folder.succeeds(&["bench", "--from", "rows.jsonl", "--from", "rows.jsonl"]).lines().count() > table.lines().count());
}

#[test]
fn the_cpu_comes_first_and_the_reference_has_no_peak() {
    let folder = Folder::new();
    let all = rows(&folder.succeeds(&["bench", "--devices", "all", "--batch", "1", "--hidden", "4", "--repeat", "1", "--json", "-"]));
    assert_eq!(all[0]["device"], "cpu");
    let reference = rows(&folder.succeeds(&["bench", "--device", "reference", "--batch", "1", "--hidden", "4", "--repeat", "1", "--json", "-"]));
    assert_eq!((&reference[0]["device"], &reference[0]["peak_gflops"], &reference[0]["n"]), (&"reference".into(), &Value::Null, &1.into()));
}

/// A row that is wrong stays wrong in a record, also where its error is infinite, which JSON has no number for.
#[test]
fn what_is_wrong_is_told_again_by_its_record() {
    let folder = Folder::new();
    let right = rows(&folder.succeeds(&with(&["--json", "-"]))).remove(0);
    let change = |changes: &[(&str, Value)]| {
        let mut row = right.clone();
        changes.iter().for_each(|(name, value)| row[*name] = value.clone());
        row.to_string()
    };
    let wrong = [("verified", false.into()), ("outcome", "wrong".into()), ("max_abs_err", Value::Null), ("median_ms", Value::Null)];
    folder.put("wrong.jsonl", format!("{right}\n{}\n", change(&wrong)).as_bytes());
    let output = folder.cellgate(&["bench", "--from", "wrong.jsonl", "--report", "page.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("- WRONG") && text(&output.stderr).contains("1 of 2 rows differ"));
    assert!(fs::read_to_string(folder.path("page.html")).unwrap().contains("WRONG"));
    let failed = [("verified", false.into()), ("outcome", "failed".into()), ("failure", "no memory".into()), ("median_ms", Value::Null)];
    folder.put("failed.jsonl", change(&failed).as_bytes());
    folder.put("empty call.jsonl", change(&[("batch", 0.into())]).as_bytes());
    for (record, words) in [("failed.jsonl", "no memory"), ("empty call.jsonl", "a size is 0")] {
        let output = folder.cellgate(&["bench", "--from", record]);
        assert_eq!(output.status.code(), Some(2), "{record}");
        assert!(text(&output.stderr).contains(words), "{record}");
    }
}

/// Thousands of rows make a page that is still small, and says what it leaves out.
#[test]
fn a_large_record_makes_a_small_page() {
    let folder = Folder::new();
    let row = rows(&folder.succeeds(&with(&["--json", "-"]))).remove(0);
    let many = (1..6000).map(|number: u64| {
        let mut row = row.clone();
        (row["batch"], row["hidden_size"]) = ((1 + number % 300).into(), (1 + number / 300).into());
        row["device"] = ["cpu", "gpu"][number as usize % 2].into();
        row["backend"] = [Value::Null, "vulkan".into()][number as usize % 2].clone();
        row.to_string() + "\n"
    });
    folder.put("many.jsonl", many.collect::<String>().as_bytes());
    folder.succeeds(&["bench", "--from", "many.jsonl", "--report", "page.html"]);
    let page = fs::read_to_string(folder.path("page.html")).unwrap();
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert!(page.contains("The first 12 of ") && page.contains("of 5999; the record has them all"));
}

#[test]
fn what_is_refused() {
    let folder = Folder::new();
    folder.put("text.jsonl", b"no row\n");
    folder.put("empty.jsonl", b"\n");
    folder.put("bare.md", b"# no markers\n");
    for (more, words) in [
        (&["--batch", "0"][..], &["--batch", "expected a number from 1"][..]),
        (&["--batch", "4-1"], &["--batch", "4-1"]),
        (&["--hidden", "1-99999"], &["--hidden", "at most 1000"]),
        (&["--directions", "3"], &["--directions", "1 or 2", "3"]),
        (&["--repeat", "0"], &["--repeat"]),
        (&["--duration", "0"], &["--duration", "above 0"]),
        (&["--devices", "some"], &["--devices", "all"]),
        (&["--hidden", "1000000", "--input-size", "4"], &["hidden_size", "1000000"]),
        (&["--batch", "1-1000", "--hidden", "1-1000"], &["at most 10000", "1000000"]),
        (&["--seq-len", "1000000000000000"], &["too large"]),
        (&["--hidden", "400000"], &["weights are too many"]),
        (&["--batch-first"], &["--batch-first", "without MODEL"]),
        (&["--csv", "-"], &["only --json"]),
        (&["--csv", "one", "--report", "one"], &["one", "twice"]),
        (&["--json", "missing/rows.jsonl"], &["missing/rows.jsonl", "cannot write"]),
        (&["--report", "missing/page.html"], &["missing/page.html", "cannot write"]),
        (&["--splice", "bare.md"], &["bare.md", "BEGIN bench"]),
        (&["--from", "text.jsonl"], &["text.jsonl", "line 1"]),
        (&["--from", "empty.jsonl"], &["empty.jsonl", "found none"]),
        (&["--from", "missing.jsonl"], &["missing.jsonl", "cannot read"]),
        (&["--from", "text.jsonl", "--batch", "1"], &["--from", "--batch"]),
        (&["model.safetensors", "--hidden", "4"], &["--hidden"]),
        (&["missing.onnx"], &["missing.onnx", "cannot read"]),
        (&["model.safetensors", "--input", "missing.npy"], &["missing.npy"]),
        (&["--input", "x.npy"], &["MODEL"]),
        (&["model.safetensors", "--input", "x.npy", "--batch", "1"], &["--input", "--batch"]),
        (&[FIXED, "--batch", "1"], &["--batch", "one that fixes it"]),
        (&["--device", "cpu", "--schedule", "resident", "--batch", "1", "--devices", "all"], &["--devices"]),
    ] {
        folder.fails(&[&["bench"], more].concat(), words);
    }
}

/// The table of the README is what the command beside it makes of the record there.
#[test]
fn the_readmes_table_is_that_of_its_record() {
    let folder = Folder::new();
    let readme = include_str!("../../README.md");
    folder.put("README.md", readme.as_bytes());
    let marker = readme.lines().find(|line| line.starts_with("<!-- BEGIN bench")).expect("the README has a table of measurements");
    let record = marker.split_whitespace().find(|word| word.ends_with(".jsonl")).expect("the marker names the record");
    let record = format!("{}/{record}", env!("CARGO_MANIFEST_DIR"));
    folder.succeeds(&["bench", "--from", &record, "--splice", "README.md"]);
    assert_eq!(fs::read_to_string(folder.path("README.md")).unwrap(), readme);
}
