//! Errors of a block device.

use core::fmt;

use crate::abi::blkif::Status;
use crate::driver::connector::ConnectError;
use crate::event::EventError;
use crate::grant::GrantError;
use crate::ring::{PeerBroke, RingError};

/// Why a block operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BlockError {
    /// The back end refused a request.
    Refused(Status),
    /// The back end didn't respond before the deadline.
    Silent,
    /// The back end has gone away.
    Gone,
    /// The ring can't be used, or the peer broke it.
    Ring(RingError),
    /// The back end responded but still uses a page. The front end sends it no more requests.
    StillInUse,
    /// A page can't be shared, mapped or copied.
    Grant(GrantError),
    /// The peer can't be notified.
    Event(EventError),
    /// The two ends can't connect.
    Connect(ConnectError),
    /// The length isn't a multiple of the sector size.
    NotSectors {
        /// The length given.
        bytes: usize,
    },
    /// The range exceeds the disk.
    OutOfRange {
        /// The first sector.
        sector: u64,
        /// The number of sectors.
        count: u64,
        /// The number of sectors on the disk.
        sectors: u64,
    },
    /// The disk is read-only.
    ReadOnly,
    /// There is no memory.
    OutOfMemory,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the back end refused: {status}"),
            Self::Silent => f.write_str("the back end did not answer before the deadline"),
            Self::Gone => f.write_str("the back end has gone away"),
            Self::Ring(error) => error.fmt(f),
            Self::StillInUse => f.write_str("the back end answered, and uses a page still"),
            Self::Grant(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::NotSectors { bytes } => write!(f, "{bytes} bytes are not whole sectors of 512"),
            Self::OutOfRange { sector, count, sectors } => {
                write!(f, "{count} sectors from {sector} on, of a disk of {sectors}")
            }
            Self::ReadOnly => f.write_str("the disk can't be written"),
            Self::OutOfMemory => f.write_str("no memory for pages to share"),
        }
    }
}

impl core::error::Error for BlockError {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for BlockError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from! { RingError => Ring, GrantError => Grant, EventError => Event, ConnectError => Connect }

impl From<PeerBroke> for BlockError {
    fn from(broke: PeerBroke) -> Self {
        Self::Ring(RingError::Closed(broke))
    }
}
