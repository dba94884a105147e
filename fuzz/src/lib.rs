//! What the fuzz targets share: an allocator that counts, mutations that know the formats, and a call on the CPU.
#![feature(alloc_error_hook)]

mod allocator;
pub mod api;
mod json;
pub mod npy;
pub mod onnx;
pub mod records;
mod rng;
mod run;
pub mod safetensors;

pub use allocator::{Counting, start};
pub use run::{call, run};

use allocator::{Phase, guarded};

/// Bytes that reading a file may take for each of its own, and beside that.
const READ_PER_BYTE: usize = 128;

/// Bytes that reading any file may take.
const READ_AT_LEAST: usize = 16 << 20;

/// Bytes that one call may take; what asks for more is told that there are none.
const CALL: usize = 256 << 20;

/// What `parse` makes of `bytes`, in a room that follows from their number.
pub fn read<T>(bytes: &[u8], parse: impl FnOnce() -> T) -> T {
    guarded(Phase::Read, bytes.len() * READ_PER_BYTE + READ_AT_LEAST, parse)
}

/// Puts what a mutation made in the place of an input of `size` bytes, or what libFuzzer makes of that; how long it is.
pub fn put(made: Option<Vec<u8>>, data: &mut [u8], size: usize, max_size: usize) -> usize {
    let Some(made) = made else { return libfuzzer_sys::fuzzer_mutate(data, size, max_size) };
    data[..made.len()].copy_from_slice(&made);
    made.len()
}
