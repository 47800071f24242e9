//! A block device between two domains, by Xen's `io/blkif.h`: a front end that reads and writes, and a back end that serves a
//! disk.
//!
//! Data goes by references to pages of the front's, and the back has three ways to them ([`DataPath`]): it *maps* each page
//! for as long as it uses it; it has Xen *copy*; or it keeps *persistent* mappings of pages that the front uses again and
//! again. The front end's pages are its own at all times: what a caller reads is copied out of them once the back is done.
//!
//! What the peer says is checked before it is used. A request that can't be served is answered, with a reason; a peer that
//! can't be right ends the connection.

mod back;
mod batch;
mod buffers;
mod client;
mod connect;
mod disk;
mod error;
mod front;
mod limits;
mod persistent;
mod storage;
#[cfg(feature = "embassy")]
mod task;

pub use back::{Back, DataPath, Served};
pub use connect::{BlockBack, BlockFront, MAX_RING_ORDER, Offer, connect_back, connect_front};
pub use disk::{Disk, DiskError, ImageDisk, RamDisk};
pub use error::BlockError;
pub use front::Front;
pub use limits::{Counts, Geometry, Limits};

pub use granite_core::abi::blkif::SECTOR;
pub use granite_core::block::{Blkif, Refusal, Work, check};

/// The CRC-32 of a sector, as a [checksum](crate::abi::blkif::Operation::CHECKSUM) says it.
pub fn checksum(sector: &[u8]) -> u32 {
    crc32fast::hash(sector)
}
