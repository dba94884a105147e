//! The system's allocator, counted: what is asked for in all, and the most that there was at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// For `#[global_allocator]`.
pub struct Counting;

/// Bytes that were asked for so far.
pub static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
/// Bytes that are in use.
pub static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The most of these.
pub static PEAK: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    ALLOCATED.fetch_add(bytes, Relaxed);
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

#[expect(unsafe_code, reason = "only an allocator sees what is allocated; every call goes to the system's as it came")]
// SAFETY: every method hands its arguments on to `System`, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's contract is that of `System`
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's contract is that of `System`
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // while it moves, both are there
        taken(new_size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is that of `System`
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is that of `System`
        unsafe { System.dealloc(memory, layout) }
    }
}
