//! Reading and running: what is read runs on the CPU with small inputs of the shapes that it asks for, or says why not.
#![no_main]

use cellgate::Network;
use cellgate_fuzz::{Counting, onnx, put, read, run, start};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(init: start(), |bytes: &[u8]| -> Corpus {
    match read(bytes, || Network::from_bytes(bytes)) {
        Ok(network) => run(&network),
        Err(_) => Corpus::Reject,
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = if seed % 16 == 0 { None } else { onnx::mutate(&data[..size], max_size, seed) };
    put(made, data, size, max_size)
});
