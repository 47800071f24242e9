//! The front end of a ring: it writes requests and reads responses.

use super::ids::{Ids, RequestId};
use super::{HEADER, Indices, PeerBroke, Protocol, REQUESTS, RESPONSES, Ring, RingError, RingMemory, Role};
use crate::sync::atomic::Ordering;

/// The front end: it writes requests and reads responses. Only this end initialises the memory.
#[derive(Debug)]
pub struct Front {
    ids: Ids,
}

impl Role for Front {
    const OURS: Indices = REQUESTS;
    const THEIRS: Indices = RESPONSES;

    /// The back can only answer published requests.
    fn bounds(_: u32, _: u32, published: u32, consumed: u32) -> (u32, u32) {
        (consumed, published.wrapping_sub(consumed))
    }
}

impl<P: Protocol, M: RingMemory> Ring<Front, P, M> {
    /// Initialises a ring in this memory, not yet used by a peer.
    ///
    /// # Errors
    ///
    /// [`RingError::TooSmall`] if the memory doesn't hold a slot.
    #[doc(alias = "XEN_FRONT_RING_INIT")]
    pub fn new(memory: M) -> Result<Self, RingError> {
        let ring = Self::at_index(memory, 0, Front { ids: Ids::new(0) })?;
        let role = Front { ids: Ids::new(ring.slots) };
        ring.memory.write(0, &[0; HEADER]);
        for direction in [REQUESTS, RESPONSES] {
            // The first entry in each direction triggers a notification.
            ring.memory.store(direction.event, 1, Ordering::Relaxed);
        }
        Ok(Self { role, ..ring })
    }

    /// Returns how many more requests fit into the ring.
    #[doc(alias = "RING_FREE_REQUESTS")]
    pub fn free(&self) -> u32 {
        self.slots - self.produced.wrapping_sub(self.consumed)
    }

    /// Returns the number of unanswered requests.
    pub fn in_flight(&self) -> usize {
        self.role.ids.in_flight()
    }

    /// Writes a request, built by `request` from its number. The peer sees it only after the next
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`RingError::Full`] if no slot is free until the peer answers; [`RingError::Closed`] if the ring is closed.
    pub fn push(&mut self, request: impl FnOnce(RequestId) -> P::Request) -> Result<RequestId, RingError> {
        self.open()?;
        if self.free() == 0 {
            return Err(RingError::Full);
        }
        let id = self.role.ids.take().ok_or(RingError::Full)?;
        self.write(&request(id));
        Ok(id)
    }

    /// Reads the next response, and returns it with the number of its request. Returns `None` if no response is
    /// waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, if the response answers no request in flight, or if the
    /// ring is closed.
    #[doc(alias = "RING_COPY_RESPONSE")]
    pub fn pop(&mut self) -> Result<Option<(RequestId, P::Response)>, PeerBroke> {
        if !self.has_next()? {
            return Ok(None);
        }
        let response = self.read::<P::Response>();
        let claimed = P::answers(&response);
        match self.role.ids.complete(claimed) {
            Some(id) => Ok(Some((id, response))),
            None => Err(self.close(PeerBroke::Id { claimed })),
        }
    }

    /// As [`arm`](Self::arm), but the notification comes after `responses` more responses, or after the last
    /// outstanding one if fewer can come. So a caller with other work is interrupted less often. Returns `true` if
    /// that many are already waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, or if the ring is closed.
    pub fn arm_for(&mut self, responses: u32) -> Result<bool, PeerBroke> {
        let can_come = self.published.wrapping_sub(self.consumed);
        let wanted = responses.min(can_come).max(1);
        Ok(self.look()? >= wanted || self.arm_at(wanted)? >= wanted)
    }
}
