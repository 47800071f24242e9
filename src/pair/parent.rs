//! The parent's end of a pair of domains: the domain starting the other.

use core::fmt;
use core::time::Duration;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::link::{Link, Memory};
use super::{LinkError, OPTION, PairError};
use crate::abi::DomId;
use crate::abi::sched::ShutdownReason;
use crate::event::{EventError, Unbound};
use crate::grant::{Grant, ReadWrite};
use crate::hypercall::Xen;
use crate::mm::Page;
use crate::rt::{ExitCode, Platform};
use crate::time::Deadline;
use crate::toolstack::{Config, Domain, Toolstack, ToolstackError};

/// The parent's end: the child, and the link to it. Dropping it destroys the child.
#[derive(Debug)]
pub struct Parent<'t> {
    // Dropped before the link, whose page is free only once the child is destroyed.
    child: Domain<'t>,
    link: Link,
    console: Vec<String>,
}

/// How a child ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChildEnd {
    /// It reported success.
    Success,
    /// It reported a failure, with this text, such as `failure 3`.
    Failed(String),
    /// It crashed. Its last line, or else the shutdown reason from Xen.
    Crashed(String),
    /// It was still running at the deadline.
    TimedOut,
}

impl ChildEnd {
    /// Returns the exit code with which a domain reports the end of its child.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::CHILD_FAILED,
            Self::Crashed(_) => ExitCode::CHILD_CRASHED,
            Self::TimedOut => ExitCode::CHILD_TIMED_OUT,
        }
    }
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("the child ended well"),
            Self::Failed(how) => write!(f, "the child reported a failure: {how}"),
            Self::Crashed(how) => write!(f, "the child crashed: {how}"),
            Self::TimedOut => f.write_str("the child was still running at the deadline"),
        }
    }
}

impl<'t> Parent<'t> {
    /// Starts a child and waits for it to connect. `patience` counts from the child's first instruction.
    ///
    /// # Errors
    ///
    /// [`PairError`] if a step fails or the child doesn't connect in time. Its output is logged, and it is destroyed.
    pub fn start(
        platform: &'static Platform,
        toolstack: &'t Toolstack,
        config: &Config<'_>,
        patience: Duration,
    ) -> Result<Self, PairError> {
        let xen = platform.xen().ok_or(EventError::NoEvents)?;
        let mut shared = Err(PairError::OutOfMemory);
        let built = toolstack.build(config, |child| {
            shared = share(platform, xen, child);
            Ok(match &shared {
                Ok((grant, port)) => {
                    let (own, gref, port) = (platform.dom_id(), grant.gref().0, port.port().0);
                    // The option comes first, so the rest can't hide it, for example with an unclosed quote.
                    format!("{OPTION}={own},{gref},{port} {}", config.command_line)
                }
                Err(_) => String::new(), // the error is seen below
            })
        });
        let mut child = built?;
        let (grant, port) = shared?;
        child.unpause()?;
        match connection(&child, port, Deadline::after(patience)) {
            Ok(channel) => {
                Ok(Self { child, link: Link::new(Memory::Ours(grant), channel), console: Vec::new() })
            }
            Err(error) => {
                let lines = child.console().lines().unwrap_or_default();
                lines.iter().for_each(|line| log::warn!("domain {} said: {line}", child.id()));
                drop(child);
                drop(grant);
                Err(error)
            }
        }
    }

    /// Returns the child's number.
    pub fn child(&self) -> DomId {
        self.child.id()
    }

