//! The table: what it has, and where an entry's words lie.

mod growth;
mod version;

pub use version::Version;

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use alloc::boxed::Box;

use super::GrantError;
use super::entry::Entry;
use super::freelist::{Freelist, OwnedRef};
use super::quarantine::Quarantine;
use crate::abi::DomId;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::hypercall::Hypercall;
use crate::hypercall::grant::{self as op, OpError};
use crate::mm::windows::{Window, Windows};
use crate::sync::primitive::{u16_at, u32_at, u64_at};
use growth::EMPTY;
use version::STATUS_PER_FRAME;

/// What a table is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The layout of the entries.
    pub version: Version,
    /// Frames to place at once.
    pub frames: u32,
    /// Frames to place at most; Xen may allow fewer.
    pub max_frames: u32,
    /// vCPUs that will allocate references.
    pub vcpus: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { version: Version::V1, frames: 1, max_frames: u32::MAX, vcpus: 1 }
    }
}

/// The domain's grant table.
pub struct GrantTable<X: Hypercall> {
    pub(super) xen: X,
    pub(super) windows: &'static Windows,
    version: Version,
    entries: Window,
    status: Option<Window>,
    max_frames: u32,
    /// Which frames are placed, entries' and status words'.
    placed: Box<[AtomicU8]>,
    status_placed: Box<[AtomicU8]>,
    /// Frames placed without a gap, from the first on.
    frames: AtomicU32,
    pub(super) list: Freelist<X>,
    pub(super) quarantine: Quarantine,
    /// Pages of windows that couldn't be emptied, and won't be used again.
    pub(super) lost: AtomicU32,
}

/// The table in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Frames placed.
    pub frames: u32,
    /// Frames that there may be.
    pub max_frames: u32,
    /// References, by the frames that are placed, without the reserved ones.
    pub references: u32,
    /// References out, the quarantined among them.
    pub in_use: u32,
    /// References free.
    pub free: u32,
    /// Grants that were dropped while the peer used them: page and reference wait for it.
    pub quarantined: u32,
    /// Pages of windows that were lost because an unmap failed.
    pub lost: u32,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, max_frames, references, in_use, free, quarantined, lost } = self;
        write!(
            f,
            "{frames} of {max_frames} frames, {references} references: {in_use} in use ({quarantined} in quarantine), {free} free"
        )?;
        if *lost > 0 {
            write!(f, "; {lost} pages of windows lost")?;
        }
        Ok(())
    }
}

impl<X: Hypercall + Clone> GrantTable<X> {
    /// Sets the domain's table up. What the toolstack wrote in references 0 to 7 stays as it is.
    ///
    /// # Errors
    ///
    /// [`GrantError`]: Xen refuses the version or a frame, or there is no window for the table.
    ///
    /// # Safety
    ///
    /// It is the only one in use of this domain's, and no grant of an older one is used any more.
    pub unsafe fn new(xen: X, windows: &'static Windows, config: Config) -> Result<Self, GrantError> {
        let version = config.version;
        // A Xen that doesn't know versions has version 1.
        if op::get_version(&xen, DomId::SELF).unwrap_or(1) != version.number() {
            // SAFETY: by the caller's word nobody uses a table.
            unsafe { op::set_version(&xen, version.number()) }?;
        }
        let (_, most) = op::query_size(&xen, DomId::SELF)?;
        let max_frames = most.min(config.max_frames).max(1);
        let max_status = (max_frames * version.entries_per_frame()).div_ceil(STATUS_PER_FRAME);
        let max = max_frames.saturating_mul(version.entries_per_frame());
        let table = Self {
            list: Freelist::new(xen.clone(), GrantRef::FIRST_FREE, max, config.vcpus),
            xen,
            windows,
            version,
            entries: windows.take(max_frames as usize)?,
            status: match version {
                Version::V1 => None,
                Version::V2 => Some(windows.take(max_status as usize)?),
            },
            max_frames,
            placed: (0..max_frames).map(|_| AtomicU8::new(EMPTY)).collect(),
            status_placed: (0..max_status).map(|_| AtomicU8::new(EMPTY)).collect(),
            frames: AtomicU32::new(0),
            quarantine: Quarantine::new(),
            lost: AtomicU32::new(0),
        };
        table.grow_to(config.frames.clamp(1, max_frames))?;
        Ok(table)
    }
}

impl<X: Hypercall> GrantTable<X> {
    /// The layout of the entries.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The hypervisor.
    pub fn xen(&self) -> &X {
        &self.xen
    }

