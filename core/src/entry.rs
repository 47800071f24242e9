//! One entry of the grant table, and the protocols of Xen's `grant_table.h` on it. Xen may change a live entry at any
//! time, so every access is atomic. Ending a grant, or making it read-only, is a compare-and-exchange in version 1,
//! repeated if the entry has changed. In version 2 it is a store, a fence and then a look at the status word.
//!
//! Flags and domain are one word here, as in Xen's own compare-and-exchange. So one store publishes both together, and
//! one operation revokes both.

use crate::abi::grant::{EntryFlags, GrantRef};
use crate::abi::{DomId, Gfn};
use crate::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// An entry of a live table.
#[derive(Clone, Copy)]
pub enum Entry<'t> {
    /// Version 1: the flags show use by the peer.
    V1 {
        /// Flags in the low half, the domain in the high.
        word: &'t AtomicU32,
        /// The frame.
        frame: &'t AtomicU32,
    },
    /// Version 2: a separate status word shows use by the peer.
    V2 {
        /// Flags in the low half, the domain in the high.
        word: &'t AtomicU32,
        /// For a part of a page: its offset in the low half, its length in the high.
        part: &'t AtomicU32,
        /// The frame.
        frame: &'t AtomicU64,
        /// Current use: [`EntryFlags::READING`] and [`EntryFlags::WRITING`].
        status: &'t AtomicU16,
    },
}

/// The reason why a version 1 entry can't hold a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The frame's number has more than 32 bits.
    Frame(Gfn),
    /// Only version 2 grants parts of pages.
    Version,
}

/// The content of an entry beside flags and domain. Transitive grants (`GTF_transitive`), which pass on another
/// domain's grant, are not supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A whole page, or a slot to receive one.
    Frame(Gfn),
    /// A part of a page (version 2).
    Part {
        /// The page.
        frame: Gfn,
        /// First byte.
        offset: u16,
        /// Number of bytes.
        length: u16,
    },
}

/// An entry as it was when read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Its flags, and its use by the peer.
    pub flags: EntryFlags,
    /// The domain allowed to use it.
    pub domain: DomId,
    /// The frame granted, or received by a transfer.
    pub frame: Gfn,
}

/// Returns the first word of an entry.
const fn word_of(flags: EntryFlags, domain: DomId) -> u32 {
    (domain.0 as u32) << 16 | flags.bits() as u32
}

const fn flags_in(word: u32) -> EntryFlags {
    EntryFlags::from_bits_retain(word as u16)
}

