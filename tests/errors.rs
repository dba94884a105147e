//! One test for every kind of error that can be provoked without a fault of the device: a message names the thing, the rule, and what
//! was found. And what is *not* an error: calls of no rows or no steps.

mod common;

use std::path::Path;

use cellgate::formats::npy;
use cellgate::gpu::form::{Choice, ProductForm, RowForm, Schedule};
use cellgate::{
    Activation, CellActivations, CellWeights, DenseStage, DeviceChoice, DeviceKind, DeviceRequest, Direction, Embedding, Engine, Error, ErrorKind,
    GraphicsBackend, Inputs, Linear, Lstm, LstmConfig, Network, Options, Precision, RowFunction, ScheduleName, Stage, Tensor,
};
use common::call::{Call, Rng, same_bits};
use common::{conclude, devices, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array1, Array2, Array3};

type Test = fn() -> Result<(), Failed>;
type DeviceTest = fn(&Engine) -> Result<(), Failed>;

/// Named after the kind that they provoke.
const TESTS: &[(&str, Test)] = &[("io", io), ("format", format), ("config", config), ("shape/weights", shape_of_weights), ("no_adapter", no_adapter)];

const DEVICE_TESTS: &[(&str, DeviceTest)] = &[
    ("shape/inputs", shape_of_inputs),
    ("config/options-and-states", config_of_calls),
    ("config/options-and-stages", config_of_stages),
    ("limit/slots", limit_of_slots),
    ("limit/ids", limit_of_ids),
    ("limit/device", limit_of_the_device),
    ("limit/explain", limit_of_explain),
    ("nothing/no-rows-or-no-steps", nothing_to_do),
];

fn main() {
    let mut trials: Vec<Trial> = TESTS.iter().map(|(name, test)| Trial::test(*name, test)).collect();
    for device in &devices() {
        trials.extend(DEVICE_TESTS.iter().map(|(name, test)| trial(device, name, *test)));
    }
    conclude(trials);
}

/// The error that `result` must be, with all of `words` in one line of text.
fn expect<T>(what: &str, kind: ErrorKind, words: &[&str], result: cellgate::Result<T>) -> Result<Error, Failed> {
    let Err(error) = result else { return Err(format!("{what}: no error").into()) };
    let text = error.to_string();
    if error.kind() != kind {
        return Err(format!("{what}: {:?}, expected {kind:?}: {text}", error.kind()).into());
    }
    if let Some(word) = words.iter().find(|word| !text.contains(**word)) {
        return Err(format!("{what}: no `{word}` in: {text}").into());
    }
    if text.contains('\n') || text.ends_with('.') || text.is_empty() {
        return Err(format!("{what}: expected one line without a full stop, found: {text}").into());
    }
    Ok(error)
}

fn io() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing.onnx");
    let name = missing.display().to_string();
    let error = expect("a model that is not there", ErrorKind::Io, &[&name, "cannot read"], Network::open(&missing))?;
    if std::error::Error::source(&error).is_none() {
        return Err("an io error without its source".into());
    }
    expect("a folder", ErrorKind::Io, &["cannot read"], Network::open(folder.path()))?;
    expect("an array that is not there", ErrorKind::Io, &[&name, "cannot read"], npy::read(&missing))?;
    let tensor = Tensor::from(Array1::<f32>::zeros(3));
    expect("a folder that is not there", ErrorKind::Io, &["cannot write"], npy::write(&folder.path().join("no/folder.npy"), &tensor))?;
    Ok(())
}

fn format() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).map(|()| folder.path().join(name));
    let empty = write("empty.onnx", b"")?;
    expect("an empty model", ErrorKind::Format, &["empty.onnx", "found an empty file"], Network::open(empty))?;
    let text = write("text.onnx", b"hello, I am a model")?;
    expect("a text as a model", ErrorKind::Format, &["text.onnx"], Network::open(text))?;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch-h5/model.safetensors");
    let whole = std::fs::read(golden)?;
    let half = write("half.safetensors", &whole[..whole.len() / 2])?;
    expect("half a model", ErrorKind::Format, &["half.safetensors"], Network::open(half))?;
    let array = write("text.npy", b"1 2 3")?;
    expect("a text as an array", ErrorKind::Format, &["text.npy", "expected an npy array"], npy::read(&array))?;
    Ok(())
}

