//! Errors of grants.

use core::fmt;

use super::entry::Unfit;
use crate::abi::grant::op::Op;
use crate::abi::grant::{EntryFlags, GrantRef, Status};
use crate::abi::{DomId, XenErrno};
use crate::hypercall::grant::OpError;
use crate::mm::shared::OutOfBounds;
use crate::mm::windows::NoWindow;

/// The reason why a grant operation failed. Xen's answer is kept unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GrantError {
    /// Too few references are free, and the table can't grow (or can't grow now, in an interrupt handler). For a
    /// [`Reserve`](super::Reserve): all of its references are in use.
    Exhausted {
        /// The number of references in the table, or the quota of the reserve.
        references: u32,
    },
    /// Xen refused a grant operation.
    Op(OpError),
    /// Xen refused to place a frame of the table, or the memory given for a copy isn't mapped.
    Memory(XenErrno),
    /// The table's version can't express this grant.
    Unfit(Unfit),
    /// The peer uses the page, and the entry has these flags.
    Busy(EntryFlags),
    /// No page has come into the slot yet.
    NotTransferred,
    /// A page is in the slot or on its way there, so the slot can't be withdrawn.
    Committed,
    /// No addresses are free for a mapping.
    NoWindow(NoWindow),
    /// A part doesn't lie within its page, or a copy crosses the end of a page.
    OutOfBounds(OutOfBounds),
    /// The copy was not made yet and has no result.
    NotMade,
    /// Fewer than `count` consecutive references are free, and the table can't grow by the missing ones.
    NoRun {
        /// The number of references requested.
        count: u32,
    },
    /// The peer keeps so many of the pages granted to it that it gets no more.
    PeerKeepsPages {
        /// The peer.
        peer: DomId,
        /// The number of references in quarantine that wait for this peer. Some wait without a page: see
        /// [`Grant::end_access_after`](super::Grant::end_access_after).
        pages: u32,
    },
    /// The grant is the domain's own, and it may not map its own grants.
    OwnPage,
    /// There is no such version of grant tables; the valid ones are 1 and 2.
    NoVersion(u32),
    /// Memory for the bookkeeping is short.
    OutOfMemory,
}

impl GrantError {
    /// Returns Xen's status, if this error has one.
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Op(OpError::Status(_, status)) => Some(status),
            _ => None,
        }
    }

    /// Combines an element's status with the result of its call.
    pub(super) fn check(op: Op, call: Result<(), XenErrno>, status: Status) -> Result<(), Self> {
        OpError::check(op, call, status).map_err(Self::Op)
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { references } => write!(
                f,
                "too few of {references} references are free; give some back, or raise max_grant_frames of the domain"
            ),
            Self::Op(error) => error.fmt(f),
            Self::Memory(errno) => write!(f, "memory of the grant table: {errno}"),
            Self::Unfit(Unfit::Frame(gfn)) => {
                write!(f, "{gfn} has more than 32 bits; only a table of version 2 can grant it")
            }
            Self::Unfit(Unfit::Version) => f.write_str("only a table of version 2 can grant that"),
            Self::Busy(flags) if flags.contains(EntryFlags::WRITING) => {
                f.write_str("the page is in use: the peer reads and writes it")
            }
            Self::Busy(_) => f.write_str("the page is in use: the peer reads it"),
            Self::NotTransferred => f.write_str("no page has come into the slot yet"),
            Self::Committed => f.write_str("a page is on its way into the slot; wait for it"),
            Self::NoWindow(error) => error.fmt(f),
            Self::OutOfBounds(error) => error.fmt(f),
            Self::NotMade => f.write_str("the copy was not made yet"),
            Self::NoRun { count } => {
                write!(
                    f,
                    "no {count} consecutive grant references are free, and the table can't grow by so many"
                )
            }
            Self::PeerKeepsPages { peer, pages } => {
                write!(f, "domain {peer} keeps {pages} pages that were granted to it; it gets no more")
            }
            Self::OwnPage => f.write_str("a domain can't map a page of its own: it would lose the page"),
            Self::NoVersion(version) => write!(f, "grant table version {version}: it is 1 or 2"),
            Self::OutOfMemory => f.write_str("too little memory for the bookkeeping of grants"),
        }
    }
}

impl core::error::Error for GrantError {}

impl From<OpError> for GrantError {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<Unfit> for GrantError {
    fn from(error: Unfit) -> Self {
        Self::Unfit(error)
    }
}

impl From<OutOfBounds> for GrantError {
    fn from(error: OutOfBounds) -> Self {
        Self::OutOfBounds(error)
    }
}

impl<T> From<Failed<T>> for GrantError {
    fn from(failed: Failed<T>) -> Self {
        failed.error
    }
}

impl From<BatchError> for GrantError {
    fn from(failed: BatchError) -> Self {
        failed.error
    }
}

impl From<NoWindow> for GrantError {
    fn from(error: NoWindow) -> Self {
        Self::NoWindow(error)
    }
}

/// A failed operation's error, and the value it would have consumed.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Failed<T> {
    /// The reason.
    pub error: GrantError,
    /// The value passed to the operation.
    pub value: T,
}

impl<T> Failed<T> {
    /// Converts the value with `into`, and keeps the error.
    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Failed<U> {
        Failed { error: self.error, value: into(self.value) }
    }
}

impl<T> fmt::Debug for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Failed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> core::error::Error for Failed<T> {}

/// One element of a batch failed, so none of them took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchError {
    /// The index of the first failed element, from 0; 0 if the batch failed as a whole.
    pub index: usize,
    /// The reference named by this element.
    pub gref: GrantRef,
    /// The reason.
    pub error: GrantError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} of a batch, {}: {}", self.index, self.gref, self.error)
    }
}

impl core::error::Error for BatchError {}
