//! Floor 2: memory. Frames, the address space that maps them, and the heap on top.

pub mod address_space;
pub mod frames;
pub mod heap;
pub mod layout;
pub mod ram;

use spin::Once;

use crate::sync::IrqMutex;
use address_space::{AddressSpace, Identity};
use frames::Frames;

/// All memory of the domain: what is free, and what is mapped.
#[derive(Debug)]
pub struct Memory {
    /// The frames.
    pub frames: Frames,
    /// The page tables in use.
    pub space: AddressSpace<Identity>,
}

static MEMORY: Once<IrqMutex<Memory>> = Once::new();

/// Makes `memory` the one that the heap grows from. The first call counts.
pub fn adopt(memory: Memory) {
    MEMORY.call_once(|| IrqMutex::new(memory));
}

/// The domain's memory, once src/start has set it up. The heap takes this lock when it grows: hold it for
/// no allocation.
pub fn memory() -> Option<&'static IrqMutex<Memory>> {
    MEMORY.get()
}