fn config() -> Result<(), Failed> {
    let plain = LstmConfig::new(3, 5);
    let activation = |gate| LstmConfig { activations: [CellActivations { gate, ..CellActivations::default() }; 2], ..plain.clone() };
    let (slope, offset) = (Activation::Affine { alpha: f32::INFINITY, beta: 0.0 }, Activation::HardSigmoid { alpha: 0.2, beta: f32::NAN });
    let cases: [(&str, LstmConfig, &[&str]); 12] = [
        ("no inputs", LstmConfig { input_size: 0, ..plain.clone() }, &["input_size", "found 0"]),
        ("no units", LstmConfig { hidden_size: 0, ..plain.clone() }, &["hidden_size", "found 0"]),
        ("no layers", LstmConfig { num_layers: 0, ..plain.clone() }, &["num_layers", "found 0"]),
        ("too many units", LstmConfig { hidden_size: usize::MAX, ..plain.clone() }, &["hidden_size", "18446744073709551615"]),
        ("projection to nothing", LstmConfig { proj_size: Some(0), ..plain.clone() }, &["proj_size", "found 0"]),
        ("a negative clip", LstmConfig { clip: Some(-1.0), ..plain.clone() }, &["clip", "above 0", "-1"]),
        ("a clip that is no number", LstmConfig { cell_clip: Some(f32::NAN), ..plain.clone() }, &["cell_clip", "NaN"]),
        ("a clip of no projection", LstmConfig { proj_clip: Some(1.0), ..plain.clone() }, &["proj_clip", "projection"]),
        ("an infinite clip", LstmConfig { clip: Some(f32::INFINITY), ..plain.clone() }, &["clip", "above 0, or none", "inf"]),
        ("an infinite slope", activation(slope), &["gate activation of direction 0", "finite alpha of Affine", "found inf"]),
        ("an offset that is no number", activation(offset), &["gate activation of direction 0", "finite beta of HardSigmoid", "found NaN"]),
        ("an epsilon of 0", LstmConfig { layer_norm: Some(0.0), ..plain.clone() }, &["epsilon", "found 0"]),
    ];
    for (what, config, words) in cases {
        expect(what, ErrorKind::Config, words, config.validate())?;
        expect(what, ErrorKind::Config, words, Lstm::new(config, Vec::new()))?;
    }
    expect("no weights", ErrorKind::Config, &["num_layers * num_directions = 1", "found 0"], Lstm::new(plain, Vec::new()))?;
    let request = DeviceRequest { choice: DeviceChoice::Cpu, adapter: Some("GeForce".to_owned()), ..DeviceRequest::default() };
    expect("an adapter of the CPU", ErrorKind::Config, &["with a GPU only"], Engine::new(request))?;
    Ok(())
}

fn shape_of_weights() -> Result<(), Failed> {
    let config = LstmConfig { proj_size: Some(2), peepholes: true, layer_norm: Some(1e-5), ..LstmConfig::new(3, 5) };
    let right = Call::random(config.clone(), 1, 1, &mut Rng::new(0)).cells.swap_remove(0);
    Lstm::new(config.clone(), vec![right.clone()])?;
    type Change = fn(&mut CellWeights);
    let cases: [(&str, Change, &[&str]); 8] = [
        ("weight_ih", |cell| cell.weight_ih = Array2::zeros((20, 4)), &["[4*hidden_size, input_size] = [20, 3]", "found [20, 4]"]),
        ("weight_hh", |cell| cell.weight_hh = Array2::zeros((20, 5)), &["[4*hidden_size, out_size] = [20, 2]", "found [20, 5]"]),
        ("bias_ih", |cell| cell.bias_ih = None, &["[4*hidden_size] = [20]", "found none"]),
        ("bias_hh", |cell| cell.bias_hh = Some(Array1::zeros(5)), &["[4*hidden_size] = [20]", "found [5]"]),
        ("weight_hr", |cell| cell.weight_hr = None, &["[proj_size, hidden_size] = [2, 5]", "found none"]),
        ("peepholes", |cell| cell.peepholes = Some(Array2::zeros((4, 5))), &["[3, hidden_size] = [3, 5]", "found [4, 5]"]),
        ("gamma_c", |cell| cell.layer_norm.as_mut().expect("it is there").gamma_c = Array1::zeros(6), &["[hidden_size] = [5]", "found [6]"]),
        ("layer normalisation", |cell| cell.layer_norm = None, &["expected some", "found none"]),
    ];
    for (name, change, words) in cases {
        let mut wrong = right.clone();
        change(&mut wrong);
        let words = [&[name, "layer 0, direction 0"], words].concat();
        expect(name, ErrorKind::Shape, &words, Lstm::new(config.clone(), vec![wrong]))?;
    }
    let without = LstmConfig { peepholes: false, ..config };
    expect("superfluous peepholes", ErrorKind::Shape, &["peepholes", "expected none", "found one"], Lstm::new(without, vec![right]))?;
    Ok(())
}

