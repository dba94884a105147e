//! What is timed: LSTMs with random weights, or a model; the calls that are made of it, and what the float64 reference makes of these.

use std::collections::HashMap;

use cellgate::compare::{Tolerance, compare};
use cellgate::{
    CellWeights, DeviceChoice, Direction, Engine, GATES, Lstm, LstmConfig, Network, Options, Outputs, PartKind, PartRun, Precision, Session, Tuning,
};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn, Slice};

use crate::cli::Result;
use crate::cli::judge::{self, TOLERANCE};
use crate::cli::random::Random;
use crate::cli::tensors::{HostInputs, MAX_ELEMENTS, Sizes};

/// The reference computes in float64, one number after the other: of batches that would take it long, it computes some rows, which then come again
/// and again in the batch, so that every number of a device's result is still compared.
const REFERENCE_FLOPS: u64 = 2_000_000_000;

/// Numbers of rows that come again: primes, so that what mixes up rows at the distance of any tile is seen, and three at least.
const PERIODS: [usize; 8] = [3, 5, 7, 11, 31, 61, 127, 251];

/// Sizes of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) layers: usize,
    pub(super) directions: usize,
    pub(super) input_size: usize,
    pub(super) hidden_size: usize,
}

/// A network to time. One with random weights has these from [`Subject::begin`] to [`Subject::end`] alone.
pub(super) struct Subject {
    network: Option<Network>,
    /// of the first stack
    pub(super) dims: Dims,
    /// file of the model
    pub(super) model: Option<String>,
    /// by how the weights are stored
    references: HashMap<Precision, Session>,
    /// what the reference made of random rows: by steps, rows and how the weights are stored
    known: HashMap<(usize, usize, Precision), Outputs>,
}

/// A call, and what there is to know of it.
pub(super) struct Call {
    pub(super) inputs: HostInputs,
    /// of random rows
    rows: Option<Rows>,
}

/// Rows of a call with random inputs.
#[derive(Clone, Copy)]
struct Rows {
    batch: usize,
    seq_len: usize,
    /// how many are different; they come again and again
    period: usize,
}

/// What the reference made of a call.
pub(super) struct Expected {
    /// of the different rows alone, where rows come again
    outputs: Outputs,
    /// rows and steps of the first stack
    pub(super) batch: usize,
    pub(super) seq_len: usize,
    /// of the LSTMs
    pub(super) flops: u64,
    pub(super) bytes: u64,
    /// whether the network does more than LSTMs
    pub(super) has_others: bool,
}

/// How a device's outputs compare with those.
pub(super) struct Judgement {
    pub(super) max_abs_err: f64,
    /// what is wrong, if anything is
    pub(super) failure: Option<String>,
}

impl Dims {
    fn config(self) -> LstmConfig {
        let direction = if self.directions == 2 { Direction::Bidirectional } else { Direction::Forward };
        LstmConfig { num_layers: self.layers, direction, ..LstmConfig::new(self.input_size, self.hidden_size) }
    }
}

impl Subject {
    /// An LSTM with random weights.
    pub(super) fn random(dims: Dims) -> Result<Self> {
        let config = dims.config();
        config.validate()?;
        if config.num_parameters() > MAX_ELEMENTS {
            let found = config.num_parameters();
            return Err(format!("hidden {}: {found} weights are too many, expected at most {MAX_ELEMENTS}", dims.hidden_size).into());
        }
        Ok(Self { network: None, dims, model: None, references: HashMap::new(), known: HashMap::new() })
    }

    /// A model that was read.
    pub(super) fn model(network: Network, model: String) -> Result<Self> {
        let config = network.lstms().find_map(|(_, lstm)| lstm).map(Lstm::config);
        let config = config.ok_or_else(|| format!("{model}: expected an LSTM with weights in the model, found none: nothing to time"))?;
        let (layers, directions) = (config.num_layers, config.num_directions());
        let dims = Dims { layers, directions, input_size: config.input_size, hidden_size: config.hidden_size };
        Ok(Self { network: Some(network), dims, model: Some(model), references: HashMap::new(), known: HashMap::new() })
    }

