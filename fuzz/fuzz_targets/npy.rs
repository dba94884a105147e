//! Reading and writing npy: any bytes make an array or an error, and what was read is written as what is read as the same.
#![no_main]

use cellgate::Tensor;
use cellgate::fuzzing::{npy_bytes, parse_npy};
use cellgate_fuzz::{Counting, npy, put, read, start};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The type and the shape.
fn form(tensor: &Tensor) -> String {
    format!("{:?} {:?}", tensor.view().element_type(), tensor.shape())
}

fuzz_target!(init: start(), |bytes: &[u8]| {
    let Ok(tensor) = read(bytes, || parse_npy(bytes)) else { return };
    let written = npy_bytes(&tensor).expect("what was read is written");
    let again = parse_npy(&written).expect("what was written is read");
    assert_eq!(form(&tensor), form(&again));
    // NaN is not equal to itself, its bytes are
    assert_eq!(npy_bytes(&again).expect("what was written once is written"), written);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = if seed % 8 == 0 { None } else { npy::mutate(&data[..size], max_size, seed) };
    put(made, data, size, max_size)
});
