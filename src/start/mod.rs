//! Bring-up, floor by floor: from the first instruction of Rust to the application's main function.

pub mod start_info;
#[cfg(test)]
mod start_info_tests;

#[cfg(granite_guest)]
mod bring_up;
mod memory;

pub use memory::{StartError, find_ram};
