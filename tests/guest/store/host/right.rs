//! What is written, asked and kept, as it should be.

use std::cell::RefCell;

use embedded_storage::{ReadStorage, Storage};
use granite::abi::blkif::{Operation, Response, Status};
use granite::abi::grant::GrantRef;
use granite::driver::block::{
    Blkif, DataPath, Disk, DiskError, Front, Geometry, ImageDisk, Limits, RamDisk, SECTOR, checksum,
};
use granite::grant::{ReadOnly, ReadWrite};
use granite::ring::{self, Ring};

use super::{HOST, Meeting, PATHS, Server, Shared, nothing_lost, ram};
use crate::grant::bed::fail;
use crate::harness::{Case, NotPassed};
use crate::store::requests::{self, SECTORS};
use granite::testing::{check, check_same};
use granite::time::meanwhile;

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("store::every_request_is_answered_as_it_must_be", HOST, |_| every_request()),
    Case::new("store::a_front_that_knows_no_reasons_gets_none", HOST, |_| no_reasons()),
    Case::new("store::what_is_written_is_read", HOST, |_| what_is_written()),
    Case::new("store::bytes_at_any_offset", HOST, |_| bytes_at_any_offset()),
    Case::new("store::kept_mappings_are_bounded", HOST, |_| kept_mappings()),
    Case::new("store::what_was_not_used_for_longest_is_unmapped", HOST, |_| least_recently_used()),
    Case::new("store::a_flush_lies_before_its_data_and_behind_it", HOST, |_| flush_with_data()),
];

/// Asks with a ring of one's own.
fn exchange(
    ring: &mut Ring<ring::Front, Blkif, Shared>,
    back: &mut Server<'_>,
    mut request: granite::abi::blkif::Request,
) -> Result<Response, NotPassed> {
    ring.push(|id| {
        request.id = id.number();
        request
    })
    .map_err(fail)?;
    let _ = ring.publish();
    check_same!(back.serve().map_err(fail)?, 1);
    let (_, response) = ring.pop().map_err(fail)?.ok_or_else(|| fail("no answer"))?;
    check!(response.operation == request.operation && response.id == request.id, "{response:?}");
    Ok(response)
}

fn every_request() -> Result<(), NotPassed> {
    for path in PATHS {
        let (meeting, mut ring) = Meeting::new()?;
        let mut disk = RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?;
        let (bed, _channel, mut back) = meeting.back(&mut disk, path, true)?;
        let room = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let data = bed.us.grant::<ReadOnly>(bed.page()?, bed.their_id).map_err(fail)?;
        for (what, request, expected) in requests::table(room.gref(), data.gref(), GrantRef(1 << 24)) {
            // A page that is kept is mapped to write.
            if matches!(path, DataPath::Persistent { .. })
                && what.contains("write")
                && expected == Status::OKAY
                || matches!(path, DataPath::Persistent { .. }) && what == "flush with data"
            {
                continue;
            }
            let response = exchange(&mut ring, &mut back, request)?;
            check_same!((path, what, response.status), (path, what, expected));
        }
        drop(back);
        room.end_access().map_err(fail)?;
        data.end_access().map_err(fail)?;
        drop(ring);
        nothing_lost(bed)?;

        let (meeting, mut ring) = Meeting::new()?;
        let mut disk = ImageDisk(&[7; SECTORS as usize * SECTOR]);
        let (bed, _channel, mut back) = meeting.back(&mut disk, path, true)?;
        let room = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        for (what, request, expected) in requests::read_only(room.gref(), room.gref()) {
            check_same!((what, exchange(&mut ring, &mut back, request)?.status), (what, expected));
        }
        check_same!(back.served().refused, 4);
    }
    Ok(())
}

fn no_reasons() -> Result<(), NotPassed> {
    let (meeting, mut ring) = Meeting::new()?;
    let mut disk = RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?;
    let (_, _channel, mut back) = meeting.back(&mut disk, DataPath::Map, false)?;
    for (what, request, expected) in requests::table(GrantRef(300), GrantRef(301), GrantRef(1 << 24)) {
        let response = exchange(&mut ring, &mut back, request)?;
        let allowed = [Status::OKAY, Status::ERROR, Status::NOT_SUPPORTED];
        check!(allowed.contains(&response.status), "{what}: {}", response.status);
        check!(expected == Status::OKAY || response.status == expected.without_reason(), "{what}");
    }
    Ok(())
}

fn what_is_written() -> Result<(), NotPassed> {
    for path in PATHS {
        for (segments, depth, pages) in [(11, 32, 352), (1, 32, 352), (3, 1, 352), (11, 32, 5), (11, 32, 1)] {
            let limits = Limits { segments, depth, pages, ..Limits::default() };
            with_front!(path, ram()?, limits, |bed, front| {
                let data: Vec<u8> = (0..1000 * SECTOR).map(|i| (i / 7 + i / SECTOR) as u8).collect();
                front.write(3, &data).map_err(fail)?;
                front.flush().map_err(fail)?;
                let mut read = vec![0; data.len()];
                front.read(3, &mut read).map_err(fail)?;
                check!(read == data, "{path}, {limits:?}");
                let mut sums = vec![0; 1000];
                front.checksums(3, &mut sums).map_err(fail)?;
                check!(data.chunks_exact(SECTOR).map(checksum).eq(sums), "{path}, {limits:?}");
                front.discard(10, 5).map_err(fail)?;
                front.read(9, &mut read[..7 * SECTOR]).map_err(fail)?;
                check!(read[..SECTOR] == data[6 * SECTOR..7 * SECTOR]);
                check!(read[SECTOR..6 * SECTOR].iter().all(|&byte| byte == 0));
                check!(read[6 * SECTOR..7 * SECTOR] == data[12 * SECTOR..13 * SECTOR]);
                let counts = front.stats();
                check!(counts.grants <= pages as u64, "{counts:?}");
                check!(bed.us.stats().quarantined == 0);
            });
        }
    }
    Ok(())
}

