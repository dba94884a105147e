//! What the fuzz targets share: an allocator that counts, and mutations that know the messages of ONNX.
#![feature(alloc_error_hook)]

mod allocator;
mod message;
mod mutate;
mod rng;

pub use allocator::{Counting, OutOfMemory, Phase, guarded, start};
pub use mutate::mutate;

/// Bytes that reading a file may take for each of its own, and beside that.
pub const READ_PER_BYTE: usize = 128;

/// Bytes that reading any file may take.
pub const READ_AT_LEAST: usize = 16 << 20;

/// Bytes that one call may take; what asks for more is told that there are none.
pub const CALL: usize = 256 << 20;
