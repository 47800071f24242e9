//! Layer 3: time. It has each vCPU's clock, based on its time-stamp counter (`clock`), the wall clock
//! ([`wall_clock`]), each vCPU's one-shot timer ([`timer`]), and waiting, always with a deadline ([`wait_until`]).
//!
//! All of it needs Xen. Without Xen, an [`Instant`] counts processor ticks.

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

/// Stores a value in the first free place and returns the place's index; `None` if all are taken.
fn claim<T>(places: &[spin::Once<T>], value: T) -> Option<usize> {
    let mut value = Some(value);
    places.iter().position(|place| {
        let _ = place.try_call_once(|| value.take().ok_or(()));
        value.is_none()
    })
}
