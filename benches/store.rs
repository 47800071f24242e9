//! The cost of a 4 KiB block request between two domains, on each data path, one at a time and 32 at once:
//! `cargo xtask bench --rig pair`. QEMU counts the instructions of both domains and of Xen between them.

#![cfg_attr(granite_guest, no_std, no_main)]

extern crate alloc;

use core::time::Duration;

use alloc::string::ToString;
use alloc::vec;

use granite::arch::time_stamp;
use granite::driver::block::{
    BackStats, BlockError, DataPath, Limits, Offer, RamDisk, connect_back, connect_front,
};
use granite::driver::connector::ConnectError;
use granite::hypercall::Xen;
use granite::pair::{Child, ChildEnd, LinkConnector, LinkError, PairError, Parent};
use granite::prelude::*;
use granite::time::Deadline;
use granite::toolstack::{Config, Toolstack};
use zerocopy::{FromBytes, Immutable, IntoBytes};

granite::entry!(main);

const PATHS: [DataPath; 3] = [DataPath::Map, DataPath::Copy, DataPath::Persistent { max: 352 }];
const DEPTHS: [u32; 2] = [1, 32];

/// Requests before the measurement, to map the persistent grants, and measured requests.
const WARM: u64 = 64;
const MEASURED: u64 = 512;
/// Bytes per request, and requests per call.
const REQUEST: usize = 4096;
const AT_ONCE: usize = 32;

/// Emulation is slow when it counts instructions.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);

fn soon() -> Deadline {
    Deadline::after(TIMEOUT)
}

/// The front end's report of a run.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Front {
    ticks: u64,
    calls: u64,
    notifications: u64,
}

fn main(platform: &'static Platform) -> ExitCode {
    let Some(xen) = platform.xen() else { return ExitCode::FAILURE };
    let result = match Child::connect(platform) {
        Ok(Some(parent)) => ask(platform, xen, &parent).map(|()| true),
        Ok(None) => serve(platform, xen),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            error!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn ask(platform: &'static Platform, xen: Xen, parent: &Child) -> Result<(), BenchError> {
    let grants = platform.grants()?;
    let mut data = vec![0; AT_ONCE * REQUEST];
    for _ in PATHS {
        for depth in DEPTHS {
            let mut connector = LinkConnector::new(parent);
            let limits = Limits { segments: 1, depth, patience: TIMEOUT, ..Limits::default() };
            let mut front = connect_front(&mut connector, grants, 0, limits, soon())?;
            let mut read = |requests: u64| -> Result<Front, BenchError> {
                let before = (time_stamp(), xen.calls(), front.stats().notifications);
                for _ in 0..requests / AT_ONCE as u64 {
                    front.read(0, &mut data)?;
                }
                Ok(Front {
                    ticks: time_stamp() - before.0,
                    calls: xen.calls() - before.1,
                    notifications: front.stats().notifications - before.2,
                })
            };
            read(WARM)?;
            let measured = read(MEASURED)?;
            front.close(&mut connector, soon())?;
            parent.link().send(measured.as_bytes(), soon())?;
        }
    }
    Ok(())
}

fn serve(platform: &'static Platform, xen: Xen) -> Result<bool, BenchError> {
    let Some(&kernel) = platform.modules().first() else { return Err(PairError::OutOfMemory.into()) };
    let toolstack = Toolstack::new(xen).map_err(PairError::from)?;
    let config = Config { kernel, processor: Some(0), ..Config::default() };
    let mut child = Parent::start(platform, &toolstack, &config, TIMEOUT)?;
    let mut disk = RamDisk::new(AT_ONCE * REQUEST / 512).ok_or(PairError::OutOfMemory)?;
    println!("a read of 4 KiB        instructions        hypercalls     notifications");
    println!("                                    front   back    both");
    let mut is_good = true;
    for path in PATHS {
        for depth in DEPTHS {
            let mut connector = LinkConnector::new(&child);
            let back =
                connect_back(&mut connector, platform.grants()?, Offer { disk: &mut disk, path }, soon())?;
            // The start and the end of the measured part, as seen by this side.
            let (mut begin, mut end) = (None, None);
            back.serve_until_closed(&mut connector, POLL_INTERVAL, |served: BackStats| {
                let now = (xen.calls(), served.notifications);
                if served.requests >= WARM {
                    begin.get_or_insert(now);
                }
                if served.requests >= WARM + MEASURED {
                    end.get_or_insert(now);
                }
            })?;
            let front = Front::read_from_bytes(&child.receive(soon())?).map_err(|_| BenchError::Message)?;
            let (Some(begin), Some(end)) = (begin, end) else { return Err(BenchError::Message) };
            let each = |n: u64| n as f64 / MEASURED as f64;
            let (front_calls, back_calls) = (each(front.calls), each(end.0 - begin.0));
            let notifications = each(front.notifications) + each(end.1 - begin.1);
            let calls = front_calls + back_calls;
            println!(
                "{:10} {depth:2} at once {:12.0} {front_calls:8.3} {back_calls:6.3} {calls:7.3} {notifications:13.3}",
                path.to_string(),
                each(front.ticks),
            );
            if depth == 32 {
                is_good &= wanted("notifications", notifications);
                if matches!(path, DataPath::Persistent { .. }) {
                    is_good &= wanted("hypercalls of both", calls);
                }
            }
        }
    }
    let end = child.wait(soon()).map_err(PairError::from)?;
    Ok(is_good && end == ChildEnd::Success)
}

/// Prints and returns whether a figure meets its target.
fn wanted(what: &str, figure: f64) -> bool {
    let is_good = figure <= 0.1;
    println!("{} wanted: at most 0.1 {what}", if is_good { "ok  " } else { "MISS" });
    is_good
}

/// The errors of both ends.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
enum BenchError {
    Pair(PairError),
    Block(BlockError),
    Message,
}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for BenchError {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        }
    )*};
}

from! { PairError => Pair, LinkError => Pair, GrantError => Pair, BlockError => Block, ConnectError => Block }
