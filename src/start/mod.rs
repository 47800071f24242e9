//! Floor 10: bring-up, floor by floor, from the first instruction of Rust to the application's main function.

#[cfg(granite_guest)]
mod bring_up;
mod error;
mod reservation;
#[cfg(granite_guest)]
mod take_over;

pub use error::StartError;

/// The end of what boot/entry.S maps: nothing above can be used before our own page tables are in place.
#[cfg(granite_guest)]
const BOOT_MAPPED: u64 = 4 << 30;
