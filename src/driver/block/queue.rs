//! The request queue of a front end: submits requests and completes responses, without waiting.

use core::fmt;

use alloc::vec::Vec;

use super::bounce::{Bounce, Loan};
use super::limits::{FrontStats, Geometry, Limits};
use super::{Blkif, BlockError, SECTOR};
use crate::abi::DomId;
use crate::abi::blkif::{
    Discard, MAX_SEGMENTS, Operation, Request, Response, SECTORS_PER_PAGE, Segment, Status,
};
use crate::abi::grant::GrantRef;
use crate::event::Interdomain;
use crate::grant::GrantTable;
use crate::mm::Guest;
use crate::ring::{self, RequestId, Ring, RingMemory};

/// A request in flight.
struct Flight<'t, X: Guest> {
    /// The number of its operation. If the caller has given that up, the data is dropped.
    operation: u64,
    /// It may change the disk.
    changes: bool,
    lent: heapless::Vec<Loan<'t, X>, MAX_SEGMENTS>,
    /// Offset of its data in the caller's buffer.
    at: usize,
    bytes: usize,
}

/// An operation for a caller.
pub(super) enum Job<'d> {
    Read(&'d mut [u8]),
    Write(&'d [u8]),
    /// One checksum for each sector, 4 bytes each.
    Checksum(&'d mut [u8]),
    Flush,
    Discard(u64),
}

impl Job<'_> {
    /// Returns the number of sectors covered on the disk.
    fn sectors(&self) -> u64 {
        match self {
            Self::Read(data) => (data.len() / SECTOR) as u64,
            Self::Write(data) => (data.len() / SECTOR) as u64,
            Self::Checksum(sums) => (sums.len() / 4) as u64,
            Self::Flush => 0,
            Self::Discard(sectors) => *sectors,
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Self::Read(_) => Operation::READ,
            Self::Write(_) => Operation::WRITE,
            Self::Checksum(_) => Operation::CHECKSUM,
            Self::Flush => Operation::FLUSH,
            Self::Discard(_) => Operation::DISCARD,
        }
    }

    /// Returns the number of bytes in the caller's buffer for each sector.
    fn per_sector(&self) -> usize {
        if let Self::Checksum(_) = self { 4 } else { SECTOR }
    }
}

/// A job in progress.
pub(super) struct Progress<'d> {
    job: Job<'d>,
    number: u64,
    sector: u64,
    /// Sectors submitted so far.
    asked: u64,
    /// Part of the job is not yet submitted.
    unasked: bool,
    in_flight: u32,
    failed: Option<BlockError>,
}

impl Progress<'_> {
    /// Returns the result of a job that is done.
    pub(super) fn result(&self) -> Result<(), BlockError> {
        self.failed.map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: BlockError) {
        self.failed = self.failed.or(Some(error));
        self.unasked = false;
    }
}

/// A front end without its channel.
pub(super) struct RequestQueue<'t, X: Guest, M: RingMemory> {
    /// Indexed by the request's number.
    flights: Vec<Option<Flight<'t, X>>>,
    bounce: Bounce<'t, X>,
    // Declared after the pages: requests in flight wait for the end of the ring's use.
    ring: Ring<ring::Front, Blkif, M>,
    pub(super) geometry: Geometry,
    pub(super) limits: Limits,
    /// Number of operations begun.
    operations: u64,
    stats: FrontStats,
    /// Set when the back end keeps a page after its response: the front end then begins no more jobs.
    broken: Option<BlockError>,
}

impl<'t, X: Guest, M: RingMemory> RequestQueue<'t, X, M> {
    pub(super) fn new(
        ring: Ring<ring::Front, Blkif, M>,
        grants: &'t GrantTable<X>,
        peer: DomId,
        geometry: Geometry,
        limits: Limits,
    ) -> Self {
        let bounce = Bounce::new(grants, peer, geometry.persistent, limits.pages.max(1));
        let flights = (0..ring.slots()).map(|_| None).collect();
        Self {
            flights,
            bounce,
            ring,
            geometry,
            limits,
            operations: 0,
            stats: FrontStats::default(),
            broken: None,
        }
    }

    pub(super) fn slots(&self) -> u32 {
        self.ring.slots()
    }

    pub(super) fn stats(&self) -> FrontStats {
        FrontStats { grants: self.bounce.peak as u64, ..self.stats }
    }

