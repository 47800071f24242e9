//! The memory layout after boot: a plan in the form of data, so that it can be checked without a machine.

use core::ops::Range;

use super::ram::{Ram, gaps};
use crate::abi::PAGE_SIZE;

/// The rights of a mapping. Writable and executable at once can't be expressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Constant data.
    ReadOnly,
    /// Variable data.
    ReadWrite,
    /// Code.
    Execute,
}

/// A range of whole pages, mapped at its own physical address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The virtual addresses, equal to the physical ones.
    pub range: Range<u64>,
    /// The rights of every page in the range.
    pub access: Access,
}

/// The parts of the kernel's image: in this order, in whole pages, without gaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Code, the hypercall page included.
    pub text: Range<u64>,
    /// Constants.
    pub rodata: Range<u64>,
    /// Variables and stacks.
    pub data: Range<u64>,
}

impl Image {
    /// Returns the range of the whole image.
    pub fn span(&self) -> Range<u64> {
        self.text.start..self.data.end
    }

    /// Returns the running image. Source: linker.ld.
    #[cfg(granite_guest)]
    pub fn running() -> Self {
        unsafe extern "C" {
            static text_start: u8;
            static text_end: u8;
            static rodata_start: u8;
            static rodata_end: u8;
            static data_start: u8;
            static data_end: u8;
        }
        Self {
            text: &raw const text_start as u64..&raw const text_end as u64,
            rodata: &raw const rodata_start as u64..&raw const rodata_end as u64,
            data: &raw const data_start as u64..&raw const data_end as u64,
        }
    }
}

/// The page at address zero: never mapped, so that using a null pointer faults.
pub const NULL_PAGE: Range<u64> = 0..PAGE_SIZE;

/// Returns the kernel's mappings: the image, each part with its own rights and without the stacks' `guards`, and all
/// other RAM, readable and writable, without the null page. `guards` must be in order.
pub fn mappings<'a>(
    ram: &'a Ram,
    image: &'a Image,
    guards: &'a [Range<u64>],
    holes: &'a [Range<u64>; 2],
) -> impl Iterator<Item = Mapping> + 'a {
    let parts = [
        Mapping { range: image.text.clone(), access: Access::Execute },
        Mapping { range: image.rodata.clone(), access: Access::ReadOnly },
    ];
    let read_write = |range| Mapping { range, access: Access::ReadWrite };
    let data = gaps(image.data.clone(), guards).map(read_write);
    let rest = ram.ranges.iter().flat_map(move |range| gaps(range.clone(), holes)).map(read_write);
    parts.into_iter().chain(data).chain(rest)
}

/// Returns the ranges left out of plain RAM by [`mappings`]: the null page, and the image, mapped part by part.
pub fn holes(image: &Image) -> [Range<u64>; 2] {
    [NULL_PAGE, image.span()]
}

#[cfg(test)]
mod tests {
    use super::{Access, Image, Mapping, holes, mappings};
    use crate::mm::ram::Ram;
    use std::vec::Vec;

    #[test]
    fn the_plan_covers_ram_once_without_guards_and_null_page() {
        let image =
            Image { text: 0x20_0000..0x21_0000, rodata: 0x21_0000..0x21_8000, data: 0x21_8000..0x24_0000 };
        let ram = Ram::new([(0, 0xa_0000), (0x10_0000, 0x80_0000)].into_iter(), core::iter::empty());
        let guards = [0x21_9000..0x21_a000, 0x22_9000..0x22_a000];
        let holes = holes(&image);
        let plan: Vec<Mapping> = mappings(&ram, &image, &guards, &holes).collect();

        let inside = |address: u64| plan.iter().filter(|mapping| mapping.range.contains(&address)).count();
        for address in (0..0xa0_0000).step_by(0x1000) {
            let is_ram = ram.ranges.iter().any(|range| range.contains(&address));
            let left_out = address == 0 || guards.iter().any(|guard| guard.contains(&address));
            assert_eq!(inside(address), usize::from(is_ram && !left_out), "{address:#x}");
        }
        let access = |address: u64| plan.iter().find(|m| m.range.contains(&address)).map(|m| m.access);
        assert_eq!(access(0x20_0000), Some(Access::Execute));
        assert_eq!(access(0x21_0000), Some(Access::ReadOnly));
        assert_eq!(access(0x21_8000), Some(Access::ReadWrite));
        assert_eq!(plan.iter().filter(|mapping| mapping.access == Access::Execute).count(), 1);
    }
}
