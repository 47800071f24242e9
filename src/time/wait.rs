//! Waiting on a vCPU, without losing a wake-up.

use core::time::Duration;

use super::{Deadline, Instant, TimedOut, idle, meanwhile, timer};
use crate::arch;
use crate::hypercall::{Xen, sched};
use crate::sync::this_vcpu;

/// Waits until `ready` gives something. It is asked again after each interrupt of this vCPU, and for the last time
/// before the processor halts with interrupts masked, so that what comes in between is not slept over.
///
/// Where interrupts are masked, as in a handler, they stay so, and `ready` is asked over and over.
///
/// # Errors
///
/// [`TimedOut`] after the deadline. `ready` is asked once in any case.
pub fn wait_until<T>(deadline: Deadline, mut ready: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    let mut armed = false;
    let result = loop {
        if let Some(result) = ready() {
            break Ok(result);
        }
        // The timer is that of whoever was interrupted: a wait in a handler leaves it alone.
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
        // The clock is read once each time: under Xen that can be thousands of instructions.
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

/// Waits for so long. Other handlers run meanwhile, and other domains.
pub fn sleep(duration: Duration) {
    // Nothing is ready ever: it ends by the deadline.
    let _: Result<(), TimedOut> = wait_until(Deadline::after(duration), || None);
}

/// Lets others run for a moment, in a loop that waits for what no interrupt announces.
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
