//! Networks that are an embedding, LSTMs and linear layers, with changes of axes between them, do not leave a GPU on the way.

use cellgate::Engine;
use libtest_mimic::{Failed, Trial};

use crate::case::{NetworkCase, run, session};
use crate::common::{TestDevice, opened_anew, trial};

/// Networks, and how often a call brings something to the host: its outputs, and the final states of an LSTM that another one starts from.
const NETWORKS: &[(&str, u64)] = &[("byte-bilstm", 1), ("torch-lm-op13", 1), ("torch-tagger-op17", 1)];

pub(crate) fn trials(device: &TestDevice) -> Vec<Trial> {
    let of = |&(name, reads): &(&'static str, u64)| trial(device, &format!("on-device/{name}"), move |engine| stays(engine, name, reads));
    // the host has no such counts
    if device.name.starts_with("gpu/") { NETWORKS.iter().map(of).collect() } else { Vec::new() }
}

fn stays(engine: &Engine, name: &str, reads: u64) -> Result<(), Failed> {
    let case = NetworkCase::named(name)?;
    let engine = &opened_anew(engine)?;
    let mut session = session(engine, &case.network()?)?;
    run(&mut session, &case.inputs)?;
    run(&mut session, &case.inputs)?;
    let before = engine.usage().ok_or("a GPU counts what it makes")?;
    run(&mut session, &case.inputs)?;
    let after = engine.usage().ok_or("a GPU counts what it makes")?;
    let made = |usage: &cellgate::DeviceUsage| (usage.buffers_made, usage.bind_groups_made, usage.pipelines_made);
    if made(&after) != made(&before) {
        return Err(format!("a third call made something: {before:?}, then {after:?}").into());
    }
    if after.reads - before.reads != reads {
        return Err(format!("expected {reads} reads a call, found {}", after.reads - before.reads).into());
    }
    Ok(())
}
