//! Reading the start info. None of it is trusted: every pointer may be null or wrong, every count absurd, every text
//! without an end.

use core::fmt;
use core::ops::Range;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::abi::start_info::{
    FLAG_INITIAL_DOMAIN, MAGIC, MemoryMapEntry, Module, SIZE_V0, StartInfo as Raw, VERSION_WITH_MEMORY_MAP,
};
use crate::mm::ram::Ram;

use super::Options;

/// Modules beyond this many are not used.
pub const MAX_MODULES: usize = 8;
/// Entries of the memory map beyond this many are not used. Xen itself stops at 128 (E820MAX).
pub const MAX_MAP: usize = 128;
/// Bytes of command line beyond this many are not used. Xen gives its control domain at most 1024.
pub const MAX_COMMAND_LINE: usize = 2048;

/// Guest-physical memory, as far as it can be read at boot.
pub trait PhysicalMemory {
    /// Copies memory from `address` on. Returns whether it was readable.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

/// Why there is no usable start info.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartInfoError {
    /// The address given by the loader can't be read.
    Unreadable(u64),
    /// The memory there begins with this number, not with the start info's magic.
    BadMagic(u32),
}

impl fmt::Display for StartInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(address) => write!(f, "no start info can be read at {address:#x}"),
            Self::BadMagic(magic) => {
                write!(f, "the start info begins with {magic:#010x}, not with {MAGIC:#010x}")
            }
        }
    }
}

impl core::error::Error for StartInfoError {}

/// The loader's information, copied and checked.
#[derive(Clone, Debug)]
pub struct StartInfo {
    raw: Raw,
    command_line: heapless::String<MAX_COMMAND_LINE>,
    modules: heapless::Vec<Module, MAX_MODULES>,
    memory_map: Option<heapless::Vec<MemoryMapEntry, MAX_MAP>>,
}

impl StartInfo {
    /// Reads the start info at `address`. Invalid parts are left out, with a warning in the log.
    ///
    /// # Errors
    ///
    /// [`StartInfoError::Unreadable`] if `address` can't be read, [`StartInfoError::BadMagic`] if there is no start
    /// info.
    pub fn read(memory: &impl PhysicalMemory, address: u64) -> Result<Self, StartInfoError> {
        let raw = read_raw(memory, address)?;
        let mut this = Self {
            raw,
            command_line: heapless::String::new(),
            modules: heapless::Vec::new(),
            memory_map: None,
        };
        this.read_command_line(memory);
        this.read_modules(memory);
        this.read_memory_map(memory);
        Ok(this)
    }

    /// Returns the version of the structure.
    pub fn version(&self) -> u32 {
        self.raw.version
    }

    /// Returns whether this is the domain started by Xen itself.
    pub fn is_initial_domain(&self) -> bool {
        self.raw.flags & FLAG_INITIAL_DOMAIN != 0
    }

    /// Returns the options of the command line.
    pub fn options(&self) -> Options<'_> {
        Options::new(&self.command_line)
    }

    /// Returns the physical address of ACPI's root pointer, if there is one.
    pub fn rsdp(&self) -> Option<u64> {
        (self.raw.rsdp_paddr != 0).then_some(self.raw.rsdp_paddr)
    }

    /// Returns the memory map, or `None` if there is none (as in version 0) or it can't be read.
    pub fn memory_map(&self) -> Option<&[MemoryMapEntry]> {
        self.memory_map.as_deref()
    }

    /// Returns the modules that lie entirely in `free` memory: RAM outside the kernel. The others are left out, with
    /// a warning. All other data of the loader was copied, so no other memory has to be kept.
    pub fn modules_in(&self, free: &Ram) -> heapless::Vec<Range<u64>, MAX_MODULES> {
        let mut found = heapless::Vec::new();
        for Module { paddr, size, .. } in &self.modules {
            let bytes = *paddr..paddr.saturating_add(*size);
            let fits = |range: &Range<u64>| range.start <= bytes.start && bytes.end <= range.end;
            if bytes.is_empty() || !free.ranges.iter().any(fits) {
                log::warn!("a module at {paddr:#x} with {size:#x} bytes isn't in free RAM; left out");
            } else if found.push(bytes).is_err() {
                break; // there is room for as many as were read
            }
        }
        found
    }

    fn read_command_line(&mut self, memory: &impl PhysicalMemory) {
        let start = self.raw.cmdline_paddr;
        if start == 0 {
            return;
        }
        for offset in 0.. {
            let mut byte = [0];
            if !start.checked_add(offset).is_some_and(|address| memory.read(address, &mut byte)) {
                log::warn!(
                    "the command line leaves memory at {start:#x} + {offset:#x}; the rest is left out"
                );
                return;
            }
            let character = match byte[0] {
                0 => return,
                printable @ (b' '..=b'~' | b'\t') => char::from(printable),
                _ => char::REPLACEMENT_CHARACTER,
            };
            if self.command_line.push(character).is_err() {
                log::warn!("the command line is longer than {MAX_COMMAND_LINE} bytes; the rest is left out");
                return;
            }
        }
    }

    fn read_modules(&mut self, memory: &impl PhysicalMemory) {
        let Raw { modlist_paddr, nr_modules, .. } = self.raw;
        self.modules = read_list(memory, "modules", modlist_paddr, nr_modules);
    }

    fn read_memory_map(&mut self, memory: &impl PhysicalMemory) {
        let Raw { memmap_paddr, memmap_entries, .. } = self.raw;
        if memmap_paddr == 0 || memmap_entries == 0 {
            return;
        }
        let map = read_list(memory, "memory ranges", memmap_paddr, memmap_entries);
        // An unreadable map counts as none, so that Xen may still be asked.
        self.memory_map = (!map.is_empty()).then_some(map);
    }
}

fn read_raw(memory: &impl PhysicalMemory, address: u64) -> Result<Raw, StartInfoError> {
    let readable = |bytes: &mut [u8]| address != 0 && memory.read(address, bytes);
    // Version 0 ends before the memory map, whose fields stay zero.
    let mut raw = Raw::new_zeroed();
    if !readable(&mut raw.as_mut_bytes()[..SIZE_V0]) {
        return Err(StartInfoError::Unreadable(address));
    }
    if raw.magic != MAGIC {
        return Err(StartInfoError::BadMagic(raw.magic));
    }
    let mut whole = raw;
    if raw.version < VERSION_WITH_MEMORY_MAP {
        Ok(raw)
    } else if readable(whole.as_mut_bytes()) {
        Ok(whole)
    } else {
        log::warn!("the start info ends before its memory map");
        Ok(raw)
    }
}

/// Reads `count` entries: as many as there is room for, and none after an unreadable one.
fn read_list<T: FromBytes + IntoBytes, const MAX: usize>(
    memory: &impl PhysicalMemory,
    what: &str,
    start: u64,
    count: u32,
) -> heapless::Vec<T, MAX> {
    let mut list = heapless::Vec::new();
    if start == 0 {
        return list;
    }
    for index in 0..u64::from(count) {
        let mut entry = T::new_zeroed();
        let address = start.checked_add(index * size_of::<T>() as u64);
        if !address.is_some_and(|address| memory.read(address, entry.as_mut_bytes())) {
            log::warn!("the list of {what} leaves memory after {index} of {count}; the rest is left out");
            break;
        }
        if list.push(entry).is_err() {
            log::warn!("the loader lists {count} {what}; the first {MAX} are used");
            break;
        }
    }
    list
}
