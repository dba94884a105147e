//! Which side a call of one LSTM runs on where the engine holds a GPU and the CPU, and why.
//!
//! Both times are those of whole calls, tensors on the host before and after; where an input is on the device already, or a result stays there, the
//! GPU is the better choice by that much more than this says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu::cost;
use crate::device::DeviceKind;
use crate::engine::choices::{Choices, Chosen};
use crate::engine::runner::Runner;
use crate::gpu::{GpuLstm, Split, pieces};
use crate::measure::seconds_for_people;
use crate::network::LstmConfig;

/// The largest batch at which the sides are compared for the [`Crossover`].
pub(super) const LARGEST_BATCH: usize = 1 << 16;

/// How long whole calls took on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SidesMeasurement {
    /// median of a call on the GPU, built to the winner
    pub gpu_seconds: f64,
    /// median of a call on the CPU
    pub cpu_seconds: f64,
    /// threads and vectors of the CPU: its time says nothing of others
    pub cpu: String,
}

/// From which batch on the GPU is expected to be the faster side. Powers of two are compared, and what lies between the last two that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "wins", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Crossover {
    /// the GPU, at every batch
    Gpu,
    /// the GPU from this batch on
    GpuFrom {
        /// the smallest such batch
        batch: usize,
    },
    /// the CPU, at every batch that was compared
    Cpu {
        /// the largest of these
        up_to: usize,
    },
    /// the GPU at some batches and the CPU at the largest that was compared, as where the GPU has to run many blocks of rows
    Either {
        /// the largest that was compared
        up_to: usize,
    },
}

impl fmt::Display for Crossover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu => f.write_str("the GPU wins at every batch"),
            Self::GpuFrom { batch } => write!(f, "the GPU wins from batch {batch} on"),
            Self::Cpu { up_to } => write!(f, "the CPU wins at every batch up to {up_to}"),
            Self::Either { up_to } => write!(f, "the GPU wins at some batches, the CPU at {up_to}"),
        }
    }
}

impl Crossover {
    /// The crossover where the GPU is the faster side for a batch if `gpu_wins` says so.
    pub(super) fn find(gpu_wins: impl Fn(usize) -> bool) -> Self {
        let powers = || (0..=LARGEST_BATCH.ilog2()).map(|power| 1_usize << power);
        let Some(lost) = powers().rfind(|&batch| !gpu_wins(batch)) else { return Self::Gpu };
        if lost == LARGEST_BATCH {
            return if powers().any(gpu_wins) { Self::Either { up_to: lost } } else { Self::Cpu { up_to: lost } };
        }
        let (mut lost, mut won) = (lost, 2 * lost);
        while won - lost > 1 {
            let middle = usize::midpoint(lost, won);
            if gpu_wins(middle) { won = middle } else { lost = middle }
        }
        Self::GpuFrom { batch: won }
    }
}

impl SidesMeasurement {
    /// Whether they were measured on a CPU like this one.
    pub(super) fn is_of_this_host(&self) -> bool {
        self.cpu == cost::describe_host()
    }
}

/// What a call of one LSTM is expected to take on each side.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Estimate {
    /// or why it cannot run there
    pub(super) gpu: Result<f64, String>,
    pub(super) cpu: f64,
    /// whether both follow from calls that were measured
    measured: bool,
}

impl Estimate {
    /// Of a call that the GPU cannot run, and why.
    pub(super) fn of_cpu(runner: &Runner, batch: usize, seq_len: usize, why: String) -> Self {
        Self { gpu: Err(why), cpu: cpu_seconds(runner.config(), batch, seq_len), measured: false }
    }

    /// The side that is expected to be the faster.
    pub(super) fn side(&self) -> DeviceKind {
        if self.gpu.as_ref().is_ok_and(|gpu| *gpu <= self.cpu) { DeviceKind::Gpu } else { DeviceKind::Cpu }
    }

    /// Why it is that one.
    pub(super) fn why(&self) -> String {
        let how = if self.measured { "by what was measured" } else { "expected" };
        let cpu = seconds_for_people(self.cpu);
        match &self.gpu {
            Err(why) => format!("CPU: the GPU cannot: {why}"),
            Ok(gpu) if self.side() == DeviceKind::Gpu => format!("GPU: {} {how}, CPU {cpu}", seconds_for_people(*gpu)),
            Ok(gpu) => format!("CPU: {cpu} {how}, GPU {}", seconds_for_people(*gpu)),
        }
    }
}

/// What a call is expected to take on this host's CPU.
pub(super) fn cpu_seconds(config: &LstmConfig, batch: usize, seq_len: usize) -> f64 {
    cost::predict(config, batch, seq_len, rayon::current_num_threads(), &cost::CpuRates::of_host())
}

/// What a call of `batch` rows and `seq_len` steps is expected to take on each side, as far as is known now.
pub(super) fn estimate(choices: &Choices, runner: &Runner, batch: usize, seq_len: usize) -> Estimate {
    let split = match (runner.gpu(), runner.unable()) {
        (Some(gpu), None) => gpu.split(batch, seq_len).map(|split| (gpu, split)).map_err(|error| error.to_string()),
        (_, why) => Err(why.unwrap_or("it is not there").to_owned()),
    };
    match split {
        Ok((gpu, split)) => on_both(choices, gpu, split, [batch, seq_len]),
        Err(why) => Estimate::of_cpu(runner, batch, seq_len, why),
    }
}

