//! The end that reads and writes.

use core::fmt;
use core::time::Duration;

use super::client::{Client, Job};
use super::limits::{Counts, Geometry, Limits, whole_sectors};
use super::{Blkif, BlockError};
use crate::abi::DomId;
use crate::event::Interdomain;
use crate::grant::GrantTable;
use crate::mm::Guest;
use crate::ring::{self, Ring, RingMemory};
use crate::time::Deadline;

/// How often to look whether the back end is there: one that goes away tells nobody.
const LOOK: Duration = Duration::from_millis(100);

/// The end that reads and writes. Offsets are in sectors of 512 bytes.
///
/// Its pages are its own: a caller's buffer is copied into them, or out of them once the back is done with them. So an
/// operation can be given up at any time; what was in flight is taken back when its answer comes. A write that was given
/// up may yet be done, but not after what is asked later: nothing is asked until it has been answered.
pub struct Front<'t, X: Guest, M: RingMemory> {
    pub(super) channel: Interdomain<X>,
    pub(super) client: Client<'t, X, M>,
}

impl<'t, X: Guest, M: RingMemory> Front<'t, X, M> {
    /// A front end on this ring, which the back end has, or will; the two tell each other by `channel`.
    pub fn new(
        ring: Ring<ring::Front, Blkif, M>,
        channel: Interdomain<X>,
        grants: &'t GrantTable<X>,
        peer: DomId,
        geometry: Geometry,
        limits: Limits,
    ) -> Self {
        Self { channel, client: Client::new(ring, grants, peer, geometry, limits) }
    }

    /// The disk.
    pub fn geometry(&self) -> Geometry {
        self.client.geometry
    }

    /// Requests that fit into the ring.
    pub fn slots(&self) -> u32 {
        self.client.slots()
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    /// Reads whole sectors.
    ///
    /// # Errors
    ///
    /// [`BlockError`]; what was read by then is in the buffer.
    pub fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), BlockError> {
        whole_sectors(into)?;
        self.run(sector, Job::Read(into))
    }

    /// Writes whole sectors.
    ///
    /// # Errors
    ///
    /// [`BlockError`]; what of it was written is unknown.
    pub fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), BlockError> {
        whole_sectors(from)?;
        self.run(sector, Job::Write(from))
    }

    /// Makes what was written last.
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub fn flush(&mut self) -> Result<(), BlockError> {
        self.run(0, Job::Flush)
    }

    /// Tells that nobody wants the contents of these sectors any more.
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), BlockError> {
        self.run(sector, Job::Discard(sectors))
    }

    /// The CRC-32 of each sector, as the back end sees it; a back end that isn't Granite's can't say.
    ///
    /// # Errors
    ///
    /// [`BlockError`].
    pub fn checksums(&mut self, sector: u64, into: &mut [u32]) -> Result<(), BlockError> {
        use zerocopy::IntoBytes;
        self.run(sector, Job::Checksum(into.as_mut_bytes()))?;
        into.iter_mut().for_each(|sum| *sum = u32::from_le(*sum));
        Ok(())
    }

    fn run(&mut self, sector: u64, job: Job<'_>) -> Result<(), BlockError> {
        let Self { channel, client } = self;
        let deadline = Deadline::after(client.limits.patience);
        let mut progress = client.begin(sector, job)?;
        let mut heard = None;
        loop {
            let answered = client.answered();
            if client.advance(&mut progress, channel)? {
                return progress.result();
            }
            if heard.is_some() {
                client.check_peer(answered, channel)?;
            }
            if client.must_go_on(&progress)? {
                continue;
            }
            if deadline.has_passed() {
                return Err(BlockError::Silent);
            }
            // Only now are further events let through.
            drop(heard.take());
            let look = Deadline::after(LOOK);
            heard = channel.wait(deadline.or_earlier(look)).ok();
            if heard.is_none() {
                if deadline.has_passed() {
                    return Err(BlockError::Silent);
                }
                if !channel.is_interdomain() {
                    return Err(BlockError::Gone);
                }
            }
        }
    }
}

impl<X: Guest, M: RingMemory> fmt::Debug for Front<'_, X, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("client", &self.client).finish_non_exhaustive()
    }
}
