//! The end that serves a disk.

use core::fmt;
use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use super::batch::{self, Job};
use super::persistent::Persistent;
use super::{Blkif, BlockError, Disk, check};
use crate::abi::blkif::{MAX_SEGMENTS, Response, Status};
use crate::abi::{DomId, PAGE_SIZE};
use crate::event::Interdomain;
use crate::grant::GrantTable;
use crate::mm::{Guest, Page};
use crate::ring::{self, Ring, RingMemory};
use crate::time::Deadline;

/// How a back end gets at the front's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataPath {
    /// It maps them, and unmaps them when the request is done.
    Map,
    /// Xen copies.
    Copy,
    /// It maps them and keeps them mapped, so many at most; with a front end that doesn't do so, as [`Map`](Self::Map).
    Persistent {
        /// How many to keep between requests.
        most: usize,
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

/// Segments that are worked on at once: mapped with one hypercall, or copied with one for each 32.
const BATCH: usize = 64;

/// What was done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// Requests answered.
    pub requests: u64,
    /// Of those, refused.
    pub refused: u64,
    /// Bytes of sectors read, written and summed up.
    pub bytes: u64,
    /// Times that the front was told.
    pub notifications: u64,
    /// Most mappings kept at once.
    pub kept: u64,
}

/// The end that serves a disk.
pub struct Back<'t, X: Guest, M: RingMemory, D: Disk> {
    channel: Interdomain<X>,
    server: Server<'t, X, M, D>,
}

/// All of it but the channel, whose events wait while this works.
struct Server<'t, X: Guest, M: RingMemory, D: Disk> {
    ring: Ring<ring::Back, Blkif, M>,
    grants: &'t GrantTable<X>,
    peer: DomId,
    disk: D,
    /// The front knows what reasons mean.
    reasons: bool,
    path: Path<'t, X>,
    served: Served,
}

/// A data path, and what it needs.
enum Path<'t, X: Guest> {
    Map(Vec<u8>),
    Copy(Vec<Page>),
    Persistent(Vec<u8>, Persistent<'t, X>),
}

impl<'t, X: Guest, M: RingMemory, D: Disk> Back<'t, X, M, D> {
    /// Serves `disk` by a ring of the front's; the two tell each other by `channel`. `reasons` says whether the front knows
    /// Granite's own statuses.
    ///
    /// # Errors
    ///
    /// [`BlockError`]: the memory isn't a ring, or there isn't any for copies.
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
            DataPath::Persistent { most } => Path::Persistent(scratch(), Persistent::new(most)),
        };
        let served = Served::default();
        let ring = Ring::attach(memory)?;
        Ok(Self { channel, server: Server { ring, grants, peer, disk, reasons, path, served } })
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.server.disk
    }

    /// Requests that fit into the ring.
    pub fn slots(&self) -> u32 {
        self.server.ring.slots()
    }

    /// What was done so far.
    pub fn served(&self) -> Served {
        self.server.served
    }

    /// Answers all requests that are there, a ring full at most, and tells the front if it waits. How many those were.
    ///
    /// # Errors
    ///
    /// [`BlockError`]: the front broke the ring, or can't be told.
    pub fn serve(&mut self) -> Result<u32, BlockError> {
        self.server.serve(&self.channel)
    }

    /// Serves for as long as `goes_on` says. It is asked after each ring full of requests, and whenever none has come for
    /// the time of `look`: then it is told so.
    ///
    /// # Errors
    ///
    /// [`BlockError`]: the front broke the ring, or can't be told.
    pub fn serve_while(
        &mut self,
        look: Duration,
        mut goes_on: impl FnMut(Served, bool) -> bool,
    ) -> Result<(), BlockError> {
        let Self { channel, server } = self;
        let (mut heard, mut is_idle) = (None, false);
        while goes_on(server.served, is_idle) {
            is_idle = false;
            if server.serve(channel)? > 0 || server.ring.arm()? {
                continue;
            }
            // Only now are further events let through.
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
            // Part by part, so that the front has something to do meanwhile; it says when it wants to be told.
            if self.ring.publish().is_needed() {
                self.served.notifications += 1;
                channel.send()?;
            }
        }
        Ok(answered)
    }

    fn take_batch(&mut self, most: u32) -> Result<Vec<Job>, BlockError> {
        let mut jobs = Vec::new();
        let mut segments = 0;
        while segments + MAX_SEGMENTS <= BATCH && jobs.len() < most as usize {
            let Some(request) = self.ring.pop()? else { break };
            let checked = check(&request, self.disk.sectors(), self.disk.is_read_only());
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
                batch::by_keeping(grants, peer, &mut jobs, disk, scratch, kept);
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
        // Xen doesn't tell the front that the channel is closed: it looks when it hears of us, or after a while.
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
