//! The top, with `rt` and `start`: a pair of domains. A control domain, the [`Parent`], starts a second one from an
//! image of the same kind. The [`Child`] finds its parent by its command line. They share one page, a [`Link`]: it
//! holds one message at a time in each direction, and an event channel notifies the peer.
//!
//! `examples/pair.rs` shows both sides.

mod child;
mod connector;
mod link;
mod parent;

pub use child::Child;
pub use connector::{LinkConnector, Post};
pub use link::{Link, LinkError, TO_CHILD, TO_PARENT};
pub use parent::{ChildEnd, Parent};

use crate::event::EventError;
use crate::grant::GrantError;
use crate::rt::ExitCode;
use crate::toolstack::ToolstackError;

/// The command-line option by which the child finds its parent: `pair=DOMAIN,REFERENCE,PORT`.
pub const OPTION: &str = "pair";

/// The reason why a pair of domains doesn't connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// The child can't be started or queried.
    #[error(transparent)]
    Toolstack(#[from] ToolstackError),
    /// The page can't be shared.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// There is no event channel between the two.
    #[error(transparent)]
    Event(#[from] EventError),
    /// There is no memory for the page.
    #[error("no memory for a page to share")]
    OutOfMemory,
    /// The command line has no valid address of the parent.
    #[error("the option {OPTION}=DOMAIN,REFERENCE,PORT doesn't name a parent")]
    NoParent,
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl PairError {
    /// Returns the exit code for this error, of the domain meeting it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Link(LinkError::Gone) => ExitCode::CHILD_CRASHED,
            Self::Link(LinkError::TimedOut) => ExitCode::CHILD_TIMED_OUT,
            _ => ExitCode::FAILURE,
        }
    }
}
