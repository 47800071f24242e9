//! The states of a device's two ends. Source: `xen/include/public/io/xenbus.h`.

use core::fmt;

/// The state of one end's connection to the other.
#[doc(alias = "XenbusState")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct State(pub u32);

impl State {
    /// The state is unknown.
    pub const UNKNOWN: Self = Self(0);
    /// The end has started.
    pub const INITIALISING: Self = Self(1);
    /// The end is ready, and waits for the peer's details.
    pub const INIT_WAIT: Self = Self(2);
    /// The end has published its details.
    pub const INITIALISED: Self = Self(3);
    /// The end is in operation.
    pub const CONNECTED: Self = Self(4);
    /// The end asks to close the connection.
    pub const CLOSING: Self = Self(5);
    /// The end has closed, and uses no resource of the peer any more.
    pub const CLOSED: Self = Self(6);
    /// The end is changing its configuration.
    pub const RECONFIGURING: Self = Self(7);
    /// The end has changed its configuration.
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
