//! Building a domain, step by step. Whatever fails, what was made before is unmade.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::ops::Range;

use super::foreign::Foreign;
use super::interface::{Known, Limits};
use super::kernel::Kernel;
use super::{Step, ToolstackError};
use crate::abi::hvm_context::{CPU, Cpu, Descriptor, END, HEADER, Header};
use crate::abi::memory::POPULATE_ON_DEMAND;
use crate::abi::start_info::{MAGIC, MemoryMapEntry, Module, RegionKind, StartInfo, VERSION_WITH_MEMORY_MAP};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};
use crate::arch;
use crate::hypercall::control::Interface;
use crate::hypercall::{Hypercall, memory};
use crate::mm::windows::Windows;

/// Pieces of memory that are given with one hypercall.
const BATCH: usize = 64;

/// MiB that a domain can have here: what lies below the addresses of devices.
pub const MAX_MEMORY: u32 = 3 << 10;

/// What a domain is to be.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// An ELF image with a PVH entry point.
    pub kernel: &'a [u8],
    /// What the kernel is told.
    pub command_line: &'a str,
    /// Files for it.
    pub modules: &'a [&'a [u8]],
    /// MiB of memory: what the domain's memory map names.
    pub memory: u32,
    /// MiB that the domain really has, of those, for it to take where it wants; `None`: all. A kernel must give up the rest
    /// before it uses what is not there: Xen ends it otherwise. It is how `xl` starts a domain whose `maxmem` is above its
    /// `memory`.
    #[doc(alias = "XENMEM_set_pod_target")]
    pub populated: Option<u32>,
    /// vCPUs.
    pub vcpus: u32,
    /// Its highest event channel.
    pub event_ports: u32,
    /// Frames of its grant table; nothing: Xen's default.
    pub grant_frames: Option<u32>,
    /// Frames in which Xen counts what it maps; nothing: Xen's default.
    pub maptrack_frames: Option<u32>,
    /// The highest version of grants that it may use.
    pub grant_version: u32,
    /// Its vCPUs run on this processor alone, and read its time-stamp counter; nothing: on any.
    pub processor: Option<u32>,
}

impl Default for Config<'_> {
    fn default() -> Self {
        Self {
            kernel: &[],
            command_line: "",
            modules: &[],
            memory: 32,
            populated: None,
            vcpus: 1,
            event_ports: 1023,
            grant_frames: None,
            maptrack_frames: None,
            grant_version: 2,
            processor: None,
        }
    }
}

impl Config<'_> {
    fn limits(&self) -> Limits {
        Limits {
            vcpus: self.vcpus,
            event_ports: self.event_ports,
            grant_frames: self.grant_frames,
            maptrack_frames: self.maptrack_frames,
            grant_version: self.grant_version,
        }
    }
}

/// A domain that was made here: dropped, it is destroyed.
#[derive(Debug)]
pub struct Made<'i, X: Hypercall> {
    interface: &'i Interface<X>,
    id: DomId,
    is_destroyed: bool,
}

impl<X: Hypercall> Drop for Made<'_, X> {
    fn drop(&mut self) {
        if let Err(errno) = self.destroy() {
            log::warn!("domain {} can't be destroyed: {errno}", self.id);
        }
    }
}

impl<X: Hypercall> Made<'_, X> {
    /// Its number.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// Destroys it, once: its number may be another's soon.
    ///
    /// # Errors
    ///
    /// What Xen says; it may be tried again then.
    pub fn destroy(&mut self) -> Result<(), XenErrno> {
        if !self.is_destroyed {
            self.interface.destroy(self.id)?;
            self.is_destroyed = true;
        }
        Ok(())
    }
}

fn at<T>(step: Step, result: Result<T, XenErrno>) -> Result<T, ToolstackError> {
    result.map_err(|errno| ToolstackError::Xen(step, errno))
}