impl<'t> Entry<'t> {
    #[inline]
    fn word(self) -> &'t AtomicU32 {
        match self {
            Self::V1 { word, .. } | Self::V2 { word, .. } => word,
        }
    }

    /// Returns the current flags and use.
    #[inline]
    pub fn flags(self) -> EntryFlags {
        // Acquire: pairs with Xen's write of the flags, so the frame of a completed transfer is visible after this.
        let flags = flags_in(self.word().load(Ordering::Acquire));
        match self {
            Self::V1 { .. } => flags,
            Self::V2 { status, .. } => flags | EntryFlags::from_bits_retain(status.load(Ordering::Acquire)),
        }
    }

    /// Reads flags, domain and frame, one after the other.
    pub fn snapshot(self) -> Snapshot {
        Snapshot { flags: self.flags(), domain: self.domain(), frame: self.frame() }
    }

    /// Returns the domain allowed to use it.
    pub fn domain(self) -> DomId {
        DomId((self.word().load(Ordering::Relaxed) >> 16) as u16)
    }

    /// Returns the frame granted, or received by a transfer.
    pub fn frame(self) -> Gfn {
        match self {
            Self::V1 { frame, .. } => Gfn(frame.load(Ordering::Relaxed).into()),
            Self::V2 { frame, .. } => Gfn(frame.load(Ordering::Relaxed)),
        }
    }

    /// Records in an invalid entry that its reference must not be reused before another grant is out of use. Stores the
    /// other grant's reference as the frame.
    pub fn wait_for(self, other: GrantRef) {
        match self {
            Self::V1 { frame, .. } => frame.store(other.0, Ordering::Relaxed),
            Self::V2 { frame, .. } => frame.store(other.0.into(), Ordering::Relaxed),
        }
    }

    /// Returns the peer's current use of the granted page: [`EntryFlags::READING`], [`EntryFlags::WRITING`], both or
    /// neither. It may change at any moment after this.
    pub fn use_of(self) -> EntryFlags {
        self.flags() & (EntryFlags::READING | EntryFlags::WRITING)
    }

    /// Publishes a valid entry: first the payload, then flags and domain in one store, which makes it valid.
    ///
    /// # Errors
    ///
    /// [`Unfit::Frame`] or [`Unfit::Version`] if a version 1 entry can't hold the payload. The entry is unchanged.
    #[inline]
    pub fn publish(self, flags: EntryFlags, domain: DomId, payload: Payload) -> Result<(), Unfit> {
        match (self, payload) {
            (Self::V1 { frame, .. }, Payload::Frame(gfn)) => {
                frame.store(u32::try_from(gfn.0).map_err(|_| Unfit::Frame(gfn))?, Ordering::Relaxed);
            }
            (Self::V1 { .. }, _) => return Err(Unfit::Version),
            (Self::V2 { part, frame, .. }, Payload::Frame(gfn)) => {
                part.store(0, Ordering::Relaxed);
                frame.store(gfn.0, Ordering::Relaxed);
            }
            (Self::V2 { part, frame, .. }, Payload::Part { frame: gfn, offset, length }) => {
                part.store(u32::from(length) << 16 | u32::from(offset), Ordering::Relaxed);
                frame.store(gfn.0, Ordering::Relaxed);
            }
        }
        // Release, the header's WMB: pairs with Xen's read of the flags. A reader of the valid flags also sees the
        // frame, and the page's contents from before the grant.
        self.word().store(word_of(flags, domain), Ordering::Release); // publish
        Ok(())
    }

    /// Invalidates a `GTF_permit_access` entry that isn't in use.
    ///
    /// # Errors
    ///
    /// The flags, if it is in use. The entry then grants the same as before.
    #[inline]
    pub fn end_access(self) -> Result<(), EntryFlags> {
        // Acquire, here and below: pairs with Xen's release of the use. The peer's accesses come before our reuse of
        // the page.
        let mut word = self.word().load(Ordering::Acquire);
        let Self::V2 { status, .. } = self else {
            while !flags_in(word).in_use() {
                let ended = self.word().compare_exchange_weak(
                    word,
                    0,
                    Ordering::Acquire, // end_access
                    Ordering::Acquire,
                );
                match ended {
                    Ok(_) => return Ok(()),
                    Err(now) => word = now,
                }
            }
            return Err(flags_in(word));
        };
        let used = || {
            Some(EntryFlags::from_bits_retain(status.load(Ordering::Acquire))).filter(|use_| use_.in_use())
        };
        if let Some(in_use) = used() {
            return Err(flags_in(word) | in_use);
        }
        // Only we write this word; Xen writes the status. Xen marks the use and then reads the flags again.
        self.word().store(0, Ordering::Relaxed);
        // Pairs with Xen's barrier between the two: either Xen sees the entry ended, or we see the use.
        fence(Ordering::SeqCst); // end_access, version 2
        match used() {
            None => Ok(()),
            Some(in_use) => {
                self.word().store(word, Ordering::Release); // end_access, version 2: restored
                Err(flags_in(word) | in_use)
            }
        }
    }

    /// Makes a writable `GTF_permit_access` entry read-only, unless the peer is writing.
    ///
    /// # Errors
    ///
    /// The flags, if the page is in use for writing. The entry then stays writable.
    #[inline]
    pub fn make_readonly(self) -> Result<(), EntryFlags> {
        let mut word = self.word().load(Ordering::Acquire);
        let readonly = u32::from(EntryFlags::READONLY.bits());
        let Self::V2 { status, .. } = self else {
            while !flags_in(word).contains(EntryFlags::WRITING) {
                let made = self.word().compare_exchange_weak(
                    word,
                    word | readonly,
                    Ordering::Acquire, // make_readonly: pairs with Xen's release of the use, as in end_access
                    Ordering::Acquire,
                );
                match made {
                    Ok(_) => return Ok(()),
                    Err(now) => word = now,
                }
            }
            return Err(flags_in(word));
        };
        let writing = || EntryFlags::from_bits_retain(status.load(Ordering::Acquire)) & EntryFlags::WRITING;
        self.word().store(word | readonly, Ordering::Relaxed);
        // As in `end_access`: either Xen sees the entry read-only, or we see the use for writing.
        fence(Ordering::SeqCst); // make_readonly, version 2
        if writing().is_empty() {
            return Ok(());
        }
        self.word().store(word, Ordering::Release); // make_readonly, version 2: restored
        Err(flags_in(word) | writing())
    }

    /// Makes a read-only `GTF_permit_access` entry writable.
    #[inline]
    pub fn make_writable(self) {
        // Release: pairs with Xen's read of the flags. A peer writing to the page sees our earlier writes.
        self.word().fetch_and(!u32::from(EntryFlags::READONLY.bits()), Ordering::Release); // make_writable
    }

    /// Withdraws a `GTF_accept_transfer` entry before a transfer is committed to it.
    ///
    /// # Errors
    ///
    /// The flags, if a transfer is committed or complete. Leave the entry alone until the transfer is complete.
    pub fn withdraw(self) -> Result<(), EntryFlags> {
        let mut word = self.word().load(Ordering::Acquire);
        while !flags_in(word).contains(EntryFlags::TRANSFER_COMMITTED) {
            // Acquire: pairs with Xen's write of the flags.
            let withdrawn = self.word().compare_exchange_weak(
                word,
                0,
                Ordering::Acquire, // withdraw
                Ordering::Acquire,
            );
            match withdrawn {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(flags_in(word))
    }

    /// Clears an entry after a completed transfer; Xen is done with it.
    pub fn clear(self) {
        self.word().store(0, Ordering::Relaxed);
    }
}

impl core::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} for domain {}, {}", self.flags(), self.domain(), self.frame())
    }
}
