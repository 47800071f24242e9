//! `event_channel_op`. Source: `xen/include/public/event_channel.h`; the virtual interrupts come from `xen.h`.

use core::fmt;

use super::{DomId, assert_layout};

/// One of a domain's event channels.
#[doc(alias = "evtchn_port_t")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// A virtual interrupt: an event raised by Xen itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct VirtualInterrupt(pub u32);

impl VirtualInterrupt {
    /// The vCPU's one-shot timer; each vCPU has its own.
    #[doc(alias = "VIRQ_TIMER")]
    pub const TIMER: Self = Self(xen_sys::VIRQ_TIMER);
    /// A domain ended, or changed state otherwise. Xen sends it to the control domain.
    #[doc(alias = "VIRQ_DOM_EXC")]
    pub const DOM_EXC: Self = Self(xen_sys::VIRQ_DOM_EXC);
}

/// The number of an event channel operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct EventOp(pub u32);

impl EventOp {
    /// Connects to a port opened for us by a peer: [`BindInterdomain`].
    #[doc(alias = "EVTCHNOP_bind_interdomain")]
    pub const BIND_INTERDOMAIN: Self = Self(0);
    /// Binds a virtual interrupt to a port: [`BindVirq`].
    #[doc(alias = "EVTCHNOP_bind_virq")]
    pub const BIND_VIRQ: Self = Self(1);
    /// Closes a port: [`OfPort`].
    #[doc(alias = "EVTCHNOP_close")]
    pub const CLOSE: Self = Self(3);
    /// Sends an event: [`OfPort`].
    #[doc(alias = "EVTCHNOP_send")]
    pub const SEND: Self = Self(4);
    /// Reads a port's state: [`PortStatus`].
    #[doc(alias = "EVTCHNOP_status")]
    pub const STATUS: Self = Self(5);
    /// Opens a port for a peer: [`AllocUnbound`].
    #[doc(alias = "EVTCHNOP_alloc_unbound")]
    pub const ALLOC_UNBOUND: Self = Self(6);
    /// Opens a port for the domain's own vCPUs to signal one of them: [`BindIpi`].
    #[doc(alias = "EVTCHNOP_bind_ipi")]
    pub const BIND_IPI: Self = Self(7);
    /// Binds a port's events to another vCPU: [`BindVcpu`].
    #[doc(alias = "EVTCHNOP_bind_vcpu")]
    pub const BIND_VCPU: Self = Self(8);
    /// Unmasks a port, and delivers a pending event: [`OfPort`].
    #[doc(alias = "EVTCHNOP_unmask")]
    pub const UNMASK: Self = Self(9);
}

/// Argument of [`EventOp::BIND_INTERDOMAIN`].
#[doc(alias = "evtchn_bind_interdomain")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BindInterdomain {
    /// The peer.
    pub remote_dom: DomId,
    /// The peer's port.
    pub remote_port: Port,
    /// Out: the local port.
    pub local_port: Port,
}
assert_layout!(BindInterdomain, size = 12, align = 4, { remote_dom: 0, remote_port: 4, local_port: 8 });

/// Argument of [`EventOp::BIND_VIRQ`].
#[doc(alias = "evtchn_bind_virq")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BindVirq {
    /// The virtual interrupt.
    pub virq: VirtualInterrupt,
    /// The vCPU it is for; 0 for an interrupt of the whole domain.
    pub vcpu: u32,
    /// Out: the port.
    pub port: Port,
}
assert_layout!(BindVirq, size = 12, align = 4, { virq: 0, vcpu: 4, port: 8 });

/// Argument of [`EventOp::BIND_IPI`].
#[doc(alias = "evtchn_bind_ipi")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BindIpi {
    /// The vCPU to signal.
    pub vcpu: u32,
    /// Out: the port.
    pub port: Port,
}
assert_layout!(BindIpi, size = 8, align = 4, { vcpu: 0, port: 4 });

/// Argument of [`EventOp::BIND_VCPU`].
#[doc(alias = "evtchn_bind_vcpu")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BindVcpu {
    /// The port.
    pub port: Port,
    /// The vCPU to receive its events.
    pub vcpu: u32,
}
assert_layout!(BindVcpu, size = 8, align = 4, { port: 0, vcpu: 4 });

/// Argument of [`EventOp::ALLOC_UNBOUND`].
#[doc(alias = "evtchn_alloc_unbound")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AllocUnbound {
    /// The port's owner; only a privileged domain may name another than itself.
    pub dom: DomId,
    /// The domain allowed to connect to it.
    pub remote_dom: DomId,
    /// Out: the port.
    pub port: Port,
}
assert_layout!(AllocUnbound, size = 8, align = 4, { dom: 0, remote_dom: 2, port: 4 });

/// Argument of the operations with a port alone.
#[doc(alias = "evtchn_send")]
#[doc(alias = "evtchn_close")]
#[doc(alias = "evtchn_unmask")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OfPort {
    /// The port.
    pub port: Port,
}
assert_layout!(OfPort, size = 4, align = 4, { port: 0 });

/// Argument of [`EventOp::STATUS`].
#[doc(alias = "evtchn_status")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PortStatus {
    /// The port's owner.
    pub dom: DomId,
    /// The port.
    pub port: Port,
    /// Out: its state.
    pub status: PortState,
    /// Out: the vCPU receiving its events.
    pub vcpu: u32,
    /// Out: the peer, connected or allowed to connect.
    pub peer: DomId,
    /// Out: the peer's port, if connected.
    pub peer_port: Port,
}
assert_layout!(PortStatus, size = 24, align = 4, { dom: 0, port: 4, status: 8, vcpu: 12, peer: 16, peer_port: 20 });

/// The state of a port. Xen may also return a number without a constant here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct PortState(pub u32);

impl PortState {
    /// Not in use.
    #[doc(alias = "EVTCHNSTAT_closed")]
    pub const CLOSED: Self = Self(0);
    /// Waiting for its peer.
    #[doc(alias = "EVTCHNSTAT_unbound")]
    pub const UNBOUND: Self = Self(1);
    /// Connected.
    #[doc(alias = "EVTCHNSTAT_interdomain")]
    pub const INTERDOMAIN: Self = Self(2);
    /// Bound to a virtual interrupt.
    #[doc(alias = "EVTCHNSTAT_virq")]
    pub const VIRQ: Self = Self(4);
    /// Bound for signals between the domain's own vCPUs.
    #[doc(alias = "EVTCHNSTAT_ipi")]
    pub const IPI: Self = Self(5);
}
