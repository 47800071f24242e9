//! Running domains, and their end.

use core::time::Duration;

use alloc::string::String;

use super::build::{Config, Made, build};
use super::interface::{self, Known};
use super::{Console, Step, ToolstackError};
use crate::abi::domctl::{DomainFlags, DomainInfo, SHUTDOWN_MASK, SHUTDOWN_SHIFT};
use crate::abi::event::VirtualInterrupt;
use crate::abi::sched::ShutdownReason;
use crate::abi::{DomId, XenErrno};
use crate::event::VirtualIrq;
use crate::hypercall::Xen;
use crate::hypercall::domctl::Interface;
use crate::mm;
use crate::time::{Deadline, Instant, TimedOut};

/// Interval for polling a domain without an event from Xen: another waiter may have taken the event.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The toolstack of a control domain, for starting other domains. Only one can exist: Xen announces the end of a domain
/// on one port.
#[derive(Debug)]
pub struct Toolstack {
    interface: Interface<Xen>,
    known: &'static Known,
    changes: VirtualIrq,
}

/// A domain started here. Dropping it destroys the domain.
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
    /// The shutdown reason given by the domain.
    pub reason: ShutdownReason,
}

impl Toolstack {
    /// Finds the version of Xen's control interface.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::NotControlDomain`] if this isn't the control domain, [`ToolstackError::UnknownInterface`] if
    /// Xen's version isn't supported, [`ToolstackError::Event`] if the event can't be bound: there may be another
    /// toolstack.
    pub fn new(xen: Xen) -> Result<Self, ToolstackError> {
        let (known, interface) = interface::find(xen)?;
        let changes = VirtualIrq::new(xen, VirtualInterrupt::DOM_EXC, 0)?;
        Ok(Self { interface, known, changes })
    }

    /// Returns the version of Xen's control interface.
    pub fn interface(&self) -> &'static Known {
        self.known
    }

    /// Waits until `is_so` returns a value. Calls it after each event from Xen, and at intervals.
    fn until<T>(&self, deadline: Deadline, mut is_so: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
        loop {
            if let Some(it) = is_so() {
                return Ok(it);
            }
            if deadline.has_passed() {
                return Err(TimedOut);
            }
            // Check again in both cases, event or timeout.
            let _ = self.changes.wait(deadline.or_earlier(Deadline::at(Instant::now() + POLL_INTERVAL)));
        }
    }

    /// Builds a domain and starts it.
    ///
    /// # Errors
    ///
    /// [`ToolstackError`] if any step fails. No domain is left then.
    pub fn start(&self, config: &Config<'_>) -> Result<Domain<'_>, ToolstackError> {
        let domain = self.build(config, |_| Ok(String::from(config.command_line)))?;
        domain.unpause()?;
        Ok(domain)
    }

    /// Builds a domain and leaves it paused. Its command line may depend on its number.
    ///
    /// # Errors
    ///
    /// [`ToolstackError`] if any step fails. No domain is left then.
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
    /// Returns the domain's number.
    pub fn id(&self) -> DomId {
        self.made.id()
    }

    /// Returns the domain's current state.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn info(&self) -> Result<DomainInfo, ToolstackError> {
        at(Step::Info, self.toolstack.interface.info(self.id()))
    }

    /// Unpauses the domain. Pauses nest: call once per [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn unpause(&self) -> Result<(), ToolstackError> {
        at(Step::Unpause, self.toolstack.interface.unpause(self.id()))
    }

    /// Pauses the domain.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn pause(&self) -> Result<(), ToolstackError> {
        at(Step::Pause, self.toolstack.interface.pause(self.id()))
    }

    /// Returns how the domain ended, or `None` if it hasn't.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn ended(&self) -> Result<Option<Ended>, ToolstackError> {
        let flags = self.info()?.flags;
        let reason = ShutdownReason(flags.bits() >> SHUTDOWN_SHIFT & SHUTDOWN_MASK);
        Ok(flags.contains(DomainFlags::SHUTDOWN).then_some(Ended { reason }))
    }

    /// Waits until the domain ends.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::StillRunning`] at the deadline, or [`ToolstackError::Xen`] with Xen's errno.
    pub fn wait(&self, deadline: Deadline) -> Result<Ended, ToolstackError> {
        let ended = || self.ended().transpose();
        match self.toolstack.until(deadline, ended) {
            Ok(ended) => ended,
            Err(TimedOut) => Err(ToolstackError::StillRunning),
        }
    }

    /// Returns the domain's debug console, read from Xen's log.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Destroys the domain. Returns `false` if it still exists at the deadline: Xen keeps it as a name until the last
    /// other domain unmaps its memory.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno. Dropping the domain tries again.
    pub fn destroy(mut self, deadline: Deadline) -> Result<bool, ToolstackError> {
        at(Step::Destroy, self.made.destroy())?;
        let gone = || (self.toolstack.interface.info(self.id()).err() == Some(XenErrno::SRCH)).then_some(());
        Ok(self.toolstack.until(deadline, gone).is_ok())
    }
}

fn at<T>(step: Step, result: Result<T, XenErrno>) -> Result<T, ToolstackError> {
    result.map_err(|errno| ToolstackError::Xen(step, errno))
}
