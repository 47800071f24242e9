//! The top, with `rt` and `start`: two domains that meet. A control domain, the [`Parent`], starts a second one from an
//! image of the same kind; the [`Child`] finds it by its command line. Between them lies one page, a [`Link`]: a message
//! at a time in each direction, and an event channel to say so.
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

/// The option by which the child finds its parent: `twin=DOMAIN,REFERENCE,PORT`.
pub const OPTION: &str = "twin";

/// Why two domains don't meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TwinError {
    /// The child can't be started, or asked.
    Toolstack(ToolstackError),
    /// The page can't be shared.
    Grant(GrantError),
    /// There are no events between the two.
    Event(EventError),
    /// There is no memory for the page.
    OutOfMemory,
    /// The command line doesn't say where the parent is.
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
    /// The status that says it, of the domain that meets it.
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
