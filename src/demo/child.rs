//! The second domain: it writes the disk and reads it back.

use granite::driver::block::{Counts, Limits, connect_front};
use granite::prelude::*;
use granite::time::{Deadline, sleep};
use granite::twin::{Child, LinkConnector};
use zerocopy::IntoBytes;

use super::table::{Before, Row};
use super::{DemoError, PATIENCE, check, paths};

/// Two pages of ring: 64 slots.
const RING_ORDER: u32 = 1;

pub fn run(platform: &'static Platform, parent: &Child) -> Result<ExitCode, DemoError> {
    let soon = || Deadline::after(PATIENCE);
    match platform.options().get("child") {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        Some("crash") => panic!("the command line asked for it"),
        Some("hang") => loop {
            sleep(PATIENCE);
        },
        Some("fail") => return Ok(ExitCode(3)),
        _ => {}
    }
    let (Some(xen), grants) = (platform.xen(), platform.grants()?) else { return Err(DemoError::NoReport) };
    let before = Before::new(grants);
    for (round, path) in paths(platform)?.into_iter().enumerate() {
        let mut connector = LinkConnector::new(parent);
        let limits = Limits { patience: PATIENCE, ..Limits::default() };
        let mut front = connect_front(&mut connector, grants, RING_ORDER, limits, soon())?;
        let (server, disk) = (parent.parent(), front.geometry());
        println!("{path}: granted to domain {server}: a ring of {} slots; its disk: {disk}", front.slots());
        let calls = xen.calls();
        let checked = check::check(&mut front, round as u8);
        let calls = xen.calls() - calls;
        let Counts { requests, bytes, notifications, grants, .. } = front.counts();
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
