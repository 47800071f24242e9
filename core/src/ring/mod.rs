//! The shared ring. Two domains exchange requests and responses in memory written by both.
//!
//! Layout and protocol are those of Xen's `io/ring.h`, for any [`Protocol`]; [`stream`] is the counterpart for a
//! stream of bytes. A [`Ring`] has two ends:
//!
//! ```text
//!   Front: push, push, publish ──▶ requests  ──▶ Back: pop, pop, then push, push, publish
//!          pop, pop            ◀── responses ◀──
//! ```
//!
//! `publish` returns whether the peer wants a notification ([`Notify`]); `arm` asks the peer for one, then checks
//! the ring again. This module knows neither events nor hypercalls: the owner of the ring sends and waits.
//!
//! Everything written by the peer is copied out once and then checked. Our own indices are kept here, and not read back
//! after the ring was attached. An impossible value from the peer closes the ring: from then on every fallible call
//! fails with the reason ([`PeerBroke`]), and the ring is not read again.

mod back;
mod front;
mod ids;
mod memory;
pub mod stream;
#[cfg(all(test, not(granite_loom)))]
mod tests;
mod words;

pub use back::Back;
pub use front::Front;
pub use ids::RequestId;
pub use memory::RingMemory;
pub use words::Words;

use core::fmt;
use core::marker::PhantomData;

use crate::sync::atomic::{Ordering, fence};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Plain data: every bit pattern is a value, and there is no padding, because padding would leak old memory to the
/// peer. `zerocopy` derives all of these traits.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

/// The types of a ring's requests and responses.
#[doc(alias = "DEFINE_RING_TYPES")]
pub trait Protocol {
    /// A request, written by the front.
    type Request: Plain;
    /// A response, written by the back.
    type Response: Plain;

    /// Returns the number of the answered request, as claimed by the response. The peer may claim any number.
    fn answers(response: &Self::Response) -> u64;
}

/// Bytes before the first slot: four indices, and reserved space.
pub const HEADER: usize = 64;

/// Returns the bytes of a slot. A slot holds a request or a response.
pub const fn slot_size<P: Protocol>() -> usize {
    const fn larger(a: usize, b: usize) -> usize {
        if a > b { a } else { b }
    }
    let size = larger(size_of::<P::Request>(), size_of::<P::Response>());
    size.next_multiple_of(larger(align_of::<P::Request>(), align_of::<P::Response>()))
}

/// Returns the number of slots in `bytes` bytes of memory: a power of two, or 0 if not one slot fits.
#[doc(alias = "__RING_SIZE")]
pub const fn slots_in<P: Protocol>(bytes: usize) -> u32 {
    let size = slot_size::<P>();
    if size == 0 || bytes < HEADER + size {
        return 0;
    }
    let max = (bytes - HEADER) / size;
    // At most 2^16: then the difference of two 32-bit indices is unambiguous, and a slot's number fits into 16 bits.
    if max >= 1 << 16 { 1 << 16 } else { 1 << max.ilog2() }
}

/// One end of a ring, in the memory `M`. `R` is [`Front`] or [`Back`].
///
/// It isn't shared: one vCPU at a time uses it.
pub struct Ring<R: Role, P: Protocol, M: RingMemory> {
    memory: M,
    slots: u32,
    /// The index of our next write.
    produced: u32,
    /// Our index, as last published to the peer.
    published: u32,
    /// The index of our next read.
    consumed: u32,
    /// The peer's index, as last seen.
    seen: u32,
    closed: Option<PeerBroke>,
    role: R,
    _protocol: PhantomData<P>,
}

/// An end of a ring: [`Front`] or [`Back`].
pub trait Role: sealed::Sealed {
    /// Offsets of our producer index, and of the event index written by the peer for our entries.
    #[doc(hidden)]
    const OURS: Indices;
    /// Offsets of the peer's producer index, and of the event index written by us for its entries.
    #[doc(hidden)]
    const THEIRS: Indices;

