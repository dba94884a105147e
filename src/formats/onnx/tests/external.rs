//! Data in files beside the model: what of them is read, and what is out of reach.

use std::fs;
use std::path::Path;

use super::*;
use crate::formats::onnx::proto::StringStringEntryProto;
use crate::formats::onnx::tensor::EXTERNAL;

/// A tensor of 1024 numbers, whose data is at `location`.
fn external(location: &str, offset: &str) -> TensorProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    let external_data = vec![entry("location", location), entry("offset", offset), entry("length", "4096")];
    TensorProto { float_data: vec![], external_data, data_location: EXTERNAL, ..tensor(location, &[1024]) }
}

fn read_in(folder: &Path, tensors: Vec<TensorProto>) -> Result<Network> {
    let model = model_with(|graph| graph.initializer.extend(tensors));
    super::super::read(&model.encode_to_vec(), Some(folder), false)
}

/// A folder with a file of data, in another one with the like.
fn folders() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("model");
    fs::create_dir_all(folder.join("below")).expect("a folder");
    for file in [outer.path().join("data"), folder.join("data"), folder.join("below/data")] {
        fs::write(file, vec![0; 4096]).expect("a file");
    }
    (outer, folder)
}

#[test]
fn data_is_read_so_often_however_its_file_is_called() {
    let (_outer, folder) = folders();
    let spelled = |times: usize| (0..times).map(|number| external(&("./".repeat(number) + "data"), "0")).collect();
    read_in(&folder, spelled(4)).expect("a model");
    let error = read_in(&folder, spelled(20)).expect_err("data that is shared");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn data_lies_in_the_models_folder_or_below() {
    let (outer, folder) = folders();
    for location in ["data", "./data", "below/data", "below/./data"] {
        read_in(&folder, vec![external(location, "0")]).expect(location);
    }
    let absolute = [outer.path().join("data"), folder.join("data")].map(|path| path.to_str().expect("a path that is text").to_owned());
    let others = ["../data", "below/../data", "below/../../data", "../model/data", "/dev/zero", "", ".", "below", "..", "/", "data\0"];
    for location in others.into_iter().chain(absolute.iter().map(String::as_str)) {
        let error = read_in(&folder, vec![external(location, "0")]).expect_err(location);
        assert_eq!(error.kind(), ErrorKind::Config, "{location}: {error}");
    }
    for offset in ["1", "18446744073709551615", "-1"] {
        let error = read_in(&folder, vec![external("data", offset)]).expect_err(offset);
        assert_eq!(error.kind(), ErrorKind::Format, "{offset}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn links_lead_no_further() {
    use std::os::unix::fs::symlink;
    let (outer, folder) = folders();
    let link = |to: &str, name: &str| symlink(to, folder.join(name)).expect("a link");
    for (to, name) in [("data", "inside"), ("below", "folder"), ("../model/data", "around")] {
        link(to, name);
    }
    for location in ["inside", "folder/data", "around"] {
        read_in(&folder, vec![external(location, "0")]).expect(location);
    }
    for (to, name) in [("../data", "outside"), ("..", "up"), ("/dev/zero", "device"), ("up/data", "twice"), ("/", "root")] {
        link(to, name);
    }
    let absolute = format!("root{}", outer.path().join("data").display());
    for location in ["outside", "up/data", "device", "twice", &absolute] {
        let error = read_in(&folder, vec![external(location, "0")]).expect_err(location);
        assert!(error.to_string().contains("expected data in the model's folder or below"), "{location}: {error}");
    }
    // the folder itself may be reached by one
    symlink(&folder, outer.path().join("alias")).expect("a link");
    read_in(&outer.path().join("alias"), vec![external("data", "0")]).expect("a model");
}
