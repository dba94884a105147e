//! What the CPU does at most, measured: the two ends of its roofline, with as many threads as the current rayon pool has.

use std::hint::black_box;
use std::time::Instant;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::panels::lanes;
use crate::measure::Peak;

/// Sums of a thread that do not wait for each other: the latency of an operation times how many begin in a cycle, on any processor, and few enough
/// for its registers.
const CHAINS: usize = 12;

/// Iterations of a sample of arithmetic, some milliseconds.
const ROUNDS: usize = 1 << 20;

/// Bytes that are copied, by all threads together: few caches hold them.
const COPY_BYTES: usize = 128 << 20;

/// Each is measured so often, and the best counts: what disturbs a thread makes it slower.
const SAMPLES: usize = 15;

/// Measures what this processor does at most: multiplications and additions in float32 on its vectors, and copies in memory.
pub(crate) fn peak() -> Peak {
    let threads = rayon::current_num_threads();
    let flops = 2.0 * (threads * ROUNDS * CHAINS * lanes()) as f64;
    let arithmetic = best(|| {
        rayon::broadcast(|_| black_box(Arithmetic { rounds: black_box(ROUNDS) }.dispatch()));
    });
    let len = COPY_BYTES / size_of::<f32>();
    let (from, mut to) = (vec![1.0_f32; len], vec![0.0_f32; len]);
    let share = len.div_ceil(threads);
    let copy = best(|| {
        rayon::scope(|scope| {
            for (from, to) in from.chunks(share).zip(to.chunks_mut(share)) {
                scope.spawn(move |_| to.copy_from_slice(black_box(from)));
            }
        });
        black_box(&mut to);
    });
    Peak { flops_per_second: flops / arithmetic, bytes_per_second: 2.0 * COPY_BYTES as f64 / copy }
}

/// The least time that `run` takes; its first run warms up.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let sample = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..SAMPLES).map(sample).fold(f64::INFINITY, f64::min)
}

/// `v = v * 0.5 + 1`, in every chain `rounds` times; the sum of the chains.
struct Arithmetic {
    rounds: usize,
}

impl SimdOp for Arithmetic {
    type Output = f32;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> f32 {
        let ops = isa.f32();
        let (factor, addend) = (ops.splat(0.5), ops.splat(1.0));
        let mut chains = [ops.zero(); CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = ops.mul_add(*chain, factor, addend);
            }
        }
        let all = chains.into_iter().fold(ops.zero(), |sum, chain| ops.add(sum, chain));
        ops.sum(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain that a compiler had left out, or cut, would not come to 2.
    #[test]
    fn every_chain_is_computed() {
        let chains = (CHAINS * lanes()) as f32;
        assert_eq!([0, 1, 2, 60].map(|rounds| Arithmetic { rounds }.dispatch()), [0.0, chains, 1.5 * chains, 2.0 * chains]);
    }
}
