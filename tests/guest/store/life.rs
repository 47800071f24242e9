//! Connections between two domains: on every path and with either end in either domain, once and again, and with an end that
//! dies in each of its states.

use core::time::Duration;

use alloc::vec;

use granite::abi::blkif::{Operation, Response, Status};
use granite::abi::xenbus::State;
use granite::driver::block::{
    BlockError, DataPath, ImageDisk, Limits, Offer, RamDisk, SECTOR, checksum, connect_back, connect_front,
};
use granite::driver::connector::{ConnectError, Connector};
use granite::grant::ReadWrite;
use granite::pair::{ChildEnd, LinkConnector};
use granite::ring::RingError;

use super::meet::{Before, Lost, RawBack, RawFront, connector, die, fail, grants, impatient, soon};
use super::requests;
use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

const PAIR: &[Rig] = &[Rig::Pair];
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The cases.
pub const CASES: &[Case] = &[
    Case::with_peer("store_paths::the_other_domain_reads_and_writes", PAIR, serve_all, use_all),
    Case::with_peer("store_paths::the_other_domain_serves", PAIR, use_all, serve_all),
    Case::with_peer("store::a_disk_that_cannot_be_written", PAIR, serve_image, use_image),
    Case::with_peer("store::a_back_that_never_answers", PAIR, waits_in_vain, answers_late),
    Case::with_peer("store::a_back_that_goes_away", PAIR, is_left, goes_away),
    Case::with_peer("store::a_back_that_never_comes", PAIR, nobody_comes, stays_away),
    Case::with_peer("store_front::it_dies_before_it_begins", PAIR, front_dies, |c| dies_as_front(c, 0)),
    Case::with_peer("store_front::it_dies_initialising", PAIR, front_dies, |c| dies_as_front(c, 1)),
    Case::with_peer("store_front::it_dies_initialised", PAIR, front_dies, |c| dies_as_front(c, 2)),
    Case::with_peer("store_front::it_dies_connected", PAIR, front_dies, |c| dies_as_front(c, 3)),
    Case::with_peer("store_front::it_dies_with_a_page_mapped", PAIR, front_dies, |c| dies_as_front(c, 4)),
    Case::with_peer("store_front::it_dies_with_requests_in_flight", PAIR, front_dies, |c| {
        dies_as_front(c, 5)
    }),
    Case::with_peer("store_front::it_dies_closing", PAIR, front_dies, |c| dies_as_front(c, 6)),
    Case::with_peer("store_back::it_dies_before_it_begins", PAIR, back_dies, |c| dies_as_back(c, 0)),
    Case::with_peer("store_back::it_dies_waiting", PAIR, back_dies, |c| dies_as_back(c, 1)),
    Case::with_peer("store_back::it_dies_connected", PAIR, back_dies, |c| dies_as_back(c, 2)),
    Case::with_peer("store_back::it_dies_with_a_request", PAIR, back_dies, |c| dies_as_back(c, 3)),
    Case::with_peer("store_back::it_dies_with_pages_mapped", PAIR, back_dies, |c| dies_as_back(c, 4)),
    Case::with_peer("store_back::it_dies_closing", PAIR, back_dies, |c| dies_as_back(c, 5)),
];

/// Order of the ring's pages, and path of the data: one connection after the other.
const CONNECTIONS: [(u32, DataPath); 7] = [
    (0, DataPath::Map),
    (4, DataPath::Map),
    (1, DataPath::Copy),
    (0, DataPath::Persistent { max: 352 }),
    (2, DataPath::Persistent { max: 3 }),
    (0, DataPath::Persistent { max: 350 }),
    (0, DataPath::Copy),
];

const SECTORS: usize = 600;

fn disk(sectors: usize) -> Result<RamDisk, NotPassed> {
    RamDisk::new(sectors).ok_or_else(|| fail("no memory"))
}

