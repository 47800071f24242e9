//! The entries of a grant table, in memory shared by the domain and Xen. Xen may change a live entry's flags at
//! any time, so only atomic accesses may touch the entry. These structures document the layout of its words.

use crate::abi::{DomId, assert_layout};

use super::GrantRef;

bitflags::bitflags! {
    /// The first half-word of an entry: its type (the two lowest bits), access rights and current use.
    ///
    /// Bits 2 and 3 have one meaning for a granted page and another for an offered slot.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct EntryFlags: u16 {
        /// Type: a page that the peer named in the entry may map and copy. With neither type bit set, the entry is
        /// unused.
        #[doc(alias = "GTF_permit_access")]
        const PERMIT_ACCESS = 1;
        /// Type: a slot for a page that the peer transfers.
        #[doc(alias = "GTF_accept_transfer")]
        const ACCEPT_TRANSFER = 2;
        /// Mask of the two type bits. If both bits are set, the entry passes on a grant of a third domain (version 2).
        #[doc(alias = "GTF_type_mask")]
        #[doc(alias = "GTF_transitive")]
        const TYPE_MASK = 3;

        /// The page is read-only for the peer. Written by us.
        #[doc(alias = "GTF_readonly")]
        const READONLY = 1 << 2;
        /// The page is mapped or being copied, for reading. Written by Xen.
        #[doc(alias = "GTF_reading")]
        const READING = 1 << 3;
        /// The page is mapped or being copied, for writing. Written by Xen.
        #[doc(alias = "GTF_writing")]
        const WRITING = 1 << 4;
        /// Cache attribute: write-through. Written by us.
        #[doc(alias = "GTF_PWT")]
        const PWT = 1 << 5;
        /// Cache attribute: uncached. Written by us.
        #[doc(alias = "GTF_PCD")]
        const PCD = 1 << 6;
        /// Cache attribute: the third bit of the index into the PAT. Written by us.
        #[doc(alias = "GTF_PAT")]
        const PAT = 1 << 7;
        /// The entry grants only a part of the page (version 2). Written by us.
        #[doc(alias = "GTF_sub_page")]
        const SUB_PAGE = 1 << 8;

        /// For an offered slot: a transfer is under way, and the entry must not be changed. Written by Xen.
        #[doc(alias = "GTF_transfer_committed")]
        const TRANSFER_COMMITTED = 1 << 2;
        /// For an offered slot: the page has arrived, and `frame` is its number. Written by Xen.
        #[doc(alias = "GTF_transfer_completed")]
        const TRANSFER_COMPLETED = 1 << 3;

        const _ = !0;
    }
}

impl EntryFlags {
    /// An unused entry.
    #[doc(alias = "GTF_invalid")]
    pub const INVALID: Self = Self::empty();

    /// Returns the type bits alone.
    pub const fn entry_type(self) -> Self {
        self.intersection(Self::TYPE_MASK)
    }

    /// Returns whether a domain has the page mapped or is copying it.
    pub const fn in_use(self) -> bool {
        self.intersects(Self::READING.union(Self::WRITING))
    }
}

/// A version 1 entry: a 32-bit frame number, whole pages only.
#[doc(alias = "grant_entry")]
#[doc(alias = "grant_entry_v1")]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))] // flags and domid are one word, which Xen compares and exchanges
pub struct EntryV1 {
    /// Type, rights and use: [`EntryFlags`].
    pub flags: u16,
    /// The domain allowed to use the entry.
    pub domid: DomId,
    /// The granted frame, or the offered slot.
    pub frame: u32,
}
assert_layout!(EntryV1, size = 8, align = 4, { flags: 0, domid: 2, frame: 4 });

/// The header of every version 2 entry.
#[doc(alias = "grant_entry_header")]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub struct EntryHeader {
    /// Type and rights. The separate status word has the use bits.
    pub flags: u16,
    /// The domain allowed to use the entry.
    pub domid: DomId,
}
assert_layout!(EntryHeader, size = 4, align = 4, { flags: 0, domid: 2 });

/// A version 2 entry for a whole page, or a slot.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FullPage {
    /// Type and rights.
    pub header: EntryHeader,
    /// Zero.
    pub pad: u32,
    /// The frame.
    pub frame: u64,
}
assert_layout!(FullPage, size = 16, align = 8, { header: 0, pad: 4, frame: 8 });

/// A version 2 entry for a part of a page: it can be copied but not mapped.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SubPage {
    /// Type and rights, with [`EntryFlags::SUB_PAGE`].
    pub header: EntryHeader,
    /// Offset of the first byte in the page.
    pub page_off: u16,
    /// Length in bytes.
    pub length: u16,
    /// The frame.
    pub frame: u64,
}
assert_layout!(SubPage, size = 16, align = 8, { header: 0, page_off: 4, length: 6, frame: 8 });

/// A version 2 entry passing on a grant received from another domain.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Transitive {
    /// Type and rights.
    pub header: EntryHeader,
    /// The domain granting us the page.
    pub trans_domid: DomId,
    /// Zero.
    pub pad: u16,
    /// The reference in that domain's table.
    pub gref: GrantRef,
    /// Padding up to the size of an entry.
    pub spacer: u32,
}
assert_layout!(Transitive, size = 16, align = 4, { header: 0, trans_domid: 4, pad: 6, gref: 8, spacer: 12 });

/// A version 2 entry.
#[doc(alias = "grant_entry_v2")]
#[derive(Clone, Copy)]
#[repr(C)]
pub union EntryV2 {
    /// The header, common to all three variants.
    pub header: EntryHeader,
    /// A whole page, or a slot.
    pub full_page: FullPage,
    /// A part of a page.
    pub sub_page: SubPage,
    /// A third domain's grant, passed on.
    pub transitive: Transitive,
}
assert_layout!(EntryV2, size = 16, align = 8, { header: 0, full_page: 0, sub_page: 0, transitive: 0 });

impl core::fmt::Debug for EntryV2 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EntryV2").finish_non_exhaustive()
    }
}

/// The status word of a version 2 entry: [`EntryFlags::READING`] and [`EntryFlags::WRITING`], written by Xen.
#[doc(alias = "grant_status_t")]
pub type EntryStatus = u16;

#[cfg(test)]
mod tests {
    use super::EntryFlags;

    #[test]
    fn types_and_use_are_read_apart_from_the_rest() {
        let granted = EntryFlags::PERMIT_ACCESS | EntryFlags::READONLY | EntryFlags::READING;
        assert_eq!(granted.entry_type(), EntryFlags::PERMIT_ACCESS);
        assert!(granted.in_use() && !EntryFlags::PERMIT_ACCESS.in_use());
        assert_eq!(EntryFlags::INVALID.entry_type(), EntryFlags::empty());
        assert_eq!(EntryFlags::from_bits_retain(0xffff).bits(), 0xffff, "unknown bits are kept");
    }
}
