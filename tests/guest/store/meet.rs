//! Meeting by hand, in each state, and by messages of the cases' own.

use core::time::Duration;

use alloc::string::ToString;
use alloc::vec::Vec;

use granite::abi::DomId;
use granite::abi::blkif::{Request, Response};
use granite::abi::event::Port;
use granite::abi::grant::GrantRef;
use granite::abi::sched::ShutdownReason;
use granite::abi::xenbus::State;
use granite::driver::block::{Blkif, Limits};
use granite::driver::connector::Connector;
use granite::event::{Interdomain, Unbound};
use granite::grant::{ForeignMapping, Grant, ReadWrite, Stats};
use granite::hypercall::{Xen, sched};
use granite::mm::Page;
use granite::pair::{LinkConnector, LinkError, Parent, Post};
use granite::ring::{Back, Front, Ring};
use granite::rt::Grants;
use granite::time::{Deadline, TimedOut};

use crate::harness::{Context, NotPassed};
use crate::pair::DATA;
use granite::testing::{check, check_same};

pub fn fail(error: impl ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Limits for cases that wait for a back end in vain.
pub fn impatient() -> Limits {
    Limits { patience: Duration::from_millis(100), ..Limits::default() }
}

pub fn grants(context: &Context) -> Result<&'static Grants, NotPassed> {
    context.platform()?.grants().map_err(fail)
}

/// The link of a case that both sides end.
pub struct Told<'c>(pub &'c Context);

impl Post for Told<'_> {
    fn peer(&self) -> DomId {
        self.0.side_child().unwrap_or(DomId::CONTROL)
    }

    fn send(&self, message: &[u8], _: Deadline) -> Result<(), LinkError> {
        self.0.tell(message).map_err(|_| LinkError::Gone)
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        self.0.side.receive(deadline)
    }

    fn has_message(&self) -> bool {
        self.0.has_message()
    }

    fn is_gone(&self) -> bool {
        self.0.side.is_gone()
    }
}

/// The link to a domain that the case destroys.
pub struct Lost<'p>(pub &'p Parent<'static>);

impl Post for Lost<'_> {
    fn peer(&self) -> DomId {
        self.0.child()
    }

    fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError> {
        Parent::send(self.0, &[&[DATA], message].concat(), deadline)
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        let message = Parent::receive(self.0, deadline)?;
        Ok(message.get(1..).unwrap_or_default().into())
    }

    fn has_message(&self) -> bool {
        Parent::has_message(self.0)
    }

    fn is_gone(&self) -> bool {
        Post::is_gone(&self.0)
    }
}

pub fn connector(context: &Context) -> LinkConnector<Told<'_>> {
    LinkConnector::new(Told(context))
}

/// What a table had when a case began.
pub struct Before {
    grants: &'static Grants,
    stats: Stats,
    windows: usize,
}

impl Before {
    pub fn new(context: &Context) -> Result<Self, NotPassed> {
        let grants = grants(context)?;
        Ok(Self { grants, stats: grants.stats(), windows: grants.windows().free() })
    }

    /// For a case that loses the other domain: the page of the link to it comes back, too.
    pub fn with_the_link(context: &Context) -> Result<Self, NotPassed> {
        let mut this = Self::new(context)?;
        this.stats.in_use -= 1;
        Ok(this)
    }

    /// Nothing is out, mapped, lost or waiting that wasn't.
    pub fn nothing_lost(&self) -> Result<(), NotPassed> {
        self.grants.reap(u32::MAX);
        let now = self.grants.stats();
        let of = |stats: &Stats| (stats.in_use, stats.quarantined, stats.lost);
        check!(of(&now) == of(&self.stats), "{now}; it was {}", self.stats);
        check_same!(self.grants.windows().free(), self.windows);
        Ok(())
    }
}

/// Ends this domain, with all that it has.
pub fn die(context: &Context) -> Result<(), NotPassed> {
    Err(fail(sched::shutdown(&context.xen()?, ShutdownReason::CRASH)))
}

/// A front end without the driver.
pub struct RawFront<'c> {
    pub connector: LinkConnector<Told<'c>>,
    pub ring: Ring<Front, Blkif, Grant<'static, ReadWrite, Xen>>,
    port: Unbound,
}

impl<'c> RawFront<'c> {
    /// Goes as far as its own details, which it doesn't tell yet.
    pub fn new(context: &'c Context) -> Result<Self, NotPassed> {
        let mut connector = connector(context);
        connector.publish(&[], State::INITIALISING, soon()).map_err(fail)?;
        connector.wait_for_any(&[State::INIT_WAIT], soon()).map_err(fail)?;
        let page = Page::zeroed().ok_or_else(|| fail("no memory"))?;
        let page = grants(context)?.grant::<ReadWrite>(page, connector.peer()).map_err(fail)?;
        let port = Unbound::new(context.xen()?, connector.peer()).map_err(fail)?;
        Ok(Self { connector, ring: Ring::new(page).map_err(fail)?, port })
    }

