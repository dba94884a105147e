//! A call of a random LSTM: weights, inputs and how to run them, the same on every machine.

use super::options;
use cellgate::{CellWeights, Engine, HostState, Inputs, LayerNormWeights, Lstm, LstmConfig, Network, Outputs, Session};
use libtest_mimic::Failed;
use ndarray::{Array1, Array3, ArrayD, Axis, Dimension, ShapeBuilder, s};

/// Numbers that look random: splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// From 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Values from `-scale` to `scale`.
    pub fn array<Sh: ShapeBuilder>(&mut self, shape: Sh, scale: f32) -> ndarray::Array<f32, Sh::Dim> {
        ndarray::Array::from_shape_simple_fn(shape, || scale * self.value())
    }

    /// 0 to `end - 1` in some order.
    pub fn permutation(&mut self, end: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..end).collect();
        for last in (1..end).rev() {
            places.swap(last, self.below(last + 1));
        }
        places
    }
}

/// Weights of every cell of `config`, from `-gain / sqrt(H)` to `gain / sqrt(H)`, as PyTorch starts with for a gain of 1.
pub fn random_cells(config: &LstmConfig, gain: f32, rng: &mut Rng) -> Vec<CellWeights> {
    let (hidden, out) = (config.hidden_size, config.out_size());
    let scale = gain / (hidden as f32).sqrt();
    let cell = |number: usize| {
        let input = config.layer_input_size(number / config.num_directions());
        let around_one = |rng: &mut Rng, len: usize| -> Array1<f32> { rng.array(len, 0.5) + 1.0 };
        CellWeights {
            weight_ih: rng.array((4 * hidden, input), scale),
            weight_hh: rng.array((4 * hidden, out), scale),
            bias_ih: config.bias.then(|| rng.array(4 * hidden, scale)),
            bias_hh: config.bias.then(|| rng.array(4 * hidden, scale)),
            weight_hr: config.proj_size.map(|proj| rng.array((proj, hidden), scale)),
            peepholes: config.peepholes.then(|| rng.array((3, hidden), scale)),
            layer_norm: config.layer_norm.map(|_| LayerNormWeights {
                gamma_ih: around_one(rng, 4 * hidden),
                gamma_hh: around_one(rng, 4 * hidden),
                gamma_c: around_one(rng, hidden),
                beta_c: rng.array(hidden, scale),
            }),
        }
    };
    (0..config.num_cells()).map(cell).collect()
}

/// One call of one LSTM stack, in time-first order; what is absent is not given to the session.
#[derive(Clone, Debug)]
pub struct Call {
    pub config: LstmConfig,
    pub cells: Vec<CellWeights>,
    /// whether the session is given, and gives, the batch axis first
    pub batch_first: bool,
    /// `[T, N, I]`
    pub x: Array3<f32>,
    /// `[N]`
    pub lens: Option<Vec<i64>>,
    /// `[L*D, N, R]`
    pub h_0: Option<Array3<f32>>,
    /// `[L*D, N, H]`
    pub c_0: Option<Array3<f32>>,
}

/// What a call gave, in time-first order.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// `[T, N, D*R]`
    pub y: Array3<f32>,
    /// `[L*D, N, R]`
    pub h_n: Array3<f32>,
    /// `[L*D, N, H]`
    pub c_n: Array3<f32>,
}

impl Call {
    /// Random weights and inputs; all rows have full length, states start from zero.
    pub fn random(config: LstmConfig, seq_len: usize, batch: usize, rng: &mut Rng) -> Self {
        let cells = random_cells(&config, 1.0, rng);
        let x = rng.array((seq_len, batch, config.input_size), 1.0);
        Self { config, cells, batch_first: false, x, lens: None, h_0: None, c_0: None }
    }

    /// The same with random initial states.
    pub fn with_states(mut self, rng: &mut Rng) -> Self {
        let (cells, batch) = (self.config.num_cells(), self.batch());
        self.h_0 = Some(rng.array((cells, batch, self.config.out_size()), 1.0));
        self.c_0 = Some(rng.array((cells, batch, self.config.hidden_size), 1.0));
        self
    }

    pub fn seq_len(&self) -> usize {
        self.x.dim().0
    }

    pub fn batch(&self) -> usize {
        self.x.dim().1
    }

    pub fn network(&self) -> Result<Network, Failed> {
        Ok(Network::from_lstm(Lstm::new(self.config.clone(), self.cells.clone())?, self.batch_first))
    }

