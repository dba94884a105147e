//! Cases with a name: sizes that divide nothing, the smallest and the largest.

use cellgate::{Activation, CellActivations, Direction, LstmConfig};

use crate::generator::Spec;

/// One layer, forward, of full length.
fn plain(input_size: usize, hidden_size: usize, seq_len: usize, batch: usize) -> Spec {
    Spec {
        config: LstmConfig::new(input_size, hidden_size),
        seq_len,
        batch,
        ragged: false,
        states: false,
        batch_first: false,
        saturated: false,
        gain: 1.0,
        seed: 7,
    }
}

/// The same with more layers and both directions.
fn deep(input_size: usize, hidden_size: usize, seq_len: usize, batch: usize) -> Spec {
    let plain = plain(input_size, hidden_size, seq_len, batch);
    let config = LstmConfig { num_layers: 2, direction: Direction::Bidirectional, ..plain.config };
    Spec { config, states: true, ..plain }
}

fn with(mut spec: Spec, change: impl FnOnce(&mut LstmConfig)) -> Spec {
    change(&mut spec.config);
    spec
}

/// Gates as usual, with an output that is linear for all that a cell state can be.
fn scaled_tanh() -> CellActivations {
    CellActivations { output: Activation::ScaledTanh { alpha: 1000.0, beta: 0.001 }, ..CellActivations::default() }
}

/// Cases by name.
pub(crate) fn specs(long: bool) -> Vec<(&'static str, Spec)> {
    let reverse = |config: &mut LstmConfig| config.direction = Direction::Reverse;
    let mut specs = vec![
        ("hidden 1", deep(1, 1, 9, 3)),
        ("hidden 33", deep(7, 33, 9, 5)),
        ("hidden 100", deep(13, 100, 5, 6)),
        ("hidden 257", deep(65, 257, 3, 3)),
        ("hidden 1024", plain(33, 1024, 3, 2)),
        ("one step", deep(5, 33, 1, 6)),
        ("one row", deep(5, 33, 9, 1)),
        ("one step of one row", deep(5, 33, 1, 1)),
        ("rows 65", plain(5, 33, 4, 65)),
        ("rows 1000", plain(3, 3, 4, 1000)),
        ("input 4099", plain(4099, 5, 2, 3)),
        // the widest that llvmpipe takes; what is wider is in tests/errors.rs
        ("input 40320", plain(40_320, 2, 1, 2)),
        ("projection to 1", with(deep(5, 33, 6, 3), |config| config.proj_size = Some(1))),
        ("projection wider than the cell", with(deep(5, 9, 6, 3), |config| config.proj_size = Some(70))),
        ("layer norm of one unit", with(deep(3, 1, 6, 3), |config| config.layer_norm = Some(1e-5))),
        ("layer norm of 257 units", with(plain(5, 257, 4, 3), |config| config.layer_norm = Some(1e-5))),
        ("saturated", Spec { saturated: true, ..deep(5, 33, 9, 4) }),
        ("steps 2000", plain(3, 5, 2000, 2)),
        ("steps 1000 reverse", with(plain(3, 33, 1000, 1), reverse)),
        // a tanh that keeps only absolute accuracy near 0 would be off a thousand times as much
        ("scaled tanh of small values", with(deep(5, 33, 9, 3), |config| config.activations = [scaled_tanh(); 2])),
        ("three layers", with(plain(5, 20, 12, 3), |config| config.num_layers = 3)),
    ];
    if long {
        // more than the 256 MiB that all activations of a call together take: time is split
        specs.push(("time in segments", plain(4096, 1, 130, 128)));
        specs.push(("time in segments reverse", with(plain(4096, 1, 130, 128), reverse)));
        specs.push(("rows in blocks by memory", with(plain(4096, 1, 130, 128), |config| config.direction = Direction::Bidirectional)));
        specs.push(("steps 2000 of 9 rows", deep(3, 33, 2000, 9)));
        specs.push(("hidden 1024 of two layers", deep(33, 1024, 5, 2)));
        specs.push(("steps 70000", plain(1, 1, 70_000, 1)));
    }
    specs
}

/// Cases whose rows have given lengths, by name.
pub(crate) fn with_lengths() -> Vec<(&'static str, Spec, Vec<i64>)> {
    let full = 9;
    let short = |name, lens: Vec<i64>| (name, deep(4, 33, full as usize, lens.len()), lens);
    // one step more than a segment of time holds: two segments, of 2049 and 2048 steps, and lengths on both sides of the seam
    let ends = vec![0, 1, 2048, 2049, 2050, 4097];
    let segments = Spec { states: true, ..plain(1, 1, 4097, ends.len()) };
    vec![
        short("lengths all 0", vec![0; 5]),
        short("lengths all full", vec![full; 5]),
        short("lengths all short", vec![full / 2; 5]),
        short("lengths mixed", vec![0, full, 1, full - 1, full / 2]),
        short("lengths of one row", vec![full - 1]),
        ("lengths over segments", segments.clone(), ends.clone()),
        ("lengths over segments reverse", with(segments, |config| config.direction = Direction::Reverse), ends),
    ]
}

/// A case of so many rows that a device takes them in several blocks, one block after the other; where lengths differ, the longest rows first.
pub(crate) fn many_rows(batch: usize, ragged: bool) -> Spec {
    Spec { states: true, ragged, ..plain(3, 1024, 2, batch) }
}
