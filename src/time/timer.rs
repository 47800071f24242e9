//! Each vCPU's one-shot timer. Xen has one for each; a wait on the vCPU uses it, and so does whoever wants an
//! alarm: it fires no later than the earlier of the two, and is set again if it fires too early.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use super::{Deadline, Instant};
use crate::hypercall::{Xen, vcpu};
use crate::sync::{MAX_VCPUS, Masked, this_vcpu};

/// Nothing is set.
const NEVER: u64 = u64::MAX;

/// A time in nanoseconds since boot, kept as its complement: so one that is [`NEVER`] takes no room in the image.
struct At(AtomicU64);

impl At {
    const fn never() -> Self {
        Self(AtomicU64::new(!NEVER))
    }

    fn load(&self, order: Ordering) -> u64 {
        !self.0.load(order)
    }

    fn store(&self, at: u64, order: Ordering) {
        self.0.store(!at, order);
    }
}

/// One vCPU's. Only that vCPU uses it, with interrupts masked.
struct Timer {
    wait: At,
    alarm: At,
    /// 1 once the time that is waited for has come.
    fired: AtomicU64,
    /// When Xen's will fire.
    set: At,
}

static TIMERS: [Timer; MAX_VCPUS] =
    [const { Timer { wait: At::never(), alarm: At::never(), fired: AtomicU64::new(0), set: At::never() } };
        MAX_VCPUS];

static ON_ALARM: Once<fn()> = Once::new();

/// Has the alarms of all vCPUs handled, in the interrupt's handler. The first call counts.
pub fn on_alarm(handler: fn()) {
    ON_ALARM.call_once(|| handler);
}

/// Sets this vCPU's alarm, in place of what it was set to.
pub fn set_alarm(deadline: Deadline) {
    with_own(|timer, xen| {
        timer.alarm.store(nanoseconds(deadline), Ordering::Relaxed);
        program(timer, xen, None);
    });
}

/// Sees to it that an interrupt comes to this vCPU at the deadline. `now` is the time, if the caller has read it. Returns
/// `false` without a timer.
pub(super) fn interrupt_at(deadline: Deadline, now: Option<Instant>) -> bool {
    with_own(|timer, xen| {
        timer.wait.store(nanoseconds(deadline), Ordering::Relaxed);
        timer.fired.store(0, Ordering::Relaxed);
        program(timer, xen, now)
    })
    .unwrap_or(false)
}

/// Whether the interrupt came that [`interrupt_at`] was told to bring.
pub(super) fn wait_has_fired() -> bool {
    with_own(|timer, _| timer.fired.load(Ordering::Relaxed) != 0).unwrap_or(true)
}

/// The wait is over.
pub(super) fn wait_is_over() {
    with_own(|timer, _| timer.wait.store(NEVER, Ordering::Relaxed));
}

/// To be called when this vCPU's timer has fired.
pub fn fired() {
    let now = Instant::now().nanoseconds();
    let alarmed = with_own(|timer, xen| {
        timer.set.store(NEVER, Ordering::Relaxed);
        let wait = timer.wait.load(Ordering::Relaxed);
        if wait <= now {
            timer.wait.store(NEVER, Ordering::Relaxed);
            timer.fired.store(1, Ordering::Relaxed);
        }
        let alarm = timer.alarm.load(Ordering::Relaxed);
        let alarmed = alarm <= now;
        if alarmed {
            timer.alarm.store(NEVER, Ordering::Relaxed);
        }
        program(timer, xen, Some(Instant::from_nanoseconds(now)));
        alarmed
    });
    if alarmed == Some(true)
        && let Some(handler) = ON_ALARM.get()
    {
        handler();
    }
}

fn nanoseconds(deadline: Deadline) -> u64 {
    // Xen's time is a signed number: what that can't say has passed, for Xen.
    deadline.instant().map(Instant::nanoseconds).filter(|&at| i64::try_from(at).is_ok()).unwrap_or(NEVER)
}

fn with_own<R>(access: impl FnOnce(&Timer, Xen) -> R) -> Option<R> {
    let xen = Xen::enabled()?;
    let _masked = Masked::mask();
    Some(access(TIMERS.get(this_vcpu::number())?, xen))
}

/// Sets the timer to what comes first. Tells whether Xen agreed.
///
/// One that fires too early is harmless: when it does it is set again. So a wait that ends in time, and the next one,
/// make no call for their deadlines.
fn program(timer: &Timer, xen: Xen, now: Option<Instant>) -> bool {
    let next = timer.wait.load(Ordering::Relaxed).min(timer.alarm.load(Ordering::Relaxed));
    let set = timer.set.load(Ordering::Relaxed);
    // One that should have fired, and of which nobody heard, is set anew.
    let is_to_come = |at| at != NEVER && at > now.unwrap_or_else(Instant::now).nanoseconds();
    if next == NEVER || (set <= next && is_to_come(set)) {
        return true;
    }
    let is_set = vcpu::set_timer(&xen, this_vcpu::number() as u32, next).is_ok();
    timer.set.store(if is_set { next } else { NEVER }, Ordering::Relaxed);
    is_set
}
