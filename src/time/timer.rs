//! Each vCPU's one-shot timer. Xen has one for each; a wait on the vCPU uses it, and so does whoever wants an
//! alarm: it fires no later than the earlier of the two, and is set again if it fires too early.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use super::{Deadline, Instant};
use crate::hypercall::{Xen, vcpu};
use crate::sync::{Masked, PerVcpu, per_vcpu, this_vcpu};

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
    alarms: [At; ALARMS],
    /// 1 once the time that is waited for has come.
    fired: AtomicU64,
    /// When Xen's will fire.
    set: At,
}

static TIMERS: PerVcpu<Timer> = per_vcpu!(Timer {
    wait: At::never(),
    alarms: [const { At::never() }; ALARMS],
    fired: AtomicU64::new(0),
    set: At::never(),
});

/// Users of alarms there may be.
const ALARMS: usize = 2;

static HANDLERS: [Once<fn()>; ALARMS] = [const { Once::new() }; ALARMS];

/// An alarm of each vCPU.
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

/// An alarm of every vCPU, which `handler` handles in the interrupt's handler.
///
/// # Errors
///
/// [`NoAlarm`], if two have one already.
pub fn on_alarm(handler: fn()) -> Result<Alarm, NoAlarm> {
    super::claim(&HANDLERS, handler).map(Alarm).ok_or(NoAlarm)
}

impl Alarm {
    /// Sets this vCPU's alarm, in place of what it was set to.
    pub fn set(self, deadline: Deadline) {
        with_own(|timer, xen| {
            timer.alarms[self.0].store(nanoseconds(deadline), Ordering::Relaxed);
            program(timer, xen, None);
        });
    }
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
    // Xen's time is a signed number: what that can't say has passed, for Xen.
    deadline.instant().map(Instant::nanoseconds).filter(|&at| i64::try_from(at).is_ok()).unwrap_or(NEVER)
}

fn with_own<R>(access: impl FnOnce(&Timer, Xen) -> R) -> Option<R> {
    let xen = Xen::enabled()?;
    let _masked = Masked::mask();
    Some(access(TIMERS.own()?, xen))
}

/// Sets the timer to what comes first. Tells whether Xen agreed.
///
/// One that fires too early is harmless: when it does it is set again. So a wait that ends in time, and the next one,
/// make no call for their deadlines.
fn program(timer: &Timer, xen: Xen, now: Option<Instant>) -> bool {
    let alarms = timer.alarms.iter().map(|alarm| alarm.load(Ordering::Relaxed));
    let next = alarms.fold(timer.wait.load(Ordering::Relaxed), u64::min);
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
