//! What a stack is expected to take on the CPU: arithmetic, weights streamed at every step, inputs and outputs, and what threads wait for each other,
//! from the figures of a typical processor with the vectors that this one has.

use super::fused::Plan;
use super::panels::{lanes, most_rows};
use super::plain;
use crate::network::{GATES, LstmConfig};

/// How many times as long the library's product and plain loops take.
const PLAIN: f64 = 4.0;

/// What one thread of a processor does, and what threads share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuRates {
    /// float32 of a vector
    pub(crate) lanes: usize,
    /// multiplications and additions per second in products of many rows
    pub(crate) flops: f64,
    /// rows that share one pass over the weights
    pub(crate) tile_rows: usize,
    /// caches from the nearest on: bytes for one thread, and bytes per second at which a thread streams weights that fit
    pub(crate) caches: [(f64, f64); 2],
    /// the last cache: bytes for all threads together, and bytes per second for one
    pub(crate) shared_cache: (f64, f64),
    /// bytes per second that memory gives to all threads together
    pub(crate) memory_bytes: f64,
    /// activations and state of one unit and row
    pub(crate) cell_seconds: f64,
    /// what a step costs threads that share it, whatever they exchange
    pub(crate) exchange_seconds: f64,
    /// for a value that they exchange
    pub(crate) value_seconds: f64,
    /// what it costs to hand blocks of rows to other threads
    pub(crate) spread_seconds: f64,
    /// what a call costs whatever it does
    pub(crate) call_seconds: f64,
}

impl CpuRates {
    /// Typical figures of a processor with vectors of so many float32. Those of 16 were measured on a server's core; a half and a quarter of the
    /// width does as much less arithmetic, and the nearest caches give as much less to a load.
    pub(crate) fn typical(lanes: usize) -> Self {
        let share = lanes as f64 / 16.0;
        let nearest = 130e9 * share;
        Self {
            lanes,
            flops: 140e9 * share,
            tile_rows: most_rows(lanes),
            caches: [(32.0 * 1024.0, nearest), (1024.0 * 1024.0, nearest.min(80e9 * share.max(0.5)))],
            shared_cache: (32.0 * 1024.0 * 1024.0, 32e9),
            memory_bytes: 20e9,
            cell_seconds: 1.3e-9 / share,
            exchange_seconds: 0.3e-6,
            value_seconds: 1.5e-9,
            spread_seconds: 10e-6,
            call_seconds: 2e-6,
        }
    }

    /// Typical figures of this processor.
    pub(crate) fn of_host() -> Self {
        Self::typical(lanes())
    }

    /// What `threads` threads take to go `passes` times through `bytes` of weights, each through its share.
    fn stream_seconds(&self, bytes: f64, passes: f64, threads: f64) -> f64 {
        let own = bytes / threads;
        let [_, (_, own_rate)] = self.caches;
        let (shared, shared_rate) = self.shared_cache;
        let nearest = self.caches.iter().find(|(size, _)| own <= *size).map(|(_, rate)| *rate);
        // more threads than memory has bandwidth for wait for each other
        let of_memory = shared_rate.min(self.memory_bytes / threads);
        let rate = nearest.unwrap_or(if bytes <= shared { shared_rate } else { of_memory });
        // what came from afar is used for several tiles of rows before it goes
        own / rate + (passes - 1.0).max(0.0) * own / rate.max(own_rate)
    }

    /// A product of `rows` rows with `parameters` weights on `threads` threads.
    fn product_seconds(&self, parameters: f64, rows: usize, width: f64, threads: f64) -> f64 {
        let passes = rows.div_ceil(self.tile_rows) as f64;
        let arithmetic = 2.0 * parameters * rows as f64 * width / (self.flops * threads);
        arithmetic.max(self.stream_seconds(parameters * size_of::<f32>() as f64 * width, passes, threads))
    }
}

/// What this host's measurements are valid for: another number of threads, or other vectors, would give others.
pub(crate) fn describe_host() -> String {
    format!("{} threads, vectors of {}", rayon::current_num_threads(), lanes())
}

/// What a call of `batch` rows and `seq_len` steps is expected to take on `threads` threads, tensors on the host before and after.
pub(crate) fn predict(config: &LstmConfig, batch: usize, seq_len: usize, threads: usize, rates: &CpuRates) -> f64 {
    if super::is_fused(config) {
        return rates.call_seconds + Plan::new(config, batch, seq_len, threads, rates).seconds(config, batch, seq_len, rates);
    }
    let blocks = plain::blocks(batch, threads);
    rates.call_seconds + rates.spread_seconds + PLAIN * walk_seconds(config, batch.div_ceil(blocks.max(1)), seq_len, 1, rates)
}

