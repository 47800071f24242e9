//! The second domain: it writes the disk and reads it back.

use granite::driver::block::{FrontStats, Limits, connect_front};
use granite::pair::{Child, LinkConnector};
use granite::prelude::*;
use granite::time::{Deadline, sleep};
use zerocopy::IntoBytes;

use super::table::{Before, Row};
use super::{DemoError, TIMEOUT, check, paths};

/// Two pages of ring: 64 slots.
const RING_ORDER: u32 = 1;

pub fn run(platform: &'static Platform, parent: &Child) -> Result<ExitCode, DemoError> {
    let soon = || Deadline::after(TIMEOUT);
    match platform.options().get("child") {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        Some("crash") => panic!("the command line asked for it"),
        Some("hang") => loop {
            sleep(TIMEOUT);
        },
        Some("fail") => return Ok(ExitCode(3)),
        _ => {}
    }
    let (Some(xen), grants) = (platform.xen(), platform.grants()?) else { return Err(DemoError::NoReport) };
    let before = Before::new(grants);
    for (round, path) in paths(platform)?.into_iter().enumerate() {
        let mut connector = LinkConnector::new(parent);
        let limits = Limits { patience: TIMEOUT, ..Limits::default() };
        let mut front = connect_front(&mut connector, grants, RING_ORDER, limits, soon())?;
        let (server, disk) = (parent.parent(), front.geometry());
        println!("{path}: granted to domain {server}: a ring of {} slots; its disk: {disk}", front.slots());
        let calls = xen.calls();
        let checked = check::check(&mut front, round as u8);
        let calls = xen.calls() - calls;
        let FrontStats { requests, bytes, notifications, grants, .. } = front.stats();
        // Close the connection even after a failure: the other side waits for this.
        let closed = front.close(&mut connector, soon());
        checked?;
        closed?;
        let row = Row { requests, bytes, notifications, grants, calls };
        parent.link().send(row.as_bytes(), soon())?;
    }
    let left = before.left(grants);
    parent.link().send(left.as_bytes(), soon())?;
    left.check("the domain that reads and writes")?;
    Ok(ExitCode::SUCCESS)
}
