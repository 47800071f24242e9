//! Layer 4: event channels. Xen announces all events of a vCPU by one interrupt (`upcall`); two levels of bits name
//! the ports (`two_level`).
//!
//! A [`Channel`] owns a port, and closes it when dropped. The interrupt's handler only marks an event, and masks its
//! port. The [`Event`] is the work left to do: the port stays masked until the work is done and the event is dropped.
//! So a peer that sends without end costs one interrupt for each time its work is done, and starves no one.
//!
//! | | opened by | `send` |
//! |---|---|---|
//! | [`Unbound`] | us, for a peer to connect to; [`accept`](Channel::accept) makes it an [`Interdomain`] | |
//! | [`Interdomain`] | both | to the peer |
//! | [`Ipi`] | us | to its vCPU |
//! | [`VirtualIrq`] | us | |
//!
//! FIFO channels, offered by Xen for more than 4096 ports, are not used: they could be added by replacing only
//! `two_level`.

mod bind;
mod channel;
mod port;
mod ports;
pub(crate) mod two_level;
#[allow(unsafe_code, reason = "a handler is installed")]
pub(crate) mod upcall;

pub use channel::{Channel, Event, EventError, Interdomain, Ipi, Kind, Unbound, VirtualIrq, poll_any};
