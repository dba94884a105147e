//! What is refused: exit code 2, one line that names the thing, and nothing written.

use std::fs;

use ndarray::{Array1, Array3};
use safetensors::tensor::Dtype;

use super::{Folder, HIDDEN, INPUT, ROWS, STEPS, Weights, config, safetensors, weights};

#[test]
fn files_that_are_no_models() {
    let folder = Folder::new();
    let model = fs::read(folder.path("model.safetensors")).unwrap();
    let mut lying = model.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long = model.clone();
    long[..8].copy_from_slice(&(model.len() as u64 * 2).to_le_bytes());
    let mut huge = model.clone();
    let place = huge.windows(5).position(|window| window == b"[16,4").unwrap();
    huge[place..place + 5].copy_from_slice(b"[99,9");
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "empty file"),
        ("text", b"Once upon a time there was a model that was none.", "expected a safetensors or ONNX model"),
        ("pickle", b"PK\x03\x04archive/data.pkl", "zip archive"),
        ("short", &model[..20], "header"),
        ("truncated", &model[..model.len() - 40], "cut off"),
        ("lying", &lying, "header"),
        ("long", &long, "header"),
        ("huge", &huge, "header"),
        ("npy", &fs::read(folder.path("x.npy")).unwrap(), "NumPy"),
    ];
    for (name, bytes, words) in cases {
        folder.put(name, bytes);
        folder.fails(&["inspect", name, "--device", "cpu"], &[name, words]);
        folder.run_fails(name, &["x.npy"], &[name, words]);
        folder.fails(&["verify", name, "--device", "cpu"], &[name, words]);
        folder.fails(&["explain", name, "--batch", "1", "--seq-len", "1", "--device", "cpu"], &[name, words]);
    }
    folder.fails(&["inspect", "missing.onnx"], &["missing.onnx", "cannot read"]);
    folder.fails(&["inspect", "."], &["cannot read"]);
}

