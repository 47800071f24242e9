//! Block requests and responses. Source: `xen/include/public/io/blkif.h`, in its 64-bit x86 layout. Granite's own
//! extensions are marked as such.

use core::fmt;

use super::assert_layout;
use super::grant::{GrantRef, Status as GrantStatus};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes in a sector, the unit of every position and length in the protocol.
pub const SECTOR: usize = 512;
/// Sectors in a page.
pub const SECTORS_PER_PAGE: usize = 8;
/// Maximum number of segments in a request.
#[doc(alias = "BLKIF_MAX_SEGMENTS_PER_REQUEST")]
pub const MAX_SEGMENTS: usize = 11;
/// Bit in the back end's key `info`: the disk is read-only.
#[doc(alias = "VDISK_READONLY")]
pub const READ_ONLY: u32 = 4;

/// The operation of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Operation(pub u8);

impl Operation {
    /// Reads sectors of the disk into the segments.
    #[doc(alias = "BLKIF_OP_READ")]
    pub const READ: Self = Self(0);
    /// Writes the segments to the disk.
    #[doc(alias = "BLKIF_OP_WRITE")]
    pub const WRITE: Self = Self(1);
    /// A write ordered after all earlier writes.
    #[doc(alias = "BLKIF_OP_WRITE_BARRIER")]
    pub const WRITE_BARRIER: Self = Self(2);
    /// Flushes completed writes to stable storage.
    #[doc(alias = "BLKIF_OP_FLUSH_DISKCACHE")]
    pub const FLUSH: Self = Self(3);
    /// Discards sectors; their contents become undefined.
    #[doc(alias = "BLKIF_OP_DISCARD")]
    pub const DISCARD: Self = Self(5);
    /// A request whose segments are listed in separate pages.
    #[doc(alias = "BLKIF_OP_INDIRECT")]
    pub const INDIRECT: Self = Self(6);
    /// Granite's own: a read, but it returns only the CRC-32 of each sector, in 4 bytes (little endian), packed from
    /// the first sector of each segment on. Offered by a back end with the key `feature-granite-checksum`.
    pub const CHECKSUM: Self = Self(0xc5);
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::READ => "read",
            Self::WRITE => "write",
            Self::WRITE_BARRIER => "write barrier",
            Self::FLUSH => "flush",
            Self::DISCARD => "discard",
            Self::INDIRECT => "indirect",
            Self::CHECKSUM => "checksum",
            Self(other) => return write!(f, "operation {other:#x}"),
        })
    }
}

/// Sectors of a granted page.
#[doc(alias = "blkif_request_segment")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Segment {
    /// The page.
    pub gref: GrantRef,
    /// Its first sector in use, 0 to 7.
    pub first_sect: u8,
    /// Its last sector in use, inclusive.
    pub last_sect: u8,
    /// Unused.
    pub padding: [u8; 2],
}

assert_layout!(Segment, size = 8, align = 4, { gref: 0, first_sect: 4, last_sect: 5 });

impl Segment {
    /// Returns the number of sectors: 0 if the last one lies before the first, as a peer may claim.
    pub fn sectors(&self) -> usize {
        (usize::from(self.last_sect) + 1).saturating_sub(usize::from(self.first_sect))
    }

    /// Returns the offset in the page, in bytes.
    pub fn offset(&self) -> usize {
        usize::from(self.first_sect) * SECTOR
    }

    /// Returns the length in bytes.
    pub fn bytes(&self) -> usize {
        self.sectors() * SECTOR
    }
}

/// A request. Operations without segments use their place for other fields; see [`Discard`].
#[doc(alias = "blkif_request")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// Number of valid segments.
    pub nr_segments: u8,
    /// Handle of the device within the domain.
    pub handle: u16,
    /// Unused.
    pub padding: u32,
    /// Chosen by the front end and returned in the response.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// The segments. Those from `nr_segments` on are undefined.
    pub segments: [Segment; MAX_SEGMENTS],
}

assert_layout!(Request, size = 112, align = 8, { operation: 0, nr_segments: 1, handle: 2, id: 8, sector_number: 16, segments: 24 });

/// A discard request, laid over the bytes of a [`Request`].
#[doc(alias = "blkif_request_discard")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Discard {
    /// [`Operation::DISCARD`].
    pub operation: Operation,
    /// `BLKIF_DISCARD_SECURE`, or zero.
    pub flag: u8,
    /// Handle of the device within the domain.
    pub handle: u16,
    /// Unused.
    pub padding: u32,
    /// Chosen by the front end and returned in the response.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// Number of sectors.
    pub nr_sectors: u64,
    /// Unused.
    pub rest: [u64; MAX_SEGMENTS - 1],
}

