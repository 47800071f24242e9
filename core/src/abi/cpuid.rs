//! Xen's CPUID leaves. Source: `xen/include/public/arch-x86/cpuid.h`.

/// The first leaf that a hypervisor may use. Xen's leaves start higher if it also shows Viridian leaves.
#[doc(alias = "XEN_CPUID_FIRST_LEAF")]
pub const FIRST_BASE: u32 = 0x4000_0000;
/// The end of the search, as in Linux and in the header's comment.
pub const LAST_BASE: u32 = 0x4001_0000;
/// Distance between possible bases.
pub const BASE_STEP: u32 = 0x100;
/// EBX, ECX and EDX of the base leaf, as bytes.
pub const SIGNATURE: [u8; 12] = *b"XenVMMXenVMM";

/// Base + 2: EAX is the number of hypercall pages, EBX the MSR that places them.
#[doc(alias = "XEN_CPUID_LEAF(2)")]
pub const LEAF_HYPERCALL: u32 = 2;
/// Base + 4: properties of an HVM or PVH domain.
pub const LEAF_HVM: u32 = 4;

/// EAX of [`LEAF_HVM`]: ECX holds the domain's number.
#[doc(alias = "XEN_HVM_CPUID_DOMID_PRESENT")]
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