fn no_adapter() -> Result<(), Failed> {
    let request = |choice| DeviceRequest { choice, adapter: Some("no such adapter".to_owned()), ..DeviceRequest::default() };
    for choice in [DeviceChoice::Gpu, DeviceChoice::Auto] {
        expect("a name that no adapter has", ErrorKind::NoAdapter, &["no adapter's name contains", "no such adapter"], Engine::new(request(choice)))?;
    }
    // no machine has all of them
    let backends = [GraphicsBackend::Vulkan, GraphicsBackend::Metal, GraphicsBackend::Dx12];
    let missing = backends.into_iter().filter_map(|backend| Engine::new(common::request(backend)).err());
    let missing: Vec<Error> = missing.collect();
    if missing.is_empty() {
        return Err("Vulkan, Metal and DX12 on one machine".into());
    }
    for error in missing {
        expect("an API that is not there", ErrorKind::NoAdapter, &["no GPU found", "--device cpu"], Err::<(), _>(error))?;
    }
    Ok(())
}

fn shape_of_inputs(engine: &Engine) -> Result<(), Failed> {
    let call = Call::random(LstmConfig { num_layers: 2, ..LstmConfig::new(3, 5) }, 4, 2, &mut Rng::new(0));
    let mut session = call.session(engine)?;
    let right = Inputs::new().with("x", call.x.view());
    let (flat, narrow) = (Array2::<f32>::zeros((4, 3)), Array3::<f32>::zeros((4, 2, 2)));
    let (double, state) = (Array3::<f64>::zeros((4, 2, 3)), Array3::<f32>::zeros((2, 3, 5)));
    let lens = |lens: &[i64]| Array1::from(lens.to_vec());
    let (few, negative, long) = (lens(&[4]), lens(&[4, -1]), lens(&[5, 4]));
    let fractions = Array1::<f32>::ones(2);
    let cases: [(&str, Inputs<'_>, &[&str]); 10] = [
        ("no x", Inputs::new(), &["`x`", "missing"]),
        ("an unknown input", right.clone().with("z", call.x.view()), &["`z`", "`x`", "`h_0`"]),
        ("x of two axes", Inputs::new().with("x", flat.view()), &["`x`", "[seq_len, batch, input_size]", "[4, 3]"]),
        ("x too narrow", Inputs::new().with("x", narrow.view()), &["`x`", "input_size = 3", "[4, 2, 2]"]),
        ("x of float64", Inputs::new().with("x", double.view()), &["`x`", "expected float32", "found float64"]),
        ("h_0 of three rows", right.clone().with("h_0", state.view()), &["`h_0`", "[2, 2, 5]", "[2, 3, 5]"]),
        ("one length for two rows", right.clone().with("sequence_lens", few.view()), &["`sequence_lens`", "[batch] = [2]", "[1]"]),
        ("a negative length", right.clone().with("sequence_lens", negative.view()), &["`sequence_lens`", "0 to seq_len = 4", "-1 in row 1"]),
        ("a length too long", right.clone().with("sequence_lens", long.view()), &["`sequence_lens`", "0 to seq_len = 4", "5 in row 0"]),
        ("lengths of float32", right.clone().with("sequence_lens", fractions.view()), &["`sequence_lens`", "int64", "float32"]),
    ];
    for (what, inputs, words) in cases {
        expect(what, ErrorKind::Shape, words, session.run(&inputs))?;
    }
    let mut state = session.state(3)?;
    expect("a state of other rows", ErrorKind::Shape, &["`x`", "batch = 3", "[4, 2, 3]"], session.run_with_state(&right, &mut state))?;
    // after all of that, the session still works
    session.run(&right)?;
    Ok(())
}

fn config_of_calls(engine: &Engine) -> Result<(), Failed> {
    let call = Call::random(LstmConfig::new(3, 5), 4, 2, &mut Rng::new(0));
    let mut call_of_large = call.clone();
    call_of_large.cells[0].weight_hh[[2, 1]] = 1e5;
    let f16 = Options { precision: Precision::F16, ..common::by_model() };
    let words = ["precision f16", "at most 65504", "100000", "weight_hh of layer 0, direction 0"];
    expect("a weight that float16 cannot hold", ErrorKind::Config, &words, engine.session(&call_of_large.network()?, f16))?;
    let resident = Options { schedule: Some(ScheduleName::Resident), ..common::by_model() };
    let normed = Call::random(LstmConfig { layer_norm: Some(1e-5), ..LstmConfig::new(3, 5) }, 4, 2, &mut Rng::new(0));
    let words: &[&str] =
        if engine.describe().device.kind == DeviceKind::Gpu { &["schedule resident", "layer"] } else { &["schedule resident", "needs a GPU"] };
    expect("a schedule that does not suit", ErrorKind::Config, words, engine.session(&normed.network()?, resident))?;
    if engine.describe().device.kind != DeviceKind::Gpu {
        let form = ProductForm::Rows(RowForm { workgroup_size: 64, rows: 4, k_lanes: 16, subgroups: false });
        let choice = Choice { schedule: Schedule::PerStep(form), input: form };
        let chosen = Options { choice: Some(choice), ..common::by_model() };
        expect("a form of kernels", ErrorKind::Config, &["schedule per-step", "needs a GPU"], engine.session(&call.network()?, chosen))?;
    }
    let (mut session, mut other) = (call.session(engine)?, call.session(engine)?);
    let mut state = session.state(2)?;
    let inputs = Inputs::new().with("x", call.x.view());
    let foreign = ["state", "another session's"];
    expect("running on a foreign state", ErrorKind::Config, &foreign, other.run_with_state(&inputs, &mut state))?;
    expect("reading a foreign state", ErrorKind::Config, &foreign, other.read_state(&state))?;
    expect("writing a foreign state", ErrorKind::Config, &foreign, other.write_state(&mut state, &[]))?;
    let zeros = Array3::<f32>::zeros((1, 2, 5));
    let twice = inputs.clone().with("h_0", zeros.view());
    expect("two initial states", ErrorKind::Config, &["`h_0`", "carries a state"], session.run_with_state(&twice, &mut state))?;
    let mut values = session.read_state(&state)?;
    values[0].node = "nobody".to_owned();
    expect("a state of nobody", ErrorKind::Config, &["`nobody`"], session.write_state(&mut state, &values))?;
    let before = session.read_state(&state)?;
    let mut moved = before.clone();
    moved[0].h.fill(1.0);
    moved.extend(values);
    expect("a state and one of nobody", ErrorKind::Config, &["`nobody`"], session.write_state(&mut state, &moved))?;
    if session.read_state(&state)? != before {
        return Err("a refused write changed a state".into());
    }
    Ok(())
}

/// Of several stages an error names the one that it is about, and asking first gives the same error as trying.
fn config_of_stages(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(3);
    let stack = |largest: f32, rng: &mut Rng| -> Result<Stage, Failed> {
        let mut call = Call::random(LstmConfig::new(3, 3), 1, 1, rng);
        call.cells[0].weight_ih[[0, 0]] = largest;
        Ok(Stage::Lstm(Lstm::new(call.config, call.cells)?))
    };
    let linear =
        |weight: f32| Ok::<_, Failed>(Stage::Dense(DenseStage::Linear(Linear::new(Array2::from_elem((2, 3), weight), None)?, RowFunction::None)));
    let cases = [
        ("a stack", [stack(1.0, rng)?, stack(1e5, rng)?, linear(1.0)?], ["second: ", "precision f16", "100000 in weight_ih of layer 0"]),
        ("a linear layer", [stack(1.0, rng)?, stack(1.0, rng)?, linear(-2e5)?], ["head: ", "precision f16", "-200000 in weight"]),
    ];
    for (what, stages, words) in cases {
        let stages = ["first", "second", "head"].map(str::to_owned).into_iter().zip(stages);
        let network = Network::from_stages(stages.collect(), false)?;
        let options = Options { precision: Precision::F16, ..common::by_model() };
        let tried = expect(what, ErrorKind::Config, &words, engine.session(&network, options.clone()))?;
        let asked = expect(what, ErrorKind::Config, &words, engine.check(&network, &options))?;
        if asked.to_string() != tried.to_string() {
            return Err(format!("{what}: asking says `{asked}`, trying `{tried}`").into());
        }
    }
    Ok(())
}

/// One number in the place of very many is a view of no size: what is made of it would have one.
fn limit_of_ids(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(5);
    let call = Call::random(LstmConfig::new(9, 3), 1, 1, rng);
    let table = Embedding::new(rng.array((5, 9), 1.0))?;
    let stages =
        vec![("table".to_owned(), Stage::Dense(DenseStage::Embedding(table))), ("lstm".to_owned(), Stage::Lstm(Lstm::new(call.config, call.cells)?))];
    let network = Network::from_stages(stages, false)?;
    let mut session = engine.session(&network, common::by_model())?;
    let ids = Array2::<i64>::zeros((1, 1));
    let many = ids.broadcast((1 << 40, 2)).ok_or("a view of very many ids")?;
    // empty, with an axis that no number of features may multiply
    let empty = Array2::<i64>::zeros((1 << 60, 0));
    for (what, ids, found) in [("too many ids", many, "[1099511627776, 2]"), ("an axis too long", empty.view(), "[1152921504606846976, 0, 9]")] {
        let words = ["table: ", found, "more than this machine can hold"];
        expect(what, ErrorKind::Limit, &words, session.run(&Inputs::new().with("x", ids)))?;
    }
    session.run(&Inputs::new().with("x", ids.view()))?;
    Ok(())
}

fn limit_of_slots(engine: &Engine) -> Result<(), Failed> {
    let mut session = Call::random(LstmConfig::new(3, 5), 1, 1, &mut Rng::new(0)).session(engine)?;
    let mut stream = session.stream(1)?;
    stream.join()?;
    expect("a full stream", ErrorKind::Limit, &["stream", "1 slots"], stream.join())?;
    // lengths that overflow, bytes that do, and bytes that no machine has
    for many in [usize::MAX, usize::MAX / 16, isize::MAX as usize / 20, 1 << 44] {
        let words = [&many.to_string()[..], "more than this machine can hold"];
        expect("too many slots", ErrorKind::Limit, &words, session.stream(many))?;
        expect("too many rows", ErrorKind::Limit, &words, session.state(many))?;
    }
    // an empty input says nothing of what goes with it
    for (seq_len, batch) in [(0, 1 << 60), (1 << 60, 0)] {
        let x = Array3::<f32>::zeros((seq_len, batch, 3));
        expect("too many empty rows", ErrorKind::Limit, &["1152921504606846976"], session.run(&Inputs::new().with("x", x.view())))?;
    }
    Ok(())
}

/// What no GPU holds is refused before anything is allocated; the host has no such limits.
fn limit_of_the_device(engine: &Engine) -> Result<(), Failed> {
    let bidirectional = LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(64, 64) };
    let session = Call::random(bidirectional, 1, 1, &mut Rng::new(0)).session(engine)?;
    let device = &engine.describe().device;
    if device.backend.is_none() {
        session.explain(1, 1 << 30)?;
        return Ok(());
    }
    let words = ["limit max_storage_buffer_binding_size", "need 549755813888 bytes", "the adapter allows"];
    expect("2^30 steps that cannot be split", ErrorKind::Limit, &words, session.explain(1, 1 << 30))?;
    if device.name.contains("llvmpipe") {
        // it would end the kernel's loops early, and say nothing
        let relu = CellActivations { gate: Activation::Relu, ..CellActivations::default() };
        let wide = Call::random(LstmConfig { activations: [relu; 2], ..LstmConfig::new(60_000, 2) }, 1, 2, &mut Rng::new(0));
        let words = ["loop iterations", "input_size = 60000", "65535 that the driver allows"];
        expect("an input too wide for llvmpipe", ErrorKind::Limit, &words, wide.session(engine)?.run(&Inputs::new().with("x", wide.x.view())))?;
    }
    Ok(())
}

