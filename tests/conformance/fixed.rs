//! Cases with a name: sizes that divide nothing, the smallest and the largest.

use cellgate::{Direction, LstmConfig};

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

/// The lengths of a batch, by name.
pub(crate) fn lengths(seq_len: usize) -> [(&'static str, Vec<i64>); 5] {
    let full = seq_len as i64;
    [
        ("lengths all 0", vec![0; 5]),
        ("lengths all full", vec![full; 5]),
        ("lengths all short", vec![full / 2; 5]),
        ("lengths mixed", vec![0, full, 1, full - 1, full / 2]),
        ("lengths of one row", vec![full - 1]),
    ]
}

/// The case for [`lengths`].
pub(crate) fn with_lengths(seq_len: usize, batch: usize) -> Spec {
    deep(4, 33, seq_len, batch)
}

/// A case of so many rows that a device takes them in several blocks, one block after the other.
pub(crate) fn many_rows(batch: usize) -> Spec {
    Spec { states: true, ..plain(3, 1024, 2, batch) }
}
