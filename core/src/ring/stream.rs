//! A byte stream in each direction: a page of indices, and data pages. The first half of the data is `in` and the
//! second is `out`, as seen by the front. 9pfs and PV Calls use it.

use core::fmt;
use core::marker::PhantomData;

use super::{Back, Front, Notify, PeerBroke, RingMemory};
use crate::abi::PAGE_SIZE;
use crate::abi::grant::GrantRef;
use crate::sync::atomic::Ordering;

/// The largest order (log2 of the number of data pages) whose references fit into the page of indices.
pub const MAX_ORDER: u32 = 9;

const RING_ORDER: usize = 128;
const REFS: usize = 132;
const _: () = assert!(REFS + (4 << MAX_ORDER) <= PAGE_SIZE as usize);

/// The offsets of one direction's indices.
#[derive(Clone, Copy, Debug)]
struct Indices {
    consumer: usize,
    producer: usize,
}

const IN: Indices = Indices { consumer: 0, producer: 4 };
const OUT: Indices = Indices { consumer: 64, producer: 68 };

/// An end of a stream: [`Front`] or [`Back`].
pub trait End: super::Role {
    /// Whether this end writes into `out`.
    #[doc(hidden)]
    const IS_FRONT: bool;
}

impl End for Front {
    const IS_FRONT: bool = true;
}

impl End for Back {
    const IS_FRONT: bool = false;
}

/// One end of a byte stream: the page of indices, and the data.
///
/// There is no event index: the peer is notified after every write, and after every read because it frees room.
#[doc(alias = "DEFINE_XEN_FLEX_RING_AND_INTF")]
pub struct Stream<E: End, I: RingMemory, D: RingMemory> {
    indices: I,
    data: D,
    /// Bytes per direction, a power of two.
    size: u32,
    written: u32,
    read: u32,
    /// The peer's indices as last seen. They must not go back.
    taken: u32,
    given: u32,
    closed: Option<PeerBroke>,
    _end: PhantomData<E>,
}

/// Reads the order of the data, and the references of its pages, from the page of indices. The peer may write any
/// values; only the order is checked.
///
/// # Errors
///
/// [`PeerBroke::Order`] if the order exceeds [`MAX_ORDER`].
pub fn references(
    indices: &impl RingMemory,
) -> Result<(u32, impl Iterator<Item = GrantRef> + '_), PeerBroke> {
    // Acquire: pairs with the Release of `Stream::new`; the references were written before it.
    let claimed = indices.load(RING_ORDER, Ordering::Acquire);
    if claimed > MAX_ORDER {
        return Err(PeerBroke::Order { claimed, max: MAX_ORDER });
    }
    let all = (0..1usize << claimed).map(|page| GrantRef(indices.load(REFS + 4 * page, Ordering::Relaxed)));
    Ok((claimed, all))
}

