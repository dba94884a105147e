//! Decisions, drawn from the bytes of an input.

use libfuzzer_sys::arbitrary::Unstructured;

/// What is left of an input. Where its bytes are over it goes on with zeros, which stand for what is usual.
pub(super) struct Draw<'b>(Unstructured<'b>);

impl<'b> Draw<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// A number less than `end`, which is at most 256.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// True for one byte of `times`.
    pub(super) fn one_in(&mut self, times: u8) -> bool {
        self.byte() > u8::MAX - u8::MAX / times
    }

    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    /// What `draw` gives, for one byte of `times`.
    pub(super) fn maybe<T>(&mut self, times: u8, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(times).then(|| draw(self))
    }

    pub(super) fn seed(&mut self) -> u32 {
        self.0.arbitrary::<u16>().unwrap_or(0).into()
    }
}