/// Builds a domain, which is paused then. What depends on its number, as a grant to it, can be told to the kernel by
/// `command_line`, which is asked once the domain is there.
///
/// # Errors
///
/// [`ToolstackError`], and there is no domain.
pub fn build<'i, X: Hypercall>(
    interface: &'i Interface<X>,
    known: &Known,
    windows: &'static Windows,
    config: &Config<'_>,
    command_line: impl FnOnce(DomId) -> Result<alloc::string::String, ToolstackError>,
) -> Result<Made<'i, X>, ToolstackError> {
    // What can be seen before there is a domain.
    let kernel = Kernel::read(config.kernel)?;
    if !(1..=MAX_MEMORY).contains(&config.memory) || config.populated.is_some_and(|mib| mib > config.memory) {
        return Err(ToolstackError::BadMemory { mib: config.memory });
    }
    let given = u64::from(config.memory) << 20;
    let fits = |needed: u64| {
        if needed <= given { Ok(()) } else { Err(ToolstackError::TooLittleMemory { needed, given }) }
    };
    fits(kernel.end())?;

    let id = at(Step::Create, known.create(interface, &config.limits()))?;
    let domain = Made { interface, id, is_destroyed: false };
    at(Step::Vcpus, interface.set_vcpus(id, config.vcpus))?;
    at(Step::MaxMemory, interface.set_max_memory(id, given / 1024))?;
    // As libxl counts: 1 MiB for each vCPU, and 4 KiB for each MiB of memory; and a MiB to begin with.
    let paging = 2 + config.vcpus + config.memory.div_ceil(256);
    at(Step::PagingMemory, interface.set_paging_memory(id, paging))?;
    if let Some(processor) = config.processor {
        // All its vCPUs have one counter, so none is ahead: Xen needn't catch each read of it, which takes thousands of
        // instructions where it doesn't trust the processors' counters.
        at(Step::Clock, interface.set_native_tsc(id))?;
        for vcpu in 0..config.vcpus {
            at(Step::Pin, interface.pin(id, vcpu, processor))?;
        }
    }
    let flags = match config.populated {
        None => 0,
        Some(mib) => {
            at(Step::Memory, memory::set_pod_target(interface.xen(), id, u64::from(mib) << 8))?;
            POPULATE_ON_DEMAND
        }
    };
    give_memory(interface.xen(), id, config.memory, flags)?;

    let line = command_line(id)?;
    let told = Told::new(kernel.end(), &line, config.modules, given);
    fits(told.end)?;
    let foreign = Foreign::new(interface.xen(), windows, id);
    for segment in &kernel.segments {
        // What lies behind the contents is zeros already: Xen gives no page with anything in it.
        foreign.write(segment.place.start, segment.bytes)?;
    }
    foreign.write(told.start, &told.bytes)?;
    for (module, place) in config.modules.iter().zip(&told.modules) {
        foreign.write(*place, module)?;
    }
    set_registers(interface, id, kernel.entry, told.start)?;
    Ok(domain)
}

/// Gives a domain its memory, from address 0 on: in pages of 2 MiB where they fit and Xen has them.
fn give_memory(xen: &impl Hypercall, id: DomId, mib: u32, flags: u32) -> Result<(), ToolstackError> {
    const LARGE: u32 = 9;
    let frames = u64::from(mib) << 8;
    let large_end = frames >> LARGE << LARGE;
    // Returns the frame after those that the domain got.
    let give = |range: Range<u64>, order: u32| {
        let size = 1 << order;
        let some: heapless::Vec<Gfn, BATCH> = range.clone().step_by(size).take(BATCH).map(Gfn).collect();
        // SAFETY: the domain was just made, and has nothing there yet.
        let done = at(Step::Memory, unsafe { memory::give(xen, id, &some, order, flags) })?;
        let end = range.start + (done.min(some.len() as u64) << order);
        Ok::<_, ToolstackError>((end, done == some.len() as u64))
    };
    let give_small = |range: Range<u64>| {
        let mut next = range.start;
        while next < range.end {
            let complete;
            (next, complete) = give(next..range.end, 0)?;
            if !complete {
                return Err(ToolstackError::Xen(Step::Memory, XenErrno::NOMEM));
            }
        }
        Ok(())
    };
    let mut next = 0;
    while next < large_end {
        let complete;
        (next, complete) = give(next..large_end, LARGE)?;
        if !complete {
            // Xen has no such page left in one piece: this one in pieces.
            give_small(next..next + (1 << LARGE))?;
            next += 1 << LARGE;
        }
    }
    give_small(large_end..frames)
}

/// What the kernel is told, and where that goes: start info, memory map, list of modules, command line; then the
/// modules, each at a page.
struct Told {
    start: u64,
    bytes: Vec<u8>,
    modules: Vec<u64>,
    end: u64,
}

