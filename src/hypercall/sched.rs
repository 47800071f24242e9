//! Virtual processors and the end of the domain.

use super::{Hypercall, Number};
use crate::abi::XenErrno;
use crate::abi::sched::{Shutdown, ShutdownReason, VCPU_IS_UP};

/// More vCPUs than any Xen gives a domain: where counting stops, should no answer end it.
const MAX_VCPUS: u32 = 8192;

/// Ends the domain. Returns only if Xen refuses.
#[doc(alias = "SCHEDOP_shutdown")]
pub fn shutdown(xen: &impl Hypercall, reason: ShutdownReason) -> XenErrno {
    let argument = Shutdown { reason };
    let arguments = [xen_sys::SCHEDOP_shutdown.into(), &raw const argument as u64, 0, 0, 0];
    // SAFETY: Xen reads a `Shutdown` at the pointer, and `argument` is one.
    match unsafe { xen.call(Number::SCHED_OP, arguments) } {
        Ok(_) => XenErrno::NOSYS,
        Err(error) => error,
    }
}

/// Counts the domain's vCPUs, running or not: Xen numbers them from 0 without gaps and answers `ENOENT`
/// past the last. At least 1, for somebody is asking.
#[doc(alias = "VCPUOP_is_up")]
pub fn vcpus(xen: &impl Hypercall) -> u32 {
    let exists = |id: u32| {
        let arguments = [VCPU_IS_UP.into(), id.into(), 0, 0, 0];
        // SAFETY: this call takes no pointer.
        unsafe { xen.call(Number::VCPU_OP, arguments) }.is_ok()
    };
    (1..MAX_VCPUS).find(|&id| !exists(id)).unwrap_or(MAX_VCPUS)
}

/// Lets other vCPUs run first.
#[doc(alias = "SCHEDOP_yield")]
pub fn yield_now(xen: &impl Hypercall) {
    // SAFETY: this call takes no pointer. It has nothing to say either.
    let _ = unsafe { xen.call(Number::SCHED_OP, [xen_sys::SCHEDOP_yield.into(), 0, 0, 0, 0]) };
}
