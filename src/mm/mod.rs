//! Layer 2: memory. Frames, the page tables that map them, and the heap on top; pages that are owned, windows
//! for pages that are not ours, and views of memory that is shared.

pub mod frames;
mod guest;
pub mod heap;
mod large;
pub(crate) mod layout;
pub mod page;
pub mod page_tables;
pub(crate) mod ram;
pub mod shared;
pub mod shared_info;
pub mod windows;

pub use guest::Guest;
pub use page::Page;
pub use shared::{SharedBytes, SharedReader};

use core::ops::Range;

use spin::Once;

use crate::abi::Gfn;
use crate::sync::IrqMutex;
use frames::Frames;
use layout::{Access, Mapping};
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

/// Makes `memory` the one that the heap grows from, and `windows` the addresses of windows, which are mapped when the first
/// of them is wanted. The first call counts.
///
/// # Safety
///
/// `memory` is all of the domain's, its tables are in use, and `windows` is not mapped in them, is no RAM, and is used for
/// nothing else.
pub(crate) unsafe fn adopt(memory: Memory, windows: Option<Range<u64>>) {
    MEMORY.call_once(|| IrqMutex::new(memory));
    WINDOWS_AT.call_once(|| windows);
}

/// The domain's windows. `None` before src/start has found a place for them, if there is none, or without memory for them.
pub fn windows() -> Option<&'static Windows> {
    let range = WINDOWS_AT.get()?.clone()?;
    let make = || {
        let mapping = Mapping { range: range.clone(), access: Access::ReadWrite };
        // SAFETY: the memory map names nothing there: what will be placed there is data.
        let map = |Memory { frames, tables }: &mut Memory| unsafe { tables.map_identity(&mapping, frames) };
        memory().ok_or(())?.with(map).map_err(|_| ())?;
        // SAFETY: the word of who called `adopt`; they are mapped now, and used through this alone.
        let windows = unsafe { Windows::try_new(range.clone()) }.ok_or(())?;
        shared_info::reserve(&windows);
        Ok::<_, ()>(windows)
    };
    WINDOWS.try_call_once(make).ok()
}

/// The domain's memory, once src/start has set it up. The heap takes this lock when it grows: hold it for
/// no allocation.
pub fn memory() -> Option<&'static IrqMutex<Memory>> {
    MEMORY.get()
}

/// The frame at an address of this program's: by the page tables, and on the host, where the fake's frames are addresses
/// of the process, by the address itself.
pub(crate) fn frame_at(address: u64) -> Option<Gfn> {
    if !cfg!(granite_guest) {
        return Some(Gfn::containing(address));
    }
    let mapped = memory()?.with(|memory| memory.tables.lookup(address))?;
    Some(Gfn::containing(mapped.physical))
}
