//! Calling a function on every vCPU, by interrupts.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{kick, running};
use crate::sync::{IrqMutex, Masked, PerVcpu, per_vcpu, this_vcpu};
use crate::time::{Deadline, TimedOut, pause};

/// A function that is called with the number of the vCPU that it runs on.
pub type Call = &'static (dyn Fn(usize) + Sync);

/// The call that is open, and its number.
static OPEN: IrqMutex<(u64, Option<Call>)> = IrqMutex::new((0, None));

/// The number of the last call: what OPEN has, to be looked at without its lock.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Which call each vCPU has answered last.
static ANSWERED: PerVcpu<AtomicU64> = per_vcpu!(AtomicU64::new(0));

/// Each vCPU that is making the call just now.
static ANSWERING: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// Somebody's call is open: the next waits for its end.
static CALLING: IrqMutex<bool> = IrqMutex::new(false);

/// vCPUs that didn't answer in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered {
    /// The first of them.
    pub vcpu: usize,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {} did not answer a call before the deadline", self.vcpu)
    }
}

impl core::error::Error for Unanswered {}

/// Calls a function on each vCPU that runs, in a handler, with interrupts masked; on this one too. Several may call at
/// once, also with interrupts masked: who waits for others answers them.
///
/// # Errors
///
/// [`Unanswered`] after the deadline, and at once inside of such a call: it can't make another. A vCPU that answers later makes the call then, or the next one in its place.
pub fn on_all(function: Call, deadline: Deadline) -> Result<(), Unanswered> {
    let own = this_vcpu::number();
    if ANSWERING.get(own).is_none_or(|answering| answering.load(Ordering::Relaxed)) {
        return Err(Unanswered { vcpu: own });
    }
    // A handler here that called too would wait for what it interrupted. Others are answered all the same.
    let _masked = Masked::mask();
    let begun = until(deadline, || CALLING.with(|calling| !core::mem::replace(calling, true)));
    begun.map_err(|TimedOut| Unanswered { vcpu: own })?;
    let number = OPEN.with(|open| {
        *open = (open.0 + 1, Some(function));
        // Release: pairs with the Acquire of `answer`.
        LAST.store(open.0, Ordering::Release);
        open.0
    });
    // Those that run now: one that begins later has nothing to answer, and isn't kicked.
    let running = running();
    let others = || (0..running).filter(|&vcpu| vcpu != own);
    for vcpu in others() {
        let _ = kick(vcpu); // one that can't be reached doesn't answer
    }
    answer();
    // Acquire: pairs with the Release of `answer`: what the function did there is seen.
    let silent = || {
        others().find(|&vcpu| {
            ANSWERED.get(vcpu).is_some_and(|answered| answered.load(Ordering::Acquire) < number)
        })
    };
    let answered = until(deadline, || silent().is_none());
    let result = match (answered, silent()) {
        (Err(TimedOut), Some(vcpu)) => Err(Unanswered { vcpu }),
        _ => Ok(()),
    };
    CALLING.with(|calling| *calling = false);
    result
}

/// Waits, and answers calls meanwhile.
fn until(deadline: Deadline, mut is_so: impl FnMut() -> bool) -> Result<(), TimedOut> {
    // Not by `wait_until`: the others answer within microseconds, and may be waiting for our answer.
    loop {
        if is_so() {
            return Ok(());
        }
        if deadline.has_passed() {
            return Err(TimedOut);
        }
        answer();
        pause();
    }
}

/// Makes the call that is open, if this vCPU hasn't yet. The handler of a kick.
pub(super) fn answer() {
    let own = this_vcpu::number();
    let (Some(answered), Some(answering)) = (ANSWERED.get(own), ANSWERING.get(own)) else { return };
    let _masked = Masked::mask();
    // Acquire: pairs with the Release of `on_all`.
    let is_answered = answered.load(Ordering::Relaxed) >= LAST.load(Ordering::Acquire);
    if is_answered || answering.swap(true, Ordering::Relaxed) {
        return;
    }
    let (number, function) = OPEN.with(|open| *open);
    if let Some(function) = function {
        this_vcpu::handle(|| function(own));
    }
    answering.store(false, Ordering::Relaxed);
    // Release: pairs with the Acquire of `on_all`.
    answered.store(number, Ordering::Release);
}

/// To be called by a vCPU that ends: no call waits for it.
pub(super) fn end() {
    if let Some(answered) = ANSWERED.own() {
        // Release: pairs with the Acquire of `on_all`.
        answered.store(u64::MAX, Ordering::Release);
    }
}

/// To be called by a vCPU that begins: calls from before are none of its own.
pub(super) fn begin() {
    if let Some(answered) = ANSWERED.own() {
        answered.store(LAST.load(Ordering::Acquire), Ordering::Relaxed);
    }
}