/// A call far too long to run is explained at once, as long as its numbers can be counted.
fn limit_of_explain(engine: &Engine) -> Result<(), Failed> {
    let session = Call::random(LstmConfig::new(3, 5), 1, 1, &mut Rng::new(0)).session(engine)?;
    let (batch, seq_len) = (100_000_000, 100_000_000);
    let start = std::time::Instant::now();
    let lstm = session.explain(batch, seq_len)?.lstms.swap_remove(0);
    // twice a multiplication and an addition for 4 gates of 5 units, 3 inputs and 5 states
    if lstm.flops < 320 * (batch * seq_len) as u64 || start.elapsed().as_secs() >= 30 {
        return Err(format!("{} operations, found in {:?}", lstm.flops, start.elapsed()).into());
    }
    for (batch, seq_len) in [(1 << 40, 1 << 22), (usize::MAX, usize::MAX), (usize::MAX, 1), (1, usize::MAX)] {
        let words = [&batch.to_string()[..], &seq_len.to_string(), "64 bits"];
        expect("a call that cannot be counted", ErrorKind::Limit, &words, session.explain(batch, seq_len))?;
    }
    // pieces of two sizes: every state is there once
    let explained = |seq_len| session.explain(7, seq_len).map(|explanation| explanation.lstms[0].clone());
    let state = |lstm: &cellgate::LstmExplanation| lstm.memory.iter().find(|memory| memory.name == "state").map(|memory| memory.bytes);
    let (short, long) = (explained(1)?, explained(8194)?);
    if state(&short) != state(&long) || short.flops * 8194 != long.flops {
        return Err(format!("a call of 1 step and one of 8194 do not go together: {short:?} {long:?}").into());
    }
    Ok(())
}

