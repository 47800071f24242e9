//! The shared ring. Two domains exchange requests and responses in memory that both write.
//!
//! The layout and the protocol are those of Xen's `io/ring.h`, for any [`Protocol`]; [`flex`] is the same for a stream of
//! bytes. A [`Ring`] has two ends:
//!
//! ```text
//!   Front: push, push, publish ──▶ requests  ──▶ Back: pop, pop, then push, push, publish
//!          pop, pop            ◀── responses ◀──
//! ```
//!
//! `publish` says whether the peer wants to be told ([`Notify`]); `arm` asks it to tell, and looks once more. Nothing here
//! knows events or hypercalls: who has the ring sends and waits.
//!
//! What the peer writes is copied out once and checked. Indices of our own are kept here and never read back. A peer that
//! can't be right closes the ring: every call says [`PeerBroke`] from then on, and nothing more is read.

mod back;
pub mod flex;
mod front;
mod ids;
mod memory;
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

use crate::sync::primitive::{Ordering, fence};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Plain data: every pattern of bytes is a value, and no byte of it is padding, which would tell the peer what lay there
/// before. `zerocopy` derives all of it.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

/// What goes through a ring.
#[doc(alias = "DEFINE_RING_TYPES")]
pub trait Protocol {
    /// What the front asks.
    type Request: Plain;
    /// What the back answers.
    type Response: Plain;

    /// The number of the request that a response answers, as the response says: whatever the peer likes.
    fn answers(response: &Self::Response) -> u64;
}

/// Bytes before the first slot: four indices, and room.
pub const HEADER: usize = 64;

/// Bytes of a slot, which holds a request or a response.
pub const fn slot_size<P: Protocol>() -> usize {
    const fn larger(a: usize, b: usize) -> usize {
        if a > b { a } else { b }
    }
    let size = larger(size_of::<P::Request>(), size_of::<P::Response>());
    size.next_multiple_of(larger(align_of::<P::Request>(), align_of::<P::Response>()))
}

/// Slots in so many bytes of memory: a power of two.
#[doc(alias = "__RING_SIZE")]
pub const fn slots_in<P: Protocol>(bytes: usize) -> u32 {
    let size = slot_size::<P>();
    if size == 0 || bytes < HEADER + size {
        return 0;
    }
    let most = (bytes - HEADER) / size;
    // Numbers of slots are compared with differences of indices, so they stay small.
    if most >= 1 << 16 { 1 << 16 } else { 1 << most.ilog2() }
}

/// One end of a ring, in the memory `M`. `R` is [`Front`] or [`Back`].
///
/// It isn't shared: one vCPU at a time has it.
pub struct Ring<R: Role, P: Protocol, M: RingMemory> {
    memory: M,
    slots: u32,
    /// Where we write next.
    produced: u32,
    /// What of it the peer was shown.
    published: u32,
    /// Where we read next.
    consumed: u32,
    /// What the peer was seen to have written.
    seen: u32,
    closed: Option<PeerBroke>,
    role: R,
    _protocol: PhantomData<P>,
}

/// Which end: [`Front`] or [`Back`].
pub trait Role: sealed::Sealed {
    /// Where the index lies that this end writes, and the one at which the peer wants to be told of it.
    #[doc(hidden)]
    const OURS: Indices;
    /// The same of the peer's.
    #[doc(hidden)]
    const THEIRS: Indices;

    /// Up to where the peer's index may be: from which one on, and how far.
    #[doc(hidden)]
    fn bounds(slots: u32, produced: u32, published: u32, consumed: u32) -> (u32, u32);
}

/// Offsets of the indices of one direction.
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

/// Whether the peer wants to be told.
#[must_use = "a peer that isn't told sleeps on"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notify {
    /// It waits: send it an event.
    Send,
    /// It doesn't: it looks by itself.
    Unneeded,
}

impl Notify {
    /// Whether it waits.
    pub fn is_needed(self) -> bool {
        self == Self::Send
    }
}