/// The model's times, each as many times as long as measured calls took it; those of the CPU are known where blocks of as many rows were measured.
fn on_both(choices: &Choices, gpu: &GpuLstm, split: Split, [batch, seq_len]: [usize; 2]) -> Estimate {
    let blocks: Vec<(usize, usize, Chosen)> = pieces(batch, split.rows).map(|(rows, times)| (rows, times, choices.look(gpu, rows))).collect();
    let measured = !blocks.is_empty() && blocks.iter().all(|(.., chosen)| chosen.sides.is_some());
    let (mut gpu_seconds, mut cpu_factor) = (0.0, 1.0);
    for (rows, times, chosen) in &blocks {
        let segments = pieces(seq_len, split.steps).map(|(steps, count)| count as f64 * gpu.predict_call(*rows, steps, chosen.choice));
        let mut factor = 1.0;
        if let (true, Some(sides)) = (measured, &chosen.sides) {
            factor = sides.gpu_seconds / gpu.predict_call(*rows, chosen.measured_steps, chosen.choice);
            // the largest block comes last
            cpu_factor = sides.cpu_seconds / cpu_seconds(gpu.config(), *rows, chosen.measured_steps);
        }
        gpu_seconds += *times as f64 * factor * segments.sum::<f64>();
    }
    Estimate { gpu: Ok(gpu_seconds), cpu: cpu_factor * cpu_seconds(gpu.config(), batch, seq_len), measured }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::device::Hardware;
    use crate::gpu::pack::pack;
    use crate::gpu::plan::{self, DeviceProfile};
    use crate::network::{CellWeights, Lstm, Precision};

    #[test]
    fn the_crossover_is_the_batch_from_which_the_gpu_wins() {
        for batch in [2, 3, 5, 64, 65, 1000, LARGEST_BATCH] {
            assert_eq!(Crossover::find(|rows| rows >= batch), Crossover::GpuFrom { batch }, "{batch}");
        }
        assert_eq!(Crossover::find(|_| true), Crossover::Gpu);
        assert_eq!(Crossover::find(|_| false), Crossover::Cpu { up_to: 65_536 });
        assert_eq!(Crossover::find(|rows| rows < 100), Crossover::Either { up_to: 65_536 });
        assert_eq!(Crossover::find(|rows| rows == 4 || rows > 30), Crossover::GpuFrom { batch: 31 });
    }

    #[test]
    fn the_faster_side_is_chosen_and_a_gpu_that_cannot_is_not() {
        let estimate = |gpu: Result<f64, &str>, cpu, measured| Estimate { gpu: gpu.map_err(str::to_owned), cpu, measured };
        let cases = [
            (estimate(Ok(3.1e-3), 0.9e-3, false), DeviceKind::Cpu, "CPU: 900.0 us expected, GPU 3.10 ms"),
            (estimate(Ok(1e-3), 2e-3, true), DeviceKind::Gpu, "GPU: 1.00 ms by what was measured, CPU 2.00 ms"),
            (estimate(Ok(1.0), 1.0, false), DeviceKind::Gpu, "GPU: 1.00 s expected, CPU 1.00 s"),
            (estimate(Err("no room"), 9.0, false), DeviceKind::Cpu, "CPU: the GPU cannot: no room"),
        ];
        for (estimate, side, why) in cases {
            assert_eq!((estimate.side(), &estimate.why()[..]), (side, why));
        }
    }

    /// The models of both sides agree with what everybody sees: a row or two are not worth a submit, large layers are a GPU's.
    #[test]
    fn a_typical_gpu_wins_large_calls_and_loses_small_ones() {
        let rates = cost::CpuRates::typical(8);
        for (hardware, threads) in [(Hardware::Discrete, 8), (Hardware::Integrated, 4)] {
            let profile = DeviceProfile::least(hardware);
            let crossover = |hidden: usize, seq_len: usize| {
                let config = LstmConfig { bias: false, ..LstmConfig::new(hidden, hidden) };
                let weight = Array2::zeros((4 * hidden, hidden));
                let cell = CellWeights {
                    weight_ih: weight.clone(),
                    weight_hh: weight,
                    bias_ih: None,
                    bias_hh: None,
                    weight_hr: None,
                    peepholes: None,
                    layer_norm: None,
                };
                let lstm = Lstm::new(config.clone(), vec![cell]).expect("it is valid");
                let layout = pack(&lstm, Precision::F32, profile.max_binding_bytes).expect("it fits").layout;
                Crossover::find(|batch| {
                    let (choice, _) = plan::ranked(&config, &layout, batch, None, &profile)[0];
                    let bytes = 4 * (2 * seq_len * batch * hidden) as u64;
                    let device = plan::cost(&config, Precision::F32, batch, seq_len, choice, &profile).seconds();
                    device + profile.model.transfer_seconds(bytes) <= cost::predict(&config, batch, seq_len, threads, &rates)
                })
            };
            let found =
                [(32, 1), (64, 10), (64, 100), (128, 100), (256, 100), (512, 100), (1024, 100)].map(|(hidden, steps)| crossover(hidden, steps));
            eprintln!("{hardware:?}, {threads} threads: {found:?}");
            assert!(found[..2].iter().all(|crossover| !matches!(crossover, Crossover::Gpu)), "{hardware:?}: {found:?}");
            assert!(found[3..].iter().all(|crossover| matches!(crossover, Crossover::Gpu | Crossover::GpuFrom { .. })), "{hardware:?}: {found:?}");
        }
    }

    #[test]
    fn times_of_another_cpu_say_nothing_of_this_one() {
        let here = SidesMeasurement { gpu_seconds: 1.0, cpu_seconds: 1.0, cpu: cost::describe_host() };
        assert!(here.is_of_this_host());
        assert!(!SidesMeasurement { cpu: "4096 threads".to_owned(), ..here }.is_of_this_host());
    }
}
