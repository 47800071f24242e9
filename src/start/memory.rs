//! Memory set-up: takes the memory over from the loader, with our own frame allocator and page tables.

use core::ops::Range;

use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

use super::{BOOT_MAPPED, StartError};
use crate::abi::PAGE_SIZE;
use crate::arch::{paging, stack};
use crate::mm::frames::Frames;
use crate::mm::layout::{self, Image, NULL_PAGE};
use crate::mm::page_tables::{Identity, PageTables};
use crate::mm::ram::Ram;
use crate::mm::{self, Memory};

/// Takes over the RAM: sets up the frame allocator, builds the page tables and switches to them.
///
/// # Errors
///
/// [`StartError::TooLittleMemory`] if the frame allocator's tables don't fit, [`StartError::PageTables`] if the page
/// tables can't be built.
pub fn set_up(
    ram: &Ram,
    windows: Option<Range<u64>>,
    reserved: impl Iterator<Item = Range<u64>> + Clone,
) -> Result<(), StartError> {
    let image = Image::running();
    let mut frames = frame_allocator(ram, &image, reserved)?;

    // In order. There are only five guards, and the library's sort would be as large as the page tables' code.
    let mut guards: heapless::Vec<Range<u64>, 8> = heapless::Vec::new();
    for guard in stack::in_image().map(|span| span.guard) {
        let at = guards.iter().position(|other| other.start > guard.start).unwrap_or(guards.len());
        let _ = guards.insert(at, guard); // there is room
    }
    let mut low = LowFrames(&mut frames);
    // SAFETY: the boot tables map these frames, as the new ones will; all memory in use was reserved.
    let mut tables = unsafe { PageTables::new(Identity, &mut low) }.map_err(StartError::PageTables)?;
    for mapping in layout::mappings(ram, &image, &guards, &layout::holes(&image)) {
        log::debug!("map {:#x}..{:#x} {:?}", mapping.range.start, mapping.range.end, mapping.access);
        // SAFETY: the plan gives each part of the image the rights its contents need.
        unsafe { tables.map_identity(&mapping, &mut low) }.map_err(StartError::PageTables)?;
    }
    // SAFETY: the plan covers the image, the stacks and all RAM, including the tables. It leaves out only the null
    // page and the guards, and these are never used.
    unsafe { paging::activate(tables.root()) };
    // SAFETY: they were just built, from all RAM, and the memory map has no entry at the windows' addresses.
    unsafe { mm::adopt(Memory { frames, tables }, windows) };
    Ok(())
}

/// Frames within reach of the boot tables: page tables must lie there until the switch.
struct LowFrames<'f>(&'f mut Frames);

// SAFETY: they are frames of `Frames`, and it hands out each one once.
unsafe impl FrameAllocator<Size4KiB> for LowFrames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        // This is the lowest free frame: if it lies too high, so do all others, and losing it doesn't matter.
        self.0.allocate_frame().filter(|frame| frame.start_address().as_u64() < BOOT_MAPPED)
    }
}

fn frame_allocator(
    ram: &Ram,
    image: &Image,
    reserved: impl Iterator<Item = Range<u64>> + Clone,
) -> Result<Frames, StartError> {
    let too_little = StartError::TooLittleMemory { bytes: ram.bytes() };
    let words = Frames::words_for(ram);
    let bytes = (words as u64 * 8).next_multiple_of(PAGE_SIZE);
    let mut free = ram.clone();
    for range in [NULL_PAGE, image.span(), BOOT_MAPPED..u64::MAX].into_iter().chain(reserved.clone()) {
        free.remove(range);
    }
    let place = free.ranges.iter().find(|range| range.end - range.start >= bytes).ok_or(too_little)?;
    let place = place.start..place.start + bytes;
    // SAFETY: the place is unused RAM, mapped by the boot tables now and by the plan later, and reserved below for
    // ever. Any bits are valid words.
    let bitmap = unsafe { core::slice::from_raw_parts_mut(place.start as *mut u64, words) };
    // SAFETY: the loader gave the RAM to this domain, and the parts in use are reserved next.
    let mut frames = unsafe { Frames::new(ram, bitmap) };
    for range in [NULL_PAGE, image.span(), place].into_iter().chain(reserved) {
        frames.reserve(range);
    }
    Ok(frames)
}