/// A block of rows on one thread, or with so many members that share every step.
pub(super) fn walk_seconds(config: &LstmConfig, rows: usize, seq_len: usize, members: usize, rates: &CpuRates) -> f64 {
    let (dirs, hidden, out) = (config.num_directions() as f64, config.hidden_size as f64, config.out_size() as f64);
    let (steps, num_rows, threads) = (seq_len as f64, rows as f64, members as f64);
    // float64 within a step where rounding grows: half as many numbers in a vector, and twice the bytes
    let width = if config.amplifies_rounding() { 2.0 } else { 1.0 };
    let cells = dirs * num_rows * hidden * rates.cell_seconds * width / threads;
    let recurrent = rates.product_seconds(dirs * GATES as f64 * hidden * out, rows, width, threads);
    let projection = config.proj_size.map_or(0.0, |proj| rates.product_seconds(dirs * proj as f64 * hidden, rows, width, threads));
    let exchanged = dirs * num_rows * (hidden + config.proj_size.map_or(0.0, |proj| proj as f64));
    let exchanges = if config.proj_size.is_some() { 2.0 } else { 1.0 };
    let exchange = if members > 1 { exchanges * rates.exchange_seconds + exchanged * rates.value_seconds } else { 0.0 };
    let step = recurrent + projection + cells + exchange;
    let layer = |layer: usize| {
        let input_size = config.layer_input_size(layer) as f64;
        let inputs = rates.product_seconds(dirs * GATES as f64 * hidden * input_size, rows.saturating_mul(seq_len), width, threads);
        // what a layer reads and writes beside its weights
        let activations = (input_size + config.y_size() as f64) * num_rows * steps * size_of::<f32>() as f64;
        inputs + steps * step + rates.stream_seconds(activations, 1.0, threads)
    };
    (0..config.num_layers).map(layer).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CellActivations, Direction};

    const RATES: fn() -> CpuRates = || CpuRates::typical(16);

    fn seconds(config: &LstmConfig, batch: usize, seq_len: usize, threads: usize) -> f64 {
        predict(config, batch, seq_len, threads, &RATES())
    }

    /// Sizes around every border of the model: tiles of rows, caches, odd numbers.
    const SIZES: [usize; 14] = [1, 2, 5, 6, 7, 12, 13, 44, 45, 64, 181, 256, 500, 1024];

    #[test]
    fn more_of_anything_takes_longer_and_more_threads_do_not() {
        let rises = |what: &str, values: Vec<f64>| {
            assert!(values.iter().all(|value| value.is_finite() && *value > 0.0), "{what}: {values:?}");
            assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{what}: {values:?}");
        };
        let of = |input, hidden| LstmConfig::new(input, hidden);
        for other in [1, 7, 64, 300] {
            for threads in [1, 2, 16] {
                let each = |seconds: &dyn Fn(usize) -> f64| SIZES.iter().map(|&size| seconds(size)).collect::<Vec<_>>();
                rises("batch", each(&|batch| seconds(&of(other, other), batch, 10, threads)));
                rises("seq_len", each(&|steps| seconds(&of(other, other), other, steps, threads)));
                rises("input_size", each(&|input| seconds(&of(input, other), 3, 10, threads)));
                rises("hidden_size", each(&|hidden| seconds(&of(other, hidden), 3, 10, threads)));
                rises("num_layers", each(&|num_layers| seconds(&LstmConfig { num_layers, ..of(other, other) }, 3, 10, threads)));
                rises("proj_size", each(&|proj| seconds(&LstmConfig { proj_size: Some(proj), ..of(other, 64) }, 3, 10, threads)));
            }
            let plain = of(other, other);
            let mut by_threads: Vec<f64> = SIZES.iter().map(|&threads| seconds(&plain, other, 10, threads)).collect();
            by_threads.reverse();
            rises("fewer threads", by_threads);
            rises(
                "directions",
                [Direction::Forward, Direction::Bidirectional]
                    .map(|direction| seconds(&LstmConfig { direction, ..plain.clone() }, 3, 10, 2))
                    .to_vec(),
            );
            let vectors = [16, 8, 4].map(|lanes| predict(&plain, 3, 10, 2, &CpuRates::typical(lanes)));
            rises("narrower vectors", vectors.to_vec());
        }
        let relu = crate::network::Activation::Relu;
        let wide = LstmConfig { activations: [CellActivations { output: relu, ..CellActivations::default() }; 2], ..of(64, 64) };
        rises("precision", vec![seconds(&of(64, 64), 8, 10, 2), seconds(&wide, 8, 10, 2)]);
    }

    #[test]
    fn large_products_run_at_the_rate_of_arithmetic_and_single_rows_at_that_of_a_cache() {
        let rates = RATES();
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.15, "{found:e}, expected {expected:e}");
        let large = LstmConfig::new(512, 512);
        near(seconds(&large, 256, 100, 2), (256 * 100 * large.flops_per_step()) as f64 / (2.0 * rates.flops));
        // 64 KiB on two threads are in the nearest cache, 1 MiB in the next, 16 MiB in the shared one, 256 MiB in none
        for (hidden, rate) in [(64, 130e9), (256, 80e9), (1024, 32e9), (4096, 10e9)] {
            let recurrent = (GATES * hidden * hidden * 4) as f64 / (2.0 * rate)
                + hidden as f64 * (rates.cell_seconds / 2.0 + rates.value_seconds)
                + rates.exchange_seconds;
            let many = seconds(&LstmConfig::new(1, hidden), 1, 10_001, 2) - seconds(&LstmConfig::new(1, hidden), 1, 1, 2);
            near(many / 10_000.0, recurrent);
        }
        assert!(seconds(&LstmConfig::new(1, 1), 1, 1, 64) < 1.1 * rates.call_seconds, "a call of nothing");
        let host = predict(&large, 8, 8, rayon::current_num_threads(), &CpuRates::of_host());
        assert!(host > 0.0 && describe_host().contains("threads"), "{host:e}");
    }
}
