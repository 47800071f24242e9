//! The table: its state, and the addresses of an entry's words.

mod area;
mod references;
mod version;

pub use version::Version;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::GrantError;
use super::entry::{Entry, Snapshot};
use super::freelist::{Freelist, OwnedRef};
use super::quarantine::Quarantine;
use crate::abi::DomId;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::abi::memory::MAP_INDEX_STATUS;
use crate::hypercall::Hypercall;
use crate::hypercall::grant::{self as op, OpError};
use crate::mm::windows::Windows;
use crate::sync::atomic::{u16_at, u32_at, u64_at};
use area::Area;
use version::STATUS_PER_FRAME;

/// The settings of a table.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The layout of the entries.
    pub version: Version,
    /// Number of frames placed at set-up.
    pub frames: u32,
    /// The maximum number of frames to place; Xen may allow fewer.
    pub max_frames: u32,
    /// The number of vCPUs that will allocate references.
    pub vcpus: usize,
    /// A peer with this number of references in quarantine is granted no more.
    pub peer_quota: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { version: Version::V1, frames: 1, max_frames: u32::MAX, vcpus: 1, peer_quota: 256 }
    }
}

/// The domain's grant table.
pub struct GrantTable<X: Hypercall> {
    pub(super) xen: X,
    pub(super) windows: &'static Windows,
    version: Version,
    entries: Area,
    /// Only in version 2.
    status: Option<Area>,
    max_frames: u32,
    /// The number of frames placed, counted up to the first missing one.
    frames: AtomicU32,
    pub(super) peer_quota: u32,
    /// This domain may map its own grants.
    pub(super) maps_own: AtomicBool,
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
    /// The maximum number of frames.
    pub max_frames: u32,
    /// References in the placed frames, without the reserved ones.
    pub references: u32,
    /// References in use, including those in quarantine.
    pub in_use: u32,
    /// Free references.
    pub free: u32,
    /// References in quarantine, most with a page: they wait until their peer is done.
    pub quarantined: u32,
    /// Pages of windows lost because Xen didn't unmap or release them.
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
    /// Sets up the domain's table. References 0 to 7, written by the toolstack, stay as they are.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] if Xen refuses the version or the query of the size, [`GrantError::Memory`] if it refuses a
    /// frame, [`GrantError::NoWindow`] if there is no window for the table, or [`GrantError::OutOfMemory`].
    ///
    /// # Safety
    ///
    /// No other table of this domain may be in use, and no grant of an older one may be used any more.
    pub unsafe fn new(xen: X, windows: &'static Windows, config: Config) -> Result<Self, GrantError> {
        let version = config.version;
        // A Xen without versions has version 1.
        if op::get_version(&xen, DomId::SELF).unwrap_or(1) != version.number() {
            // SAFETY: the caller guarantees that no table is in use.
            unsafe { op::set_version(&xen, version.number()) }?;
        }
        let (_, max) = op::query_size(&xen, DomId::SELF)?;
        let max_frames = max.min(config.max_frames).max(1);
        let list = Freelist::new(xen.clone(), GrantRef::FIRST_FREE, config.vcpus);
        let list = list.map_err(|_| GrantError::OutOfMemory)?;
        let entries = Area::new(windows, max_frames, 0)?;
        let status = match version {
            Version::V1 => Ok(None),
            Version::V2 => {
                let frames = (max_frames * version.entries_per_frame()).div_ceil(STATUS_PER_FRAME);
                Area::new(windows, frames, MAP_INDEX_STATUS).map(Some)
            }
        };
        let mut table = Self {
            list,
            xen,
            windows,
            version,
            entries,
            status: None,
            max_frames,
            frames: AtomicU32::new(0),
            peer_quota: config.peer_quota,
            maps_own: AtomicBool::new(false),
            quarantine: Quarantine::new(),
            lost: AtomicU32::new(0),
        };
        let set_up = status.and_then(|status| {
            table.status = status;
            table.grow_to(config.frames.clamp(1, max_frames))
        });
        match set_up {
            Ok(()) => Ok(table),
            Err(error) => {
                table.dismantle();
                Err(error)
            }
        }
    }

    /// Undoes a failed set-up, so that another one can be tried.
    fn dismantle(self) {
        let Self { xen, windows, entries, status, .. } = self;
        // SAFETY: the table is new, and has handed out no reference yet.
        core::iter::once(entries).chain(status).for_each(|area| unsafe { area.dismantle(&xen, windows) });
    }
}

impl<X: Hypercall> GrantTable<X> {
    /// Returns the layout of the entries.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the hypervisor.
    pub fn xen(&self) -> &X {
        &self.xen
    }

