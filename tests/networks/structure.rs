//! What a reader finds: an LSTM that it left to the host would give the right numbers all the same.

use cellgate::{Direction, Network};
use libtest_mimic::{Failed, Trial};

use crate::case::{NetworkCase, generated};

/// Input size, hidden size, layers and direction of an LSTM.
type Sizes = (usize, usize, usize, Direction);

use Direction::{Bidirectional, Forward};

/// The LSTMs of each model, in the graph's order.
const MODELS: &[(&str, &[Sizes])] = &[
    ("byte-bilstm", &[(32, 128, 1, Bidirectional), (256, 64, 1, Bidirectional)]),
    ("dtln-1", &[(257, 128, 2, Forward)]),
    ("silero-vad", &[(128, 128, 1, Forward), (128, 128, 1, Forward)]),
];

/// Generated cases without an LSTM for the device: the body of a loop with a mask, or with a projection.
const NO_LAYER: &[&str] = &["keras-masking-seq", "tf2onnx-embedding-mask-pre", "torch-proj-loop-op17"];

/// Generated cases of two layers, one behind the other or each in its place.
const TWO_LAYERS: &[&str] = &[
    "dynamo-bilstm2-bf-op20",
    "dynamo-encdec-op18",
    "half-if-data",
    "half-lm-io32",
    "keras-cell-rnn",
    "keras-residual",
    "keras-seq2seq",
    "keras-stacked-bi",
    "onnx-if-shared",
    "onnx-local-function",
    "ort-crnn-extended",
    "ort-lm-basic",
    "quant-lm-s8",
    "tf2onnx-repeat-vector",
    "torch-bilstm2-bf-states-op18",
    "torch-crnn-op11",
    "torch-denoiser-op12",
    "torch-encdec-op17",
    "torch-forecast-hn-op13",
    "torch-forecast-last-op11",
    "torch-if-data-neg-op17",
    "torch-if-data-pos-op17",
    "torch-lm-op13",
    "torch-lm-step-op17",
    "torch-residual-op11",
    "torch-sentiment-op13",
];

/// Generated cases of three layers. All that are not listed have one.
const THREE_LAYERS: &[&str] = &["dynamo-deep-op18", "ort-deep-extended", "torch-deep-op13", "torch-lstm3-op20"];

pub(crate) fn trials() -> Vec<Trial> {
    let of = |&(model, expected): &(&'static str, &'static [Sizes])| Trial::test(format!("lstms/{model}"), move || lstms(model, expected));
    let mut trials: Vec<Trial> = MODELS.iter().map(of).collect();
    trials.push(Trial::test("lstms/generated", layers));
    trials
}

/// Every generated case has its layers on the device, in however many stacks.
fn layers() -> Result<(), Failed> {
    let mut listed = [NO_LAYER, TWO_LAYERS, THREE_LAYERS].concat();
    let mut wrong = Vec::new();
    for case in generated() {
        let name = case.name.as_str();
        listed.retain(|listed| *listed != name);
        let network = Network::open(&case.model)?;
        // weights of the call make one layer
        let found: usize = network.lstms().map(|(_, lstm)| lstm.map_or(1, |lstm| lstm.config().num_layers)).sum();
        let place = [NO_LAYER, TWO_LAYERS, THREE_LAYERS].iter().position(|list| list.contains(&name));
        let expected = place.map_or(1, |place| [0, 2, 3][place]);
        if found != expected {
            wrong.push(format!("{name}: {found} layers, expected {expected}"));
        }
    }
    wrong.extend(listed.iter().map(|name| format!("{name}: there is no such case")));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
}

fn lstms(model: &str, expected: &[Sizes]) -> Result<(), Failed> {
    let network: Network = NetworkCase::named(model)?.network()?;
    let mut found = Vec::new();
    for (name, lstm) in network.lstms() {
        let config = lstm.ok_or_else(|| format!("{name}: weights that come with the call"))?.config();
        found.push((config.input_size, config.hidden_size, config.num_layers, config.direction));
    }
    if found != expected {
        return Err(format!("found {found:?}, expected {expected:?}").into());
    }
    if let Some(note) = network.notes().iter().find(|note| note.contains("no LSTM was found")) {
        return Err(format!("LSTMs were found, and a note says: {note}").into());
    }
    Ok(())
}
