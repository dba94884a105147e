//! State dicts of whole modules: with metadata, and without.

use super::*;

fn matrix(name: &str, shape: &[usize]) -> Entry {
    let values = (0..shape.iter().product::<usize>()).map(|k| (k % 17) as f32 / 8.0 - 1.0);
    (name.to_owned(), Dtype::F32, shape.to_vec(), values.flat_map(f32::to_le_bytes).collect())
}

/// The tensors of an embedding of 7 ids, an LSTM from 3 to 2 features and a linear layer to 5, under `root`.
fn tagger(root: &str, bidirectional: bool) -> Vec<Entry> {
    let direction = if bidirectional { Direction::Bidirectional } else { Direction::Forward };
    let config = LstmConfig { direction, ..LstmConfig::new(3, 2) };
    let mut all = entries(&stack(&config), &format!("{root}lstm."));
    all.push(matrix(&format!("{root}embedding.weight"), &[7, 3]));
    all.push(matrix(&format!("{root}fc.weight"), &[5, config.y_size()]));
    all.push(matrix(&format!("{root}fc.bias"), &[5]));
    all
}

fn whole(bytes: &[u8]) -> Result<Network> {
    super::super::read(bytes, &Reading::default())
}

fn of_prefix(bytes: &[u8], prefix: &str) -> Result<Network> {
    super::super::read(bytes, &Reading { prefix: Some(prefix), ..Reading::default() })
}

/// Names and kinds of what the network is made of.
fn parts(network: &Network) -> Vec<String> {
    network.parts().iter().map(|part| format!("{} {}", part.kind.name(), part.name)).collect()
}

#[track_caller]
fn refused(read: Result<Network>, kind: ErrorKind, words: &[&str]) {
    let error = read.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    words.iter().for_each(|word| assert!(error.to_string().contains(word), "`{word}` in: {error}"));
}

#[test]
fn metadata_says_the_stages() {
    let json = r#"{"batch_first": true, "stages": [{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc", "function": "log_softmax"}]}"#;
    for root in ["", "module.", "a.module."] {
        let network = whole(&file_with(&tagger(root, true), &[("network", json)])).unwrap();
        assert_eq!(parts(&network), ["embedding embedding", "lstm lstm", "linear fc"]);
        assert_eq!(network.nodes[0].layout, Layout::BatchFirst);
        assert_eq!(*network.dense[1].stage, DenseStage::Linear(linear_of(&network).clone(), RowFunction::LogSoftmax));
        let notes = network.notes().join("\n");
        assert_eq!(notes.contains(&format!("start with `{root}`")), !root.is_empty(), "{notes}");
        assert!(notes.contains("no metadata key `lstm`; inferred from names and shapes: input_size 3"), "{notes}");
    }
    let exact = r#"[{"embedding": "embedding"}, {"lstm": "lstm", "config": {"input_size": 3, "hidden_size": 2, "batch_first": true}}, {"function": "relu"}, {"linear": "fc"}]"#;
    let network = whole(&file_with(&tagger("", false), &[("network", exact)])).unwrap();
    assert_eq!(parts(&network), ["embedding embedding", "lstm lstm", "linear Relu of stage 2", "linear fc"]);
    assert_eq!((network.nodes[0].layout, network.notes().len()), (Layout::BatchFirst, 0));
    let ports: Vec<String> = network.inputs().iter().chain(network.outputs()).map(|port| format!("{} {:?}", port.name, port.axes.len())).collect();
    assert_eq!(ports, ["x 2", "h_0 3", "c_0 3", "sequence_lens 1", "y 3", "h_n 3", "c_n 3"]);
}

fn linear_of(network: &Network) -> &crate::Linear {
    let linear = network.dense.iter().find_map(|node| match &*node.stage {
        DenseStage::Linear(linear, _) => Some(linear),
        _ => None,
    });
    linear.unwrap()
}

