//! Reading, running and writing safetensors: any bytes make a network or an error, and a network runs and is written, or says why not.
#![no_main]

use cellgate::{Network, Precision, Reading};
use cellgate_fuzz::safetensors::{self, Options};
use cellgate_fuzz::{Counting, call, put, read, run, start};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is written of a network is read, and written again as it was.
fn write(network: &Network) {
    let Ok((bytes, saved)) = network.to_safetensors(Precision::F32) else { return };
    assert!(saved.complete, "a file is a chain, written are {saved:?}");
    let again = Network::read(&bytes, Reading::default()).expect("what was written is read");
    let (written, _) = again.to_safetensors(Precision::F32).expect("what was written once is written");
    assert_eq!(written, bytes);
}

fuzz_target!(init: start(), |bytes: &[u8]| -> Corpus {
    let options = Options::of(bytes);
    let Ok(network) = read(bytes, || Network::read(bytes, options.reading())) else { return Corpus::Keep };
    match run(&network) {
        Corpus::Keep => call(|| write(&network)),
        rejected => rejected,
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = if seed % 8 == 0 { None } else { safetensors::mutate(&data[..size], max_size, seed) };
    put(made, data, size, max_size)
});
