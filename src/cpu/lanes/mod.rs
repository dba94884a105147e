//! Arithmetic on SIMD vectors, as wide as the machine's instructions are.
//!
//! Every function takes an instruction set and works on values in registers, so that whoever has them there, inside
//! [`SimdOp::eval`](rten_simd::SimdOp::eval), needs no buffer between two of them.
//!
//! Comparisons are false for NaN, and what `min` and `max` make of it depends on the instruction set: bounds go through
//! [`activation::at_most`] and [`activation::at_least`].

pub(super) mod activation;
pub(super) mod cell;
pub(super) mod rows;
#[cfg(test)]
mod tests;
