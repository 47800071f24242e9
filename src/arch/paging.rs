//! The page-table register.

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Switches to the page tables rooted at `root`.
///
/// # Safety
///
/// The tables must map everything the running code still uses, with the same rights or more: its code, its stack, and
/// the tables themselves if they will be changed. They must stay in place while they are in use.
pub(crate) unsafe fn activate(root: PhysFrame) {
    // SAFETY: the caller guarantees the tables.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// Returns the end of the processor's physical address space: the first address it doesn't have.
pub fn physical_limit() -> u64 {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    let highest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    let bits =
        if highest >= ADDRESS_SIZES { core::arch::x86_64::__cpuid(ADDRESS_SIZES).eax & 0xff } else { 36 };
    1 << bits.clamp(32, 52)
}