fn bytes_at_any_offset() -> Result<(), NotPassed> {
    with_front!(DataPath::Copy, ram()?, Limits::default(), |_bed, front| {
        check_same!(front.capacity(), 1024 * SECTOR);
        let mut model = vec![0u8; 8 * SECTOR];
        for (offset, len) in [(0, 10), (500, 30), (511, 1), (512, 512), (700, 2000), (1, 4095), (4090, 6)] {
            let data: Vec<u8> = (0..len).map(|i| (i * 3 + offset) as u8).collect();
            model[offset..offset + len].copy_from_slice(&data);
            Storage::write(&mut front, offset as u32, &data).map_err(fail)?;
            let mut read = vec![0; model.len() - 5];
            ReadStorage::read(&mut front, 5, &mut read).map_err(fail)?;
            check!(read == model[5..], "{offset} {len}");
        }
    });
    Ok(())
}

fn kept_mappings() -> Result<(), NotPassed> {
    let path = DataPath::Persistent { max: 4 };
    let limits = Limits { pages: 40, ..Limits::default() };
    let served = with_front!(path, ram()?, limits, |bed, front| {
        let mut data = vec![0; 400 * SECTOR];
        for _ in 0..4 {
            front.write(0, &data).map_err(fail)?;
            front.read(0, &mut data).map_err(fail)?;
        }
        // Whatever was mapped for a batch: no more than four stay.
        let windows = bed.them.windows().free();
        front.read(0, &mut data[..SECTOR]).map_err(fail)?;
        check!(bed.them.windows().free() + 1 >= windows);
        let mapped = bed.us.stats().in_use;
        check!(mapped <= 1 + 4, "{mapped} are kept");
    });
    check_same!(served.kept, 4);
    // As many as are used: each is mapped once.
    let path = DataPath::Persistent { max: 64 };
    with_front!(path, ram()?, limits, |bed, front| {
        let mut data = vec![0; 300 * SECTOR];
        front.write(0, &data).map_err(fail)?;
        let before = bed.fake.them.calls.lock().map_err(fail)?.len();
        for _ in 0..10 {
            front.read(0, &mut data).map_err(fail)?;
        }
        check_same!(bed.fake.them.calls.lock().map_err(fail)?.len(), before);
    });
    Ok(())
}

fn least_recently_used() -> Result<(), NotPassed> {
    let (meeting, mut ring) = Meeting::new()?;
    let mut disk = RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?;
    let (bed, _channel, mut back) = meeting.back(&mut disk, DataPath::Persistent { max: 2 }, true)?;
    let page = || bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail);
    let pages = [page()?, page()?, page()?];
    for used in [0, 1, 0, 2] {
        let request = requests::request(Operation::READ, 0, pages[used].gref(), 8);
        check_same!(exchange(&mut ring, &mut back, request)?.status, Status::OKAY);
    }
    check_same!(pages.each_ref().map(|page| page.in_use().is_empty()), [false, true, false]);
    drop(back);
    for page in pages {
        page.end_access().map_err(fail)?;
    }
    drop(ring);
    nothing_lost(bed)
}

/// A disk that tells what it is asked for.
struct Told<'t>(RamDisk, &'t RefCell<Vec<&'static str>>);

impl Disk for Told<'_> {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.1.borrow_mut().push("read");
        self.0.read(sector, into)
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DiskError> {
        self.1.borrow_mut().push("write");
        self.0.write(sector, from)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.1.borrow_mut().push("flush");
        Ok(())
    }

    fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        self.1.borrow_mut().push("discard");
        self.0.discard(sector, sectors)
    }
}

fn flush_with_data() -> Result<(), NotPassed> {
    for path in PATHS {
        let told = RefCell::default();
        let (meeting, mut ring) = Meeting::new()?;
        let mut disk = Told(RamDisk::new(SECTORS as usize).ok_or_else(|| fail("no memory"))?, &told);
        let (bed, _channel, mut back) = meeting.back(&mut disk, path, true)?;
        let page = bed.us.grant::<ReadWrite>(bed.page()?, bed.their_id).map_err(fail)?;
        let with_data = requests::request(Operation::FLUSH, 0, page.gref(), 8);
        let without = granite::abi::blkif::Request { nr_segments: 0, ..with_data };
        for (request, expected) in [(with_data, &["flush", "write", "flush"][..]), (without, &["flush"])] {
            check_same!(exchange(&mut ring, &mut back, request)?.status, Status::OKAY);
            check_same!((path, &told.take()[..]), (path, expected));
        }
        drop(back);
        page.end_access().map_err(fail)?;
        drop(ring);
        nothing_lost(bed)?;
    }
    Ok(())
}
