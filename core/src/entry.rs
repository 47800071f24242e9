//! One entry of the table, and the header's protocols on it. Xen changes an entry at any time while it is
//! live, so every access is atomic, and every change of a live entry is a compare-and-exchange that looks
//! again.
//!
//! Flags and domain are one word here, as they are in Xen's own compare-and-exchange: a reference is
//! published, and revoked, for one domain at one moment.

use crate::abi::grant::{EntryFlags, GrantRef};
use crate::abi::{DomId, Gfn};
use crate::sync::primitive::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// An entry of a live table.
#[derive(Clone, Copy)]
pub enum Entry<'t> {
    /// Of version 1: use is told in the flags.
    V1 {
        /// Flags in the low half, the domain in the high.
        word: &'t AtomicU32,
        /// The frame.
        frame: &'t AtomicU32,
    },
    /// Of version 2: use is told in a status word elsewhere.
    V2 {
        /// Flags in the low half, the domain in the high.
        word: &'t AtomicU32,
        /// Offset in the low half and length in the high, of a part of a page.
        part: &'t AtomicU32,
        /// The frame.
        frame: &'t AtomicU64,
        /// Who uses it: [`EntryFlags::READING`] and [`EntryFlags::WRITING`].
        status: &'t AtomicU16,
    },
}

/// What a table of version 1 can't say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// The frame's number has more than 32 bits.
    Frame(Gfn),
    /// Only version 2 grants parts of pages.
    Version,
}

/// What an entry offers beside flags and domain. Another domain's grant is not among it: none is passed on
/// (`GTF_transitive`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A whole page; or the place for one.
    Frame(Gfn),
    /// A part of a page (version 2).
    Part {
        /// The page.
        frame: Gfn,
        /// First byte.
        offset: u16,
        /// Bytes.
        length: u16,
    },
}

/// An entry as it was when it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Its flags, and who used it.
    pub flags: EntryFlags,
    /// The domain that may use it.
    pub domain: DomId,
    /// The frame that it grants, or that came.
    pub frame: Gfn,
}

/// The word of an entry.
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

    /// Flags and use, as they are just now.
    #[inline]
    pub fn flags(self) -> EntryFlags {
        // Acquire: pairs with Xen's write of the flags: of a completed transfer, the frame is seen after this.
        let flags = flags_in(self.word().load(Ordering::Acquire));
        match self {
            Self::V1 { .. } => flags,
            Self::V2 { status, .. } => flags | EntryFlags::from_bits_retain(status.load(Ordering::Acquire)),
        }
    }

    /// Flags, domain and frame, read one after the other.
    pub fn snapshot(self) -> Snapshot {
        Snapshot { flags: self.flags(), domain: self.domain(), frame: self.frame() }
    }

    /// The domain that may use it.
    pub fn domain(self) -> DomId {
        DomId((self.word().load(Ordering::Relaxed) >> 16) as u16)
    }

    /// The frame that it grants, or that came.
    pub fn frame(self) -> Gfn {
        match self {
            Self::V1 { frame, .. } => Gfn(frame.load(Ordering::Relaxed).into()),
            Self::V2 { frame, .. } => Gfn(frame.load(Ordering::Relaxed)),
        }
    }

    /// Has an entry that grants nothing wait for the end of another's use: its frame is that reference's number then.
    pub fn wait_for(self, other: GrantRef) {
        match self {
            Self::V1 { frame, .. } => frame.store(other.0, Ordering::Relaxed),
            Self::V2 { frame, .. } => frame.store(other.0.into(), Ordering::Relaxed),
        }
    }

    /// Whether the peer uses what it grants, for reading or for writing. It may begin, or end, the next moment.
    pub fn use_of(self) -> EntryFlags {
        self.flags() & (EntryFlags::READING | EntryFlags::WRITING)
    }

    /// Introduces a valid entry: domain and payload first, the flags that make it valid last.
    ///
    /// # Errors
    ///
    /// [`Unfit`], and the entry is as it was.
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
        // Release, the header's WMB: pairs with Xen's read of the flags. Whoever sees the entry valid sees
        // its frame, and what the page held when it was granted.
        self.word().store(word_of(flags, domain), Ordering::Release); // publish
        Ok(())
    }

    /// Invalidates a `GTF_permit_access` entry that isn't in use.
    ///
    /// # Errors
    ///
    /// The flags, if it is in use: then it grants what it granted before.
    #[inline]
    pub fn end_access(self) -> Result<(), EntryFlags> {
        // Acquire, here and below: pairs with Xen's release of the use. What the peer did to the page is
        // done before the page is ours again.
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
        // Only we write this word; Xen writes the other. Xen marks the use and then reads the flags again.
        self.word().store(0, Ordering::Relaxed);
        // Pairs with Xen's barrier between the two: either it sees the entry ended, or we see the use.
        fence(Ordering::SeqCst); // end_access, version 2
        match used() {
            None => Ok(()),
            Some(in_use) => {
                self.word().store(word, Ordering::Release); // end_access, version 2: restored
                Err(flags_in(word) | in_use)
            }
        }
    }

    /// Makes a writable `GTF_permit_access` entry read-only, while nobody writes.
    ///
    /// # Errors
    ///
    /// The flags, if the page is in use for writing: then it is writable as before.
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
        // As in end_access: either Xen sees that it is read-only, or we see that it is written.
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
        // Release: pairs with Xen's read; what was written to the page before can be seen by who writes to it.
        self.word().fetch_and(!u32::from(EntryFlags::READONLY.bits()), Ordering::Release); // make_writable
    }

    /// Withdraws a `GTF_accept_transfer` entry that nobody is committed to.
    ///
    /// # Errors
    ///
    /// The flags, if a transfer is under way or has come: the entry must be left alone until it is completed.
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

    /// Clears an entry that Xen is done with: a completed transfer.
    pub fn clear(self) {
        self.word().store(0, Ordering::Relaxed);
    }
}

impl core::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} for domain {}, {}", self.flags(), self.domain(), self.frame())
    }
}
