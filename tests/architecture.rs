//! The rules of the house: who may import whom, how long a file may be, what a manifest must list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that ends in `.ending`, by its path from the repository's root, with its text.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                found.insert(name, std::fs::read_to_string(&path).expect("a source file is text"));
            }
        }
    }
    assert!(!found.is_empty(), "no .{ending} file below {folder}");
    found
}

/// The code of a file: no comments, no unit tests.
fn code(name: &str, text: &str) -> String {
    if name.ends_with("/tests.rs") || name.contains("/tests/") {
        return String::new();
    }
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `text` by itself, not as a part of another word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(place, _)| !text[..place].chars().next_back().is_some_and(is_part) && !text[place + word.len()..].chars().next().is_some_and(is_part))
}

/// The top-level modules of this crate that `text` names by path: `a`, `b`, `c` of `crate::a::X`, `use crate::{b, c::Y}`.
fn modules_named(text: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (place, _) in text.match_indices("crate::") {
        let rest = &text[place + "crate::".len()..];
        let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            modules.insert(name(rest));
            continue;
        };
        let (mut depth, mut starts_name) = (1, true);
        for (place, c) in group.char_indices() {
            if starts_name && !c.is_whitespace() {
                if depth == 1 {
                    modules.insert(name(&group[place..]));
                }
                starts_name = false;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => starts_name = depth == 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    modules.remove("");
    modules
}

#[test]
fn the_scanner_sees_what_it_should() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(modules_named("use crate::gpu::{Wait, plan};"), set(&["gpu"]));
    assert_eq!(modules_named("use crate::{gpu::{Wait, cpu}, error,\n engine::x};"), set(&["gpu", "error", "engine"]));
    assert_eq!(modules_named("pub(in crate::engine) fn f() { crate::cli::run() }"), set(&["engine", "cli"]));
    assert!(has_word("wgpu::Device", "wgpu") && !has_word("naga_wgpu::x", "wgpu") && !has_word("wgpu_core", "wgpu"));
    assert_eq!(code("src/x.rs", "a // wgpu\nb\n#[cfg(test)]\nmod tests {\n wgpu }"), "a \nb");
}

#[test]
fn wgpu_appears_only_below_gpu() {
    for (name, text) in files("src", "rs") {
        if !name.starts_with("src/gpu/") {
            assert!(!has_word(&code(&name, &text), "wgpu"), "{name} uses wgpu");
        }
    }
}

#[test]
fn rten_appears_only_below_host() {
    for (name, text) in files("src", "rs") {
        if !name.starts_with("src/host/") {
            let code = code(&name, &text);
            assert!(!has_word(&code, "rten") && !has_word(&code, "rten_tensor"), "{name} uses rten");
        }
    }
}

#[test]
fn plain_data_of_the_gpu_knows_no_wgpu_type() {
    let plain = [
        "src/gpu/plan/",
        "src/gpu/kernels/",
        "src/gpu/params.rs",
        "src/gpu/specialise.rs",
        "src/gpu/shader.rs",
        "src/gpu/pack.rs",
        "src/gpu/region.rs",
    ];
    let files = files("src/gpu", "rs");
    for rule in plain {
        assert!(files.keys().any(|name| name.starts_with(rule)), "{rule} is gone: change this test");
    }
    for (name, text) in files.iter().filter(|(name, _)| plain.iter().any(|rule| name.starts_with(rule))) {
        assert!(!has_word(&code(name, text), "wgpu"), "{name} uses wgpu");
    }
}

/// `from` may not name `to`.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("src/reference/", &["host", "cpu", "gpu", "engine", "formats", "cli"]),
    ("src/cpu/", &["host", "reference", "gpu", "engine", "formats", "cli"]),
    ("src/gpu/", &["host", "reference", "cpu", "engine", "formats", "cli"]),
    ("src/formats/", &["reference", "cpu", "gpu", "engine", "cli"]),
    ("src/host/", &["reference", "cpu", "gpu", "engine", "formats", "network", "device", "compare", "measure", "cli"]),
    ("src/network/", &["reference", "cpu", "gpu", "engine", "cli"]),
    ("src/engine/", &["cli"]),
    ("src/lib.rs", &["cli"]),
    ("src/compare.rs", &["reference", "cpu", "gpu", "engine", "formats", "network", "cli"]),
    ("src/measure.rs", &["reference", "cpu", "gpu", "engine", "formats", "network", "cli"]),
    ("src/error.rs", &["reference", "cpu", "gpu", "engine", "formats", "network", "cli"]),
];

#[test]
fn imports_go_one_way() {
    let files = files("src", "rs");
    for (from, forbidden) in FORBIDDEN {
        let mut members = files.iter().filter(|(name, _)| name.starts_with(from)).peekable();
        assert!(members.peek().is_some(), "{from} is gone: change this test");
        for (name, text) in members {
            let named = modules_named(&code(name, text));
            for module in *forbidden {
                assert!(!named.contains(*module), "{name} names crate::{module}");
            }
        }
    }
    // a module that `super::super::` reaches would pass the test above
    for (name, text) in &files {
        assert!(!code(name, text).contains("super::super::"), "{name}: `super::super::`, where `crate::` says what it means");
    }
}

#[test]
fn nothing_but_main_names_the_command_line() {
    for (name, text) in files("src", "rs").iter().filter(|(name, _)| !name.starts_with("src/cli/") && *name != "src/main.rs") {
        assert!(!modules_named(&code(name, text)).contains("cli") && !code(name, text).contains("mod cli"), "{name} names the command line");
    }
}

