//! A loader with contents chosen by a test, and the tests of reading them.

#![allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::start_info::MAX_COMMAND_LINE;
use super::{MAX_MAP, MAX_MODULES, PhysicalMemory, StartInfo, StartInfoError};
use crate::abi::start_info::{MAGIC, MemoryMapEntry, RegionKind};
use crate::mm::ram::Ram;

/// Sixty-four KiB of memory from [`Loader::BASE`] on, with a start info in it.
pub struct Loader {
    memory: Vec<u8>,
}

pub fn memory_map_entry(addr: u64, size: u64, kind: u32) -> MemoryMapEntry {
    MemoryMapEntry { addr, size, kind: RegionKind(kind), reserved: 0 }
}

impl Loader {
    pub const BASE: u64 = 0x30_0000;
    pub const START_INFO: u64 = Self::BASE;
    const COMMAND_LINE: u64 = Self::BASE + 0x1000;
    const MODULES: u64 = Self::BASE + 0x2000;
    const MEMORY_MAP: u64 = Self::BASE + 0x3000;
    const SIZE: usize = 0x1_0000;

    pub fn version(version: u32) -> Self {
        let mut this = Self { memory: vec![0; Self::SIZE] };
        this.put32(0, MAGIC);
        this.put32(4, version);
        this
    }

    pub fn with_memory_map(mut self, entries: &[MemoryMapEntry]) -> Self {
        self.put64(40, Self::MEMORY_MAP);
        self.put32(48, entries.len() as u32);
        for (i, entry) in entries.iter().enumerate() {
            let at = (Self::MEMORY_MAP - Self::BASE) as usize + i * 24;
            self.put64(at, entry.addr);
            self.put64(at + 8, entry.size);
            self.put32(at + 16, entry.kind.0);
        }
        self
    }

    fn with_command_line(mut self, line: &[u8]) -> Self {
        self.put64(24, Self::COMMAND_LINE);
        let at = (Self::COMMAND_LINE - Self::BASE) as usize;
        self.memory[at..at + line.len()].copy_from_slice(line);
        self
    }

