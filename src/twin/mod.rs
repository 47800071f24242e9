//! The top, with `rt` and `start`: a pair of domains. A control domain, the [`Parent`], starts a second one from an
//! image of the same kind. The [`Child`] finds its parent by its command line. They share one page, a [`Link`]: it
//! holds one message at a time in each direction, and an event channel notifies the peer.
//!
//! `examples/twin.rs` shows both sides.

mod child;
mod connector;
mod link;
mod parent;

pub use child::Child;
pub use connector::{LinkConnector, Post};
pub use link::{Link, LinkError, TO_CHILD, TO_PARENT};
pub use parent::{ChildEnd, Parent};

use core::fmt;

use crate::event::EventError;
use crate::grant::GrantError;
use crate::rt::ExitCode;
use crate::toolstack::ToolstackError;

/// The command-line option by which the child finds its parent: `twin=DOMAIN,REFERENCE,PORT`.
pub const OPTION: &str = "twin";

/// The reason why a pair of domains doesn't connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TwinError {
    /// The child can't be started or queried.
    Toolstack(ToolstackError),
    /// The page can't be shared.
    Grant(GrantError),
    /// There is no event channel between the two.
    Event(EventError),
    /// There is no memory for the page.
    OutOfMemory,
    /// The command line has no valid address of the parent.
    NoParent,
    /// The link failed.
    Link(LinkError),
}

impl fmt::Display for TwinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toolstack(error) => error.fmt(f),
            Self::Grant(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::OutOfMemory => f.write_str("no memory for a page to share"),
            Self::NoParent => write!(f, "the option {OPTION}=DOMAIN,REFERENCE,PORT doesn't name a parent"),
            Self::Link(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TwinError {}

impl TwinError {
    /// Returns the exit code for this error, of the domain meeting it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Link(LinkError::Gone) => ExitCode::CHILD_CRASHED,
            Self::Link(LinkError::Silent) => ExitCode::CHILD_SILENT,
            _ => ExitCode::FAILURE,
        }
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for TwinError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from! { ToolstackError => Toolstack, GrantError => Grant, EventError => Event, LinkError => Link }
