//! A block device between two domains, as in Xen's `io/blkif.h`: a front end reads and writes, and a back end serves
//! a disk.
//!
//! The data is in pages of the front end, and requests carry references to them. The back end accesses them in one of
//! three ways ([`DataPath`]): it *maps* each page while it uses it; it has Xen *copy*; or it keeps *persistent*
//! mappings of pages reused by the front end. The front end always owns its pages: data read for a caller is copied
//! out of them after the back end has finished.
//!
//! All input from the peer is validated before it is used. A request that can't be served gets a response with a
//! reason; a peer that breaks the protocol ends the connection.

mod back;
mod batch;
mod bounce;
mod connect;
mod disk;
mod error;
mod front;
mod limits;
mod persistent;
mod queue;
mod storage;
#[cfg(feature = "embassy")]
mod task;

pub use back::{Back, BackStats, DataPath};
pub use connect::{BlockBack, BlockFront, MAX_RING_ORDER, Offer, connect_back, connect_front};
pub use disk::{Disk, DiskError, ImageDisk, RamDisk};
pub use error::BlockError;
pub use front::Front;
pub use limits::{FrontStats, Geometry, Limits};

pub use granite_core::abi::blkif::SECTOR;
pub use granite_core::block::{Blkif, Refusal, ValidRequest, validate};

/// Returns the CRC-32 of a sector, as in a [checksum](crate::abi::blkif::Operation::CHECKSUM) request.
pub fn checksum(sector: &[u8]) -> u32 {
    crc32fast::hash(sector)
}
