//! The back end: serves a disk.

use core::fmt;
use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use super::batch::{self, Job};
use super::persistent::Persistent;
use super::{Blkif, BlockError, Disk, validate};
use crate::abi::blkif::{MAX_SEGMENTS, Response, Status};
use crate::abi::{DomId, PAGE_SIZE};
use crate::event::Interdomain;
use crate::grant::GrantTable;
use crate::mm::{Guest, Page};
use crate::ring::{self, Ring, RingMemory};
use crate::time::Deadline;

/// How a back end accesses the front end's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataPath {
    /// It maps them, and unmaps them after the request.
    Map,
    /// Xen copies the data.
    Copy,
    /// It maps them and keeps up to `max` of them mapped. [`connect_back`](super::connect_back) uses
    /// [`Map`](Self::Map) instead if the front end doesn't support this.
    Persistent {
        /// Maximum number of mappings kept between requests.
        max: usize,
    },
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "map",
            Self::Copy => "copy",
            Self::Persistent { .. } => "persistent",
        })
    }
}

/// Maximum number of segments processed together: mapped with one hypercall, or copied with one for each 32.
const BATCH: usize = 64;

/// Counters of a back end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackStats {
    /// Requests completed.
    pub requests: u64,
    /// Requests refused, out of those.
    pub refused: u64,
    /// Bytes of the sectors read, written and checksummed.
    pub bytes: u64,
    /// Notifications sent to the front end.
    pub notifications: u64,
    /// Peak number of mappings kept.
    pub kept: u64,
}

/// The back end: serves a disk.
pub struct Back<'t, X: Guest, M: RingMemory, D: Disk> {
    channel: Interdomain<X>,
    server: Server<'t, X, M, D>,
}

/// The back end without its channel: an event of the channel is held while the server works.
struct Server<'t, X: Guest, M: RingMemory, D: Disk> {
    ring: Ring<ring::Back, Blkif, M>,
    grants: &'t GrantTable<X>,
    peer: DomId,
    disk: D,
    /// The front end understands Granite's reasons in statuses.
    reasons: bool,
    path: Path<'t, X>,
    served: BackStats,
}

/// A data path and its memory.
enum Path<'t, X: Guest> {
    Map(Vec<u8>),
    Copy(Vec<Page>),
    Persistent(Vec<u8>, Persistent<'t, X>),
}

impl<'t, X: Guest, M: RingMemory, D: Disk> Back<'t, X, M, D> {
    /// Serves `disk` through a ring of the front end; both ends notify each other through `channel`. `reasons` says
    /// whether the front end knows Granite's own statuses.
    ///
    /// # Errors
    ///
    /// [`BlockError::Ring`] if the memory is too small for a ring; [`BlockError::OutOfMemory`] if no pages are free
    /// for copies.
    pub fn new(
        memory: M,
        channel: Interdomain<X>,
        grants: &'t GrantTable<X>,
        peer: DomId,
        disk: D,
        path: DataPath,
        reasons: bool,
    ) -> Result<Self, BlockError> {
        let scratch = || vec![0; PAGE_SIZE as usize];
        let path = match path {
            DataPath::Map => Path::Map(scratch()),
            DataPath::Copy => {
                let pages: Option<Vec<_>> = (0..BATCH).map(|_| grants.xen().page()).collect();
                Path::Copy(pages.ok_or(BlockError::OutOfMemory)?)
            }
            DataPath::Persistent { max } => Path::Persistent(scratch(), Persistent::new(max)),
        };
        let served = BackStats::default();
        let ring = Ring::attach(memory)?;
        Ok(Self { channel, server: Server { ring, grants, peer, disk, reasons, path, served } })
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.server.disk
    }

    /// Returns the ring's capacity in requests.
    pub fn slots(&self) -> u32 {
        self.server.ring.slots()
    }

    /// Returns the counters so far.
    pub fn served(&self) -> BackStats {
        self.server.served
    }

    /// Completes all waiting requests, at most a full ring of them, and notifies the front end if it wants that.
    /// Returns their number.
    ///
    /// # Errors
    ///
    /// [`BlockError::Ring`] if the front end broke the ring; [`BlockError::Event`] if it can't be notified.
    pub fn serve(&mut self) -> Result<u32, BlockError> {
        self.server.serve(&self.channel)
    }

