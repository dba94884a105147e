//! Lookups, linear layers and functions of rows around LSTMs: chains of stages on every device, and on GPUs without leaving them.

mod common;

use std::sync::Arc;

use cellgate::compare::{Tolerance, compare};
use cellgate::{
    Activation, Chain, ChainInput, ChainStage, DenseStage, DeviceChoice, Direction, Embedding, Engine, ErrorKind, Linear, Lstm, LstmConfig, Options,
    Precision, RowFunction,
};
use common::call::{Rng, random_cells, widen};
use common::{TestDevice, by_model, conclude, gpus, trial};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array1, Array2, ArrayD, IxDyn};

/// What the crate promises of float32 arithmetic.
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

fn main() {
    let mut trials: Vec<Trial> = Vec::new();
    let gpus_and_host = [gpus(), vec![TestDevice::host("cpu", DeviceChoice::Cpu)]].concat();
    for device in &gpus_and_host {
        for (name, case) in cases() {
            trials.push(trial(device, &name, move |engine| agrees(engine, &case)));
        }
        trials.push(trial(device, "rows that softmax meets", softmax_rows));
        trials.push(trial(device, "every activation", activations));
        trials.push(trial(device, "ids beyond the table", ids_beyond_the_table));
    }
    let (_, only_gpus) = gpus_and_host.split_last().expect("the host is there");
    for device in only_gpus {
        trials.push(trial(device, "calls in blocks and segments", blocks));
        trials.push(trial(device, "a result is there until its stage runs again", stale));
        trials.push(trial(device, "timed calls", timed));
        trials.push(trial(device, "a stage says what it does", explains));
    }
    // one driver is enough: what differs between forms is the text
    for device in only_gpus.iter().take(1) {
        for precision in Precision::ALL {
            trials.push(trial(device, &format!("every form of a product, {precision}"), move |engine| forms(engine, precision)));
        }
    }
    // what is made and read is counted by device: these have theirs to themselves
    for device in &gpus() {
        trials.push(trial(device, "a warmed-up chain makes nothing and reads once", makes_nothing));
    }
    conclude(trials);
}

/// Stages, and what goes through them.
#[derive(Clone)]
struct Case {
    stages: Vec<ChainStage>,
    input: Input,
    lens: Option<Vec<u32>>,
    precision: Precision,
}

#[derive(Clone)]
enum Input {
    Ids(ArrayD<u32>),
    Values(ArrayD<f32>),
}

impl Case {
    fn chain(&self, engine: &Engine) -> Result<Chain, Failed> {
        Ok(Chain::new(engine, &self.stages, &Options { precision: self.precision, ..by_model() })?)
    }

    fn run(&self, chain: &mut Chain, directly: bool) -> Result<ArrayD<f32>, Failed> {
        let input = match &self.input {
            Input::Ids(ids) => ChainInput::Ids(ids.view()),
            Input::Values(values) => ChainInput::Values(values.view()),
        };
        Ok(chain.run(input, self.lens.as_deref(), directly)?)
    }
}

fn embedding(num: usize, dim: usize, rng: &mut Rng) -> ChainStage {
    ChainStage::Dense(DenseStage::Embedding(Embedding::new(rng.array((num, dim), 1.0)).expect("it is valid")))
}

fn lstm(config: LstmConfig, rng: &mut Rng) -> ChainStage {
    let cells = random_cells(&config, 1.0, rng);
    ChainStage::Lstm(Arc::new(Lstm::new(config, cells).expect("it is valid")))
}

fn linear(inputs: usize, outputs: usize, bias: bool, function: RowFunction, rng: &mut Rng) -> ChainStage {
    let scale = 1.0 / (inputs as f32).sqrt();
    let weight: Array2<f32> = rng.array((outputs, inputs), scale);
    let bias: Option<Array1<f32>> = bias.then(|| rng.array(outputs, scale));
    ChainStage::Dense(DenseStage::Linear(Linear::new(weight, bias).expect("it is valid"), function))
}

fn ids(shape: &[usize], num: usize, rng: &mut Rng) -> Input {
    Input::Ids(ArrayD::from_shape_simple_fn(IxDyn(shape), || rng.below(num) as u32))
}

