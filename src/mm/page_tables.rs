//! Page tables, built with the `x86_64` crate.

use core::fmt;

use x86_64::structures::paging::mapper::{
    MapToError, MappedPageTable, MapperFlush, PageTableFrameMapping, TranslateResult, UnmapError,
};
use x86_64::structures::paging::page_table::PageTableFlags as Flags;
use x86_64::structures::paging::page_table::PageTableLevel;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, Page, PageTable, PhysFrame, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::frames::Frames;
use super::layout::{Access, Mapping};
use crate::abi::{Gfn, PAGE_SIZE};

const LARGE_PAGE: u64 = 2 << 20;

/// A tree of page tables, accessed through `P`.
pub struct PageTables<P: PageTableFrameMapping> {
    mapper: MappedPageTable<'static, P>,
    root: PhysFrame,
}

/// Why a page could not be mapped or unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// No frame is left for a page table.
    OutOfFrames,
    /// The address is mapped already.
    Occupied(u64),
    /// The address isn't mapped.
    NotMapped(u64),
    /// The processor has no such virtual or physical address, or a large page isn't aligned.
    BadAddress(u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFrames => f.write_str("no frame is free for a page table"),
            Self::Occupied(address) => write!(f, "{address:#x} is mapped already"),
            Self::NotMapped(address) => write!(f, "{address:#x} is not mapped"),
            Self::BadAddress(address) => write!(f, "{address:#x} is not a valid address"),
        }
    }
}

impl core::error::Error for MapError {}

/// The mapping of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// The physical address.
    pub physical: u64,
    /// Whether writing is allowed.
    pub writable: bool,
    /// Whether running code is allowed.
    pub executable: bool,
}

/// Access to tables at their physical addresses: src/start maps all RAM there.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

// SAFETY: RAM is mapped at its physical address: by the boot tables below 4 GiB, where the first tables come from,
// and by the plan of `layout::mappings` everywhere.
unsafe impl PageTableFrameMapping for Identity {
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        frame.start_address().as_u64() as *mut PageTable
    }
}

impl Access {
    fn flags(self) -> Flags {
        let present = Flags::PRESENT;
        match self {
            Self::ReadOnly => present | Flags::NO_EXECUTE,
            Self::ReadWrite => present | Flags::WRITABLE | Flags::NO_EXECUTE,
            Self::Execute => present,
        }
    }
}

impl<P: PageTableFrameMapping> PageTables<P> {
    /// Creates an empty tree with its root in a frame of its own.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfFrames`] if no frame is free.
    ///
    /// # Safety
    ///
    /// For each frame of `frames`, `reach` must return a pointer to that frame's memory. Once a frame is allocated,
    /// no other code may use this memory.
    pub(crate) unsafe fn new(reach: P, frames: &mut impl FrameAllocator<Size4KiB>) -> Result<Self, MapError> {
        let root = frames.allocate_frame().ok_or(MapError::OutOfFrames)?;
        let table = reach.frame_to_pointer(root);
        // SAFETY: the frame was just allocated, so the caller guarantees that the table's memory is ours.
        let table = unsafe {
            table.write_bytes(0, 1);
            &mut *table
        };
        // SAFETY: all tables of the tree come from `frames`, and the caller guarantees `reach` for these.
        Ok(Self { mapper: unsafe { MappedPageTable::new(table, reach) }, root })
    }

    /// Returns the frame to load into the page-table register.
    pub(crate) fn root(&self) -> PhysFrame {
        self.root
    }

