//! Checks whether a request can be served: the peer controls every field.

use crate::abi::blkif::{self, Discard, MAX_SEGMENTS, Operation, SECTORS_PER_PAGE, Segment, Status};

/// A request with valid fields. Serving it may still fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidRequest {
    /// The operation to perform.
    pub operation: Operation,
    /// The first sector.
    pub sector: u64,
    /// The number of sectors.
    pub sectors: u64,
    /// The pages, each with the range of sectors used in it.
    pub segments: heapless::Vec<Segment, MAX_SEGMENTS>,
}

/// The status of a refused request.
pub type Refusal = Status;

/// Checks a request for a disk of `sectors` sectors.
///
/// # Errors
///
/// [`Status::READ_ONLY`] for a write, flush or discard of a read-only disk, [`Status::BAD_SEGMENT_COUNT`] or
/// [`Status::BAD_SEGMENT`] for invalid segments, [`Status::OUT_OF_RANGE`] for sectors beyond the end,
/// [`Status::NOT_SUPPORTED`] for any other operation.
pub fn validate(request: &blkif::Request, sectors: u64, read_only: bool) -> Result<ValidRequest, Refusal> {
    let operation = request.operation;
    match operation {
        Operation::READ | Operation::CHECKSUM => segments(request, sectors, 1),
        Operation::WRITE | Operation::FLUSH | Operation::DISCARD if read_only => Err(Status::READ_ONLY),
        Operation::WRITE => segments(request, sectors, 1),
        // A flush may carry data: earlier writes are flushed first, then this data is written and flushed.
        Operation::FLUSH => segments(request, sectors, 0),
        Operation::DISCARD => {
            let Discard { sector_number, nr_sectors, .. } = (*request).into();
            in_range(sector_number, nr_sectors, sectors)?;
            let segments = heapless::Vec::new();
            Ok(ValidRequest { operation, sector: sector_number, sectors: nr_sectors, segments })
        }
        _ => Err(Status::NOT_SUPPORTED),
    }
}

fn segments(request: &blkif::Request, sectors: u64, min: usize) -> Result<ValidRequest, Refusal> {
    let named = usize::from(request.nr_segments);
    let Some(named) = request.segments.get(..named).filter(|named| named.len() >= min) else {
        return Err(Status::BAD_SEGMENT_COUNT);
    };
    let fits = |segment: &Segment| {
        segment.first_sect <= segment.last_sect && usize::from(segment.last_sect) < SECTORS_PER_PAGE
    };
    if !named.iter().all(fits) {
        return Err(Status::BAD_SEGMENT);
    }
    let count = named.iter().map(|segment| segment.sectors() as u64).sum();
    if count > 0 {
        in_range(request.sector_number, count, sectors)?;
    }
    Ok(ValidRequest {
        operation: request.operation,
        sector: request.sector_number,
        sectors: count,
        segments: named.iter().copied().collect(),
    })
}

fn in_range(first: u64, count: u64, sectors: u64) -> Result<(), Refusal> {
    let fits = first.checked_add(count).is_some_and(|end| end <= sectors);
    if fits { Ok(()) } else { Err(Status::OUT_OF_RANGE) }
}