/// Calls of no rows or no steps have empty results, and states pass through them.
fn nothing_to_do(engine: &Engine) -> Result<(), Failed> {
    let softplus = CellActivations { gate: Activation::Sigmoid, candidate: Activation::Softplus, output: Activation::Softplus };
    let plain = LstmConfig::new(3, 5);
    let variants = [
        LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..plain.clone() },
        LstmConfig { proj_size: Some(2), layer_norm: Some(1e-5), ..plain.clone() },
        LstmConfig { direction: Direction::Reverse, activations: [softplus; 2], ..plain },
    ];
    for config in variants {
        for batch_first in [false, true] {
            let mut rng = Rng::new(0);
            for (seq_len, batch) in [(0, 3), (4, 0), (0, 0)] {
                let call = Call { batch_first, ..Call::random(config.clone(), seq_len, batch, &mut rng).with_states(&mut rng) };
                let results = call.run(engine)?;
                if results.y.dim() != (seq_len, batch, config.y_size()) {
                    return Err(format!("T = {seq_len}, N = {batch}: y is {:?}", results.y.dim()).into());
                }
                same_bits("h_n", &results.h_n, call.h_0.as_ref().ok_or("no h_0")?)?;
                same_bits("c_n", &results.c_n, call.c_0.as_ref().ok_or("no c_0")?)?;
                let ragged = Call { lens: Some(vec![0; batch]), h_0: None, c_0: None, ..call };
                let results = ragged.run(engine)?;
                same_bits("h_n without h_0", &results.h_n, &Array3::zeros(results.h_n.dim()))?;
                ragged.session(engine)?.explain(batch, seq_len)?;
            }
        }
    }
    Ok(())
}
