//! Whether an interrupt is being handled: what a handler must not touch, it can know by this.

use core::sync::atomic::{AtomicBool, Ordering};

/// Of the one vCPU that runs.
static HANDLING: AtomicBool = AtomicBool::new(false);

/// Whether the caller is in an interrupt handler, or in what one called.
#[inline]
pub fn is_handling() -> bool {
    // Relaxed: only this vCPU writes it, and it puts back what it found before it returns.
    HANDLING.load(Ordering::Relaxed)
}

/// Runs a handler, which may interrupt another.
pub fn handle<R>(handler: impl FnOnce() -> R) -> R {
    let outer = HANDLING.swap(true, Ordering::Relaxed);
    let result = handler();
    HANDLING.store(outer, Ordering::Relaxed);
    result
}
