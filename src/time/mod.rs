//! Floor 3: time. Each vCPU's clock by its time-stamp counter (`clock`), the wall clock ([`wall_clock`]), each vCPU's
//! one-shot timer ([`timer`]), and waiting, which always has a deadline ([`wait_until`]).
//!
//! A Xen is needed for all of it. Without one, an [`Instant`] counts ticks of the processor.

pub(crate) mod clock;
mod deadline;
mod idle;
mod instant;
#[allow(unsafe_code, reason = "a closure that outlives no wait")]
mod meanwhile;
pub mod timer;
mod wait;
mod wall;

pub use deadline::{Deadline, TimedOut};
pub(crate) use idle::before_halt;
pub use instant::Instant;
pub use meanwhile::meanwhile;
pub use wait::{pause, sleep, wait_until};
pub use wall::wall_clock;

/// Puts a value into the first place that has none yet, and returns which; `None` if all have one.
fn claim<T>(places: &[spin::Once<T>], value: T) -> Option<usize> {
    let mut value = Some(value);
    places.iter().position(|place| {
        let _ = place.try_call_once(|| value.take().ok_or(()));
        value.is_none()
    })
}
