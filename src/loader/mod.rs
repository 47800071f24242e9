//! Layer 3: the loader's information for a guest: the start info with its command line, modules and memory map. If
//! the loader gives no map, Xen is asked for it.

pub mod bundle;
mod memory_map;
mod options;
mod start_info;
#[cfg(test)]
mod start_info_tests;

pub(crate) use memory_map::{Found, NoMemoryMap, usable_ram};
pub use options::{BadOption, Options};
pub(crate) use start_info::{MAX_MAP, MAX_MODULES, PhysicalMemory, StartInfo, StartInfoError};
