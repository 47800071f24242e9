//! The parts of `sched_op` used here. Source: `xen/include/public/sched.h`.

use core::fmt;

use super::assert_layout;
use super::event::Port;

/// Argument of `SCHEDOP_shutdown`. Xen takes a pointer to it: `xen-sys` 0.0.0-pre2 passes the reason itself.
#[doc(alias = "sched_shutdown")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Shutdown {
    /// The reason.
    pub reason: ShutdownReason,
}
assert_layout!(Shutdown, size = 4, align = 4, { reason: 0 });

/// The reason for a domain's shutdown, as its toolstack reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct ShutdownReason(pub u32);

impl ShutdownReason {
    /// The domain is done.
    #[doc(alias = "SHUTDOWN_poweroff")]
    pub const POWEROFF: Self = Self(xen_sys::SHUTDOWN_poweroff);
    /// The domain hit an error; the toolstack's `on_crash` decides what follows.
    #[doc(alias = "SHUTDOWN_crash")]
    pub const CRASH: Self = Self(xen_sys::SHUTDOWN_crash);
    /// The domain asks for a restart.
    #[doc(alias = "SHUTDOWN_reboot")]
    pub const REBOOT: Self = Self(xen_sys::SHUTDOWN_reboot);
    /// The domain is suspended.
    #[doc(alias = "SHUTDOWN_suspend")]
    pub const SUSPEND: Self = Self(xen_sys::SHUTDOWN_suspend);
    /// A watchdog expired.
    #[doc(alias = "SHUTDOWN_watchdog")]
    pub const WATCHDOG: Self = Self(xen_sys::SHUTDOWN_watchdog);
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::POWEROFF => "poweroff",
            Self::REBOOT => "reboot",
            Self::SUSPEND => "suspend",
            Self::CRASH => "crash",
            Self::WATCHDOG => "watchdog",
            Self(other) => return write!(f, "shutdown reason {other}"),
        })
    }
}

/// Argument of `SCHEDOP_poll`.
#[doc(alias = "sched_poll")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Poll {
    /// Address of an array of ports.
    pub ports: *const Port,
    /// Number of ports, at most [`MAX_POLL`].
    pub nr_ports: u32,
    /// Deadline in nanoseconds since Xen booted; 0 for none.
    pub timeout: u64,
}
assert_layout!(Poll, size = 24, align = 8, { ports: 0, nr_ports: 8, timeout: 16 });

/// Maximum number of ports in one [`Poll`].
pub const MAX_POLL: usize = 128;
