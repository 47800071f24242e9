//! Each vCPU's one-shot timer. Xen has one per vCPU, shared by the vCPU's waits and alarms: it fires no later than
//! the earliest of them, and is set again if it fires too early.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use super::{Deadline, Instant};
use crate::hypercall::{Xen, vcpu};
use crate::sync::{InterruptGuard, PerVcpu, per_vcpu, this_vcpu};

/// No time is set.
const NEVER: u64 = u64::MAX;

/// A time in nanoseconds since boot, stored as its complement, so that [`NEVER`] takes no space in the image.
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

/// One vCPU's timer. Only that vCPU uses it, with interrupts masked.
struct Timer {
    wait: At,
    alarms: [At; ALARMS],
    /// 1 once the awaited time has come.
    fired: AtomicU64,
    /// When Xen's timer will fire.
    set: At,
}

static TIMERS: PerVcpu<Timer> = per_vcpu!(Timer {
    wait: At::never(),
    alarms: [const { At::never() }; ALARMS],
    fired: AtomicU64::new(0),
    set: At::never(),
});

/// Maximum number of alarm users.
const ALARMS: usize = 2;

static HANDLERS: [Once<fn()>; ALARMS] = [const { Once::new() }; ALARMS];

/// An alarm on each vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm(usize);

/// All alarms have a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAlarm;

impl core::fmt::Display for NoAlarm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "all {ALARMS} alarms of a vCPU are in use")
    }
}

impl core::error::Error for NoAlarm {}

/// Allocates an alarm on every vCPU. The timer interrupt's handler calls `handler`.
///
/// # Errors
///
/// [`NoAlarm`] if both alarms have a user already.
pub fn on_alarm(handler: fn()) -> Result<Alarm, NoAlarm> {
    super::claim(&HANDLERS, handler).map(Alarm).ok_or(NoAlarm)
}

impl Alarm {
    /// Sets this vCPU's alarm, replacing its previous deadline.
    pub fn set(self, deadline: Deadline) {
        with_own(|timer, xen| {
            timer.alarms[self.0].store(nanoseconds(deadline), Ordering::Relaxed);
            program(timer, xen, None);
        });
    }
}

/// Requests an interrupt of this vCPU at the deadline. `now` is the current time, if the caller has read it. Returns
/// `false` if no timer could be set.
pub(super) fn interrupt_at(deadline: Deadline, now: Option<Instant>) -> bool {
    with_own(|timer, xen| {
        timer.wait.store(nanoseconds(deadline), Ordering::Relaxed);
        timer.fired.store(0, Ordering::Relaxed);
        program(timer, xen, now)
    })
    .unwrap_or(false)
}

/// Returns whether the interrupt requested by [`interrupt_at`] has come.
pub(super) fn wait_has_fired() -> bool {
    with_own(|timer, _| timer.fired.load(Ordering::Relaxed) != 0).unwrap_or(true)
}

/// Ends the wait: its deadline needs no interrupt any more.
pub(super) fn wait_is_over() {
    with_own(|timer, _| timer.wait.store(NEVER, Ordering::Relaxed));
}

/// Handles this vCPU's timer interrupt.
pub(crate) fn fired() {
    let now = Instant::now().nanoseconds();
    let alarmed = with_own(|timer, xen| {
        timer.set.store(NEVER, Ordering::Relaxed);
        let wait = timer.wait.load(Ordering::Relaxed);
        if wait <= now {
            timer.wait.store(NEVER, Ordering::Relaxed);
            timer.fired.store(1, Ordering::Relaxed);
        }
        let alarmed = core::array::from_fn(|index| {
            let has_come = timer.alarms[index].load(Ordering::Relaxed) <= now;
            if has_come {
                timer.alarms[index].store(NEVER, Ordering::Relaxed);
            }
            has_come
        });
        program(timer, xen, Some(Instant::from_nanoseconds(now)));
        alarmed
    });
    let alarmed: [bool; ALARMS] = alarmed.unwrap_or_default();
    let handlers = HANDLERS.iter().map_while(Once::get).zip(alarmed);
    handlers.filter(|&(_, alarmed)| alarmed).for_each(|(handler, _)| handler());
}

fn nanoseconds(deadline: Deadline) -> u64 {
    // Xen's time is signed: Xen would take a value beyond `i64::MAX` for a past time, so here it is never.
    deadline.instant().map(Instant::nanoseconds).filter(|&at| i64::try_from(at).is_ok()).unwrap_or(NEVER)
}

fn with_own<R>(access: impl FnOnce(&Timer, Xen) -> R) -> Option<R> {
    let xen = Xen::enabled()?;
    let _masked = InterruptGuard::mask();
    Some(access(TIMERS.own()?, xen))
}

/// Sets the timer to the earliest time. Returns whether Xen accepted it.
///
/// An early interrupt is harmless: the timer is then set again. So a wait that ends in time, and the next one, make
/// no hypercall for their deadlines.
fn program(timer: &Timer, xen: Xen, now: Option<Instant>) -> bool {
    let alarms = timer.alarms.iter().map(|alarm| alarm.load(Ordering::Relaxed));
    let next = alarms.fold(timer.wait.load(Ordering::Relaxed), u64::min);
    let set = timer.set.load(Ordering::Relaxed);
    // A timer is set anew if it should have fired but raised no interrupt.
    let is_to_come = |at| at != NEVER && at > now.unwrap_or_else(Instant::now).nanoseconds();
    if next == NEVER || (set <= next && is_to_come(set)) {
        return true;
    }
    let is_set = vcpu::set_timer(&xen, this_vcpu::number() as u32, next).is_ok();
    timer.set.store(if is_set { next } else { NEVER }, Ordering::Relaxed);
    is_set
}
