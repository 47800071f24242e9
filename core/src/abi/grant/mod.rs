//! The grant table's interface. Source: `xen/include/public/grant_table.h`.
//!
//! [`entry`] is the table that a domain shares with Xen, [`op`] the hypercall's operations and their
//! arguments, [`status`] what comes back. Names are the header's without their prefixes; the header's own
//! find them in the documentation's search.

pub mod entry;
pub mod op;
pub mod status;

pub use entry::{EntryFlags, EntryV1, EntryV2};
pub use status::Status;

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A reference to an entry of some domain's grant table: the entry's index.
#[doc(alias = "grant_ref_t")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct GrantRef(pub u32);

impl GrantRef {
    /// References below this one belong to the toolstack and are never handed out.
    #[doc(alias = "GNTTAB_NR_RESERVED_ENTRIES")]
    pub const FIRST_FREE: Self = Self(8);
    /// The console's ring, granted by the toolstack.
    #[doc(alias = "GNTTAB_RESERVED_CONSOLE")]
    pub const CONSOLE: Self = Self(0);
    /// The xenstore's ring, granted by the toolstack.
    #[doc(alias = "GNTTAB_RESERVED_XENSTORE")]
    pub const XENSTORE: Self = Self(1);

    /// Whether the toolstack owns it.
    pub const fn is_reserved(self) -> bool {
        self.0 < Self::FIRST_FREE.0
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant {}", self.0)
    }
}

/// Names a mapping that was made through a grant, until it is unmapped.
#[doc(alias = "grant_handle_t")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct GrantHandle(pub u32);
