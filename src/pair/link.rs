//! The page shared by a pair of domains: a mailbox for each direction, with room for one message. The peer may write
//! arbitrary bytes anywhere at any time, so each of its values is copied once and then checked.

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use crate::event::Interdomain;
use crate::grant::{ForeignMapping, Grant, ReadWrite};
use crate::hypercall::Xen;
use crate::mm::SharedBytes;
use crate::time::{Deadline, Instant};

/// Maximum length of a message to the child, in bytes.
pub const TO_CHILD: usize = 3056;
/// Maximum length of a message to the parent, in bytes.
pub const TO_PARENT: usize = 1008;

/// A mailbox: `written`, `read` and `length`, 32 bits each, 4 unused bytes, and the message.
#[derive(Clone, Copy, Debug)]
struct Mailbox {
    at: usize,
    room: usize,
}

const WRITTEN: usize = 0;
const READ: usize = 4;
const LENGTH: usize = 8;
const MESSAGE: usize = 16;

const CHILDS: Mailbox = Mailbox { at: 0, room: TO_CHILD };
const PARENTS: Mailbox = Mailbox { at: MESSAGE + TO_CHILD, room: TO_PARENT };
const _: () = assert!(PARENTS.at + MESSAGE + TO_PARENT == 4096);

/// Interval for checking without an event: the peer may have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The reason why a message was not sent or received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer didn't answer before the deadline.
    TimedOut,
    /// The peer has ended.
    Gone,
    /// The message exceeds the mailbox.
    TooLong {
        /// The message's length in bytes.
        bytes: usize,
        /// The mailbox's capacity in bytes.
        room: usize,
    },
    /// The peer broke the protocol.
    PeerBroke {
        /// The name of the wrong value.
        what: &'static str,
        /// The number written by the peer.
        claimed: u32,
        /// The number expected.
        expected: u32,
    },
    /// The peer can't be notified.
    Event(crate::event::EventError),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the other domain did not answer before the deadline"),
            Self::Gone => f.write_str("the other domain has ended"),
            Self::TooLong { bytes, room } => write!(f, "a message of {bytes} bytes; at most {room} fit"),
            Self::PeerBroke { what, claimed, expected } => {
                write!(f, "the other domain broke the link: {what} is {claimed}, not {expected}")
            }
            Self::Event(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LinkError {}

/// The page, seen from its owner or from the peer.
#[derive(Debug)]
pub(super) enum Memory {
    Ours(Grant<'static, ReadWrite, Xen>),
    Theirs(ForeignMapping<'static, ReadWrite, Xen>),
}

impl Memory {
    fn bytes(&self) -> SharedBytes<'_> {
        match self {
            Self::Ours(grant) => grant.bytes(),
            Self::Theirs(mapping) => mapping.bytes(),
        }
    }
}

/// One end of a link. Each end belongs to one vCPU.
#[derive(Debug)]
pub struct Link {
    memory: Memory,
    channel: Interdomain,
    outbox: Mailbox,
    inbox: Mailbox,
    /// Messages written and read by this end. The peer may overwrite the counters in the page.
    written: Cell<u32>,
    read: Cell<u32>,
}

impl Link {
    pub(super) fn new(memory: Memory, channel: Interdomain) -> Self {
        let (outbox, inbox) = match memory {
            Memory::Ours(_) => (CHILDS, PARENTS),
            Memory::Theirs(_) => (PARENTS, CHILDS),
        };
        Self { memory, channel, outbox, inbox, written: Cell::new(0), read: Cell::new(0) }
    }

    /// Sends a message once the peer has read the previous one.
    ///
    /// # Errors
    ///
    /// [`LinkError::TooLong`] if the message exceeds the mailbox, [`LinkError::TimedOut`] at the deadline, or
    /// [`LinkError::PeerBroke`] if the peer's counter is invalid: the message is not sent then. [`LinkError::Event`] if
    /// the notification fails: the message is in the mailbox already.
    pub fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError> {
        self.send_while(message, deadline, || Ok(()))
    }

    /// Receives a message.
    ///
    /// # Errors
    ///
    /// [`LinkError::TimedOut`] at the deadline, [`LinkError::PeerBroke`] if the peer's counter or length is invalid, or
    /// [`LinkError::Event`] if the notification fails.
    pub fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        self.receive_while(deadline, || Ok(()))
    }

    /// Returns whether a message, or a protocol violation, is waiting.
    pub fn has_message(&self) -> bool {
        self.word(self.inbox, WRITTEN) != Ok(self.read.get())
    }

    /// Sends a message while the peer exists. Calls `is_there` at intervals.
    pub(super) fn send_while(
        &self,
        message: &[u8],
        deadline: Deadline,
        is_there: impl FnMut() -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let room = self.outbox.room;
        if message.len() > room {
            return Err(LinkError::TooLong { bytes: message.len(), room });
        }
        let written = self.written.get();
        self.wait(deadline, is_there, || {
            let read = self.word(self.outbox, READ)?;
            one_or_other("what it has read", read, written, written.wrapping_sub(1))
        })?;
        let page = self.memory.bytes();
        let at = self.outbox.at;
        // All of it lies inside the page.
        let placed =
            page.write(at + MESSAGE, message).and_then(|()| page.atomic(at + LENGTH)).map(|length| {
                length.store(message.len() as u32, Ordering::Relaxed);
            });
        debug_assert!(placed.is_ok(), "{placed:?}");
        self.written.set(written.wrapping_add(1));
        self.tell(self.outbox, WRITTEN, self.written.get())
    }

    /// Receives a message while the peer exists. Calls `is_there` at intervals.
    pub(super) fn receive_while(
        &self,
        deadline: Deadline,
        is_there: impl FnMut() -> Result<(), LinkError>,
    ) -> Result<Vec<u8>, LinkError> {
        let next = self.read.get().wrapping_add(1);
        self.wait(deadline, is_there, || {
            let written = self.word(self.inbox, WRITTEN)?;
            one_or_other("what it has written", written, next, self.read.get())
        })?;
        let Mailbox { at, room } = self.inbox;
        let length = self.word(self.inbox, LENGTH)?;
        if length as usize > room {
            return Err(LinkError::PeerBroke { what: "a length", claimed: length, expected: room as u32 });
        }
        let mut message = vec![0; length as usize];
        let copied = self.memory.bytes().read(at + MESSAGE, &mut message);
        debug_assert!(copied.is_ok(), "{copied:?}");
        self.read.set(next);
        self.tell(self.inbox, READ, next)?;
        Ok(message)
    }

    fn word(&self, mailbox: Mailbox, offset: usize) -> Result<u32, LinkError> {
        let word = self.memory.bytes().atomic(mailbox.at + offset);
        // Acquire: pairs with the Release of `tell` in the peer. The peer's earlier writes are visible after it.
        Ok(word.map_or(0, |word| word.load(Ordering::Acquire)))
    }

    fn tell(&self, mailbox: Mailbox, offset: usize, value: u32) -> Result<(), LinkError> {
        if let Ok(word) = self.memory.bytes().atomic(mailbox.at + offset) {
            // Release: pairs with the Acquire of `word` in the peer.
            word.store(value, Ordering::Release);
        }
        self.channel.send().map_err(LinkError::Event)
    }

    fn wait(
        &self,
        deadline: Deadline,
        mut is_there: impl FnMut() -> Result<(), LinkError>,
        mut is_so: impl FnMut() -> Result<bool, LinkError>,
    ) -> Result<(), LinkError> {
        loop {
            if so_or_gone(&mut is_so, &mut is_there)? {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(LinkError::TimedOut);
            }
            // Check again in both cases, event or timeout.
            let _ = self.channel.wait(deadline.or_earlier(next_look()));
        }
    }
}

/// Returns the time of the next check without an event.
pub(super) fn next_look() -> Deadline {
    Deadline::at(Instant::now() + POLL_INTERVAL)
}

/// Returns whether the condition holds. The peer may have met it just before it ended, after the first check, so the
/// second check decides.
fn so_or_gone(
    mut is_so: impl FnMut() -> Result<bool, LinkError>,
    is_there: impl FnOnce() -> Result<(), LinkError>,
) -> Result<bool, LinkError> {
    if is_so()? {
        return Ok(true);
    }
    match is_there() {
        Ok(()) => Ok(false),
        Err(gone) => is_so()?.then_some(true).ok_or(gone),
    }
}

/// Returns whether the peer's value has reached `expected`. It may also still be `before`.
fn one_or_other(what: &'static str, claimed: u32, expected: u32, before: u32) -> Result<bool, LinkError> {
    if claimed == expected {
        Ok(true)
    } else if claimed == before {
        Ok(false)
    } else {
        Err(LinkError::PeerBroke { what, claimed, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkError, one_or_other, so_or_gone};
    use std::cell::Cell;

    #[test]
    fn the_last_word_of_a_peer_that_is_gone_counts() {
        let said = Cell::new(false);
        let is_so = || Ok(said.get());
        assert_eq!(so_or_gone(is_so, || Ok(())), Ok(false));
        assert_eq!(so_or_gone(is_so, || Err(LinkError::Gone)), Err(LinkError::Gone));
        let says_and_goes = || {
            said.set(true);
            Err(LinkError::Gone)
        };
        assert_eq!(so_or_gone(is_so, says_and_goes), Ok(true));
    }

    #[test]
    fn a_peer_may_be_one_behind_and_nothing_else() {
        assert_eq!(one_or_other("x", 0, 0, u32::MAX), Ok(true));
        assert_eq!(one_or_other("x", u32::MAX, 0, u32::MAX), Ok(false));
        let broke = LinkError::PeerBroke { what: "x", claimed: 2, expected: 0 };
        assert_eq!(one_or_other("x", 2, 0, u32::MAX), Err(broke));
    }
}
