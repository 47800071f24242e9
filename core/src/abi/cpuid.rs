//! Xen's CPUID leaves. Source: `xen/include/public/arch-x86/cpuid.h`.

/// The first leaf that a hypervisor may use. Xen moves up where it also shows Viridian leaves.
#[doc(alias = "XEN_CPUID_FIRST_LEAF")]
pub const FIRST_BASE: u32 = 0x4000_0000;
/// The end of the search, as Linux and the header's comment have it.
pub const LAST_BASE: u32 = 0x4001_0000;
/// Bases lie this far apart.
pub const BASE_STEP: u32 = 0x100;
/// What EBX, ECX and EDX of the base leaf spell.
pub const SIGNATURE: [u8; 12] = *b"XenVMMXenVMM";

/// Base + 2: hypercall pages in EAX, the MSR that places them in EBX.
#[doc(alias = "XEN_CPUID_LEAF(2)")]
pub const LEAF_HYPERCALL: u32 = 2;
/// Base + 4: properties of an HVM or PVH domain.
pub const LEAF_HVM: u32 = 4;

/// EAX of [`LEAF_HVM`]: ECX holds the domain's number.
#[doc(alias = "XEN_HVM_CPUID_DOMID_PRESENT")]
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