const EMBEDDINGS: usize = 29;

/// embedding, two bidirectional stacks of different sizes, a linear layer and a function, in steps or rows first.
fn whole(outputs: usize, function: RowFunction, batch_first: bool, (seq_len, batch): (usize, usize), rng: &mut Rng) -> Case {
    let both = |input, hidden| LstmConfig { direction: Direction::Bidirectional, ..LstmConfig::new(input, hidden) };
    let mut stages = vec![embedding(EMBEDDINGS, 11, rng)];
    let swap = || batch_first.then(|| ChainStage::Permute(vec![1, 0, 2]));
    stages.extend(swap());
    stages.push(lstm(both(11, 13), rng));
    stages.push(lstm(LstmConfig { num_layers: 2, ..both(26, 9) }, rng));
    stages.extend(swap());
    stages.push(linear(18, outputs, outputs != 4, function, rng));
    let shape = if batch_first { [batch, seq_len] } else { [seq_len, batch] };
    Case { stages, input: ids(&shape, EMBEDDINGS, rng), lens: None, precision: Precision::F32 }
}

fn cases() -> Vec<(String, Case)> {
    let rng = &mut Rng::new(23);
    let mut cases = Vec::new();
    let activation = RowFunction::Activation(Activation::Relu);
    let functions = [RowFunction::LogSoftmax, RowFunction::Softmax, RowFunction::None, activation];
    for (place, outputs) in [1, 3, 4, 5, 97].into_iter().enumerate() {
        for batch_first in [false, true] {
            let function = functions[(place + usize::from(batch_first)) % functions.len()];
            let case = whole(outputs, function, batch_first, (7, 5), rng);
            cases.push((format!("{outputs} outputs, {function:?}, batch first {batch_first}"), case));
        }
    }
    for precision in [Precision::F16, Precision::Int8] {
        cases.push((format!("{precision}"), Case { precision, ..whole(5, RowFunction::LogSoftmax, false, (9, 33), rng) }));
    }
    let ragged = whole(5, RowFunction::LogSoftmax, true, (7, 5), rng);
    cases.push(("rows of all lengths".to_owned(), Case { lens: Some(vec![0, 7, 3, 1, 6]), ..ragged }));
    let padded = whole(3, RowFunction::None, false, (40, 3), rng);
    cases.push(("padding that no row is without".to_owned(), Case { lens: Some(vec![5, 0, 7]), ..padded }));
    // parts of the axes of what is on the device: of steps without gaps, of rows and features with gaps
    for (axis, range) in [(0, 2..5), (1, 1..4), (2, 3..21)] {
        let mut part = whole(6, RowFunction::None, false, (7, 5), rng);
        let features = if axis == 2 { range.len() } else { 26 };
        part.stages.truncate(2);
        part.stages.push(ChainStage::Slice(axis, range));
        let mut on_to_lstm = part.clone();
        part.stages.push(linear(features, 6, true, RowFunction::None, rng));
        // and on from rows with two floats between them
        part.stages.push(linear(6, 3, true, RowFunction::Activation(Activation::Tanh), rng));
        part.stages.push(ChainStage::Dense(DenseStage::Function(RowFunction::Softmax)));
        cases.push((format!("a part of axis {axis}"), part));
        on_to_lstm.stages.push(lstm(LstmConfig::new(features, 6), rng));
        cases.push((format!("a part of axis {axis}, to a stack"), on_to_lstm));
    }
    // axes the other way round, to a layer, to a stack, to the host
    for axis in 0..3 {
        let mut back = whole(6, RowFunction::None, false, (7, 5), rng);
        back.stages.truncate(2);
        back.stages.push(ChainStage::Reverse(axis));
        back.stages.push(lstm(LstmConfig::new(26, 6), rng));
        back.stages.push(ChainStage::Reverse(axis));
        back.stages.push(linear(6, 5, true, RowFunction::None, rng));
        back.stages.push(ChainStage::Reverse(axis));
        cases.push((format!("axis {axis} the other way round"), back));
    }
    // final states come to the host while y stays, from states that are not zero
    for lens in [None, Some(vec![0, 7, 3, 1, 6])] {
        let mut last = Case { lens, ..whole(6, RowFunction::None, false, (7, 5), rng) };
        last.stages.truncate(2);
        let config = LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..LstmConfig::new(26, 6) };
        let cells = random_cells(&config, 1.0, rng);
        last.stages.push(ChainStage::FinalState(Arc::new(Lstm::new(config, cells).expect("it is valid"))));
        last.stages.push(linear(6, 5, true, RowFunction::None, rng));
        cases.push((format!("final states, rows of all lengths {}", last.lens.is_some()), last));
    }
    // from the host, an input whose axes are in no order
    let values = rng.array(IxDyn(&[6, 5, 3]), 1.0).permuted_axes(IxDyn(&[2, 0, 1]));
    let stages = vec![linear(5, 10, true, RowFunction::None, rng), lstm(LstmConfig::new(10, 7), rng)];
    cases.push(("an input in no order of axes".to_owned(), Case { stages, input: Input::Values(values), lens: None, precision: Precision::F32 }));
    cases
}

