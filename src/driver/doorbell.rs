//! How the two ends of a ring tell each other.

use crate::event::{Event, EventError, Interdomain};
use crate::time::{Deadline, TimedOut};

/// Tells the peer, and waits for it. An event channel does; so does whatever runs both ends in one domain.
pub trait Doorbell {
    /// What holds further rings off until the work is done.
    type Ring<'b>
    where
        Self: 'b;

    /// Tells the peer.
    ///
    /// # Errors
    ///
    /// It can't be told any more.
    fn ring(&self) -> Result<(), EventError>;

    /// Whether the peer is connected still. It may cost a hypercall.
    fn is_connected(&self) -> bool;

    /// Waits until the peer has told. It may return for nothing.
    ///
    /// # Errors
    ///
    /// [`TimedOut`].
    fn wait(&self, deadline: Deadline) -> Result<Self::Ring<'_>, TimedOut>;
}

impl Doorbell for Interdomain {
    type Ring<'b> = Event<'b>;

    fn ring(&self) -> Result<(), EventError> {
        self.send()
    }

    fn is_connected(&self) -> bool {
        self.is_interdomain()
    }

    fn wait(&self, deadline: Deadline) -> Result<Event<'_>, TimedOut> {
        self.wait(deadline)
    }
}
