//! Compares every size, offset and value of `granite_core::abi` with Xen's own C headers: both sides evaluate the
//! same C expressions. `GRANITE_XEN_HEADERS` is the folder of the headers (`cargo xtask test` sets it).

use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use granite_core::abi::Number;
use granite_core::abi::grant::entry::{EntryHeader, EntryStatus};
use granite_core::abi::grant::op::{self, CacheOps, CopyFlags, MapFlags, Op};
use granite_core::abi::grant::{EntryFlags, EntryV1, EntryV2, GrantHandle, GrantRef, Status};
use granite_core::abi::memory::{self, E820Entry, MEMORY_MAP, MemoryMap};
use granite_core::abi::sched::{Poll, Shutdown, ShutdownReason};
use granite_core::abi::start_info::{self, MemoryMapEntry, Module, RegionKind, StartInfo};
use granite_core::abi::{DomId, Features, XenErrno, cpuid, version};

/// A C expression, and our value for it.
type Row = (String, u64);

/// The rows of a structure: its size, and the offset of each field. A field may have another name in C.
macro_rules! layout {
    ($rows:ident, $c:literal = $type:ty { $($c_field:literal = $($field:ident).+),* $(,)? }) => {
        $rows.push((format!("sizeof({})", $c), size_of::<$type>() as u64));
        $($rows.push((format!("offsetof({}, {})", $c, $c_field), offset_of!($type, $($field).+) as u64));)*
    };
}

/// The rows of values.
macro_rules! values {
    ($rows:ident, $($c:literal = $value:expr),* $(,)?) => {
        $($rows.push(($c.to_owned(), u64::from($value)));)*
    };
}

mod domctl;
mod io;
mod machine;
mod names;

fn structures(rows: &mut Vec<Row>) {
    layout!(rows, "struct hvm_start_info" = StartInfo {
        "magic" = magic, "version" = version, "flags" = flags, "nr_modules" = nr_modules,
        "modlist_paddr" = modlist_paddr, "cmdline_paddr" = cmdline_paddr, "rsdp_paddr" = rsdp_paddr,
        "memmap_paddr" = memmap_paddr, "memmap_entries" = memmap_entries, "reserved" = reserved,
    });
    layout!(rows, "struct hvm_modlist_entry" = Module {
        "paddr" = paddr, "size" = size, "cmdline_paddr" = cmdline_paddr, "reserved" = reserved,
    });
    layout!(rows, "struct hvm_memmap_table_entry" = MemoryMapEntry {
        "addr" = addr, "size" = size, "type" = kind, "reserved" = reserved,
    });
    layout!(rows, "struct xen_memory_map" = MemoryMap { "nr_entries" = nr_entries, "buffer" = buffer });
    layout!(rows, "struct xen_add_to_physmap" = memory::AddToPhysmap {
        "domid" = domid, "size" = size, "space" = space, "idx" = idx, "gpfn" = gpfn,
    });
    layout!(rows, "struct xen_memory_reservation" = memory::Reservation {
        "extent_start" = extent_start, "nr_extents" = nr_extents, "extent_order" = extent_order,
        "mem_flags" = mem_flags, "domid" = domid,
    });
    layout!(rows, "struct xen_add_to_physmap_batch" = memory::AddToPhysmapBatch {
        "domid" = domid, "space" = space, "size" = size, "u.foreign_domid" = foreign_domid, "idxs" = idxs,
        "gpfns" = gpfns, "errs" = errs,
    });
    layout!(rows, "struct xen_pod_target" = memory::PodTarget {
        "target_pages" = target_pages, "tot_pages" = tot_pages, "pod_cache_pages" = pod_cache_pages,
        "pod_entries" = pod_entries, "domid" = domid,
    });
    layout!(rows, "struct xen_remove_from_physmap" = memory::RemoveFromPhysmap { "domid" = domid, "gpfn" = gpfn });
    layout!(rows, "struct e820entry" = E820Entry { "addr" = address, "size" = size, "type" = kind });
    layout!(rows, "xen_extraversion_t" = version::ExtraVersion {});
    layout!(rows, "struct xen_feature_info" = version::FeatureInfo {
        "submap_idx" = submap_index, "submap" = submap,
    });
    layout!(rows, "struct sched_shutdown" = Shutdown { "reason" = reason });
    layout!(rows, "struct sched_poll" = Poll { "ports" = ports, "nr_ports" = nr_ports, "timeout" = timeout });
}