    pub fn session(&self, engine: &Engine) -> Result<Session, Failed> {
        let network = self.network()?;
        Ok(engine.session(&network, options(engine, &network))?)
    }

    /// Runs the call on a session of its own.
    pub fn run(&self, engine: &Engine) -> Result<Results, Failed> {
        self.run_in(&mut self.session(engine)?)
    }

    /// Runs the call on `session`, which must have this call's weights.
    pub fn run_in(&self, session: &mut Session) -> Result<Results, Failed> {
        let x = if self.batch_first { self.x.view().permuted_axes([1, 0, 2]) } else { self.x.view() };
        let lens = self.lens.clone().map(Array1::from);
        let mut inputs = Inputs::new().with("x", x);
        if let Some(lens) = &lens {
            inputs.insert("sequence_lens", lens.view());
        }
        for (name, state) in [("h_0", &self.h_0), ("c_0", &self.c_0)] {
            if let Some(state) = state {
                inputs.insert(name, state.view());
            }
        }
        Ok(self.results(session.run(&inputs)?))
    }

    /// The outputs of a call of this kind.
    pub fn results(&self, outputs: Outputs) -> Results {
        let take = |name: &str| outputs[name].clone().into_dimensionality::<ndarray::Ix3>().expect("the outputs of an LSTM have three axes");
        let mut y = take("y");
        if self.batch_first {
            y = y.permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
        }
        Results { y, h_n: take("h_n"), c_n: take("c_n") }
    }

    /// The same call with only the rows that `rows` lists, in that order.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let select = |array: &Array3<f32>| array.select(Axis(1), rows);
        Self {
            x: select(&self.x),
            lens: self.lens.as_ref().map(|lens| rows.iter().map(|&row| lens[row]).collect()),
            h_0: self.h_0.as_ref().map(select),
            c_0: self.c_0.as_ref().map(select),
            ..self.clone()
        }
    }

    /// The same call with only the steps from `start` to `end - 1`, starting from `state`.
    pub fn steps(&self, start: usize, end: usize) -> Self {
        Self { x: self.x.slice(s![start..end, .., ..]).to_owned(), ..self.clone() }
    }
}

impl Results {
    /// The three tensors by name.
    pub fn tensors(&self) -> [(&'static str, &Array3<f32>); 3] {
        [("y", &self.y), ("h_n", &self.h_n), ("c_n", &self.c_n)]
    }

    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self { y: self.y.select(Axis(1), rows), h_n: self.h_n.select(Axis(1), rows), c_n: self.c_n.select(Axis(1), rows) }
    }

    /// The final states, as a session takes and gives them.
    pub fn host_state(&self) -> HostState {
        HostState { node: "lstm".to_owned(), h: self.h_n.clone(), c: self.c_n.clone() }
    }
}

/// An error that says where `actual` and `expected` first differ in a bit; NaN equals NaN.
pub fn same_bits<D: Dimension>(what: &str, actual: &ndarray::Array<f32, D>, expected: &ndarray::Array<f32, D>) -> Result<(), Failed> {
    if actual.shape() != expected.shape() {
        return Err(format!("{what}: shape {:?}, expected {:?}", actual.shape(), expected.shape()).into());
    }
    let equal = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let differing = actual.iter().zip(expected).filter(|&(&a, &b)| !equal(a, b)).count();
    let first = actual
        .view()
        .into_dyn()
        .indexed_iter()
        .zip(expected)
        .find_map(|((place, &a), &b)| (!equal(a, b)).then(|| format!("{:?}: {a:e}, expected {b:e}", place.slice())));
    match first {
        None => Ok(()),
        Some(first) => Err(format!("{what}: {differing} of {} values differ in their bits, the first at {first}", actual.len()).into()),
    }
}

/// As [`same_bits`], for all three tensors.
pub fn same_results(what: &str, actual: &Results, expected: &Results) -> Result<(), Failed> {
    for ((name, actual), (_, expected)) in actual.tensors().into_iter().zip(expected.tensors()) {
        same_bits(&format!("{what}: {name}"), actual, expected)?;
    }
    Ok(())
}

/// As float64, which the judge takes for what is expected.
pub fn widen<D: Dimension>(array: &ndarray::Array<f32, D>) -> ArrayD<f64> {
    array.mapv(f64::from).into_dyn()
}