/// The chain's result is the reference's, the same bits whichever way it comes to the host and however often it runs.
fn agrees(engine: &Engine, case: &Case) -> Result<(), Failed> {
    let expected = case.run(&mut case.chain(&Engine::new(DeviceChoice::Reference)?)?, false)?;
    let mut chain = case.chain(engine)?;
    let actual = case.run(&mut chain, false)?;
    check("", &actual, &expected)?;
    for directly in [false, true] {
        let again = case.run(&mut chain, directly)?;
        if again.iter().map(|value| value.to_bits()).ne(actual.iter().map(|value| value.to_bits())) {
            return Err(format!("other bits when it runs again, directly {directly}").into());
        }
    }
    Ok(())
}

fn check(what: &str, actual: &ArrayD<f32>, expected: &ArrayD<f32>) -> Result<(), Failed> {
    let comparison = compare(actual.view(), widen(expected).view(), F32);
    eprintln!("{what}{:?}: the largest error {:.1e}", actual.shape(), comparison.max_abs_err);
    if comparison.passed() { Ok(()) } else { Err(format!("{what}{comparison}").into()) }
}

/// Rows of every width, with features that are impossible, certain, huge or no numbers.
fn softmax_rows(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(5);
    for features in [1, 2, 3, 5, 31, 64, 97, 1025, 3000] {
        let mut x = rng.array((9, features), 8.0);
        let last = features - 1;
        x[[1, 0]] = f32::NEG_INFINITY;
        x.row_mut(2).fill(f32::NEG_INFINITY);
        x[[3, last]] = f32::NAN;
        x[[4, last]] = f32::INFINITY;
        x.row_mut(5).mapv_inplace(|value| 1e4 * value);
        x.row_mut(6).fill(-1e30);
        x.row_mut(7).mapv_inplace(|value| value + 3e4);
        for function in [RowFunction::Softmax, RowFunction::LogSoftmax] {
            let stages = vec![ChainStage::Dense(DenseStage::Function(function))];
            let case = Case { stages, input: Input::Values(x.clone().into_dyn()), lens: None, precision: Precision::F32 };
            let expected = case.run(&mut case.chain(&Engine::new(DeviceChoice::Reference)?)?, false)?;
            for directly in [false, true] {
                check(&format!("{function:?} of "), &case.run(&mut case.chain(engine)?, directly)?, &expected)?;
            }
        }
    }
    Ok(())
}

fn activations(engine: &Engine) -> Result<(), Failed> {
    let names = ["Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"];
    let mut x: Vec<f32> = (-400_i16..=400).map(|step| f32::from(step) / 20.0).collect();
    // NaN stays NaN only where the driver lets it: Mesa's OpenGL makes a maximum of Relu
    x.extend([-1e4, 1e4, 0.0]);
    for name in names {
        let activation = Activation::from_onnx(name).ok_or("a name of ONNX")?.with_parameters(0.75, -0.5);
        let stages = vec![ChainStage::Dense(DenseStage::Function(RowFunction::Activation(activation)))];
        let input = Input::Values(ArrayD::from_shape_vec(IxDyn(&[4, 3, 67]), x.clone())?);
        let case = Case { stages, input, lens: None, precision: Precision::F32 };
        let expected = case.run(&mut case.chain(&Engine::new(DeviceChoice::Reference)?)?, false)?;
        check(&format!("{name} of "), &case.run(&mut case.chain(engine)?, false)?, &expected)?;
    }
    Ok(())
}