#[test]
fn no_file_is_too_long() {
    for (folder, ending, most) in [("src", "rs", 500), ("tests", "rs", 500), ("shaders", "wgsl", 200)] {
        for (name, text) in files(folder, ending) {
            let lines = text.lines().count();
            assert!(lines <= most, "{name}: {lines} lines, at most {most}; split it by noun");
        }
    }
}

#[test]
fn library_code_does_not_unwrap() {
    for (name, text) in files("src", "rs") {
        assert!(!code(&name, &text).contains(".unwrap()"), "{name}: `.unwrap()`; an invariant is stated with `expect`, anything else is an error");
    }
}

/// `unsafe_code` is denied for all of the crate; where it is expected all the same, the reason stands there, and the place here.
#[test]
fn unsafe_code_stands_in_three_places() {
    let blocks = |folder: &str| -> BTreeMap<String, usize> {
        let of = |(name, text): (String, String)| (has_word(&code(&name, &text), "unsafe")).then(|| (name, text.matches("// SAFETY: ").count()));
        files(folder, "rs").into_iter().filter(|(name, _)| name != "tests/architecture.rs").filter_map(of).collect()
    };
    let expected = |places: &[(&str, usize)]| places.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    // shaders that trust the plan, experimental features of the graphics API, an environment variable
    assert_eq!(blocks("src"), expected(&[("src/gpu/device.rs", 2), ("src/main.rs", 1)]));
    // an allocator that counts
    assert_eq!(blocks("tests"), expected(&[("tests/common/counting.rs", 5)]));
    assert_eq!(blocks("examples"), BTreeMap::new());
}

/// What was measured on somebody's machine must not decide how tests come out, nor may tests write there.
#[test]
fn tests_leave_the_users_records_alone() {
    // the rules of this file name it, and naga has options of its own
    let elsewhere = |name: &str| name == "tests/architecture.rs" || name.starts_with("tests/shader_contract/");
    let tests = files("tests", "rs").into_iter().filter(|(name, _)| !elsewhere(name));
    for (name, text) in tests.chain(files("benches", "rs").into_iter().filter(|(name, _)| name == "benches/lstm.rs")) {
        let (all, by_model) = ("Options::default()", "tuning: Tuning::Model, ..Options::default()");
        assert_eq!(text.matches(all).count(), text.matches(by_model).count(), "{name}: `{all}` reads the user's records, `{by_model}` does not");
    }
}

#[test]
fn every_test_program_is_run() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    for (name, text) in files("tests", "rs") {
        let program = name.trim_start_matches("tests/").trim_end_matches(".rs").trim_end_matches("/main");
        // a program with a `main` of its own that cargo does not know of would pass with 0 tests
        if text.contains("\nfn main()") {
            assert!(
                manifest.contains(&format!("[[test]]\nname = \"{program}\"\nharness = false")),
                "Cargo.toml does not list {name} with harness = false"
            );
        }
    }
}

/// The names are compared, not the sums: no crate that this one needs computes SHA-256, and one for this alone is not worth it.
#[test]
fn manifests_list_every_file_and_no_other() {
    let golden = root().join("tests/golden");
    let manifest = manifest(&golden);
    lists_cases(&manifest["cases"], &golden);
    assert_eq!(listed(&manifest["scripts"]), beside(&golden), "files beside the cases of {}", golden.display());

    let networks = root().join("tests/networks");
    let manifest = self::manifest(&networks);
    lists_cases(&manifest["cases"], &networks.join("cases"));
    lists_cases(&manifest["models"], &networks.join("models"));
    assert_eq!(listed(&manifest["scripts"]), beside(&networks), "files beside the cases of {}", networks.display());
    for model in listed(&manifest["models"]) {
        assert!(listed(&manifest["models"][&model]).contains("LICENSE"), "{model} has no licence beside it");
    }
}

fn manifest(folder: &Path) -> serde_json::Value {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a manifest is JSON")
}

/// The names in an object of a manifest.
fn listed(object: &serde_json::Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

/// Files in a folder of cases that a manifest has to list: neither itself, nor tests, nor prose.
fn beside(folder: &Path) -> BTreeSet<String> {
    let is_listed = |name: &String| name != "manifest.json" && !name.ends_with(".rs") && !name.ends_with(".md");
    names(folder, false).into_iter().filter(is_listed).collect()
}

/// Every folder in `folder` is one of `cases`, and every file in it one of the case's.
fn lists_cases(cases: &serde_json::Value, folder: &Path) {
    assert_eq!(listed(cases), names(folder, true), "case folders in {}", folder.display());
    for (case, files) in cases.as_object().expect("an object") {
        assert_eq!(listed(files), names(&folder.join(case), false), "files of {case}");
        assert!(names(&folder.join(case), true).is_empty(), "{case} has folders in it");
        let sums = files.as_object().expect("an object").values();
        assert!(sums.clone().all(|sum| sum.as_str().is_some_and(|sum| sum.len() == 64)), "{case}: a sum is not 64 digits long");
        assert!(listed(files).iter().any(|file| file.starts_with("out.")), "{case} expects nothing");
    }
}

/// The folders, or the files, in `folder`.
fn names(folder: &Path, folders: bool) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    paths
        .filter(|path| path.is_dir() == folders)
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| name != "__pycache__" && !name.starts_with('.'))
        .collect()
}
