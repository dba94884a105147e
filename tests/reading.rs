//! Reading a file takes no more memory than a small multiple of its size, whatever it says.

#[path = "common/counting.rs"]
#[allow(unreachable_pub, reason = "every test program is a crate of its own")]
mod counting;

use std::sync::atomic::Ordering::Relaxed;

use cellgate::{Network, Reading, formats};
use counting::{Counting, LIVE, PEAK};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Size of the files here, about: what reading takes whatever the size is little beside it.
const FILE_BYTES: usize = 1 << 20;

/// Bytes for each of a file's.
const MOST: f64 = 128.0;

/// What `read` takes for each byte of `file`.
fn share<T>(file: &[u8], read: impl FnOnce() -> T) -> f64 {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let made = read();
    let peak = PEAK.load(Relaxed) - before;
    drop(made);
    peak as f64 / file.len() as f64
}

/// A safetensors file of `entries` of the header and this data.
fn safetensors(entries: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{{entries}}}");
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A safetensors file of a small LSTM with this JSON under a key of the metadata.
fn with_metadata(key: &str, json: &str) -> Vec<u8> {
    let weight = |name: &str, start: usize| format!(r#""{name}":{{"dtype":"F32","shape":[4,1],"data_offsets":[{start},{}]}}"#, start + 16);
    let [of_input, of_state] = [weight("weight_ih_l0", 0), weight("weight_hh_l0", 16)];
    safetensors(&format!(r#""__metadata__":{{"{key}":{}}},{of_input},{of_state}"#, serde_json::Value::from(json)), &[0; 32])
}

/// As many of `piece` as a file has.
fn many(piece: impl Fn(usize) -> String) -> String {
    let count = FILE_BYTES / piece(100_000).len();
    (0..count).map(piece).collect::<Vec<_>>().join(",")
}

fn safetensors_files() -> Vec<(&'static str, Vec<u8>)> {
    let tensor = |name: &str, shape: &str, end: usize| format!(r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":[0,{end}]}}"#);
    let (gates, inputs) = (1 << 8, FILE_BYTES >> 9);
    let matrix = |name: &str, columns: usize, start: usize| {
        let end = start + 2 * gates * columns;
        (format!(r#""{name}":{{"dtype":"F16","shape":[{gates},{columns}],"data_offsets":[{start},{end}]}}"#), end)
    };
    let (of_input, end) = matrix("weight_ih_l0", inputs, 0);
    let (of_state, end) = matrix("weight_hh_l0", gates / 4, end);
    let weights = safetensors(&format!("{of_input},{of_state}"), &vec![0; end]);
    vec![
        ("tensors without elements", safetensors(&many(|number| tensor(&number.to_string(), "[0]", 0)), &[])),
        ("layers", safetensors(&many(|number| tensor(&format!("bias_ih_l{number}"), "[0]", 0)), &[])),
        ("LSTMs", safetensors(&many(|number| tensor(&format!("{number}.weight_ih_l0"), "[0]", 0)), &[])),
        ("modules", safetensors(&many(|number| tensor(&format!("{number}.weight"), "[0,0]", 0)), &[])),
        ("axes", safetensors(&tensor("weight_ih_l0", &format!("[{}]", many(|_| "0".to_owned())), 0), &[])),
        ("metadata", safetensors(&format!(r#""__metadata__":{{{}}}"#, many(|number| format!(r#""{number}":"""#))), &[])),
        ("stages", with_metadata("network", &format!("[{}]", many(|_| r#"{"function":"relu"}"#.to_owned())))),
        ("lists", with_metadata("network", &format!("[{}]", many(|_| "[]".to_owned())))),
        ("objects", with_metadata("network", &format!("[{}]", many(|_| r#"{"":0}"#.to_owned())))),
        ("objects in objects", with_metadata("network", &format!("[{}]", many(|_| r#"{"":"#.repeat(100) + "0" + &"}".repeat(100))))),
        ("keys", with_metadata("lstm", &format!("{{{}}}", many(|number| format!(r#""{number}":0"#))))),
        ("configurations", with_metadata("lstms", &format!("{{{}}}", many(|number| format!(r#""{number}":0"#))))),
        ("activations", with_metadata("lstm", &format!(r#"{{"input_size":1,"hidden_size":1,"activations":[[{}]]}}"#, many(|_| r#""""#.to_owned())))),
        ("claims", with_metadata("lstm", r#"{"input_size":1048576,"hidden_size":1048576,"num_layers":524288}"#)),
        ("weights", weights),
    ]
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of a protobuf message: its number, and bytes.
fn field(number: usize, bytes: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2), &varint(bytes.len()), bytes].concat()
}

/// An ONNX model whose graph has `fields`.
fn onnx(fields: &[u8]) -> Vec<u8> {
    // ir_version 8, and an opset import of version 17
    [&[0x08, 0x08][..], &field(8, &[0x10, 17]), &field(7, fields)].concat()
}

fn onnx_files() -> Vec<(&'static str, Vec<u8>)> {
    let many = |piece: &[u8]| piece.repeat(FILE_BYTES / piece.len());
    // axes, type, name
    let tensor = |data_type: u8, rest: &[u8]| field(5, &[&[0x10, data_type][..], &field(8, b"w"), rest].concat());
    let node = field(1, &[field(2, b"y"), field(4, b"Relu")].concat());
    vec![
        ("empty nodes", onnx(&many(&field(1, b"")))),
        ("nodes", onnx(&many(&node))),
        ("inputs of a node", onnx(&field(1, &many(&field(1, b""))))),
        ("attributes", onnx(&field(1, &many(&field(5, b""))))),
        ("graphs in an attribute", onnx(&field(1, &field(5, &many(&field(11, b"")))))),
        ("tensors", onnx(&many(&field(5, b"")))),
        ("dims", onnx(&tensor(1, &field(1, &many(b"\0"))))),
        ("packed floats", onnx(&tensor(1, &field(4, &many(b"\0\0\0\0"))))),
        ("packed integers", onnx(&tensor(7, &field(7, &many(b"\x01"))))),
        ("strings", onnx(&tensor(8, &many(&field(6, b""))))),
        ("raw data", onnx(&tensor(1, &[&[0x08, 0x80, 0x80, 0x10][..], &field(9, &many(b"\0\0\0\0"))].concat()))),
        ("ports", onnx(&many(&field(11, b"")))),
        ("functions", [onnx(&node), many(&field(25, b""))].concat()),
    ]
}

fn npy(dictionary: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x02\0", &(dictionary.len() as u32).to_le_bytes()[..], dictionary.as_bytes(), data].concat()
}

fn npy_files() -> Vec<(&'static str, Vec<u8>)> {
    let with = |descr: &str, order: &str, shape: &str, data: &[u8]| {
        npy(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"), data)
    };
    let data = vec![0; FILE_BYTES];
    vec![
        ("bytes", with("|b1", "False", &format!("({FILE_BYTES},)"), &data)),
        ("float16, the other way round", with("<f2", "True", &format!("({}, 512)", FILE_BYTES / 1024), &data)),
        ("axes", with("<f4", "False", &format!("({})", "1,".repeat(4_900)), &data)),
        ("a shape larger than the file", with("<f4", "False", "(1099511627776,)", &data)),
        ("a dictionary as long as the file", npy(&"1,".repeat(FILE_BYTES / 2), &[])),
    ]
}

#[test]
fn a_file_takes_a_small_multiple_of_its_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.npy");
    let mut shares = Vec::new();
    for (name, file) in safetensors_files().into_iter().chain(onnx_files()) {
        // what is made once takes its share before
        drop(Network::read(b"no model", Reading::default()));
        shares.push((name, share(&file, || Network::read(&file, Reading { counted: true, ..Reading::default() }))));
    }
    for (name, file) in npy_files() {
        std::fs::write(&path, &file).expect("a file");
        shares.push((name, share(&file, || formats::npy::read(&path))));
    }
    eprintln!("bytes for each of the file's: {shares:.1?}");
    let (name, worst) = shares.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are files");
    assert!(worst <= MOST, "{name}: {worst:.1} bytes for each of the file's, expected {MOST} at most");
}