    /// Maps a range at its own physical address, with large pages where they fit.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfFrames`], [`MapError::Occupied`] or [`MapError::BadAddress`] for the first page that can't be
    /// mapped. The pages before it stay mapped.
    ///
    /// # Safety
    ///
    /// If these tables are in use, or will be, the rights must suit the contents of the range.
    pub(crate) unsafe fn map_identity(
        &mut self,
        mapping: &Mapping,
        frames: &mut impl FrameAllocator<Size4KiB>,
    ) -> Result<(), MapError> {
        let flags = mapping.access.flags();
        let (mut address, end) = (mapping.range.start, mapping.range.end);
        while address < end {
            let at = VirtAddr::try_new(address).map_err(|_| MapError::BadAddress(address))?;
            // Fill as many entries of one table as possible, for the largest pages that fit.
            let large = address.is_multiple_of(LARGE_PAGE) && address + LARGE_PAGE <= end;
            let (level, size, entry_flags) = if large {
                (PageTableLevel::Two, LARGE_PAGE, flags | Flags::HUGE_PAGE)
            } else {
                (PageTableLevel::One, PAGE_SIZE, flags)
            };
            let first = at.page_table_index(level);
            let table_end = address + (512 - u64::from(first)) * size;
            let behind = table_end.min(end & !(size - 1));
            let table = self.table(at, level, flags, frames)?;
            let count = ((behind - address) / size) as usize;
            // No processor caches an entry that isn't present, so no flush is needed.
            let mut value = address | entry_flags.bits();
            for entry in &mut table[first.into()..][..count] {
                if *entry != 0 {
                    return Err(MapError::Occupied(value & 0x000f_ffff_ffff_f000 & !(size - 1)));
                }
                *entry = value;
                value += size;
            }
            address = behind;
        }
        Ok(())
    }

    /// Returns the table of level `wanted` for an address, created if it is missing. The entries above allow what
    /// `flags` allow.
    fn table(
        &mut self,
        at: VirtAddr,
        wanted: PageTableLevel,
        flags: Flags,
        frames: &mut impl FrameAllocator<Size4KiB>,
    ) -> Result<&mut [u64; 512], MapError> {
        let flags = flags & (Flags::PRESENT | Flags::WRITABLE);
        let mut table: *mut PageTable = self.mapper.level_4_table_mut();
        let mut level = PageTableLevel::Four;
        while level != wanted {
            // SAFETY: it is a table of this tree, and the tree is borrowed.
            let entry = unsafe { &mut (&mut *table)[at.page_table_index(level)] };
            if entry.is_unused() {
                let frame = frames.allocate_frame().ok_or(MapError::OutOfFrames)?;
                table = self.mapper.page_table_frame_mapping().frame_to_pointer(frame);
                // SAFETY: the frame was just allocated, and `table` points to it.
                unsafe { table.write_bytes(0, 1) };
                entry.set_frame(frame, flags);
            } else {
                let frame = entry.frame().map_err(|_| MapError::Occupied(at.as_u64()))?;
                if !entry.flags().contains(flags) {
                    entry.set_flags(entry.flags() | flags);
                }
                table = self.mapper.page_table_frame_mapping().frame_to_pointer(frame);
            }
            level = level.next_lower_level().ok_or(MapError::BadAddress(at.as_u64()))?;
        }
        // SAFETY: as above; an entry is a word.
        Ok(unsafe { &mut *table.cast() })
    }

    /// Maps one frame, to read and write.
    ///
    /// # Errors
    ///
    /// [`MapError::Occupied`] if the address is mapped already, [`MapError::OutOfFrames`] if no frame is left for a
    /// page table, [`MapError::BadAddress`] if the processor has no such address or frame. No mapping is changed.
    ///
    /// # Safety
    ///
    /// The caller must own the frame, and no other code may come to use it through `address`.
    pub unsafe fn map_page(
        &mut self,
        address: u64,
        frame: Gfn,
        frames: &mut impl FrameAllocator<Size4KiB>,
    ) -> Result<(), MapError> {
        let at = VirtAddr::try_new(address).map_err(|_| MapError::BadAddress(address))?;
        let page = Page::<Size4KiB>::containing_address(at);
        let physical = PhysAddr::try_new(frame.0.saturating_mul(PAGE_SIZE));
        let frame = PhysFrame::containing_address(physical.map_err(|_| MapError::BadAddress(address))?);
        // SAFETY: the caller guarantees the frame.
        let mapped = unsafe { self.mapper.map_to(page, frame, Access::ReadWrite.flags(), frames) };
        mapped.map(MapperFlush::flush_here).map_err(|error| map_error(error, at))
    }

