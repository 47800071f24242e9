//! Layer 2: memory. Frames, the page tables that map them, and the heap on top; pages with an owner, windows for
//! foreign pages, and views of shared memory.

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
pub(crate) mod toolstack_page;
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

/// All memory of the domain: its free frames and its mappings.
#[derive(Debug)]
pub struct Memory {
    /// The frame allocator.
    pub frames: Frames,
    /// The page tables in use.
    pub tables: PageTables<Identity>,
}

static MEMORY: Once<IrqMutex<Memory>> = Once::new();
static WINDOWS_AT: Once<Option<Range<u64>>> = Once::new();
static WINDOWS: Once<Windows> = Once::new();

/// Makes `memory` the source of the heap, and `windows` the addresses of the windows. These are mapped when the first
/// window is needed. Only the first call has an effect.
///
/// # Safety
///
/// `memory` must be all memory of the domain, and its tables must be in use. `windows` must not be mapped in them,
/// must not be RAM, and must have no other use.
pub(crate) unsafe fn adopt(memory: Memory, windows: Option<Range<u64>>) {
    MEMORY.call_once(|| IrqMutex::new(memory));
    WINDOWS_AT.call_once(|| windows);
}

/// Returns the domain's windows, or `None` before src/start has found a place for them, if there is none, or if there
/// is no memory for them.
pub fn windows() -> Option<&'static Windows> {
    let range = WINDOWS_AT.get()?.clone()?;
    let make = || {
        let mapping = Mapping { range: range.clone(), access: Access::ReadWrite };
        // SAFETY: the memory map has no entry there, and only data will be placed there.
        let map = |Memory { frames, tables }: &mut Memory| unsafe { tables.map_identity(&mapping, frames) };
        memory().ok_or(())?.with(map).map_err(|_| ())?;
        // SAFETY: guaranteed by `adopt`'s caller; the addresses are mapped now, and used only through these windows.
        let windows = unsafe { Windows::try_new(range.clone()) }.ok_or(())?;
        shared_info::reserve(&windows);
        Ok::<_, ()>(windows)
    };
    WINDOWS.try_call_once(make).ok()
}

/// Returns the domain's memory, once src/start has set it up. The heap takes this lock when it grows: don't allocate
/// while holding it.
pub fn memory() -> Option<&'static IrqMutex<Memory>> {
    MEMORY.get()
}

/// Returns the frame at an address of this program: from the page tables, or on the host, where the fake's frames are
/// addresses of the process, from the address itself.
pub(crate) fn frame_at(address: u64) -> Option<Gfn> {
    if !cfg!(granite_guest) {
        return Some(Gfn::containing(address));
    }
    let mapped = memory()?.with(|memory| memory.tables.lookup(address))?;
    Some(Gfn::containing(mapped.physical))
}
