//! The seam of drivers: what they need of the guest that they run in.

use super::page::Page;
#[cfg(not(granite_guest))]
use crate::hypercall::fake::FakeXen;
use crate::hypercall::{Hypercall, Xen};

/// A guest: hypercalls, by which it grants and maps and has event channels, and pages of its own. [`Xen`] is the one that
/// this code runs in; on the host each domain of the fake's is one.
pub trait Guest: Hypercall + Copy + 'static {
    /// A page of zeros; `None` if no memory is free.
    fn page(&self) -> Option<Page>;
}

impl Guest for Xen {
    fn page(&self) -> Option<Page> {
        Page::zeroed()
    }
}

#[cfg(not(granite_guest))]
impl Guest for &'static FakeXen {
    fn page(&self) -> Option<Page> {
        let [ram, _] = self.machine().layout(self.dom_id());
        super::page::zeroed_in(&ram)
    }
}
