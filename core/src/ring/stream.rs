//! A byte stream in each direction: indices, and the bytes. `in` and `out` are named as the front sees them.
//!
//! | | made by | layout |
//! |---|---|---|
//! | 9pfs, PV Calls | the front: [`Stream::new`] | a page of indices, and data pages: first `in`, then `out` |
//! | console | the toolstack: [`Stream::console`] | all in one page |

use core::fmt;
use core::marker::PhantomData;

use super::{Back, Front, Notify, PeerBroke, RingMemory};
use crate::abi::grant::GrantRef;
use crate::abi::{PAGE_SIZE, console};
use crate::sync::atomic::Ordering;

/// The largest order (log2 of the number of data pages) whose references fit into the page of indices.
pub const MAX_ORDER: u32 = 9;

const RING_ORDER: usize = 128;
const REFS: usize = 132;
const _: () = assert!(REFS + (4 << MAX_ORDER) <= PAGE_SIZE as usize);

/// The places of one direction: the offsets of its indices, and of its bytes in the data.
#[derive(Clone, Copy, Debug)]
struct Direction {
    consumer: usize,
    producer: usize,
    start: usize,
    /// Bytes, a power of two.
    size: u32,
}

/// The places of both directions.
#[derive(Clone, Copy, Debug)]
struct Layout {
    input: Direction,
    output: Direction,
}

impl Layout {
    /// The layout of `DEFINE_XEN_FLEX_RING`, for data of `len` bytes.
    const fn flex(len: usize) -> Self {
        let size = (len / 2) as u32;
        Self {
            input: Direction { consumer: 0, producer: 4, start: 0, size },
            output: Direction { consumer: 64, producer: 68, start: len / 2, size },
        }
    }

    /// The layout of the console's page.
    const CONSOLE: Self = Self {
        input: Direction {
            consumer: console::IN_CONSUMER,
            producer: console::IN_PRODUCER,
            start: 0,
            size: 1024,
        },
        output: Direction {
            consumer: console::OUT_CONSUMER,
            producer: console::OUT_PRODUCER,
            start: console::OUT,
            size: 2048,
        },
    };
}

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
    /// The direction that this end reads, and the one it writes.
    inward: Direction,
    outward: Direction,
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
        let layout = Layout::flex(data.len());
        Some(Self::with(indices, data, layout))
    }
}

impl<M: RingMemory + Clone> Stream<Front, M, M> {
    /// Attaches to a console, whose page the toolstack made. Goes on where its indices are. Returns `None` if the
    /// memory isn't a page, or if the indices are impossible.
    #[doc(alias = "xencons_interface")]
    pub fn console(page: M) -> Option<Self> {
        if page.len() != PAGE_SIZE as usize {
            return None;
        }
        let mut stream = Self::with(page.clone(), page, Layout::CONSOLE);
        let load = |at| stream.indices.load(at, Ordering::Relaxed);
        let (written, read) = (load(stream.outward.producer), load(stream.inward.consumer));
        (stream.written, stream.read, stream.given) = (written, read, read);
        // We don't know yet how far the peer has read. At least, the unread bytes fit into the buffer.
        stream.taken = written.wrapping_sub(stream.outward.size);
        let fits = stream.room().and_then(|_| stream.waiting());
        fits.is_ok().then_some(stream)
    }
}

impl<I: RingMemory, D: RingMemory> Stream<Back, I, D> {
    /// Attaches to a ring created by a front; `data` is the memory named by [`references`]. Returns `None` if
    /// `indices` or `data` has an impossible size.
    pub fn attach(indices: I, data: D) -> Option<Self> {
        let pages = data.len() / PAGE_SIZE as usize;
        let is_whole = data.len().is_multiple_of(PAGE_SIZE as usize);
        let fits = is_whole && pages.is_power_of_two() && pages <= 1 << MAX_ORDER;
        let layout = Layout::flex(data.len());
        (fits && indices.len() == PAGE_SIZE as usize).then(|| Self::with(indices, data, layout))
    }
}

impl<E: End, I: RingMemory, D: RingMemory> Stream<E, I, D> {
    fn with(indices: I, data: D, Layout { input, output }: Layout) -> Self {
        let (inward, outward) = if E::IS_FRONT { (input, output) } else { (output, input) };
        let (written, read, taken, given) = (0, 0, 0, 0);
        Self { indices, data, inward, outward, written, read, taken, given, closed: None, _end: PhantomData }
    }

    /// Returns how many bytes fit into the direction written by this end.
    #[doc(alias = "XEN_FLEX_RING_SIZE")]
    pub fn size(&self) -> u32 {
        self.outward.size
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
        self.taken = self.look(self.outward.consumer, self.taken, self.written)?;
        Ok(self.outward.size - self.written.wrapping_sub(self.taken))
    }

    /// Returns how many bytes can be read without waiting.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    #[doc(alias = "XEN_FLEX_RING_QUEUED")]
    pub fn waiting(&mut self) -> Result<u32, PeerBroke> {
        let max = self.read.wrapping_add(self.inward.size);
        self.given = self.look(self.inward.producer, self.given, max)?;
        Ok(self.given.wrapping_sub(self.read))
    }

    /// Writes as many bytes as there is room for, and publishes them. Returns their number, and whether to notify
    /// the peer.
    ///
    /// # Errors
    ///
    /// [`PeerBroke`] if the peer's index is out of bounds, now or in an earlier call.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(usize, Notify), PeerBroke> {
        let len = bytes.len().min(self.room()? as usize);
        let out = self.outward;
        let at = (self.written & (out.size - 1)) as usize;
        let first = len.min(out.size as usize - at);
        self.data.write(out.start + at, &bytes[..first]);
        self.data.write(out.start, &bytes[first..len]);
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
        let len = into.len().min(self.waiting()? as usize);
        let inward = self.inward;
        let at = (self.read & (inward.size - 1)) as usize;
        let first = len.min(inward.size as usize - at);
        self.data.read(inward.start + at, &mut into[..first]);
        self.data.read(inward.start, &mut into[first..len]);
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
            .field("size", &self.size())
            .field("written", &self.written)
            .field("read", &self.read)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