    /// Serves until `goes_on` returns `false`. It gets the counters so far, after each ring full of requests, and
    /// whenever none has come for the interval `look`: then its second argument is `true`.
    ///
    /// # Errors
    ///
    /// [`BlockError::Ring`] if the front end broke the ring; [`BlockError::Event`] if it can't be notified.
    pub fn serve_while(
        &mut self,
        look: Duration,
        mut goes_on: impl FnMut(BackStats, bool) -> bool,
    ) -> Result<(), BlockError> {
        let Self { channel, server } = self;
        let (mut heard, mut is_idle) = (None, false);
        while goes_on(server.served, is_idle) {
            is_idle = false;
            if server.serve(channel)? > 0 || server.ring.arm()? {
                continue;
            }
            // Dropping the event lets further events through, so it is held until here.
            drop(heard.take());
            heard = channel.wait(Deadline::after(look)).ok();
            is_idle = heard.is_none();
        }
        Ok(())
    }
}

impl<X: Guest, M: RingMemory, D: Disk> Server<'_, X, M, D> {
    fn serve(&mut self, channel: &Interdomain<X>) -> Result<u32, BlockError> {
        let mut answered = 0;
        while answered < self.ring.slots() {
            let jobs = self.take_batch(self.ring.slots() - answered)?;
            if jobs.is_empty() {
                break;
            }
            answered += jobs.len() as u32;
            self.answer(jobs)?;
            // Publish each batch, so that the front end can work meanwhile. The front end chooses when it is
            // notified.
            if self.ring.publish().is_needed() {
                self.served.notifications += 1;
                channel.send()?;
            }
        }
        Ok(answered)
    }

    fn take_batch(&mut self, max: u32) -> Result<Vec<Job>, BlockError> {
        let mut jobs = Vec::new();
        let mut segments = 0;
        while segments + MAX_SEGMENTS <= BATCH && jobs.len() < max as usize {
            let Some(request) = self.ring.pop()? else { break };
            let checked = validate(&request, self.disk.sectors(), self.disk.is_read_only());
            let status = checked.as_ref().err().copied().unwrap_or(Status::OKAY);
            let work = checked.ok();
            segments += work.as_ref().map_or(0, |work| work.segments.len());
            jobs.push(Job { id: request.id, operation: request.operation, work, status });
        }
        Ok(jobs)
    }

    fn answer(&mut self, mut jobs: Vec<Job>) -> Result<(), BlockError> {
        let (grants, peer, disk) = (self.grants, self.peer, &mut self.disk);
        match &mut self.path {
            Path::Map(scratch) => batch::by_mapping(grants, peer, &mut jobs, disk, scratch),
            Path::Copy(pages) => batch::by_copying(grants, peer, &mut jobs, disk, pages),
            Path::Persistent(scratch, kept) => {
                batch::serve_persistent(grants, peer, &mut jobs, disk, scratch, kept);
                self.served.kept = self.served.kept.max(kept.len() as u64);
            }
        }
        for job in jobs {
            self.served.requests += 1;
            if job.status == Status::OKAY {
                let segments = job.work.map_or(0, |work| work.segments.iter().map(|each| each.bytes()).sum());
                self.served.bytes += segments as u64;
            } else {
                self.served.refused += 1;
            }
            let status = if self.reasons { job.status } else { job.status.without_reason() };
            let Job { id, operation, .. } = job;
            self.ring.push(&Response { id, operation, padding: 0, status, rest: [0; 4] })?;
        }
        Ok(())
    }
}

impl<X: Guest, M: RingMemory, D: Disk> Drop for Back<'_, X, M, D> {
    fn drop(&mut self) {
        if let Path::Persistent(_, kept) = &mut self.server.path {
            kept.clear(self.server.grants);
        }
        // Xen doesn't tell the front end when the channel closes: it checks after a notification, or at its next
        // poll.
        let _ = self.channel.send();
    }
}

impl<X: Guest, M: RingMemory, D: Disk + fmt::Debug> fmt::Debug for Back<'_, X, M, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { ring, disk, peer, served, .. } = &self.server;
        let mut all = f.debug_struct("Back");
        all.field("peer", peer).field("ring", ring).field("disk", disk).field("served", served);
        all.finish_non_exhaustive()
    }
}
