//! The models of other projects at batches other than their case's.

use cellgate::Engine;
use libtest_mimic::{Failed, Trial};

use crate::case::{NetworkCase, along_batch, batch_axis, row, run, session, tiled};
use crate::common::{TestDevice, trial};
use crate::verdict::judge;

/// Models whose batch a call chooses. `dtln-1` has batch 1 written into its graph.
const ANY_BATCH: &[&str] = &["byte-bilstm", "silero-vad"];

/// Rows of the large batch; a multiple of every case's.
const ROWS: usize = 64;

pub(crate) fn trials(device: &TestDevice) -> Vec<Trial> {
    let of = |model: &'static str| {
        let name = device.name.clone();
        trial(device, &format!("batch/{model}"), move |engine| batches(engine, &name, model))
    };
    ANY_BATCH.iter().map(|&model| of(model)).collect()
}

/// Every row comes out of a batch of 64 as it does of its case's batch, and so it does alone.
fn batches(engine: &Engine, device: &str, model: &str) -> Result<(), Failed> {
    let case = NetworkCase::named(model)?;
    let network = case.network()?;
    let mut session = session(engine, &network)?;
    let first = &case.inputs.iter().find_map(|(name, tensor)| Some(tensor.view().shape()[batch_axis(&network, name)?.0]));
    let rows = first.ok_or("no input has an axis called batch")?;
    let all = |tensors| along_batch(&network, tensors, |array, axis| tiled(array, axis, ROWS), |array, axis| tiled(array, axis, ROWS));
    let outputs = run(&mut session, &all(&case.inputs)?)?;
    judge(device, &format!("batch/{model} at {ROWS} rows"), &outputs, &all(&case.outputs)?, case.tolerance())?;
    for number in 0..rows {
        let one = |tensors| along_batch(&network, tensors, |array, axis| row(array, axis, number), |array, axis| row(array, axis, number));
        let outputs = run(&mut session, &one(&case.inputs)?)?;
        judge(device, &format!("batch/{model}, row {number} alone"), &outputs, &one(&case.outputs)?, case.tolerance())?;
    }
    Ok(())
}
