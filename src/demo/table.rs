//! The results, as a table.

use granite::grant::Stats;
use granite::prelude::*;
use granite::rt::Grants;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::DemoError;

/// The figures of one side on one data path.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Row {
    /// Requests completed.
    pub requests: u64,
    /// Bytes transferred.
    pub bytes: u64,
    /// Notifications sent to the other side.
    pub notifications: u64,
    /// Peak number of grants: lent by the front, or kept mapped by the back.
    pub grants: u64,
    /// Hypercalls made.
    pub calls: u64,
}

/// The resources of one side still in use at the end.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Left {
    /// References in use, beyond those at the start.
    pub out: u32,
    /// Of those, the ones in quarantine.
    pub quarantined: u32,
    /// Window pages lost, or still mapped.
    pub windows: u32,
    /// References in total.
    pub references: u32,
    /// Free references.
    pub free: u32,
}

/// The state of the grant table at the start.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    stats: Stats,
    windows: usize,
}

impl Before {
    pub fn new(grants: &Grants) -> Self {
        Self { stats: grants.stats(), windows: grants.windows().free() }
    }

    /// Returns the resources still in use since the start.
    pub fn left(self, grants: &Grants) -> Left {
        grants.reap(u32::MAX);
        let Stats { in_use, quarantined, references, free, .. } = grants.stats();
        let windows = self.windows.saturating_sub(grants.windows().free()) as u32;
        Left { out: in_use.saturating_sub(self.stats.in_use), quarantined, windows, references, free }
    }
}

impl Left {
    /// Checks that no resource is left.
    pub fn check(self, who: &'static str) -> Result<(), DemoError> {
        if self.out == 0 && self.quarantined == 0 && self.windows == 0 {
            return Ok(());
        }
        error!("{who}: {self:?}");
        Err(DemoError::Leak(who))
    }

    pub fn print(self, who: &str) {
        let Self { out, quarantined, references, free, .. } = self;
        println!("{who}: {out} references leaked, {quarantined} in quarantine; {free} of {references} free");
    }
}

/// Prints the head of the table.
pub fn head() {
    println!("path        requests     KiB   notifications  grants at peak  hypercalls/request");
    println!("                             per 1000 requests    lent  kept       front      back");
}

/// Prints one line of the table.
pub fn line(path: &str, front: Row, back: Row) {
    let requests = front.requests.max(1);
    let per_request = |calls: u64| calls as f64 / requests as f64;
    println!(
        "{path:10} {:9} {:7} {:19.1} {:7} {:5} {:11.3} {:9.3}",
        front.requests,
        front.bytes / 1024,
        (front.notifications as f64 + back.notifications as f64) * 1000.0 / requests as f64,
        front.grants,
        back.grants,
        per_request(front.calls),
        per_request(back.calls),
    );
}