fn grant_structures(rows: &mut Vec<Row>) {
    layout!(rows, "struct grant_entry_v1" = EntryV1 { "flags" = flags, "domid" = domid, "frame" = frame });
    layout!(rows, "struct grant_entry_header" = EntryHeader { "flags" = flags, "domid" = domid });
    layout!(rows, "union grant_entry_v2" = EntryV2 {
        "full_page.frame" = full_page.frame,
        "sub_page.page_off" = sub_page.page_off, "sub_page.length" = sub_page.length,
        "sub_page.frame" = sub_page.frame,
        "transitive.trans_domid" = transitive.trans_domid, "transitive.gref" = transitive.gref,
    });
    layout!(rows, "grant_status_t" = EntryStatus {});
    layout!(rows, "grant_ref_t" = GrantRef {});
    layout!(rows, "grant_handle_t" = GrantHandle {});
    layout!(rows, "struct gnttab_map_grant_ref" = op::MapGrantRef {
        "host_addr" = host_addr, "flags" = flags, "ref" = gref, "dom" = dom, "status" = status,
        "handle" = handle, "dev_bus_addr" = dev_bus_addr,
    });
    layout!(rows, "struct gnttab_unmap_grant_ref" = op::UnmapGrantRef {
        "host_addr" = host_addr, "dev_bus_addr" = dev_bus_addr, "handle" = handle, "status" = status,
    });
    layout!(rows, "struct gnttab_setup_table" = op::SetupTable {
        "dom" = dom, "nr_frames" = nr_frames, "status" = status, "frame_list" = frame_list,
    });
    layout!(rows, "struct gnttab_dump_table" = op::DumpTable { "dom" = dom, "status" = status });
    layout!(rows, "struct gnttab_transfer" = op::Transfer {
        "mfn" = mfn, "domid" = domid, "ref" = gref, "status" = status,
    });
    layout!(rows, "struct gnttab_copy" = op::GrantCopy {
        "source" = source, "source.u.ref" = source.page, "source.u.gmfn" = source.page,
        "source.domid" = source.domid, "source.offset" = source.offset,
        "dest" = dest, "len" = len, "flags" = flags, "status" = status,
    });
    layout!(rows, "struct gnttab_query_size" = op::QuerySize {
        "dom" = dom, "nr_frames" = nr_frames, "max_nr_frames" = max_nr_frames, "status" = status,
    });
    layout!(rows, "struct gnttab_unmap_and_replace" = op::UnmapAndReplace {
        "host_addr" = host_addr, "new_addr" = new_addr, "handle" = handle, "status" = status,
    });
    layout!(rows, "struct gnttab_set_version" = op::SetVersion { "version" = version });
    layout!(rows, "struct gnttab_get_status_frames" = op::GetStatusFrames {
        "nr_frames" = nr_frames, "dom" = dom, "status" = status, "frame_list" = frame_list,
    });
    layout!(rows, "struct gnttab_get_version" = op::GetVersion { "dom" = dom, "pad" = pad, "version" = version });
    layout!(rows, "struct gnttab_swap_grant_ref" = op::SwapGrantRef {
        "ref_a" = ref_a, "ref_b" = ref_b, "status" = status,
    });
    layout!(rows, "struct gnttab_cache_flush" = op::CacheFlush {
        "a" = page, "offset" = offset, "length" = length, "op" = op,
    });
}

