//! Reading: any bytes make a network or an error, within a time and a room that follow from their number.
#![no_main]

use cellgate::Network;
use cellgate_fuzz::{Counting, onnx, put, read, start};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(init: start(), |bytes: &[u8]| {
    if let Ok(network) = read(bytes, || Network::from_bytes(bytes)) {
        assert!(!network.outputs().is_empty());
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = if seed % 8 == 0 { None } else { onnx::mutate(&data[..size], max_size, seed) };
    put(made, data, size, max_size)
});
