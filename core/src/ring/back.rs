//! The back end of a ring: it reads requests and writes responses.

use super::{Indices, PeerBroke, Protocol, REQUESTS, RESPONSES, Ring, RingError, RingMemory, Role};
use crate::sync::atomic::Ordering;

/// The back end: it reads requests and writes responses.
#[derive(Debug)]
pub struct Back(());

impl Role for Back {
    const OURS: Indices = RESPONSES;
    const THEIRS: Indices = REQUESTS;

    /// The front reuses a slot only after its request has been answered.
    fn bounds(slots: u32, produced: u32, _: u32, _: u32) -> (u32, u32) {
        (produced, slots)
    }
}

impl<P: Protocol, M: RingMemory> Ring<Back, P, M> {
    /// Attaches to the ring in this memory, already initialised by the front. Continues where an earlier back end
    /// stopped: requests without a published response are read again.
    ///
    /// # Errors
    ///
    /// [`RingError::TooSmall`] if the memory doesn't hold a slot.
    #[doc(alias = "BACK_RING_ATTACH")]
    pub fn attach(memory: M) -> Result<Self, RingError> {
        // The front may have written any index here. A wrong index only makes the front's own ring
        // unusable.
        let index =
            if memory.len() < super::HEADER { 0 } else { memory.load(RESPONSES.producer, Ordering::Relaxed) };
        Self::at_index(memory, index, Back(()))
    }

    /// Returns the number of requests read but not yet answered.
    pub fn unanswered(&self) -> u32 {
        self.consumed.wrapping_sub(self.produced)
    }

    /// Reads the next request. Returns `None` if no request is waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the front claims more requests than slots, or fewer than before, or if the ring is closed.
    #[doc(alias = "RING_COPY_REQUEST")]
    #[doc(alias = "RING_REQUEST_PROD_OVERFLOW")]
    pub fn pop(&mut self) -> Result<Option<P::Request>, PeerBroke> {
        Ok(if self.has_next()? { Some(self.read()) } else { None })
    }

    /// Writes a response. The peer sees it only after the next [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`RingError::NothingAsked`] if every request read has been answered; [`RingError::Closed`] if the ring is
    /// closed.
    pub fn push(&mut self, response: &P::Response) -> Result<(), RingError> {
        self.open()?;
        if self.unanswered() == 0 {
            return Err(RingError::NothingAsked);
        }
        self.write(response);
        Ok(())
    }
}
