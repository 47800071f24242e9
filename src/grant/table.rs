//! The table: where its frames are, how it grows, and where an entry's words lie.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use alloc::boxed::Box;

use super::GrantError;
use super::entry::Entry;
use super::freelist::{Freelist, OwnedRef, Run};
use super::quarantine::Quarantine;
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::abi::memory::{MAP_INDEX_STATUS, MapSpace};
use crate::abi::{DomId, PAGE_SIZE};
use crate::hypercall::Hypercall;
use crate::hypercall::grant::{self as op, OpError};
use crate::hypercall::memory::add_to_physmap;
use crate::mm::windows::{Window, Windows};
use crate::sync::primitive::{u16_at, u32_at, u64_at};

/// The layout of the entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Version {
    /// 8 bytes, frames of 32 bits: what everything knows.
    #[default]
    V1,
    /// 16 bytes, frames of 64 bits, parts of pages, status words apart.
    V2,
}

impl Version {
    /// By its number.
    ///
    /// # Errors
    ///
    /// [`GrantError::NoVersion`].
    pub fn from_number(number: u32) -> Result<Self, GrantError> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(GrantError::NoVersion(other)),
        }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Entries in a frame.
    pub const fn entries_per_frame(self) -> u32 {
        match self {
            Self::V1 => PAGE_SIZE as u32 / 8,
            Self::V2 => PAGE_SIZE as u32 / 16,
        }
    }
}

/// Status words in a frame.
const STATUS_PER_FRAME: u32 = PAGE_SIZE as u32 / 2;

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

/// A frame's place is empty.
const EMPTY: u8 = 0;
/// Somebody is placing it.
const PLACING: u8 = 1;
/// It is there.
const PLACED: u8 = 2;

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

    /// Grows the table to `frames`, the highest index first, so that Xen grows it once. Any number of callers
    /// may; each frame is placed by one of them.
    ///
    /// # Errors
    ///
    /// [`GrantError::Exhausted`] beyond the largest size, [`GrantError::Memory`] if Xen refuses; the frames
    /// before stay.
    pub fn grow_to(&self, frames: u32) -> Result<(), GrantError> {
        if frames > self.max_frames {
            return Err(GrantError::Exhausted { references: self.list.stats().total });
        }
        let missing = self.frames.load(Ordering::Relaxed)..frames;
        let mut result = Ok(());
        for index in missing.rev() {
            result = result.and(self.place_with_status(index));
        }
        self.publish_frames();
        result
    }

    fn place_with_status(&self, index: u32) -> Result<(), GrantError> {
        self.place(&self.placed, &self.entries, index, 0)?;
        if let Some(window) = &self.status {
            let status = index * self.version.entries_per_frame() / STATUS_PER_FRAME;
            self.place(&self.status_placed, window, status, MAP_INDEX_STATUS)?;
        }
        Ok(())
    }

    /// Places a frame, unless it is there or somebody else is at it.
    fn place(&self, states: &[AtomicU8], window: &Window, index: u32, kind: u64) -> Result<(), GrantError> {
        let Some(state) = states.get(index as usize) else { return Ok(()) };
        // To place a frame again would take it away for a moment, so one does it.
        if state.compare_exchange(EMPTY, PLACING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Ok(());
        }
        let gfn = window.gfn(index as usize);
        // SAFETY: the window is the table's own, and nothing is there yet: the state was empty.
        let placed =
            unsafe { add_to_physmap(&self.xen, MapSpace::GRANT_TABLE, kind | u64::from(index), gfn) };
        // Release: pairs with the Acquire of `publish_frames`.
        state.store(if placed.is_ok() { PLACED } else { EMPTY }, Ordering::Release);
        placed.map_err(GrantError::Memory)
    }

    /// Counts the frames that are there without a gap, and hands out their references.
    fn publish_frames(&self) {
        // Acquire: pairs with the Release of `place`: the frame is there before its references are.
        let there = |states: &[AtomicU8], index: u32| {
            states.get(index as usize).is_some_and(|state| state.load(Ordering::Acquire) == PLACED)
        };
        let per_frame = self.version.entries_per_frame();
        let ready = |&index: &u32| {
            let status = index * per_frame / STATUS_PER_FRAME;
            there(&self.placed, index) && (self.status.is_none() || there(&self.status_placed, status))
        };
        let count = (0..self.max_frames).take_while(ready).count() as u32;
        if self.frames.fetch_max(count, Ordering::Relaxed) < count {
            self.list.grow(count * per_frame);
        }
    }

    /// Takes a reference; where none is free, looks into the quarantine and grows the table first.
    #[inline]
    pub(super) fn take(&self) -> Result<OwnedRef, GrantError> {
        if self.quarantine.count() > 0 {
            self.reap(super::quarantine::A_FEW);
        }
        match self.list.alloc() {
            Ok(reference) => Ok(reference),
            Err(_) => self.take_growing(1, || self.list.alloc().ok()),
        }
    }

    /// Takes consecutive references: new ones, by growth, or out of those that are free.
    pub(super) fn take_run(&self, count: u32) -> Result<Run, GrantError> {
        let fresh = || self.list.alloc_run(count).ok();
        match fresh() {
            Some(run) => Ok(run),
            None => self
                .take_growing(count, fresh)
                .or_else(|error| self.list.collect_run(count).map_err(|_| error)),
        }
    }

    /// Grows until `take` gives something. Others may take what one has grown, so it may grow more than once.
    #[cold]
    fn take_growing<T>(&self, count: u32, take: impl Fn() -> Option<T>) -> Result<T, GrantError> {
        const TRIES: usize = 1000;
        let mut more = count.div_ceil(self.version.entries_per_frame());
        for _ in 0..TRIES {
            let frames = self.frames.load(Ordering::Relaxed);
            let grown = self.grow_to(frames.saturating_add(more).min(self.max_frames));
            if let Some(taken) = take() {
                return Ok(taken);
            }
            grown?;
            if frames == self.max_frames {
                break;
            }
            // What was new was no run of the length that is wanted; more than that has to be.
            more += u32::from(self.frames.load(Ordering::Relaxed) > frames);
            core::hint::spin_loop();
        }
        self.reap(u32::MAX);
        take().ok_or(GrantError::Exhausted { references: self.list.stats().total })
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
