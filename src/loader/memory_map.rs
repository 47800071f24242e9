//! The memory map, from the loader or from Xen.

use core::fmt;
use core::ops::Range;

use super::{MAX_MAP, StartInfo};
use crate::abi::XenErrno;
use crate::abi::memory::E820Entry;
use crate::abi::start_info::{MemoryMapEntry, RegionKind};
use crate::arch::paging;
use crate::hypercall::{self, Hypercall};
use crate::mm::ram::{self, Ram};
use crate::mm::windows;

/// Every processor with virtualisation has physical addresses up to this limit.
const LIMIT_OF_ALL: u64 = 1 << 36;

/// Why there is no memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoMemoryMap {
    /// The start info has no memory map, and there is no Xen to ask.
    NoXen,
    /// Xen was asked for the memory map and refused.
    Refused(XenErrno),
}

impl fmt::Display for NoMemoryMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoXen => f.write_str("the loader gave no memory map, and there is no Xen to ask for one"),
            Self::Refused(error) => write!(f, "Xen refuses the memory map: {error}"),
        }
    }
}

impl core::error::Error for NoMemoryMap {}

/// The RAM, and a place for windows, found in the memory map.
#[derive(Debug)]
pub struct Found {
    /// The domain's RAM.
    pub ram: Ram,
    /// A range for windows without an entry in the map; `None` if there is none.
    pub windows: Option<Range<u64>>,
}

/// Finds the domain's RAM, and a place for windows, in the start info's map or, if it has none (version 0), in Xen's.
///
/// # Errors
///
/// [`NoMemoryMap`] if neither the loader nor Xen provides a map.
pub fn usable_ram(info: &StartInfo, xen: Option<&impl Hypercall>) -> Result<Found, NoMemoryMap> {
    if let Some(map) = info.memory_map() {
        return Ok(read(map.iter().copied()));
    }
    let xen = xen.ok_or(NoMemoryMap::NoXen)?;
    let mut entries = [E820Entry::default(); MAX_MAP];
    let map = hypercall::memory::memory_map(xen, &mut entries).map_err(NoMemoryMap::Refused)?;
    Ok(read(map.iter().map(|entry| MemoryMapEntry {
        addr: entry.address,
        size: entry.size,
        kind: RegionKind(entry.kind),
        reserved: 0,
    })))
}

fn read(map: impl Iterator<Item = MemoryMapEntry> + Clone) -> Found {
    let place = |limit| windows::place(map.clone().map(|entry| ram::outward(entry.addr, entry.size)), limit);
    // CPUID traps, so the processor is asked only if there is no place below `LIMIT_OF_ALL`.
    let windows = place(LIMIT_OF_ALL).or_else(|| place(paging::physical_limit().min(ram::LIMIT)));
    Found { ram: ram_of(map), windows }
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

#[cfg(test)]
mod tests {
    use super::{Found, NoMemoryMap, usable_ram};
    use crate::abi::XenErrno;
    use crate::abi::memory::E820Entry;
    use crate::hypercall::fake::FakeXen;
    use crate::loader::StartInfo;
    use crate::loader::start_info_tests::{Loader, memory_map_entry};
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
        let Found { ram, windows } = usable_ram(&info(&Loader::version(0)), Some(&xen)).unwrap();
        assert_eq!(windows.unwrap().start, 4 << 30);
        assert_eq!(ram.ranges.as_slice(), [0..0xa_0000, 0x10_0000..0x110_0000]);
    }

    #[test]
    fn version_1_asks_nobody() {
        let loader = Loader::version(1).with_memory_map(&[
            memory_map_entry(0x10_0000, 0x40_0000, 1),
            memory_map_entry(0x20_0000, 0x1000, 2),
            memory_map_entry(u64::MAX, u64::MAX, 77),
        ]);
        let ram = usable_ram(&info(&loader), None::<&FakeXen>).unwrap().ram;
        assert_eq!(ram.ranges.as_slice(), [0x10_0000..0x20_0000, 0x20_1000..0x50_0000]);
    }

    #[test]
    fn without_any_map_the_error_says_so() {
        let info = info(&Loader::version(0));
        assert_eq!(usable_ram(&info, None::<&FakeXen>).unwrap_err(), NoMemoryMap::NoXen);
        let refused = usable_ram(&info, Some(&FakeXen::default())).unwrap_err();
        assert_eq!(refused, NoMemoryMap::Refused(XenErrno::NOSYS));
    }
}
