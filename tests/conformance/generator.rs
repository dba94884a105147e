//! Random configurations and calls: everything that an LSTM can be here, each by a number that makes it again.

use cellgate::{Activation, CellActivations, Direction, LstmConfig};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::call::{Call, Rng, random_cells};

/// How large cases may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) hidden_sizes: &'static [usize],
    pub(crate) max_seq_len: usize,
    /// multiplications of one call; longer ones are made shorter, because the reference takes a nanosecond or more for each
    pub(crate) max_products: usize,
}

pub(crate) const NORMAL: Size = Size { hidden_sizes: &[1, 2, 3, 5, 8, 16, 31, 33, 64, 65, 100, 128, 257], max_seq_len: 40, max_products: 30_000_000 };

pub(crate) const LONG: Size =
    Size { hidden_sizes: &[1, 2, 3, 5, 8, 16, 31, 33, 64, 65, 100, 128, 257, 512, 1000, 1024], max_seq_len: 2000, max_products: 60_000_000 };

/// A case, small enough to be read in a failure's message.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) config: LstmConfig,
    pub(crate) seq_len: usize,
    pub(crate) batch: usize,
    /// rows have lengths of their own: some 0, some full
    pub(crate) ragged: bool,
    pub(crate) states: bool,
    pub(crate) batch_first: bool,
    /// inputs up to 1e4, which drive every gate to its end
    pub(crate) saturated: bool,
    /// weights lie within `gain / sqrt(H)`
    pub(crate) gain: f32,
    /// of weights, inputs, lengths and states
    pub(crate) seed: u64,
}

/// The case of a number, and the tree that makes it simpler where it fails.
pub(crate) fn tree(number: u64, size: Size) -> impl ValueTree<Value = Spec> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    spec(size).new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)).expect("nothing is filtered out")
}

fn spec(size: Size) -> impl Strategy<Value = Spec> {
    let batch = prop_oneof![8 => 1..=17_usize, 1 => Just(33), 1 => Just(65)];
    let short = size.max_seq_len.min(40);
    let seq_len = prop_oneof![3 => 1..=short, 1 => 1..=size.max_seq_len];
    let flags = (prop::bool::weighted(0.4), prop::bool::weighted(0.5), any::<bool>(), prop::bool::weighted(0.15));
    let gain = select(vec![1.0_f32, 0.5, 2.0, 4.0]);
    (config(size), seq_len, batch, flags, gain, any::<u64>()).prop_map(move |(config, seq_len, batch, flags, gain, seed)| {
        let (ragged, states, batch_first, saturated) = flags;
        let products = config.flops_per_step() as usize / 2;
        let batch = batch.min(size.max_products / products).max(1);
        let seq_len = seq_len.min(size.max_products / (products * batch)).max(1);
        Spec { config, seq_len, batch, ragged, states, batch_first, saturated, gain, seed }
    })
}

fn config(size: Size) -> impl Strategy<Value = LstmConfig> {
    let sizes = (1..=40_usize, select(size.hidden_sizes), 1..=3_usize);
    let direction = select(vec![Direction::Forward, Direction::Reverse, Direction::Bidirectional]);
    let projection = prop::option::weighted(0.25, 1..=70_usize);
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.25), prop::bool::weighted(0.2));
    let layer_norm = prop::option::weighted(0.2, select(vec![1e-5_f32, 1e-3]));
    let bound = |weight| prop::option::weighted(weight, 0.05..3.0_f32);
    let bounds = (bound(0.2), bound(0.2), bound(0.4));
    let activations = (cell_activations(), cell_activations(), any::<bool>());
    (sizes, direction, projection, flags, layer_norm, bounds, activations).prop_map(
        |((input_size, hidden_size, num_layers), direction, proj_size, flags, layer_norm, bounds, activations)| LstmConfig {
            input_size,
            hidden_size,
            num_layers,
            direction,
            proj_size,
            bias: flags.0,
            peepholes: flags.1,
            layer_norm,
            input_forget: flags.2,
            activations: [activations.0, if activations.2 { activations.1 } else { activations.0 }],
            clip: bounds.0,
            cell_clip: bounds.1,
            proj_clip: bounds.2.filter(|_| proj_size.is_some()),
        },
    )
}

fn cell_activations() -> impl Strategy<Value = CellActivations> {
    let random = (activation(), activation(), activation()).prop_map(|(gate, candidate, output)| CellActivations { gate, candidate, output });
    prop_oneof![Just(CellActivations::default()), random]
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Sigmoid),
        Just(Activation::Tanh),
        Just(Activation::Relu),
        (0.1..0.9_f32, -0.3..0.3_f32).prop_map(|(alpha, beta)| Activation::Affine { alpha, beta }),
        (0.0..0.5_f32).prop_map(|alpha| Activation::LeakyRelu { alpha }),
        (0.0..0.5_f32).prop_map(|alpha| Activation::ThresholdedRelu { alpha }),
        (0.5..1.5_f32, 0.5..1.5_f32).prop_map(|(alpha, beta)| Activation::ScaledTanh { alpha, beta }),
        (0.1..0.5_f32, 0.3..0.7_f32).prop_map(|(alpha, beta)| Activation::HardSigmoid { alpha, beta }),
        (0.3..1.5_f32).prop_map(|alpha| Activation::Elu { alpha }),
        Just(Activation::Softsign),
        Just(Activation::Softplus),
    ]
}

impl Spec {
    /// Weights, inputs, lengths and states.
    pub(crate) fn call(&self) -> Call {
        let mut rng = Rng::new(self.seed);
        let mut call = Call::random(self.config.clone(), self.seq_len, self.batch, &mut rng);
        call.batch_first = self.batch_first;
        if self.saturated {
            call.x *= 1e4;
        }
        if self.states {
            call = call.with_states(&mut rng);
        }
        if self.ragged {
            let lens = (0..self.batch).map(|_| match rng.below(6) {
                0 => 0,
                1 => self.seq_len as i64,
                _ => rng.below(self.seq_len + 1) as i64,
            });
            call.lens = Some(lens.collect());
        }
        call.cells = random_cells(&self.config, self.gain, &mut rng);
        call
    }
}
