//! What a front end may ask of a disk, how much of it at once, and what it has done.

use core::fmt;
use core::time::Duration;

use super::{BlockError, Disk, SECTOR};
use crate::abi::blkif::MAX_SEGMENTS;

/// A disk, as its back end describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Its sectors.
    pub sectors: u64,
    /// It can't be written.
    pub read_only: bool,
    /// The back keeps mappings.
    pub persistent: bool,
    /// The back keeps writes back until it is told to flush.
    pub flush: bool,
    /// The back can discard sectors.
    pub discard: bool,
    /// The back can tell checksums: it is Granite's.
    pub checksum: bool,
}

impl Geometry {
    /// What a back end of ours says of a disk, if it keeps no mappings.
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

/// How much a front end asks for at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pages in a request: 1 to 11.
    pub segments: usize,
    /// Requests in flight, as far as there are slots.
    pub depth: u32,
    /// Pages lent and kept, all together.
    pub pages: usize,
    /// Whether the back may keep pages mapped, if it can.
    pub persistent: bool,
    /// How long an operation may take.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self { segments: MAX_SEGMENTS, depth: u32::MAX, pages: 32 * MAX_SEGMENTS, persistent: true, patience }
    }
}

/// What was done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Times that the back was told.
    pub notifications: u64,
    /// Most grants out at once, but for the ring's own.
    pub grants: u64,
}

/// Data is whole sectors.
pub(super) fn whole_sectors(data: &[u8]) -> Result<(), BlockError> {
    let bytes = data.len();
    if bytes.is_multiple_of(SECTOR) { Ok(()) } else { Err(BlockError::NotSectors { bytes }) }
}