fn grant_constants(rows: &mut Vec<Row>) {
    values!(
        rows,
        "GTF_invalid" = EntryFlags::INVALID.bits(),
        "GTF_permit_access" = EntryFlags::PERMIT_ACCESS.bits(),
        "GTF_accept_transfer" = EntryFlags::ACCEPT_TRANSFER.bits(),
        "GTF_transitive" = EntryFlags::TYPE_MASK.bits(),
        "GTF_type_mask" = EntryFlags::TYPE_MASK.bits(),
        "GTF_readonly" = EntryFlags::READONLY.bits(),
        "GTF_reading" = EntryFlags::READING.bits(),
        "GTF_writing" = EntryFlags::WRITING.bits(),
        "GTF_PWT" = EntryFlags::PWT.bits(),
        "GTF_PCD" = EntryFlags::PCD.bits(),
        "GTF_PAT" = EntryFlags::PAT.bits(),
        "GTF_sub_page" = EntryFlags::SUB_PAGE.bits(),
        "GTF_transfer_committed" = EntryFlags::TRANSFER_COMMITTED.bits(),
        "GTF_transfer_completed" = EntryFlags::TRANSFER_COMPLETED.bits(),
        "GNTMAP_device_map" = MapFlags::DEVICE_MAP.bits(),
        "GNTMAP_host_map" = MapFlags::HOST_MAP.bits(),
        "GNTMAP_readonly" = MapFlags::READONLY.bits(),
        "GNTMAP_application_map" = MapFlags::APPLICATION_MAP.bits(),
        "GNTMAP_contains_pte" = MapFlags::CONTAINS_PTE.bits(),
        "GNTMAP_guest_avail_mask" = MapFlags::GUEST_AVAIL_MASK.bits(),
        "GNTCOPY_source_gref" = CopyFlags::SOURCE_GREF.bits(),
        "GNTCOPY_dest_gref" = CopyFlags::DEST_GREF.bits(),
        "GNTTAB_CACHE_CLEAN" = CacheOps::CLEAN.bits(),
        "GNTTAB_CACHE_INVAL" = CacheOps::INVAL.bits(),
        "GNTTAB_CACHE_SOURCE_GREF" = CacheOps::SOURCE_GREF.bits(),
        "GNTTAB_NR_RESERVED_ENTRIES" = GrantRef::FIRST_FREE.0,
        "GNTTAB_RESERVED_CONSOLE" = GrantRef::CONSOLE.0,
        "GNTTAB_RESERVED_XENSTORE" = GrantRef::XENSTORE.0,
    );
    rows.extend(Op::ALL.iter().map(|(name, op)| ((*name).to_owned(), op.0.into())));
    for (name, status) in Status::ALL {
        rows.push((format!("(uint16_t){name}"), u64::from(status.0.cast_unsigned())));
        let message = status.message().unwrap_or_default();
        // The header's own message, at the index given by the number.
        rows.push((format!("!strcmp(messages[-({name})], \"{message}\")"), 1));
    }
}