    /// The keys that a back end must have, with changes.
    pub fn tell(&mut self, change: &[(&str, &str)]) -> Result<(), NotPassed> {
        let (gref, port) = (self.ring.memory().gref().0.to_string(), self.port.port().0.to_string());
        let mut keys =
            Vec::from([("ring-ref", &*gref), ("event-channel", &*port), ("feature-granite-reasons", "1")]);
        keys.extend(change);
        self.connector.publish(&keys, State::INITIALISED, soon()).map_err(fail)
    }

    /// Goes as far as it goes.
    pub fn connect(context: &'c Context) -> Result<Self, NotPassed> {
        let mut this = Self::new(context)?;
        this.tell(&[])?;
        this.connector.wait_for_any(&[State::CONNECTED], soon()).map_err(fail)?;
        this.connector.publish(&[], State::CONNECTED, soon()).map_err(fail)?;
        Ok(this)
    }

    pub fn ring_bell(&self, context: &Context) -> Result<(), NotPassed> {
        granite::hypercall::event::send(&context.xen()?, self.port.port()).map_err(fail)
    }

    /// Asks, and waits for the answer.
    pub fn exchange(&mut self, context: &Context, mut request: Request) -> Result<Response, NotPassed> {
        let pushed = self.ring.push(|id| {
            request.id = id.number();
            request
        });
        pushed.map_err(fail)?;
        if self.ring.publish().is_needed() {
            self.ring_bell(context)?;
        }
        loop {
            if let Some((_, response)) = self.ring.pop().map_err(fail)? {
                return Ok(response);
            }
            if !self.ring.arm().map_err(fail)? {
                drop(self.port.wait(soon()).map_err(|TimedOut| fail("no answer"))?);
            }
        }
    }

    /// Ends as it should.
    pub fn close(mut self) -> Result<(), NotPassed> {
        self.connector.publish(&[], State::CLOSING, soon()).map_err(fail)?;
        self.connector.wait_for_any(&[State::CLOSED], soon()).map_err(fail)?;
        self.ring.into_memory().end_access().map_err(fail)?;
        self.connector.publish(&[], State::CLOSED, soon()).map_err(fail)
    }
}

/// A back end without the driver, and without a disk.
pub struct RawBack<'c> {
    pub connector: LinkConnector<Told<'c>>,
    pub ring: Ring<Back, Blkif, ForeignMapping<'static, ReadWrite, Xen>>,
    pub bell: Interdomain,
}

impl<'c> RawBack<'c> {
    /// Tells of a disk of 64 sectors, with changes, and connects.
    pub fn connect(context: &'c Context, change: &[(&str, &str)]) -> Result<Self, NotPassed> {
        let mut connector = connector(context);
        connector.publish(&[], State::INIT_WAIT, soon()).map_err(fail)?;
        connector.wait_for_any(&[State::INITIALISED], soon()).map_err(fail)?;
        let gref = GrantRef(connector.parse("ring-ref").map_err(fail)?);
        let port = Port(connector.parse("event-channel").map_err(fail)?);
        let memory = grants(context)?.map_all::<ReadWrite>(connector.peer(), &[gref]).map_err(fail)?;
        let bell = Interdomain::connect(context.xen()?, connector.peer(), port).map_err(fail)?;
        let mut keys = Vec::from([("sectors", "64"), ("sector-size", "512"), ("info", "0")]);
        keys.extend(change);
        connector.publish(&keys, State::CONNECTED, soon()).map_err(fail)?;
        Ok(Self { connector, ring: Ring::attach(memory).map_err(fail)?, bell })
    }

    /// The next request.
    pub fn hear(&mut self) -> Result<Request, NotPassed> {
        loop {
            if let Some(request) = self.ring.pop().map_err(fail)? {
                return Ok(request);
            }
            if !self.ring.arm().map_err(fail)? {
                drop(self.bell.wait(soon()).map_err(|TimedOut| fail("no request"))?);
            }
        }
    }

    pub fn answer(&mut self, response: &Response) -> Result<(), NotPassed> {
        self.ring.push(response).map_err(fail)?;
        if self.ring.publish().is_needed() {
            self.bell.send().map_err(fail)?;
        }
        Ok(())
    }

    /// Lets go, whatever the front end does.
    pub fn close(mut self) -> Result<(), NotPassed> {
        self.connector.wait_for_any(&[State::CLOSING], soon()).map_err(fail)?;
        drop((self.ring, self.bell));
        self.connector.publish(&[], State::CLOSED, soon()).map_err(fail)
    }
}
