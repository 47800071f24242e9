//! Errors of a block device.

use crate::abi::blkif::Status;
use crate::driver::connector::ConnectError;
use crate::event::EventError;
use crate::grant::GrantError;
use crate::ring::{PeerBroke, RingError};

/// Why a block operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The back end refused a request.
    #[error("the back end refused: {0}")]
    Refused(Status),
    /// The back end didn't respond before the deadline.
    #[error("the back end did not respond before the deadline")]
    TimedOut,
    /// The back end has gone away.
    #[error("the back end has gone away")]
    Gone,
    /// The ring can't be used, or the peer broke it.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The back end responded but still uses a page. The front end sends it no more requests.
    #[error("the back end responded, but still uses a page")]
    StillInUse,
    /// A page can't be shared, mapped or copied.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The peer can't be notified.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The two ends can't connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The length isn't a multiple of the sector size.
    #[error("{bytes} bytes are not whole sectors of 512")]
    NotSectors {
        /// The length given.
        bytes: usize,
    },
    /// The range exceeds the disk.
    #[error("sectors {sector} to {} exceed a disk of {sectors}", sector.saturating_add(*count))]
    OutOfRange {
        /// The first sector.
        sector: u64,
        /// The number of sectors.
        count: u64,
        /// The number of sectors on the disk.
        sectors: u64,
    },
    /// The disk is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// There is no memory.
    #[error("no memory for pages to share")]
    OutOfMemory,
}

impl From<PeerBroke> for BlockError {
    fn from(broke: PeerBroke) -> Self {
        Self::Ring(RingError::Closed(broke))
    }
}
