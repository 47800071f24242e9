//! Floor 1: the seam to the hypervisor. One unsafe trait; [`Xen`] implements it on the machine and
//! `FakeXen` in tests on the host. The functions of the submodules are the typed, safe forms.

pub mod console;
pub mod control;
pub(crate) mod detect;
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
