//! The page that a domain shares with Xen: pending events, and the time. Source: `xen/include/public/xen.h`.
//!
//! Every word that somebody else writes is an atomic, so that a reference to the page is sound.

use core::sync::atomic::{AtomicI8, AtomicU8, AtomicU32, AtomicU64};

use super::assert_layout;

/// vCPUs from this one on have their part in a place that they register.
#[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
pub const LEGACY_MAX_VCPUS: usize = 32;
/// Words of pending bits, and of mask bits.
pub const EVENT_WORDS: usize = 64;
/// Ports that there can be, with two levels of bits.
#[doc(alias = "EVTCHN_2L_NR_CHANNELS")]
pub const MAX_PORTS: u32 = 64 * EVENT_WORDS as u32;

/// How a vCPU's time-stamp counter becomes time.
#[doc(alias = "vcpu_time_info")]
#[derive(Default, Debug)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes the rest.
    pub version: AtomicU32,
    /// Nothing.
    pub pad0: u32,
    /// The counter when `system_time` was.
    pub tsc_timestamp: AtomicU64,
    /// Nanoseconds since Xen booted.
    pub system_time: AtomicU64,
    /// Nanoseconds by 2^32 that a tick takes, after the shift.
    pub tsc_to_system_mul: AtomicU32,
    /// By how much ticks are shifted left first; a negative number shifts right.
    pub tsc_shift: AtomicI8,
    /// [`TSC_STABLE`].
    pub flags: AtomicU8,
    /// Nothing.
    pub pad1: [u8; 2],
}
assert_layout!(VcpuTimeInfo, size = 32, align = 8, {
    version: 0, tsc_timestamp: 8, system_time: 16, tsc_to_system_mul: 24, tsc_shift: 28, flags: 29,
});

/// In [`VcpuTimeInfo::flags`]: all vCPUs have the same time.
#[doc(alias = "XEN_PVCLOCK_TSC_STABLE_BIT")]
pub const TSC_STABLE: u8 = 1 << 0;

/// One vCPU's part.
#[doc(alias = "vcpu_info")]
#[derive(Default, Debug)]
#[repr(C)]
pub struct VcpuInfo {
    /// An event is pending. Xen sets it, the guest clears it before it looks.
    pub upcall_pending: AtomicU8,
    /// Nothing; of PV guests, a mask.
    pub upcall_mask: AtomicU8,
    /// Words of pending bits in which there is one.
    pub pending_sel: AtomicU64,
    /// Of PV guests.
    pub arch: [u64; 2],
    /// The vCPU's time.
    pub time: VcpuTimeInfo,
}
assert_layout!(VcpuInfo, size = 64, align = 8, { upcall_pending: 0, upcall_mask: 1, pending_sel: 8, arch: 16, time: 32 });

/// The page, or as much of it as is used.
#[doc(alias = "shared_info")]
#[derive(Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// The first vCPUs' parts.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// A bit a port: an event came. The guest clears it.
    pub evtchn_pending: [AtomicU64; EVENT_WORDS],
    /// A bit a port: no upcall for it. The guest's alone to write, but for `EVTCHNOP_unmask`.
    pub evtchn_mask: [AtomicU64; EVENT_WORDS],
    /// Odd while Xen writes the wall clock.
    pub wc_version: AtomicU32,
    /// Seconds from 1970 to the boot of Xen, the lower half.
    pub wc_sec: AtomicU32,
    /// And nanoseconds.
    pub wc_nsec: AtomicU32,
    /// The upper half of the seconds.
    pub wc_sec_hi: AtomicU32,
}
assert_layout!(SharedInfo, size = 3088, align = 8, {
    vcpu_info: 0, evtchn_pending: 2048, evtchn_mask: 2560, wc_version: 3072, wc_sec: 3076, wc_nsec: 3080,
    wc_sec_hi: 3084,
});

impl Default for SharedInfo {
    /// All zeros, as Xen makes it.
    fn default() -> Self {
        Self {
            vcpu_info: core::array::from_fn(|_| VcpuInfo::default()),
            evtchn_pending: [const { AtomicU64::new(0) }; EVENT_WORDS],
            evtchn_mask: [const { AtomicU64::new(0) }; EVENT_WORDS],
            wc_version: AtomicU32::new(0),
            wc_sec: AtomicU32::new(0),
            wc_nsec: AtomicU32::new(0),
            wc_sec_hi: AtomicU32::new(0),
        }
    }
}
