//! The control domain: it starts the second domain and serves it a disk.

use core::time::Duration;

use alloc::format;
use alloc::vec::Vec;

use granite::driver::block::{BackStats, Disk, ImageDisk, Offer, RamDisk, connect_back};
use granite::pair::{ChildEnd, LinkConnector, PairError, Parent};
use granite::prelude::*;
use granite::time::Deadline;
use granite::toolstack::{Config, Toolstack};
use zerocopy::FromBytes;

use super::table::{self, Before, Left, Row};
use super::{DemoError, TIMEOUT, paths, sectors};

/// The interval for checking whether the other side wants to close.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub fn run(platform: &'static Platform, toolstack: &Toolstack) -> Result<ExitCode, DemoError> {
    let kernel = platform.modules().first().copied().ok_or(DemoError::NoImage)?;
    paths(platform)?; // before anything is started
    let before = Before::new(platform.grants()?);
    let options = platform.options();
    let option = |name| options.get(name).map_or_else(Default::default, |value| format!(" {name}={value}"));
    let command_line = format!("{}{}", option("child"), option("path"));
    let config = Config { kernel, command_line: &command_line, processor: Some(0), ..Config::default() };
    let mut parent = Parent::start(platform, toolstack, &config, TIMEOUT)?;
    println!("domain {} runs: the same image, and a page and an event channel between us", parent.child());

    // A file passed along with the image is the disk.
    let served = match platform.modules().get(1) {
        Some(file) => serve(platform, &parent, ImageDisk(file)),
        None => {
            let disk = RamDisk::new(sectors(platform) as usize).ok_or(PairError::OutOfMemory)?;
            serve(platform, &parent, disk)
        }
    };
    if let Err(error) = &served {
        error!("{error}");
    }
    let end = parent.wait(Deadline::after(TIMEOUT)).map_err(PairError::from)?;
    let child = parent.child();
    if end != ChildEnd::Success || served.is_err() {
        let lines = parent.console().map_err(PairError::from)?;
        lines.iter().for_each(|line| println!("domain {child} said: {line}"));
    }
    let gone = parent.destroy(Deadline::after(TIMEOUT)).map_err(PairError::from)?;
    if end != ChildEnd::Success {
        error!("{end}");
        return Ok(end.exit_code());
    }
    let (rows, theirs) = served?;
    table::head();
    rows.iter().for_each(|(path, front, back)| table::line(path, *front, *back));
    let ours = before.left(platform.grants()?);
    ours.print("the domain that serves");
    theirs.print("the domain that reads and writes");
    ours.check("the domain that serves")?;
    theirs.check("the domain that reads and writes")?;
    if !gone {
        return Err(DemoError::Leak("domain that was destroyed"));
    }
    println!("every byte was right, and nothing leaked");
    Ok(ExitCode::SUCCESS)
}

/// For each data path: its name, and the figures of the front and of the back.
type Rows = Vec<(alloc::string::String, Row, Row)>;

fn serve(
    platform: &'static Platform,
    parent: &Parent<'_>,
    mut disk: impl Disk,
) -> Result<(Rows, Left), DemoError> {
    let (Some(xen), grants) = (platform.xen(), platform.grants()?) else { return Err(DemoError::NoImage) };
    let soon = || Deadline::after(TIMEOUT);
    let mut rows = Vec::new();
    for path in paths(platform)? {
        let mut connector = LinkConnector::new(parent);
        // Each sector is written, unless the disk is read-only, then read and checksummed.
        let total = disk.sectors() * if disk.is_read_only() { 2 } else { 3 } / 2;
        let offer = Offer { disk: &mut disk, path };
        let back = connect_back(&mut connector, grants, offer, soon())?;
        println!("{path}: mapped the ring of domain {}: {} slots", parent.child(), back.slots());
        let calls = xen.calls();
        let mut quarters = 0;
        let done = back.serve_until_closed(&mut connector, POLL_INTERVAL, |served: BackStats| {
            let now = served.bytes / 256 / total.max(1);
            if now > quarters {
                quarters = now;
                println!("{path}: {:5} of {total} KiB, {:5} requests", served.bytes / 1024, served.requests);
            }
        })?;
        let calls = xen.calls() - calls;
        let BackStats { requests, bytes, notifications, kept, .. } = done;
        let back = Row { requests, bytes, notifications, grants: kept, calls };
        let front = parent.receive(soon())?;
        let front = Row::read_from_bytes(&front).map_err(|_| DemoError::NoReport)?;
        rows.push((format!("{path}"), front, back));
    }
    let left = parent.receive(soon())?;
    Ok((rows, Left::read_from_bytes(&left).map_err(|_| DemoError::NoReport)?))
}
