//! Calling a function on every vCPU, by interrupts.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{running, wake};
use crate::sync::{InterruptGuard, IrqMutex, PerVcpu, per_vcpu, this_vcpu};
use crate::time::{Deadline, TimedOut, pause};

/// A function called with the number of the vCPU running it.
pub type Call = &'static (dyn Fn(usize) + Sync);

/// The open call, and its number.
static OPEN: IrqMutex<(u64, Option<Call>)> = IrqMutex::new((0, None));

/// The number of the last call: the one in OPEN, readable without its lock.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The last call answered by each vCPU.
static ANSWERED: PerVcpu<AtomicU64> = per_vcpu!(AtomicU64::new(0));

/// Set while the vCPU is making the call.
static ANSWERING: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// Set while a call is open: the next caller waits for its end.
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

/// Calls a function on each running vCPU, including this one, in a handler with interrupts masked. Several vCPUs may
/// call at once, even with interrupts masked: a waiting caller answers the calls of others.
///
/// # Errors
///
/// [`Unanswered`] after the deadline, and at once inside such a call, which can't make another. A vCPU that answers
/// later makes the call then, or the next one in its place.
pub fn call_all(function: Call, deadline: Deadline) -> Result<(), Unanswered> {
    let own = this_vcpu::number();
    if ANSWERING.get(own).is_none_or(|answering| answering.load(Ordering::Relaxed)) {
        return Err(Unanswered { vcpu: own });
    }
    // Mask interrupts: a handler making a call here would wait for this interrupted one. Other vCPUs' calls are still
    // answered.
    let _masked = InterruptGuard::mask();
    let begun = until(deadline, || CALLING.with(|calling| !core::mem::replace(calling, true)));
    begun.map_err(|TimedOut| Unanswered { vcpu: own })?;
    let number = OPEN.with(|open| {
        *open = (open.0 + 1, Some(function));
        // Release: pairs with the Acquire of `answer`.
        LAST.store(open.0, Ordering::Release);
        open.0
    });
    // The vCPUs running now: one starting later has no call to answer, and isn't kicked.
    let running = running();
    let others = || (0..running).filter(|&vcpu| vcpu != own);
    for vcpu in others() {
        let _ = wake(vcpu); // one that can't be reached doesn't answer
    }
    answer();
    // Acquire: pairs with the Release of `answer`: the function's effects there are visible.
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
    // Don't use `wait_until`: the others answer within microseconds, and may be waiting for our answer.
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

/// Makes the open call, if this vCPU hasn't yet. The handler of a wake.
pub(super) fn answer() {
    let own = this_vcpu::number();
    let (Some(answered), Some(answering)) = (ANSWERED.get(own), ANSWERING.get(own)) else { return };
    let _masked = InterruptGuard::mask();
    // Acquire: pairs with the Release of `call_all`.
    let is_answered = answered.load(Ordering::Relaxed) >= LAST.load(Ordering::Acquire);
    if is_answered || answering.swap(true, Ordering::Relaxed) {
        return;
    }
    let (number, function) = OPEN.with(|open| *open);
    if let Some(function) = function {
        this_vcpu::handle(|| function(own));
    }
    answering.store(false, Ordering::Relaxed);
    // Release: pairs with the Acquire of `call_all`.
    answered.store(number, Ordering::Release);
}

/// Called by an ending vCPU: no call waits for it.
pub(super) fn end() {
    if let Some(answered) = ANSWERED.own() {
        // Release: pairs with the Acquire of `call_all`.
        answered.store(u64::MAX, Ordering::Release);
    }
}

/// Called by a starting vCPU: earlier calls aren't for it.
pub(super) fn begin() {
    if let Some(answered) = ANSWERED.own() {
        answered.store(LAST.load(Ordering::Acquire), Ordering::Relaxed);
    }
}