fn serve_all(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut disk = disk(SECTORS)?;
    for (_, path) in CONNECTIONS {
        let mut connector = connector(context);
        let offer = Offer { disk: &mut disk, path };
        let back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
        let served = back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {}).map_err(fail)?;
        check!(served.refused == 0 && served.requests > 20, "{served:?}");
        // One connection's front end wants nothing kept.
        let kept = match path {
            DataPath::Persistent { max: 350 } => 0..=0,
            DataPath::Persistent { max } => 1..=max as u64,
            _ => 0..=0,
        };
        check!(kept.contains(&served.kept), "{served:?}");
    }
    before.nothing_lost()
}

fn use_all(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    for (round, (order, path)) in CONNECTIONS.into_iter().enumerate() {
        let mut connector = connector(context);
        let persistent = path != DataPath::Persistent { max: 350 };
        let limits = Limits { segments: 1 + 5 * (round % 3), persistent, ..Limits::default() };
        let front = connect_front(&mut connector, grants(context)?, order, limits, soon());
        let mut front = front.map_err(fail)?;
        check_same!(front.slots(), 32 << order);
        let kept = persistent && matches!(path, DataPath::Persistent { .. });
        check_same!(front.geometry().persistent, kept);
        let written: alloc::vec::Vec<u8> =
            (0..SECTORS * SECTOR).map(|i| (i / 3 + i / SECTOR + round) as u8).collect();
        front.write(0, &written).map_err(fail)?;
        front.flush().map_err(fail)?;
        let mut read = vec![0; written.len()];
        front.read(0, &mut read).map_err(fail)?;
        check!(read == written, "{path}");
        let mut sums = vec![0; SECTORS];
        front.checksums(0, &mut sums).map_err(fail)?;
        check!(written.chunks_exact(SECTOR).map(checksum).eq(sums), "{path}");
        front.discard(0, 3).map_err(fail)?;
        front.read(2, &mut read[..1024]).map_err(fail)?;
        check!(read[..512] == [0; 512] && read[512..1024] == written[1536..2048]);
        front.close(&mut connector, soon()).map_err(fail)?;
        // Whatever was persistent: the connection is over, and so is all of it.
        before.nothing_lost()?;
    }
    Ok(())
}

static IMAGE: [u8; 100 * SECTOR] = [0x5a; 100 * SECTOR];

fn serve_image(context: &Context) -> Result<(), NotPassed> {
    let mut connector = connector(context);
    let offer = Offer { disk: ImageDisk(&IMAGE), path: DataPath::Copy };
    let back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
    let served = back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {}).map_err(fail)?;
    check!(served.refused == 0, "{served:?}");
    Ok(())
}

fn use_image(context: &Context) -> Result<(), NotPassed> {
    let mut connector = connector(context);
    let front = connect_front(&mut connector, grants(context)?, 0, Limits::default(), soon());
    let mut front = front.map_err(fail)?;
    check!(front.geometry().read_only && front.geometry().sectors == 100);
    let mut read = vec![0; IMAGE.len()];
    front.read(0, &mut read).map_err(fail)?;
    check!(read == IMAGE);
    check_same!(front.write(0, &[0; 512]), Err(BlockError::ReadOnly));
    front.close(&mut connector, soon()).map_err(fail)
}