    /// Begins a job, if its sectors are in range and the disk supports it.
    pub(super) fn begin<'d>(&mut self, sector: u64, job: Job<'d>) -> Result<Progress<'d>, BlockError> {
        let (count, sectors) = (job.sectors(), self.geometry.sectors);
        if sector.checked_add(count).is_none_or(|end| end > sectors) {
            return Err(BlockError::OutOfRange { sector, count, sectors });
        }
        self.broken.map_or(Ok(()), Err)?;
        let can_do = match job {
            Job::Discard(_) => self.geometry.discard,
            Job::Checksum(_) => self.geometry.checksum,
            _ => true,
        };
        if self.geometry.read_only && matches!(job, Job::Write(_) | Job::Discard(_)) {
            return Err(BlockError::ReadOnly);
        }
        if !can_do {
            return Err(BlockError::Refused(Status::NOT_SUPPORTED));
        }
        self.operations += 1;
        let unasked = match job {
            // A read-only disk, or one without a write cache, has no writes to flush.
            Job::Flush => self.geometry.flush && !self.geometry.read_only,
            _ => count > 0,
        };
        let number = self.operations;
        Ok(Progress { job, number, sector, asked: 0, unasked, in_flight: 0, failed: None })
    }

    /// After an event without a response, checks whether the peer is still there.
    pub(super) fn check_peer(
        &self,
        answered_before: u64,
        channel: &Interdomain<X>,
    ) -> Result<(), BlockError> {
        let is_unanswered = self.stats.requests == answered_before;
        if is_unanswered && !channel.is_interdomain() { Err(BlockError::Gone) } else { Ok(()) }
    }

    /// Returns the number of completed requests.
    pub(super) fn answered(&self) -> u64 {
        self.stats.requests
    }

    /// Completes the available responses, submits requests as far as there is room, and notifies the back end.
    /// Returns whether the job is done.
    pub(super) fn poll(
        &mut self,
        progress: &mut Progress<'_>,
        channel: &Interdomain<X>,
    ) -> Result<bool, BlockError> {
        while let Some((id, response)) = self.ring.pop()? {
            self.complete(id, response, progress);
        }
        let may_ask = !self.is_changed_by_others(progress);
        while may_ask
            && progress.unasked
            && self.ring.free() > 0
            && progress.in_flight < self.limits.depth.max(1)
        {
            match self.submit(progress) {
                Ok(true) => {}
                Ok(false) => break,
                // Requests in flight complete before the job ends.
                Err(error) => progress.fail(error),
            }
        }
        if self.ring.publish().is_needed() {
            self.stats.notifications += 1;
            channel.send()?;
        }
        Ok(!progress.unasked && progress.in_flight == 0)
    }

    /// Returns whether a change from an abandoned operation is in flight. A back end that doesn't work in order, such
    /// as Linux's, could make the change after the requests submitted now, so the front end waits for its response
    /// first.
    fn is_changed_by_others(&self, progress: &Progress<'_>) -> bool {
        self.ring.in_flight() > progress.in_flight as usize
            && self
                .flights
                .iter()
                .flatten()
                .any(|flight| flight.operation != progress.number && flight.changes)
    }

    /// Arms notification before sleeping. Returns whether enough responses have arrived to continue instead.
    pub(super) fn must_go_on(&mut self, progress: &Progress<'_>) -> Result<bool, BlockError> {
        // With more to submit, half of them suffice: a back end that responds in batches works on the other half
        // meanwhile.
        let wanted = if progress.unasked { progress.in_flight / 2 } else { progress.in_flight };
        Ok(self.ring.arm_for(wanted)?)
    }

    /// Submits the next part of a job. Returns `false` if it must wait.
    fn submit(&mut self, progress: &mut Progress<'_>) -> Result<bool, BlockError> {
        let per_sector = progress.job.per_sector();
        let left = progress.job.sectors() - progress.asked;
        let at = progress.asked as usize * per_sector;
        let mut lent = heapless::Vec::<Loan<'t, X>, MAX_SEGMENTS>::new();
        let mut sectors = 0;
        if !matches!(progress.job, Job::Flush | Job::Discard(_)) {
            let max = self.limits.segments.clamp(1, MAX_SEGMENTS);
            while sectors < left && lent.len() < max {
                let count = (left - sectors).min(SECTORS_PER_PAGE as u64);
                let from = at + sectors as usize * per_sector;
                let data = match &progress.job {
                    Job::Write(data) => Some(&data[from..from + count as usize * per_sector]),
                    _ => None,
                };
                match self.bounce.lend(data) {
                    Ok(Some(page)) => drop(lent.push(page)), // there is room for `most`
                    Ok(None) => break,
                    Err(error) => {
                        lent.into_iter().for_each(|page| self.bounce.put_back(page));
                        return Err(error);
                    }
                }
                sectors += count;
            }
            if lent.is_empty() {
                // All pages are lent; they come back with their responses.
                return if self.ring.in_flight() > 0 { Ok(false) } else { Err(BlockError::OutOfMemory) };
            }
        } else {
            sectors = left;
        }
        let (operation, sector) = (progress.job.operation(), progress.sector + progress.asked);
        let grefs: heapless::Vec<GrantRef, MAX_SEGMENTS> = lent.iter().map(Loan::gref).collect();
        let id = self.ring.push(|id| request(operation, id, sector, sectors, &grefs))?;
        progress.asked += sectors;
        progress.unasked = progress.asked < progress.job.sectors();
        progress.in_flight += 1;
        let bytes = if lent.is_empty() { 0 } else { sectors as usize * per_sector };
        if let Some(flight) = self.flights.get_mut(id.index()) {
            let changes = matches!(progress.job, Job::Write(_) | Job::Discard(_));
            *flight = Some(Flight { operation: progress.number, changes, lent, at, bytes });
        }
        Ok(true)
    }

    /// Completes a request: takes back its pages, and gives the caller the data read.
    fn complete(&mut self, id: RequestId, response: Response, progress: &mut Progress<'_>) {
        self.stats.requests += 1;
        let Some(Flight { operation, lent, at, bytes, .. }) =
            self.flights.get_mut(id.index()).and_then(Option::take)
        else {
            return;
        };
        let is_ours = operation == progress.number;
        let is_done = response.status == Status::OKAY;
        let per_page = SECTORS_PER_PAGE * progress.job.per_sector();
        let mut from = at;
        for page in lent {
            let until = (from + per_page).min(at + bytes);
            let into = match &mut progress.job {
                Job::Read(data) | Job::Checksum(data) if is_ours && is_done => data.get_mut(from..until),
                _ => None,
            };
            if let Err(error) = self.bounce.take_back(page, into) {
                // The page and its reference are lost until the back end releases them, so begin no more jobs.
                self.broken = Some(error);
                progress.fail(error);
            }
            from = until;
        }
        if is_ours {
            progress.in_flight -= 1;
            if is_done {
                self.stats.bytes += if progress.job.per_sector() == SECTOR { bytes as u64 } else { 0 };
            } else {
                progress.fail(BlockError::Refused(response.status));
            }
        }
    }
}