    /// Maps a new frame, to read and write.
    ///
    /// # Errors
    ///
    /// As for [`map_page`](Self::map_page); [`MapError::OutOfFrames`] also if no frame is left to map. No frame is
    /// lost.
    ///
    /// # Safety
    ///
    /// No other code may come to use `address`.
    pub unsafe fn map_new_page(&mut self, address: u64, frames: &mut Frames) -> Result<(), MapError> {
        let frame = frames.allocate().ok_or(MapError::OutOfFrames)?;
        // SAFETY: the frame was just allocated, and the address is the caller's alone.
        let mapped = unsafe { self.map_page(address, frame, frames) };
        if mapped.is_err() {
            // SAFETY: it was allocated above and never used.
            let released = unsafe { frames.release(frame) };
            debug_assert!(released.is_ok(), "it was allocated above");
        }
        mapped
    }

    /// Unmaps one page of 4 KiB and returns its frame. Page tables that become empty stay.
    ///
    /// # Errors
    ///
    /// [`MapError::NotMapped`] if no page of 4 KiB is mapped there, even if a large one is; [`MapError::BadAddress`]
    /// if the processor has no such address.
    ///
    /// # Safety
    ///
    /// The page must no longer be in use.
    pub unsafe fn unmap_page(&mut self, address: u64) -> Result<Gfn, MapError> {
        let at = VirtAddr::try_new(address).map_err(|_| MapError::BadAddress(address))?;
        let unmapped = self.mapper.unmap(Page::<Size4KiB>::containing_address(at));
        let (frame, flush) = unmapped.map_err(|error| match error {
            UnmapError::PageNotMapped | UnmapError::ParentEntryHugePage => MapError::NotMapped(address),
            UnmapError::InvalidFrameAddress(_) => MapError::BadAddress(address),
        })?;
        flush.flush_here();
        Ok(Gfn::containing(frame.start_address().as_u64()))
    }

    /// Maps a large page of 2 MiB, made of consecutive frames from `first` on, to read and write.
    ///
    /// # Errors
    ///
    /// As for [`map_page`](Self::map_page); [`MapError::BadAddress`] also if `address` or `first` isn't a multiple of
    /// 2 MiB.
    ///
    /// # Safety
    ///
    /// As for [`map_page`](Self::map_page), for all of the frames.
    pub(crate) unsafe fn map_large_page(
        &mut self,
        address: u64,
        first: Gfn,
        frames: &mut impl FrameAllocator<Size4KiB>,
    ) -> Result<(), MapError> {
        let at = VirtAddr::try_new(address).map_err(|_| MapError::BadAddress(address))?;
        let page = Page::<Size2MiB>::from_start_address(at).map_err(|_| MapError::BadAddress(address))?;
        let physical = PhysAddr::try_new(first.0.saturating_mul(PAGE_SIZE)).ok();
        let frame = physical.and_then(|physical| PhysFrame::from_start_address(physical).ok());
        let frame = frame.ok_or(MapError::BadAddress(address))?;
        // SAFETY: the caller guarantees the frames.
        let mapped = unsafe { self.mapper.map_to(page, frame, Access::ReadWrite.flags(), frames) };
        mapped.map(MapperFlush::flush_here).map_err(|error| map_error(error, at))
    }

    /// Unmaps a large page and returns its first frame.
    ///
    /// # Errors
    ///
    /// [`MapError::NotMapped`] if no large page is mapped there, even if pages of 4 KiB are;
    /// [`MapError::BadAddress`] if the processor has no such address, or it isn't a multiple of 2 MiB.
    ///
    /// # Safety
    ///
    /// The page must no longer be in use.
    pub(crate) unsafe fn unmap_large_page(&mut self, address: u64) -> Result<Gfn, MapError> {
        let at = VirtAddr::try_new(address).map_err(|_| MapError::BadAddress(address))?;
        let page = Page::<Size2MiB>::from_start_address(at).map_err(|_| MapError::BadAddress(address))?;
        let (frame, flush) = self.mapper.unmap(page).map_err(|_| MapError::NotMapped(address))?;
        flush.flush_here();
        Ok(Gfn::containing(frame.start_address().as_u64()))
    }