/// What a peer wrote that can't be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerBroke {
    /// Its index went back, or beyond what there can be.
    Index {
        /// What it says.
        claimed: u32,
        /// What it may say: from this on, modulo 2^32,
        least: u32,
        /// to this.
        most: u32,
    },
    /// It answers what nobody asked, or what is answered already.
    Id {
        /// What it says that it answers.
        claimed: u64,
    },
    /// It names a ring of bytes of a size that there isn't.
    Order {
        /// What it says.
        claimed: u32,
        /// What it may say at most.
        most: u32,
    },
}

impl fmt::Display for PeerBroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { claimed, least, most } => {
                write!(f, "the peer broke the ring: its index is {claimed:#x}, not {least:#x} to {most:#x}")
            }
            Self::Id { claimed } => {
                write!(f, "the peer broke the ring: it answers {claimed:#x}, which is not asked")
            }
            Self::Order { claimed, most } => {
                write!(f, "the peer broke the ring: its order is {claimed}, not 0 to {most}")
            }
        }
    }
}

impl core::error::Error for PeerBroke {}

/// Why something can't be pushed, or there is no ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RingError {
    /// No slot is free until the peer answers.
    Full,
    /// Every request is answered.
    NothingAsked,
    /// The memory doesn't hold a slot.
    TooSmall {
        /// Its bytes.
        bytes: usize,
        /// What one slot takes, with the header.
        needed: usize,
    },
    /// The ring is closed.
    Closed(PeerBroke),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full: the peer has to answer first"),
            Self::NothingAsked => f.write_str("the ring has no request that isn't answered"),
            Self::TooSmall { bytes, needed } => {
                write!(f, "a ring in {bytes} bytes, of which it takes {needed}")
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

    /// How many slots there are.
    #[doc(alias = "RING_SIZE")]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The memory, to take it back. The peer may use it still.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Why the ring is closed, if it is.
    pub fn closed(&self) -> Option<PeerBroke> {
        self.closed
    }

    /// Closes the ring for a reason that its protocol has.
    pub fn close(&mut self, why: PeerBroke) -> PeerBroke {
        *self.closed.get_or_insert(why)
    }

    fn open(&self) -> Result<(), PeerBroke> {
        self.closed.map_or(Ok(()), Err)
    }

    /// Where a slot lies; the number of slots is a power of two, so this holds across the wrap of the index.
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

    /// Shows the peer what was pushed, and says whether it wants to be told.
    #[doc(alias = "RING_PUSH_REQUESTS_AND_CHECK_NOTIFY")]
    #[doc(alias = "RING_PUSH_RESPONSES_AND_CHECK_NOTIFY")]
    pub fn publish(&mut self) -> Notify {
        let (old, new) = (self.published, self.produced);
        if self.closed.is_some() || old == new {
            return Notify::Unneeded;
        }
        // Release: pairs with the Acquire of `look` on the other side, which then reads the slots.
        self.memory.store(R::OURS.producer, new, Ordering::Release); // publish
        self.published = new;
        // SeqCst: pairs with the fence of `arm` on the other side. Either we see where it wants to be told, or it
        // sees what there is.
        fence(Ordering::SeqCst); // publish
        let event = self.memory.load(R::OURS.event, Ordering::Relaxed);
        // Whether the event is one of those just shown, across the wrap.
        if new.wrapping_sub(event) < new.wrapping_sub(old) { Notify::Send } else { Notify::Unneeded }
    }

    /// What waits to be read.
    fn look(&mut self) -> Result<u32, PeerBroke> {
        self.open()?;
        // Acquire: pairs with the Release of `publish` on the other side.
        let claimed = self.memory.load(R::THEIRS.producer, Ordering::Acquire); // look
        let (from, room) = R::bounds(self.slots, self.produced, self.published, self.consumed);
        let (least, most) = (self.seen, from.wrapping_add(room));
        let distance = claimed.wrapping_sub(from);
        if distance < least.wrapping_sub(from) || distance > room {
            return Err(self.close(PeerBroke::Index { claimed, least, most }));
        }
        self.seen = claimed;
        Ok(claimed.wrapping_sub(self.consumed))
    }

    /// Whether there is something to read, seen already or new.
    fn has_next(&mut self) -> Result<bool, PeerBroke> {
        self.open()?;
        Ok(self.seen != self.consumed || self.look()? > 0)
    }

    /// Asks the peer to tell when it has published something, and looks once more: with `true` there is something, and
    /// whoever wants to sleep mustn't.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
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
