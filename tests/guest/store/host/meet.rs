//! Meeting, closing, meeting again, and the death of either end: each end is a domain of the fake's, in a thread of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use granite::abi::DomId;
use granite::driver::block::{
    BackStats, BlockError, BlockFront, DataPath, Limits, Offer, SECTOR, connect_back, connect_front,
};
use granite::driver::connector::ConnectError;
use granite::grant::Version;
use granite::pair::{LinkConnector, LinkError, Post};
use granite::time::{Deadline, pause};

use super::{Fake, HOST, PATHS, ram};
use crate::grant::bed::{Bed, Table, fail};
use crate::harness::{Case, NotPassed};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("store::meet::both_ends_connect_and_close", HOST, |_| connect_and_close()),
    Case::new("store::meet::again_and_again", HOST, |_| again()),
    Case::new("store::meet::a_front_end_that_dies", HOST, |_| front_dies()),
    Case::new("store::meet::a_back_end_that_dies", HOST, |_| back_dies()),
    Case::new("store::meet::a_back_end_that_never_comes", HOST, |_| back_is_absent()),
    Case::new("store::meet::ports_that_are_used_up", HOST, |_| no_ports()),
];

/// How long a step may take.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

type Messages = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// One end of a wire between two domains.
struct Wire {
    peer: Fake,
    to_us: Messages,
    to_peer: Messages,
}

impl Post for Wire {
    fn peer(&self) -> DomId {
        self.peer.dom_id()
    }

    fn send(&self, message: &[u8], _: Deadline) -> Result<(), LinkError> {
        self.to_peer.lock().map_err(|_| LinkError::Gone)?.push_back(message.to_vec());
        Ok(())
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(message) = self.to_us.lock().map_err(|_| LinkError::Gone)?.pop_front() {
                return Ok(message);
            }
            match (self.is_gone(), deadline.has_passed()) {
                (true, _) => return Err(LinkError::Gone),
                (_, true) => return Err(LinkError::TimedOut),
                _ => pause(),
            }
        }
    }

    fn has_message(&self) -> bool {
        self.to_us.lock().is_ok_and(|messages| !messages.is_empty())
    }

    fn is_gone(&self) -> bool {
        self.peer.is_dead()
    }
}

/// Two domains, and how each end reaches the other: the front end is ours.
struct Domains {
    bed: Bed,
    to_front: Messages,
    to_back: Messages,
}

impl Domains {
    fn new() -> Result<Self, NotPassed> {
        let bed = Bed::on_new_machine(Version::V1)?;
        Ok(Self { bed, to_front: Messages::default(), to_back: Messages::default() })
    }

    fn front_wire(&self) -> Wire {
        let (to_us, to_peer) = (self.to_front.clone(), self.to_back.clone());
        Wire { peer: self.bed.fake.them, to_us, to_peer }
    }

    fn back_wire(&self) -> Wire {
        let (to_us, to_peer) = (self.to_back.clone(), self.to_front.clone());
        Wire { peer: self.bed.fake.us, to_us, to_peer }
    }

