//! Owned event channels.

use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll};
use core::time::Duration;

use super::port::{Handler, LocalPort};
use super::ports;
use super::two_level;
use super::upcall::{self, have_told, release};
use crate::abi::XenErrno;
use crate::abi::event::{Port, PortState};
use crate::abi::sched::MAX_POLL;
use crate::abi::shared_info::SharedInfo;
#[cfg(not(granite_guest))]
use crate::hypercall::fake::shared_info as host_page;
use crate::hypercall::{Hypercall, Xen, event, sched};
#[cfg(granite_guest)]
use crate::mm::shared_info;
use crate::sync::this_vcpu;
use crate::time::{Deadline, Instant, TimedOut, wait_until};

/// The kind of a channel: [`Unbound`], [`Interdomain`], [`Ipi`] or [`VirtualIrq`].
pub trait Kind: sealed::Sealed {}

macro_rules! kinds {
    ($($kind:ident = $name:ident, $what:literal;)*) => {
        $(
            #[doc = $what]
            pub type $kind<X = Xen> = Channel<sealed::$name, X>;
            impl Kind for sealed::$name {}
            impl sealed::Sealed for sealed::$name {}
        )*
        mod sealed {
            pub trait Sealed {}
            $(
                /// See the alias.
                #[derive(Clone, Copy, Debug)]
                pub enum $name {}
            )*
        }
    };
}

kinds! {
    Unbound = IsUnbound, "A port that is open for a peer to connect to.";
    Interdomain = IsInterdomain, "A port that is connected to a peer's.";
    Ipi = IsIpi, "A port by which vCPUs of the domain reach one of them.";
    VirtualIrq = IsVirtual, "A port of a virtual interrupt of Xen's.";
}

/// An open port of the domain. Dropping it closes the port.
#[must_use = "dropping a channel closes it"]
pub struct Channel<K: Kind, X: Hypercall + Copy = Xen> {
    pub(super) xen: X,
    pub(super) page: &'static SharedInfo,
    pub(super) slot: &'static LocalPort,
    pub(super) port: Port,
    pub(super) _kind: core::marker::PhantomData<K>,
}

/// Why a channel can't be opened, or can't send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventError {
    /// No events can be delivered: there is no Xen, the port's number is out of range, or its vCPU doesn't run.
    NoEvents,
    /// Xen refused the operation with this errno.
    Xen(XenErrno),
    /// The port isn't connected to a peer; this is its state.
    NotConnected(PortState),
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEvents => f.write_str("no events are delivered here"),
            Self::Xen(errno) => write!(f, "event channel: {errno}"),
            Self::NotConnected(PortState::UNBOUND) => f.write_str("the peer has not connected"),
            Self::NotConnected(state) => write!(f, "the port is not connected: its state is {}", state.0),
        }
    }
}

impl core::error::Error for EventError {}

impl From<XenErrno> for EventError {
    fn from(errno: XenErrno) -> Self {
        Self::Xen(errno)
    }
}

/// Returns the page with the bits of all ports.
#[cfg(granite_guest)]
fn page() -> Option<&'static SharedInfo> {
    shared_info::page()
}

/// Returns the page of the fake's domains.
#[cfg(not(granite_guest))]
fn page() -> Option<&'static SharedInfo> {
    Some(host_page())
}

/// Returns the first vCPU, where events come by default. On the host it is the calling thread's number: each
/// thread plays a domain with one vCPU.
pub(super) fn first_vcpu() -> usize {
    if cfg!(granite_guest) { 0 } else { this_vcpu::number() }
}

/// An event that has come. The port stays masked until this is dropped, so do the work first. (An exception: if two
/// vCPUs check one port at the same time, an interrupt may come before this is dropped.)
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn serve(channel: &granite::event::Interdomain) -> Result<(), Error> {
/// let event = channel.wait(Deadline::NEVER)?; // the port stays masked
/// // ... do all the work there is ...
/// drop(event); // and is unmasked
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it says that the work is done"]
pub struct Event<'c, X: Hypercall + Copy = Xen> {
    xen: X,
    page: &'static SharedInfo,
    slot: &'static LocalPort,
    port: Port,
    _channel: core::marker::PhantomData<&'c ()>,
}

impl<X: Hypercall + Copy> Event<'_, X> {
    /// Returns the port of the event.
    pub fn port(&self) -> Port {
        self.port
    }
}

impl<X: Hypercall + Copy> Drop for Event<'_, X> {
    fn drop(&mut self) {
        release(self.page, self.slot, self.port, |port| have_told(self.xen, port));
    }
}

impl<X: Hypercall + Copy> fmt::Debug for Event<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({})", self.port)
    }
}

impl<K: Kind, X: Hypercall + Copy> Channel<K, X> {
    /// Takes ownership of a port just opened by Xen, with its events bound to `vcpu`. Closes it after an error.
    pub(super) fn open(
        xen: X,
        port: Port,
        vcpu: usize,
        handler: Option<Handler>,
    ) -> Result<Self, EventError> {
        Self::take_over(xen, port, vcpu, handler).inspect_err(|_| {
            let _ = event::close(&xen, port);
        })
    }

    /// Takes ownership of an open port, with its events bound to `vcpu`. After an error the port stays open.
    pub(super) fn take_over(
        xen: X,
        port: Port,
        vcpu: usize,
        handler: Option<Handler>,
    ) -> Result<Self, EventError> {
        let (Some(page), Some(slot)) = (page(), ports::make(port)) else { return Err(EventError::NoEvents) };
        slot.open(vcpu, handler);
        release(page, slot, port, |port| have_told(xen, port));
        Ok(Self { xen, page, slot, port, _kind: core::marker::PhantomData })
    }

