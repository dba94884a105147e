//! Networks as files, and back.

use std::path::Path;

use super::*;
use crate::{Activation, CellActivations, Precision};

/// The project's golden cases.
fn golden() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut models: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|folder| folder.is_dir());
    let models = models.into_iter().flat_map(|folder| [folder.join("model.onnx"), folder.join("model.safetensors")]);
    let mut models: Vec<_> = models.filter(|path| path.is_file()).collect();
    models.sort();
    models
}

fn reread(bytes: &[u8], prefix: Option<&str>) -> Network {
    super::super::read(bytes, &Reading { prefix, ..Reading::default() }).unwrap()
}

/// Checks that what was written of `network` is what is read; whether it is the whole of it.
fn round_trip(network: &Network, name: &str) -> bool {
    let (bytes, saved) = network.to_safetensors(Precision::F32).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(saved.num_bytes, bytes.len() as u64);
    let own: Vec<&Lstm> = network.lstms().filter_map(|(_, lstm)| lstm).collect();
    let stacks: Vec<_> = saved.stages.iter().filter(|stage| stage.kind == crate::PartKind::Lstm).collect();
    assert_eq!(own.len(), stacks.len(), "{name}");
    if saved.complete {
        let again = reread(&bytes, None);
        assert!(again.lstms().map(|(_, lstm)| lstm.unwrap()).eq(own), "{name}");
        let stages = |network: &Network| network.dense.iter().map(|node| (*node.stage).clone()).collect::<Vec<_>>();
        assert_eq!(stages(&again), stages(network), "{name}");
        assert_eq!(again.notes().iter().filter(|note| !note.contains("NaN")).count(), 0, "{name}: {:?}", again.notes());
        assert!(again.to_safetensors(Precision::F32).unwrap().0 == bytes, "{name}: the second file is another");
    } else {
        for (stage, lstm) in stacks.into_iter().zip(own) {
            let again = reread(&bytes, Some(&stage.name));
            assert_eq!(self::lstm(&again), lstm, "{name} {}", stage.name);
        }
    }
    saved.complete
}

#[test]
fn every_golden_case_survives() {
    let (mut complete, mut partly) = (0, Vec::new());
    for path in golden() {
        let network = Network::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let name = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        if network.lstms().all(|(_, lstm)| lstm.is_none()) {
            let error = network.to_safetensors(Precision::F32).unwrap_err();
            assert!(error.to_string().contains("expected an LSTM with weights of its own to write, found none"), "{error}");
            continue;
        }
        if round_trip(&network, &name) {
            complete += 1;
        } else {
            partly.push(name);
        }
    }
    assert_eq!(partly, ["onnx-encoder-decoder", "onnx-encoder-decoder-bidirectional-lens"]);
    assert!(complete > 60, "{complete}");
}

#[test]
fn a_chain_survives_with_its_other_metadata() {
    let function = Activation::HardSigmoid { alpha: 0.1, beta: 1.0 / 3.0 };
    let dense = |stage| Stage::Dense(stage);
    let linear = |out: usize, features: usize, bias: bool| {
        let weight = Array2::from_shape_fn((out, features), |(row, k)| 1.0 / (3 + row * features + k) as f32);
        crate::Linear::new(weight, bias.then(|| Array1::linspace(-1.0, 1.0, out))).unwrap()
    };
    let odd = CellActivations { candidate: Activation::ScaledTanh { alpha: 1.7159, beta: 2.0 / 3.0 }, ..CellActivations::default() };
    let table = Array2::from_shape_fn((7, 3), |(row, k)| (row * 3 + k) as f32);
    let both = LstmConfig { clip: Some(0.3), activations: [odd, CellActivations::default()], ..small() };
    let stages = vec![
        ("emb".to_owned(), dense(DenseStage::Embedding(crate::Embedding::new(table).unwrap()))),
        ("encoder/LSTM 1".to_owned(), Stage::Lstm(stack(&both))),
        ("a".to_owned(), dense(DenseStage::Linear(linear(3, 4, false), RowFunction::Activation(function)))),
        ("encoder.LSTM_1".to_owned(), Stage::Lstm(stack(&LstmConfig { peepholes: true, input_forget: true, ..LstmConfig::new(3, 2) }))),
        ("f".to_owned(), dense(DenseStage::Function(RowFunction::Activation(Activation::Elu { alpha: 1.1 })))),
        ("b".to_owned(), dense(DenseStage::Linear(linear(5, 2, true), RowFunction::LogSoftmax))),
    ];
    for batch_first in [false, true] {
        let mut network = Network::from_stages(stages.clone(), batch_first).unwrap();
        network.metadata.insert("vocabulary".to_owned(), "a \"b\"".to_owned());
        network.metadata.insert("lstm".to_owned(), "of another file".to_owned());
        assert!(round_trip(&network, "chain"));
        let (bytes, saved) = network.to_safetensors(Precision::F32).unwrap();
        let names: Vec<&str> = saved.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["emb", "encoder.LSTM_1", "a", "encoder.LSTM_1_2", "", "b"]);
        let again = reread(&bytes, None);
        assert_eq!((again.metadata("vocabulary"), again.metadata("lstm")), (Some("a \"b\""), None));
        assert_eq!(again.nodes[0].layout.batch_first(), batch_first);
        // another reader agrees
        assert_eq!(::safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), saved.num_tensors);
    }
}

