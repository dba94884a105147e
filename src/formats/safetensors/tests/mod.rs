mod chains;
mod hostile;
mod tracing;
mod writing;

use std::collections::HashMap;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use half::{bf16, f16};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

use super::*;
use crate::{CellWeights, Direction, ErrorKind, LayerNormWeights, Layout, Lstm};

/// Tensors for a file: name, type, shape, bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// A stack whose every weight has a value of its own.
fn stack(config: &LstmConfig) -> Lstm {
    let mut next = 0.0f32;
    let mut value = || {
        next += 1.0;
        next / 1024.0
    };
    let (hidden, gates, out) = (config.hidden_size, 4 * config.hidden_size, config.out_size());
    let cells = (0..config.num_cells()).map(|cell| {
        let mut matrix = |rows, cols| Array2::from_shape_simple_fn((rows, cols), &mut value);
        let input = config.layer_input_size(cell / config.num_directions());
        let (weight_ih, weight_hh) = (matrix(gates, input), matrix(gates, out));
        let weight_hr = config.proj_size.map(|proj| matrix(proj, hidden));
        let peepholes = config.peepholes.then(|| matrix(3, hidden));
        let mut vector = |len| Array1::from_shape_simple_fn(len, &mut value);
        let (bias_ih, bias_hh) = (config.bias.then(|| vector(gates)), config.bias.then(|| vector(gates)));
        let layer_norm = config.layer_norm.map(|_| LayerNormWeights {
            gamma_ih: vector(gates),
            gamma_hh: vector(gates),
            gamma_c: vector(hidden),
            beta_c: vector(hidden),
        });
        CellWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes, layer_norm }
    });
    Lstm::new(config.clone(), cells.collect()).unwrap()
}

fn entries(lstm: &Lstm, prefix: &str) -> Vec<Entry> {
    let config = lstm.config();
    let mut entries = Vec::new();
    for layer in 0..config.num_layers {
        for dir in 0..config.num_directions() {
            let cell = lstm.cell(layer, dir);
            let suffix = format!("_l{layer}{}", if dir == 1 { "_reverse" } else { "" });
            let mut push = |name: &str, array: Option<ndarray::ArrayViewD<'_, f32>>| {
                if let Some(array) = array {
                    let bytes = array.iter().flat_map(|value| value.to_le_bytes()).collect();
                    entries.push((format!("{prefix}{name}{suffix}"), Dtype::F32, array.shape().to_vec(), bytes));
                }
            };
            push("weight_ih", Some(cell.weight_ih.view().into_dyn()));
            push("weight_hh", Some(cell.weight_hh.view().into_dyn()));
            push("bias_ih", cell.bias_ih.as_ref().map(|bias| bias.view().into_dyn()));
            push("bias_hh", cell.bias_hh.as_ref().map(|bias| bias.view().into_dyn()));
            push("weight_hr", cell.weight_hr.as_ref().map(|matrix| matrix.view().into_dyn()));
            push("weight_peephole", cell.peepholes.as_ref().map(|matrix| matrix.view().into_dyn()));
            if let Some(norm) = &cell.layer_norm {
                push("gamma_ih", Some(norm.gamma_ih.view().into_dyn()));
                push("gamma_hh", Some(norm.gamma_hh.view().into_dyn()));
                push("gamma_c", Some(norm.gamma_c.view().into_dyn()));
                push("beta_c", Some(norm.beta_c.view().into_dyn()));
            }
        }
    }
    entries
}

/// What a file is, `given` the configuration of its LSTM.
fn read(bytes: &[u8], given: Option<(&LstmConfig, bool)>) -> Result<Network> {
    super::read(bytes, &Reading { config: given, ..Reading::default() })
}

fn file(entries: &[Entry], json: Option<&str>) -> Vec<u8> {
    file_with(entries, &json.map(|json| ("lstm", json)).into_iter().collect::<Vec<_>>())
}

fn file_with(entries: &[Entry], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = entries.iter().map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let metadata: HashMap<String, String> = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ::safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata)).unwrap()
}

fn small() -> LstmConfig {
    LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..LstmConfig::new(3, 2) }
}