fn constants(rows: &mut Vec<Row>) {
    values!(
        rows,
        "XEN_HVM_START_MAGIC_VALUE" = start_info::MAGIC,
        "SIF_PRIVILEGED" = start_info::FLAG_PRIVILEGED,
        "SIF_INITDOMAIN" = start_info::FLAG_INITIAL_DOMAIN,
        "XEN_HVM_MEMMAP_TYPE_RAM" = RegionKind::RAM.0,
        "XEN_HVM_MEMMAP_TYPE_RESERVED" = RegionKind::RESERVED.0,
        "DOMID_SELF" = DomId::SELF.0,
        "XENMEM_memory_map" = MEMORY_MAP,
        "XENMEM_decrease_reservation" = memory::DECREASE_RESERVATION,
        "XENMEM_populate_physmap" = memory::POPULATE_PHYSMAP,
        "XENMEM_current_reservation" = memory::CURRENT_RESERVATION,
        "XENMEM_set_pod_target" = memory::SET_POD_TARGET,
        "XENMEMF_populate_on_demand" = memory::POPULATE_ON_DEMAND,
        "XENMEM_add_to_physmap" = memory::ADD_TO_PHYSMAP,
        "XENMAPSPACE_shared_info" = memory::MapSpace::SHARED_INFO.0,
        "XENMEM_remove_from_physmap" = memory::REMOVE_FROM_PHYSMAP,
        "XENMEM_add_to_physmap_batch" = memory::ADD_TO_PHYSMAP_BATCH,
        "XENMAPSPACE_gmfn_foreign" = memory::MapSpace::FOREIGN.0,
        "XENMAPSPACE_grant_table" = memory::MapSpace::GRANT_TABLE.0,
        "XENMAPIDX_grant_table_status" = memory::MAP_INDEX_STATUS,
        "SCHEDOP_yield" = xen_sys::SCHEDOP_yield,
        "__HYPERVISOR_grant_table_op" = Number::GRANT_TABLE_OP.0,
        "SHUTDOWN_poweroff" = ShutdownReason::POWEROFF.0,
        "SHUTDOWN_crash" = ShutdownReason::CRASH.0,
        "SCHEDOP_shutdown" = xen_sys::SCHEDOP_shutdown,
        "CONSOLEIO_write" = xen_sys::CONSOLEIO_write,
        "XENVER_version" = version::VERSION,
        "XENVER_extraversion" = version::EXTRAVERSION,
        "XENVER_get_features" = version::GET_FEATURES,
        "XENVER_guest_handle" = version::GUEST_HANDLE,
        "sizeof(xen_domain_handle_t)" = size_of::<version::DomainHandle>() as u64,
        "XEN_ELFNOTE_PHYS32_ENTRY" = 18u32,
        "__HYPERVISOR_memory_op" = Number::MEMORY_OP.0,
        "__HYPERVISOR_xen_version" = Number::XEN_VERSION.0,
        "__HYPERVISOR_console_io" = Number::CONSOLE_IO.0,
        "__HYPERVISOR_vcpu_op" = Number::VCPU_OP.0,
        "__HYPERVISOR_sched_op" = Number::SCHED_OP.0,
        "XEN_CPUID_FIRST_LEAF" = cpuid::FIRST_BASE,
        "XEN_CPUID_LEAF(2)" = cpuid::FIRST_BASE + cpuid::LEAF_HYPERCALL,
        "XEN_CPUID_LEAF(4)" = cpuid::FIRST_BASE + cpuid::LEAF_HVM,
        "XEN_CPUID_SIGNATURE_EBX" = word(0),
        "XEN_CPUID_SIGNATURE_ECX" = word(4),
        "XEN_CPUID_SIGNATURE_EDX" = word(8),
        "XEN_HVM_CPUID_DOMID_PRESENT" = cpuid::HVM_DOMID_PRESENT,
    );
}

