//! Floor 2: memory. Frames, the page tables that map them, and the heap on top; pages that are owned, windows
//! for pages that are not ours, and views of memory that is shared.

pub mod frames;
pub mod heap;
pub mod layout;
pub mod page;
pub mod page_tables;
pub mod ram;
pub mod shared;
pub mod shared_info;
pub mod windows;

pub use page::Page;
pub use shared::{SharedBytes, SharedReader};

use core::ops::Range;

use spin::Once;

use crate::abi::Gfn;
use crate::sync::IrqMutex;
use frames::Frames;
use page_tables::{Identity, PageTables};
use windows::Windows;

/// All memory of the domain: what is free, and what is mapped.
#[derive(Debug)]
pub struct Memory {
    /// The frames.
    pub frames: Frames,
    /// The page tables in use.
    pub tables: PageTables<Identity>,
}

static MEMORY: Once<IrqMutex<Memory>> = Once::new();
static WINDOWS_AT: Once<Option<Range<u64>>> = Once::new();
static WINDOWS: Once<Windows> = Once::new();

/// Makes `memory` the one that the heap grows from, and `windows` the addresses of windows. The first call counts.
///
/// # Safety
///
/// `memory` is all of the domain's, its tables are in use, and `windows` is mapped in them, is no RAM, and is used for
/// nothing else.
pub unsafe fn adopt(memory: Memory, windows: Option<Range<u64>>) {
    MEMORY.call_once(|| IrqMutex::new(memory));
    WINDOWS_AT.call_once(|| windows);
}

/// The domain's windows; nothing before src/start has found a place for them, or where there is none.
pub fn windows() -> Option<&'static Windows> {
    let range = WINDOWS_AT.get()?.clone()?;
    // SAFETY: the word of who called `adopt`; they are used through this alone.
    Some(WINDOWS.call_once(|| unsafe { Windows::new(range) }))
}

/// The domain's memory, once src/start has set it up. The heap takes this lock when it grows: hold it for
/// no allocation.
pub fn memory() -> Option<&'static IrqMutex<Memory>> {
    MEMORY.get()
}

/// The frame at an address of this program's: by the page tables, and on the host, where the fake's frames are addresses
/// of the process, by the address itself.
pub fn frame_at(address: u64) -> Option<Gfn> {
    if !cfg!(granite_guest) {
        return Some(Gfn::containing(address));
    }
    let mapped = memory()?.with(|memory| memory.tables.lookup(address))?;
    Some(Gfn::containing(mapped.physical))
}
