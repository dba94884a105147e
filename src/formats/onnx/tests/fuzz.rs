//! No bytes make the reader panic.

use proptest::prelude::*;

use super::*;

/// A model with one of everything that the reader looks at.
fn rich() -> Vec<u8> {
    let mut model =
        bidirectional(&[strings("activations", &["HardSigmoid", "Tanh", "Elu"].repeat(2)), floats("activation_alpha", &[0.1]), float("clip", 3.0)]);
    let graph = graph(&mut model);
    graph.node[0].input = texts(&["x1", "W", "R", "B", "lens", "h0", "", "P"]);
    graph.initializer.extend([tensor("B", &[2, 8 * HIDDEN]), tensor("h0", &[2, 1, HIDDEN])]);
    graph.input.push(info("P", FLOAT, &[2, 6]));
    let ints = AttributeProto { ints: vec![2, 1], ..attribute("value_ints", AttributeKind::Ints) };
    graph.node.push(NodeProto { attribute: vec![ints], ..node("Constant", "", &[], &["lens"]) });
    graph.node.push(node("Identity", "", &["X"], &["x1"]));
    graph.node.push(node("LSTM", "", &["X", "W", "R", "B", "", "Y_h"], &["Z"]));
    graph.node[3].attribute.push(string("direction", "bidirectional"));
    model.encode_to_vec()
}

#[test]
fn the_model_that_is_mutated_is_valid() {
    super::super::read(&rich(), None, false).expect("a model");
}

#[test]
fn every_truncation_is_an_error_or_a_model() {
    let bytes = rich();
    for len in 0..bytes.len() {
        let _ = super::super::read(&bytes[..len], None, false);
    }
}

#[test]
fn deep_nesting_is_an_error_or_a_model() {
    // Each message 7 (graph) holds one node, which holds one attribute, which holds the next graph; then groups, which protobuf itself nests.
    let mut bytes = Vec::new();
    for depth in 0..20_000 {
        let tag = [0x3a, 0x0a, 0x2a, 0x32][depth % 4];
        let mut outer = vec![tag];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(&bytes);
        bytes = outer;
        if bytes.len() > 60_000 {
            break;
        }
    }
    let _ = super::super::read(&bytes, None, false);
    assert!(super::super::read(&[0x1b; 100_000], None, false).is_err());
}

/// Convolutions with weights of no axes, which a mutation found.
#[test]
fn weights_without_axes_are_no_reason_to_panic() {
    for op_type in ["Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM"] {
        for axes in [&[][..], &[2], &[2, 2]] {
            let model = model_with(|graph| {
                graph.node.insert(0, node(op_type, "", &["X", "K", "K"], &["u"]));
                graph.node.push(node("Sigmoid", "", &["u"], &["v"]));
                graph.initializer.push(tensor("K", axes));
                graph.output.push(info("v", FLOAT, &[]));
            });
            let _ = read(&model);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = super::super::read(&bytes, None, false);
    }

    #[test]
    fn mutated_seeds_never_panic(
        seed in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..9),
    ) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/onnx");
        let mut seeds: Vec<_> = std::fs::read_dir(folder).expect("the seeds").map(|entry| entry.expect("an entry").path()).collect();
        seeds.sort();
        let mut bytes = std::fs::read(&seeds[seed.index(seeds.len())]).expect("a seed");
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = super::super::read(&bytes, None, false);
    }

    #[test]
    fn mutated_models_never_panic(flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0..8_u32), 1..6), cut in 0..20_usize) {
        let mut bytes = rich();
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(network) = super::super::read(&bytes, None, false) {
            for node in &network.nodes {
                if let Weights::RunTime(weights) = &node.weights {
                    let _ = weights.resolve(&network.constants.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect());
                }
            }
        }
    }
}
