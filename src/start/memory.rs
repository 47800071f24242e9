//! Memory, from the loader's map to page tables of our own.

use core::fmt;

use super::start_info::{MAX_MAP, StartInfo, StartInfoError};
use crate::abi::XenErrno;
use crate::abi::memory::E820Entry;
use crate::abi::start_info::{MemoryMapEntry, RegionKind};
use crate::hypercall::{self, Hypercall};
use crate::mm::page_tables::MapError;
use crate::mm::ram::Ram;

/// The least memory that Granite was seen to start in.
const NEEDED_MIB: u64 = 4;

/// Why the guest can't start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The loader's start info is no such thing.
    StartInfo(StartInfoError),
    /// The start info has no memory map, and there is no Xen to ask.
    NoMemoryMap,
    /// Xen was asked for the memory map and refused.
    MemoryMapRefused(XenErrno),
    /// There is too little RAM for the allocator's own tables.
    TooLittleMemory {
        /// Bytes of RAM in the map.
        bytes: u64,
    },
    /// The page tables could not be built.
    PageTables(MapError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartInfo(error) => error.fmt(f),
            Self::NoMemoryMap => {
                f.write_str("the loader gave no memory map, and there is no Xen to ask for one")
            }
            Self::MemoryMapRefused(error) => write!(f, "Xen refuses the memory map: {error}"),
            Self::TooLittleMemory { bytes } => {
                write!(f, "{} KiB of memory are too little; {NEEDED_MIB} MiB are needed", bytes / 1024)
            }
            Self::PageTables(MapError::OutOfFrames) => {
                write!(f, "too little memory for page tables; {NEEDED_MIB} MiB are needed")
            }
            Self::PageTables(error) => write!(f, "page tables: {error}"),
        }
    }
}

impl core::error::Error for StartError {}

impl From<StartInfoError> for StartError {
    fn from(error: StartInfoError) -> Self {
        Self::StartInfo(error)
    }
}

/// The domain's RAM: by the start info's map, or where it has none (version 0), by Xen's.
///
/// # Errors
///
/// [`StartError::NoMemoryMap`] and [`StartError::MemoryMapRefused`].
pub fn find_ram(info: &StartInfo, xen: Option<&impl Hypercall>) -> Result<Ram, StartError> {
    if let Some(map) = info.memory_map() {
        return Ok(ram_of(map.iter().copied()));
    }
    let xen = xen.ok_or(StartError::NoMemoryMap)?;
    let mut entries = [E820Entry::default(); MAX_MAP];
    let map = hypercall::memory::memory_map(xen, &mut entries).map_err(StartError::MemoryMapRefused)?;
    Ok(ram_of(map.iter().map(|entry| MemoryMapEntry {
        addr: entry.address,
        size: entry.size,
        kind: RegionKind(entry.kind),
        reserved: 0,
    })))
}

fn ram_of(map: impl Iterator<Item = MemoryMapEntry> + Clone) -> Ram {
    let range = |entry: MemoryMapEntry| (entry.addr, entry.size);
    let is_ram = |entry: &MemoryMapEntry| entry.kind == RegionKind::RAM;
    let ram =
        Ram::new(map.clone().filter(is_ram).map(range), map.filter(move |entry| !is_ram(entry)).map(range));
    if ram.lost {
        log::warn!("the memory map has more ranges than can be used; the rest is left out");
    }
    ram
}

#[cfg(granite_guest)]
mod build {
    use core::ops::Range;

    use super::StartError;
    use crate::abi::PAGE_SIZE;
    use crate::arch::{paging, stack};
    use crate::mm::frames::Frames;
    use crate::mm::layout::{self, Image, NULL_PAGE};
    use crate::mm::page_tables::{Identity, PageTables};
    use crate::mm::ram::Ram;
    use crate::mm::{self, Memory};

    /// What boot/entry.S maps: nothing above can be used before our own tables are in place.
    const BOOT_MAPPED: u64 = 4 << 30;

