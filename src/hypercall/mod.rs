//! Layer 1: the seam to the hypervisor. One unsafe trait; [`Xen`] implements it on the machine, and `FakeXen` in
//! tests on the host. The submodules' functions are its typed forms, safe where the call allows it.

pub mod console;
pub(crate) mod cpuid;
pub mod domctl;
pub mod event;
pub mod grant;
pub(crate) mod hvm;
pub mod memory;
pub mod sched;
pub mod vcpu;
pub mod version;

#[cfg(not(granite_guest))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests alone")]
pub mod fake;
mod xen;

pub use xen::{NotXen, Xen};

pub use crate::abi::Number;
use crate::abi::{DomId, XenErrno};
use crate::sync::Vcpu;

/// The library's interface to a hypervisor. An implementation also knows the calling vCPU.
///
/// # Safety
///
/// An implementation must read and write memory only as the Xen interface says for the call and its arguments.
pub unsafe trait Hypercall: Vcpu {
    /// Returns the calling domain's number; [`DomId::SELF`] if it is unknown.
    fn domain(&self) -> DomId;

    /// Makes one call with up to five arguments; unused ones are zero.
    ///
    /// # Errors
    ///
    /// The error number if Xen returned a negative value.
    ///
    /// # Safety
    ///
    /// Each argument defined as a pointer by the interface must point to memory valid for the call's reads and
    /// writes, for as long as Xen may use it.
    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno>;
}

// SAFETY: the reference forwards to the same hypervisor.
unsafe impl<X: Hypercall> Hypercall for &X {
    fn domain(&self) -> DomId {
        (**self).domain()
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        // SAFETY: guaranteed by the caller.
        unsafe { (**self).call(number, arguments) }
    }
}
