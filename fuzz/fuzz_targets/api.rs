//! The public API: random calls in random order, on a device and on the float64 reference.
#![no_main]

use cellgate_fuzz::{Counting, api, start};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(init: start(), |bytes: &[u8]| api::check(bytes));