    /// Takes the RAM over: sets up the frame allocator, builds the page tables and switches to them.
    ///
    /// # Errors
    ///
    /// [`StartError`] where there is too little of it.
    pub fn take_over(
        ram: &Ram,
        reserved: impl Iterator<Item = Range<u64>> + Clone,
    ) -> Result<(), StartError> {
        let image = Image::running();
        let mut frames = frame_allocator(ram, &image, reserved)?;

        let mut guards: heapless::Vec<Range<u64>, 8> = stack::spans().map(|span| span.guard).collect();
        guards.sort_unstable_by_key(|guard| guard.start);
        // SAFETY: frames are handed out lowest first, so the tables lie in what the boot tables map, as the
        // new ones will; what is in use was reserved.
        let mut tables = unsafe { PageTables::new(Identity, &mut frames) }.map_err(StartError::PageTables)?;
        for mapping in layout::mappings(ram, &image, &guards, &layout::holes(&image)) {
            log::debug!("map {:#x?}..{:#x?} {:?}", mapping.range.start, mapping.range.end, mapping.access);
            // SAFETY: the plan gives each part of the image the rights that its contents need.
            unsafe { tables.map_identity(&mapping, &mut frames) }.map_err(StartError::PageTables)?;
        }
        // SAFETY: the plan covers the image, the stacks and all RAM, where the tables are too. What it
        // leaves out, null page and guards, nobody uses.
        unsafe { paging::activate(tables.root()) };
        mm::adopt(Memory { frames, tables });
        Ok(())
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
        // SAFETY: the place is RAM that nothing uses, mapped by the boot tables now and by the plan later,
        // and reserved below for ever. Any bits are valid words.
        let bitmap = unsafe { core::slice::from_raw_parts_mut(place.start as *mut u64, words) };
        let mut frames = Frames::new(ram, bitmap);
        for range in [NULL_PAGE, image.span(), place].into_iter().chain(reserved) {
            frames.reserve(range);
        }
        Ok(frames)
    }
}

#[cfg(granite_guest)]
pub(super) use build::take_over;

#[cfg(test)]
mod tests {
    use super::{StartError, find_ram};
    use crate::abi::XenErrno;
    use crate::abi::memory::E820Entry;
    use crate::hypercall::fake::FakeXen;
    use crate::start::start_info::StartInfo;
    use crate::start::start_info_tests::{Loader, memory_map_entry};
    use std::vec;

    fn info(loader: &Loader) -> StartInfo {
        StartInfo::read(loader, Loader::START_INFO).unwrap()
    }

    #[test]
    fn version_0_asks_xen() {
        let map = vec![
            E820Entry { address: 0, size: 0xa_0000, kind: 1 },
            E820Entry { address: 0x10_0000, size: 0x100_0000, kind: 1 },
            E820Entry { address: 0xfee0_0000, size: 0x1000, kind: 2 },
        ];
        let xen = FakeXen { memory_map: Some(map), ..FakeXen::default() };
        let ram = find_ram(&info(&Loader::version(0)), Some(&xen)).unwrap();
        assert_eq!(ram.ranges.as_slice(), [0..0xa_0000, 0x10_0000..0x110_0000]);
    }

    #[test]
    fn version_1_asks_nobody() {
        let loader = Loader::version(1).with_memory_map(&[
            memory_map_entry(0x10_0000, 0x40_0000, 1),
            memory_map_entry(0x20_0000, 0x1000, 2),
            memory_map_entry(u64::MAX, u64::MAX, 77),
        ]);
        let ram = find_ram(&info(&loader), None::<&FakeXen>).unwrap();
        assert_eq!(ram.ranges.as_slice(), [0x10_0000..0x20_0000, 0x20_1000..0x50_0000]);
    }

    #[test]
    fn without_any_map_the_error_says_so() {
        let info = info(&Loader::version(0));
        assert_eq!(find_ram(&info, None::<&FakeXen>).unwrap_err(), StartError::NoMemoryMap);
        let refused = find_ram(&info, Some(&FakeXen::default())).unwrap_err();
        assert_eq!(refused, StartError::MemoryMapRefused(XenErrno::NOSYS));
    }
}
