//! The system's allocator, counted, and with a bound.

use std::alloc::{GlobalAlloc, Layout, System, set_alloc_error_hook};
use std::backtrace::Backtrace;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static FATAL: AtomicBool = AtomicBool::new(false);

/// Counts the bytes that are allocated, and has none beyond a limit.
pub struct Counting;

/// What a panic carries where there was no memory in a phase in which that is no finding.
#[derive(Debug)]
pub(crate) struct OutOfMemory;

/// What happens where more is asked for than the limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// it is a finding: the process ends, and says where
    Read,
    /// whoever asks gets none, or panics: a model may be of any size
    Call,
}

fn taken(bytes: usize) -> bool {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    if live > LIMIT.load(Relaxed) {
        LIVE.fetch_sub(bytes, Relaxed);
        return false;
    }
    true
}

// SAFETY: all of it is the system's allocator, or a null pointer, which stands for no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !taken(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !taken(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && !taken(size - layout.size()) {
            return std::ptr::null_mut();
        }
        LIVE.fetch_sub(layout.size().saturating_sub(size), Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.dealloc(old, layout) }
    }
}

/// To be called once, before the first input.
pub fn start() {
    // libFuzzer's own hook ends the process at every panic, also at one of rten that cellgate catches
    std::panic::set_hook(Box::new(|panic| {
        if std::env::var_os("SHOW_PANICS").is_some() && !panic.payload().is::<OutOfMemory>() {
            eprintln!("{panic}\n{}", Backtrace::force_capture());
        }
    }));
    set_alloc_error_hook(|layout| {
        let limit = LIMIT.swap(usize::MAX, Relaxed);
        if FATAL.load(Relaxed) {
            eprintln!("no more than {limit} bytes, asked for {}\n{}", layout.size(), Backtrace::force_capture());
            std::process::abort();
        }
        LIMIT.store(limit, Relaxed);
        panic_any(OutOfMemory)
    });
}

/// Does `work` with at most `room` more bytes.
pub(crate) fn guarded<T>(phase: Phase, room: usize, work: impl FnOnce() -> T) -> T {
    FATAL.store(phase == Phase::Read, Relaxed);
    LIMIT.store(LIVE.load(Relaxed).saturating_add(room), Relaxed);
    let made = work();
    LIMIT.store(usize::MAX, Relaxed);
    made
}
