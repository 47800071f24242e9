//! Whether a request can be served: all that it says is the peer's word.

use crate::abi::blkif::{self, Discard, MAX_SEGMENTS, Operation, SECTORS_PER_PAGE, Segment, Status};

/// A request that can be served, as far as it says so itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    /// What to do.
    pub operation: Operation,
    /// The first sector.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    /// The pages, each with a part that lies in it.
    pub segments: heapless::Vec<Segment, MAX_SEGMENTS>,
}

/// Why a request is not served.
pub type Refusal = Status;

/// Checks a request against a disk of so many sectors.
///
/// # Errors
///
/// The status that says why it is refused.
pub fn check(request: &blkif::Request, sectors: u64, read_only: bool) -> Result<Work, Refusal> {
    let operation = request.operation;
    match operation {
        Operation::READ | Operation::CHECKSUM => segments(request, sectors, 1),
        Operation::WRITE | Operation::FLUSH | Operation::DISCARD if read_only => Err(Status::READ_ONLY),
        Operation::WRITE => segments(request, sectors, 1),
        // A flush may bring data: what was written before is to last first, and then this.
        Operation::FLUSH => segments(request, sectors, 0),
        Operation::DISCARD => {
            let Discard { sector_number, nr_sectors, .. } = (*request).into();
            in_range(sector_number, nr_sectors, sectors)?;
            let segments = heapless::Vec::new();
            Ok(Work { operation, sector: sector_number, sectors: nr_sectors, segments })
        }
        _ => Err(Status::NOT_SUPPORTED),
    }
}

fn segments(request: &blkif::Request, sectors: u64, least: usize) -> Result<Work, Refusal> {
    let named = usize::from(request.nr_segments);
    let Some(named) = request.segments.get(..named).filter(|named| named.len() >= least) else {
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
    Ok(Work {
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