fn ids_beyond_the_table(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(3);
    let stages = [embedding(7, 3, rng)];
    let mut chain = Chain::new(engine, &stages, &by_model())?;
    let ids = Array1::from(vec![0_u32, 6, 7]).into_dyn();
    let error = chain.run(ChainInput::Ids(ids.view()), None, false).err().ok_or("an id beyond the table went through")?;
    if error.kind() != ErrorKind::Shape || !error.to_string().contains("found 7 in place 2") {
        return Err(format!("another error: {error}").into());
    }
    let none = chain.run(ChainInput::Ids(ArrayD::zeros(IxDyn(&[2, 0])).view()), None, false)?;
    if none.shape() != [2, 0, 3] { Err(format!("no ids gave {:?}", none.shape()).into()) } else { Ok(()) }
}

/// Once a chain has run, running it again makes no object of the graphics API; all that comes back is its result.
fn makes_nothing(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(7);
    let mut ragged = whole(5, RowFunction::LogSoftmax, true, (7, 5), rng);
    ragged.lens = Some(vec![7, 2, 0, 5, 1]);
    let mut part = whole(5, RowFunction::LogSoftmax, false, (7, 5), rng);
    part.stages.insert(1, ChainStage::Slice(1, 1..4));
    part.stages.insert(3, ChainStage::Slice(0, 1..6));
    for (what, case) in [("plain", whole(5, RowFunction::Softmax, false, (7, 5), rng)), ("ragged", ragged), ("parts", part)] {
        for directly in [false, true] {
            let mut chain = case.chain(engine)?;
            for _ in 0..2 {
                case.run(&mut chain, directly)?;
            }
            let made = |usage: Option<cellgate::DeviceUsage>| usage.map(|usage| (usage.buffers_made, usage.bind_groups_made, usage.pipelines_made));
            let (before, reads) = (made(engine.usage()), chain.reads());
            for _ in 0..3 {
                case.run(&mut chain, directly)?;
            }
            if made(engine.usage()) != before {
                return Err(format!("{what}, directly {directly}: {before:?} objects became {:?}", made(engine.usage())).into());
            }
            if chain.reads() != reads.map(|reads| reads + 3) {
                return Err(format!("{what}, directly {directly}: three calls made {reads:?} reads {:?}", chain.reads()).into());
            }
        }
    }
    Ok(())
}

/// Calls follow each other without waiting, and only the last one's result can be read.
fn stale(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(17);
    let case = whole(5, RowFunction::Softmax, false, (7, 5), rng);
    let Input::Ids(ids) = &case.input else { return Err("ids go in".into()) };
    let (mut chain, expected) = (case.chain(engine)?, case.run(&mut case.chain(&Engine::new(DeviceChoice::Reference)?)?, false)?);
    let mut started = Vec::new();
    for _ in 0..20 {
        started.push(chain.start(ChainInput::Ids(ids.view()), None)?);
    }
    let last = started.pop().ok_or("20 were started")?;
    check("", &last.read()?, &expected)?;
    for old in started {
        let error = old.read().err().ok_or("a result that is gone was read")?;
        if error.kind() != ErrorKind::Config || !error.to_string().contains("has run again") {
            return Err(format!("another error: {error}").into());
        }
    }
    Ok(())
}

/// A call that is timed waits for its timestamps, and computes the same.
fn timed(engine: &Engine) -> Result<(), Failed> {
    let case = whole(5, RowFunction::Softmax, true, (7, 5), &mut Rng::new(31));
    let expected = case.run(&mut case.chain(engine)?, false)?;
    let mut chain = Chain::new(engine, &case.stages, &Options { profile: true, ..by_model() })?;
    for _ in 0..2 {
        if case.run(&mut chain, false)? != expected {
            return Err("timed calls give other results".into());
        }
    }
    Ok(())
}

