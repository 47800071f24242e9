//! Floor 4: event channels. Xen tells a vCPU by one interrupt that something came (`delivery`); which ports it is,
//! two levels of bits say (`bits`).
//!
//! A [`Channel`] owns a port, and closes it when it is dropped. What comes is only marked by the interrupt's handler,
//! which masks the port as well: an [`Event`] is what is left to do, and the port stays masked until that is done and
//! the event dropped. So a peer that sends without end costs one interrupt for each time that its work was done, and
//! starves nobody.
//!
//! | | opened by | `send` |
//! |---|---|---|
//! | [`Unbound`] | us, for a peer to connect to; [`accept`](Channel::accept) makes it an [`Interdomain`] | |
//! | [`Interdomain`] | both | to the peer |
//! | [`Ipi`] | us | to the vCPU that it was opened for |
//! | [`VirtualIrq`] | us | |
//!
//! FIFO channels, which Xen offers for more than 4096 ports, are not used: `bits` is all that they would replace.

pub(crate) mod bits;
mod channel;
#[allow(unsafe_code, reason = "a handler is installed")]
pub(crate) mod delivery;
mod open;
mod slot;
mod slots;

pub use channel::{Channel, Event, EventError, Interdomain, Ipi, Kind, Unbound, VirtualIrq, poll_any};
