//! Batches of requests, so that one hypercall maps, copies or unmaps for all of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::ValidRequest;
use super::disk::{Disk, DiskError};
use super::persistent::Persistent;
use super::{SECTOR, checksum};
use crate::abi::DomId;
use crate::abi::blkif::{Operation, Segment, Status};
use crate::abi::grant::GrantRef;
use crate::grant::{CopyOp, Dest, ForeignMapping, GrantError, GrantTable, ReadOnly, ReadWrite, Source};
use crate::hypercall::Hypercall;
use crate::mm::{Page, SharedBytes, SharedReader};

/// A request of a batch, and its outcome.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) operation: Operation,
    /// `None` if validation refused the request.
    pub(super) work: Option<ValidRequest>,
    pub(super) status: Status,
}

impl Job {
    fn fail(&mut self, status: Status) {
        if self.status == Status::OKAY {
            self.status = status;
        }
    }

    /// Returns the segments, or none once the job has failed.
    fn segments(&self) -> &[Segment] {
        self.work.as_ref().filter(|_| self.status == Status::OKAY).map_or(&[], |work| &work.segments)
    }

    fn brings_data(&self) -> bool {
        matches!(self.operation, Operation::WRITE | Operation::FLUSH)
    }
}

/// Returns the status of a request whose grant can't be used.
fn refused(error: GrantError) -> Status {
    match error {
        GrantError::OutOfMemory | GrantError::NoWindow(_) => Status::NO_MEMORY,
        error => Status::grant(error.status().unwrap_or(crate::abi::grant::Status(0))),
    }
}

/// A mapped page of the front end: readable, and also writable unless the request only brings data.
#[derive(Clone, Copy)]
struct View<'m> {
    read: SharedReader<'m>,
    write: Option<SharedBytes<'m>>,
}

/// Maps the pages of all jobs, each with its own result, runs the jobs, and unmaps the pages.
pub(super) fn by_mapping<X: Hypercall>(
    grants: &GrantTable<X>,
    peer: DomId,
    jobs: &mut [Job],
    disk: &mut impl Disk,
    scratch: &mut [u8],
) {
    let named = |jobs: &[Job], brings: bool| -> Vec<(DomId, GrantRef)> {
        let jobs = jobs.iter().filter(|job| job.brings_data() == brings);
        jobs.flat_map(Job::segments).map(|segment| (peer, segment.gref)).collect()
    };
    // Pages that only bring data are granted read-only, so map them read-only.
    let readable = grants.map_batch::<ReadOnly>(&named(jobs, true));
    let writable = grants.map_batch::<ReadWrite>(&named(jobs, false));
    let (mut readable, mut writable) = match (readable, writable) {
        (Ok(readable), Ok(writable)) => (readable.into_iter(), writable.into_iter()),
        (Err(error), _) | (_, Err(error)) => {
            jobs.iter_mut().filter(|job| !job.segments().is_empty()).for_each(|job| job.fail(refused(error)));
            return work_without_data(jobs, disk);
        }
    };
    let (mut done_reading, mut done_writing) = (Vec::new(), Vec::new());
    for job in jobs {
        let count = job.segments().len();
        let (mut first_read, mut first_write) = (done_reading.len(), done_writing.len());
        for _ in 0..count {
            let mapped = if job.brings_data() {
                readable.next().map(|mapped| mapped.map(|mapping| done_reading.push(mapping)))
            } else {
                writable.next().map(|mapped| mapped.map(|mapping| done_writing.push(mapping)))
            };
            if let Some(Err(error)) = mapped {
                job.fail(refused(error));
            }
        }
        work(job, disk, scratch, |_| {
            if let Some(mapping) = done_reading.get(first_read) {
                first_read += 1;
                return Some(View { read: mapping.reader(), write: None });
            }
            let mapping: &ForeignMapping<'_, ReadWrite, X> = done_writing.get(first_write)?;
            first_write += 1;
            Some(View { read: mapping.reader(), write: Some(mapping.bytes()) })
        });
    }
    // The table counts failed unmaps.
    let _ = grants.unmap_all(done_reading);
    let _ = grants.unmap_all(done_writing);
}

/// Like [`by_mapping`], with mappings kept between batches.
pub(super) fn serve_persistent<'t, X: Hypercall>(
    grants: &'t GrantTable<X>,
    peer: DomId,
    jobs: &mut [Job],
    disk: &mut impl Disk,
    scratch: &mut [u8],
    kept: &mut Persistent<'t, X>,
) {
    let named: Vec<_> = jobs.iter().flat_map(Job::segments).map(|segment| segment.gref).collect();
    let failed: BTreeMap<_, _> = match kept.map(grants, peer, named.into_iter()) {
        Ok(failed) => failed,
        Err(error) => {
            jobs.iter_mut().filter(|job| !job.segments().is_empty()).for_each(|job| job.fail(refused(error)));
            BTreeMap::new()
        }
    };
    for job in jobs {
        let wrong = job.segments().iter().find_map(|segment| failed.get(&segment.gref));
        if let Some(&error) = wrong {
            job.fail(refused(error));
        }
        work(job, disk, scratch, |segment| {
            let mapping = kept.get(segment.gref)?;
            Some(View { read: mapping.reader(), write: Some(mapping.bytes()) })
        });
    }
    kept.trim(grants);
}

