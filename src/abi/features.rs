//! What a Xen can do for a guest.

bitflags::bitflags! {
    /// The first feature word (`XENVER_get_features`, submap 0). Source:
    /// `xen/include/public/features.h`. Unknown bits are kept.
    #[doc(alias = "XENFEAT_NR_SUBMAPS")]
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Page tables may be written directly.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables may be written directly.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// Xen translates guest-physical addresses: always so for PVH.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The kernel may run in ring 0.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// Page-table entries of PAE guests may point above 4 GiB.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// `MMU_PT_UPDATE_PRESERVE_AD` is there.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// `MMU_{CLEAR,COPY}_PAGE` are there.
        const HIGHMEM_ASSIST = 1 << 6;
        /// Mapping a grant through an l1e is possible.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// A callback may come through an interrupt vector.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// Time without the emulated timers.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// Interrupts of devices may come as event channels.
        const HVM_PIRQS = 1 << 10;
        /// The domain is the control domain.
        #[doc(alias = "XENFEAT_dom0")]
        const DOM0 = 1 << 11;
        /// Grant mappings have an identity mapping (Arm).
        const GRANT_MAP_IDENTITY = 1 << 12;
        /// `XENMEM_memory_map` is the domain's memory map.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Hypercalls follow the SMC calling convention (Arm).
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// The RSDP's address in the start info is the one to use.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// Guest memory is not mapped one to one.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Guest memory is mapped one to one.
        const DIRECT_MAPPED = 1 << 17;

        const _ = !0;
    }
}
