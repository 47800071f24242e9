//! The structures in rings, and the states of connecting ends.

use granite_core::abi::blkif::{self, Discard, MAX_SEGMENTS, Operation, Request, Response, Segment, Status};
use granite_core::abi::console;
use granite_core::abi::xenbus::State;
use granite_core::block::Blkif;
use granite_core::ring;

use super::{Row, offset_of, size_of};

/// Adds the rows of the structures.
pub fn structures(rows: &mut Vec<Row>) {
    layout!(rows, "struct blkif_request_segment" = Segment {
        "gref" = gref, "first_sect" = first_sect, "last_sect" = last_sect,
    });
    layout!(rows, "struct blkif_request" = Request {
        "operation" = operation, "nr_segments" = nr_segments, "handle" = handle, "id" = id,
        "sector_number" = sector_number, "seg" = segments,
    });
    layout!(rows, "struct blkif_response" = Response { "id" = id, "operation" = operation, "status" = status });
    // Our structure extends to the end of a request, so the sizes differ, and only offsets are compared.
    let offsets = [
        ("operation", offset_of!(Discard, operation)),
        ("flag", offset_of!(Discard, flag)),
        ("handle", offset_of!(Discard, handle)),
        ("id", offset_of!(Discard, id)),
        ("sector_number", offset_of!(Discard, sector_number)),
        ("nr_sectors", offset_of!(Discard, nr_sectors)),
    ];
    let row = |(field, at)| (format!("offsetof(struct blkif_request_discard, {field})"), at as u64);
    rows.extend(offsets.map(row));
    let offsets = [
        ("out", console::OUT),
        ("in_cons", console::IN_CONSUMER),
        ("in_prod", console::IN_PRODUCER),
        ("out_cons", console::OUT_CONSUMER),
        ("out_prod", console::OUT_PRODUCER),
    ];
    let row = |(field, at)| (format!("offsetof(struct xencons_interface, {field})"), at as u64);
    rows.extend(offsets.map(row));
    rows.push(("sizeof(union blkif_sring_entry)".into(), ring::slot_size::<Blkif>() as u64));
    rows.push(("offsetof(struct blkif_sring, ring)".into(), ring::HEADER as u64));
}

/// Adds the rows of the values.
pub fn constants(rows: &mut Vec<Row>) {
    values!(
        rows,
        "BLKIF_OP_READ" = Operation::READ.0,
        "BLKIF_OP_WRITE" = Operation::WRITE.0,
        "BLKIF_OP_WRITE_BARRIER" = Operation::WRITE_BARRIER.0,
        "BLKIF_OP_FLUSH_DISKCACHE" = Operation::FLUSH.0,
        "BLKIF_OP_DISCARD" = Operation::DISCARD.0,
        "BLKIF_OP_INDIRECT" = Operation::INDIRECT.0,
        "BLKIF_MAX_SEGMENTS_PER_REQUEST" = MAX_SEGMENTS as u64,
        "-BLKIF_RSP_OKAY" = Status::OKAY.0.unsigned_abs(),
        "-BLKIF_RSP_ERROR" = Status::ERROR.0.unsigned_abs(),
        "-BLKIF_RSP_EOPNOTSUPP" = Status::NOT_SUPPORTED.0.unsigned_abs(),
        "VDISK_READONLY" = blkif::READ_ONLY,
        "XenbusStateUnknown" = State::UNKNOWN.0,
        "XenbusStateInitialising" = State::INITIALISING.0,
        "XenbusStateInitWait" = State::INIT_WAIT.0,
        "XenbusStateInitialised" = State::INITIALISED.0,
        "XenbusStateConnected" = State::CONNECTED.0,
        "XenbusStateClosing" = State::CLOSING.0,
        "XenbusStateClosed" = State::CLOSED.0,
        "XenbusStateReconfiguring" = State::RECONFIGURING.0,
        "XenbusStateReconfigured" = State::RECONFIGURED.0,
    );
}
