//! Block requests and their answers. Source: `xen/include/public/io/blkif.h`, as 64-bit x86 lays it out. What is Granite's
//! own is said to be.

use core::fmt;

use super::assert_layout;
use super::grant::{GrantRef, Status as GrantStatus};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a sector, in which everything is counted.
pub const SECTOR: usize = 512;
/// Sectors in a page.
pub const SECTORS_PER_PAGE: usize = 8;
/// Segments of a request.
#[doc(alias = "BLKIF_MAX_SEGMENTS_PER_REQUEST")]
pub const MAX_SEGMENTS: usize = 11;
/// What the key `info` of a back end says of a disk that can't be written.
#[doc(alias = "VDISK_READONLY")]
pub const READ_ONLY: u32 = 4;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Operation(pub u8);

impl Operation {
    /// Sectors of the disk into the segments.
    #[doc(alias = "BLKIF_OP_READ")]
    pub const READ: Self = Self(0);
    /// The segments onto the disk.
    #[doc(alias = "BLKIF_OP_WRITE")]
    pub const WRITE: Self = Self(1);
    /// A write that all earlier ones come before.
    #[doc(alias = "BLKIF_OP_WRITE_BARRIER")]
    pub const WRITE_BARRIER: Self = Self(2);
    /// All that was written is to last.
    #[doc(alias = "BLKIF_OP_FLUSH_DISKCACHE")]
    pub const FLUSH: Self = Self(3);
    /// Sectors whose contents nobody wants any more.
    #[doc(alias = "BLKIF_OP_DISCARD")]
    pub const DISCARD: Self = Self(5);
    /// Segments that are named in pages of their own.
    #[doc(alias = "BLKIF_OP_INDIRECT")]
    pub const INDIRECT: Self = Self(6);
    /// Granite's own: as a read, but of each sector comes its CRC-32 alone, in 4 bytes (little endian), packed from the
    /// first sector of each segment on. For who has the key `feature-granite-checksum`.
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

/// Sectors of a page that is granted.
#[doc(alias = "blkif_request_segment")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Segment {
    /// The page.
    pub gref: GrantRef,
    /// Its first sector that is meant, 0 to 7.
    pub first_sect: u8,
    /// The last one.
    pub last_sect: u8,
    /// Nothing.
    pub padding: [u8; 2],
}

assert_layout!(Segment, size = 8, align = 4, { gref: 0, first_sect: 4, last_sect: 5 });

impl Segment {
    /// Its sectors; 0, if the last one lies before the first, as a peer may say.
    pub fn sectors(&self) -> usize {
        (usize::from(self.last_sect) + 1).saturating_sub(usize::from(self.first_sect))
    }

    /// Where it begins in its page.
    pub fn offset(&self) -> usize {
        usize::from(self.first_sect) * SECTOR
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.sectors() * SECTOR
    }
}

/// A request. Those that have no segments have something else in their place.
#[doc(alias = "blkif_request")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// How many segments are there.
    pub nr_segments: u8,
    /// Which of the domain's devices.
    pub handle: u16,
    /// Nothing.
    pub padding: u32,
    /// The front's, returned in the response.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// The segments; those beyond `nr_segments` mean nothing.
    pub segments: [Segment; MAX_SEGMENTS],
}

assert_layout!(Request, size = 112, align = 8, { operation: 0, nr_segments: 1, handle: 2, id: 8, sector_number: 16, segments: 24 });

/// A request to discard: the same bytes as a [`Request`], as far as it goes.
#[doc(alias = "blkif_request_discard")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Discard {
    /// [`Operation::DISCARD`].
    pub operation: Operation,
    /// `BLKIF_DISCARD_SECURE`, or zero.
    pub flag: u8,
    /// Which of the domain's devices.
    pub handle: u16,
    /// Nothing.
    pub padding: u32,
    /// The front's, returned in the response.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// How many.
    pub nr_sectors: u64,
    /// Nothing.
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
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: Operation,
    /// Nothing.
    pub padding: u8,
    /// What became of it.
    pub status: Status,
    /// Nothing.
    pub rest: [u8; 4],
}

assert_layout!(Response, size = 16, align = 8, { id: 0, operation: 8, status: 10 });

/// What became of a request. Those below -256 are Granite's own: reasons, for a front end that has the key
/// `feature-granite-reasons`. Others get [`ERROR`](Self::ERROR) in their place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Status(pub i16);

impl Status {
    /// It is done.
    #[doc(alias = "BLKIF_RSP_OKAY")]
    pub const OKAY: Self = Self(0);
    /// It isn't.
    #[doc(alias = "BLKIF_RSP_ERROR")]
    pub const ERROR: Self = Self(-1);
    /// There is no such operation here.
    #[doc(alias = "BLKIF_RSP_EOPNOTSUPP")]
    pub const NOT_SUPPORTED: Self = Self(-2);
    /// The disk has no such sectors.
    pub const OUT_OF_RANGE: Self = Self(-257);
    /// The disk can't be written.
    pub const READ_ONLY: Self = Self(-258);
    /// More segments than a request has, or none where there must be one.
    pub const BAD_SEGMENT_COUNT: Self = Self(-259);
    /// A segment that doesn't lie in its page.
    pub const BAD_SEGMENT: Self = Self(-260);
    /// The disk itself failed.
    pub const DISK: Self = Self(-261);
    /// The back end has no memory.
    pub const NO_MEMORY: Self = Self(-262);
    /// A grant can't be used; why, as [`grant_status`](Self::grant_status).
    const GRANT: i16 = -512;

    /// A grant that can't be used, with the status that Xen gave.
    pub const fn grant(status: GrantStatus) -> Self {
        // Xen's are -1 to -14; what is no status of its is said without it.
        let status = if status.0 < 0 && status.0 > -256 { status.0 } else { 0 };
        Self(Self::GRANT + status)
    }

    /// The status that Xen gave for a grant.
    pub const fn grant_status(self) -> Option<GrantStatus> {
        if self.0 <= Self::GRANT && self.0 > Self::GRANT - 256 {
            Some(GrantStatus(self.0 - Self::GRANT))
        } else {
            None
        }
    }

    /// As `blkif.h` knows it.
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
