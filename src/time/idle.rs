//! A vCPU's work before it halts: polling for work without events, and giving back its private caches.

use core::time::Duration;

use spin::Once;

/// Work done before a vCPU halts, outside interrupt handlers. Returns the delay until the next poll, if work remains
/// that no event announces.
pub type Work = fn() -> Option<Duration>;

/// Maximum number of functions.
const MAX: usize = 4;

static WORK: [Once<Work>; MAX] = [const { Once::new() }; MAX];

/// No more work can be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMuch;

/// Makes every vCPU do this work before it halts.
///
/// # Errors
///
/// [`TooMuch`] if four functions are registered already.
pub fn before_halt(work: Work) -> Result<(), TooMuch> {
    super::claim(&WORK, work).map(drop).ok_or(TooMuch)
}

/// Does all the work. Returns the delay until the next poll, if one is needed.
pub(super) fn work() -> Option<Duration> {
    WORK.iter().map_while(Once::get).filter_map(|work| work()).min()
}
