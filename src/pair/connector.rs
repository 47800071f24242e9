//! Connects devices through the link. A message holds a state and the keys written with it.

use core::fmt::Write;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::link::next_look;
use super::{Child, LinkError, Parent};
use crate::abi::DomId;
use crate::abi::xenbus::State;
use crate::driver::connector::{ConnectError, Connector};
use crate::time::{Deadline, Instant};

/// Messages to and from the other domain of a pair.
pub trait Post {
    /// Returns the number of the other domain.
    fn peer(&self) -> DomId;

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`LinkError`], as for [`Link::send`](super::Link::send).
    fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError>;

    /// Receives a message.
    ///
    /// # Errors
    ///
    /// [`LinkError`], as for [`Link::receive`](super::Link::receive).
    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError>;

    /// Returns whether a message, or a protocol violation, is waiting.
    fn has_message(&self) -> bool;

    /// Returns whether the other domain is known to have ended.
    fn is_gone(&self) -> bool;
}

impl Post for &Parent<'_> {
    fn peer(&self) -> DomId {
        self.child()
    }

    fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError> {
        Parent::send(self, message, deadline)
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        Parent::receive(self, deadline)
    }

    fn has_message(&self) -> bool {
        Parent::has_message(self)
    }

    fn is_gone(&self) -> bool {
        self.is_there().is_err()
    }
}

impl Post for &Child {
    fn peer(&self) -> DomId {
        self.parent()
    }

    fn send(&self, message: &[u8], deadline: Deadline) -> Result<(), LinkError> {
        self.link().send(message, deadline)
    }

    fn receive(&self, deadline: Deadline) -> Result<Vec<u8>, LinkError> {
        self.link().receive(deadline)
    }

    fn has_message(&self) -> bool {
        self.link().has_message()
    }

    /// The control domain outlives the domains it has started.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Maximum number of keys kept for a peer.
const MOST_KEYS: usize = 64;

/// A device's connection to its other end. Each connection needs a new one.
#[derive(Debug)]
pub struct LinkConnector<P: Post> {
    post: P,
    state: State,
    keys: BTreeMap<String, String>,
}

impl<P: Post> LinkConnector<P> {
    /// Makes a connector for a device between the two domains. It uses the link exclusively.
    pub fn new(post: P) -> Self {
        Self { post, state: State::UNKNOWN, keys: BTreeMap::new() }
    }

    fn failed(&self, error: LinkError) -> ConnectError {
        match error {
            LinkError::TimedOut => ConnectError::TimedOut { state: self.state },
            LinkError::Gone => ConnectError::Gone,
            LinkError::Event(_) | LinkError::TooLong { .. } => ConnectError::Unreachable,
            _ => ConnectError::Nonsense,
        }
    }

    fn hear(&mut self, message: &[u8]) -> Result<(), ConnectError> {
        let (state, keys) = parse(message).ok_or(ConnectError::Nonsense)?;
        if matches!(state, State::INITIALISING | State::INIT_WAIT) {
            self.keys.clear();
        } else if self.state == State::UNKNOWN && state != State::INITIALISED {
            // No connection begins in this state: the message is left over from the previous connection. Ignore it.
            return Ok(());
        }
        for (key, value) in keys {
            if self.keys.len() >= MOST_KEYS && !self.keys.contains_key(key) {
                return Err(ConnectError::Nonsense);
            }
            self.keys.insert(key.into(), value.into());
        }
        self.state = state;
        Ok(())
    }
}

/// Parses `state NUMBER`, and a line `key=value` for each key.
fn parse(message: &[u8]) -> Option<(State, Vec<(&str, &str)>)> {
    let mut lines = core::str::from_utf8(message).ok()?.lines();
    let state = State(lines.next()?.strip_prefix("state ")?.parse().ok()?);
    let keys: Option<Vec<_>> = lines.map(|line| line.split_once('=')).collect();
    Some((state, keys?))
}

/// A deadline in the past.
const fn at_once() -> Deadline {
    Deadline::at(Instant::from_nanoseconds(0))
}

impl<P: Post> Connector for LinkConnector<P> {
    fn peer(&self) -> DomId {
        self.post.peer()
    }

    fn publish(
        &mut self,
        keys: &[(&str, &str)],
        state: State,
        deadline: Deadline,
    ) -> Result<(), ConnectError> {
        let mut text = format!("state {}\n", state.0);
        for (key, value) in keys {
            let _ = writeln!(text, "{key}={value}");
        }
        let mut has_heard = false;
        loop {
            match self.post.send(text.as_bytes(), deadline.or_earlier(next_look())) {
                Err(LinkError::TimedOut) if !deadline.has_passed() => {}
                sent => return sent.map_err(|error| self.failed(error)),
            }
            // The peer may be sending too, and waiting for this end to read: receive one message. Only one: later
            // messages are for the caller waiting for them.
            if !has_heard && self.post.has_message() {
                self.state()?;
                has_heard = true;
            }
        }
    }

    fn has_news(&self) -> bool {
        self.post.has_message()
    }

