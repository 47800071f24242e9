//! The end that answers.

use super::{Indices, PeerBroke, Protocol, REQUESTS, RESPONSES, Ring, RingError, RingMemory, Role};
use crate::sync::primitive::Ordering;

/// The end that answers.
#[derive(Debug)]
pub struct Back(());

impl Role for Back {
    const OURS: Indices = RESPONSES;
    const THEIRS: Indices = REQUESTS;

    /// A slot is asked in again only when it is answered.
    fn bounds(slots: u32, produced: u32, _: u32, _: u32) -> (u32, u32) {
        (produced, slots)
    }
}

impl<P: Protocol, M: RingMemory> Ring<Back, P, M> {
    /// The ring in this memory, which the front has initialised. What an earlier back end has answered stays answered;
    /// what it has only read is read again.
    ///
    /// # Errors
    ///
    /// [`RingError::TooSmall`].
    #[doc(alias = "BACK_RING_ATTACH")]
    pub fn attach(memory: M) -> Result<Self, RingError> {
        // Whatever the front wrote there: it has itself to blame for where its ring begins.
        let index =
            if memory.len() < super::HEADER { 0 } else { memory.load(RESPONSES.producer, Ordering::Relaxed) };
        Self::at_index(memory, index, Back(()))
    }

    /// Requests that were read and aren't answered.
    pub fn unanswered(&self) -> u32 {
        self.consumed.wrapping_sub(self.produced)
    }

    /// The next request.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`]: more requests than slots, or fewer than there were.
    #[doc(alias = "RING_COPY_REQUEST")]
    #[doc(alias = "RING_REQUEST_PROD_OVERFLOW")]
    pub fn pop(&mut self) -> Result<Option<P::Request>, PeerBroke> {
        Ok(if self.has_next()? { Some(self.read()) } else { None })
    }

    /// Writes a response. The peer doesn't see it before the next [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`RingError::NothingAsked`], [`RingError::Closed`].
    pub fn push(&mut self, response: &P::Response) -> Result<(), RingError> {
        self.open()?;
        if self.unanswered() == 0 {
            return Err(RingError::NothingAsked);
        }
        self.write(response);
        Ok(())
    }
}