#[track_caller]
fn fails(bytes: &[u8], given: Option<(&LstmConfig, bool)>, kind: ErrorKind, text: &str) {
    let error = read(bytes, given).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

fn lstm(network: &Network) -> &Lstm {
    network.lstms().next().unwrap().1.unwrap()
}

#[test]
fn every_variant_survives_a_round_trip() {
    let base = LstmConfig::new(3, 2);
    let cases = [
        (base.clone(), r#"{"input_size": 3, "hidden_size": 2}"#),
        (
            LstmConfig { bias: false, direction: Direction::Reverse, ..base.clone() },
            r#"{"input_size": 3, "hidden_size": 2, "bias": false, "direction": "reverse"}"#,
        ),
        (
            LstmConfig { peepholes: true, proj_size: Some(1), layer_norm: Some(0.5), cell_clip: Some(2.0), ..small() },
            r#"{"input_size": 3, "hidden_size": 2, "num_layers": 2, "bidirectional": true, "proj_size": 1, "peepholes": true, "layer_norm": 0.5, "cell_clip": 2}"#,
        ),
    ];
    for (config, json) in cases {
        let stack = stack(&config);
        let network = read(&file(&entries(&stack, ""), Some(json)), None).unwrap();
        assert_eq!(lstm(&network), &stack);
        assert_eq!((network.format(), network.notes().len()), ("safetensors", 0));
        assert_eq!((network.metadata("lstm"), network.metadata("vocabulary")), (Some(json), None));
    }
}

#[test]
fn without_metadata_the_shapes_speak() {
    let variants = [
        LstmConfig::new(3, 2),
        LstmConfig { bias: false, ..LstmConfig::new(1, 1) },
        LstmConfig { peepholes: true, proj_size: Some(1), layer_norm: Some(1e-5), ..small() },
    ];
    for config in variants {
        let stack = stack(&config);
        let network = read(&file(&entries(&stack, "encoder.lstm."), None), None).unwrap();
        assert_eq!(lstm(&network), &stack);
        assert_eq!(network.nodes[0].layout, Layout::TimeFirst);
        let notes = network.notes().join("\n");
        assert!(notes.contains("--batch-first") && notes.contains("`encoder.lstm.`"), "{notes}");
    }
}

#[test]
fn a_given_configuration_replaces_the_metadata_but_may_not_contradict_it() {
    let config = LstmConfig { input_forget: true, ..small() };
    let stack = stack(&config);
    let network = read(&file(&entries(&stack, ""), None), Some((&config, true))).unwrap();
    assert_eq!(lstm(&network), &stack);
    assert_eq!(network.nodes[0].layout, Layout::BatchFirst);
    assert!(network.notes().is_empty());

    let json = r#"{"input_size": 3, "hidden_size": 2, "num_layers": 2, "bidirectional": true, "input_forget": true}"#;
    let bytes = file(&entries(&stack, ""), Some(json));
    assert!(read(&bytes, Some((&config, false))).is_ok());
    fails(&bytes, Some((&config, true)), ErrorKind::Config, "found another batch_first");
    fails(&bytes, Some((&small(), false)), ErrorKind::Config, "found another input_forget");
    let huge = LstmConfig::new(usize::MAX, usize::MAX);
    fails(&file(&entries(&stack, ""), None), Some((&huge, false)), ErrorKind::Config, "input_size: expected 1 to");
}

#[test]
fn bad_metadata_is_an_error() {
    let entries = entries(&stack(&small()), "");
    fails(&file(&entries, Some("{")), None, ErrorKind::Config, "metadata `lstm`: not JSON");
    fails(&file(&entries, Some(r#"{"input_size": 3, "hidden_size": 2, "nope": 1}"#)), None, ErrorKind::Config, "metadata `lstm`: unknown key `nope`");
    let wrong = r#"{"input_size": 4, "hidden_size": 2, "num_layers": 2, "bidirectional": true}"#;
    let text = "tensor `weight_ih_l0`: expected [4*hidden_size, input_size] = [8, 4], found [8, 3]";
    fails(&file(&entries, Some(wrong)), None, ErrorKind::Shape, text);
}

#[test]
fn missing_tensors_are_listed_with_their_shapes() {
    let config = LstmConfig { proj_size: Some(1), ..small() };
    let mut all = entries(&stack(&config), "rnn.");
    all.retain(|(name, ..)| name != "rnn.weight_hh_l1_reverse");
    let bytes = file(&all, None);
    fails(&bytes, None, ErrorKind::Shape, "expected `rnn.weight_hh_l1_reverse` [4*hidden_size, proj_size] = [8, 1], found none such");
    all.retain(|(name, ..)| name.contains("_l0") && !name.contains("bias"));
    let text = "`rnn.bias_ih_l0` [4*hidden_size] = [8], `rnn.bias_hh_l0` [4*hidden_size] = [8]";
    fails(&file(&all, None), Some((&config, false)), ErrorKind::Shape, text);
    fails(&file(&all, None), Some((&config, false)), ErrorKind::Shape, "and 9 more, found none such");
}

#[test]
fn half_a_million_claimed_layers_cost_nothing() {
    let entries = entries(&stack(&LstmConfig::new(3, 2)), "");
    let json = r#"{"input_size": 3, "hidden_size": 2, "num_layers": 524288, "bidirectional": true}"#;
    fails(&file(&entries, Some(json)), None, ErrorKind::Shape, "and 4194295 more");
    let mut named = entries.clone();
    named.push(("bias_ih_l500000".to_owned(), Dtype::F32, vec![8], vec![0; 32]));
    fails(&file(&named, None), None, ErrorKind::Shape, "`weight_ih_l1`");
    named.push((format!("bias_ih_l{}", usize::MAX), Dtype::F32, vec![8], vec![0; 32]));
    fails(&file(&named, None), None, ErrorKind::Config, "cannot infer the LSTM from its tensors: num_layers: expected 1 to");
}

#[test]
fn superfluous_tensors_are_listed() {
    let mut all = entries(&stack(&LstmConfig::new(3, 2)), "");
    let no_bias = r#"{"input_size": 3, "hidden_size": 2, "bias": false}"#;
    fails(&file(&all, Some(no_bias)), None, ErrorKind::Config, "expected those of the configuration, found also `bias_hh_l0`, `bias_ih_l0`");
    all.extend((0..7).map(|number| (format!("fc{number}.weight"), Dtype::F32, vec![1], vec![0; 4])));
    fails(
        &file(&all, None),
        None,
        ErrorKind::Config,
        "no other layer, found also `fc0.weight` [1], `fc1.weight` [1], `fc2.weight` [1], `fc3.weight` [1], `fc4.weight` [1] and 2 more",
    );
}

#[test]
fn names_that_are_no_lstm_or_several_are_errors() {
    fails(&file(&[], None), None, ErrorKind::Config, "found none");
    let other = vec![("conv.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4])];
    fails(&file(&other, None), None, ErrorKind::Config, "such as `weight_ih_l0`, found `conv.weight`");
    let stack = stack(&LstmConfig::new(3, 2));
    let two = [entries(&stack, "encoder."), entries(&stack, "decoder.")].concat();
    fails(&file(&two, None), None, ErrorKind::Config, "expected one LSTM, found 2, whose names start with `decoder.`, `encoder.`");
}

#[test]
fn shapes_that_are_no_lstm_name_the_flag() {
    let pair = |ih: &[usize], hh: &[usize]| {
        let entry = |name: &str, shape: &[usize]| (name.to_owned(), Dtype::F32, shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()]);
        file(&[entry("weight_ih_l0", ih), entry("weight_hh_l0", hh)], None)
    };
    fails(&pair(&[6, 3], &[6, 2]), None, ErrorKind::Shape, "which are a GRU's; say what it is with --config");
    fails(&pair(&[2, 3], &[2, 2]), None, ErrorKind::Shape, "a plain RNN's");
    fails(&pair(&[8, 3], &[8, 1]), None, ErrorKind::Shape, "need a projection `weight_hr`");
    fails(&pair(&[8, 3], &[12, 2]), None, ErrorKind::Shape, "found `weight_ih_l0` [8, 3] and `weight_hh_l0` [12, 2]; say");
    fails(&pair(&[8], &[8, 2]), None, ErrorKind::Shape, "tensor `weight_ih_l0`: expected [4*hidden_size, input_size], found [8]");
    fails(&pair(&[8, 0], &[8, 2]), None, ErrorKind::Config, "input_size: expected 1 to");
    fails(&pair(&[0, 3], &[0, 0]), None, ErrorKind::Config, "hidden_size: expected 1 to");
    let only = vec![("weight_ih_l0".to_owned(), Dtype::F32, vec![8, 3], vec![0; 96])];
    fails(&file(&only, None), None, ErrorKind::Shape, "tensor `weight_hh_l0`: expected [4*hidden_size, out_size], found none");
}

#[test]
fn other_floats_are_converted_and_noted_other_types_refused() {
    let config = LstmConfig { bias: false, ..LstmConfig::new(1, 1) };
    let shapes = |dtype, ih: Vec<u8>, hh: Vec<u8>| {
        file(&[("weight_ih_l0".to_owned(), dtype, vec![4, 1], ih), ("weight_hh_l0".to_owned(), Dtype::F32, vec![4, 1], hh)], None)
    };
    let values = [0.5f32, -2.0, 1.0, 0.25];
    let hh: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let converted = [
        (Dtype::F16, values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect::<Vec<u8>>(), "1 of 2 tensors are F16, widened"),
        (Dtype::BF16, values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(), "1 of 2 tensors are BF16, widened"),
        (Dtype::F64, values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(), "1 of 2 tensors are F64, narrowed"),
    ];
    for (dtype, ih, note) in converted {
        let network = read(&shapes(dtype, ih, hh.clone()), Some((&config, false))).unwrap();
        assert_eq!(lstm(&network).cell(0, 0).weight_ih.as_slice(), Some(values.as_slice()));
        assert!(network.notes()[0].contains(note), "{:?}", network.notes());
    }
    fails(&shapes(Dtype::I8, vec![0; 4], hh.clone()), None, ErrorKind::Shape, "tensor `weight_ih_l0`: expected F32, F16, BF16 or F64, found I8");
    let not_a_number: Vec<u8> = [f32::NAN; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
    let network = read(&shapes(Dtype::F32, not_a_number, hh), Some((&config, false))).unwrap();
    assert_eq!(network.notes(), ["weight_ih of layer 0, direction 0 holds NaN or infinity"]);
}

#[test]
fn a_damaged_file_is_recognised_and_explained() {
    let whole = file(&entries(&stack(&small()), ""), None);
    assert!(recognises(&whole));
    let with_header = |header: &str, length: u64| [&length.to_le_bytes(), header.as_bytes()].concat();
    let tensor = |shape: &str, offsets: &str| {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        with_header(&header, header.len() as u64)
    };
    let cases = [
        (whole[..whole.len() - 1].to_vec(), "data: expected the tensors to end where the file ends"),
        ([whole.as_slice(), &[0]].concat(), "data: expected the tensors to end"),
        (whole[..40].to_vec(), "header: expected a length within the file's 40 bytes, found"),
        (with_header("{}", 1000), "header: expected a length within the file's 10 bytes, found 1000"),
        (with_header("{}", u64::MAX), "at most 100000000 bytes, found 18446744073709551615"),
        (with_header("{}", 1), "as JSON"),
        (with_header("{\"\u{e9}", 3), "UTF-8"),
        (tensor("[1]", "[0,8]"), "do not fit"),
        (tensor("[1]", "[4,8]"), "tensor `a`: expected its data to start"),
        (tensor("[1]", "[8,4]"), "tensor `a`"),
        (tensor("[4294967296,4294967296]", "[0,0]"), "larger than any file"),
        (tensor("[1000000000000]", "[0,4000000000000]"), "data: expected"),
    ];
    for (bytes, text) in cases {
        assert!(recognises(&bytes), "{text}");
        fails(&bytes, None, ErrorKind::Format, text);
    }
    for other in [&b""[..], b"\x08\x07\x12\x07pytorch", b"12345678{x", b"short", b"\x93NUMPY\x01\x00{'descr'"] {
        assert!(!recognises(other));
        assert!(read(other, None).is_err());
    }
}

proptest! {
    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), cut in any::<prop::sample::Index>()) {
        let json = r#"{"input_size": 3, "hidden_size": 2, "num_layers": 2, "bidirectional": true}"#;
        for json in [None, Some(json)] {
            let whole = file(&entries(&stack(&small()), "lstm."), json);
            let mut bytes = whole.clone();
            let header_len = bytes.len() - 4 * small().num_parameters();
            for (place, value) in &changes {
                bytes[place.index(header_len)] = *value;
            }
            let _ = (recognises(&bytes), read(&bytes, None));
            let cut = cut.index(whole.len());
            let _ = (recognises(&whole[..cut]), recognises(&bytes[..cut]), read(&bytes[..cut], None));
            prop_assert!(read(&whole[..cut], None).is_err());
        }
    }
}
