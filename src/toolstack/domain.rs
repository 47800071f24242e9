//! Domains that run, and their end.

use core::time::Duration;

use alloc::string::String;

use super::build::{Config, Made, build};
use super::interface::{self, Known};
use super::{Console, Step, ToolstackError};
use crate::abi::control::{DomainFlags, DomainInfo, SHUTDOWN_MASK, SHUTDOWN_SHIFT};
use crate::abi::event::VirtualInterrupt;
use crate::abi::sched::ShutdownReason;
use crate::abi::{DomId, XenErrno};
use crate::event::VirtualIrq;
use crate::hypercall::Xen;
use crate::hypercall::control::Interface;
use crate::mm;
use crate::time::{Deadline, Instant, TimedOut};

/// How often to look at a domain though Xen has said nothing: another may have taken what it said.
const LOOK: Duration = Duration::from_millis(50);

/// What a control domain needs to start others. There is one at a time: Xen tells one port of ends.
#[derive(Debug)]
pub struct Toolstack {
    interface: Interface<Xen>,
    known: &'static Known,
    changes: VirtualIrq,
}

/// A domain that was started here. Dropping it destroys the domain.
#[must_use = "dropping it destroys the domain"]
#[derive(Debug)]
pub struct Domain<'t> {
    toolstack: &'t Toolstack,
    made: Made<'t, Xen>,
    console: Console,
}

/// How a domain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// What it said.
    pub reason: ShutdownReason,
}

impl Toolstack {
    /// Looks which control interface Xen has.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::NotControlDomain`], [`ToolstackError::UnknownInterface`], [`ToolstackError::Event`] where
    /// there is another toolstack.
    pub fn new(xen: Xen) -> Result<Self, ToolstackError> {
        let (known, interface) = interface::find(xen)?;
        let changes = VirtualIrq::new(xen, VirtualInterrupt::DOM_EXC, 0)?;
        Ok(Self { interface, known, changes })
    }

    /// The control interface that Xen has.
    pub fn interface(&self) -> &'static Known {
        self.known
    }

    /// Waits for something about a domain: asked whenever Xen tells of a change, and now and then.
    fn until<T>(&self, deadline: Deadline, mut is_so: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
        loop {
            if let Some(it) = is_so() {
                return Ok(it);
            }
            if deadline.has_passed() {
                return Err(TimedOut);
            }
            // Whether something was heard or not: it is looked at again.
            let _ = self.changes.wait(deadline.or_earlier(Deadline::at(Instant::now() + LOOK)));
        }
    }

    /// Starts a domain.
    ///
    /// # Errors
    ///
    /// [`ToolstackError`], and there is no domain.
    pub fn start(&self, config: &Config<'_>) -> Result<Domain<'_>, ToolstackError> {
        let domain = self.build(config, |_| Ok(String::from(config.command_line)))?;
        domain.unpause()?;
        Ok(domain)
    }

    /// Builds a domain and leaves it paused. What the kernel is told may depend on its number.
    ///
    /// # Errors
    ///
    /// [`ToolstackError`], and there is no domain.
    pub fn build(
        &self,
        config: &Config<'_>,
        command_line: impl FnOnce(DomId) -> Result<String, ToolstackError>,
    ) -> Result<Domain<'_>, ToolstackError> {
        let windows = mm::windows().ok_or(ToolstackError::NoWindow)?;
        let made = build(&self.interface, self.known, windows, config, command_line)?;
        let console = Console::from_now(*self.interface.xen(), made.id());
        Ok(Domain { toolstack: self, made, console })
    }
}

impl Domain<'_> {
    /// Its number.
    pub fn id(&self) -> DomId {
        self.made.id()
    }

    /// What it is at.
    ///
    /// # Errors
    ///
    /// What Xen says.
    pub fn info(&self) -> Result<DomainInfo, ToolstackError> {
        at(Step::Info, self.toolstack.interface.info(self.id()))
    }

    /// Lets it run, once for each time that it was kept from it.
    ///
    /// # Errors
    ///
    /// What Xen says.
    pub fn unpause(&self) -> Result<(), ToolstackError> {
        at(Step::Unpause, self.toolstack.interface.unpause(self.id()))
    }

    /// Keeps it from running.
    ///
    /// # Errors
    ///
    /// What Xen says.
    pub fn pause(&self) -> Result<(), ToolstackError> {
        at(Step::Pause, self.toolstack.interface.pause(self.id()))
    }

    /// How it ended; nothing while it hasn't.
    ///
    /// # Errors
    ///
    /// What Xen says.
    pub fn ended(&self) -> Result<Option<Ended>, ToolstackError> {
        let flags = self.info()?.flags;
        let reason = ShutdownReason(flags.bits() >> SHUTDOWN_SHIFT & SHUTDOWN_MASK);
        Ok(flags.contains(DomainFlags::SHUTDOWN).then_some(Ended { reason }))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::StillRunning`], and what Xen says.
    pub fn wait(&self, deadline: Deadline) -> Result<Ended, ToolstackError> {
        let ended = || self.ended().transpose();
        match self.toolstack.until(deadline, ended) {
            Ok(ended) => ended,
            Err(TimedOut) => Err(ToolstackError::StillRunning),
        }
    }

    /// What it has printed to its debug console, as part of Xen's log.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Destroys it. Where others still have something of it mapped, it stays as a name until they let go:
    /// `false` then.
    ///
    /// # Errors
    ///
    /// What Xen says; it is tried again by the drop.
    pub fn destroy(mut self, deadline: Deadline) -> Result<bool, ToolstackError> {
        at(Step::Destroy, self.made.destroy())?;
        let gone = || (self.toolstack.interface.info(self.id()).err() == Some(XenErrno::SRCH)).then_some(());
        Ok(self.toolstack.until(deadline, gone).is_ok())
    }
}

fn at<T>(step: Step, result: Result<T, XenErrno>) -> Result<T, ToolstackError> {
    result.map_err(|errno| ToolstackError::Xen(step, errno))
}
