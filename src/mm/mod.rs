//! Floor 2: memory. Frames, the page tables that map them, and the heap on top; pages that are owned, windows
//! for pages that are not ours, and views of memory that is shared.

pub mod frames;
pub mod heap;
pub mod layout;
pub mod page;
pub mod page_tables;
pub mod ram;
pub mod shared;
pub mod windows;

pub use page::Page;
pub use shared::{SharedBytes, SharedReader};

use spin::Once;

use crate::sync::IrqMutex;
use frames::Frames;
use page_tables::{Identity, PageTables};

/// All memory of the domain: what is free, and what is mapped.
#[derive(Debug)]
pub struct Memory {
    /// The frames.
    pub frames: Frames,
    /// The page tables in use.
    pub tables: PageTables<Identity>,
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
