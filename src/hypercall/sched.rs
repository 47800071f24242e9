//! Scheduling of vCPUs, and the end of the domain.

use super::{Hypercall, Number};
use crate::abi::XenErrno;
use crate::abi::event::Port;
use crate::abi::sched::{MAX_POLL, Poll, Shutdown, ShutdownReason};

/// Ends the domain. Returns only if Xen refuses, with the reason.
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

/// Yields to other vCPUs.
#[doc(alias = "SCHEDOP_yield")]
pub fn yield_now(xen: &impl Hypercall) {
    // SAFETY: this call takes no pointer. Its result carries no information.
    let _ = unsafe { xen.call(Number::SCHED_OP, [xen_sys::SCHEDOP_yield.into(), 0, 0, 0, 0]) };
}

/// Waits until one of `ports` is pending, masked or not, or until a time in nanoseconds since Xen booted; 0 means no
/// timeout. It may return early without a pending port.
///
/// # Errors
///
/// `EINVAL` for more than [`MAX_POLL`] ports, or for an impossible port number.
#[doc(alias = "SCHEDOP_poll")]
pub fn poll(xen: &impl Hypercall, ports: &[Port], nanoseconds: u64) -> Result<(), XenErrno> {
    if ports.len() > MAX_POLL {
        return Err(XenErrno::INVAL);
    }
    let argument = Poll { ports: ports.as_ptr(), nr_ports: ports.len() as u32, timeout: nanoseconds };
    let arguments = [xen_sys::SCHEDOP_poll.into(), &raw const argument as u64, 0, 0, 0];
    // SAFETY: Xen reads the argument and `nr_ports` ports, all borrowed here.
    unsafe { xen.call(Number::SCHED_OP, arguments) }.map(drop)
}