    /// Returns the range for the peer's index as `(from, room)`: a valid index is at most `room` entries after `from`.
    #[doc(hidden)]
    fn bounds(slots: u32, produced: u32, published: u32, consumed: u32) -> (u32, u32);
}

/// The offsets of one direction's indices.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Indices {
    producer: usize,
    event: usize,
}

const REQUESTS: Indices = Indices { producer: 0, event: 4 };
const RESPONSES: Indices = Indices { producer: 8, event: 12 };

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Front {}
    impl Sealed for super::Back {}
}

/// Whether the peer wants a notification.
#[must_use = "without the notification the peer keeps sleeping"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notify {
    /// The peer asked for a notification: send it an event.
    Send,
    /// The peer asked for no notification now.
    Unneeded,
}

impl Notify {
    /// Returns whether the peer asked for a notification.
    pub fn is_needed(self) -> bool {
        self == Self::Send
    }
}

/// A protocol violation by the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerBroke {
    /// The peer's index went back, or beyond its bounds.
    Index {
        /// The index it wrote.
        claimed: u32,
        /// The lowest valid index; the range is modulo 2^32.
        min: u32,
        /// The highest valid index.
        max: u32,
    },
    /// A response answers a request never sent, or already answered.
    Id {
        /// The request number in the response.
        claimed: u64,
    },
    /// A byte stream has an impossible size.
    Order {
        /// The order it wrote.
        claimed: u32,
        /// The largest valid order.
        max: u32,
    },
}

impl fmt::Display for PeerBroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { claimed, min, max } => {
                write!(f, "the peer broke the ring: its index is {claimed:#x}, not {min:#x} to {max:#x}")
            }
            Self::Id { claimed } => {
                write!(f, "the peer broke the ring: it responds to {claimed:#x}, which is not in flight")
            }
            Self::Order { claimed, max } => {
                write!(f, "the peer broke the ring: its order is {claimed}, not 0 to {max}")
            }
        }
    }
}

impl core::error::Error for PeerBroke {}

/// Why a push failed, or why there is no ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RingError {
    /// No slot is free until the peer answers.
    Full,
    /// Every request read has been answered.
    NothingAsked,
    /// The memory doesn't hold a slot.
    TooSmall {
        /// The size of the memory in bytes.
        bytes: usize,
        /// The bytes of the header and one slot.
        needed: usize,
    },
    /// The ring is closed, for this reason.
    Closed(PeerBroke),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full until the peer responds"),
            Self::NothingAsked => f.write_str("every request in the ring has its response"),
            Self::TooSmall { bytes, needed } => {
                write!(f, "a ring needs {needed} bytes and has {bytes}")
            }
            Self::Closed(broke) => broke.fmt(f),
        }
    }
}

impl core::error::Error for RingError {}

impl From<PeerBroke> for RingError {
    fn from(broke: PeerBroke) -> Self {
        Self::Closed(broke)
    }
}

impl<R: Role, P: Protocol, M: RingMemory> Ring<R, P, M> {
    fn at_index(memory: M, index: u32, role: R) -> Result<Self, RingError> {
        const { assert!(slots_in::<P>(4096) > 0, "a page must hold a request and a response") };
        let slots = slots_in::<P>(memory.len());
        if slots == 0 {
            let (bytes, needed) = (memory.len(), HEADER + slot_size::<P>());
            return Err(RingError::TooSmall { bytes, needed });
        }
        let (produced, published, consumed, seen) = (index, index, index, index);
        Ok(Self {
            memory,
            slots,
            produced,
            published,
            consumed,
            seen,
            closed: None,
            role,
            _protocol: PhantomData,
        })
    }

    /// Returns the number of slots.
    #[doc(alias = "RING_SIZE")]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Ends the use of the ring and returns the memory. The peer may still use the memory.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Returns why the ring is closed, or `None` if it is open.
    pub fn closed(&self) -> Option<PeerBroke> {
        self.closed
    }

    /// Closes the ring for a reason found by its protocol. Returns the reason of the first close.
    pub fn close(&mut self, why: PeerBroke) -> PeerBroke {
        *self.closed.get_or_insert(why)
    }

