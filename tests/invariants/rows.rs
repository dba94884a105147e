//! Rows of a batch do not see each other, and a call gives the same bits every time.

use cellgate::{Direction, Engine};
use libtest_mimic::Failed;
use ndarray::{Array3, Axis, s};

use crate::common::call::{Call, Results, Rng, same_results};
use crate::{Test, for_each_variant};

const SEQ_LEN: usize = 5;
const BATCH: usize = 11;

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 7] = [
        ("two runs of one session give the same bits", one_session),
        ("two sessions give the same bits", two_sessions),
        ("other rows of a batch do not matter", other_rows),
        ("NaN in one row stays in that row", nan_in_one_row),
        ("a permuted batch gives permuted results", permuted),
        ("what stands after a row's end does not matter", after_the_end),
        ("padding that all rows have does not matter", common_padding),
    ];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

fn ragged(call: &mut Call, rng: &mut Rng) {
    call.lens = Some((0..call.batch()).map(|_| rng.below(call.seq_len() + 1) as i64).collect());
}

fn one_session(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |call, rng| {
        let mut session = call.session(engine)?;
        let first = call.run_in(&mut session)?;
        same_results("again", &call.run_in(&mut session)?, &first)?;
        // calls of other shapes in between use the same buffers
        let mut other = Call { x: rng.array((SEQ_LEN + 3, BATCH + 6, 7), 50.0), h_0: None, c_0: None, ..call.clone() };
        ragged(&mut other, rng);
        other.run_in(&mut session)?;
        other.select_rows(&[3]).run_in(&mut session)?;
        same_results("after other calls", &call.run_in(&mut session)?, &first)
    })
}

fn two_sessions(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |mut call, rng| {
        same_results("full length", &call.run(engine)?, &call.run(engine)?)?;
        ragged(&mut call, rng);
        same_results("ragged", &call.run(engine)?, &call.run(engine)?)
    })
}

/// Puts `garbage` into everything that belongs to the rows other than `kept`.
fn spoil(call: &Call, kept: usize, mut garbage: impl FnMut() -> f32) -> Call {
    let mut spoilt = call.clone();
    let mut spoil = |array: &mut Array3<f32>| {
        for (row, mut values) in array.axis_iter_mut(Axis(1)).enumerate() {
            if row != kept {
                values.mapv_inplace(|_| garbage());
            }
        }
    };
    spoil(&mut spoilt.x);
    spoilt.h_0.as_mut().map(&mut spoil);
    spoilt.c_0.as_mut().map(&mut spoil);
    spoilt
}

fn other_rows(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |mut call, rng| {
        // every place in a group of four, and the remainder
        for kept in [0, 3, 5, 6, BATCH - 1] {
            let mut session = call.session(engine)?;
            let expected = call.run_in(&mut session)?.select_rows(&[kept]);
            let mut noise = Rng::new(99);
            let kinds: [(&str, &mut dyn FnMut() -> f32); 5] = [
                ("other values", &mut || noise.value()),
                ("huge values", &mut || 3e38),
                ("infinities", &mut || f32::INFINITY),
                ("NaN", &mut || f32::NAN),
                ("zeros", &mut || 0.0),
            ];
            for (kind, garbage) in kinds {
                let actual = spoil(&call, kept, garbage).run_in(&mut session)?.select_rows(&[kept]);
                same_results(&format!("row {kept} beside {kind}"), &actual, &expected)?;
            }
            // the next round: the same with lengths
            ragged(&mut call, rng);
        }
        Ok(())
    })
}

fn nan_in_one_row(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |call, _| {
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        for spoilt in [0, 6, BATCH - 1] {
            let mut broken = call.clone();
            broken.x[[SEQ_LEN / 2, spoilt, 3]] = f32::NAN;
            let actual = broken.run_in(&mut session)?;
            let others: Vec<usize> = (0..BATCH).filter(|&row| row != spoilt).collect();
            same_results(&format!("rows beside row {spoilt}"), &actual.select_rows(&others), &expected.select_rows(&others))?;
        }
        Ok(())
    })
}

fn permuted(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |mut call, rng| {
        for round in 0..3 {
            let places = rng.permutation(BATCH);
            let mut session = call.session(engine)?;
            let expected: Results = call.run_in(&mut session)?.select_rows(&places);
            same_results(&format!("round {round}"), &call.select_rows(&places).run_in(&mut session)?, &expected)?;
            ragged(&mut call, rng);
        }
        Ok(())
    })
}

fn after_the_end(engine: &Engine) -> Result<(), Failed> {
    for_each_variant(Direction::Bidirectional, SEQ_LEN, BATCH, |mut call, rng| {
        ragged(&mut call, rng);
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        for garbage in [1e30, f32::NAN] {
            for (row, &len) in call.lens.clone().unwrap_or_default().iter().enumerate() {
                call.x.index_axis_mut(Axis(1), row).slice_mut(s![len as usize.., ..]).fill(garbage);
            }
            same_results(&format!("padding of {garbage}"), &call.run_in(&mut session)?, &expected)?;
        }
        Ok(())
    })
}

/// A call that is padded beyond its longest row is that call without the padding, and zeros behind.
fn common_padding(engine: &Engine) -> Result<(), Failed> {
    for direction in [Direction::Forward, Direction::Reverse, Direction::Bidirectional] {
        for_each_variant(direction, SEQ_LEN, BATCH, |mut call, rng| {
            ragged(&mut call, rng);
            let padded_len = 8 * SEQ_LEN + 3;
            let mut x = Array3::from_elem((padded_len, BATCH, 7), f32::NAN);
            x.slice_mut(s![..SEQ_LEN, .., ..]).assign(&call.x);
            let padded = Call { x, ..call.clone() }.run(engine)?;
            let (y, padding) = padded.y.view().split_at(Axis(0), SEQ_LEN);
            if padding.iter().any(|value| value.to_bits() != 0) {
                return Err(format!("{}: the padding of y is not zero", direction.name()).into());
            }
            let cut = Results { y: y.to_owned(), h_n: padded.h_n.clone(), c_n: padded.c_n.clone() };
            same_results(direction.name(), &cut, &call.run(engine)?)
        })?;
    }
    Ok(())
}
