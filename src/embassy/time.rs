//! The clock of `embassy-time`, in microseconds since Xen booted, and its timers.

use core::task::Waker;

use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;
use spin::Once;

use crate::sync::IrqMutex;
use crate::time::timer::{self, Alarm, NoAlarm};
use crate::time::{Deadline, Instant};

const NANOSECONDS: u64 = 1_000_000_000;
/// Nanoseconds of a tick.
const TICK: u64 = NANOSECONDS / TICK_HZ;
const _: () = assert!(NANOSECONDS.is_multiple_of(TICK_HZ), "ticks of embassy-time must be whole nanoseconds");

/// The driver of `embassy-time`, with Xen's time.
struct XenTime {
    queue: IrqMutex<Queue>,
}

embassy_time_driver::time_driver_impl!(static TIME: XenTime = XenTime { queue: IrqMutex::new(Queue::new()) });

impl Driver for XenTime {
    fn now(&self) -> u64 {
        Instant::now().nanoseconds() / TICK
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        if self.queue.with(|queue| queue.schedule_wake(at, waker)) {
            self.wake();
        }
    }
}

impl XenTime {
    /// Wakes the tasks whose time has come, and sets this vCPU's alarm for the next one. All vCPUs share one queue,
    /// so the interrupted vCPU handles all of it.
    fn wake(&self) {
        self.queue.with(|queue| {
            let next = queue.next_expiration(self.now());
            let deadline = match next.checked_mul(TICK) {
                // The beginning of the tick: then its time has come.
                Some(nanoseconds) if next != u64::MAX => Deadline::at(Instant::from_nanoseconds(nanoseconds)),
                _ => Deadline::NEVER,
            };
            if let Some(alarm) = alarm() {
                alarm.set(deadline);
            }
        });
    }
}

/// Returns the alarm used by timers, one on each vCPU. The first call claims it.
fn alarm() -> Option<Alarm> {
    static ALARM: Once<Result<Alarm, NoAlarm>> = Once::new();
    let claimed = ALARM.call_once(|| {
        let claimed = timer::on_alarm(|| TIME.wake());
        if let Err(error) = claimed {
            log::error!("no timer of embassy-time will fire: {error}");
        }
        claimed
    });
    claimed.ok()
}
