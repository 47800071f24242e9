//! The grant table's interface. Source: `xen/include/public/grant_table.h`.
//!
//! [`entry`] has the layout of the table shared with Xen, [`op`] the hypercall's operations and their arguments, and
//! [`status`] the results. Most names are the header's without their prefixes. The documentation's search also finds
//! the header's own names.

pub mod entry;
pub mod op;
pub mod status;

pub use entry::{EntryFlags, EntryV1, EntryV2};
pub use status::Status;

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A grant reference: the index of an entry in a domain's grant table.
#[doc(alias = "grant_ref_t")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct GrantRef(pub u32);

impl GrantRef {
    /// The first reference available to the domain. Those below it belong to the toolstack and are never allocated.
    #[doc(alias = "GNTTAB_NR_RESERVED_ENTRIES")]
    pub const FIRST_FREE: Self = Self(8);
    /// The console ring, granted by the toolstack.
    #[doc(alias = "GNTTAB_RESERVED_CONSOLE")]
    pub const CONSOLE: Self = Self(0);
    /// The xenstore ring, granted by the toolstack.
    #[doc(alias = "GNTTAB_RESERVED_XENSTORE")]
    pub const XENSTORE: Self = Self(1);

    /// Returns whether the reference belongs to the toolstack.
    pub const fn is_reserved(self) -> bool {
        self.0 < Self::FIRST_FREE.0
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant {}", self.0)
    }
}

/// The handle of a mapped grant, valid until it is unmapped.
#[doc(alias = "grant_handle_t")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct GrantHandle(pub u32);
