//! Layer 10: bring-up, layer by layer, from the first instruction of Rust to the application's main function.

#[cfg(granite_guest)]
mod bring_up;
mod error;
#[cfg(granite_guest)]
mod memory;
mod reservation;

pub use error::StartError;

/// The end of the memory mapped by boot/entry.S: memory above it can't be used before our own page tables are in
/// place.
#[cfg(granite_guest)]
const BOOT_MAPPED: u64 = 4 << 30;