    /// Runs a front end and a back end at once.
    fn run<F: Send, B: Send>(
        &self,
        front: impl FnOnce(&'static Table, Wire) -> F + Send,
        back: impl FnOnce(&'static Table, Wire) -> B + Send,
    ) -> Result<(F, B), NotPassed> {
        let (us, them) = (self.bed.us, self.bed.them);
        let (front_wire, back_wire) = (self.front_wire(), self.back_wire());
        thread::scope(|scope| {
            let back = scope.spawn(move || back(them, back_wire));
            let front = scope.spawn(move || front(us, front_wire));
            let panicked = |_| fail("an end panicked");
            Ok((front.join().map_err(panicked)?, back.join().map_err(panicked)?))
        })
    }

    /// What the ends had is back: pages, references, mappings and ports. A page may wait in the quarantine until it is
    /// looked at.
    fn nothing_lost(&self) -> Result<(), NotPassed> {
        self.bed.us.reap(u32::MAX);
        self.bed.them.reap(u32::MAX);
        self.bed.nothing_lost()?;
        let theirs = self.bed.them.stats();
        check!(theirs.in_use == 0 && theirs.lost == 0, "{theirs}");
        let fake = &self.bed.fake;
        check_same!((fake.us.open_ports(), fake.them.open_ports()), (0, 0));
        check_same!(fake.us.machine().mappings(self.bed.their_id), 0);
        Ok(())
    }
}

/// Serves a disk in memory until the front end is done.
fn serve(grants: &'static Table, wire: Wire, path: DataPath) -> Result<BackStats, BlockError> {
    let mut connector = LinkConnector::new(wire);
    let disk = ram().map_err(|_| BlockError::OutOfMemory)?;
    let back = connect_back(&mut connector, grants, Offer { disk, path }, soon())?;
    back.serve_until_closed(&mut connector, Duration::from_millis(5), |_| ())
}

fn connect(
    grants: &'static Table,
    wire: Wire,
) -> Result<(LinkConnector<Wire>, BlockFront<Fake>), BlockError> {
    let mut connector = LinkConnector::new(wire);
    let front = connect_front(&mut connector, grants, 1, Limits::default(), soon())?;
    Ok((connector, front))
}

/// Writes, reads and compares.
fn use_disk(front: &mut BlockFront<Fake>, seed: u8) -> Result<bool, BlockError> {
    let data: Vec<u8> = (0..300 * SECTOR).map(|i| (i / 5) as u8 ^ seed).collect();
    front.write(7, &data)?;
    let mut read = vec![0; data.len()];
    front.read(7, &mut read)?;
    Ok(read == data)
}

fn connect_and_close() -> Result<(), NotPassed> {
    for path in PATHS {
        let domains = Domains::new()?;
        let front = |grants, wire| {
            let (mut connector, mut front) = connect(grants, wire)?;
            let same = use_disk(&mut front, 1)?;
            front.close(&mut connector, soon())?;
            Ok::<_, BlockError>(same)
        };
        let (same, served) = domains.run(front, |grants, wire| serve(grants, wire, path))?;
        check!(same.map_err(fail)?, "{path}");
        check!(served.map_err(fail)?.bytes >= 600 * SECTOR as u64);
        domains.nothing_lost()?;
    }
    Ok(())
}

fn again() -> Result<(), NotPassed> {
    const TIMES: u8 = 5;
    let domains = Domains::new()?;
    for seed in 0..TIMES {
        let path = PATHS[usize::from(seed) % PATHS.len()];
        let front = |grants, wire| {
            let (mut connector, mut front) = connect(grants, wire)?;
            let same = use_disk(&mut front, seed)?;
            front.close(&mut connector, soon())?;
            Ok::<_, BlockError>(same)
        };
        let (same, served) = domains.run(front, |grants, wire| serve(grants, wire, path))?;
        check!(same.map_err(fail)?, "{seed}");
        served.map_err(fail)?;
        domains.nothing_lost()?;
    }
    Ok(())
}

/// The back end hears of it, and lets go of all that was the front's.
fn front_dies() -> Result<(), NotPassed> {
    for path in PATHS {
        let domains = Domains::new()?;
        let fake = domains.bed.fake.us;
        let front = |grants, wire| {
            let (connector, mut front) = connect(grants, wire)?;
            let same = use_disk(&mut front, 1)?;
            // What a domain has that ends: nobody drops it.
            core::mem::forget((connector, front));
            fake.destroy();
            Ok::<_, BlockError>(same)
        };
        let (same, served) = domains.run(front, |grants, wire| serve(grants, wire, path))?;
        check!(same.map_err(fail)?);
        check_same!(served.err(), Some(BlockError::Connect(ConnectError::Gone)));
        check_same!(domains.bed.them.stats().in_use, 0);
        check_same!(domains.bed.fake.them.open_ports(), 0);
        check_same!(fake.machine().mappings(domains.bed.their_id), 0);
    }
    Ok(())
}

/// The front end hears of it, in an operation and at the close; its pages come back.
fn back_dies() -> Result<(), NotPassed> {
    for path in PATHS {
        let domains = Domains::new()?;
        let fake = domains.bed.fake.them;
        let front = |grants: &'static Table, wire| {
            let (mut connector, mut front) = connect(grants, wire)?;
            let read = loop {
                // The back end dies between two of them.
                if let Err(error) = front.read(0, &mut [0; 4 * SECTOR]) {
                    break error;
                }
            };
            Ok::<_, BlockError>((read, front.close(&mut connector, soon())))
        };
        let back = |grants, wire| {
            let mut connector = LinkConnector::new(wire);
            let disk = ram().map_err(|_| BlockError::OutOfMemory)?;
            let mut back = connect_back(&mut connector, grants, Offer { disk, path }, soon())?;
            let served = back.serve_while(Duration::from_millis(5), |served, _| served.requests < 3);
            core::mem::forget((connector, back));
            fake.destroy();
            served
        };
        let (ends, served) = domains.run(front, back)?;
        served.map_err(fail)?;
        let (read, closed) = ends.map_err(fail)?;
        check_same!((path, read), (path, BlockError::Gone));
        check_same!((path, closed), (path, Err(BlockError::Connect(ConnectError::Gone))));
        domains.bed.us.reap(u32::MAX);
        domains.bed.nothing_lost()?;
        check_same!(domains.bed.fake.us.open_ports(), 0);
    }
    Ok(())
}

fn back_is_absent() -> Result<(), NotPassed> {
    let domains = Domains::new()?;
    let mut connector = LinkConnector::new(domains.front_wire());
    let deadline = Deadline::after(Duration::from_millis(20));
    let met = connect_front(&mut connector, domains.bed.us, 0, Limits::default(), deadline);
    check!(matches!(met.err(), Some(BlockError::Connect(ConnectError::TimedOut { .. }))));
    domains.nothing_lost()
}

/// Xen gives no port: what was granted for the ring is ended.
fn no_ports() -> Result<(), NotPassed> {
    use granite::abi::XenErrno;
    use granite::abi::xenbus::State;
    use granite::driver::connector::Connector;
    use granite::event::EventError;
    use granite::hypercall::fake::Fault;

    let domains = Domains::new()?;
    domains.bed.fake.us.fail(Fault::Event(XenErrno::NOSPC));
    let mut back = LinkConnector::new(domains.back_wire());
    back.publish(&[("max-ring-page-order", "4")], State::INIT_WAIT, soon()).map_err(fail)?;
    let mut connector = LinkConnector::new(domains.front_wire());
    let met = connect_front(&mut connector, domains.bed.us, 2, Limits::default(), soon());
    check_same!(met.err(), Some(BlockError::Event(EventError::Xen(XenErrno::NOSPC))));
    check_same!(back.wait_for_any(&[State::CLOSED], soon()).map_err(fail)?, State::CLOSED);
    domains.nothing_lost()
}
