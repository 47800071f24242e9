//! The handshake between the two ends of a device: each end has a state and some keys, and the other end reads them.
//! Linux calls this xenbus when it goes through xenstore; `pair` does it through its own page.

use core::fmt;

use alloc::string::String;

use crate::abi::DomId;
use crate::abi::xenbus::State;
use crate::time::Deadline;

/// Why the two ends can't connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The other end didn't reach the wanted state before the deadline.
    TimedOut {
        /// Its last known state.
        state: State,
    },
    /// The other end is closing, or has closed.
    Closed {
        /// Its state.
        state: State,
    },
    /// The other domain is gone.
    Gone,
    /// A key of the other end is missing or invalid.
    BadKey(&'static str),
    /// A message of the other end is malformed or too long.
    Nonsense,
    /// The other end can't be notified.
    Unreachable,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { state } => {
                write!(f, "the other end did not appear before the deadline: its state is {state}")
            }
            Self::Closed { state } => write!(f, "the other end did not proceed: its state is {state}"),
            Self::Gone => f.write_str("the other domain is gone"),
            Self::BadKey(key) => write!(f, "the other end's key {key} is missing or invalid"),
            Self::Nonsense => f.write_str("the other end's state and keys can't be read"),
            Self::Unreachable => f.write_str("the other end can't be notified"),
        }
    }
}

impl core::error::Error for ConnectError {}

/// The path from one end to the other.
pub trait Connector {
    /// Returns the other end's domain.
    fn peer(&self) -> DomId;

    /// Publishes keys of this end, and then its state.
    ///
    /// # Errors
    ///
    /// [`ConnectError::TimedOut`] after the deadline; [`ConnectError::Gone`] if the other domain is gone;
    /// [`ConnectError::Unreachable`] if it can't be notified; [`ConnectError::Nonsense`] if its message is malformed.
    fn publish(
        &mut self,
        keys: &[(&str, &str)],
        state: State,
        deadline: Deadline,
    ) -> Result<(), ConnectError>;

    /// Returns whether an unread message of the other end is waiting. The call is cheap.
    fn has_news(&self) -> bool;

    /// Returns the other end's state, without waiting.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Gone`] if the other domain is gone; [`ConnectError::Nonsense`] if its message is malformed.
    fn state(&mut self) -> Result<State, ConnectError>;

    /// Waits for a message of the other end, and returns its state, possibly the same as before.
    ///
    /// # Errors
    ///
    /// [`ConnectError::TimedOut`] after the deadline; [`ConnectError::Gone`] if the other domain is gone;
    /// [`ConnectError::Nonsense`] if its message is malformed.
    fn changed(&mut self, deadline: Deadline) -> Result<State, ConnectError>;

    /// Returns the value of the other end's key, if there is one.
    fn key(&self, name: &str) -> Option<String>;

    /// Waits until the other end is in one of these states, whatever its state is now: ignores states left over from
    /// an earlier connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError::TimedOut`] after the deadline, or an error of [`state`](Self::state) or
    /// [`changed`](Self::changed).
    fn wait_for_any(&mut self, wanted: &[State], deadline: Deadline) -> Result<State, ConnectError> {
        let mut state = self.state()?;
        while !wanted.contains(&state) {
            if deadline.has_passed() {
                return Err(ConnectError::TimedOut { state });
            }
            state = self.changed(deadline)?;
        }
        Ok(state)
    }

    /// Like [`wait_for_any`](Self::wait_for_any), for another end that has begun: closing is an error.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Closed`] if the other end closes instead, or an error of [`wait_for_any`](Self::wait_for_any).
    fn expect(&mut self, wanted: State, deadline: Deadline) -> Result<(), ConnectError> {
        match self.wait_for_any(&[wanted, State::CLOSING, State::CLOSED], deadline)? {
            state if state == wanted => Ok(()),
            state => Err(ConnectError::Closed { state }),
        }
    }

    /// Returns the value of the other end's key as a `T`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::BadKey`] if the key is missing or isn't a `T`.
    fn parse<T: core::str::FromStr>(&self, name: &'static str) -> Result<T, ConnectError> {
        self.key(name).and_then(|value| value.parse().ok()).ok_or(ConnectError::BadKey(name))
    }

    /// Returns whether the other end has a feature: a key with the value 1.
    fn has(&self, name: &str) -> bool {
        self.key(name).as_deref() == Some("1")
    }
}