impl<X: Guest, M: RingMemory> Drop for RequestQueue<'_, X, M> {
    /// A late back end finds requests in the ring for as long as it has the ring mapped. Their references aren't
    /// reused until then: otherwise it would write and read unrelated pages.
    fn drop(&mut self) {
        let Some(ring) = self.ring.memory().gref() else { return };
        let flights = self.flights.iter_mut().filter_map(Option::take);
        flights.flat_map(|flight| flight.lent).for_each(|page| page.end_access_after(ring));
    }
}

/// Returns a request. Its segments fill their pages from the first sector on.
fn request(operation: Operation, id: RequestId, sector: u64, sectors: u64, grefs: &[GrantRef]) -> Request {
    let (id, sector_number) = (id.number(), sector);
    if operation == Operation::DISCARD {
        let (flag, handle, padding, nr_sectors) = (0, 0, 0, sectors);
        return Discard { operation, flag, handle, padding, id, sector_number, nr_sectors, rest: [0; 10] }
            .into();
    }
    let empty = Segment { gref: GrantRef(0), first_sect: 0, last_sect: 0, padding: [0; 2] };
    let mut segments = [empty; MAX_SEGMENTS];
    let mut left = sectors;
    for (segment, &gref) in segments.iter_mut().zip(grefs) {
        let count = left.min(SECTORS_PER_PAGE as u64);
        left -= count;
        *segment = Segment { gref, last_sect: count.saturating_sub(1) as u8, ..empty };
    }
    let nr_segments = grefs.len() as u8;
    Request { operation, nr_segments, handle: 0, padding: 0, id, sector_number, segments }
}

impl<X: Guest, M: RingMemory> fmt::Debug for RequestQueue<'_, X, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring, bounce, geometry, stats, .. } = self;
        let mut all = f.debug_struct("RequestQueue");
        all.field("ring", ring).field("bounce", bounce).field("geometry", geometry).field("stats", stats);
        all.finish_non_exhaustive()
    }
}
