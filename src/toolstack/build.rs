//! Builds a domain, step by step. If a step fails, the earlier ones are undone.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use super::foreign::Foreign;
use super::interface::{Known, Limits};
use super::kernel::Kernel;
use super::{Step, ToolstackError};
use crate::abi::hvm_context::{CPU, Cpu, Descriptor, END, HEADER, Header};
use crate::abi::memory::POPULATE_ON_DEMAND;
use crate::abi::start_info::{MAGIC, MemoryMapEntry, Module, RegionKind, StartInfo, VERSION_WITH_MEMORY_MAP};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};
use crate::arch;
use crate::hypercall::domctl::Interface;
use crate::hypercall::{Hypercall, memory};
use crate::mm::windows::Windows;

/// The maximum number of pages given by one hypercall.
const BATCH: usize = 64;

/// The maximum memory of a domain in MiB: all of it lies below the addresses of devices.
pub const MAX_MEMORY: u32 = 3 << 10;

/// A domain's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// An ELF image with a PVH entry point.
    pub kernel: &'a [u8],
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Files for the kernel.
    pub modules: &'a [&'a [u8]],
    /// Memory in MiB, as the domain's memory map shows it.
    pub memory: u32,
    /// Memory in MiB that the domain really has; it may use it anywhere in its memory map. `None`: all of `memory`. A
    /// kernel must give up the rest before it touches missing memory: otherwise Xen ends it. `xl` starts a domain like
    /// this if its `maxmem` is above its `memory`.
    #[doc(alias = "XENMEM_set_pod_target")]
    pub populated: Option<u32>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Its highest event channel port.
    pub event_ports: u32,
    /// Maximum number of frames of its grant table. `None`: Xen's default.
    pub grant_frames: Option<u32>,
    /// Maximum number of frames in which Xen tracks its mappings. `None`: Xen's default.
    pub maptrack_frames: Option<u32>,
    /// The highest version of grants it may use.
    pub grant_version: u32,
    /// The processor for all its vCPUs; they then read that processor's time-stamp counter. `None`: any processor.
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

/// A domain made here. Dropping it destroys the domain.
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
    /// Returns the domain's number.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// Destroys the domain, at most once: Xen may soon reuse its number.
    ///
    /// # Errors
    ///
    /// As [`Interface::destroy`], if Xen refuses. The call may be repeated then.
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

/// Builds a domain and leaves it paused. `command_line` is called once the domain exists, so the command line may
/// depend on the domain's number, for example to name a grant to it.
///
/// # Errors
///
/// [`ToolstackError`] if any step fails. No domain is left then.
pub fn build<'i, X: Hypercall>(
    interface: &'i Interface<X>,
    known: &Known,
    windows: &'static Windows,
    config: &Config<'_>,
    command_line: impl FnOnce(DomId) -> Result<alloc::string::String, ToolstackError>,
) -> Result<Made<'i, X>, ToolstackError> {
    // Checks before the domain exists.
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
    // Like libxl: 1 MiB for each vCPU and 4 KiB for each MiB of memory; plus 2 MiB.
    let paging = 2 + config.vcpus + config.memory.div_ceil(256);
    at(Step::PagingMemory, interface.set_paging_memory(id, paging))?;
    if let Some(processor) = config.processor {
        // All its vCPUs use one counter, so none is ahead and Xen needn't trap reads of it. A trap takes thousands of
        // instructions; Xen traps if it doesn't trust the processors' counters.
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
        // The rest of the segment is already zero: Xen gives only zeroed pages.
        foreign.write(segment.place.start, segment.bytes)?;
    }
    foreign.write(told.start, &told.bytes)?;
    for (module, place) in config.modules.iter().zip(&told.modules) {
        foreign.write(*place, module)?;
    }
    set_registers(interface, id, kernel.entry, told.start)?;
    Ok(domain)
}

/// Gives a domain its memory, from address 0 upwards: in pages of 2 MiB if they fit and Xen has them.
fn give_memory(xen: &impl Hypercall, id: DomId, mib: u32, flags: u32) -> Result<(), ToolstackError> {
    const LARGE: u32 = 9;
    let frames = u64::from(mib) << 8;
    let large_end = frames >> LARGE << LARGE;
    // Returns the frame after the last one given.
    let give = |range: Range<u64>, order: u32| {
        let size = 1 << order;
        let some: heapless::Vec<Gfn, BATCH> = range.clone().step_by(size).take(BATCH).map(Gfn).collect();
        // SAFETY: the domain is new, and has no memory at these frames yet.
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
            // Xen has no large page left: use small pages for this one.
            give_small(next..next + (1 << LARGE))?;
            next += 1 << LARGE;
        }
    }
    give_small(large_end..frames)
}

/// The data for the kernel, and its place: start info, memory map, list of modules, command line; then the modules,
/// each on a page boundary.
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
        let mut bytes = [info.as_bytes(), ram.as_bytes()].concat();
        for (module, &paddr) in modules.iter().zip(&places) {
            let module = Module { paddr, size: module.len() as u64, ..Module::default() };
            bytes.extend_from_slice(module.as_bytes());
        }
        bytes.extend(command_line.as_bytes());
        bytes.push(0);
        Self { start, bytes, modules: places, end: next }
    }
}

/// Sets the registers for the start of a PVH kernel: 32-bit code, no paging, EBX = start info. Source:
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
    // Xen warns about a state saved on a different processor, so the header names this one.
    let header = Header { cpuid: arch::processor_signature(), ..Header::CURRENT };
    // Everything else is zero, as after a reset.
    let cpu = Cpu {
        rbx: start_info,
        rip: entry.into(),
        rflags: 2,
        cr0: PE_ET,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        // CS, DS, ES, FS, GS, SS, TR, LDTR.
        limits: [!0, !0, !0, 0, 0, !0, 0x67, 0, 0, 0],
        access: [CODE, DATA, DATA, 0, 0, DATA, TASK, 0],
        ..Cpu::new_zeroed()
    };
    let records = [
        descriptor(HEADER, size_of::<Header>()).as_bytes(),
        header.as_bytes(),
        descriptor(CPU, size_of::<Cpu>()).as_bytes(),
        cpu.as_bytes(),
        descriptor(END, 0).as_bytes(),
    ]
    .concat();
    at(Step::Context, interface.set_context(id, &records))
}

/// Returns the header of a record, for the first vCPU or for the domain.
fn descriptor(typecode: u16, length: usize) -> Descriptor {
    Descriptor { typecode, instance: 0, length: length as u32 }
}
