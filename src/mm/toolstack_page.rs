//! Pages made by the toolstack for the domain, outside its RAM: the console's, and xenstore's.

use super::{Memory, SharedBytes, WINDOWS_AT, memory, ram};
use crate::abi::{Gfn, PAGE_SIZE};
use crate::hypercall::{Hypercall, hvm};

/// Maps the page whose frame number is in a parameter of the domain, at its physical address. Returns `None` if the
/// toolstack made none, if its address is in use or beyond those of RAM, or if there is no memory for page tables.
pub fn map(xen: &impl Hypercall, parameter: u32) -> Option<SharedBytes<'static>> {
    let gfn = Gfn(hvm::param(xen, parameter).ok().filter(|gfn| (1..ram::LIMIT / PAGE_SIZE).contains(gfn))?);
    let windows = WINDOWS_AT.get().cloned().flatten();
    if windows.is_some_and(|windows| windows.contains(&gfn.address())) {
        return None;
    }
    // SAFETY: the parameter names a page made for this use, and the page stays for the domain's whole life. RAM and the
    // image are mapped already, and then this fails. Windows, the heap and the stacks are excluded above.
    let map = |Memory { frames, tables }: &mut Memory| unsafe { tables.map_page(gfn.address(), gfn, frames) };
    memory()?.with(map).ok()?;
    // SAFETY: the page is mapped above, never unmapped, and accessed only through this view: a second call fails.
    Some(unsafe { SharedBytes::new(gfn.address() as *mut u8, PAGE_SIZE as usize) })
}
