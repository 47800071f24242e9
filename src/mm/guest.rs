//! The drivers' interface to the guest they run in.

use super::page::Page;
#[cfg(not(granite_guest))]
use crate::hypercall::fake::FakeXen;
use crate::hypercall::{Hypercall, Xen};

/// A guest: hypercalls, used to grant and map pages and for event channels, and pages of its own. [`Xen`] is the
/// guest running this code; on the host each domain of the fake Xen is one.
pub trait Guest: Hypercall + Copy + 'static {
    /// Allocates a page of zeros; returns `None` if no memory is free.
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
