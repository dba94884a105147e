//! A tuner's records: any bytes are a file of them or none, and what is believed of it suits the stack and the device.
#![no_main]

use cellgate::fuzzing::believed;
use cellgate_fuzz::records::{self, stacks};
use cellgate_fuzz::{Counting, put, read, start};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(
    init: {
        start();
        stacks();
    },
    |bytes: &[u8]| {
        for stack in stacks() {
            let records = read(bytes, || believed(bytes, &stack.config, &stack.layout, &stack.profile));
            records.iter().for_each(|record| stack.use_record(record));
        }
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = if seed % 8 == 0 { None } else { records::mutate(&data[..size], max_size, seed) };
    put(made, data, size, max_size)
});
