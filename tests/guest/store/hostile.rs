//! Ends that mean no good, between two domains: requests that can't be, one field after the other, details that can't be,
//! rings that can't be, answers that can't be.

use core::sync::atomic::Ordering;
use core::time::Duration;

use alloc::string::ToString;

use granite::abi::blkif::{Operation, Response, Status};
use granite::abi::grant::GrantRef;
use granite::abi::xenbus::State;
use granite::driver::block::{
    BlockError, DataPath, ImageDisk, Limits, Offer, RamDisk, SECTOR, connect_back, connect_front,
};
use granite::driver::connector::{ConnectError, Connector};
use granite::grant::{ReadOnly, ReadWrite};
use granite::mm::Page;
use granite::ring::{PeerBroke, RingError, RingMemory};

use super::meet::{Before, RawBack, RawFront, connector, fail, grants, soon};
use super::requests::{self, SECTORS};
use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

const PAIR: &[Rig] = &[Rig::Pair];
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The cases.
pub const CASES: &[Case] = &[
    Case::with_peer("store_hostile::every_request_by_map", PAIR, |c| serve(c, DataPath::Map), every_request),
    Case::with_peer(
        "store_hostile::every_request_by_copy",
        PAIR,
        |c| serve(c, DataPath::Copy),
        every_request,
    ),
    Case::with_peer(
        "store_hostile::requests_to_a_disk_that_cannot_be_written",
        PAIR,
        serve_image,
        write_image,
    ),
    Case::with_peer("store_hostile::a_front_with_bad_details", PAIR, meet_bad_fronts, be_bad_fronts),
    Case::with_peer("store_hostile::a_front_that_writes_any_index", PAIR, serve_liars, write_indices),
    Case::with_peer("store_hostile::a_back_with_bad_details", PAIR, meet_bad_backs, be_bad_backs),
    Case::with_peer("store_hostile::a_back_that_lies", PAIR, hear_lies, tell_lies),
    Case::with_peer("store_hostile::a_back_that_keeps_a_page", PAIR, lend_in_vain, keep_page),
];

fn disk() -> Result<RamDisk, NotPassed> {
    RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))
}

fn serve(context: &Context, path: DataPath) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut connector = connector(context);
    let offer = Offer { disk: disk()?, path };
    let back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
    let served = back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {}).map_err(fail)?;
    check!(served.refused > 20, "{served:?}");
    before.nothing_lost()
}

fn every_request(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut front = RawFront::connect(context)?;
    let page = || Page::zeroed().ok_or_else(|| fail("no memory"));
    let peer = front.connector.peer();
    let room = grants(context)?.grant::<ReadWrite>(page()?, peer).map_err(fail)?;
    let data = grants(context)?.grant::<ReadOnly>(page()?, peer).map_err(fail)?;
    for (what, request, expected) in requests::table(room.gref(), data.gref(), GrantRef(1 << 24)) {
        let response = front.exchange(context, request)?;
        check_same!((what, response.status), (what, expected));
        check!(response.operation == request.operation, "{what}");
    }
    front.close()?;
    room.end_access().map_err(fail)?;
    data.end_access().map_err(fail)?;
    before.nothing_lost()
}

static IMAGE: [u8; SECTORS as usize * SECTOR] = [0x33; SECTORS as usize * SECTOR];

fn serve_image(context: &Context) -> Result<(), NotPassed> {
    let mut connector = connector(context);
    let offer = Offer { disk: ImageDisk(&IMAGE), path: DataPath::Map };
    let back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
    check_same!(back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {}).map_err(fail)?.refused, 4);
    Ok(())
}

fn write_image(context: &Context) -> Result<(), NotPassed> {
    let mut front = RawFront::connect(context)?;
    let page = Page::zeroed().ok_or_else(|| fail("no memory"))?;
    let page = grants(context)?.grant::<ReadWrite>(page, front.connector.peer()).map_err(fail)?;
    for (what, request, expected) in requests::read_only(page.gref(), page.gref()) {
        check_same!((what, front.exchange(context, request)?.status), (what, expected));
    }
    front.close()
}

