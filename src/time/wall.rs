//! The wall clock.

use core::sync::atomic::{Ordering, fence};
use core::time::Duration;

use super::Instant;
use crate::abi::shared_info::SharedInfo;
use crate::mm::shared_info;

/// Returns the time since 1970 from Xen, without leap seconds; `None` without Xen.
pub fn wall_clock() -> Option<Duration> {
    let since_boot = Duration::from_nanos(Instant::now().nanoseconds());
    shared_info::page().map(|page| at_boot(page).saturating_add(since_boot))
}

/// Returns the wall clock's time when Xen booted.
fn at_boot(page: &SharedInfo) -> Duration {
    loop {
        // Acquire, here and in the fence: as in `Scale::read`, with the wall clock's own version.
        let version = page.wc_version.load(Ordering::Acquire);
        let low = page.wc_sec.load(Ordering::Relaxed);
        let high = page.wc_sec_hi.load(Ordering::Relaxed);
        let nanoseconds = page.wc_nsec.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if version.is_multiple_of(2) && page.wc_version.load(Ordering::Relaxed) == version {
            let seconds = u64::from(high) << 32 | u64::from(low);
            // A sum, since no specification says that the nanoseconds are below 10^9.
            return Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.into()));
        }
        core::hint::spin_loop();
    }
}