    /// Makes the weights, as `torch.nn.LSTM` has them at first, uniform within `1/sqrt(hidden_size)`.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.model.is_some() {
            return Ok(());
        }
        let config = self.dims.config();
        let mut random = Random::new(1);
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let bound = 1.0 / (config.hidden_size as f64).sqrt();
        let mut uniform = || within(bound, &mut random);
        let gates = GATES * config.hidden_size;
        let cells = (0..config.num_cells()).map(|number| CellWeights {
            weight_ih: Array2::from_shape_simple_fn((gates, config.layer_input_size(number / config.num_directions())), &mut uniform),
            weight_hh: Array2::from_shape_simple_fn((gates, config.hidden_size), &mut uniform),
            bias_ih: Some(Array1::from_shape_simple_fn(gates, &mut uniform)),
            bias_hh: Some(Array1::from_shape_simple_fn(gates, &mut uniform)),
            weight_hr: None,
            peepholes: None,
            layer_norm: None,
        });
        let cells = cells.collect();
        self.network = Some(Network::from_lstm(Lstm::new(config, cells)?, false));
        Ok(())
    }

    /// Frees what was made.
    pub(super) fn end(&mut self) {
        if self.model.is_none() {
            self.network = None;
        }
        self.references.clear();
        self.known.clear();
    }

    pub(super) fn network(&self) -> &Network {
        self.network.as_ref().expect("the subject has begun")
    }

    /// A call of inputs from files.
    pub(super) fn given(&self, arguments: &[String]) -> Result<Call> {
        Ok(Call { inputs: HostInputs::read(self.network(), arguments)?, rows: None })
    }

    /// A call of random inputs.
    pub(super) fn call(&self, batch: usize, seq_len: usize) -> Result<Call> {
        if self.model.is_some() {
            return Ok(Call { inputs: HostInputs::generate(self.network(), Sizes { batch, seq_len }, 1)?, rows: None });
        }
        let config = self.dims.config();
        let widest = config.input_size.max(config.y_size());
        let numbers = batch.checked_mul(seq_len).and_then(|steps| steps.checked_mul(widest));
        if numbers.is_none_or(|numbers| numbers > MAX_ELEMENTS) {
            let shape = [seq_len, batch, widest];
            return Err(format!("a call of {shape:?} is too large, expected at most {MAX_ELEMENTS} numbers of input and output each").into());
        }
        let period = self.period(batch, seq_len);
        let mut random = Random::new(2);
        let rows = ArrayD::from_shape_simple_fn(IxDyn(&[seq_len, period, config.input_size]), || within(1.0, &mut random));
        let places: Vec<usize> = (0..batch).map(|row| row % period).collect();
        let x = rows.select(Axis(1), &places);
        Ok(Call { inputs: HostInputs::one("x", x.into()), rows: Some(Rows { batch, seq_len, period }) })
    }

    /// How many rows of such a call are different.
    fn period(&self, batch: usize, seq_len: usize) -> usize {
        let per_row = self.flops(1, seq_len).max(1);
        let affordable = usize::try_from(REFERENCE_FLOPS / per_row).unwrap_or(usize::MAX);
        let most = PERIODS.into_iter().rev().find(|period| *period <= affordable).unwrap_or(PERIODS[0]);
        batch.min(if affordable >= batch { batch } else { most })
    }

    /// Operations of the first stack in such a call.
    fn flops(&self, batch: usize, seq_len: usize) -> u64 {
        self.dims.config().flops_per_step().saturating_mul((batch as u64).saturating_mul(seq_len as u64))
    }

    /// Operations that the reference computes for such a call.
    pub(super) fn reference_flops(&self, batch: usize, seq_len: usize) -> u64 {
        let rows = if self.model.is_some() { batch } else { self.period(batch, seq_len) };
        self.flops(rows, seq_len)
    }

    /// What the reference makes of the call.
    pub(super) fn expected(&mut self, call: &Call, precision: Precision) -> Result<Expected> {
        let Some(Rows { batch, seq_len, period }) = call.rows else {
            let (outputs, parts) = self.reference(precision)?.trace(&call.inputs.inputs())?;
            return self.expected_of_model(precision, outputs, &parts);
        };
        let key = (seq_len, period, precision);
        if !self.known.contains_key(&key) {
            let rows = call.inputs.rows(period);
            let outputs = self.reference(precision)?.run(&rows.inputs())?;
            self.known.insert(key, outputs);
        }
        let bytes = self.dims.config().streamed_bytes(batch, seq_len, precision);
        Ok(Expected { outputs: self.known[&key].clone(), batch, seq_len, flops: self.flops(batch, seq_len), bytes, has_others: false })
    }

    /// The same of a model, from what its parts did: an LSTM behind a convolution has steps of its own.
    fn expected_of_model(&self, precision: Precision, outputs: Outputs, parts: &[PartRun]) -> Result<Expected> {
        let Some((seq_len, batch)) = parts.iter().find_map(|part| part.seq_len_and_batch) else {
            return Err("the call runs no LSTM: nothing to time".into());
        };
        if seq_len == 0 || batch == 0 {
            return Err(format!("a call of {batch} rows and {seq_len} steps: nothing to time").into());
        }
        let mut expected = Expected { outputs, batch, seq_len, flops: 0, bytes: 0, has_others: false };
        for part in parts {
            let config = self.network().lstms().find(|(name, _)| *name == part.name).and_then(|(_, lstm)| lstm).map(Lstm::config);
            match (part.seq_len_and_batch, config) {
                (Some((seq_len, batch)), Some(config)) => {
                    expected.flops = expected.flops.saturating_add(part.flops);
                    expected.bytes = expected.bytes.saturating_add(config.streamed_bytes(batch, seq_len, precision));
                }
                // weights that come with the call are an input of their own
                _ => expected.has_others |= part.kind != PartKind::Axes,
            }
        }
        Ok(expected)
    }

    fn reference(&mut self, precision: Precision) -> Result<&mut Session> {
        if !self.references.contains_key(&precision) {
            let options = Options { precision, tuning: Tuning::Model, ..Options::default() };
            let session = Engine::new(DeviceChoice::Reference)?.session(self.network(), options)?;
            self.references.insert(precision, session);
        }
        self.references.get_mut(&precision).ok_or_else(|| "the reference is gone".into())
    }

    /// Compares what a device made of a call with what the reference did.
    pub(super) fn judge(&mut self, call: &Call, actual: &Outputs, expected: &Expected, precision: Precision, bound: Tolerance) -> Result<Judgement> {
        if let Some(rows) = call.rows {
            return Ok(judge_rows(&|name| actual.get(name)?.as_f32(), &expected.outputs, rows, bound));
        }
        let mut reports = judge::judge(self.network(), actual, &expected.outputs, bound)?;
        if bound == TOLERANCE && reports.iter().any(|report| !report.passed) {
            judge::allow_for_sensitivity(self.reference(precision)?, &call.inputs, &expected.outputs, &mut reports)?;
        }
        let max_abs_err = reports.iter().map(|report| report.max_abs_err.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
        let failure = reports.iter().find(|report| !report.passed).map(|report| format!("output `{}`: {}", report.name, report.text));
        Ok(Judgement { max_abs_err, failure })
    }
}