/// Returns four letters of the signature.
fn word(at: usize) -> u32 {
    cpuid::SIGNATURE[at..].first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn features(rows: &mut Vec<Row>) {
    for (name, bit) in Features::all().iter_names() {
        let c = match name {
            "ARM_SMCCC_SUPPORTED" => "ARM_SMCCC_supported".to_owned(),
            "DOM0" => "dom0".to_owned(),
            "PAE_PGDIR_ABOVE_4GB" => "pae_pgdir_above_4gb".to_owned(),
            other => other.to_lowercase(),
        };
        rows.push((format!("1u << XENFEAT_{c}"), bit.bits().into()));
    }
}

fn errors(rows: &mut Vec<Row>) {
    let known = (0..200).filter_map(|number| Some((XenErrno(number).known()?.0, number)));
    rows.extend(known.map(|(name, number)| (format!("XEN_{name}"), number as u64)));
}

const INCLUDES: &str = "\
#define __XEN_TOOLS__ 1
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/elfnote.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/hvm/save.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#define xen_mb() __sync_synchronize()
#include <xen/io/blkif.h>
#include <xen/io/xenbus.h>
/* The headers leave this one to the BIOS's books. */
struct e820entry { uint64_t addr; uint64_t size; uint32_t type; } __attribute__((packed));
static const char *messages[] = GNTTABOP_error_msgs;
";

/// Returns the C program; it prints the value of each expression.
fn program(rows: &[Row]) -> String {
    let lines: String = rows.iter().map(|(c, _)| format!("    SHOW({c});\n")).collect();
    let show = "#define SHOW(e) printf(\"%llu\\n\", (unsigned long long)(e))\n";
    format!("{INCLUDES}{show}int main(void)\n{{\n{lines}    return 0;\n}}\n")
}

/// Compiles and runs the program. Returns the printed lines.
fn run(program: &str, headers: &Path) -> Result<Vec<String>, String> {
    let folder = std::env::temp_dir().join(format!("granite-abi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let (source, binary) = (folder.join("abi.c"), folder.join("abi"));
    let result = std::fs::write(&source, program).map_err(|error| error.to_string()).and_then(|()| {
        let mut cc = Command::new("cc");
        cc.arg("-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__");
        output(cc.arg("-isystem").arg(headers).arg(&source).arg("-o").arg(&binary))?;
        output(&mut Command::new(&binary))
    });
    // If the temporary folder stays, cleaning it is up to the system.
    let _ = std::fs::remove_dir_all(&folder);
    result.map(|text| text.lines().map(str::to_owned).collect())
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn main() {
    const NAME: &str = "every_value_is_that_of_the_c_headers";
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if names::NAME.contains(&filter) {
        println!("##test run 1 {}", names::NAME);
        match std::env::var_os("GRANITE_XEN_HEADERS").map(|headers| names::check(Path::new(&headers))) {
            None => println!("##test skip 1 GRANITE_XEN_HEADERS names no headers; cargo xtask test does"),
            Some(Ok(count)) => println!("{count} names are listed\n##test pass 1"),
            Some(Err(wrong)) => {
                println!("{wrong}\n##test fail 1 see above");
                std::process::exit(1);
            }
        }
    }
    if !NAME.contains(&filter) {
        return;
    }
    let mut rows = Vec::new();
    structures(&mut rows);
    machine::structures(&mut rows);
    io::structures(&mut rows);
    io::constants(&mut rows);
    machine::constants(&mut rows);
    constants(&mut rows);
    grant_structures(&mut rows);
    grant_constants(&mut rows);
    features(&mut rows);
    errors(&mut rows);
    println!("##test run 0 {NAME}");
    let Some(headers) = std::env::var_os("GRANITE_XEN_HEADERS") else {
        println!("##test skip 0 GRANITE_XEN_HEADERS names no headers; cargo xtask test does");
        return;
    };
    if let Some(version) = domctl::version(Path::new(&headers)) {
        domctl::rows(version, &mut rows);
    } else {
        rows.push(("0 /* the headers name no version of the control interface */".into(), 1));
    }
    let wrong = match run(&program(&rows), Path::new(&headers)) {
        Ok(lines) if lines.len() == rows.len() => rows
            .iter()
            .zip(&lines)
            .filter(|((_, ours), theirs)| ours.to_string() != **theirs)
            .map(|((c, ours), theirs)| format!("{c} is {theirs} in C and {ours} here"))
            .collect::<Vec<_>>(),
        Ok(lines) => vec![format!("{} lines for {} rows", lines.len(), rows.len())],
        Err(error) => vec![error],
    };
    if wrong.is_empty() {
        println!("{} values are the same", rows.len());
        println!("##test pass 0");
        return;
    }
    println!("##test fail 0 {}", wrong.join("; "));
    std::process::exit(1);
}