    /// Where mappings go.
    pub fn windows(&self) -> &'static Windows {
        self.windows
    }

    /// The references.
    pub fn references(&self) -> &Freelist<X> {
        &self.list
    }

    /// The table in numbers. Exact while nobody changes it; a snapshot otherwise.
    pub fn stats(&self) -> Stats {
        let list = self.list.stats();
        Stats {
            frames: self.frames.load(Ordering::Relaxed),
            max_frames: self.max_frames,
            references: list.total,
            in_use: list.in_use,
            free: list.free,
            quarantined: self.quarantine.count(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Gives a reference back.
    #[inline]
    pub(super) fn give_back(&self, reference: OwnedRef) {
        // It can't be of another list: references of a table stay with it.
        let _ = self.list.free(reference);
    }

    /// The entry of a reference that is out.
    #[inline]
    pub(super) fn entry(&self, reference: &OwnedRef) -> Entry<'_> {
        self.entry_of(reference.get())
    }

    /// Whether a peer uses what a reference grants, whoever has it.
    pub(super) fn is_used(&self, gref: GrantRef) -> bool {
        let count = self.frames.load(Ordering::Relaxed) * self.version.entries_per_frame();
        gref.0 < count && !self.entry_of(gref).use_of().is_empty()
    }

    #[inline]
    fn entry_of(&self, gref: GrantRef) -> Entry<'_> {
        let index = u64::from(gref.0);
        match (self.version, &self.status) {
            (Version::V2, Some(status)) => {
                let entry = self.entries.first().address() + index * 16;
                let status = status.first().address() + index * 2;
                // SAFETY: references are handed out when their frames have been placed, and these stay in
                // place as long as the table lives. Xen and the guest use them atomically, and the offsets
                // are those of `EntryV2`.
                unsafe {
                    Entry::V2 {
                        word: u32_at(entry as *mut u32),
                        part: u32_at((entry + 4) as *mut u32),
                        frame: u64_at((entry + 8) as *mut u64),
                        status: u16_at(status as *mut u16),
                    }
                }
            }
            _ => {
                let entry = self.entries.first().address() + index * 8;
                // SAFETY: as above; the offsets are those of `EntryV1`.
                unsafe {
                    Entry::V1 { word: u32_at(entry as *mut u32), frame: u32_at((entry + 4) as *mut u32) }
                }
            }
        }
    }

    /// Every entry that grants something, by its reference; those of the toolstack too.
    pub fn entries(&self) -> impl Iterator<Item = (GrantRef, Entry<'_>)> {
        let count = self.frames.load(Ordering::Relaxed) * self.version.entries_per_frame();
        let live = |entry: &Entry<'_>| entry.flags().entry_type() != EntryFlags::INVALID;
        (0..count).map(GrantRef).map(|gref| (gref, self.entry_of(gref))).filter(move |(_, entry)| live(entry))
    }

    /// How large the table is, by Xen's word, and may become, in frames.
    ///
    /// # Errors
    ///
    /// [`OpError`].
    pub fn query_size(&self) -> Result<(u32, u32), OpError> {
        op::query_size(&self.xen, DomId::SELF)
    }

    /// Has Xen print the table to its console; a PVH guest may not, and has [`dump`](Self::dump).
    ///
    /// # Errors
    ///
    /// [`OpError`], which says who may.
    pub fn dump_to_xen(&self) -> Result<(), OpError> {
        op::dump_table(&self.xen, DomId::SELF)
    }

    /// Exchanges what two references grant. A grant that has either goes on with the other's entry, so both
    /// must be of grants of one kind.
    ///
    /// # Errors
    ///
    /// [`OpError`], and nothing is changed.
    pub(super) fn swap(&self, a: &OwnedRef, b: &OwnedRef) -> Result<(), OpError> {
        // SAFETY: both are borrowed from their owners by the caller, who exchanges the pages as well.
        unsafe { op::swap(&self.xen, a.get(), b.get()) }
    }
}

impl<X: Hypercall> Drop for GrantTable<X> {
    fn drop(&mut self) {
        // The windows stay taken: frames of Xen's are in them. Nobody has grants of the table any more, but
        // what is quarantined is lost with it.
        let quarantined = self.quarantine.count();
        if quarantined > 0 {
            log::warn!("a grant table goes with {quarantined} grants in quarantine");
        }
    }
}

impl<X: Hypercall> fmt::Debug for GrantTable<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantTable({:?}, {})", self.version, self.stats())
    }
}