/// A linear layer by every form that its product may have, over sizes that divide nothing.
fn forms(engine: &Engine, precision: Precision) -> Result<(), Failed> {
    let rng = &mut Rng::new(29);
    for (rows, inputs, outputs) in [(1, 133, 5), (3, 20, 1), (150, 37, 97)] {
        let stages = vec![linear(inputs, outputs, true, RowFunction::Activation(Activation::Tanh), rng)];
        let case = Case { stages, input: Input::Values(rng.array(IxDyn(&[rows, inputs]), 1.0)), lens: None, precision };
        let expected = case.run(&mut case.chain(&Engine::new(DeviceChoice::Reference)?)?, false)?;
        let mut chain = case.chain(engine)?;
        let products = chain.products(0, rows)?;
        for product in &products {
            chain.set_product(0, *product);
            let actual = case.run(&mut chain, false)?;
            // rows are rounded to f16 as the weights are
            let tolerance = if product.to_string().starts_with("matrices") { precision.bound() } else { F32 };
            let comparison = compare(actual.view(), widen(&expected).view(), tolerance);
            if !comparison.passed() {
                return Err(format!("{product}: {comparison}").into());
            }
        }
        eprintln!("{precision}, {rows} x {inputs} x {outputs}: {} forms", products.len());
    }
    Ok(())
}

fn explains(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(19);
    let stages = [embedding(7, 3, rng), linear(16, 6, true, RowFunction::LogSoftmax, rng)];
    let chain = Chain::new(engine, &stages, &by_model())?;
    let lookup = chain.explain(0, &[5, 2])?.ok_or("a GPU runs it")?;
    let product = chain.explain(1, &[5, 2, 16])?.ok_or("a GPU runs it")?;
    let kernels: Vec<&str> = product.dispatches.iter().map(|kernel| kernel.kernel.as_str()).collect();
    let bytes = |name: &str| product.memory.iter().find(|memory| memory.name == name).map(|memory| memory.bytes);
    let right = lookup.dispatches[0].kernel == "embed"
        && kernels.len() == 2
        && kernels[0].starts_with("input_gates")
        && kernels[1] == "softmax"
        && product.flops == 2 * 10 * 16 * 8
        && bytes("rows") == Some(10 * 6 * 4)
        && bytes("weights") == Some(16 * 8 * 4 + 7 * 2 * 16);
    if right { Ok(()) } else { Err(format!("{lookup:?}, {product:?}").into()) }
}

/// What is cut into blocks of rows or segments of time stays whole on the device.
fn blocks(engine: &Engine) -> Result<(), Failed> {
    let rng = &mut Rng::new(13);
    let of = |stages: Vec<ChainStage>, shape: &[usize], lens: Option<Vec<u32>>, rng: &mut Rng| {
        let stages = [vec![embedding(EMBEDDINGS, 64, rng)], stages].concat();
        Case { stages, input: ids(shape, EMBEDDINGS, rng), lens, precision: Precision::F32 }
    };
    // more steps than a segment has, in both directions of time
    for direction in [Direction::Forward, Direction::Reverse] {
        let stages = vec![lstm(LstmConfig { direction, ..LstmConfig::new(64, 3) }, rng), linear(3, 5, true, RowFunction::Softmax, rng)];
        agrees(engine, &of(stages, &[4500, 1], None, rng))?;
    }
    // more rows than a block has on a software adapter, some of them short
    let stages = |rng: &mut Rng| vec![lstm(LstmConfig::new(64, 64), rng), linear(64, 3, true, RowFunction::None, rng)];
    agrees(engine, &of(stages(rng), &[3, 7000], None, rng))?;
    agrees(engine, &of(stages(rng), &[11, 7000], Some((0..7000).map(|row| row / 3000).collect()), rng))?;
    // products in several dispatches, their quads left where they are and not
    for function in [RowFunction::None, RowFunction::LogSoftmax] {
        let stage = linear(64, 97, true, function, rng);
        agrees(engine, &of(vec![stage], &[40_009], None, rng))?;
    }
    Ok(())
}