#[test]
fn only_matrices_are_halved_and_only_on_demand() {
    let config = LstmConfig { peepholes: true, proj_size: Some(1), layer_norm: Some(1e-5), ..LstmConfig::new(3, 2) };
    let network = Network::from_lstm(stack(&config), false);
    let (bytes, _) = network.to_safetensors(Precision::F16).unwrap();
    let again = reread(&bytes, None);
    assert_eq!(again.notes(), ["3 of 10 tensors are F16, widened to float32"]);
    assert_eq!(lstm(&again), &lstm(&network).stored_as(Precision::F16).unwrap());
    let mut cell = lstm(&network).cell(0, 0).clone();
    cell.weight_hh[[0, 0]] = 1e6;
    let large = Network::from_lstm(Lstm::new(config, vec![cell]).unwrap(), false);
    let error = large.to_safetensors(Precision::F16).unwrap_err();
    assert_eq!(error.to_string(), "precision f16: needs weights of at most 65504, found 1000000 in `weight_hh_l0`");
    assert!(large.to_safetensors(Precision::Int8).is_err());
}

#[test]
fn bits_that_are_no_numbers_survive() {
    let mut cell = stack(&LstmConfig::new(3, 2)).cell(0, 0).clone();
    let odd = [f32::from_bits(0x7FC0_1234), f32::NEG_INFINITY, -0.0, f32::from_bits(1)];
    cell.weight_ih.iter_mut().zip(odd).for_each(|(weight, value)| *weight = value);
    let stack = Lstm::new(LstmConfig::new(3, 2), vec![cell]).unwrap();
    let (bytes, _) = Network::from_lstm(stack.clone(), true).to_safetensors(Precision::F32).unwrap();
    assert!(lstm(&reread(&bytes, None)).same_bits(&stack));
}

proptest! {
    #[test]
    fn every_float_of_a_configuration_survives(bits in any::<u32>()) {
        let value = f32::from_bits(bits & 0x7FFF_FFFF);
        prop_assume!(value > 0.0 && value.is_finite());
        let activation = Activation::Affine { alpha: -value, beta: value };
        let config = LstmConfig {
            clip: Some(value),
            activations: [CellActivations { gate: activation, ..CellActivations::default() }, CellActivations::default()],
            ..LstmConfig::new(3, 2)
        };
        let json = config::to_value(&config, true).to_string();
        prop_assert_eq!(parse_config(&json).unwrap(), (config, true));
    }
}

#[test]
fn metadata_that_would_name_a_tensor_again_is_not_carried() {
    let metadata = [("tied.weight", "lstm.weight_ih_l0"), ("bias_ih_l1", "bias_ih_l0"), ("licence", "a text")];
    let network = reread(&file_with(&entries(&stack(&LstmConfig::new(3, 2)), "lstm."), &metadata), Some("lstm"));
    let (bytes, saved) = network.to_safetensors(Precision::F32).unwrap();
    assert!(saved.complete);
    let again = reread(&bytes, None);
    assert_eq!(lstm(&again), lstm(&network));
    assert_eq!((again.metadata("licence"), again.metadata("bias_ih_l1")), (Some("a text"), None));
}