    /// Receives one message at a time, so no state is missed.
    fn state(&mut self) -> Result<State, ConnectError> {
        // A message seen a moment ago may be gone. Then there is no news, and no reason to wait.
        if self.post.has_message() {
            match self.changed(at_once()) {
                Err(ConnectError::TimedOut { .. }) => {}
                other => return other,
            }
        }
        if !self.post.is_gone() {
            return Ok(self.state);
        }
        // The peer's last message may have arrived in between.
        if self.post.has_message() { self.changed(at_once()) } else { Err(ConnectError::Gone) }
    }

    fn changed(&mut self, deadline: Deadline) -> Result<State, ConnectError> {
        let message = self.post.receive(deadline).map_err(|error| self.failed(error))?;
        self.hear(&message)?;
        Ok(self.state)
    }

    fn key(&self, name: &str) -> Option<String> {
        self.keys.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, Connector, DomId, LinkConnector, LinkError, MOST_KEYS, Post, State, parse};
    use crate::time::{Deadline, Instant};
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// Messages of the other domain, not yet read; and its last message, sent while it is asked whether it has ended.
    /// This peer reads no message until one of its own was read.
    struct Unread(RefCell<VecDeque<&'static str>>, Option<&'static str>);

    impl Post for Unread {
        fn peer(&self) -> DomId {
            DomId(1)
        }

        fn send(&self, _: &[u8], _: Deadline) -> Result<(), LinkError> {
            if self.0.borrow().len() > 1 { Err(LinkError::TimedOut) } else { Ok(()) }
        }

        fn receive(&self, _: Deadline) -> Result<Vec<u8>, LinkError> {
            self.0.borrow_mut().pop_front().map(Into::into).ok_or(LinkError::TimedOut)
        }

        fn has_message(&self) -> bool {
            !self.0.borrow().is_empty()
        }

        fn is_gone(&self) -> bool {
            self.0.borrow_mut().extend(self.1);
            self.1.is_some()
        }
    }

    #[test]
    fn of_two_that_speak_at_once_one_listens() {
        let unread = Unread(VecDeque::from(["state 1\n", "state 3\n"]).into(), None);
        let mut connector = LinkConnector::new(unread);
        let past = Deadline::at(Instant::from_nanoseconds(0));
        let silent = Err(ConnectError::TimedOut { state: State::UNKNOWN });
        assert_eq!(connector.publish(&[], State::INIT_WAIT, past), silent);
        assert_eq!(connector.publish(&[], State::INIT_WAIT, Deadline::NEVER), Ok(()));
        assert_eq!((connector.state, connector.state()), (State::INITIALISING, Ok(State::INITIALISED)));
    }

    #[test]
    fn the_last_word_of_a_domain_that_ends_is_heard() {
        let mut connector =
            LinkConnector::new(Unread(VecDeque::from(["state 1\n"]).into(), Some("state 6\n")));
        assert_eq!(connector.state(), Ok(State::INITIALISING));
        assert_eq!(connector.state(), Ok(State::CLOSED));
    }

    #[test]
    fn what_is_left_of_the_connection_before_is_waited_over() {
        let later = || Deadline::at(Instant::from_nanoseconds(u64::MAX));
        for left in
            [&["state 4\n"][..], &["state 5\n", "state 6\n"], &["state 4\n", "state 5\n", "state 6\n"], &[]]
        {
            let begins = ["state 1\n", "state 3\nring-ref=8\n", "state 4\n"];
            let unread = Unread(RefCell::new(left.iter().chain(&begins).copied().collect()), None);
            let mut connector = LinkConnector::new(unread);
            let state = connector.wait_for_any(&[State::INITIALISED, State::CONNECTED], later());
            assert_eq!((state, connector.parse("ring-ref")), (Ok(State::INITIALISED), Ok(8)), "{left:?}");
            assert_eq!(connector.wait_for_any(&[State::CONNECTED], later()), Ok(State::CONNECTED));
        }
    }

    #[test]
    fn a_peer_has_so_many_keys_and_no_more() {
        let mut connector = LinkConnector::new(Unread(VecDeque::new().into(), None));
        let message = |keys: core::ops::Range<usize>| {
            keys.fold(std::string::String::from("state 3\n"), |text, key| {
                text + &std::format!("key-{key}=1\n")
            })
        };
        connector.hear(message(0..MOST_KEYS).as_bytes()).unwrap();
        // It may change its existing keys.
        connector.hear(message(0..MOST_KEYS).as_bytes()).unwrap();
        assert_eq!(connector.hear(message(MOST_KEYS..MOST_KEYS + 1).as_bytes()), Err(ConnectError::Nonsense));
        assert_eq!(connector.keys.len(), MOST_KEYS);
    }

    #[test]
    fn a_message_is_a_state_and_keys() {
        let (state, keys) = parse(b"state 3\nring-ref=8\nx=a=b\n").unwrap();
        assert_eq!((state, &keys[..]), (State::INITIALISED, &[("ring-ref", "8"), ("x", "a=b")][..]));
        for bad in
            [&b""[..], b"state", b"state x", b"3\n", b"state 3\nno key", b"state 3\n\xff=1", b"state -1"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
