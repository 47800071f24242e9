//! Each vCPU's clock from Xen: converts its time-stamp counter to nanoseconds since boot.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::abi::shared_info::{TSC_STABLE, VcpuTimeInfo};
use crate::arch;
use crate::mm::shared_info;
use crate::sync::{InterruptGuard, this_vcpu};

/// The conversion from a counter to time, as of one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    timestamp: u64,
    system_time: u64,
    multiplier: u32,
    shift: i8,
    stable: bool,
}

impl Scale {
    /// Reads the scale together with the counter, and retries while Xen is writing.
    pub fn read(info: &VcpuTimeInfo, counter: impl Fn() -> u64) -> (Self, u64) {
        loop {
            // Acquire: pairs with Xen's write barrier after the first increment of the version: the reads below don't
            // move before this one.
            let version = info.version.load(Ordering::Acquire);
            let scale = Self {
                timestamp: info.tsc_timestamp.load(Ordering::Relaxed),
                system_time: info.system_time.load(Ordering::Relaxed),
                multiplier: info.tsc_to_system_mul.load(Ordering::Relaxed),
                shift: info.tsc_shift.load(Ordering::Relaxed),
                stable: info.flags.load(Ordering::Relaxed) & TSC_STABLE != 0,
            };
            let counter = counter();
            // Acquire: pairs with Xen's write barrier before the second increment: the reads above are done before
            // the version is read again.
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && info.version.load(Ordering::Relaxed) == version {
                return (scale, counter);
            }
            core::hint::spin_loop();
        }
    }

    /// Converts a counter to nanoseconds since boot. Source: `xen/include/public/xen.h`, `vcpu_time_info`.
    pub fn time(&self, counter: u64) -> u64 {
        // Modulo 2^64: a domain's counter starts with the domain, and the timestamp may be from before. The counter
        // may also be less than the timestamp, if another processor took the timestamp.
        let ticks = (counter.wrapping_sub(self.timestamp) as i64).max(0) as u64;
        let ticks = match u32::from(self.shift.unsigned_abs()) {
            left if self.shift >= 0 => ticks.checked_shl(left).unwrap_or(0),
            right => ticks.checked_shr(right).unwrap_or(0),
        };
        let nanoseconds = (u128::from(ticks) * u128::from(self.multiplier)) >> 32;
        self.system_time.wrapping_add(nanoseconds as u64)
    }
}

/// The latest time returned to any vCPU.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Returns nanoseconds since Xen booted. Without Xen, returns processor ticks.
pub fn now() -> u64 {
    // An interrupt between reading the counter and using it would only make the time older. But its handler would
    // read a later time before this call returns.
    let _masked = InterruptGuard::mask();
    let Some(info) = shared_info::of_vcpu(this_vcpu::number()) else { return without_xen() };
    let (scale, counter) = Scale::read(&info.time, arch::time_stamp);
    let now = scale.time(counter);
    if scale.stable {
        return now;
    }
    // The vCPUs' clocks need not agree to the nanosecond. Relaxed: they share only this one word.
    LATEST.fetch_max(now, Ordering::Relaxed).max(now)
}

#[cfg(granite_guest)]
fn without_xen() -> u64 {
    arch::time_stamp()
}

#[cfg(not(granite_guest))]
fn without_xen() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::{Ordering, Scale, VcpuTimeInfo};
    use std::cell::Cell;

    fn scale(multiplier: u32, shift: i8) -> Scale {
        Scale { timestamp: 1000, system_time: 5_000_000, multiplier, shift, stable: false }
    }

    #[test]
    fn ticks_are_scaled_either_way() {
        // 2 GHz: half a nanosecond per tick.
        assert_eq!(scale(1 << 31, 0).time(3000), 5_001_000);
        assert_eq!(scale(1 << 31, 1).time(3000), 5_002_000);
        assert_eq!(scale(1 << 31, -1).time(3000), 5_000_500);
        assert_eq!(scale(1 << 31, 0).time(10), 5_000_000, "a counter that is behind");
        let before_the_domain = Scale { timestamp: 1000u64.wrapping_sub(3000), ..scale(1 << 31, 0) };
        assert_eq!(before_the_domain.time(1000), 5_001_500);
        // No value from Xen causes a panic.
        for shift in [i8::MIN, -64, 64, i8::MAX] {
            scale(u32::MAX, shift).time(u64::MAX);
        }
    }

    #[test]
    fn a_write_in_progress_is_waited_for_and_a_torn_read_is_read_again() {
        let info = VcpuTimeInfo::default();
        info.version.store(3, Ordering::Relaxed);
        info.system_time.store(7, Ordering::Relaxed);
        let reads = Cell::new(0);
        let counter = || {
            reads.set(reads.get() + 1);
            match reads.get() {
                1 => {}                                        // it is odd, and stays so: that read is void
                2 => info.version.store(4, Ordering::Relaxed), // it was odd before
                3 => {
                    // Xen writes between the two reads of the version.
                    info.system_time.store(9, Ordering::Relaxed);
                    info.version.store(6, Ordering::Relaxed);
                }
                _ => {}
            }
            0
        };
        let (scale, _) = Scale::read(&info, counter);
        assert_eq!((reads.get(), scale.system_time), (4, 9));
    }
}
