//! Reading: any bytes make a network or an error, within a time and a room that follow from their number.
#![no_main]

use cellgate::Network;
use cellgate_fuzz::{Counting, Phase, READ_AT_LEAST, READ_PER_BYTE, guarded, mutate, start};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(init: start(), |bytes: &[u8]| {
    let room = bytes.len() * READ_PER_BYTE + READ_AT_LEAST;
    let (read, _) = guarded(Phase::Read, room, || Network::from_bytes(bytes));
    if let Ok(network) = read {
        assert!(!network.outputs().is_empty());
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match mutate(&data[..size], max_size, seed).filter(|_| seed % 8 != 0) {
        Some(made) => {
            data[..made.len()].copy_from_slice(&made);
            made.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
