//! Requests as a front end may write them, and how each is to be answered.

use alloc::vec::Vec;

use granite::abi::blkif::{Discard, MAX_SEGMENTS, Operation, Request, Segment, Status};
use granite::abi::grant::{GrantRef, Status as GrantStatus};

/// Sectors of the disk that they are for.
pub const SECTORS: u64 = 64;

/// A request for so many sectors from `sector` on, in one page.
pub fn request(operation: Operation, sector: u64, gref: GrantRef, sectors: u8) -> Request {
    let segment = Segment { gref, first_sect: 0, last_sect: sectors.wrapping_sub(1), padding: [0; 2] };
    let segments = [segment; MAX_SEGMENTS];
    Request { operation, nr_segments: 1, handle: 0, padding: 0, id: 0, sector_number: sector, segments }
}

fn discard(sector: u64, sectors: u64) -> Request {
    let operation = Operation::DISCARD;
    Discard {
        operation,
        flag: 0,
        handle: 0,
        padding: 0,
        id: 0,
        sector_number: sector,
        nr_sectors: sectors,
        rest: [0; 10],
    }
    .into()
}

fn with(request: Request, change: impl FnOnce(&mut Request)) -> Request {
    let mut request = request;
    change(&mut request);
    request
}

/// What is asked, with a page that can be written, one that can be read alone, and what is no reference; and the answer.
pub fn table(
    writable: GrantRef,
    readable: GrantRef,
    nothing: GrantRef,
) -> Vec<(&'static str, Request, Status)> {
    let read = request(Operation::READ, 0, writable, 8);
    let write = request(Operation::WRITE, 0, readable, 8);
    let sum = request(Operation::CHECKSUM, 0, writable, 8);
    let flush = with(request(Operation::FLUSH, 0, readable, 8), |it| it.nr_segments = 0);
    let refused = |status| Status::grant(status);
    let last = SECTORS - 8;
    alloc::vec![
        ("read", read, Status::OKAY),
        ("write", write, Status::OKAY),
        ("checksum", sum, Status::OKAY),
        ("flush", flush, Status::OKAY),
        ("flush with data", with(flush, |it| it.nr_segments = 1), Status::OKAY),
        ("discard", discard(8, 8), Status::OKAY),
        ("discard nothing", discard(SECTORS, 0), Status::OKAY),
        ("the last sectors", with(read, |it| it.sector_number = last), Status::OKAY),
        (
            "eleven segments",
            with(sum, |it| (it.nr_segments, it.segments) =
                (11, [Segment { last_sect: 4, ..it.segments[0] }; 11])),
            Status::OKAY
        ),
        // Where nothing is.
        ("past the end", with(read, |it| it.sector_number = last + 1), Status::OUT_OF_RANGE),
        ("write past the end", with(write, |it| it.sector_number = SECTORS), Status::OUT_OF_RANGE),
        ("sum past the end", with(sum, |it| it.sector_number = 1 << 40), Status::OUT_OF_RANGE),
        (
            "flush past the end",
            with(flush, |it| (it.nr_segments, it.sector_number) = (1, SECTORS)),
            Status::OUT_OF_RANGE
        ),
        ("around the end of numbers", with(read, |it| it.sector_number = u64::MAX - 3), Status::OUT_OF_RANGE),
        ("discard past the end", discard(SECTORS - 1, 2), Status::OUT_OF_RANGE),
        ("discard around the end of numbers", discard(8, u64::MAX - 7), Status::OUT_OF_RANGE),
        (
            "too many sectors",
            with(read, |it| (it.nr_segments, it.sector_number) = (11, 0)),
            Status::OUT_OF_RANGE
        ),
        // Segments.
        ("no segment", with(read, |it| it.nr_segments = 0), Status::BAD_SEGMENT_COUNT),
        ("nothing to write", with(write, |it| it.nr_segments = 0), Status::BAD_SEGMENT_COUNT),
        ("twelve segments", with(read, |it| it.nr_segments = 12), Status::BAD_SEGMENT_COUNT),
        ("255 segments", with(write, |it| it.nr_segments = 255), Status::BAD_SEGMENT_COUNT),
        ("beyond the page", with(read, |it| it.segments[0].last_sect = 8), Status::BAD_SEGMENT),
        ("far beyond the page", with(write, |it| it.segments[0].last_sect = 255), Status::BAD_SEGMENT),
        ("back to front", with(read, |it| it.segments[0].first_sect = 9), Status::BAD_SEGMENT),
        (
            "the second is bad",
            with(read, |it| {
                it.nr_segments = 2;
                (it.segments[1].first_sect, it.segments[1].last_sect) = (3, 2);
            }),
            Status::BAD_SEGMENT
        ),
        // Pages.
        ("no page", with(read, |it| it.segments[0].gref = nothing), refused(GrantStatus::BAD_GNTREF)),
        (
            "no page to write from",
            with(write, |it| it.segments[0].gref = nothing),
            refused(GrantStatus::BAD_GNTREF)
        ),
        (
            "one of two is no page",
            with(sum, |it| {
                it.nr_segments = 2;
                it.segments[1].gref = nothing;
            }),
            refused(GrantStatus::BAD_GNTREF)
        ),
        (
            "into what can't be written",
            with(read, |it| it.segments[0].gref = readable),
            refused(GrantStatus::GENERAL_ERROR)
        ),
        // Operations.
        ("barrier", with(write, |it| it.operation = Operation::WRITE_BARRIER), Status::NOT_SUPPORTED),
        ("indirect", with(read, |it| it.operation = Operation::INDIRECT), Status::NOT_SUPPORTED),
        ("operation 4", with(read, |it| it.operation = Operation(4)), Status::NOT_SUPPORTED),
        ("operation 255", with(read, |it| it.operation = Operation(255)), Status::NOT_SUPPORTED),
        // It goes on.
        ("read again", with(read, |it| it.handle = 77), Status::OKAY),
    ]
}

/// The same of a disk that can't be written.
pub fn read_only(writable: GrantRef, readable: GrantRef) -> Vec<(&'static str, Request, Status)> {
    let flush = with(request(Operation::FLUSH, 0, readable, 8), |it| it.nr_segments = 0);
    alloc::vec![
        ("read", request(Operation::READ, 0, writable, 8), Status::OKAY),
        ("write", request(Operation::WRITE, 0, readable, 8), Status::READ_ONLY),
        ("flush", flush, Status::READ_ONLY),
        ("discard", discard(0, 8), Status::READ_ONLY),
        ("read past the end", request(Operation::READ, SECTORS, writable, 8), Status::OUT_OF_RANGE),
    ]
}
