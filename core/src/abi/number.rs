//! The numbers of hypercalls.

/// A hypercall's number. Source: `xen/include/public/xen.h`, `__HYPERVISOR_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Number(pub u32);

impl Number {
    /// The domain's memory.
    #[doc(alias = "HYPERVISOR_memory_op")]
    pub const MEMORY_OP: Self = Self(xen_sys::__HYPERVISOR_memory_op);
    /// Version and features.
    #[doc(alias = "HYPERVISOR_xen_version")]
    pub const XEN_VERSION: Self = Self(xen_sys::__HYPERVISOR_xen_version);
    /// Xen's console.
    #[doc(alias = "HYPERVISOR_console_io")]
    pub const CONSOLE_IO: Self = Self(xen_sys::__HYPERVISOR_console_io);
    /// Grants.
    #[doc(alias = "HYPERVISOR_grant_table_op")]
    pub const GRANT_TABLE_OP: Self = Self(xen_sys::__HYPERVISOR_grant_table_op);
    /// Virtual processors.
    #[doc(alias = "HYPERVISOR_vcpu_op")]
    pub const VCPU_OP: Self = Self(xen_sys::__HYPERVISOR_vcpu_op);
    /// Event channels.
    #[doc(alias = "HYPERVISOR_event_channel_op")]
    pub const EVENT_CHANNEL_OP: Self = Self(xen_sys::__HYPERVISOR_event_channel_op);
    /// Parameters of HVM and PVH domains.
    #[doc(alias = "HYPERVISOR_hvm_op")]
    pub const HVM_OP: Self = Self(xen_sys::__HYPERVISOR_hvm_op);
    /// Operations on Xen itself, for the control domain.
    #[doc(alias = "HYPERVISOR_sysctl")]
    pub const SYSCTL: Self = Self(xen_sys::__HYPERVISOR_sysctl);
    /// Operations on other domains, for the control domain.
    #[doc(alias = "HYPERVISOR_domctl")]
    pub const DOMCTL: Self = Self(xen_sys::__HYPERVISOR_domctl);
    /// Scheduling, and shutdown of the domain.
    #[doc(alias = "HYPERVISOR_sched_op")]
    pub const SCHED_OP: Self = Self(xen_sys::__HYPERVISOR_sched_op);
}
