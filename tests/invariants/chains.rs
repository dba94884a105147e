//! Networks of stages: states are carried by every stack in them, and what a file says of them is what they are.

use cellgate::compare::{Tolerance, compare};
use cellgate::{DenseStage, Embedding, Engine, HostState, Inputs, Linear, Lstm, LstmConfig, Network, Precision, RowFunction, Session, Stage};
use libtest_mimic::Failed;
use ndarray::{Array2, ArrayD, Axis, concatenate, s};

use crate::Test;
use crate::common::by_model;
use crate::common::call::{Rng, random_cells};

const SEQ_LEN: usize = 9;
const BATCH: usize = 3;
const IDS: usize = 13;

/// Layers add over rows in an order that depends on their number, so that the bits need not be the same.
const CLOSE: Tolerance = Tolerance { atol: 1e-6, rtol: 1e-6 };

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 3] = [
        ("a chain in two calls gives the same numbers", in_two_calls),
        ("a chain from initial states goes on where these were left", from_initial_states),
        ("a chain that went through a file gives the same bits", through_a_file),
    ];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

/// Embedding, two layers, linear, one layer, linear.
fn network(batch_first: bool) -> Result<Network, Failed> {
    let mut rng = Rng::new(5);
    let mut stack = |config: LstmConfig| {
        let cells = random_cells(&config, 1.0, &mut rng);
        Lstm::new(config, cells).map(Stage::Lstm)
    };
    let (lower, upper) = (stack(LstmConfig { num_layers: 2, ..LstmConfig::new(5, 33) })?, stack(LstmConfig::new(7, 16))?);
    let mut linear = |out, features| Linear::new(rng.array((out, features), 0.3), Some(rng.array(out, 0.3)));
    let (first, second) = (linear(7, 33)?, linear(11, 16)?);
    let table = Embedding::new(rng.array((IDS, 5), 1.0))?;
    let dense = |stage| Stage::Dense(stage);
    let stages = vec![
        ("embedding".to_owned(), dense(DenseStage::Embedding(table))),
        ("lower".to_owned(), lower),
        ("first".to_owned(), dense(DenseStage::Linear(first, RowFunction::Activation(cellgate::Activation::Tanh)))),
        ("upper".to_owned(), upper),
        ("second".to_owned(), dense(DenseStage::Linear(second, RowFunction::LogSoftmax))),
    ];
    Ok(Network::from_stages(stages, batch_first)?)
}

fn ids() -> Array2<i64> {
    Array2::from_shape_fn((SEQ_LEN, BATCH), |(t, n)| ((t * 7 + n * 5) % IDS) as i64)
}

fn session(engine: &Engine, network: &Network) -> Result<Session, Failed> {
    Ok(engine.session(network, by_model())?)
}

fn check(what: &str, actual: &ArrayD<f32>, expected: &ArrayD<f32>) -> Result<(), Failed> {
    let comparison = compare(actual.view(), expected.mapv(f64::from).view(), CLOSE);
    if comparison.passed() { Ok(()) } else { Err(format!("{what}: {comparison}").into()) }
}

fn in_two_calls(engine: &Engine) -> Result<(), Failed> {
    let mut session = session(engine, &network(false)?)?;
    let ids = ids();
    let expected = session.run(&Inputs::new().with("x", ids.view()))?;
    for cut in [1, 4, SEQ_LEN - 1] {
        let mut state = session.state(BATCH)?;
        let mut pieces = Vec::new();
        for range in [0..cut, cut..SEQ_LEN] {
            let piece = session.run_with_state(&Inputs::new().with("x", ids.slice(s![range, ..])), &mut state)?;
            pieces.push(piece["y"].clone());
        }
        let views: Vec<_> = pieces.iter().map(|piece| piece.view()).collect();
        check("y", &concatenate(Axis(0), &views)?, &expected["y"])?;
        for HostState { node, h, c } in session.read_state(&state)? {
            check(&node, &h.into_dyn(), &expected[format!("{node}.h_n").as_str()])?;
            check(&node, &c.into_dyn(), &expected[format!("{node}.c_n").as_str()])?;
        }
    }
    let h_0 = ndarray::Array3::<f32>::zeros((2, BATCH, 33));
    let mut state = session.state(BATCH)?;
    let error = session.run_with_state(&Inputs::new().with("x", ids.view()).with("lower.h_0", h_0.view()), &mut state).err();
    let error = error.ok_or("an initial state beside a carried one was taken")?.to_string();
    if !error.contains("input `lower.h_0`: an initial state, but the call carries a state already") {
        return Err(error.into());
    }
    let error = session.stream(2).err().ok_or("a stream of a chain was made")?.to_string();
    if error.contains("a stream needs a network of one LSTM stack") { Ok(()) } else { Err(error.into()) }
}

fn from_initial_states(engine: &Engine) -> Result<(), Failed> {
    let mut session = session(engine, &network(true)?)?;
    let ids = ids().reversed_axes().as_standard_layout().into_owned();
    let expected = session.run(&Inputs::new().with("x", ids.view()))?;
    let first = session.run(&Inputs::new().with("x", ids.slice(s![.., ..4])))?;
    let mut inputs = Inputs::new().with("x", ids.slice(s![.., 4..]));
    for name in ["lower.h", "lower.c", "upper.h", "upper.c"] {
        inputs.insert(format!("{name}_0"), first[format!("{name}_n").as_str()].view());
    }
    let second = session.run(&inputs)?;
    check("y", &concatenate(Axis(1), &[first["y"].view(), second["y"].view()])?, &expected["y"])?;
    check("upper.c_n", &second["upper.c_n"], &expected["upper.c_n"])
}

fn through_a_file(engine: &Engine) -> Result<(), Failed> {
    let network = network(true)?;
    let (bytes, saved) = network.to_safetensors(Precision::F32)?;
    if !saved.complete {
        return Err(format!("{saved:?}").into());
    }
    let again = Network::from_bytes(&bytes)?;
    let (ids, lens) = (ids().reversed_axes().as_standard_layout().into_owned(), ndarray::arr1(&[9_i64, 2, 5]));
    let inputs = Inputs::new().with("x", ids.view()).with("sequence_lens", lens.view());
    let (expected, actual) = (session(engine, &network)?.run(&inputs)?, session(engine, &again)?.run(&inputs)?);
    for (name, tensor) in expected.iter() {
        if actual.get(name).and_then(|actual| actual.as_f32()) != tensor.as_f32() {
            return Err(format!("output `{name}` is another").into());
        }
    }
    Ok(())
}