    fn with_modules(mut self, modules: &[(u64, u64)]) -> Self {
        self.put64(16, Self::MODULES);
        self.put32(12, modules.len() as u32);
        for (i, (paddr, size)) in modules.iter().enumerate() {
            let at = (Self::MODULES - Self::BASE) as usize + i * 32;
            self.put64(at, *paddr);
            self.put64(at + 8, *size);
        }
        self
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.memory[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn read(&self) -> StartInfo {
        StartInfo::read(self, Self::START_INFO).unwrap()
    }
}

impl PhysicalMemory for Loader {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let start = address.checked_sub(Self::BASE).and_then(|offset| usize::try_from(offset).ok());
        let from = start.and_then(|start| self.memory.get(start..)?.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    }
}

#[test]
fn version_0_has_no_memory_map_whatever_lies_behind_it() {
    let info = Loader { ..Loader::version(0) }.with_memory_map(&[memory_map_entry(0, 4096, 1)]).read();
    assert!(info.memory_map().is_none());
    assert_eq!((info.version(), info.rsdp(), info.is_initial_domain()), (0, None, false));
}

#[test]
fn version_1_and_later_have_one() {
    for version in [1, 2, u32::MAX] {
        let entry = memory_map_entry(0x1000, 0x2000, 1);
        assert_eq!(
            Loader::version(version).with_memory_map(&[entry]).read().memory_map(),
            Some(&[entry][..])
        );
        assert!(Loader::version(version).read().memory_map().is_none(), "a null pointer is no map");
    }
}

#[test]
fn what_is_no_start_info_is_an_error() {
    let loader = Loader { memory: vec![0; 64] };
    let read = |address| StartInfo::read(&loader, address).unwrap_err();
    assert_eq!(read(Loader::BASE), StartInfoError::BadMagic(0));
    for address in [0, 1, Loader::BASE + 60, u64::MAX] {
        assert_eq!(read(address), StartInfoError::Unreadable(address));
    }
}

#[test]
fn a_command_line_is_copied_up_to_its_end_or_ours() {
    assert_eq!(Loader::version(1).read().options().line(), "");
    let line =
        |bytes: &[u8]| String::from(Loader::version(1).with_command_line(bytes).read().options().line());
    assert_eq!(line(b"log=debug name=x\0rest"), "log=debug name=x");
    assert_eq!(line(b"bad \xff\x01 bytes\0"), "bad \u{FFFD}\u{FFFD} bytes");
    let endless = line(&vec![b'x'; 0x8000]);
    assert_eq!(endless.len(), MAX_COMMAND_LINE);
    assert_eq!(line(&vec![0xff; 0x8000]).len() / 3, MAX_COMMAND_LINE / 3);
}

#[test]
fn wrong_pointers_lose_only_what_they_point_to() {
    for pointer in [1, Loader::BASE + Loader::SIZE as u64 - 1, 1 << 32, u64::MAX] {
        let mut loader = Loader::version(1).with_memory_map(&[memory_map_entry(0x1000, 0x2000, 1)]);
        loader.put64(24, pointer); // command line
        loader.put64(16, pointer); // modules
        loader.put32(12, 5);
        loader.memory[Loader::SIZE - 1] = b'x';
        let info = loader.read();
        assert!(info.options().line().len() <= 1 && info.modules_in(&everything()).is_empty());
        assert_eq!(info.memory_map().map(<[_]>::len), Some(1));
        loader.put64(40, pointer); // memory map
        assert_eq!(loader.read().memory_map(), None);
    }
}

/// Returns RAM up to 4 GiB.
fn everything() -> Ram {
    Ram::new([(0, 4 << 30)].into_iter(), core::iter::empty())
}

#[test]
fn only_modules_in_free_memory_are_taken() {
    let good = (0x40_0000, 0x1000);
    let bad = [
        (0, 0x1000),
        (0x41_0000, 0),
        (0x20_f000, 0x2000),
        (0x50_0000, u64::MAX),
        (u64::MAX, 1),
        (1 << 40, 16),
    ];
    let mut free = everything();
    free.remove(0..0x1000);
    free.remove(0x21_0000..0x30_0000); // as the image
    for bad in bad {
        let info = Loader::version(1).with_modules(&[bad, good]).read();
        assert_eq!(info.modules_in(&free).as_slice(), &[0x40_0000..0x40_1000], "{bad:x?}");
    }
}

#[test]
fn absurd_counts_are_cut() {
    let mut loader = Loader::version(1).with_memory_map(&[]).with_modules(&[(0x40_0000, 0x1800)]);
    loader.put32(12, u32::MAX);
    loader.put32(48, u32::MAX);
    let info = loader.read();
    assert_eq!(info.memory_map().map(<[_]>::len), Some(MAX_MAP));
    // Those after the first are zeros, not modules.
    assert_eq!(info.modules_in(&everything()).as_slice(), &[0x40_0000..0x40_1800]);
    // A module may fill a range to its last byte, and not one byte more.
    let mut exact = everything();
    exact.remove(0..0x40_0000);
    exact.remove(0x40_2000..u64::MAX);
    for (size, is_in) in [(0x2000, true), (0x2001, false)] {
        let info = Loader::version(1).with_modules(&[(0x40_0000, size)]).read();
        assert_eq!(info.modules_in(&exact).len(), usize::from(is_in), "{size:#x}");
    }
    let many = Loader::version(1).with_modules(&[(0x40_0000, 0x10); 20]).read();
    assert_eq!(many.modules_in(&everything()).len(), MAX_MODULES);
}

#[test]
fn nothing_that_a_loader_writes_is_a_panic() {
    let mut seed = 7u64;
    for round in 0..2_000 {
        let mut loader = Loader::version(round % 3).with_command_line(b"log=info\0").with_modules(&[(1, 2)]);
        for word in loader.memory[8..56].chunks_exact_mut(8) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match seed >> 61 {
                0 => word.copy_from_slice(&seed.to_le_bytes()),
                1 => word.copy_from_slice(&(Loader::BASE + (seed & 0xffff)).to_le_bytes()),
                2 => word.fill(0xff),
                _ => {}
            }
        }
        let info = loader.read();
        let _ = info.modules_in(&everything()).len() + info.options().iter().count();
    }
}
