//! Whether outputs are what they should be, and how close each device came to its bounds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cellgate::compare::{Tolerance, compare};
use cellgate::{Outputs, Tensor};
use libtest_mimic::Failed;

use crate::case::Tensors;
use crate::common::call::{same_bits, widen};

/// For each device and kind of test, which is the first part of what was tested: the largest ratio to the bound, the error, and where.
static WORST: Mutex<BTreeMap<String, (f64, f64, String)>> = Mutex::new(BTreeMap::new());

/// Passes where every expected output is there with its type, shape and values.
pub(crate) fn judge(device: &str, what: &str, outputs: &Outputs, expected: &Tensors, tolerance: Tolerance) -> Result<(), Failed> {
    for (name, expected) in expected {
        let actual = outputs.get(name).ok_or_else(|| format!("{what}: output `{name}`: missing"))?;
        let (Tensor::F32(actual), Tensor::F32(expected)) = (actual, expected) else {
            if actual == expected {
                continue;
            }
            let types = (actual.view().element_type(), expected.view().element_type());
            return Err(format!("{what}: output `{name}`: {} differs from what is expected, {}", types.0, types.1).into());
        };
        let comparison = compare(actual.view(), widen(expected).view(), tolerance);
        if !comparison.passed() {
            return Err(format!("{what}: output `{name}`: {comparison}").into());
        }
        if let Some(worst) = &comparison.worst {
            note(device, what, worst.ratio, comparison.max_abs_err);
        }
    }
    Ok(())
}

/// Keeps a ratio to a bound for [`report`].
pub(crate) fn note(device: &str, what: &str, ratio: f64, error: f64) {
    let mut worst = WORST.lock().unwrap_or_else(PoisonError::into_inner);
    let kind = what.split('/').next().unwrap_or_default();
    let entry = worst.entry(format!("{device} {kind}")).or_default();
    if entry.2.is_empty() || ratio > entry.0 {
        *entry = (ratio, error, what.to_owned());
    }
}

/// The closest that each device came to a bound goes to stderr, so that slack shows.
pub(crate) fn report() {
    for (device, (ratio, error, what)) in &*WORST.lock().unwrap_or_else(PoisonError::into_inner) {
        eprintln!("{device}: at most {ratio:.1e} of the bound, an error of {error:.1e}, in {what}");
    }
}

/// Passes where two calls gave the same bits.
pub(crate) fn same(what: &str, actual: &Outputs, expected: &Outputs) -> Result<(), Failed> {
    let names = |outputs: &Outputs| outputs.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    if names(actual) != names(expected) {
        return Err(format!("{what}: outputs {:?}, expected {:?}", names(actual), names(expected)).into());
    }
    for ((name, actual), (_, expected)) in actual.iter().zip(expected.iter()) {
        match (actual, expected) {
            (Tensor::F32(actual), Tensor::F32(expected)) => same_bits(&format!("{what}: output `{name}`"), actual, expected)?,
            _ if actual == expected => {}
            _ => return Err(format!("{what}: output `{name}`: differs").into()),
        }
    }
    Ok(())
}