impl Told {
    fn new(after: u64, command_line: &str, modules: &[&[u8]], memory: u64) -> Self {
        let start = after.next_multiple_of(PAGE_SIZE);
        let map = start + size_of::<StartInfo>() as u64;
        let list = map + size_of::<MemoryMapEntry>() as u64;
        let line = list + (modules.len() * size_of::<Module>()) as u64;
        let mut next = (line + command_line.len() as u64 + 1).next_multiple_of(PAGE_SIZE);
        let mut places = Vec::new();
        for module in modules {
            places.push(next);
            next = (next + module.len() as u64).next_multiple_of(PAGE_SIZE);
        }
        let info = StartInfo {
            magic: MAGIC,
            version: VERSION_WITH_MEMORY_MAP,
            flags: 0,
            nr_modules: modules.len() as u32,
            modlist_paddr: if modules.is_empty() { 0 } else { list },
            cmdline_paddr: line,
            rsdp_paddr: 0,
            memmap_paddr: map,
            memmap_entries: 1,
            reserved: 0,
        };
        let ram = MemoryMapEntry { addr: 0, size: memory, kind: RegionKind::RAM, reserved: 0 };
        let mut bytes = vec![];
        let words = [info.magic, info.version, info.flags, info.nr_modules];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        let addresses = [info.modlist_paddr, info.cmdline_paddr, info.rsdp_paddr, info.memmap_paddr];
        addresses.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [info.memmap_entries, info.reserved].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [ram.addr, ram.size].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        [ram.kind.0, ram.reserved].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        for (module, place) in modules.iter().zip(&places) {
            [*place, module.len() as u64, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        bytes.extend(command_line.as_bytes());
        bytes.push(0);
        Self { start, bytes, modules: places, end: next }
    }
}

/// The registers with which a PVH kernel starts: 32-bit code, no paging, EBX = start info. Source:
/// `docs/misc/pvh.pandoc` of Xen.
fn set_registers<X: Hypercall>(
    interface: &Interface<X>,
    id: DomId,
    entry: u32,
    start_info: u64,
) -> Result<(), ToolstackError> {
    const PE_ET: u64 = 0x11;
    const CODE: u32 = 0xc9b;
    const DATA: u32 = 0xc93;
    const TASK: u32 = 0x8b;
    // The processor is told, since Xen warns of a state that was saved on another one.
    let header = Header { cpuid: arch::processor_signature(), ..Header::CURRENT };
    let mut records = descriptor(HEADER, size_of::<Header>());
    [header.magic, header.version].iter().for_each(|word| records.extend(word.to_le_bytes()));
    records.extend(header.changeset.to_le_bytes());
    [header.cpuid, header.gtsc_khz].iter().for_each(|word| records.extend(word.to_le_bytes()));

    // Everything else is zero, as after a reset.
    let mut cpu = vec![0u8; size_of::<Cpu>()];
    let mut set = |offset: usize, bytes: &[u8]| cpu[offset..offset + bytes.len()].copy_from_slice(bytes);
    set(offset_of!(Cpu, rbx), &start_info.to_le_bytes());
    set(offset_of!(Cpu, rip), &u64::from(entry).to_le_bytes());
    set(offset_of!(Cpu, rflags), &2u64.to_le_bytes());
    set(offset_of!(Cpu, cr0), &PE_ET.to_le_bytes());
    set(offset_of!(Cpu, dr6), &0xffff_0ff0u64.to_le_bytes());
    set(offset_of!(Cpu, dr7), &0x400u64.to_le_bytes());
    let words = |words: [u32; 8]| words.map(u32::to_le_bytes).concat();
    // CS, DS, ES, FS, GS, SS, TR, the local table.
    set(offset_of!(Cpu, limits), &words([!0, !0, !0, 0, 0, !0, 0x67, 0]));
    set(offset_of!(Cpu, access), &words([CODE, DATA, DATA, 0, 0, DATA, TASK, 0]));

    records.extend(descriptor(CPU, cpu.len()));
    records.extend(cpu);
    records.extend(descriptor(END, 0));
    at(Step::Context, interface.set_context(id, &records))
}

/// What stands before a record of the first vCPU, or of the domain.
fn descriptor(typecode: u16, length: usize) -> Vec<u8> {
    let descriptor = Descriptor { typecode, instance: 0, length: length as u32 };
    let mut bytes = vec![];
    [descriptor.typecode, descriptor.instance].iter().for_each(|half| bytes.extend(half.to_le_bytes()));
    bytes.extend(descriptor.length.to_le_bytes());
    bytes
}
