//! Floor 1: the seam to the hypervisor. One unsafe trait; [`Xen`] implements it on the machine and
//! `FakeXen` in tests on the host. The functions of the submodules are the typed, safe forms.

pub mod console;
pub mod control;
pub mod detect;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod memory;
pub mod sched;
pub mod vcpu;
pub mod version;

#[cfg(not(granite_guest))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests alone")]
pub mod fake;
mod xen;

pub use xen::{NotXen, Xen};

use crate::abi::{DomId, XenErrno};
use crate::sync::Vcpu;

/// A hypercall's number. Source: `xen/include/public/xen.h`, `__HYPERVISOR_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Number(pub u32);

impl Number {
    /// Memory of the domain.
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
    /// Parameters of domains that Xen translates addresses for.
    #[doc(alias = "HYPERVISOR_hvm_op")]
    pub const HVM_OP: Self = Self(xen_sys::__HYPERVISOR_hvm_op);
    /// Xen itself; the control domain's.
    #[doc(alias = "HYPERVISOR_sysctl")]
    pub const SYSCTL: Self = Self(xen_sys::__HYPERVISOR_sysctl);
    /// Other domains; the control domain's.
    #[doc(alias = "HYPERVISOR_domctl")]
    pub const DOMCTL: Self = Self(xen_sys::__HYPERVISOR_domctl);
    /// Scheduling and the end of the domain.
    #[doc(alias = "HYPERVISOR_sched_op")]
    pub const SCHED_OP: Self = Self(xen_sys::__HYPERVISOR_sched_op);
}

/// What the library asks of a hypervisor, which also knows which vCPU asks.
///
/// # Safety
///
/// An implementation reads and writes memory only as the Xen interface says for the call and its
/// arguments.
pub unsafe trait Hypercall: Vcpu {
    /// The number of the domain that asks; [`DomId::SELF`] if it can't be known.
    fn domain(&self) -> DomId;

    /// Makes one call with up to five arguments; unused ones are zero.
    ///
    /// # Errors
    ///
    /// The error number, if Xen returned a negative value.
    ///
    /// # Safety
    ///
    /// Each argument that the interface defines as a pointer must point to memory that is valid for
    /// what that call reads and writes, for as long as Xen may use it.
    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno>;
}

// SAFETY: it is the same hypervisor.
unsafe impl<X: Hypercall> Hypercall for &X {
    fn domain(&self) -> DomId {
        (**self).domain()
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        // SAFETY: the caller's word.
        unsafe { (**self).call(number, arguments) }
    }
}
