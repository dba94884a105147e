//! The shader files themselves: headers, twins, and the table in `shaders/README.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cellgate::Precision;
use cellgate::gpu::kernels::{CELLS, CellText, KERNELS, Kernel, Part, PartSlot, WEIGHTS};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every part that a kernel can be joined from.
fn parts_of(kernel: &Kernel) -> Vec<Part> {
    let of_slot = |slot: &PartSlot| match slot {
        PartSlot::File(part) => vec![*part],
        PartSlot::Weights => WEIGHTS.iter().map(|(_, part)| *part).collect(),
        PartSlot::Cell => CELLS.iter().flat_map(|(_, parts)| *parts).copied().collect(),
    };
    kernel.parts.iter().flat_map(of_slot).collect()
}

/// The kernel's own file.
fn own_part(kernel: &Kernel) -> Part {
    *kernel.parts(Precision::F32, CellText::Usual).last().expect("a kernel has parts")
}

/// The file that every part was read from, by its name below `shaders/`.
fn parts() -> BTreeSet<&'static str> {
    KERNELS.iter().flat_map(parts_of).map(|part| part.file).collect()
}

/// The comment at the top of a file, without its slashes.
fn header(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| line.starts_with("//")).map(|line| line.trim_start_matches('/').trim_start()).collect()
}

/// `src/reference/step.rs` of `Twin:       src/reference/step.rs`, which must be there.
fn check_twins(file: &str, header: &[&str]) {
    for line in header.iter().filter(|line| line.starts_with("Twin:")) {
        let twin = line["Twin:".len()..].trim();
        assert!(root().join(twin).is_file(), "shaders/{file}: its twin {twin} is not there");
        let text = std::fs::read_to_string(root().join(twin)).expect("it is there");
        assert!(text.contains(&format!("shaders/{file}")), "{twin} does not name its twin shaders/{file}");
    }
}

#[test]
fn kernels_start_with_a_header() {
    for kernel in KERNELS {
        let Part { file, text } = own_part(kernel);
        let header = header(text);
        assert!(header[0].starts_with(&format!("{file}: ")), "shaders/{file}: the first line is `// {file}: what it does`");
        let place = |key: &str| header.iter().position(|line| line.starts_with(key)).unwrap_or_else(|| panic!("shaders/{file}: no line `{key}`"));
        let places = ["Twin:", "Dispatch:", "Shared mem:", "Requires:"].map(place);
        assert!(places.is_sorted(), "shaders/{file}: header lines in the order Twin, Dispatch, Shared mem, Requires, found at {places:?}");
        let equations = &header[1..places[0]];
        assert!(equations.iter().any(|line| line.contains('=')), "shaders/{file}: equations come before the twin");
        assert!(header[places[2]].contains("Barriers:"), "shaders/{file}: `Shared mem:` and `Barriers:` stand in one line");
        check_twins(file, &header);
    }
}

#[test]
fn shared_parts_start_with_a_header() {
    for kernel in KERNELS {
        for Part { file, text } in parts_of(kernel).into_iter().filter(|part| *part != own_part(kernel)) {
            let header = header(text);
            let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(header[0].starts_with(&format!("{name}: ")), "shaders/{file}: the first line is `// {name}: what it does`");
            assert!(
                header.iter().any(|line| line.starts_with("These functions depend on")),
                "shaders/{file}: it does not say which globals it needs"
            );
            check_twins(file, &header);
        }
    }
}

#[test]
fn bindings_are_commented_with_their_shape() {
    for kernel in KERNELS {
        let Part { file, text } = own_part(kernel);
        for line in text.lines().filter(|line| line.starts_with("@group") && line.contains("var<storage")) {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            assert!(comment.contains('[') && comment.contains(']'), "shaders/{file}: `{line}` does not give the tensor's shape");
        }
    }
}

#[test]
fn no_file_is_unused_and_every_file_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("shaders/README.md")).expect("shaders/README.md is there");
    let mut files = BTreeSet::new();
    for folder in ["", "shared/"] {
        for entry in std::fs::read_dir(root().join("shaders").join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            if name.ends_with(".wgsl") {
                files.insert(format!("{folder}{name}"));
            }
        }
    }
    assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), parts(), "files below shaders/ and parts of kernels");
    for kernel in KERNELS {
        for Part { file, .. } in parts_of(kernel) {
            let row = readme.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{file}`")));
            let row = row.unwrap_or_else(|| panic!("shaders/README.md has no row for `{file}`"));
            assert!(row.contains(kernel.name), "shaders/README.md: the row of `{file}` does not name the kernel {}", kernel.name);
        }
    }
}
