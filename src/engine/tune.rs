//! Timing candidates on the device, each checked against the others, and the winner beside the CPU where the engine holds both.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::{Array3, Array4, s};
use serde::{Deserialize, Serialize};

use crate::compare::{Tolerance, compare};
use crate::cpu::cost;
use crate::device::DeviceKind;
use crate::engine::Session;
use crate::engine::node::NodeRunner;
use crate::engine::runner::Runner;
use crate::engine::sides::SidesMeasurement;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::form::{Choice, ScheduleName};
use crate::gpu::plan::Cost;
use crate::gpu::{GpuLstm, Wait, pieces};
use crate::measure::Summary;
use crate::network::{InitialState, LstmCall, LstmConfig, LstmResults};

/// Candidates that are timed for a number of rows: the cheapest by the cost model, and of every schedule at least [`OF_EACH`].
const MAX_MEASURED: usize = 12;

/// See [`MAX_MEASURED`]: the model may be wrong about a whole schedule.
const OF_EACH: usize = 2;

/// No candidate is begun after so long.
const TOTAL: Duration = Duration::from_secs(4);

/// A candidate is timed until it has been for so long, or [`MAX_SAMPLES`] times.
const EACH: Duration = Duration::from_millis(150);

/// See [`EACH`].
const MAX_SAMPLES: usize = 15;

/// A candidate whose first call takes so many times as long as the best one's is not timed again.
const HOPELESS: f64 = 3.0;

/// Calls that would take longer than this, by the cost model, have fewer steps.
const CALL_SECONDS: f64 = 0.05;

/// Steps that a call has at least if it was to have as many: what comes before and after them should not decide.
const FEWEST_STEPS: usize = 16;

/// Numbers that the inputs and results of a call may have together.
const MAX_NUMBERS: usize = 1 << 25;

/// How far the results of two candidates may be apart: each is held to `1e-5 * (1 + |value|)` from the exact ones.
const APART: Tolerance = Tolerance { atol: 2e-5, rtol: 2e-5 };

/// Where a network makes much of rounding: so many times what it makes of one rounding of its inputs, as `cellgate verify` allows.
const NUDGES: f64 = 8.0;

/// A tenth of the values: a bound this wide judges nothing any more.
const UNDETERMINED: f64 = 0.1;

/// Steps of the calls that are compared.
const JUDGED_STEPS: usize = 32;

const ZEROS: InitialState<'static> = InitialState { h: None, c: None };

/// What [`Session::tune`](crate::Session::tune) found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TuneReport {
    /// every LSTM and number of rows at once that calls of this batch have; none where the device is not a GPU
    pub lstms: Vec<LstmTuning>,
    /// the file that keeps the winners, if one does
    pub records: Option<PathBuf>,
    /// what went wrong with the records, of earlier calls as well
    pub notes: Vec<String>,
}

/// What was found out about one LSTM and one number of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmTuning {
    /// its node name
    pub node: String,
    /// rows of a block; a batch may be several
    pub rows: usize,
    /// steps of the calls that were timed: fewer than asked for where that would have taken too long
    pub seq_len: usize,
    /// every candidate, cheapest first by the cost model
    pub candidates: Vec<CandidateReport>,
    /// the fastest of those that were measured
    pub winner: Choice,
    /// whole calls on the GPU and on the CPU, on an engine that holds both
    pub sides: Option<SidesMeasurement>,
    /// how long it all took
    pub seconds: f64,
}

/// What was found out about one candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CandidateReport {
    /// what calls were built to
    pub choice: Choice,
    /// the same for people
    pub schedule: String,
    /// what the cost model expects of a call
    pub predicted_seconds: f64,
    /// median time of a call; `None` where it was not measured, or does not count
    pub measured_seconds: Option<f64>,
    /// whether it was to be measured; the others are not among the best by the cost model
    pub tried: bool,
    /// how many calls were timed
    pub n: usize,
    /// why it was not measured, not to the end, or does not count
    pub why_not: Option<String>,
}

/// How long calls took that were built to `choice`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// what they were built to
    pub choice: Choice,
    /// median of a call
    pub seconds: f64,
    /// calls
    pub n: usize,
}

