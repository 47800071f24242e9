//! Event channels: the operations. [`crate::event`] has what owns them.

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
/// `T` is the structure that Xen expects for the operation.
unsafe fn call<T>(xen: &impl Hypercall, op: EventOp, argument: &mut T) -> Result<(), XenErrno> {
    let arguments = [op.0.into(), core::ptr::from_mut(argument) as u64, 0, 0, 0];
    // SAFETY: Xen reads and writes the structure at the pointer, which is borrowed here.
    unsafe { xen.call(Number::EVENT_CHANNEL_OP, arguments) }.map(drop)
}

/// Opens a port that `peer` may connect to.
///
/// # Errors
///
/// What Xen says; `ENOSPC` where all ports are in use.
#[doc(alias = "EVTCHNOP_alloc_unbound")]
pub fn alloc_unbound(xen: &impl Hypercall, peer: DomId) -> Result<Port, XenErrno> {
    let mut argument = AllocUnbound { dom: DomId::SELF, remote_dom: peer, port: Port(0) };
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::ALLOC_UNBOUND, &mut argument) }?;
    Ok(argument.port)
}

/// Connects to a port that `peer` has opened for us.
///
/// # Errors
///
/// What Xen says; `EINVAL` where it has opened no such port.
#[doc(alias = "EVTCHNOP_bind_interdomain")]
pub fn bind_interdomain(xen: &impl Hypercall, peer: DomId, port: Port) -> Result<Port, XenErrno> {
    let mut argument = BindInterdomain { remote_dom: peer, remote_port: port, local_port: Port(0) };
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::BIND_INTERDOMAIN, &mut argument) }?;
    Ok(argument.local_port)
}

/// Has a virtual interrupt come by a port. `vcpu` is 0 for one that is the domain's.
///
/// # Errors
///
/// What Xen says; `EEXIST` where it has a port already.
#[doc(alias = "EVTCHNOP_bind_virq")]
pub fn bind_virq(xen: &impl Hypercall, virq: VirtualInterrupt, vcpu: u32) -> Result<Port, XenErrno> {
    let mut argument = BindVirq { virq, vcpu, port: Port(0) };
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::BIND_VIRQ, &mut argument) }?;
    Ok(argument.port)
}

/// Opens a port by which a vCPU of ours is reached.
///
/// # Errors
///
/// What Xen says; `ENOENT` where there is no such vCPU.
#[doc(alias = "EVTCHNOP_bind_ipi")]
pub fn bind_ipi(xen: &impl Hypercall, vcpu: u32) -> Result<Port, XenErrno> {
    let mut argument = BindIpi { vcpu, port: Port(0) };
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::BIND_IPI, &mut argument) }?;
    Ok(argument.port)
}

/// Has a port's events come to another vCPU. Only those of a peer, and of the domain as a whole, can move.
///
/// # Errors
///
/// What Xen says; `EINVAL` for a port that can't move.
#[doc(alias = "EVTCHNOP_bind_vcpu")]
pub fn bind_vcpu(xen: &impl Hypercall, port: Port, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::BIND_VCPU, &mut BindVcpu { port, vcpu }) }
}

/// What a port of ours is.
///
/// # Errors
///
/// What Xen says; `EINVAL` for a port that there can't be.
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
    // SAFETY: it is the operation's.
    unsafe { call(xen, EventOp::STATUS, &mut argument) }?;
    Ok(argument)
}

macro_rules! of_port {
    ($($name:ident = $op:ident, $alias:literal, $what:literal;)*) => {$(
        #[doc = $what]
        ///
        /// # Errors
        ///
        /// What Xen says; `EINVAL` for a port that isn't open.
        #[doc(alias = $alias)]
        pub fn $name(xen: &impl Hypercall, port: Port) -> Result<(), XenErrno> {
            // SAFETY: it is the operation's.
            unsafe { call(xen, EventOp::$op, &mut OfPort { port }) }
        }
    )*};
}

of_port! {
    send = SEND, "EVTCHNOP_send", "Sends an event to whoever is at the other end.";
    close = CLOSE, "EVTCHNOP_close", "Ends a port. A peer's end waits for another connection then.";
    unmask = UNMASK, "EVTCHNOP_unmask", "Unmasks a port, and has what is pending delivered.";
}
