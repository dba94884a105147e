//! T steps at once are T1 steps and then T2, with the state carried, to the last bit.

use cellgate::{Direction, Engine, Inputs, Session, State};
use libtest_mimic::Failed;
use ndarray::{Array3, Axis, concatenate, s};

use crate::common::call::{Call, Results, same_results};
use crate::{Test, for_each_variant};

const SEQ_LEN: usize = 12;

pub(crate) fn tests() -> Vec<(String, Test)> {
    let tests: [(&str, Test); 4] = [
        ("steps in two calls give the same bits", in_two_calls),
        ("steps one by one give the same bits", one_by_one),
        ("a state that went over the host gives the same bits", over_the_host),
        ("a state does not see plain calls of its session", beside_plain_calls),
    ];
    tests.map(|(name, test)| (name.replace(' ', "-"), test)).to_vec()
}

/// Steps `start..end` of `call` on `state`.
fn advance(session: &mut Session, state: &mut State, call: &Call, start: usize, end: usize) -> Result<Array3<f32>, Failed> {
    let outputs = session.run_with_state(&Inputs::new().with("x", call.x.slice(s![start..end, .., ..])), state)?;
    Ok(call.results(outputs).y)
}

/// The state that `call` starts from, on the device.
fn start(session: &mut Session, call: &Call) -> Result<State, Failed> {
    let mut state = session.state(call.batch())?;
    let (h, c) = (call.h_0.clone().ok_or("no h_0")?, call.c_0.clone().ok_or("no c_0")?);
    let node = session.network().lstms().next().map(|(name, _)| name.to_owned()).ok_or("no LSTM")?;
    session.write_state(&mut state, &[cellgate::HostState { node, h, c }])?;
    Ok(state)
}

/// `call` in pieces that end where `ends` says.
fn in_pieces(session: &mut Session, call: &Call, ends: &[usize]) -> Result<Results, Failed> {
    let mut state = start(session, call)?;
    let (mut from, mut pieces) = (0, Vec::new());
    for &end in ends {
        pieces.push(advance(session, &mut state, call, from, end)?);
        from = end;
    }
    let views: Vec<_> = pieces.iter().map(|piece| piece.view()).collect();
    let states = session.read_state(&state)?;
    Ok(Results { y: concatenate(Axis(0), &views)?.as_standard_layout().into_owned(), h_n: states[0].h.clone(), c_n: states[0].c.clone() })
}

fn for_each_call(mut test: impl FnMut(&Call) -> Result<(), Failed>) -> Result<(), Failed> {
    for batch in [1, 2, 6] {
        for_each_variant(Direction::Forward, SEQ_LEN, batch, |call, _| test(&call))?;
    }
    Ok(())
}

fn in_two_calls(engine: &Engine) -> Result<(), Failed> {
    for_each_call(|call| {
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        for first in [1, 2, 5, 6, SEQ_LEN - 1] {
            same_results(&format!("{first} steps and the rest"), &in_pieces(&mut session, call, &[first, SEQ_LEN])?, &expected)?;
        }
        Ok(())
    })
}

fn one_by_one(engine: &Engine) -> Result<(), Failed> {
    for_each_call(|call| {
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        let ends: Vec<usize> = (1..=SEQ_LEN).collect();
        same_results("one by one", &in_pieces(&mut session, call, &ends)?, &expected)?;
        // with calls of no steps in between
        let ends: Vec<usize> = (1..=SEQ_LEN).flat_map(|end| [end, end]).collect();
        same_results("with empty calls", &in_pieces(&mut session, call, &ends)?, &expected)
    })
}

fn over_the_host(engine: &Engine) -> Result<(), Failed> {
    for_each_call(|call| {
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        let first = call.steps(0, 5).run_in(&mut session)?;
        let mut rest = call.steps(5, SEQ_LEN);
        (rest.h_0, rest.c_0) = (Some(first.h_n), Some(first.c_n));
        let rest = rest.run_in(&mut session)?;
        let y = concatenate(Axis(0), &[first.y.view(), rest.y.view()])?.as_standard_layout().into_owned();
        same_results("as inputs", &Results { y, ..rest }, &expected)?;

        // read, put into a fresh state of another session, read again
        let mut state = start(&mut session, call)?;
        advance(&mut session, &mut state, call, 0, 7)?;
        let values = session.read_state(&state)?;
        let mut other = call.session(engine)?;
        let mut copy = other.state(call.batch())?;
        other.write_state(&mut copy, &values)?;
        if other.read_state(&copy)? != values {
            return Err("a state that was written is read back differently".into());
        }
        let y = advance(&mut other, &mut copy, call, 7, SEQ_LEN)?;
        if y != expected.y.slice(s![7.., .., ..]) {
            return Err("a copied state goes on differently".into());
        }
        Ok(())
    })
}

fn beside_plain_calls(engine: &Engine) -> Result<(), Failed> {
    for_each_call(|call| {
        let mut session = call.session(engine)?;
        let expected = call.run_in(&mut session)?;
        let (mut one, mut two) = (start(&mut session, call)?, start(&mut session, call)?);
        for t in 0..SEQ_LEN {
            let y = advance(&mut session, &mut one, call, t, t + 1)?;
            call.steps(0, 3).run_in(&mut session)?;
            let other = advance(&mut session, &mut two, call, t, t + 1)?;
            if y != expected.y.slice(s![t..=t, .., ..]) || other != y {
                return Err(format!("step {t} beside other calls differs").into());
            }
        }
        Ok(())
    })
}
