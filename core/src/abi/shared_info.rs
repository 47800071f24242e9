//! The page shared by a domain and Xen: pending events, and the time. Source: `xen/include/public/xen.h`.
//!
//! Every word that Xen or another vCPU writes is an atomic, so a reference to the page is sound.

use core::sync::atomic::{AtomicI8, AtomicU8, AtomicU32, AtomicU64};

use super::assert_layout;

/// The number of vCPUs with a [`VcpuInfo`] in this page. Later ones register a place of their own.
#[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
pub const LEGACY_MAX_VCPUS: usize = 32;
/// Words of pending bits, and of mask bits.
pub const EVENT_WORDS: usize = 64;
/// Maximum number of ports, with two levels of bits.
#[doc(alias = "EVTCHN_2L_NR_CHANNELS")]
pub const MAX_PORTS: u32 = 64 * EVENT_WORDS as u32;

/// The conversion of a vCPU's time-stamp counter to time.
#[doc(alias = "vcpu_time_info")]
#[derive(Default, Debug)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while Xen writes the rest.
    pub version: AtomicU32,
    /// Unused.
    pub pad0: u32,
    /// The counter's value at `system_time`.
    pub tsc_timestamp: AtomicU64,
    /// Nanoseconds since Xen booted.
    pub system_time: AtomicU64,
    /// Nanoseconds per shifted tick, times 2^32.
    pub tsc_to_system_mul: AtomicU32,
    /// The left shift of ticks before the multiplication; a negative number shifts right.
    pub tsc_shift: AtomicI8,
    /// [`TSC_STABLE`].
    pub flags: AtomicU8,
    /// Unused.
    pub pad1: [u8; 2],
}
assert_layout!(VcpuTimeInfo, size = 32, align = 8, {
    version: 0, tsc_timestamp: 8, system_time: 16, tsc_to_system_mul: 24, tsc_shift: 28, flags: 29,
});

/// In [`VcpuTimeInfo::flags`]: all vCPUs have the same time.
#[doc(alias = "XEN_PVCLOCK_TSC_STABLE_BIT")]
pub const TSC_STABLE: u8 = 1 << 0;

/// One vCPU's part of the page.
#[doc(alias = "vcpu_info")]
#[derive(Default, Debug)]
#[repr(C)]
pub struct VcpuInfo {
    /// An event is pending. Xen sets it; the guest clears it before looking for events.
    pub upcall_pending: AtomicU8,
    /// A mask for PV guests; unused here.
    pub upcall_mask: AtomicU8,
    /// One bit per word of pending bits: the word has a pending event.
    pub pending_sel: AtomicU64,
    /// For PV guests.
    pub arch: [u64; 2],
    /// The vCPU's time.
    pub time: VcpuTimeInfo,
}
assert_layout!(VcpuInfo, size = 64, align = 8, { upcall_pending: 0, upcall_mask: 1, pending_sel: 8, arch: 16, time: 32 });

/// The page, up to the last field used here.
#[doc(alias = "shared_info")]
#[derive(Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// The parts of the first vCPUs.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// One bit per port: an event arrived. The guest clears it.
    pub evtchn_pending: [AtomicU64; EVENT_WORDS],
    /// One bit per port: no upcall for it. Only the guest writes it, except for `EVTCHNOP_unmask`.
    pub evtchn_mask: [AtomicU64; EVENT_WORDS],
    /// Odd while Xen writes the wall clock.
    pub wc_version: AtomicU32,
    /// Seconds from 1970 to the boot of Xen, the lower half.
    pub wc_sec: AtomicU32,
    /// The nanoseconds of the same time.
    pub wc_nsec: AtomicU32,
    /// The upper half of the seconds.
    pub wc_sec_hi: AtomicU32,
}
assert_layout!(SharedInfo, size = 3088, align = 8, {
    vcpu_info: 0, evtchn_pending: 2048, evtchn_mask: 2560, wc_version: 3072, wc_sec: 3076, wc_nsec: 3080,
    wc_sec_hi: 3084,
});

impl Default for SharedInfo {
    /// All zeros, like a new page from Xen.
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