#[test]
fn the_caller_may_say_the_stages_and_may_not_contradict() {
    let json = r#"[{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc"}]"#;
    let given =
        |bytes: &[u8], json: &str, batch_first| super::super::read(bytes, &Reading { network: Some(json), batch_first, ..Reading::default() });
    let plain = file_with(&tagger("", false), &[]);
    assert_eq!(given(&plain, json, true).unwrap().nodes[0].layout, Layout::BatchFirst);
    let stored = file_with(&tagger("", false), &[("network", json)]);
    assert_eq!(given(&stored, json, false).unwrap().nodes[0].layout, Layout::TimeFirst);
    refused(given(&stored, r#"[{"lstm": "lstm"}]"#, false), ErrorKind::Config, &["metadata key `network`", "found others"]);
    let config = LstmConfig::new(3, 2);
    assert!(read(&stored, Some((&config, true))).is_ok());
    refused(read(&stored, Some((&LstmConfig::new(4, 2), true))), ErrorKind::Shape, &["tensor `lstm.weight_ih_l0`"]);
    let exact = r#"{"batch_first": false, "stages": [{"lstm": "lstm", "config": {"input_size": 3, "hidden_size": 2}}]}"#;
    let exact = file_with(&tagger("", false), &[("network", exact)]);
    refused(read(&exact, Some((&config, true))), ErrorKind::Config, &["metadata key `network`", "found another batch_first"]);
    refused(given(&exact, exact_again(), true), ErrorKind::Config, &["`batch_first` is false"]);
    assert!(whole(&exact).unwrap().notes()[0].contains("3 tensors belong to no stage and are left aside: `embedding.weight`, `fc.bias`"));
}

fn exact_again() -> &'static str {
    r#"{"batch_first": false, "stages": [{"lstm": "lstm"}]}"#
}

#[test]
fn what_is_unmistakable_is_inferred() {
    for (root, bidirectional) in [("", false), ("model.", true)] {
        let network = whole(&file_with(&tagger(root, bidirectional), &[])).unwrap();
        assert_eq!(parts(&network), ["embedding embedding", "lstm lstm", "linear fc"]);
        let notes = network.notes().join("\n");
        let features = if bidirectional { 4 } else { 2 };
        let found = format!("embedding `embedding` [7, 3], then LSTM `lstm`, then linear `fc` [5, {features}]");
        assert!(notes.contains(&found) && notes.contains("no function and every step are assumed"), "{notes}");
    }
    // names of PyTorch's own examples; a square layer is told by its name
    let mut all = entries(&stack(&LstmConfig::new(2, 2)), "rnn.");
    all.extend([matrix("encoder.weight", &[7, 2]), matrix("decoder.weight", &[7, 2]), matrix("decoder.bias", &[7])]);
    assert_eq!(parts(&whole(&file_with(&all, &[])).unwrap()), ["embedding encoder", "lstm rnn", "linear decoder"]);
    let mut bare = entries(&stack(&LstmConfig::new(3, 2)), "");
    bare.push(matrix("classifier.0.weight", &[4, 2]));
    bare.push(("bn.num_batches_tracked".to_owned(), Dtype::I64, vec![], vec![0; 8]));
    let network = whole(&file_with(&bare, &[("lstm", r#"{"input_size": 3, "hidden_size": 2, "batch_first": true}"#)])).unwrap();
    assert_eq!(parts(&network), ["lstm lstm", "linear classifier.0"]);
    assert_eq!(network.nodes[0].layout, Layout::BatchFirst);
    assert!(network.notes()[0].contains("1 tensors that results do not depend on are ignored: `bn.num_batches_tracked`"), "{:?}", network.notes());
}

#[test]
fn what_could_be_something_else_is_an_error_that_proposes_metadata() {
    let with = |more: &[Entry]| whole(&file_with(&[tagger("", false), more.to_vec()].concat(), &[]));
    let proposed = r#"'[{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc"}, {"linear": "fc2"}]'"#;
    refused(with(&[matrix("fc2.weight", &[4, 5])]), ErrorKind::Config, &["found also `fc2.weight` [4, 5];", proposed, "--prefix lstm. "]);
    refused(with(&[matrix("head.weight", &[4, 2])]), ErrorKind::Config, &["`fc.bias` [5], `fc.weight` [5, 2], `head.weight` [4, 2]"]);
    refused(with(&[matrix("conv.weight", &[4, 2, 3])]), ErrorKind::Config, &["`conv.weight` [4, 2, 3]"]);
    refused(with(&[matrix("attn.weight", &[4, 2])]), ErrorKind::Config, &["`attn.weight` [4, 2]"]);
    refused(with(&[matrix("char_emb.weight", &[9, 3])]), ErrorKind::Config, &["`char_emb.weight` [9, 3], `embedding.weight` [7, 3]"]);
    refused(with(&[matrix("bn.running_mean", &[2]), matrix("bn.weight", &[2])]), ErrorKind::Config, &["`bn.running_mean` [2], `bn.weight` [2]"]);
    let mut square = entries(&stack(&LstmConfig::new(2, 2)), "lstm.");
    square.push(matrix("w.weight", &[7, 2]));
    refused(whole(&file_with(&square, &[])), ErrorKind::Config, &["`w.weight` [7, 2]"]);
}

#[test]
fn a_prefix_chooses() {
    let stack = stack(&LstmConfig::new(3, 2));
    let mut all = [entries(&stack, "encoder.lstm."), entries(&stack, "decoder.lstm."), vec![matrix("decoder.fc.weight", &[4, 2])]].concat();
    all.push(matrix("conv.weight", &[1, 1, 1]));
    let bytes = file_with(&all, &[]);
    let advice = ["found 2, whose names start with `decoder.lstm.`, `encoder.lstm.`", "--network", "--prefix decoder.lstm. takes one alone"];
    refused(whole(&bytes), ErrorKind::Config, &advice);
    for prefix in ["encoder.lstm.", "encoder.lstm", "encoder."] {
        let network = of_prefix(&bytes, prefix).unwrap();
        assert_eq!(lstm(&network), &stack);
        assert_eq!(parts(&network), ["lstm lstm"]);
        assert!(network.notes()[0].contains("6 other tensors are left aside: `conv.weight`, `decoder.fc.weight`"), "{:?}", network.notes());
    }
    assert_eq!(parts(&of_prefix(&bytes, "decoder").unwrap()), ["lstm lstm", "linear fc"]);
    refused(of_prefix(&bytes, "conv."), ErrorKind::Config, &["prefix `conv.`", "`decoder.lstm.`, `encoder.lstm.`"]);
    let mut bare = entries(&stack, "");
    bare.push(matrix("conv.weight", &[1, 1, 1]));
    refused(whole(&file_with(&bare, &[])), ErrorKind::Config, &["--prefix '' takes the LSTM alone"]);
    assert_eq!(lstm(&of_prefix(&file_with(&bare, &[]), "").unwrap()), &stack);
    let joined = r#"[{"lstm": "encoder.lstm"}, {"lstm": "decoder.lstm"}]"#;
    refused(
        whole(&file_with(&all, &[("network", joined)])),
        ErrorKind::Shape,
        &["LSTM `decoder.lstm`: expected input_size = 2, which `encoder.lstm` makes, found 3"],
    );
}

#[test]
fn one_tensor_may_have_two_names_and_no_more() {
    let mut tied = entries(&stack(&LstmConfig::new(2, 2)), "rnn.");
    tied.extend([matrix("encoder.weight", &[7, 2]), matrix("decoder.bias", &[7])]);
    // as `safetensors.torch.save_model` writes it
    let network = whole(&file_with(&tied, &[("decoder.weight", "encoder.weight")])).unwrap();
    assert_eq!(parts(&network), ["embedding encoder", "lstm rnn", "linear decoder"]);
    let more = [("a_fc.weight", "encoder.weight"), ("b_fc.weight", "encoder.weight")];
    refused(whole(&file_with(&tied, &more)), ErrorKind::Config, &["found also `decoder.bias` [7];"]);
    let twice = r#"[{"lstm": "rnn"}, {"linear": "encoder"}, {"linear": "encoder"}]"#;
    refused(
        whole(&file_with(&tied, &[("network", twice)])),
        ErrorKind::Config,
        &["stage 2: expected a name that no other stage has, found `encoder`"],
    );
}

#[test]
fn shapes_of_layers_are_checked() {
    let json = r#"[{"embedding": "embedding"}, {"lstm": "lstm"}, {"linear": "fc"}]"#;
    let with = |name: &str, shape: &[usize]| {
        let mut all = tagger("", false);
        all.retain(|(known, ..)| known != name);
        if !shape.is_empty() {
            all.push(matrix(name, shape));
        }
        whole(&file_with(&all, &[("network", json)]))
    };
    refused(
        with("embedding.weight", &[7, 3, 1]),
        ErrorKind::Shape,
        &["tensor `embedding.weight`: expected [num_embeddings, embedding_dim], found [7, 3, 1]"],
    );
    refused(with("embedding.weight", &[]), ErrorKind::Shape, &["tensor `embedding.weight`: expected [num_embeddings, embedding_dim], found none"]);
    refused(with("embedding.weight", &[7, 4]), ErrorKind::Shape, &["LSTM `lstm`: expected input_size = 4, which `embedding` makes, found 3"]);
    refused(with("fc.weight", &[5, 3]), ErrorKind::Shape, &["linear `fc`: expected in_features = 2, which `lstm` makes, found 3"]);
    refused(with("fc.bias", &[4]), ErrorKind::Shape, &["tensor `fc.bias`: expected [out_features] = [5], found [4]"]);
    refused(with("fc.weight", &[0, 2]), ErrorKind::Shape, &["fc"]);
    refused(whole(&file_with(&tagger("", false), &[("network", "[]")])), ErrorKind::Config, &["expected an LSTM among them, found none"]);
    refused(whole(&file_with(&tagger("", false), &[("network", "{")])), ErrorKind::Config, &["metadata `network`: not JSON"]);
}

proptest! {
    #[test]
    fn no_metadata_panics(stages in prop::collection::vec(r#"\{("(embedding|lstm|linear|function)": ?"(embedding|lstm|fc|relu|)",?){0,2}\}"#, 0..4)) {
        let json = format!("[{}]", stages.join(","));
        let _ = whole(&file_with(&tagger("", false), &[("network", &json)]));
    }
}