    /// Returns the allocator of addresses for mappings.
    pub fn windows(&self) -> &'static Windows {
        self.windows
    }

    /// Returns the table in numbers. They are exact while the table doesn't change, and a snapshot otherwise.
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

    /// Returns the entry of a reference in use.
    #[inline]
    pub(super) fn entry(&self, reference: &OwnedRef) -> Entry<'_> {
        self.entry_of(reference.get())
    }

    /// Returns whether a peer uses the grant with this reference. The caller need not own the reference.
    pub(super) fn is_used(&self, gref: GrantRef) -> bool {
        self.has(gref) && !self.entry_of(gref).use_of().is_empty()
    }

    /// Returns whether the table has such a reference.
    pub(super) fn has(&self, gref: GrantRef) -> bool {
        gref.0 < self.frames.load(Ordering::Relaxed) * self.version.entries_per_frame()
    }

    /// Returns the entry of a reference that the table [has](Self::has).
    #[inline]
    pub(super) fn entry_of(&self, gref: GrantRef) -> Entry<'_> {
        let index = u64::from(gref.0);
        match &self.status {
            Some(status) => {
                let entry = self.entries.address() + index * 16;
                let status = status.address() + index * 2;
                // SAFETY: references are handed out after their frames have been placed, and the frames stay in place
                // as long as the table lives. Xen and the guest use them atomically, and the offsets are those of
                // `EntryV2`.
                unsafe {
                    Entry::V2 {
                        word: u32_at(entry as *mut u32),
                        part: u32_at((entry + 4) as *mut u32),
                        frame: u64_at((entry + 8) as *mut u64),
                        status: u16_at(status as *mut u16),
                    }
                }
            }
            None => {
                let entry = self.entries.address() + index * 8;
                // SAFETY: as above; the offsets are those of `EntryV1`.
                unsafe {
                    Entry::V1 { word: u32_at(entry as *mut u32), frame: u32_at((entry + 4) as *mut u32) }
                }
            }
        }
    }

    /// Returns the address of the entries, an array in the order of their references. Xen and a toolstack write them
    /// too.
    pub fn address(&self) -> u64 {
        self.entries.address()
    }

    /// Returns each valid entry, as it was when read, with its reference. The toolstack's entries are included.
    pub fn entries(&self) -> impl Iterator<Item = (GrantRef, Snapshot)> {
        let count = self.frames.load(Ordering::Relaxed) * self.version.entries_per_frame();
        let read = (0..count).map(GrantRef).map(|gref| (gref, self.entry_of(gref).snapshot()));
        read.filter(|(_, entry)| entry.flags.entry_type() != EntryFlags::INVALID)
    }

    /// Lets the domain map its own grants. By default this is refused: when a domain maps a page of its own at a second
    /// address, Xen removes the page from the first one and never puts it back.
    ///
    /// # Safety
    ///
    /// The page needs two grants. The domain must first map one of them at the page's original address. Xen then
    /// removes the page from this address, but puts the mapping of the same page in its place. So the address stays
    /// valid. Only then may it map the other one at a second address. It must keep the first mapping for as long as it
    /// uses the page. (Xen 4.20 refuses to map a domain's own pages.)
    pub unsafe fn allow_own_mappings(&self) {
        self.maps_own.store(true, Ordering::Relaxed);
    }

    /// Returns the table's current and maximum size in frames, as Xen reports them.
    ///
    /// # Errors
    ///
    /// [`OpError`] if Xen refuses.
    pub fn query_size(&self) -> Result<(u32, u32), OpError> {
        op::query_size(&self.xen, DomId::SELF)
    }

    /// Asks Xen to print the table to its console. A PVH guest may not do this, and uses [`dump`](Self::dump)
    /// instead.
    ///
    /// # Errors
    ///
    /// [`OpError`] if Xen refuses; in a PVH guest its text names the domains allowed to do this.
    pub fn dump_to_xen(&self) -> Result<(), OpError> {
        op::dump_table(&self.xen, DomId::SELF)
    }

    /// Exchanges the entries of two references. Each reference then names the other's page, with the other's rights. So
    /// both must be grants of the same Rust type.
    ///
    /// # Errors
    ///
    /// [`OpError`] if Xen refuses, as it does while either is in use; both entries are unchanged.
    pub(super) fn swap(&self, a: &OwnedRef, b: &OwnedRef) -> Result<(), OpError> {
        // SAFETY: the caller borrows both from their owners, and exchanges the pages as well.
        unsafe { op::swap(&self.xen, a.get(), b.get()) }
    }
}

impl<X: Hypercall> fmt::Debug for GrantTable<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantTable({:?}, {})", self.version, self.stats())
    }
}
