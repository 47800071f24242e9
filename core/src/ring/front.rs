//! The end that asks.

use super::ids::{Ids, RequestId};
use super::{HEADER, Indices, PeerBroke, Protocol, REQUESTS, RESPONSES, Ring, RingError, RingMemory, Role};
use crate::sync::primitive::Ordering;

/// The end that asks. It alone initialises the memory.
#[derive(Debug)]
pub struct Front {
    ids: Ids,
}

impl Role for Front {
    const OURS: Indices = REQUESTS;
    const THEIRS: Indices = RESPONSES;

    /// Nothing is answered that wasn't published.
    fn bounds(_: u32, _: u32, published: u32, consumed: u32) -> (u32, u32) {
        (consumed, published.wrapping_sub(consumed))
    }
}

impl<P: Protocol, M: RingMemory> Ring<Front, P, M> {
    /// A ring in this memory, which no peer uses yet.
    ///
    /// # Errors
    ///
    /// [`RingError::TooSmall`].
    #[doc(alias = "XEN_FRONT_RING_INIT")]
    pub fn new(memory: M) -> Result<Self, RingError> {
        let ring = Self::at_index(memory, 0, Front { ids: Ids::new(0) })?;
        let role = Front { ids: Ids::new(ring.slots) };
        ring.memory.write(0, &[0; HEADER]);
        for direction in [REQUESTS, RESPONSES] {
            // The first of each is told of.
            ring.memory.store(direction.event, 1, Ordering::Relaxed);
        }
        Ok(Self { role, ..ring })
    }

    /// Requests that there is room for.
    #[doc(alias = "RING_FREE_REQUESTS")]
    pub fn free(&self) -> u32 {
        self.slots - self.produced.wrapping_sub(self.consumed)
    }

    /// Requests that aren't answered.
    pub fn in_flight(&self) -> usize {
        self.role.ids.in_flight()
    }

    /// Writes a request, which is given its number. The peer doesn't see it before the next [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`RingError::Full`], [`RingError::Closed`].
    pub fn push(&mut self, request: impl FnOnce(RequestId) -> P::Request) -> Result<RequestId, RingError> {
        self.open()?;
        if self.free() == 0 {
            return Err(RingError::Full);
        }
        let id = self.role.ids.take().ok_or(RingError::Full)?;
        self.write(&request(id));
        Ok(id)
    }

    /// The next response, and the request that it answers.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`]: the index can't be, or nobody asked.
    #[doc(alias = "RING_COPY_RESPONSE")]
    pub fn pop(&mut self) -> Result<Option<(RequestId, P::Response)>, PeerBroke> {
        if !self.has_next()? {
            return Ok(None);
        }
        let response = self.read::<P::Response>();
        let claimed = P::answers(&response);
        match self.role.ids.land(claimed) {
            Some(id) => Ok(Some((id, response))),
            None => Err(self.close(PeerBroke::Id { claimed })),
        }
    }

    /// As [`arm`](Self::arm), but to be told only when so many responses wait, or all that can come: fewer
    /// interruptions for who has other things to do. `true` if so many wait.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
    pub fn arm_for(&mut self, responses: u32) -> Result<bool, PeerBroke> {
        let can_come = self.published.wrapping_sub(self.consumed);
        let wanted = responses.min(can_come).max(1);
        Ok(self.look()? >= wanted || self.arm_at(wanted)? >= wanted)
    }
}
