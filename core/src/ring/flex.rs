//! A stream of bytes in each direction: a page of indices, and pages of data, of which the first half is `in` and the other
//! `out`, as the front sees them. 9pfs and PV Calls have it.

use core::fmt;
use core::marker::PhantomData;

use super::{Back, Front, Notify, PeerBroke, RingMemory};
use crate::abi::PAGE_SIZE;
use crate::abi::grant::GrantRef;
use crate::sync::primitive::Ordering;

/// The largest order: so many references fit into the page of indices.
pub const MAX_ORDER: u32 = 9;

const RING_ORDER: usize = 128;
const REFS: usize = 132;
const _: () = assert!(REFS + (4 << MAX_ORDER) <= PAGE_SIZE as usize);

/// Where a direction's indices lie.
#[derive(Clone, Copy, Debug)]
struct Indices {
    consumer: usize,
    producer: usize,
}

const IN: Indices = Indices { consumer: 0, producer: 4 };
const OUT: Indices = Indices { consumer: 64, producer: 68 };

/// Which end.
pub trait End: super::Role {
    /// Whether it writes into `out`.
    #[doc(hidden)]
    const IS_FRONT: bool;
}

impl End for Front {
    const IS_FRONT: bool = true;
}

impl End for Back {
    const IS_FRONT: bool = false;
}

/// One end of a ring of bytes: the page of indices, and the data.
///
/// There is no index at which to be told: the peer is told of whatever is written, and of room.
#[doc(alias = "DEFINE_XEN_FLEX_RING_AND_INTF")]
pub struct Stream<E: End, I: RingMemory, D: RingMemory> {
    indices: I,
    data: D,
    /// Bytes of one direction, a power of two.
    size: u32,
    written: u32,
    read: u32,
    /// The peer's indices, as they were seen: they don't go back.
    taken: u32,
    given: u32,
    closed: Option<PeerBroke>,
    _end: PhantomData<E>,
}

/// What the page of indices says of the data: its order, and the references. Whatever the peer likes, in bounds.
///
/// # Errors
///
/// [`PeerBroke::Order`].
pub fn references(
    indices: &impl RingMemory,
) -> Result<(u32, impl Iterator<Item = GrantRef> + '_), PeerBroke> {
    // Acquire: pairs with the Release of `Stream::new`; the references lie before it.
    let claimed = indices.load(RING_ORDER, Ordering::Acquire);
    if claimed > MAX_ORDER {
        return Err(PeerBroke::Order { claimed, most: MAX_ORDER });
    }
    let all = (0..1usize << claimed).map(|page| GrantRef(indices.load(REFS + 4 * page, Ordering::Relaxed)));
    Ok((claimed, all))
}

impl<I: RingMemory, D: RingMemory> Stream<Front, I, D> {
    /// A ring in this memory, which no peer uses yet; `references` are those of the pages of `data`. Nothing, if their number
    /// is no power of two, or too large, or the memory isn't theirs.
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
    /// The ring that a front has made: `data` is what [`references`] names. Nothing, if its size can't be.
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

    /// Bytes of one direction.
    #[doc(alias = "XEN_FLEX_RING_SIZE")]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// An index of the peer's, which lies between what it was and `most`.
    fn look(&mut self, at: usize, least: u32, most: u32) -> Result<u32, PeerBroke> {
        self.closed.map_or(Ok(()), Err)?;
        // Acquire: pairs with the Release of `read` and `write` on the other side.
        let claimed = self.indices.load(at, Ordering::Acquire); // flex look
        if claimed.wrapping_sub(least) > most.wrapping_sub(least) {
            let broke = PeerBroke::Index { claimed, least, most };
            return Err(*self.closed.insert(broke));
        }
        Ok(claimed)
    }

    /// Bytes that can be written without waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
    pub fn room(&mut self) -> Result<u32, PeerBroke> {
        let (_, out) = Self::directions();
        self.taken = self.look(out.consumer, self.taken, self.written)?;
        Ok(self.size - self.written.wrapping_sub(self.taken))
    }

    /// Bytes that can be read.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
    #[doc(alias = "XEN_FLEX_RING_QUEUED")]
    pub fn waiting(&mut self) -> Result<u32, PeerBroke> {
        let (into, _) = Self::directions();
        self.given = self.look(into.producer, self.given, self.read.wrapping_add(self.size))?;
        Ok(self.given.wrapping_sub(self.read))
    }

    /// Writes as much as there is room for, and shows it. How much, and whether to tell.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(usize, Notify), PeerBroke> {
        let (_, out) = Self::directions();
        let len = bytes.len().min(self.room()? as usize);
        let half = if E::IS_FRONT { self.size as usize } else { 0 };
        let at = (self.written & (self.size - 1)) as usize;
        let first = len.min(self.size as usize - at);
        self.data.write(half + at, &bytes[..first]);
        self.data.write(half, &bytes[first..len]);
        self.written = self.written.wrapping_add(len as u32);
        // Release: pairs with the Acquire of `look` on the other side, which then reads the bytes.
        self.indices.store(out.producer, self.written, Ordering::Release); // flex write
        Ok((len, if len > 0 { Notify::Send } else { Notify::Unneeded }))
    }

    /// Reads what there is, as far as it fits, and frees its room. How much, and whether to tell.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`].
    pub fn read(&mut self, into: &mut [u8]) -> Result<(usize, Notify), PeerBroke> {
        let (inward, _) = Self::directions();
        let len = into.len().min(self.waiting()? as usize);
        let half = if E::IS_FRONT { 0 } else { self.size as usize };
        let at = (self.read & (self.size - 1)) as usize;
        let first = len.min(self.size as usize - at);
        self.data.read(half + at, &mut into[..first]);
        self.data.read(half, &mut into[first..len]);
        self.read = self.read.wrapping_add(len as u32);
        // Release: pairs with the Acquire of `look` on the other side, which then writes over the bytes.
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
