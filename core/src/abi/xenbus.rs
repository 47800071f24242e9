//! The states of the two ends of a device. Source: `xen/include/public/io/xenbus.h`.

use core::fmt;

/// How far an end is with meeting the other.
#[doc(alias = "XenbusState")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct State(pub u32);

impl State {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self(0);
    /// It has begun.
    pub const INITIALISING: Self = Self(1);
    /// It is ready, and waits for the other's details.
    pub const INIT_WAIT: Self = Self(2);
    /// Its details are there.
    pub const INITIALISED: Self = Self(3);
    /// It is at work.
    pub const CONNECTED: Self = Self(4);
    /// It wants to end.
    pub const CLOSING: Self = Self(5);
    /// It has ended, and uses nothing of the other's any more.
    pub const CLOSED: Self = Self(6);
    /// It changes.
    pub const RECONFIGURING: Self = Self(7);
    /// It has changed.
    pub const RECONFIGURED: Self = Self(8);
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::UNKNOWN => "unknown",
            Self::INITIALISING => "initialising",
            Self::INIT_WAIT => "waiting for the other",
            Self::INITIALISED => "initialised",
            Self::CONNECTED => "connected",
            Self::CLOSING => "closing",
            Self::CLOSED => "closed",
            Self::RECONFIGURING => "reconfiguring",
            Self::RECONFIGURED => "reconfigured",
            Self(other) => return write!(f, "state {other}"),
        })
    }
}