    fn open(&self) -> Result<(), PeerBroke> {
        self.closed.map_or(Ok(()), Err)
    }

    /// Returns the offset of a slot. The number of slots is a power of two, so this also holds across the wrap of
    /// the index.
    fn slot(&self, index: u32) -> usize {
        HEADER + (index & (self.slots - 1)) as usize * slot_size::<P>()
    }

    fn write(&mut self, value: &impl Plain) {
        self.memory.write(self.slot(self.produced), value.as_bytes());
        self.produced = self.produced.wrapping_add(1);
    }

    fn read<T: Plain>(&mut self) -> T {
        let mut value = T::new_zeroed();
        self.memory.read(self.slot(self.consumed), value.as_mut_bytes());
        self.consumed = self.consumed.wrapping_add(1);
        value
    }

    /// Publishes the pushed entries. Returns whether the peer wants a notification.
    #[doc(alias = "RING_PUSH_REQUESTS_AND_CHECK_NOTIFY")]
    #[doc(alias = "RING_PUSH_RESPONSES_AND_CHECK_NOTIFY")]
    pub fn publish(&mut self) -> Notify {
        let (old, new) = (self.published, self.produced);
        if self.closed.is_some() || old == new {
            return Notify::Unneeded;
        }
        // Release: pairs with the Acquire of `look` on the other side: a peer that sees the index also sees the slots.
        self.memory.store(R::OURS.producer, new, Ordering::Release); // publish
        self.published = new;
        // SeqCst: pairs with the fence of `arm` on the other side. Either we see the peer's event index, or the peer
        // sees the new entries.
        fence(Ordering::SeqCst); // publish
        let event = self.memory.load(R::OURS.event, Ordering::Relaxed);
        // Notify if `event` is one of `old + 1` to `new`, modulo 2^32.
        if new.wrapping_sub(event) < new.wrapping_sub(old) { Notify::Send } else { Notify::Unneeded }
    }

    /// Reads and checks the peer's index. Returns the number of entries waiting to be read.
    fn look(&mut self) -> Result<u32, PeerBroke> {
        self.open()?;
        // Acquire: pairs with the Release of `publish` on the other side.
        let claimed = self.memory.load(R::THEIRS.producer, Ordering::Acquire); // look
        let (from, room) = R::bounds(self.slots, self.produced, self.published, self.consumed);
        let (min, max) = (self.seen, from.wrapping_add(room));
        let distance = claimed.wrapping_sub(from);
        if distance < min.wrapping_sub(from) || distance > room {
            return Err(self.close(PeerBroke::Index { claimed, min, max }));
        }
        self.seen = claimed;
        Ok(claimed.wrapping_sub(self.consumed))
    }

    /// Returns whether an entry is waiting to be read, already seen or new.
    fn has_next(&mut self) -> Result<bool, PeerBroke> {
        self.open()?;
        Ok(self.seen != self.consumed || self.look()? > 0)
    }

    /// If no entry is waiting, requests a notification for the peer's next entry, then checks the ring again. Returns
    /// `true` if an entry is waiting: the caller must not sleep.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, or if the ring is closed.
    #[doc(alias = "RING_FINAL_CHECK_FOR_REQUESTS")]
    #[doc(alias = "RING_FINAL_CHECK_FOR_RESPONSES")]
    pub fn arm(&mut self) -> Result<bool, PeerBroke> {
        Ok(self.has_next()? || self.arm_at(1)? > 0)
    }

    fn arm_at(&mut self, more: u32) -> Result<u32, PeerBroke> {
        self.memory.store(R::THEIRS.event, self.consumed.wrapping_add(more), Ordering::Relaxed);
        // SeqCst: pairs with the fence of `publish` on the other side.
        fence(Ordering::SeqCst); // arm
        self.look()
    }
}

impl<R: Role, P: Protocol, M: RingMemory> fmt::Debug for Ring<R, P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("slots", &self.slots)
            .field("produced", &self.produced)
            .field("published", &self.published)
            .field("consumed", &self.consumed)
            .field("seen", &self.seen)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
