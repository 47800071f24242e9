//! The page-table register.

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Switches to the page tables rooted at `root`.
///
/// # Safety
///
/// The tables must map, with the same rights or more, everything that the running code still uses: its
/// code, its stack, and the tables themselves if they are to be changed. They must stay as long as they
/// are in use.
pub(crate) unsafe fn activate(root: PhysFrame) {
    // SAFETY: the caller vouches for the tables.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}
