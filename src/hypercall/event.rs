//! Event channels: the hypercall's operations. [`crate::event`] has the types that own ports.

use super::{Hypercall, Number};
use crate::abi::event::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, EventOp, OfPort, Port, PortState, PortStatus,
    VirtualInterrupt,
};
use crate::abi::{DomId, XenErrno};

/// Makes the call.
///
/// # Safety
///
/// `T` must be the operation's structure.
unsafe fn call<T>(xen: &impl Hypercall, op: EventOp, argument: &mut T) -> Result<(), XenErrno> {
    let arguments = [op.0.into(), core::ptr::from_mut(argument) as u64, 0, 0, 0];
    // SAFETY: Xen reads and writes the structure at the pointer, which is borrowed here.
    unsafe { xen.call(Number::EVENT_CHANNEL_OP, arguments) }.map(drop)
}

/// Opens a port for `peer` to connect to.
///
/// # Errors
///
/// `ENOSPC` if all ports are in use; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_alloc_unbound")]
pub fn alloc_unbound(xen: &impl Hypercall, peer: DomId) -> Result<Port, XenErrno> {
    let mut argument = AllocUnbound { dom: DomId::SELF, remote_dom: peer, port: Port(0) };
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::ALLOC_UNBOUND, &mut argument) }?;
    Ok(argument.port)
}

/// Connects to a port opened by `peer` for this domain.
///
/// # Errors
///
/// `EINVAL` if `peer` has opened no such port; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_bind_interdomain")]
pub fn bind_interdomain(xen: &impl Hypercall, peer: DomId, port: Port) -> Result<Port, XenErrno> {
    let mut argument = BindInterdomain { remote_dom: peer, remote_port: port, local_port: Port(0) };
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::BIND_INTERDOMAIN, &mut argument) }?;
    Ok(argument.local_port)
}

/// Binds a virtual interrupt to a new port. `vcpu` is 0 for a domain-wide interrupt.
///
/// # Errors
///
/// `EEXIST` if the interrupt has a port already; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_bind_virq")]
pub fn bind_virq(xen: &impl Hypercall, virq: VirtualInterrupt, vcpu: u32) -> Result<Port, XenErrno> {
    let mut argument = BindVirq { virq, vcpu, port: Port(0) };
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::BIND_VIRQ, &mut argument) }?;
    Ok(argument.port)
}

/// Opens a port for signals to one of this domain's vCPUs.
///
/// # Errors
///
/// `ENOENT` if there is no such vCPU; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_bind_ipi")]
pub fn bind_ipi(xen: &impl Hypercall, vcpu: u32) -> Result<Port, XenErrno> {
    let mut argument = BindIpi { vcpu, port: Port(0) };
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::BIND_IPI, &mut argument) }?;
    Ok(argument.port)
}

/// Moves a port's events to another vCPU. Only ports to a peer and ports of domain-wide interrupts can move.
///
/// # Errors
///
/// `EINVAL` for a port that can't move; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_bind_vcpu")]
pub fn bind_vcpu(xen: &impl Hypercall, port: Port, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::BIND_VCPU, &mut BindVcpu { port, vcpu }) }
}

/// Returns the state of one of this domain's ports.
///
/// # Errors
///
/// `EINVAL` for an impossible port number; otherwise Xen's errno.
#[doc(alias = "EVTCHNOP_status")]
pub fn status(xen: &impl Hypercall, port: Port) -> Result<PortStatus, XenErrno> {
    let mut argument = PortStatus {
        dom: DomId::SELF,
        port,
        status: PortState::CLOSED,
        vcpu: 0,
        peer: DomId::SELF,
        peer_port: Port(0),
    };
    // SAFETY: this is the operation's structure.
    unsafe { call(xen, EventOp::STATUS, &mut argument) }?;
    Ok(argument)
}

macro_rules! of_port {
    ($($name:ident = $op:ident, $alias:literal, $what:literal;)*) => {$(
        #[doc = $what]
        ///
        /// # Errors
        ///
        /// `EINVAL` for a port that isn't open; otherwise Xen's errno.
        #[doc(alias = $alias)]
        pub fn $name(xen: &impl Hypercall, port: Port) -> Result<(), XenErrno> {
            // SAFETY: this is the operation's structure.
            unsafe { call(xen, EventOp::$op, &mut OfPort { port }) }
        }
    )*};
}

of_port! {
    send = SEND, "EVTCHNOP_send", "Sends an event to the other end.";
    close = CLOSE, "EVTCHNOP_close", "Ends a port. A peer's end waits for another connection then.";
    unmask = UNMASK, "EVTCHNOP_unmask", "Unmasks a port, and has what is pending delivered.";
}
