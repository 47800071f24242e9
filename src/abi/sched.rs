//! `sched_op` and `vcpu_op`, as far as they are used. Sources: `xen/include/public/sched.h` and `vcpu.h`.

use super::assert_layout;

/// Argument of `SCHEDOP_shutdown`. Passed by pointer: `xen-sys` 0.0.0-pre2 passes the reason itself.
#[doc(alias = "sched_shutdown")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Shutdown {
    /// Why.
    pub reason: ShutdownReason,
}
assert_layout!(Shutdown, size = 4, align = 4, { reason: 0 });

/// Why a domain ended, as its toolstack will read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct ShutdownReason(pub u32);

impl ShutdownReason {
    /// The domain is done.
    #[doc(alias = "SHUTDOWN_poweroff")]
    pub const POWEROFF: Self = Self(xen_sys::SHUTDOWN_poweroff);
    /// The domain met an error; the toolstack's `on_crash` decides what follows.
    #[doc(alias = "SHUTDOWN_crash")]
    pub const CRASH: Self = Self(xen_sys::SHUTDOWN_crash);
}

/// Is this vCPU running? `-ENOENT` says that the domain has no such vCPU.
#[doc(alias = "VCPUOP_is_up")]
pub const VCPU_IS_UP: u32 = 3;