    /// Returns the mapping of `address`, or `None` if it isn't mapped.
    pub fn lookup(&self, address: u64) -> Option<Mapped> {
        let at = VirtAddr::try_new(address).ok()?;
        let TranslateResult::Mapped { frame, offset, flags } = self.mapper.translate(at) else {
            return None;
        };
        Some(Mapped {
            physical: frame.start_address().as_u64() + offset,
            writable: flags.contains(Flags::WRITABLE),
            executable: !flags.contains(Flags::NO_EXECUTE),
        })
    }
}

impl<P: PageTableFrameMapping> fmt::Debug for PageTables<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTables").field("root", &self.root).finish_non_exhaustive()
    }
}

fn map_error<S: x86_64::structures::paging::PageSize>(error: MapToError<S>, at: VirtAddr) -> MapError {
    match error {
        MapToError::FrameAllocationFailed => MapError::OutOfFrames,
        MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_) => MapError::Occupied(at.as_u64()),
    }
}

/// A flush of a page's translation. The host needs none: its tables are never in use.
trait FlushHere {
    fn flush_here(self);
}

impl<S: x86_64::structures::paging::PageSize> FlushHere for MapperFlush<S> {
    fn flush_here(self) {
        if cfg!(granite_guest) { self.flush() } else { self.ignore() }
    }
}

// SAFETY: a frame handed out by `Frames` is RAM, and has no other owner until it is released.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.allocate()?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.address())))
    }
}

#[cfg(test)]
mod tests {
    use super::{MapError, Mapped, PageTables};
    use crate::abi::{Gfn, PAGE_SIZE};
    use crate::mm::frames::Frames;
    use crate::mm::layout::{Access, Mapping};
    use crate::mm::ram::Ram;
    use std::vec;
    use x86_64::structures::paging::mapper::PageTableFrameMapping;
    use x86_64::structures::paging::{PageTable, PhysFrame};

    /// Physical memory from frame 256 on, in a block of the host's.
    struct Arena(*mut PageTable);

