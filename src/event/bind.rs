//! How each kind of channel is opened, and the operations that only some kinds have.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use super::channel::{Channel, EventError, Interdomain, Ipi, Unbound, VirtualIrq, first_vcpu};
use super::port::Handler;
use crate::abi::DomId;
use crate::abi::event::{Port, PortState, VirtualInterrupt};
use crate::hypercall::{Hypercall, Xen, event};

impl<X: Hypercall + Copy> Unbound<X> {
    /// Opens a port for `peer` to connect to. Its events come to the first vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno, such as `ENOSPC` if all ports are in use; [`EventError::NoEvents`] if no
    /// events are delivered here.
    pub fn new(xen: X, peer: DomId) -> Result<Self, EventError> {
        Self::open(xen, event::alloc_unbound(&xen, peer)?, first_vcpu(), None)
    }

    /// Moves its events to another vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with `ENOENT` if there is no such vCPU or it has ended, or with Xen's errno. The events
    /// stay where they were.
    pub fn bind_to(&self, vcpu: usize) -> Result<(), EventError> {
        self.move_to(vcpu)
    }

    /// Returns the connection, once the peer has made it.
    ///
    /// # Errors
    ///
    /// The port itself, with [`EventError::NotConnected`] if the peer has not connected, or with [`EventError::Xen`].
    pub fn accept(self) -> Result<Interdomain<X>, (EventError, Self)> {
        match event::status(&self.xen, self.port) {
            Ok(status) if status.status == PortState::INTERDOMAIN => {
                let this = ManuallyDrop::new(self);
                let Channel { xen, page, slot, port, .. } = *this;
                Ok(Channel { xen, page, slot, port, _kind: PhantomData })
            }
            Ok(status) => Err((EventError::NotConnected(status.status), self)),
            Err(errno) => Err((errno.into(), self)),
        }
    }
}

impl<X: Hypercall + Copy> Interdomain<X> {
    /// Connects to a port opened by `peer` for this domain. Its events come to the first vCPU. An event may be
    /// pending at once although the peer sent none.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno, such as `EINVAL` if the peer has opened no such port;
    /// [`EventError::NoEvents`] if no events are delivered here.
    pub fn connect(xen: X, peer: DomId, port: Port) -> Result<Self, EventError> {
        Self::open(xen, event::bind_interdomain(&xen, peer, port)?, first_vcpu(), None)
    }

    /// Takes over a port opened and connected by the toolstack. Its events come to the first vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError::NoEvents`] if no events are delivered here. The port stays open.
    pub(crate) fn adopt(xen: X, port: Port) -> Result<Self, EventError> {
        Self::take_over(xen, port, first_vcpu(), None)
    }

    /// Returns whether the peer is still connected: Xen sends no event when the peer closes its port.
    pub fn is_interdomain(&self) -> bool {
        event::status(&self.xen, self.port).is_ok_and(|status| status.status == PortState::INTERDOMAIN)
    }

    /// Sends an event to the peer.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno.
    pub fn send(&self) -> Result<(), EventError> {
        self.transmit()
    }

    /// Moves its events to another vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with `ENOENT` if there is no such vCPU or it has ended, or with Xen's errno. The events
    /// stay where they were.
    pub fn bind_to(&self, vcpu: usize) -> Result<(), EventError> {
        self.move_to(vcpu)
    }
}

impl Ipi {
    /// Opens a port for the domain's vCPUs to reach `vcpu`.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno, such as `ENOENT` if there is no such vCPU; [`EventError::NoEvents`] if
    /// no events are delivered here.
    pub fn new(xen: Xen, vcpu: usize) -> Result<Self, EventError> {
        Self::open(xen, event::bind_ipi(&xen, vcpu as u32)?, vcpu, None)
    }

    /// Like `new`, with a handler called on that vCPU, in the interrupt.
    ///
    /// # Errors
    ///
    /// The errors of `new`: if Xen refuses, or if no events are delivered here.
    pub fn with_handler(xen: Xen, vcpu: usize, handler: Handler) -> Result<Self, EventError> {
        Self::open(xen, event::bind_ipi(&xen, vcpu as u32)?, vcpu, Some(handler))
    }

    /// Interrupts the vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno.
    pub fn send(&self) -> Result<(), EventError> {
        self.transmit()
    }
}

impl VirtualIrq {
    /// Opens a port for a virtual interrupt of Xen. `vcpu` is 0 for an interrupt of the whole domain.
    ///
    /// # Errors
    ///
    /// [`EventError::Xen`] with Xen's errno, such as `EEXIST` if the interrupt already has a port;
    /// [`EventError::NoEvents`] if no events are delivered here.
    pub fn new(xen: Xen, which: VirtualInterrupt, vcpu: usize) -> Result<Self, EventError> {
        Self::open(xen, event::bind_virq(&xen, which, vcpu as u32)?, vcpu, None)
    }

    /// Like `new`, with a handler called on that vCPU, in the interrupt.
    ///
    /// # Errors
    ///
    /// The errors of `new`: if Xen refuses, or if no events are delivered here.
    pub fn with_handler(
        xen: Xen,
        which: VirtualInterrupt,
        vcpu: usize,
        handler: Handler,
    ) -> Result<Self, EventError> {
        Self::open(xen, event::bind_virq(&xen, which, vcpu as u32)?, vcpu, Some(handler))
    }
}
