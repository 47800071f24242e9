//! The geometry of a disk, the limits of a front end, and its counters.

use core::fmt;
use core::time::Duration;

use super::{BlockError, Disk, SECTOR};
use crate::abi::blkif::MAX_SEGMENTS;

/// A disk, as its back end describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// The number of sectors.
    pub sectors: u64,
    /// The disk is read-only.
    pub read_only: bool,
    /// The back end keeps mappings.
    pub persistent: bool,
    /// The back end may hold writes back until a flush.
    pub flush: bool,
    /// The back end can discard sectors.
    pub discard: bool,
    /// The back end can compute checksums: it is Granite's.
    pub checksum: bool,
}

impl Geometry {
    /// Returns the geometry published by Granite's back end if it keeps no mappings.
    pub fn of(disk: &(impl Disk + ?Sized)) -> Self {
        let read_only = disk.is_read_only();
        let (flush, discard) = (!read_only, !read_only);
        Self { sectors: disk.sectors(), read_only, persistent: false, flush, discard, checksum: true }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors{}", self.sectors, if self.read_only { ", read-only" } else { "" })
    }
}

/// Limits of a front end's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pages in a request: 1 to 11.
    pub segments: usize,
    /// Maximum number of requests in flight; the ring's capacity also limits it.
    pub depth: u32,
    /// Maximum number of pages, lent and kept together.
    pub pages: usize,
    /// Whether the back end may keep pages mapped, if it can.
    pub persistent: bool,
    /// Timeout of an operation.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self { segments: MAX_SEGMENTS, depth: u32::MAX, pages: 32 * MAX_SEGMENTS, persistent: true, patience }
    }
}

/// Counters of a front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrontStats {
    /// Requests completed.
    pub requests: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Notifications sent to the back end.
    pub notifications: u64,
    /// Peak number of grants in use, not counting the ring's own.
    pub grants: u64,
}

/// Checks that `data` is whole sectors.
pub(super) fn whole_sectors(data: &[u8]) -> Result<(), BlockError> {
    let bytes = data.len();
    if bytes.is_multiple_of(SECTOR) { Ok(()) } else { Err(BlockError::NotSectors { bytes }) }
}
