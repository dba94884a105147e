//! Shaders that check what they do and shaders that trust the plan give the same bits.

use cellgate::{DeviceRequest, Direction, Engine};
use libtest_mimic::Failed;

use crate::common::call::{Call, same_results};
use crate::common::request;
use crate::{Test, for_each_variant};

pub(crate) fn tests() -> Vec<(String, Test)> {
    vec![("checked-and-trusted-shaders-give-the-same-bits".to_owned(), same_bits as Test)]
}

fn same_bits(engine: &Engine) -> Result<(), Failed> {
    let device = &engine.describe().device;
    // the host has no shaders
    let Some(backend) = device.backend else { return Ok(()) };
    let open = |checked| -> Result<Engine, Failed> { Ok(Engine::new(DeviceRequest { checked_shaders: Some(checked), ..request(backend) })?) };
    let (checked, trusted) = (open(true)?, open(false)?);
    for (seq_len, batch) in [(5, 11), (3, 1), (2, 64)] {
        for_each_variant(Direction::Bidirectional, seq_len, batch, |call, rng| {
            let lens = (0..batch).map(|_| rng.below(seq_len + 1) as i64).collect();
            for call in [call.clone(), Call { lens: Some(lens), ..call }] {
                same_results(&format!("{seq_len} steps of {batch} rows"), &call.run(&trusted)?, &call.run(&checked)?)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
