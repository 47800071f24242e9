//! The front end: reads and writes a disk.

use core::fmt;
use core::time::Duration;

use super::limits::{FrontStats, Geometry, Limits, whole_sectors};
use super::queue::{Job, RequestQueue};
use super::{Blkif, BlockError};
use crate::abi::DomId;
use crate::event::Interdomain;
use crate::grant::GrantTable;
use crate::mm::Guest;
use crate::ring::{self, Ring, RingMemory};
use crate::time::Deadline;

/// Interval for checking whether the back end is still there: it sends no event when it goes away.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The front end: reads and writes a disk. Offsets are in sectors of 512 bytes.
///
/// It uses pages of its own: a caller's buffer is copied into them, or out of them after the back end has finished
/// with them. So an operation can be given up at any time; its pages are taken back when the response comes. An
/// abandoned write may still be done, but never after a later request: the front end submits none until the write is
/// complete.
pub struct Front<'t, X: Guest, M: RingMemory> {
    pub(super) channel: Interdomain<X>,
    pub(super) queue: RequestQueue<'t, X, M>,
}

impl<'t, X: Guest, M: RingMemory> Front<'t, X, M> {
    /// Makes a front end on a ring attached by the back end, now or later. Both ends notify each other through
    /// `channel`.
    pub fn new(
        ring: Ring<ring::Front, Blkif, M>,
        channel: Interdomain<X>,
        grants: &'t GrantTable<X>,
        peer: DomId,
        geometry: Geometry,
        limits: Limits,
    ) -> Self {
        Self { channel, queue: RequestQueue::new(ring, grants, peer, geometry, limits) }
    }

    /// Returns the geometry of the disk.
    pub fn geometry(&self) -> Geometry {
        self.queue.geometry
    }

    /// Returns the ring's capacity in requests.
    pub fn slots(&self) -> u32 {
        self.queue.slots()
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> FrontStats {
        self.queue.stats()
    }

    /// Reads whole sectors.
    ///
    /// # Errors
    ///
    /// [`BlockError::NotSectors`] or [`BlockError::OutOfRange`] for a bad range; [`BlockError::TimedOut`] after the
    /// timeout; other [`BlockError`]s as the back end or the ring fails. Data read before the error is in the buffer.
    pub fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), BlockError> {
        whole_sectors(into)?;
        self.run(sector, Job::Read(into))
    }

    /// Writes whole sectors.
    ///
    /// # Errors
    ///
    /// [`BlockError::ReadOnly`] if the disk is read-only; otherwise as [`read`](Self::read). An unspecified part may
    /// have been written.
    pub fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), BlockError> {
        whole_sectors(from)?;
        self.run(sector, Job::Write(from))
    }

    /// Flushes completed writes to stable storage.
    ///
    /// # Errors
    ///
    /// [`BlockError::TimedOut`] after the timeout; other [`BlockError`]s as the back end or the ring fails.
    pub fn flush(&mut self) -> Result<(), BlockError> {
        self.run(0, Job::Flush)
    }

    /// Discards sectors; their contents become undefined.
    ///
    /// # Errors
    ///
    /// [`BlockError::OutOfRange`] for a bad range; [`BlockError::ReadOnly`] if the disk is read-only;
    /// [`BlockError::Refused`] if the back end can't discard; otherwise as [`flush`](Self::flush).
    pub fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), BlockError> {
        self.run(sector, Job::Discard(sectors))
    }

    /// Returns the CRC-32 of each sector, as seen by the back end. Only Granite's back end supports this.
    ///
    /// # Errors
    ///
    /// [`BlockError::OutOfRange`] for a bad range; [`BlockError::Refused`] if the back end has no checksums;
    /// otherwise as [`flush`](Self::flush).
    pub fn checksums(&mut self, sector: u64, into: &mut [u32]) -> Result<(), BlockError> {
        use zerocopy::IntoBytes;
        self.run(sector, Job::Checksum(into.as_mut_bytes()))?;
        into.iter_mut().for_each(|sum| *sum = u32::from_le(*sum));
        Ok(())
    }

    fn run(&mut self, sector: u64, job: Job<'_>) -> Result<(), BlockError> {
        let Self { channel, queue } = self;
        let deadline = Deadline::after(queue.limits.patience);
        let mut progress = queue.begin(sector, job)?;
        let mut heard = None;
        loop {
            let answered = queue.answered();
            if queue.poll(&mut progress, channel)? {
                return progress.result();
            }
            if heard.is_some() {
                queue.check_peer(answered, channel)?;
            }
            if queue.must_go_on(&progress)? {
                continue;
            }
            if deadline.has_passed() {
                return Err(BlockError::TimedOut);
            }
            // Dropping the event lets further events through, so it is held until here.
            drop(heard.take());
            let look = Deadline::after(POLL_INTERVAL);
            heard = channel.wait(deadline.or_earlier(look)).ok();
            if heard.is_none() {
                if deadline.has_passed() {
                    return Err(BlockError::TimedOut);
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
        f.debug_struct("Front").field("queue", &self.queue).finish_non_exhaustive()
    }
}
