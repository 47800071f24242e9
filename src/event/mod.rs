//! Layer 4: event channels. Xen announces all events of a vCPU by one interrupt (`upcall`); two levels of bits name
//! the ports (`two_level`).
//!
//! A [`Channel`] owns a port, and closes it when dropped. The upcall only marks an event, and masks its port. (A few
//! ports of our own have a handler, called at once.) The [`Event`] is the work left to do: the port stays masked until
//! the program has done the work and drops the event. So a peer that sends without pause causes one interrupt at a
//! time, and starves no other.
//!
//! | | opened by | `send` |
//! |---|---|---|
//! | [`Unbound`] | us, for a peer to connect to; [`accept`](Channel::accept) makes it an [`Interdomain`] | |
//! | [`Interdomain`] | both | to the peer |
//! | [`Ipi`] | us | to its vCPU |
//! | [`VirtualIrq`] | us | |
//!
//! FIFO channels, offered by Xen for more than 4096 ports, are not used.

mod bind;
mod channel;
mod port;
mod ports;
pub(crate) mod two_level;
#[allow(unsafe_code, reason = "a handler is installed")]
pub(crate) mod upcall;

pub use channel::{Channel, Event, EventError, Interdomain, Ipi, Kind, Unbound, VirtualIrq, poll_any};