impl<I: RingMemory, D: RingMemory> Stream<Front, I, D> {
    /// Creates a ring in this memory, not yet used by a peer; `references` are those of the pages of `data`. Returns
    /// `None` if their number is not a power of two or is too large, or if `indices` or `data` has the wrong size.
    pub fn new(indices: I, data: D, references: &[GrantRef]) -> Option<Self> {
        let order = references.len().checked_ilog2().filter(|_| references.len().is_power_of_two())?;
        let fits = order <= MAX_ORDER && data.len() == references.len() * PAGE_SIZE as usize;
        if !fits || indices.len() != PAGE_SIZE as usize {
            return None;
        }
        indices.write(0, &[0; REFS]);
        for (page, gref) in references.iter().enumerate() {
            indices.store(REFS + 4 * page, gref.0, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire of `references`.
        indices.store(RING_ORDER, order, Ordering::Release);
        Some(Self::with(indices, data))
    }
}

impl<I: RingMemory, D: RingMemory> Stream<Back, I, D> {
    /// Attaches to a ring created by a front; `data` is the memory named by [`references`]. Returns `None` if
    /// `indices` or `data` has an impossible size.
    pub fn attach(indices: I, data: D) -> Option<Self> {
        let pages = data.len() / PAGE_SIZE as usize;
        let is_whole = data.len().is_multiple_of(PAGE_SIZE as usize);
        let fits = is_whole && pages.is_power_of_two() && pages <= 1 << MAX_ORDER;
        (fits && indices.len() == PAGE_SIZE as usize).then(|| Self::with(indices, data))
    }
}

impl<E: End, I: RingMemory, D: RingMemory> Stream<E, I, D> {
    fn with(indices: I, data: D) -> Self {
        let size = (data.len() / 2) as u32;
        let (written, read, taken, given) = (0, 0, 0, 0);
        Self { indices, data, size, written, read, taken, given, closed: None, _end: PhantomData }
    }

    const fn directions() -> (Indices, Indices) {
        if E::IS_FRONT { (IN, OUT) } else { (OUT, IN) }
    }

    /// Returns the bytes per direction.
    #[doc(alias = "XEN_FLEX_RING_SIZE")]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Reads an index of the peer. It must not be below `min`, its last value, or above `max` (modulo 2^32).
    fn look(&mut self, at: usize, min: u32, max: u32) -> Result<u32, PeerBroke> {
        self.closed.map_or(Ok(()), Err)?;
        // Acquire: pairs with the Release of `read` and `write` on the other side.
        let claimed = self.indices.load(at, Ordering::Acquire); // flex look
        if claimed.wrapping_sub(min) > max.wrapping_sub(min) {
            let broke = PeerBroke::Index { claimed, min, max };
            return Err(*self.closed.insert(broke));
        }
        Ok(claimed)
    }

    /// Returns how many bytes can be written without waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    pub fn room(&mut self) -> Result<u32, PeerBroke> {
        let (_, out) = Self::directions();
        self.taken = self.look(out.consumer, self.taken, self.written)?;
        Ok(self.size - self.written.wrapping_sub(self.taken))
    }

    /// Returns how many bytes can be read without waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    #[doc(alias = "XEN_FLEX_RING_QUEUED")]
    pub fn waiting(&mut self) -> Result<u32, PeerBroke> {
        let (into, _) = Self::directions();
        self.given = self.look(into.producer, self.given, self.read.wrapping_add(self.size))?;
        Ok(self.given.wrapping_sub(self.read))
    }

    /// Writes as many bytes as there is room for, and publishes them. Returns their number, and whether to notify
    /// the peer.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(usize, Notify), PeerBroke> {
        let (_, out) = Self::directions();
        let len = bytes.len().min(self.room()? as usize);
        let half = if E::IS_FRONT { self.size as usize } else { 0 };
        let at = (self.written & (self.size - 1)) as usize;
        let first = len.min(self.size as usize - at);
        self.data.write(half + at, &bytes[..first]);
        self.data.write(half, &bytes[first..len]);
        self.written = self.written.wrapping_add(len as u32);
        // Release: pairs with the Acquire of `look` on the other side: a peer that sees the index also sees
        // the bytes.
        self.indices.store(out.producer, self.written, Ordering::Release); // flex write
        Ok((len, if len > 0 { Notify::Send } else { Notify::Unneeded }))
    }

    /// Reads as many waiting bytes as fit into `into`, and frees their room. Returns their number, and whether to
    /// notify the peer.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    pub fn read(&mut self, into: &mut [u8]) -> Result<(usize, Notify), PeerBroke> {
        let (inward, _) = Self::directions();
        let len = into.len().min(self.waiting()? as usize);
        let half = if E::IS_FRONT { 0 } else { self.size as usize };
        let at = (self.read & (self.size - 1)) as usize;
        let first = len.min(self.size as usize - at);
        self.data.read(half + at, &mut into[..first]);
        self.data.read(half, &mut into[first..len]);
        self.read = self.read.wrapping_add(len as u32);
        // Release: pairs with the Acquire of `look` on the other side: our reads come before the peer
        // overwrites the bytes.
        self.indices.store(inward.consumer, self.read, Ordering::Release); // flex read
        Ok((len, if len > 0 { Notify::Send } else { Notify::Unneeded }))
    }
}

impl<E: End, I: RingMemory, D: RingMemory> fmt::Debug for Stream<E, I, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("size", &self.size)
            .field("written", &self.written)
            .field("read", &self.read)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