/// Its deadline passes; what comes late is nobody's, and the connection goes on.
fn waits_in_vain(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut connector = connector(context);
    let front = connect_front(&mut connector, grants(context)?, 0, impatient(), soon());
    let mut front = front.map_err(fail)?;
    let mut read = [1; SECTOR];
    check_same!(front.read(0, &mut read), Err(BlockError::TimedOut));
    check!(read == [1; SECTOR]);
    context.tell(b"state 4\n")?; // nothing new: the other side goes on
    for _ in 0..100 {
        match front.read(1, &mut read) {
            Ok(()) => break,
            Err(BlockError::TimedOut) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    check!(read == [7; SECTOR], "what came late is nobody's");
    front.close(&mut connector, soon()).map_err(fail)?;
    before.nothing_lost()
}

fn answers_late(context: &Context) -> Result<(), NotPassed> {
    let mut back = RawBack::connect(context, &[])?;
    let mut late = Some(back.hear()?);
    back.connector.wait_for_any(&[State::CONNECTED], soon()).map_err(fail)?;
    back.connector.changed(soon()).map_err(fail)?;
    // From here on it answers all: what is asked by now, and again where that was given up, too.
    while !back.connector.has_news() {
        let request = match late.take() {
            Some(request) => Some(request),
            None => back.ring.pop().map_err(fail)?,
        };
        let Some(request) = request else {
            let _ = back.bell.wait(granite::time::Deadline::after(POLL_INTERVAL)); // for whatever comes first
            continue;
        };
        let gref = request.segments[0].gref;
        let page = grants(context)?.map::<ReadWrite>(back.connector.peer(), gref).map_err(fail)?;
        let byte = if request.sector_number == 0 { 9 } else { 7 };
        page.bytes().write(0, &[byte; SECTOR]).map_err(fail)?;
        drop(page);
        let (id, operation) = (request.id, Operation::READ);
        back.answer(&Response { id, operation, padding: 0, status: Status::OKAY, rest: [0; 4] })?;
    }
    back.close()
}

/// It is noticed long before the deadline.
fn is_left(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let mut connector = connector(context);
    let front = connect_front(&mut connector, grants(context)?, 0, Limits::default(), soon());
    let mut front = front.map_err(fail)?;
    check_same!(front.read(0, &mut [0; SECTOR]), Err(BlockError::Gone));
    front.close(&mut connector, soon()).map_err(fail)?;
    before.nothing_lost()
}

fn goes_away(context: &Context) -> Result<(), NotPassed> {
    let mut back = RawBack::connect(context, &[])?;
    back.hear()?;
    let RawBack { mut connector, ring, bell } = back;
    drop((ring, bell));
    connector.wait_for_any(&[State::CLOSING], soon()).map_err(fail)?;
    connector.publish(&[], State::CLOSED, soon()).map_err(fail)
}

fn nobody_comes(context: &Context) -> Result<(), NotPassed> {
    let before = Before::new(context)?;
    let deadline = || granite::time::Deadline::after(Duration::from_millis(50));
    let met = connect_front(&mut connector(context), grants(context)?, 0, Limits::default(), deadline());
    let silent = |state| Some(BlockError::Connect(ConnectError::TimedOut { state }));
    check_same!(met.err(), silent(State::UNKNOWN));
    let offer = Offer { disk: disk(8)?, path: DataPath::Copy };
    let met = connect_back(&mut connector(context), grants(context)?, offer, deadline());
    check_same!(met.err(), silent(State::UNKNOWN));
    context.tell(b"enough")?;
    before.nothing_lost()
}

fn stays_away(context: &Context) -> Result<(), NotPassed> {
    while context.hear()? != b"enough" {}
    Ok(())
}

/// We serve; the front end of the other domain dies. Nothing of its stays mapped, and nothing is lost.
fn front_dies(context: &Context) -> Result<(), NotPassed> {
    let before = Before::with_the_link(context)?;
    let mut parent = context.side.pair()?.lose()?;
    let path = DataPath::Persistent { max: 100 };
    let ended = {
        let mut connector = LinkConnector::new(Lost(&parent));
        let offer = Offer { disk: disk(64)?, path };
        connect_back(&mut connector, grants(context)?, offer, soon())
            .and_then(|back| back.serve_until_closed(&mut connector, POLL_INTERVAL, |_| {}))
    };
    check!(ended.is_err(), "{ended:?}");
    check!(matches!(parent.wait(soon()).map_err(fail)?, ChildEnd::Crashed(_)));
    check!(parent.destroy(soon()).map_err(fail)?, "a domain of which something is mapped isn't gone");
    before.nothing_lost()
}

fn dies_as_front(context: &Context, state: u32) -> Result<(), NotPassed> {
    if state == 0 {
        return die(context);
    }
    let mut connector = connector(context);
    if state == 1 {
        connector.publish(&[], State::INITIALISING, soon()).map_err(fail)?;
        return die(context);
    }
    if state == 2 {
        let mut front = RawFront::new(context)?;
        front.tell(&[])?;
        return die(context);
    }
    if state == 5 {
        let mut front = RawFront::connect(context)?;
        let page = granite::mm::Page::zeroed().ok_or_else(|| fail("no memory"))?;
        let page = grants(context)?.grant::<ReadWrite>(page, connector.peer()).map_err(fail)?;
        for sector in 0..32 {
            let mut request = requests::request(Operation::READ, sector, page.gref(), 1);
            let pushed = front.ring.push(|id| {
                request.id = id.number();
                request
            });
            pushed.map_err(fail)?;
        }
        check!(front.ring.publish().is_needed());
        front.ring_bell(context)?;
        return die(context);
    }
    let front = connect_front(&mut connector, grants(context)?, 1, Limits::default(), soon());
    let mut front = front.map_err(fail)?;
    if state >= 4 {
        front.write(0, &[1; 16 * SECTOR]).map_err(fail)?;
    }
    if state == 6 {
        connector.publish(&[], State::CLOSING, soon()).map_err(fail)?;
    }
    die(context)
}

/// The back end of the other domain dies. What it had of ours is ours again, once the domain is gone.
fn back_dies(context: &Context) -> Result<(), NotPassed> {
    let before = Before::with_the_link(context)?;
    let mut parent = context.side.pair()?.lose()?;
    let mut connector = LinkConnector::new(Lost(&parent));
    let front = connect_front(&mut connector, grants(context)?, 0, impatient(), soon());
    let (mut written, mut closed) = (Ok(()), Ok(()));
    if let Ok(mut front) = front {
        let data = vec![3; 20 * SECTOR];
        written = front.write(0, &data).and_then(|()| front.write(20, &data));
        closed = front.close(&mut connector, soon());
    }
    drop(connector);
    check!(matches!(written, Ok(()) | Err(BlockError::TimedOut | BlockError::Gone)), "{written:?}");
    check!(closed.is_err() || closed == Ok(()), "{closed:?}");
    check!(matches!(parent.wait(soon()).map_err(fail)?, ChildEnd::Crashed(_)));
    check!(parent.destroy(soon()).map_err(fail)?);
    before.nothing_lost()
}

fn dies_as_back(context: &Context, state: u32) -> Result<(), NotPassed> {
    match state {
        0 => {}
        1 => connector(context).publish(&[], State::INIT_WAIT, soon()).map_err(fail)?,
        2 => {
            let _back = RawBack::connect(context, &[])?;
            return die(context);
        }
        3 => {
            let mut back = RawBack::connect(context, &[])?;
            back.hear()?;
            return die(context);
        }
        4 => {
            let mut back = RawBack::connect(context, &[("feature-persistent", "1")])?;
            let request = back.hear()?;
            let grefs = request.segments.map(|segment| segment.gref);
            let _mapped = grants(context)?
                .map_all::<ReadWrite>(back.connector.peer(), &grefs[..request.nr_segments.into()])
                .map_err(fail)?;
            answer_to(&mut back, request.id)?;
            return die(context);
        }
        _ => {
            let mut connector = connector(context);
            let offer = Offer { disk: disk(64)?, path: DataPath::Persistent { max: 100 } };
            let mut back = connect_back(&mut connector, grants(context)?, offer, soon()).map_err(fail)?;
            let ended = back.serve_while(POLL_INTERVAL, |_, _| {
                !connector.has_news() || connector.state() != Ok(State::CLOSING)
            });
            check!(matches!(ended, Ok(()) | Err(BlockError::Ring(RingError::Closed(_)))), "{ended:?}");
            return die(context); // with all that it keeps mapped
        }
    }
    die(context)
}

fn answer_to(back: &mut RawBack<'_>, id: u64) -> Result<(), NotPassed> {
    let response =
        Response { id, operation: Operation::WRITE, padding: 0, status: Status::OKAY, rest: [0; 4] };
    back.answer(&response)
}
