//! The control interface. The control domain uses it to create and destroy other domains. Sources:
//! `xen/include/public/domctl.h` and `sysctl.h`. It changes between releases of Xen. Every call names its version,
//! and Xen refuses any version but its own.

use super::{DomId, assert_layout};

/// A version of the control interface. Source: `XEN_DOMCTL_INTERFACE_VERSION`.
#[doc(alias = "XEN_DOMCTL_INTERFACE_VERSION")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct InterfaceVersion(pub u32);

impl InterfaceVersion {
    /// The version in Xen 4.17.
    pub const XEN_4_17: Self = Self(0x15);
    /// The version in Xen 4.18.
    pub const XEN_4_18: Self = Self(0x16);
    /// The version in Xen 4.19 and 4.20.
    pub const XEN_4_19: Self = Self(0x17);
    /// The versions covered by the structures here.
    pub const KNOWN: [Self; 3] = [Self::XEN_4_17, Self::XEN_4_18, Self::XEN_4_19];
}

/// The `sysctl` version of these structures, in Xen 4.17 to 4.20.
#[doc(alias = "XEN_SYSCTL_INTERFACE_VERSION")]
pub const SYSCTL_VERSION: u32 = 0x15;
/// The next `sysctl` version, in Xen 4.21. The parts used here are the same in both.
pub const SYSCTL_VERSION_NEXT: u32 = 0x16;

/// The number of a `domctl` operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct ControlOp(pub u32);

impl ControlOp {
    /// Creates an empty domain.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub const CREATE_DOMAIN: Self = Self(1);
    /// Destroys a domain.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub const DESTROY_DOMAIN: Self = Self(2);
    /// Stops a domain from running.
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub const PAUSE_DOMAIN: Self = Self(3);
    /// Lets a paused domain run.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub const UNPAUSE_DOMAIN: Self = Self(4);
    /// Reads a domain's state: [`DomainInfo`].
    #[doc(alias = "XEN_DOMCTL_getdomaininfo")]
    pub const GET_DOMAIN_INFO: Self = Self(5);
    /// Sets the processors that a vCPU may run on: [`VcpuAffinity`].
    #[doc(alias = "XEN_DOMCTL_setvcpuaffinity")]
    pub const SET_VCPU_AFFINITY: Self = Self(9);
    /// Sets the memory for a domain's nested page tables: [`ShadowOp`].
    #[doc(alias = "XEN_DOMCTL_shadow_op")]
    pub const SHADOW_OP: Self = Self(10);
    /// Sets a domain's maximum memory, in KiB.
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub const MAX_MEM: Self = Self(11);
    /// Sets a domain's number of vCPUs.
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub const MAX_VCPUS: Self = Self(15);
    /// Sets the processor state of a domain: [`HvmContext`].
    #[doc(alias = "XEN_DOMCTL_sethvmcontext")]
    pub const SET_HVM_CONTEXT: Self = Self(34);
    /// Sets how a domain reads the time-stamp counter, by [`TscInfo`]; only while the domain is paused and new.
    #[doc(alias = "XEN_DOMCTL_settscinfo")]
    pub const SET_TSC_INFO: Self = Self(60);
}

/// The argument of every `domctl` operation.
#[doc(alias = "xen_domctl")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Control {
    /// The operation.
    pub cmd: ControlOp,
    /// The version of the interface used by the caller.
    pub interface_version: InterfaceVersion,
    /// The domain to act on. Out for [`ControlOp::CREATE_DOMAIN`].
    pub domain: DomId,
    /// Unused.
    pub pad: [u16; 3],
    /// The operation's own arguments and results.
    pub payload: [u64; 16],
}
assert_layout!(Control, size = 144, align = 8, { cmd: 0, interface_version: 4, domain: 8, payload: 16 });

/// [`CreateDomain15::flags`]: hardware virtualisation, as for PVH.
#[doc(alias = "XEN_DOMCTL_CDF_hvm")]
pub const CREATE_HVM: u32 = 1 << 0;
/// [`CreateDomain15::flags`]: nested page tables.
#[doc(alias = "XEN_DOMCTL_CDF_hap")]
pub const CREATE_HAP: u32 = 1 << 1;
/// [`CreateDomain15::emulation_flags`]: Xen emulates the local interrupt controller. A PVH domain has one.
#[doc(alias = "XEN_X86_EMU_LAPIC")]
pub const EMULATE_LAPIC: u32 = 1 << 0;