/// Has Xen copy into the back end's own pages and out of them. There are enough pages for all segments of the jobs.
pub(super) fn by_copying<X: Hypercall>(
    grants: &GrantTable<X>,
    peer: DomId,
    jobs: &mut [Job],
    disk: &mut impl Disk,
    pages: &mut [Page],
) {
    copy_all(grants, peer, jobs, pages, true);
    let mut rest = &mut pages[..];
    for job in jobs.iter_mut() {
        let named = job.work.as_ref().map_or(0, |work| work.segments.len());
        let (own, others) = rest.split_at_mut(named.min(rest.len()));
        rest = others;
        let Some(todo) = job.work.as_ref().filter(|_| job.status == Status::OKAY) else { continue };
        let done = begin(todo, disk).and_then(|()| {
            let mut sector = todo.sector;
            for (segment, page) in todo.segments.iter().zip(own) {
                let bytes = &mut page.bytes_mut()[..segment.bytes()];
                match todo.operation {
                    Operation::READ => disk.read(sector, bytes)?,
                    Operation::CHECKSUM => disk.read(sector, bytes).map(|()| sum_up(bytes))?,
                    _ => disk.write(sector, bytes)?,
                }
                sector += segment.sectors() as u64;
            }
            finish(todo, disk)
        });
        if done.is_err() {
            job.fail(Status::DISK);
        }
    }
    copy_all(grants, peer, jobs, pages, false);
}

/// Runs before a request's data moves: a flush with data first makes all earlier writes durable.
fn begin(todo: &ValidRequest, disk: &mut impl Disk) -> Result<(), DiskError> {
    let flushes_first = todo.operation == Operation::FLUSH && !todo.segments.is_empty();
    if flushes_first { disk.flush() } else { Ok(()) }
}

/// Runs after the data has moved, or is the whole request.
fn finish(todo: &ValidRequest, disk: &mut impl Disk) -> Result<(), DiskError> {
    match todo.operation {
        Operation::FLUSH => disk.flush(),
        Operation::DISCARD => disk.discard(todo.sector, todo.sectors),
        _ => Ok(()),
    }
}

/// Copies the data of all jobs, inward or outward.
fn copy_all<X: Hypercall>(
    grants: &GrantTable<X>,
    peer: DomId,
    jobs: &mut [Job],
    pages: &mut [Page],
    inward: bool,
) {
    let mut pages = pages.iter_mut();
    let mut copies = Vec::new();
    let mut whose = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let named = job.work.as_ref().map_or(0, |work| work.segments.len());
        let mut own = pages.by_ref().take(named);
        if job.brings_data() == inward {
            for (segment, page) in job.segments().iter().zip(own.by_ref()) {
                let (bytes, offset) = (moved(job.operation, segment), segment.offset());
                let copy = if inward {
                    CopyOp::new(Source::granted(peer, segment.gref, offset), Dest::page(page, 0), bytes)
                } else {
                    CopyOp::new(Source::page(page, 0), Dest::granted(peer, segment.gref, offset), bytes)
                };
                // A validated segment lies within its page.
                if let Ok(copy) = copy {
                    copies.push(copy);
                    whose.push(index);
                }
            }
        }
        own.for_each(drop); // the pages of a job that has failed
    }
    if copies.is_empty() {
        return;
    }
    let _ = grants.copy(&mut copies); // each has its own result
    let results: Vec<_> = copies.iter().map(CopyOp::result).collect();
    drop(copies);
    for (index, result) in whose.into_iter().zip(results) {
        if let Err(error) = result {
            jobs[index].fail(refused(error));
        }
    }
}

/// Returns the number of bytes copied for a segment: a checksum has 4 bytes for each sector.
fn moved(operation: Operation, segment: &Segment) -> usize {
    if operation == Operation::CHECKSUM { 4 * segment.sectors() } else { segment.bytes() }
}

/// Writes the checksums of the sectors to the start of `bytes`, packed.
fn sum_up(bytes: &mut [u8]) {
    for index in 0..bytes.len() / SECTOR {
        let sum = checksum(&bytes[index * SECTOR..][..SECTOR]);
        bytes[4 * index..][..4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Runs the jobs without data, because no data can be reached.
fn work_without_data(jobs: &mut [Job], disk: &mut impl Disk) {
    for job in jobs {
        work(job, disk, &mut [], |_| None);
    }
}

/// Runs a job whose pages are mapped. The data passes through memory of the back end, so the peer can't change it.
fn work<'m>(
    job: &mut Job,
    disk: &mut impl Disk,
    scratch: &mut [u8],
    mut view: impl FnMut(&Segment) -> Option<View<'m>>,
) {
    let Some(todo) = job.work.as_ref().filter(|_| job.status == Status::OKAY) else { return };
    let mut sector = todo.sector;
    let mut done = begin(todo, disk).map_err(|_| Status::DISK);
    for segment in &todo.segments {
        if done.is_err() {
            break;
        }
        let (Some(view), Some(bytes)) = (view(segment), scratch.get_mut(..segment.bytes())) else {
            done = Err(Status::NO_MEMORY);
            break;
        };
        let first = sector;
        sector += segment.sectors() as u64;
        let put = |bytes: &[u8]| view.write.and_then(|page| page.write(segment.offset(), bytes).ok());
        let moved = moved(job.operation, segment);
        done = match job.operation {
            Operation::READ => disk.read(first, bytes).map(|()| put(bytes)),
            Operation::CHECKSUM => disk.read(first, bytes).map(|()| {
                sum_up(bytes);
                put(&bytes[..moved])
            }),
            // The part lies within its page, as validated.
            _ => match view.read.read(segment.offset(), bytes) {
                Ok(()) => disk.write(first, bytes).map(Some),
                Err(_) => Ok(None),
            },
        }
        .map_err(|_| Status::DISK)
        .and_then(|put| put.ok_or(Status::BAD_SEGMENT));
    }
    if let Err(status) = done.and_then(|()| finish(todo, disk).map_err(|_| Status::DISK)) {
        job.fail(status);
    }
}