/// A number from `-bound` to `bound`.
#[expect(clippy::cast_possible_truncation, reason = "float32 is what is wanted")]
fn within(bound: f64, random: &mut Random) -> f32 {
    ((2.0 * random.uniform() - 1.0) * bound) as f32
}

/// Compares outputs whose axis 1 are the rows of a batch with those of the rows that differ, which come again and again.
fn judge_rows<'a>(actual: &dyn Fn(&str) -> Option<&'a ArrayD<f32>>, expected: &Outputs, rows: Rows, bound: Tolerance) -> Judgement {
    let mut judgement = Judgement { max_abs_err: 0.0, failure: None };
    let mut fail = |max_abs_err: f64, what: String| {
        judgement.max_abs_err = judgement.max_abs_err.max(max_abs_err);
        judgement.failure.get_or_insert(what);
    };
    let mut worst = 0.0_f64;
    for (name, expected) in expected.iter() {
        let (Some(expected), Some(actual)) = (expected.as_f32(), actual(name)) else {
            fail(f64::INFINITY, format!("output `{name}`: the device did not make it"));
            continue;
        };
        let mut shape = expected.shape().to_vec();
        shape[1] = rows.batch;
        if actual.shape() != shape {
            fail(f64::INFINITY, format!("output `{name}`: expected {shape:?}, found {:?}", actual.shape()));
            continue;
        }
        let expected = expected.mapv(f64::from);
        for start in (0..rows.batch).step_by(rows.period) {
            let end = rows.batch.min(start + rows.period);
            let part = actual.slice_axis(Axis(1), Slice::from(start..end));
            let comparison = compare(part, expected.slice_axis(Axis(1), Slice::from(..end - start)), bound);
            worst = worst.max(comparison.max_abs_err);
            if !comparison.passed() {
                let text = cellgate::one_line(&comparison.to_string());
                fail(comparison.max_abs_err, format!("output `{name}`, rows from {start} on: {text}"));
            }
        }
    }
    judgement.max_abs_err = judgement.max_abs_err.max(worst);
    judgement
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DIMS: Dims = Dims { layers: 1, directions: 2, input_size: 3, hidden_size: 4 };

    fn begun(dims: Dims) -> Subject {
        let mut subject = Subject::random(dims).unwrap();
        subject.begin().unwrap();
        subject
    }

    #[test]
    fn rows_come_again_and_every_one_is_judged() {
        let mut subject = begun(DIMS);
        let mut call = subject.call(8, 5).unwrap();
        assert_eq!(call.rows.map(|rows| rows.period), Some(8), "what the reference computes quickly is all different");
        // as if it took long
        let rows = Rows { batch: 8, seq_len: 5, period: 3 };
        (call.rows, call.inputs) = (Some(rows), call.inputs.rows(3));
        let expected = subject.expected(&call, Precision::F32).unwrap();
        let whole = [0, 1, 2, 0, 1, 2, 0, 1];
        let repeated = |name: &str| expected.outputs[name].select(Axis(1), &whole);
        let judged = |change: &dyn Fn(&str, &mut ArrayD<f32>)| {
            let mut actual = BTreeMap::from(["y", "h_n", "c_n"].map(|name| (name, repeated(name))));
            actual.iter_mut().for_each(|(name, array)| change(name, array));
            judge_rows(&|name| actual.get(name), &expected.outputs, rows, TOLERANCE)
        };
        assert!(judged(&|_, _| {}).failure.is_none());
        for row in 0..8 {
            let wrong = judged(&|name, array| {
                if name == "y" {
                    array[[4, row, 7]] += 1e-3;
                }
            });
            assert!(wrong.failure.is_some_and(|failure| failure.starts_with("output `y`")) && wrong.max_abs_err > 0.9e-3, "row {row}");
        }
        // fewer rows, none, and one too many
        for wrong in [&[0, 1, 2, 0, 1, 2, 0][..], &[], &[0, 1, 2, 0, 1, 2, 0, 1, 2]] {
            let shorter = judged(&|name, array| {
                if name == "c_n" {
                    *array = expected.outputs["c_n"].select(Axis(1), wrong)
                }
            });
            assert!(shorter.failure.is_some_and(|failure| failure.contains("expected [2, 8, 4]")));
        }
        // two rows of a tile of four mixed up
        assert!(
            judged(&|name, array| if name == "h_n" {
                array.swap([0, 1, 0], [0, 5, 0])
            })
            .failure
            .is_some()
        );
    }

    #[test]
    fn long_calls_have_few_different_rows() {
        let subject = Subject::random(Dims { hidden_size: 256, input_size: 256, ..DIMS }).unwrap();
        for (batch, seq_len, period) in [(1, 100, 1), (2, 100_000, 2), (64, 100_000, 3), (64, 10, 64), (1000, 100, 7)] {
            assert_eq!(subject.period(batch, seq_len), period, "{batch} rows of {seq_len} steps");
        }
    }

    #[test]
    fn work_is_counted() {
        let dims = Dims { layers: 1, directions: 1, input_size: 3, hidden_size: 4 };
        let mut subject = begun(dims);
        let call = subject.call(2, 5).unwrap();
        let expected = subject.expected(&call, Precision::F16).unwrap();
        // 2 * 4 H (I + H) a row and step; 16 (I + H) weights, 16 H of them again in 4 steps; biases, and I + H numbers a row and step, in float32
        assert_eq!((expected.flops, expected.bytes), (2 * 16 * 7 * 10, 2 * (16 * 7 + 4 * 64) + 4 * (32 + 70)));
    }
}
