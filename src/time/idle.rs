//! What a vCPU does before it halts: work that no event announces, and giving back what it keeps for itself.

use core::time::Duration;

use spin::Once;

/// Work that is done before a vCPU halts, outside of interrupt handlers. Returns in how long to look again, if something
/// is left to do that no event announces.
pub type Work = fn() -> Option<Duration>;

/// How many there may be.
const MAX: usize = 4;

static WORK: [Once<Work>; MAX] = [const { Once::new() }; MAX];

/// No more work can be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMuch;

/// Has every vCPU do this before it halts.
///
/// # Errors
///
/// [`TooMuch`], if four do something already.
pub fn before_halt(work: Work) -> Result<(), TooMuch> {
    super::claim(&WORK, work).map(drop).ok_or(TooMuch)
}

/// Does all of it. Returns in how long to look again, if that is to be.
pub(super) fn work() -> Option<Duration> {
    WORK.iter().map_while(Once::get).filter_map(|work| work()).min()
}
