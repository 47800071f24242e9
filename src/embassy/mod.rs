//! Layer 6, with the feature `embassy`: tasks. [`Executor`] runs the tasks of [`embassy_executor`] on a vCPU and
//! halts it while no task is ready. `embassy-time` uses Xen's clock and timers. A task may await any future: an event
//! channel's [`ready`](crate::event::Channel::ready), a reference's
//! [`grant_when_free`](crate::grant::GrantTable::grant_when_free), a timer, or any future of the ecosystem. Timers
//! accept only the wakers of embassy's tasks, so they don't work inside a future with its own wakers, such as
//! `FuturesUnordered`. They take one of the vCPU's alarms ([`timer`](crate::time::timer)).
//!
//! `examples/async.rs` has two tasks.

mod executor;
mod time;

pub use embassy_executor::{SpawnError, Spawner, task};
pub use executor::Executor;