/// What [`measure`] found out.
pub(super) struct Measured {
    pub(super) seq_len: usize,
    pub(super) candidates: Vec<CandidateReport>,
    /// those that count, fastest first
    pub(super) measurements: Vec<Measurement>,
    pub(super) winner: Choice,
    pub(super) sides: Option<SidesMeasurement>,
    pub(super) elapsed: Duration,
}

/// Times calls of `rows` rows and up to `seq_len` steps of random numbers, on a GPU and, where the stack has it as well, on the CPU.
pub(super) async fn measure(runner: &mut Runner, rows: usize, seq_len: usize, wait: Wait) -> Result<Measured> {
    let start = Instant::now();
    let gpu = runner.uploaded_gpu().await?;
    let ranked = gpu.candidates(rows);
    let measured = worth_measuring(&ranked);
    let seq_len = affordable_steps(gpu, rows, seq_len, ranked[0].0)?;
    let bench = Bench::new(gpu, rows, seq_len, ranked[0].0, wait).await?;
    let seq_len = bench.seq_len();
    let (mut candidates, mut best) = (Vec::new(), f64::INFINITY);
    for ((choice, _), worth) in ranked.iter().zip(measured) {
        let predicted_seconds = gpu.predict(rows, seq_len, *choice).seconds();
        let mut report = CandidateReport {
            choice: *choice,
            schedule: choice.schedule.to_string(),
            predicted_seconds,
            measured_seconds: None,
            tried: worth,
            n: 0,
            why_not: None,
        };
        if !worth {
            report.why_not = Some(format!("not among the {MAX_MEASURED} that the cost model thinks best"));
        } else if start.elapsed() > TOTAL && best.is_finite() {
            report.why_not = Some(format!("the {} s for measuring were over", TOTAL.as_secs()));
        } else {
            match bench.time(gpu, *choice, best, wait).await {
                Ok(timed) => {
                    (report.n, report.why_not) = (timed.samples, timed.note);
                    if let Some(seconds) = timed.seconds {
                        best = best.min(seconds);
                        report.measured_seconds = Some(seconds);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::DeviceLost | ErrorKind::Timeout) => return Err(error),
                Err(error) => report.why_not = Some(format!("it does not run: {error}")),
            }
        }
        candidates.push(report);
    }
    // what does not win is not needed any more
    gpu.forget_plans();
    let measurement = |report: &CandidateReport| Some(Measurement { choice: report.choice, seconds: report.measured_seconds?, n: report.n });
    let mut measurements: Vec<Measurement> = candidates.iter().filter_map(measurement).collect();
    measurements.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Some(winner) = measurements.first().map(|measurement| measurement.choice) else {
        let reasons = candidates.iter().filter_map(|report| report.why_not.as_deref()).next().unwrap_or("there are none");
        return Err(Error::new(ErrorKind::Validation, format!("tune: expected a candidate that runs, found that the first does not: {reasons}")));
    };
    let sides = if runner.only_side().is_none() { Some(time_sides(runner, &bench.x, winner, wait).await?) } else { None };
    Ok(Measured { seq_len, candidates, measurements, winner, sides, elapsed: start.elapsed() })
}

/// Times whole calls on both sides, `x` and `y` on the host.
async fn time_sides(runner: &mut Runner, x: &Array3<f32>, winner: Choice, wait: Wait) -> Result<SidesMeasurement> {
    let call = LstmCall { x: x.view(), sequence_lens: None };
    let mut y = Array4::zeros((call.seq_len(), call.batch(), runner.config().num_directions(), runner.config().out_size()));
    let mut seconds = [0.0; 2];
    for (seconds, side) in seconds.iter_mut().zip([DeviceKind::Gpu, DeviceKind::Cpu]) {
        runner.prepare(side).await?;
        let mut state = runner.new_state(side, call.batch(), call.seq_len(), |_| winner).await?;
        let mut timer = CallTimer::default();
        // the first call makes the plan
        while timer.goes_on() {
            let start = Instant::now();
            runner.run(&call, Some(&ZEROS), &mut state, LstmResults { y: Some(y.view_mut()), ..LstmResults::default() }, wait).await?;
            timer.add(start.elapsed());
        }
        *seconds = timer.median().unwrap_or(f64::INFINITY);
    }
    let [gpu_seconds, cpu_seconds] = seconds;
    Ok(SidesMeasurement { gpu_seconds, cpu_seconds, cpu: cost::describe_host() })
}

/// Times of calls of one kind; the first warms up and does not count.
#[derive(Default)]
struct CallTimer {
    warm: bool,
    samples: Vec<Duration>,
}

impl CallTimer {
    fn goes_on(&self) -> bool {
        self.samples.len() < MAX_SAMPLES && self.samples.iter().sum::<Duration>() <= EACH
    }

    fn add(&mut self, elapsed: Duration) {
        if std::mem::replace(&mut self.warm, true) {
            self.samples.push(elapsed);
        }
    }

    fn median(&self) -> Option<f64> {
        Summary::of_durations(&self.samples).map(|summary| summary.median)
    }
}

/// Which candidates, cheapest first, are timed.
fn worth_measuring(ranked: &[(Choice, Cost)]) -> Vec<bool> {
    let mut worth = vec![false; ranked.len()];
    let mut left = MAX_MEASURED.min(ranked.len());
    for name in ScheduleName::ALL {
        let of_it = (0..ranked.len()).filter(|&place| ranked[place].0.schedule.name() == name).take(OF_EACH);
        for place in of_it.take(left).collect::<Vec<_>>() {
            worth[place] = true;
            left -= 1;
        }
    }
    for worth in worth.iter_mut().filter(|worth| !**worth).take(left) {
        *worth = true;
    }
    worth
}

/// As many steps of the `seq_len` as a call of one segment has within [`CALL_SECONDS`] and [`MAX_NUMBERS`].
fn affordable_steps(gpu: &GpuLstm, rows: usize, seq_len: usize, cheapest: Choice) -> Result<usize> {
    let steps = gpu.split(rows, seq_len)?.steps.min(seq_len);
    let seconds = gpu.predict(rows, steps, cheapest).seconds();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of steps")]
    let by_time = if seconds > CALL_SECONDS { (steps as f64 * CALL_SECONDS / seconds) as usize } else { steps };
    let by_memory = MAX_NUMBERS / (rows * (gpu.config().input_size + 3 * gpu.config().y_size()));
    Ok(steps.min(by_time.max(FEWEST_STEPS)).min(by_memory).max(1))
}

/// Calls that differ in nothing but what they are built to.
struct Bench {
    /// `[T, N, I]`
    x: Array3<f32>,
    judge: Judge,
}

/// What the first candidate made of a short call, and how far another one may be from it.
struct Judge {
    /// `[short T, N, I]`
    x: Array3<f32>,
    /// `[short T, N, D, R]`
    expected: Array4<f64>,
    tolerance: Tolerance,
    /// the first candidate
    name: String,
}

struct Timed {
    seconds: Option<f64>,
    samples: usize,
    note: Option<String>,
}

impl Judge {
    /// Runs the first candidate on inputs as they are and on inputs that are one rounding off: what a network makes of that, its candidates may
    /// make of theirs. Where that is too much to tell right from wrong, the call has fewer steps. Returns also how long a step takes.
    async fn new(gpu: &mut GpuLstm, x: &Array3<f32>, choice: Choice, wait: Wait) -> Result<(Self, f64)> {
        let mut steps = x.dim().0.min(JUDGED_STEPS);
        loop {
            let x = x.slice(s![..steps, .., ..]).to_owned();
            let expected = run_short(gpu, &x, choice, wait).await?.mapv(f64::from);
            let start = Instant::now();
            let moved = run_short(gpu, &x.mapv(f32::next_up), choice, wait).await?;
            let seconds = start.elapsed().as_secs_f64() / steps as f64;
            let ratio = compare(moved.view().into_dyn(), expected.view().into_dyn(), APART).worst.map_or(0.0, |worst| worst.ratio);
            let allowed = (NUDGES * ratio).max(1.0);
            if allowed * APART.atol <= UNDETERMINED || steps == 1 {
                let allowed = allowed.min(UNDETERMINED / APART.atol);
                let tolerance = Tolerance { atol: allowed * APART.atol, rtol: allowed * APART.rtol };
                return Ok((Self { x, expected, tolerance, name: choice.schedule.to_string() }, seconds));
            }
            steps /= 2;
        }
    }
}

impl Bench {
    /// Random inputs for calls of `seq_len` steps, or fewer where one would take too long.
    async fn new(gpu: &mut GpuLstm, rows: usize, seq_len: usize, first: Choice, wait: Wait) -> Result<Self> {
        let mut state = 1_u64;
        let mut x = Array3::from_shape_simple_fn((seq_len, rows, gpu.config().input_size), || {
            // a linear congruential generator (Knuth's MMIX); its upper bits are random enough for inputs from -1 to 1
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        });
        let (judge, step_seconds) = Judge::new(gpu, &x, first, wait).await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of steps")]
        let affordable = ((CALL_SECONDS / step_seconds) as usize).max(FEWEST_STEPS);
        if affordable < seq_len {
            x = x.slice(s![..affordable, .., ..]).to_owned();
        }
        Ok(Self { x, judge })
    }

    fn seq_len(&self) -> usize {
        self.x.dim().0
    }

    /// Times one candidate. Its first call makes its pipelines and is compared, its second makes its plan; neither is timed.
    async fn time(&self, gpu: &mut GpuLstm, choice: Choice, best: f64, wait: Wait) -> Result<Timed> {
        let Judge { x, expected, tolerance, name } = &self.judge;
        let comparison = compare(run_short(gpu, x, choice, wait).await?.view().into_dyn(), expected.view().into_dyn(), *tolerance);
        if !comparison.passed() {
            let (found, allowed) = (comparison.max_abs_err, tolerance.atol);
            let note = format!("its results differ from those of `{name}` by up to {found:.1e}, allowed are {allowed:.1e} * (1 + |value|)");
            return Ok(Timed { seconds: None, samples: 0, note: Some(note) });
        }
        let call = LstmCall { x: self.x.view(), sequence_lens: None };
        let mut state = gpu.new_state(call.batch(), call.seq_len(), |_| choice).await?;
        let mut timer = CallTimer::default();
        while timer.goes_on() {
            let start = Instant::now();
            gpu.run(&call, Some(&ZEROS), &mut state, LstmResults::default(), wait).await?;
            let elapsed = start.elapsed();
            if !timer.warm && elapsed.as_secs_f64() > HOPELESS * best {
                let note = format!("called once: more than {HOPELESS} times the best so far");
                return Ok(Timed { seconds: Some(elapsed.as_secs_f64()), samples: 1, note: Some(note) });
            }
            timer.add(elapsed);
        }
        Ok(Timed { seconds: timer.median(), samples: timer.samples.len(), note: None })
    }
}

/// `y [T, N, D, R]` of a call of its own.
async fn run_short(gpu: &mut GpuLstm, x: &Array3<f32>, choice: Choice, wait: Wait) -> Result<Array4<f32>> {
    let (seq_len, rows, _) = x.dim();
    let mut y = Array4::zeros((seq_len, rows, gpu.config().num_directions(), gpu.config().out_size()));
    let mut state = gpu.new_state(rows, seq_len, |_| choice).await?;
    let call = LstmCall { x: x.view(), sequence_lens: None };
    gpu.run(&call, Some(&ZEROS), &mut state, LstmResults { y: Some(y.view_mut()), ..LstmResults::default() }, wait).await?;
    Ok(y)
}

impl Session {
    /// Measures on the device which schedule, in which form, is the fastest for calls of `batch` rows, and builds later calls to it. The
    /// winner goes to the records, so that later sessions find it ([`Tuning`](crate::Tuning)), unless this session was told to leave those alone.
    /// On an engine that holds a GPU and the CPU, whole calls of the winner are timed beside the CPU's, and later calls of as many rows run where
    /// these were the faster, times for other numbers of steps following from both.
    ///
    /// Calls with random inputs of `seq_len` steps, or fewer where one would take too long, are timed for a few seconds for every LSTM of the
    /// network; the report says what was skipped. States and streams that were made before keep what they were made for.
    ///
    /// ```
    /// use cellgate::{DeviceChoice, Engine, Network, Options};
    ///
    /// let network = Network::open("assets/char-lm.safetensors")?;
    /// let mut session = Engine::new(DeviceChoice::Cpu)?.session(&network, Options::default())?;
    /// assert!(session.tune(1, 100)?.lstms.is_empty(), "a CPU has nothing to choose from");
    /// # Ok::<(), cellgate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where [`Options::choice`](crate::Options) leaves nothing to measure, the call would be
    /// empty, or weights come with each call; [`ErrorKind::Limit`](crate::ErrorKind::Limit) where the device cannot hold the call; the device's
    /// own errors.
    pub fn tune(&mut self, batch: usize, seq_len: usize) -> Result<TuneReport> {
        pollster::block_on(self.tune_and_wait(batch, seq_len, Wait::Block))
    }

    /// As [`Session::tune`], for callers that cannot block; where it blocks all the same, [`Session::run_async`] says.
    ///
    /// # Errors
    /// As [`Session::tune`].
    pub async fn tune_async(&mut self, batch: usize, seq_len: usize) -> Result<TuneReport> {
        self.tune_and_wait(batch, seq_len, Wait::Async).await
    }

    async fn tune_and_wait(&mut self, batch: usize, seq_len: usize, wait: Wait) -> Result<TuneReport> {
        if self.options.choice.is_some() {
            return Err(Error::config("tune: expected several candidates, found a session whose options choose one"));
        }
        if batch == 0 || seq_len == 0 {
            return Err(Error::config(format!("tune: expected a row and a step at least, found batch {batch}, seq_len {seq_len}")));
        }
        self.renew().await?;
        let mut lstms: Vec<LstmTuning> = Vec::new();
        let mut tuned: Vec<(LstmConfig, usize)> = Vec::new();
        for (node, runner) in self.network.nodes.iter().zip(&mut self.nodes) {
            let Some(running) = &mut runner.runner else {
                return Err(Error::config(format!("{}: tune: needs weights in the model, found weights given with each call", node.name)));
            };
            let Some(gpu) = running.gpu() else { continue };
            let split = gpu.split(batch, seq_len).map_err(|error| error.within(&node.name))?;
            for (rows, _) in pieces(batch, split.rows) {
                // LSTMs of the same kind share a choice
                if tuned.iter().any(|(config, known)| config == running.config() && *known == rows) {
                    continue;
                }
                let Some(key) = running.gpu().map(|gpu| self.choices.key(gpu, rows)) else { continue };
                let measured = measure(running, rows, seq_len, wait).await.map_err(|error| error.within(&node.name))?;
                self.choices.keep(key, &measured);
                tuned.push((running.config().clone(), rows));
                let Measured { seq_len, candidates, winner, sides, elapsed, .. } = measured;
                lstms.push(LstmTuning { node: node.name.clone(), rows, seq_len, candidates, winner, sides, seconds: elapsed.as_secs_f64() });
            }
        }
        // plain calls start anew anyway; their next states are for what has won
        self.nodes.iter_mut().for_each(NodeRunner::forget_choices);
        let records = self.choices.written().filter(|_| !lstms.is_empty()).map(Path::to_owned);
        Ok(TuneReport { lstms, records, notes: self.choices.notes().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::form::{ProductForm, ResidentForm, RowForm, Schedule};

    #[test]
    fn every_schedule_is_measured_and_no_more_than_a_dozen() {
        let input = ProductForm::Rows(RowForm { workgroup_size: 64, rows: 1, k_lanes: 1, subgroups: false });
        let rows = |k_lanes| ProductForm::Rows(RowForm { workgroup_size: 64, rows: 1, k_lanes, subgroups: false });
        let resident = ResidentForm { workgroup_size: 64, rows: 1, units: 1, k_lanes: 1, held: false };
        let mut schedules: Vec<Schedule> = (0..20).map(|k| Schedule::PerStep(rows(k))).collect();
        schedules.extend((0..5).map(|k| Schedule::Wavefront(rows(k))));
        schedules.push(Schedule::Resident(resident));
        let cost = Cost { input_seconds: 0.0, recurrent_seconds: 1.0 };
        let ranked: Vec<_> = schedules.into_iter().map(|schedule| (Choice { schedule, input }, cost)).collect();
        let worth = worth_measuring(&ranked);
        let places: Vec<usize> = (0..ranked.len()).filter(|&place| worth[place]).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 25]);
        assert_eq!(worth_measuring(&ranked[..5]), [true; 5]);
        assert!(worth_measuring(&[]).is_empty());
    }
}