    /// Returns the port's number, to tell the peer.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Returns the number of interrupts for this port so far.
    pub fn interrupts(&self) -> u64 {
        self.slot.visits.load(Ordering::Relaxed)
    }

    /// Takes an event. Returns `None` if none has come.
    pub fn take(&self) -> Option<Event<'_, X>> {
        // While interrupts are masked, the upcall doesn't run and sets no mark, so check the pending bit, too. Don't
        // take the event of a masked port: it stays pending until the port is unmasked.
        let unmarked = || !self.is_masked() && two_level::is_pending(self.page, self.port) && self.claim();
        (self.slot.take_mark() || unmarked()).then(|| self.event())
    }

    fn claim(&self) -> bool {
        upcall::claim(self.page, self.slot, self.port, |port| have_told(self.xen, port))
    }

    fn event(&self) -> Event<'_, X> {
        let (xen, page, slot, port) = (self.xen, self.page, self.slot, self.port);
        Event { xen, page, slot, port, _channel: core::marker::PhantomData }
    }

    /// Waits for an event. If the events come to the calling vCPU, it halts meanwhile. Any other vCPU gets no
    /// interrupt for them, and polls every millisecond.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] after the deadline.
    pub fn wait(&self, deadline: Deadline) -> Result<Event<'_, X>, TimedOut> {
        if self.comes_here() {
            return wait_until(deadline, || self.take());
        }
        loop {
            if let Some(event) = self.take() {
                return Ok(event);
            }
            if deadline.has_passed() {
                return Err(TimedOut);
            }
            poll_any(self.xen, &[self.port], self.next_look(deadline));
        }
    }

    /// Returns whether the events come to the calling vCPU.
    fn comes_here(&self) -> bool {
        self.slot.vcpu.load(Ordering::Relaxed) == this_vcpu::number()
    }

    /// Returns when to check again for a mark set by another vCPU.
    fn next_look(&self, deadline: Deadline) -> Deadline {
        const POLL_INTERVAL: Duration = Duration::from_millis(1);
        if self.comes_here() {
            deadline
        } else {
            deadline.or_earlier(Deadline::at(Instant::now() + POLL_INTERVAL))
        }
    }

    /// Waits in Xen for an event. Interrupts may be masked, and stay masked; in this case no other event is handled
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] after the deadline.
    pub fn poll(&self, deadline: Deadline) -> Result<Event<'_, X>, TimedOut> {
        // Mask the port, so that no handler takes the pending bit before this loop does.
        let mut masked_here = false;
        loop {
            // Mask it again: another vCPU may have dropped an [`Event`], which unmasks the port.
            masked_here |= two_level::mask(self.page, self.port);
            if self.slot.take_mark() || two_level::take_pending(self.page, self.port) {
                return Ok(self.event());
            }
            if deadline.has_passed() {
                if masked_here {
                    self.release();
                }
                return Err(TimedOut);
            }
            poll_any(self.xen, &[self.port], self.next_look(deadline));
        }
    }

    /// Awaits an event. Only one task should wait: two on one channel wake each other in vain.
    pub async fn ready(&self) -> Event<'_, X> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Event<'_, X>> {
        self.slot.poll(context.waker(), || self.take())
    }

    /// Masks the port until [`unmask`](Self::unmask). New events stay pending meanwhile, and raise no interrupt.
    pub fn mask(&self) {
        self.slot.hold(true);
        two_level::mask(self.page, self.port);
    }

    /// Ends a [`mask`](Self::mask), and unmasks the port. Pending events are delivered.
    pub fn unmask(&self) {
        self.slot.hold(false);
        self.release();
    }

    fn release(&self) {
        release(self.page, self.slot, self.port, |port| have_told(self.xen, port));
    }

    /// Returns whether the port is masked.
    pub fn is_masked(&self) -> bool {
        two_level::is_masked(self.page, self.port)
    }

    pub(super) fn transmit(&self) -> Result<(), EventError> {
        Ok(event::send(&self.xen, self.port)?)
    }

    pub(super) fn move_to(&self, vcpu: usize) -> Result<(), EventError> {
        Ok(upcall::move_to(self.xen, self.page, self.slot, self.port, vcpu)?)
    }
}

impl<K: Kind, X: Hypercall + Copy> Drop for Channel<K, X> {
    fn drop(&mut self) {
        // The order matters: once Xen has closed the port, another channel may get it.
        two_level::mask(self.page, self.port);
        self.slot.close();
        let closed = event::close(&self.xen, self.port);
        debug_assert!(closed.is_ok(), "{}: {closed:?}", self.port);
    }
}

impl<K: Kind, X: Hypercall + Copy> fmt::Debug for Channel<K, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({})", self.port)
    }
}

/// Waits in Xen until one of these ports is pending, or until the deadline. It may return too early, and does so at
/// once for more than 128 ports. If neither the ports nor interrupts are masked, the upcall may take the event, and
/// this waits until the deadline.
pub fn poll_any(xen: impl Hypercall, ports: &[Port], deadline: Deadline) {
    if ports.len() > MAX_POLL {
        return;
    }
    // 0 means no timeout. So does a time too large for Xen's signed number of nanoseconds.
    let nanoseconds = deadline.instant().map_or(0, |at| at.nanoseconds().max(1));
    let nanoseconds = if i64::try_from(nanoseconds).is_ok() { nanoseconds } else { 0 };
    // If Xen refuses, the caller checks its ports and polls again.
    let _ = sched::poll(&xen, ports, nanoseconds);
}