assert_layout!(Discard, size = 112, align = 8, { operation: 0, flag: 1, handle: 2, id: 8, sector_number: 16, nr_sectors: 24 });

impl From<Discard> for Request {
    fn from(discard: Discard) -> Self {
        zerocopy::transmute!(discard)
    }
}

impl From<Request> for Discard {
    fn from(request: Request) -> Self {
        zerocopy::transmute!(request)
    }
}

/// A response.
#[doc(alias = "blkif_response")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Response {
    /// The request's `id`.
    pub id: u64,
    /// The request's operation.
    pub operation: Operation,
    /// Unused.
    pub padding: u8,
    /// The result.
    pub status: Status,
    /// Unused.
    pub rest: [u8; 4],
}

assert_layout!(Response, size = 16, align = 8, { id: 0, operation: 8, status: 10 });

/// The result of a request. Values below -256 are Granite's own: reasons, sent only to a front end with the key
/// `feature-granite-reasons`. Other front ends get [`ERROR`](Self::ERROR) in their place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Status(pub i16);

impl Status {
    /// Success.
    #[doc(alias = "BLKIF_RSP_OKAY")]
    pub const OKAY: Self = Self(0);
    /// Failure, with no reason given.
    #[doc(alias = "BLKIF_RSP_ERROR")]
    pub const ERROR: Self = Self(-1);
    /// The back end doesn't support the operation.
    #[doc(alias = "BLKIF_RSP_EOPNOTSUPP")]
    pub const NOT_SUPPORTED: Self = Self(-2);
    /// The disk has no such sectors.
    pub const OUT_OF_RANGE: Self = Self(-257);
    /// The disk is read-only.
    pub const READ_ONLY: Self = Self(-258);
    /// More segments than a request can hold, or none where one is required.
    pub const BAD_SEGMENT_COUNT: Self = Self(-259);
    /// A segment doesn't lie in its page.
    pub const BAD_SEGMENT: Self = Self(-260);
    /// The disk itself failed.
    pub const DISK: Self = Self(-261);
    /// The back end is out of memory.
    pub const NO_MEMORY: Self = Self(-262);
    /// A grant can't be used. [`grant_status`](Self::grant_status) returns the reason.
    const GRANT: i16 = -512;

    /// Returns the status for an unusable grant, with Xen's status as its reason.
    pub const fn grant(status: GrantStatus) -> Self {
        // Xen's statuses are -1 to -14. A value outside the range here can't be one, so it is left out.
        let status = if status.0 < 0 && status.0 > -256 { status.0 } else { 0 };
        Self(Self::GRANT + status)
    }

    /// Returns Xen's status for an unusable grant, or `None` if this isn't about a grant.
    pub const fn grant_status(self) -> Option<GrantStatus> {
        if self.0 <= Self::GRANT && self.0 > Self::GRANT - 256 {
            Some(GrantStatus(self.0 - Self::GRANT))
        } else {
            None
        }
    }

    /// Returns the status in the terms of `blkif.h`: any reason becomes [`ERROR`](Self::ERROR).
    pub const fn without_reason(self) -> Self {
        if self.0 <= -256 { Self::ERROR } else { self }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.grant_status() {
            return write!(f, "a granted page can't be used: {status}");
        }
        f.write_str(match *self {
            Self::OKAY => "done",
            Self::ERROR => "it failed",
            Self::NOT_SUPPORTED => "there is no such operation",
            Self::OUT_OF_RANGE => "the disk has no such sectors",
            Self::READ_ONLY => "the disk can't be written",
            Self::BAD_SEGMENT_COUNT => "too many segments, or none",
            Self::BAD_SEGMENT => "a segment outside of its page",
            Self::DISK => "the disk failed",
            Self::NO_MEMORY => "the back end has no memory",
            Self(other) => return write!(f, "status {other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Segment;
    use crate::abi::grant::GrantRef;

    #[test]
    fn a_segment_that_ends_before_it_begins_has_no_sectors() {
        let sectors = |first_sect, last_sect| {
            Segment { gref: GrantRef(1), first_sect, last_sect, padding: [0; 2] }.sectors()
        };
        let all = [sectors(0, 0), sectors(0, 7), sectors(255, 255), sectors(1, 0), sectors(255, 0)];
        assert_eq!(all, [1, 8, 1, 0, 0]);
    }
}