#[test]
fn models_with_the_wrong_tensors() {
    let folder = Folder::new();
    let change = |name: &str, change: &dyn Fn(&mut Weights)| {
        let mut tensors = weights(INPUT, HIDDEN, 0.5);
        change(&mut tensors);
        folder.put(name, &safetensors(&tensors, Some(&config(INPUT, HIDDEN))));
    };
    change("missing", &|tensors| drop(tensors.remove("bias_hh_l0")));
    folder.run_fails("missing", &["x.npy"], &["missing", "`bias_hh_l0`", "[16]"]);
    change("shape", &|tensors| tensors.get_mut("weight_ih_l0").unwrap().1 = vec![INPUT, 16]);
    folder.run_fails("shape", &["x.npy"], &["`weight_ih_l0`", "[16, 3]", "[3, 16]"]);
    change("dtype", &|tensors| tensors.get_mut("weight_ih_l0").unwrap().0 = Dtype::I32);
    folder.run_fails("dtype", &["x.npy"], &["`weight_ih_l0`", "I32"]);
    change("more", &|tensors| drop(tensors.insert("head.weight".to_owned(), (Dtype::F32, vec![1], vec![0; 4]))));
    folder.run_fails("more", &["x.npy"], &["`head.weight`"]);
    folder.put("config", &safetensors(&weights(INPUT, HIDDEN, 0.5), Some(r#"{"input_size": 3}"#)));
    folder.run_fails("config", &["x.npy"], &["config", "hidden_size"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let folder = Folder::new();
    let model = "model.safetensors";
    folder.array("rank.npy", &[STEPS, INPUT]);
    folder.array("size.npy", &[STEPS, ROWS, INPUT + 1]);
    folder.tensor("double.npy", Array3::<f64>::zeros((STEPS, ROWS, INPUT)));
    folder.tensor("integers.npy", Array3::<i32>::zeros((STEPS, ROWS, INPUT)));
    folder.run_fails(model, &["rank.npy"], &["`x`", "[5, 3]"]);
    folder.run_fails(model, &["size.npy"], &["`x`", "input_size = 3", "[5, 2, 4]"]);
    folder.run_fails(model, &["double.npy"], &["`x`", "double.npy", "expected float32, found float64", ".astype(numpy.float32)"]);
    folder.run_fails(model, &["integers.npy"], &["`x`", "float32", "int32"]);
    folder.run_fails(model, &["z=x.npy"], &["`z`", "`x`", "`sequence_lens`"]);
    folder.run_fails(model, &["x=x.npy", "x.npy"], &["`x`", "twice"]);
    folder.run_fails(model, &[], &["input `x`: missing, expected float32 [seq_len, batch, 3]: --input x=FILE.npy"]);
    folder.run_fails(model, &["q=1/none.npy"], &["no input `q`", "`x`, `h_0`", "nor is there a file q=1/none.npy"]);
    folder.run_fails(model, &["x="], &["x=", "no file"]);
    folder.run_fails(model, &["none.npy"], &["none.npy", "cannot read"]);
    folder.array("state.npy", &[1, ROWS + 1, HIDDEN]);
    folder.run_fails(model, &["x=x.npy", "h_0=state.npy"], &["`h_0`", "[1, 2, 4]", "[1, 3, 4]"]);
    for (name, lens) in [("long", vec![5_i64, 6]), ("negative", vec![-1, 5]), ("many", vec![5, 5, 5])] {
        folder.tensor(&format!("{name}.npy"), Array1::from_vec(lens));
    }
    folder.run_fails(model, &["x=x.npy", "sequence_lens=long.npy"], &["`sequence_lens`", "seq_len = 5", "found 6 in row 1"]);
    folder.run_fails(model, &["x=x.npy", "sequence_lens=negative.npy"], &["`sequence_lens`", "found -1 in row 0"]);
    folder.run_fails(model, &["x=x.npy", "sequence_lens=many.npy"], &["`sequence_lens`", "[batch] = [2]", "[3]"]);
    folder.run_fails(model, &["x=x.npy", "sequence_lens=x.npy"], &["`sequence_lens`", "expected int32 or int64, found float32"]);
    folder.tensor("bytes.npy", Array1::from_vec(vec![5_u8, 5]));
    folder.run_fails(model, &["x=x.npy", "sequence_lens=bytes.npy"], &["`sequence_lens`", "expected int32 or int64, found uint8"]);
    let x = fs::read(folder.path("x.npy")).unwrap();
    folder.put("cut.npy", &x[..x.len() - 1]);
    folder.put("empty.npy", b"");
    folder.put("text.npy", b"1.0, 2.0");
    for file in ["cut.npy", "empty.npy", "text.npy"] {
        folder.run_fails(model, &[file], &["`x`", file]);
    }
    folder.fails(&["verify", model, "--device", "cpu", "--input", "size.npy"], &["`x`", "[5, 2, 4]"]);
}

#[test]
fn outputs_that_cannot_be() {
    let folder = Folder::new();
    let fails = |flags: &[&str], words: &[&str]| {
        folder.fails(&[&["run", "model.safetensors", "--input", "x.npy", "--device", "cpu"], flags].concat(), words);
    };
    fails(&[], &["--out DIR", "--output NAME=FILE.npy"]);
    fails(&["--output", "z=z.npy"], &["`z`", "`y`, `h_n`, `c_n`"]);
    fails(&["--output", "z"], &["`z`", "`y`, `h_n`, `c_n`"]);
    fails(&["--output", "y"], &["y=FILE.npy", "--out"]);
    fails(&["--output", "y="], &["y=", "no file"]);
    fails(&["--output", "y=same.npy", "--output", "h_n=same.npy"], &["`y`", "`h_n`", "same.npy"]);
    fails(&["--output", "y=."], &["cannot write"]);
    fails(&["--out", "x.npy"], &["x.npy", "cannot write"]);
    fails(&["--out", "x.npy/deep"], &["x.npy/deep", "cannot write"]);
    // before the run, and so before the device is looked for
    let missing = ["run", "model.safetensors", "--input", "x.npy", "--adapter", "nonesuch", "--output", "y=none/y.npy"];
    folder.fails(&missing, &["none/y.npy", "cannot write", "no folder none"]);
    fails(&["--output", "y=none/y.npy", "--out", "other"], &["none/y.npy", "no folder none"]);
    fails(&["--output", &format!("y={}.npy", "y".repeat(300))], &["cannot write"]);
    fs::create_dir(folder.path("sub")).unwrap();
    for same in ["./a.npy", "sub/../a.npy", folder.path("a.npy").to_str().unwrap()] {
        fails(&["--output", "y=a.npy", "--output", &format!("h_n={same}")], &["`y`", "`h_n`", "would both go to", same]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn outputs_that_fail_leave_none() {
    let folder = Folder::new();
    // a device that is always full
    std::os::unix::fs::symlink("/dev/full", folder.path("full.npy")).unwrap();
    std::os::unix::fs::symlink("x.npy", folder.path("link.npy")).unwrap();
    let run = ["run", "model.safetensors", "--input", "x.npy", "--device", "cpu", "--output"];
    folder.fails(&[&run[..], &["y=y.npy", "--output", "h_n=full.npy", "--output", "c_n=c.npy"]].concat(), &["full.npy", "cannot write"]);
    folder.fails(&[&run[..], &["y=x.npy", "--output", "h_n=link.npy"]].concat(), &["`y`", "`h_n`", "would both go to"]);
    std::os::unix::fs::symlink("nowhere", folder.path("dangling")).unwrap();
    let run = ["run", "model.safetensors", "--input", "x.npy", "--adapter", "nonesuch", "--out", "dangling"];
    folder.fails(&run, &["dangling", "cannot write"]);
}

#[test]
fn devices_that_do_not_fit() {
    let folder = Folder::new();
    for flags in [
        &["--device", "gpu", "--adapter", "nonesuch"][..],
        &["--adapter", "nonesuch"],
        &["--adapter", "nonesuch", "--backend", "gl", "--allow-software"],
    ] {
        folder.fails(&[&["run", "model.safetensors", "--input", "x.npy", "--out", "out"], flags].concat(), &["`nonesuch`"]);
        folder.fails(&[&["demo"], flags].concat(), &["`nonesuch`"]);
    }
    for flags in [
        &["--device", "cpu", "--adapter", "llvmpipe"][..],
        &["--device", "reference", "--backend", "vulkan"],
        &["--device", "cpu", "--allow-software"],
        &["--device", "cpu", "--least-limits"],
    ] {
        folder.fails(&[&["verify", "model.safetensors"], flags].concat(), &["GPU"]);
        folder.fails(&[&["inspect", "model.safetensors"], flags].concat(), &["GPU"]);
    }
    folder.fails(&["inspect", "model.safetensors", "--device", "npu"], &["npu", "--device"]);
    folder.fails(&["inspect", "model.safetensors", "--adapter", ""], &["--adapter"]);
    folder.fails(&["inspect", "model.safetensors", "--backend", "cuda"], &["cuda", "--backend"]);
}

#[test]
fn arguments_that_make_no_sense() {
    let folder = Folder::new();
    folder.fails(&["train"], &["train"]);
    folder.fails(&["inspect"], &["required arguments"]);
    folder.fails(&["explain", "model.safetensors", "--seq-len", "5"], &["required arguments"]);
    folder.fails(&["explain", "model.safetensors", "--batch", "-1", "--seq-len", "5"], &["-1"]);
    let max = usize::MAX.to_string();
    folder.fails(&["explain", "model.safetensors", "--batch", &max, "--seq-len", "2", "--device", "cpu"], &["too large", &max]);
    folder.fails(&["verify", "model.safetensors", "--batch", &max, "--device", "cpu"], &["`x`", "too large"]);
    folder.fails(&["verify", "model.safetensors", "--input", "x.npy", "--seed", "1", "--device", "cpu"], &["--seed"]);
    folder.fails(&["run", "model.safetensors", "--input", "x.npy", "--out", "o", "--device", "cpu", "--precision", "f8"], &["f8", "--precision"]);
    folder.fails(&["demo", "--device", "cpu", "--temperature", "-1"], &["-1"]);
    folder.fails(&["demo", "--device", "cpu", "--temperature=nan"], &["nan", "--temperature"]);
    folder.fails(&["demo", "--device", "cpu", "--prompt", "ü"], &["--prompt", "`ü`"]);
    folder.fails(&["demo", "--device", "cpu", "--prompt", ""], &["--prompt", "at least one"]);
}
