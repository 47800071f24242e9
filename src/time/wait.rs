//! Waiting on a vCPU, without losing a wake-up.

use core::time::Duration;

use super::{Deadline, Instant, TimedOut, idle, meanwhile, timer};
use crate::arch;
use crate::hypercall::{Xen, sched};
use crate::sync::this_vcpu;

/// Waits until `ready` returns a value. Calls it again after each interrupt of this vCPU. The last call before the
/// processor halts is made with interrupts masked, so that no event in between is missed.
///
/// If interrupts are masked, as in a handler, they stay masked, and `ready` is polled.
///
/// # Errors
///
/// [`TimedOut`] after the deadline. `ready` is called at least once.
pub fn wait_until<T>(deadline: Deadline, mut ready: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    let mut armed = false;
    let result = loop {
        if let Some(result) = ready() {
            break Ok(result);
        }
        // The timer belongs to the interrupted code: a wait in a handler leaves it alone.
        if this_vcpu::is_handling() || !arch::interrupts_are_enabled() {
            if deadline.has_passed() {
                break Err(TimedOut);
            }
            pause();
            continue;
        }
        if meanwhile::work() {
            if deadline.has_passed() {
                break Err(TimedOut);
            }
            continue;
        }
        let look_again = idle::work();
        // Read the clock only once per round: under Xen that can take thousands of instructions.
        let now =
            if deadline == Deadline::NEVER && look_again.is_none() { None } else { Some(Instant::now()) };
        if let (Some(at), Some(now)) = (deadline.instant(), now)
            && now >= at
        {
            break Err(TimedOut);
        }
        let look = now.zip(look_again).map_or(Deadline::NEVER, |(now, after)| Deadline::at(now + after));
        if !timer::interrupt_at(deadline.or_earlier(look), now) {
            pause();
            continue;
        }
        armed = true;
        let mut result = None;
        arch::wait_for_interrupt(|| {
            result = ready();
            // The timer may have fired before interrupts were masked.
            result.is_none() && !timer::wait_has_fired()
        });
        if let Some(result) = result {
            break Ok(result);
        }
    };
    if armed {
        timer::wait_is_over();
    }
    result
}

/// Sleeps for `duration`. Other handlers and other domains run meanwhile.
pub fn sleep(duration: Duration) {
    // Never ready: the wait ends by its deadline.
    let _: Result<(), TimedOut> = wait_until(Deadline::after(duration), || None);
}

/// Yields for a moment, in a loop polling a condition that raises no interrupt.
pub fn pause() {
    core::hint::spin_loop();
    match Xen::enabled() {
        Some(xen) => sched::yield_now(&xen),
        #[cfg(not(granite_guest))]
        None => std::thread::yield_now(),
        #[cfg(granite_guest)]
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Deadline, Instant, TimedOut, wait_until};
    use core::time::Duration;

    #[test]
    fn what_is_ready_wins_over_a_deadline_that_has_passed() {
        let past = Deadline::at(Instant::from_nanoseconds(0));
        assert_eq!(wait_until(past, || Some(3)), Ok(3));
        assert_eq!(wait_until(past, || None::<()>), Err(TimedOut));
        let mut asked = 0;
        let third = || {
            asked += 1;
            (asked == 3).then_some(())
        };
        assert_eq!(wait_until(Deadline::after(Duration::from_secs(100)), third), Ok(()));
    }
}