/// Payload of [`ControlOp::CREATE_DOMAIN`] in interface 0x15 (Xen 4.17).
#[doc(alias = "xen_domctl_createdomain")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct CreateDomain15 {
    /// Label for Xen's security module.
    pub ssidref: u32,
    /// An identifier for the toolstack's own use.
    pub handle: [u8; 16],
    /// [`CREATE_HVM`], [`CREATE_HAP`].
    pub flags: u32,
    /// IOMMU options; zero here.
    pub iommu_opts: u32,
    /// Maximum number of vCPUs.
    pub max_vcpus: u32,
    /// Highest event channel port.
    pub max_evtchn_port: u32,
    /// Maximum frames of its grant table; negative for Xen's default.
    pub max_grant_frames: i32,
    /// Maximum frames for Xen's records of the grants it maps; negative for Xen's default.
    pub max_maptrack_frames: i32,
    /// Highest grant table version it may use.
    pub grant_opts: u32,
    /// Bytes of trace buffer per vCPU; zero here.
    pub vmtrace_size: u32,
    /// Its pool of processors.
    pub cpupool_id: u32,
    /// [`EMULATE_LAPIC`].
    pub emulation_flags: u32,
    /// Other x86 flags; zero here.
    pub misc_flags: u32,
}
assert_layout!(CreateDomain15, size = 64, align = 4, {
    ssidref: 0, handle: 4, flags: 20, iommu_opts: 24, max_vcpus: 28, max_evtchn_port: 32, max_grant_frames: 36,
    max_maptrack_frames: 40, grant_opts: 44, vmtrace_size: 48, cpupool_id: 52, emulation_flags: 56, misc_flags: 60,
});

/// Payload of [`ControlOp::CREATE_DOMAIN`] in interface 0x17 (Xen 4.19 and 4.20): one word more.
#[doc(alias = "xen_domctl_createdomain")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "those of CreateDomain15")]
pub struct CreateDomain17 {
    pub ssidref: u32,
    pub handle: [u8; 16],
    pub flags: u32,
    pub iommu_opts: u32,
    pub max_vcpus: u32,
    pub max_evtchn_port: u32,
    pub max_grant_frames: i32,
    pub max_maptrack_frames: i32,
    pub grant_opts: u32,
    /// Alternate views of memory (altp2m); zero here.
    pub altp2m_opts: u32,
    pub vmtrace_size: u32,
    pub cpupool_id: u32,
    pub emulation_flags: u32,
    pub misc_flags: u32,
}
assert_layout!(CreateDomain17, size = 68, align = 4, {
    ssidref: 0, handle: 4, flags: 20, iommu_opts: 24, max_vcpus: 28, max_evtchn_port: 32, max_grant_frames: 36,
    max_maptrack_frames: 40, grant_opts: 44, altp2m_opts: 48, vmtrace_size: 52, cpupool_id: 56, emulation_flags: 60,
    misc_flags: 64,
});

/// Payload of [`ControlOp::GET_DOMAIN_INFO`], the same in all known interfaces.
#[doc(alias = "xen_domctl_getdomaininfo")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DomainInfo {
    /// The domain.
    pub domain: DomId,
    /// Unused.
    pub pad1: u16,
    /// Its state.
    pub flags: DomainFlags,
    /// Pages it has now.
    pub tot_pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Pages it has claimed.
    pub outstanding_pages: u64,
    /// Pages it shares.
    pub shr_pages: u64,
    /// Pages paged out.
    pub paged_pages: u64,
    /// Frame of the page it shares with Xen.
    pub shared_info_frame: u64,
    /// Time it has run, in nanoseconds.
    pub cpu_time: u64,
    /// Number of vCPUs online.
    pub nr_online_vcpus: u32,
    /// Highest vCPU number.
    pub max_vcpu_id: u32,
    /// See [`CreateDomain15::ssidref`].
    pub ssidref: u32,
    /// See [`CreateDomain15::handle`].
    pub handle: [u8; 16],
    /// See [`CreateDomain15::cpupool_id`].
    pub cpupool: u32,
    /// Bits in a guest-physical address.
    pub gpaddr_bits: u8,
    /// Unused.
    pub pad2: [u8; 7],
    /// See [`CreateDomain15::emulation_flags`] and [`CreateDomain15::misc_flags`].
    pub arch: [u32; 2],
}
assert_layout!(DomainInfo, size = 112, align = 8, {
    domain: 0, flags: 4, tot_pages: 8, max_pages: 16, shared_info_frame: 48, cpu_time: 56, nr_online_vcpus: 64,
    max_vcpu_id: 68, handle: 76, cpupool: 92, gpaddr_bits: 96, arch: 104,
});

bitflags::bitflags! {
    /// The flags in [`DomainInfo::flags`]. Bits 16 to 23 hold the reason of a shutdown.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(transparent)]
    pub struct DomainFlags: u32 {
        /// It is being destroyed; some of its resources are still in use.
        #[doc(alias = "XEN_DOMINF_dying")]
        const DYING = 1 << 0;
        /// It has shut down.
        #[doc(alias = "XEN_DOMINF_shutdown")]
        const SHUTDOWN = 1 << 2;
        /// It is paused and may not run.
        #[doc(alias = "XEN_DOMINF_paused")]
        const PAUSED = 1 << 3;
        /// It is waiting for an event.
        #[doc(alias = "XEN_DOMINF_blocked")]
        const BLOCKED = 1 << 4;
        /// It is running.
        #[doc(alias = "XEN_DOMINF_running")]
        const RUNNING = 1 << 5;

        const _ = !0;
    }
}