    // SAFETY: all frames of `Frames`, from 256 on, lie in the block, and the block is leaked.
    unsafe impl PageTableFrameMapping for Arena {
        fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
            // SAFETY: `Frames` only knows the frames of the block.
            unsafe { self.0.add((frame.start_address().as_u64() / PAGE_SIZE) as usize - 256) }
        }
    }

    fn tables(count: u64) -> (PageTables<Arena>, Frames) {
        let block = vec![PageTable::new(); count as usize].leak();
        let ram = Ram::new([(256 * PAGE_SIZE, count * PAGE_SIZE)].into_iter(), core::iter::empty());
        // SAFETY: only the tables use these frames.
        let mut frames = unsafe { Frames::new(&ram, vec![0; Frames::words_for(&ram)].leak()) };
        // SAFETY: the arena reaches all frames, and only the tables use them.
        let tables = unsafe { PageTables::new(Arena(block.as_mut_ptr()), &mut frames) };
        (tables.unwrap(), frames)
    }

    #[test]
    fn identity_mappings_have_the_rights_that_were_asked_for() {
        let (mut tables, mut frames) = tables(16);
        for (range, access) in [
            (0x1000..0x60_3000, Access::ReadWrite),
            (0x80_0000..0x80_2000, Access::Execute),
            (0x80_2000..0x80_3000, Access::ReadOnly),
        ] {
            // SAFETY: these tables are never used.
            unsafe { tables.map_identity(&Mapping { range, access }, &mut frames) }.unwrap();
        }
        let rights = |address| tables.lookup(address).map(|m| (m.physical, m.writable, m.executable));
        assert_eq!(rights(0xfff), None);
        assert_eq!(rights(0x1234), Some((0x1234, true, false)));
        assert_eq!(rights(0x20_0042), Some((0x20_0042, true, false)));
        assert_eq!(rights(0x60_2fff), Some((0x60_2fff, true, false)));
        assert_eq!(rights(0x60_3000), None);
        assert_eq!(rights(0x80_1000), Some((0x80_1000, false, true)));
        assert_eq!(rights(0x80_2000), Some((0x80_2000, false, false)));
    }

    #[test]
    fn pages_come_and_go_and_are_never_mapped_over() {
        let (mut tables, mut frames) = tables(16);
        let window = 1 << 46;
        // SAFETY: these tables are never used.
        unsafe {
            tables.map_page(window, Gfn(7), &mut frames).unwrap();
            assert_eq!(tables.map_page(window, Gfn(8), &mut frames), Err(MapError::Occupied(window)));
            let mapped = Mapped { physical: 0x7005, writable: true, executable: false };
            assert_eq!(tables.lookup(window + 5), Some(mapped));
            assert_eq!(tables.unmap_page(window), Ok(Gfn(7)));
            assert_eq!(tables.unmap_page(window), Err(MapError::NotMapped(window)));
            assert_eq!(tables.map_page(1 << 50, Gfn(7), &mut frames), Err(MapError::BadAddress(1 << 50)));
            for no_frame in [1 << 40, u64::MAX] {
                let mapped = tables.map_page(window, Gfn(no_frame), &mut frames);
                assert_eq!(mapped, Err(MapError::BadAddress(window)));
            }
        }
    }

    #[test]
    fn a_page_that_cannot_be_mapped_is_not_lost() {
        let (mut tables, mut frames) = tables(16);
        let (window, other) = (1 << 46, 1 << 45);
        // SAFETY: these tables are never used.
        unsafe {
            tables.map_new_page(window, &mut frames).unwrap();
            let free = frames.free();
            assert_eq!(tables.map_new_page(window, &mut frames), Err(MapError::Occupied(window)));
            assert_eq!(frames.free(), free);
            // One frame is left, and none for the tables.
            while frames.free() > 1 {
                frames.allocate().unwrap();
            }
            assert_eq!(tables.map_new_page(other, &mut frames), Err(MapError::OutOfFrames));
            assert_eq!(frames.free(), 1);
            tables.map_new_page(window + PAGE_SIZE, &mut frames).unwrap();
            assert_eq!(tables.map_new_page(window + 2 * PAGE_SIZE, &mut frames), Err(MapError::OutOfFrames));
        }
    }

    #[test]
    fn large_pages_come_and_go() {
        let (mut tables, mut frames) = tables(16);
        let window = 5 << 44;
        // SAFETY: these tables are never used.
        unsafe {
            tables.map_large_page(window, Gfn(512), &mut frames).unwrap();
            let mapped = Mapped { physical: (512 << 12) + 0x12345, writable: true, executable: false };
            assert_eq!(tables.lookup(window + 0x12345), Some(mapped));
            assert_eq!(tables.unmap_page(window), Err(MapError::NotMapped(window)));
            assert_eq!(tables.unmap_large_page(window), Ok(Gfn(512)));
            assert_eq!(tables.unmap_large_page(window), Err(MapError::NotMapped(window)));
            assert_eq!(tables.lookup(window), None);
            for (address, frame) in [(window + 4096, 512), (window, 513), (window, u64::MAX), (1 << 50, 512)]
            {
                let mapped = tables.map_large_page(address, Gfn(frame), &mut frames);
                assert_eq!(mapped, Err(MapError::BadAddress(address)));
            }
            tables.map_page(window, Gfn(7), &mut frames).unwrap();
            assert_eq!(tables.map_large_page(window, Gfn(512), &mut frames), Err(MapError::Occupied(window)));
            assert_eq!(tables.unmap_large_page(window), Err(MapError::NotMapped(window)));
        }
    }

    #[test]
    fn running_out_of_frames_is_an_error() {
        let (mut tables, mut frames) = tables(3);
        // SAFETY: these tables are never used.
        let error = unsafe { tables.map_page(1 << 46, Gfn(7), &mut frames) }.unwrap_err();
        assert_eq!(error, MapError::OutOfFrames);
    }
}
