//! The control interface. Its structures depend on its version, so the version is read from the headers.

use std::path::Path;

use granite_core::abi::domctl::{
    self, Bitmap, Control, ControlOp, CreateDomain15, CreateDomain17, DomainFlags, DomainInfo, HvmContext,
    InterfaceVersion, ReadConsole, ShadowOp, TscInfo, VcpuAffinity,
};
use granite_core::abi::hvm_context::{self, Cpu, Descriptor, Header};

use super::{Row, offset_of, size_of};

/// Returns the interface version of these headers.
pub fn version(headers: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(headers.join("xen/domctl.h")).ok()?;
    let line = text.lines().find(|line| line.starts_with("#define XEN_DOMCTL_INTERFACE_VERSION "))?;
    u32::from_str_radix(line.rsplit_once("0x")?.1, 16).ok()
}

/// Adds the rows for headers of this version. An unknown version adds a wrong row.
pub fn rows(version: u32, rows: &mut Vec<Row>) {
    let known = InterfaceVersion::KNOWN.iter().any(|known| known.0 == version);
    rows.push(("XEN_DOMCTL_INTERFACE_VERSION".into(), if known { version.into() } else { 0 }));
    layout!(rows, "struct xen_domctl" = Control {
        "cmd" = cmd, "interface_version" = interface_version, "domain" = domain, "u" = payload,
    });
    if version >= 0x17 {
        layout!(rows, "struct xen_domctl_createdomain" = CreateDomain17 {
            "ssidref" = ssidref, "handle" = handle, "flags" = flags, "iommu_opts" = iommu_opts,
            "max_vcpus" = max_vcpus, "max_evtchn_port" = max_evtchn_port, "max_grant_frames" = max_grant_frames,
            "max_maptrack_frames" = max_maptrack_frames, "grant_opts" = grant_opts, "altp2m_opts" = altp2m_opts,
            "vmtrace_size" = vmtrace_size, "cpupool_id" = cpupool_id, "arch.emulation_flags" = emulation_flags,
            "arch.misc_flags" = misc_flags,
        });
    } else {
        layout!(rows, "struct xen_domctl_createdomain" = CreateDomain15 {
            "ssidref" = ssidref, "handle" = handle, "flags" = flags, "iommu_opts" = iommu_opts,
            "max_vcpus" = max_vcpus, "max_evtchn_port" = max_evtchn_port, "max_grant_frames" = max_grant_frames,
            "max_maptrack_frames" = max_maptrack_frames, "grant_opts" = grant_opts,
            "vmtrace_size" = vmtrace_size, "cpupool_id" = cpupool_id, "arch.emulation_flags" = emulation_flags,
            "arch.misc_flags" = misc_flags,
        });
    }
    layout!(rows, "struct xen_domctl_getdomaininfo" = DomainInfo {
        "domain" = domain, "flags" = flags, "tot_pages" = tot_pages, "max_pages" = max_pages,
        "outstanding_pages" = outstanding_pages, "shr_pages" = shr_pages, "paged_pages" = paged_pages,
        "shared_info_frame" = shared_info_frame, "cpu_time" = cpu_time, "nr_online_vcpus" = nr_online_vcpus,
        "max_vcpu_id" = max_vcpu_id, "ssidref" = ssidref, "handle" = handle, "cpupool" = cpupool,
        "gpaddr_bits" = gpaddr_bits, "arch_config" = arch,
    });
    layout!(rows, "struct xen_domctl_shadow_op" = ShadowOp {
        "op" = op, "mode" = mode, "mb" = mb, "dirty_bitmap" = dirty_bitmap, "pages" = pages, "stats" = stats,
    });
    layout!(rows, "struct xen_domctl_tsc_info" = TscInfo {
        "tsc_mode" = mode, "gtsc_khz" = khz, "incarnation" = incarnation, "pad" = pad, "elapsed_nsec" = elapsed_ns,
    });
    layout!(rows, "struct xen_domctl_hvmcontext" = HvmContext { "size" = size, "buffer" = buffer });
    layout!(rows, "struct xenctl_bitmap" = Bitmap { "bitmap" = bitmap, "nr_bits" = nr_bits });
    layout!(rows, "struct xen_domctl_vcpuaffinity" = VcpuAffinity {
        "vcpu" = vcpu, "flags" = flags, "cpumap_hard" = hard, "cpumap_soft" = soft,
    });
    layout!(rows, "struct xen_sysctl" = ReadConsole {
        "cmd" = cmd, "interface_version" = interface_version, "u.readconsole.clear" = clear,
        "u.readconsole.incremental" = incremental, "u.readconsole.index" = index, "u.readconsole.buffer" = buffer,
        "u.readconsole.count" = count,
    });
    layout!(rows, "struct hvm_save_descriptor" = Descriptor {
        "typecode" = typecode, "instance" = instance, "length" = length,
    });
    layout!(rows, "struct hvm_save_header" = Header {
        "magic" = magic, "version" = version, "changeset" = changeset, "cpuid" = cpuid, "gtsc_khz" = gtsc_khz,
    });
    layout!(rows, "struct hvm_hw_cpu" = Cpu {
        "fpu_regs" = fpu_regs, "rax" = rax, "rbx" = rbx, "rsp" = rsp, "r8" = r8_to_r15, "rip" = rip,
        "rflags" = rflags, "cr0" = cr0, "cr2" = cr2, "cr3" = cr3, "cr4" = cr4, "dr0" = dr0_to_dr3, "dr6" = dr6,
        "dr7" = dr7, "cs_sel" = selectors, "cs_limit" = limits, "cs_base" = bases, "cs_arbytes" = access,
        "sysenter_cs" = sysenter, "shadow_gs" = shadow_gs, "msr_flags" = msrs, "tsc" = tsc,
        "pending_event" = pending_event, "error_code" = error_code, "flags" = flags,
    });
    // The order of the values within the arrays.
    for (c, offset) in [
        ("ds_limit", offset_of!(Cpu, limits) + 4),
        ("ss_limit", offset_of!(Cpu, limits) + 20),
        ("tr_limit", offset_of!(Cpu, limits) + 24),
        ("ss_arbytes", offset_of!(Cpu, access) + 20),
        ("tr_arbytes", offset_of!(Cpu, access) + 24),
    ] {
        rows.push((format!("offsetof(struct hvm_hw_cpu, {c})"), offset as u64));
    }
    values!(
        rows,
        "XEN_SYSCTL_INTERFACE_VERSION" = domctl::SYSCTL_VERSION,
        "XEN_DOMCTL_createdomain" = ControlOp::CREATE_DOMAIN.0,
        "XEN_DOMCTL_destroydomain" = ControlOp::DESTROY_DOMAIN.0,
        "XEN_DOMCTL_pausedomain" = ControlOp::PAUSE_DOMAIN.0,
        "XEN_DOMCTL_unpausedomain" = ControlOp::UNPAUSE_DOMAIN.0,
        "XEN_DOMCTL_getdomaininfo" = ControlOp::GET_DOMAIN_INFO.0,
        "XEN_DOMCTL_setvcpuaffinity" = ControlOp::SET_VCPU_AFFINITY.0,
        "XEN_DOMCTL_shadow_op" = ControlOp::SHADOW_OP.0,
        "XEN_DOMCTL_max_mem" = ControlOp::MAX_MEM.0,
        "XEN_DOMCTL_max_vcpus" = ControlOp::MAX_VCPUS.0,
        "XEN_DOMCTL_sethvmcontext" = ControlOp::SET_HVM_CONTEXT.0,
        "XEN_DOMCTL_settscinfo" = ControlOp::SET_TSC_INFO.0,
        "XEN_DOMCTL_CDF_hvm" = domctl::CREATE_HVM,
        "XEN_DOMCTL_CDF_hap" = domctl::CREATE_HAP,
        "XEN_X86_EMU_LAPIC" = domctl::EMULATE_LAPIC,
        "XEN_DOMINF_dying" = DomainFlags::DYING.bits(),
        "XEN_DOMINF_shutdown" = DomainFlags::SHUTDOWN.bits(),
        "XEN_DOMINF_paused" = DomainFlags::PAUSED.bits(),
        "XEN_DOMINF_blocked" = DomainFlags::BLOCKED.bits(),
        "XEN_DOMINF_running" = DomainFlags::RUNNING.bits(),
        "XEN_DOMINF_shutdownshift" = domctl::SHUTDOWN_SHIFT,
        "XEN_DOMINF_shutdownmask" = domctl::SHUTDOWN_MASK,
        "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION" = domctl::SHADOW_SET_ALLOCATION,
        "XEN_VCPUAFFINITY_HARD" = domctl::AFFINITY_HARD,
        "XEN_SYSCTL_readconsole" = domctl::SYSCTL_READ_CONSOLE,
        "HVM_FILE_MAGIC" = Header::CURRENT.magic,
        "HVM_FILE_VERSION" = Header::CURRENT.version,
        "HVM_SAVE_CODE(END)" = hvm_context::END,
        "HVM_SAVE_CODE(HEADER)" = hvm_context::HEADER,
        "HVM_SAVE_CODE(CPU)" = hvm_context::CPU,
    );
}