/// Bit position of the shutdown reason in [`DomainInfo::flags`].
#[doc(alias = "XEN_DOMINF_shutdownshift")]
pub const SHUTDOWN_SHIFT: u32 = 16;
/// Mask of the shutdown reason, after a shift by [`SHUTDOWN_SHIFT`].
#[doc(alias = "XEN_DOMINF_shutdownmask")]
pub const SHUTDOWN_MASK: u32 = 255;

/// [`ShadowOp::op`]: sets the amount of memory for nested page tables.
#[doc(alias = "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION")]
pub const SHADOW_SET_ALLOCATION: u32 = 31;

/// Payload of [`ControlOp::SHADOW_OP`].
#[doc(alias = "xen_domctl_shadow_op")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct ShadowOp {
    /// [`SHADOW_SET_ALLOCATION`].
    pub op: u32,
    /// Unused.
    pub mode: u32,
    /// Amount of memory, in MiB.
    pub mb: u32,
    /// Unused.
    pub pad: u32,
    /// Unused.
    pub dirty_bitmap: u64,
    /// Unused.
    pub pages: u64,
    /// Unused.
    pub stats: [u32; 2],
}
assert_layout!(ShadowOp, size = 40, align = 8, { op: 0, mode: 4, mb: 8, dirty_bitmap: 16, pages: 24, stats: 32 });

/// Payload of [`ControlOp::SET_TSC_INFO`].
#[doc(alias = "xen_domctl_tsc_info")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct TscInfo {
    /// [`TSC_NEVER_EMULATE`].
    pub mode: u32,
    /// Ticks per millisecond; for other modes.
    pub khz: u32,
    /// Number of times the domain has migrated.
    pub incarnation: u32,
    /// Unused.
    pub pad: u32,
    /// For other modes.
    pub elapsed_ns: u64,
}
assert_layout!(TscInfo, size = 24, align = 8, { mode: 0, khz: 4, incarnation: 8, elapsed_ns: 16 });

/// [`TscInfo::mode`]: the domain reads the processor's counter, even if Xen considers it unreliable.
#[doc(alias = "TSC_MODE_NEVER_EMULATE")]
pub const TSC_NEVER_EMULATE: u32 = 2;

/// Payload of [`ControlOp::SET_HVM_CONTEXT`].
#[doc(alias = "xen_domctl_hvmcontext")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct HvmContext {
    /// Bytes in the buffer.
    pub size: u32,
    /// Unused.
    pub pad: u32,
    /// Address of the buffer.
    pub buffer: u64,
}
assert_layout!(HvmContext, size = 16, align = 8, { size: 0, buffer: 8 });

/// A set of processors, one bit per processor number.
#[doc(alias = "xenctl_bitmap")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Bitmap {
    /// Address of the bits.
    pub bitmap: u64,
    /// Number of bits.
    pub nr_bits: u32,
    /// Unused.
    pub pad: u32,
}
assert_layout!(Bitmap, size = 16, align = 8, { bitmap: 0, nr_bits: 8 });

/// Payload of [`ControlOp::SET_VCPU_AFFINITY`].
#[doc(alias = "xen_domctl_vcpuaffinity")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct VcpuAffinity {
    /// The vCPU's number.
    pub vcpu: u32,
    /// [`AFFINITY_HARD`].
    pub flags: u32,
    /// Processors it may run on.
    pub hard: Bitmap,
    /// Processors it prefers.
    pub soft: Bitmap,
}
assert_layout!(VcpuAffinity, size = 40, align = 8, { vcpu: 0, flags: 4, hard: 8, soft: 24 });

/// [`VcpuAffinity::flags`]: the vCPU runs only on the processors in `hard`.
#[doc(alias = "XEN_VCPUAFFINITY_HARD")]
pub const AFFINITY_HARD: u32 = 1 << 0;

/// Reads Xen's console.
#[doc(alias = "XEN_SYSCTL_readconsole")]
pub const SYSCTL_READ_CONSOLE: u32 = 1;

/// The argument of a `sysctl` to read Xen's console.
#[doc(alias = "xen_sysctl")]
#[doc(alias = "xen_sysctl_readconsole")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReadConsole {
    /// [`SYSCTL_READ_CONSOLE`].
    pub cmd: u32,
    /// [`SYSCTL_VERSION`] or [`SYSCTL_VERSION_NEXT`].
    pub interface_version: u32,
    /// Nonzero to clear the console after the read.
    pub clear: u8,
    /// Nonzero to start at `index`.
    pub incremental: u8,
    /// Unused.
    pub pad: [u8; 2],
    /// In: where to start. Out: where the read ended.
    pub index: u32,
    /// Address of a buffer.
    pub buffer: u64,
    /// In: bytes in the buffer. Out: bytes written.
    pub count: u32,
    /// Unused; the header's union is this large.
    pub rest: [u32; 27],
}
assert_layout!(ReadConsole, size = 136, align = 8, {
    cmd: 0, interface_version: 4, clear: 8, incremental: 9, index: 12, buffer: 16, count: 24,
});