/// What a front end may say of itself that can't be.
const BAD_FRONTS: [(&str, &str); 9] = [
    ("ring-ref", "x"),
    ("ring-ref", "-1"),
    ("ring-ref", "99999999999"),
    ("ring-ref", "16777216"), // no reference of its
    ("event-channel", ""),
    ("event-channel", "4095"), // no port of its
    ("protocol", "x86_32-abi"),
    ("ring-page-order", "5"),
    ("ring-page-order", "1"), // without references
];

fn meet_bad_fronts(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    for bad in BAD_FRONTS {
        let mut connector = connector(context);
        let offer = Offer { disk: disk()?, path: DataPath::Map };
        let met = connect_back(&mut connector, grants(context)?, offer, soon());
        let error = met.err().ok_or_else(|| fail("it met"))?;
        let is_told = matches!(
            error,
            BlockError::Connect(ConnectError::BadKey(key)) if bad.0.starts_with(key) || key == "ring-ref"
        );
        check!(is_told || matches!(error, BlockError::Grant(_) | BlockError::Event(_)), "{bad:?}: {error}");
        before.nothing_lost()?;
        context.tell(b"next")?;
    }
    Ok(())
}

fn be_bad_fronts(context: &Context) -> Result<(), NotPassed> {
    for bad in BAD_FRONTS {
        let mut front = RawFront::new(context)?;
        front.tell(&[bad])?;
        // It is told that nothing comes of it.
        front.connector.wait_for_any(&[State::CLOSED], soon()).map_err(fail)?;
        check_same!(context.hear()?, b"next");
        front.ring.into_memory().end_access().map_err(fail)?;
    }
    Ok(())
}

const INDICES: [u32; 5] = [33, 1 << 16, 1 << 31, u32::MAX, u32::MAX - 40];

/// The ring is closed, all is let go, and the next connection is as good as any.
fn serve_liars(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    for claimed in INDICES {
        let mut connector = connector(context);
        let offer = Offer { disk: disk()?, path: DataPath::Persistent { max: 10 } };
        let back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
        let served = back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {});
        let broke = PeerBroke::Index { claimed, min: 0, max: 32 };
        check_same!(served.err(), Some(BlockError::Ring(RingError::Closed(broke))));
        // What it says of that connection while it closes, the next one waits over.
        before.nothing_lost()?;
    }
    Ok(())
}

fn write_indices(context: &Context) -> Result<(), NotPassed> {
    for index in INDICES {
        let mut front = RawFront::connect(context)?;
        let memory = front.ring.memory();
        for (at, value) in [(4, index), (8, index), (12, index), (0, index)] {
            memory.store(at, value, Ordering::Release);
        }
        front.ring_bell(context)?;
        front.connector.wait_for_any(&[State::CLOSED], soon()).map_err(fail)?;
        front.connector.publish(&[], State::CLOSING, soon()).map_err(fail)?;
        front.connector.publish(&[], State::CLOSED, soon()).map_err(fail)?;
        // It has nothing of ours any more, though it was cheated.
        front.ring.into_memory().end_access().map_err(fail)?;
    }
    Ok(())
}

const BAD_BACKS: [(&str, &str); 6] = [
    ("sectors", "many"),
    ("sectors", "-1"),
    ("sectors", "99999999999999999999"),
    ("sector-size", "4096"),
    ("sector-size", ""),
    ("info", "read-only"),
];

fn meet_bad_backs(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    for bad in BAD_BACKS {
        let met = connect_front(&mut connector(context), grants(context)?, 0, Limits::default(), soon());
        check_same!(met.err(), Some(BlockError::Connect(ConnectError::BadKey(bad.0))));
        context.tell(b"let go")?;
        check_same!(context.hear()?, b"let go");
        before.nothing_lost()?; // the ring waited for that
    }
    Ok(())
}

fn be_bad_backs(context: &Context) -> Result<(), NotPassed> {
    for bad in BAD_BACKS {
        let mut back = RawBack::connect(context, &[bad])?;
        back.connector.wait_for_any(&[State::CLOSED], soon()).map_err(fail)?;
        check_same!(context.hear()?, b"let go");
        drop(back);
        context.tell(b"let go")?;
    }
    Ok(())
}

