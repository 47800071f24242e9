//! Bring-up, floor by floor: from the first instruction of Rust to the application's main function.

mod error;
mod find_ram;
pub mod joined;
pub mod start_info;
#[cfg(test)]
mod start_info_tests;

#[cfg(granite_guest)]
mod bring_up;
#[cfg_attr(not(granite_guest), allow(dead_code, reason = "only its tests run on the host"))]
mod reservation;
#[cfg(granite_guest)]
mod take_over;

pub use error::StartError;
pub use find_ram::find_ram;

/// The end of what boot/entry.S maps: nothing above can be used before our own page tables are in place.
#[cfg(granite_guest)]
const BOOT_MAPPED: u64 = 4 << 30;