    /// Returns the child.
    pub fn domain(&mut self) -> &mut Domain<'t> {
        &mut self.child
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`LinkError`], as for [`Link::send`]. [`LinkError::Gone`] as soon as the child has ended.
    pub fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError> {
        self.link.send_while(message, deadline, || self.is_there())
    }

    /// Receives a message.
    ///
    /// # Errors
    ///
    /// [`LinkError`], as for [`Link::receive`]. [`LinkError::Gone`] as soon as the child has ended.
    pub fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        self.link.receive_while(deadline, || self.is_there())
    }

    /// Returns whether a message, or a protocol violation, is waiting.
    pub fn has_message(&self) -> bool {
        self.link.has_message()
    }

    pub(super) fn is_there(&self) -> Result<(), LinkError> {
        match self.child.ended() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(LinkError::Gone),
        }
    }

    /// Returns all lines printed by the child so far.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] if Xen's log can't be read.
    pub fn console(&mut self) -> Result<&[String], ToolstackError> {
        let lines = self.child.console().lines()?;
        self.console.extend(lines);
        Ok(&self.console)
    }

    /// Waits for the child's end. Two sources must agree for a success: the shutdown reason given to Xen, and the
    /// child's last line. If the log shows no line of the child, the shutdown reason alone decides.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn wait(&mut self, deadline: Deadline) -> Result<ChildEnd, ToolstackError> {
        let reason = match self.child.wait(deadline) {
            Ok(ended) => ended.reason,
            Err(ToolstackError::StillRunning) => return Ok(ChildEnd::TimedOut),
            Err(error) => return Err(error),
        };
        let lines = self.console()?;
        let last = lines.iter().rev().find_map(|line| line.strip_prefix("granite: end: "));
        Ok(judge(reason, last, !lines.is_empty()))
    }

    /// Destroys the child and takes back the shared page. Returns `false` if the child still exists at the deadline,
    /// because other domains hold some of its memory.
    ///
    /// # Errors
    ///
    /// [`ToolstackError::Xen`] with Xen's errno.
    pub fn destroy(self, deadline: Deadline) -> Result<bool, ToolstackError> {
        let Self { child, link, .. } = self;
        let gone = child.destroy(deadline);
        drop(link);
        gone
    }
}

fn judge(reason: ShutdownReason, last: Option<&str>, can_be_read: bool) -> ChildEnd {
    match (reason, last) {
        (ShutdownReason::POWEROFF, Some("success")) => ChildEnd::Success,
        // Without console output, only the reason is known. With it, the child reports its own end: Xen also gives
        // POWEROFF for a domain whose vCPUs have all halted for ever.
        (ShutdownReason::POWEROFF, None) if !can_be_read => ChildEnd::Success,
        (_, Some(end)) if end.starts_with("failure") => ChildEnd::Failed(end.into()),
        (reason, last) => ChildEnd::Crashed(last.map_or_else(|| format!("{reason}"), Into::into)),
    }
}

/// Makes a page for the child, and a port for it to connect to.
fn share(
    platform: &'static Platform,
    xen: Xen,
    child: DomId,
) -> Result<(Grant<'static, ReadWrite, Xen>, Unbound), PairError> {
    let page = Page::zeroed().ok_or(PairError::OutOfMemory)?;
    let grant = platform.grants()?.grant::<ReadWrite>(page, child).map_err(|failed| failed.error)?;
    Ok((grant, Unbound::new(xen, child)?))
}

/// Waits until the child has connected to the port.
fn connection(
    child: &Domain<'_>,
    mut port: Unbound,
    deadline: Deadline,
) -> Result<crate::event::Interdomain, PairError> {
    loop {
        port = match port.accept() {
            Ok(channel) => return Ok(channel),
            Err((EventError::NotConnected(_), port)) => port,
            Err((error, _)) => return Err(error.into()),
        };
        if child.ended()?.is_some() {
            return Err(LinkError::Gone.into());
        }
        if deadline.has_passed() {
            return Err(LinkError::TimedOut.into());
        }
        let _ = port.wait(deadline.or_earlier(super::link::next_look()));
    }
}

#[cfg(test)]
mod tests {
    use super::{ChildEnd, ShutdownReason};

    #[test]
    fn a_success_needs_both_signals() {
        let crashed = |text: &str| ChildEnd::Crashed(text.into());
        let judge = |reason, last| super::judge(reason, last, true);
        assert_eq!(judge(ShutdownReason::POWEROFF, Some("success")), ChildEnd::Success);
        assert_eq!(
            super::judge(ShutdownReason::POWEROFF, None, false),
            ChildEnd::Success,
            "there is no console"
        );
        assert_eq!(
            judge(ShutdownReason::POWEROFF, None),
            crashed("poweroff"),
            "it printed, and not how it ended"
        );
        assert_eq!(judge(ShutdownReason::POWEROFF, Some("panic")), crashed("panic"));
        assert_eq!(judge(ShutdownReason::CRASH, Some("success")), crashed("success"));
        assert_eq!(judge(ShutdownReason::CRASH, Some("failure 3")), ChildEnd::Failed("failure 3".into()));
        assert_eq!(judge(ShutdownReason::CRASH, Some("panic")), crashed("panic"));
        assert_eq!(judge(ShutdownReason::CRASH, None), crashed("crash"));
        assert_eq!(judge(ShutdownReason(77), None), crashed("shutdown reason 77"));
    }
}