/// What is answered to the first request, by its number, and what the front end makes of it.
const LIES: [(u64, i16, BlockError); 7] = [
    (1, 0, BlockError::Ring(RingError::Closed(PeerBroke::Id { claimed: 1 }))),
    (31, 0, BlockError::Ring(RingError::Closed(PeerBroke::Id { claimed: 31 }))),
    (1 << 16, 0, BlockError::Ring(RingError::Closed(PeerBroke::Id { claimed: 1 << 16 }))),
    (u64::MAX, 0, BlockError::Ring(RingError::Closed(PeerBroke::Id { claimed: u64::MAX }))),
    (0, -1, BlockError::Refused(Status::ERROR)),
    (0, 1, BlockError::Refused(Status(1))),
    (0, i16::MIN, BlockError::Refused(Status(i16::MIN))),
];

fn hear_lies(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    for (id, status, expected) in LIES {
        let mut connector = connector(context);
        let front = connect_front(&mut connector, grants(context)?, 0, Limits::default(), soon());
        let mut front = front.map_err(fail)?;
        let mut read = [4; SECTOR];
        check_same!((id, status, front.read(0, &mut read)), (id, status, Err(expected)));
        check!(read == [4; SECTOR]);
        front.close(&mut connector, soon()).map_err(fail)?;
        before.nothing_lost()?;
    }
    // Twice the same: once is right.
    let mut connector = connector(context);
    let limits = Limits { segments: 1, ..Limits::default() };
    let front = connect_front(&mut connector, grants(context)?, 0, limits, soon());
    let mut front = front.map_err(fail)?;
    let broke = PeerBroke::Id { claimed: 0 };
    let read = front.read(0, &mut [0; 16 * SECTOR]);
    check_same!(read, Err(BlockError::Ring(RingError::Closed(broke))));
    front.close(&mut connector, soon()).map_err(fail)?;
    before.nothing_lost()
}

fn tell_lies(context: &Context) -> Result<(), NotPassed> {
    let response = |id, status| {
        let operation = Operation(0xee); // nobody looks at it
        Response { id, operation, padding: 0xff, status: Status(status), rest: [0xff; 4] }
    };
    for (id, status, _) in LIES {
        let mut back = RawBack::connect(context, &[])?;
        check_same!(back.hear()?.id, 0);
        back.answer(&response(id, status))?;
        back.close()?;
        check_same!(context.hear()?, b"state 6\n");
    }
    let mut back = RawBack::connect(context, &[])?;
    check_same!((back.hear()?.id, back.hear()?.id), (0, 1));
    back.ring.push(&response(0, 0)).map_err(fail)?;
    back.answer(&response(0, 0))?;
    back.close()?;
    check_same!(context.hear()?, b"state 6\n");
    Ok(())
}

/// It answers, and uses the page on: the caller is told, and the page waits until it is let go.
fn lend_in_vain(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut connector = connector(context);
    let front = connect_front(&mut connector, grants(context)?, 0, Limits::default(), soon());
    let mut front = front.map_err(fail)?;
    check_same!(front.read(0, &mut [0; SECTOR]), Err(BlockError::StillInUse));
    check_same!(grants(context)?.stats().quarantined, 1);
    front.close(&mut connector, soon()).map_err(fail)?;
    check_same!(context.hear()?, b"let go");
    before.nothing_lost()
}

fn keep_page(context: &Context) -> Result<(), NotPassed> {
    let mut back = RawBack::connect(context, &[])?;
    let request = back.hear()?;
    let page = grants(context)?.map::<ReadWrite>(back.connector.peer(), request.segments[0].gref);
    let page = page.map_err(|error| fail(error.to_string()))?;
    let (id, operation) = (request.id, Operation::READ);
    back.answer(&Response { id, operation, padding: 0, status: Status::OKAY, rest: [0; 4] })?;
    back.close()?;
    check_same!(context.hear()?, b"state 6\n");
    page.unmap().map_err(|failed| fail(failed.error))?;
    context.tell(b"let go")
}
