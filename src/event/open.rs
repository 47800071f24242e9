//! How each kind of channel is opened, and what only that kind can do.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use super::channel::{Channel, EventError, Interdomain, Ipi, Unbound, VirtualIrq, first_vcpu};
use super::slot::Handler;
use crate::abi::DomId;
use crate::abi::event::{Port, PortState, VirtualInterrupt};
use crate::hypercall::{Hypercall, Xen, event};

impl<X: Hypercall + Copy> Unbound<X> {
    /// Opens a port that `peer` may connect to. Its events come to the first vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn new(xen: X, peer: DomId) -> Result<Self, EventError> {
        Self::open(xen, event::alloc_unbound(&xen, peer)?, first_vcpu(), None)
    }

    /// Has its events come to another vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError`], and it stays where it was.
    pub fn bind_to(&self, vcpu: usize) -> Result<(), EventError> {
        self.move_to(vcpu)
    }

    /// The connection, once the peer has made it.
    ///
    /// # Errors
    ///
    /// The port itself, and [`EventError::NotConnected`].
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
    /// Connects to a port that `peer` has opened for us. Its events come to the first vCPU; the first may be there
    /// already, and stand for nothing.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn connect(xen: X, peer: DomId, port: Port) -> Result<Self, EventError> {
        Self::open(xen, event::bind_interdomain(&xen, peer, port)?, first_vcpu(), None)
    }

    /// Whether it is connected still: Xen doesn't tell when the peer closes its port.
    pub fn is_interdomain(&self) -> bool {
        event::status(&self.xen, self.port).is_ok_and(|status| status.status == PortState::INTERDOMAIN)
    }

    /// Sends an event to the peer.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn send(&self) -> Result<(), EventError> {
        self.transmit()
    }

    /// Has its events come to another vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError`], and it stays where it was.
    pub fn bind_to(&self, vcpu: usize) -> Result<(), EventError> {
        self.move_to(vcpu)
    }
}

impl Ipi {
    /// Opens a port by which the domain's vCPUs reach `vcpu`.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn new(xen: Xen, vcpu: usize) -> Result<Self, EventError> {
        Self::open(xen, event::bind_ipi(&xen, vcpu as u32)?, vcpu, None)
    }

    /// The same, with a handler that runs on that vCPU, in the interrupt.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn with_handler(xen: Xen, vcpu: usize, handler: Handler) -> Result<Self, EventError> {
        Self::open(xen, event::bind_ipi(&xen, vcpu as u32)?, vcpu, Some(handler))
    }

    /// Interrupts the vCPU.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn send(&self) -> Result<(), EventError> {
        self.transmit()
    }
}

impl VirtualIrq {
    /// Has Xen tell of something by a port. `vcpu` is 0 for what concerns the whole domain.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn new(xen: Xen, which: VirtualInterrupt, vcpu: usize) -> Result<Self, EventError> {
        Self::open(xen, event::bind_virq(&xen, which, vcpu as u32)?, vcpu, None)
    }

    /// The same, with a handler that runs on that vCPU, in the interrupt.
    ///
    /// # Errors
    ///
    /// [`EventError`].
    pub fn with_handler(
        xen: Xen,
        which: VirtualInterrupt,
        vcpu: usize,
        handler: Handler,
    ) -> Result<Self, EventError> {
        Self::open(xen, event::bind_virq(&xen, which, vcpu as u32)?, vcpu, Some(handler))
    }
}
