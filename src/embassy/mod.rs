//! Floor 6, with the feature `embassy`: tasks. [`Executor`] runs [`embassy_executor`]'s tasks on a vCPU, which halts
//! while none is ready, and `embassy-time`'s clock and timers are Xen's. What is awaited is any future: an event channel's
//! [`ready`](crate::event::Channel::ready), a reference's
//! [`grant_when_free`](crate::grant::GrantTable::grant_when_free), a timer, or whatever the ecosystem has. Timers know the
//! wakers of embassy's tasks alone: not inside of what wraps wakers, as `FuturesUnordered` does. They use the vCPU's alarm
//! ([`timer`](crate::time::timer)), which is theirs then.
//!
//! `examples/async.rs` has two tasks.

mod executor;
mod time;

pub use embassy_executor::{SpawnError, Spawner, task};
pub use executor::Executor;
