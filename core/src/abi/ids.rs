//! Xen's numbers for domains and frames.

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page, the unit of every grant, mapping and allocation.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// A domain's number. Source: `xen/include/public/xen.h`, `domid_t`.
#[doc(alias = "domid_t")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct DomId(pub u16);

impl DomId {
    /// The first domain, built by Xen itself.
    pub const CONTROL: Self = Self(0);
    /// The caller itself, in calls with a domain as argument.
    #[doc(alias = "DOMID_SELF")]
    pub const SELF: Self = Self(0x7ff0);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SELF => f.write_str("DOMID_SELF"),
            Self(id) => write!(f, "{id}"),
        }
    }
}

/// A guest frame number: a guest-physical address divided by [`PAGE_SIZE`].
#[doc(alias = "gfn")]
#[doc(alias = "xen_pfn_t")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Gfn(pub u64);

impl Gfn {
    /// Returns the frame of a guest-physical address.
    pub const fn containing(address: u64) -> Self {
        Self(address >> PAGE_SHIFT)
    }

    /// Returns the guest-physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

impl fmt::Display for Gfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gfn {:#x}", self.0)
    }
}
