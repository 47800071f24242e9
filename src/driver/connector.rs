//! How the two ends of a device meet: each has a state and some keys, which the other reads. Through xenstore that is what
//! Linux calls xenbus; `twin` does it through its own page.

use core::fmt;

use alloc::string::String;

use crate::abi::DomId;
use crate::abi::xenbus::State;
use crate::time::Deadline;

/// Why the ends don't meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The other end didn't get there before the deadline.
    Silent {
        /// Where it is.
        state: State,
    },
    /// The other end closes, or has closed.
    Closed {
        /// Where it is.
        state: State,
    },
    /// The other domain is gone.
    Gone,
    /// A key of the other end's is missing, or makes no sense.
    BadKey(&'static str),
    /// What the other end says can't be read, or is too long.
    Nonsense,
    /// The other end can't be told.
    Unreachable,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { state } => write!(f, "the other end is not there before the deadline: {state}"),
            Self::Closed { state } => write!(f, "the other end does not go on: {state}"),
            Self::Gone => f.write_str("the other domain is gone"),
            Self::BadKey(key) => write!(f, "the other end's key {key} is missing or makes no sense"),
            Self::Nonsense => f.write_str("what the other end says can't be read"),
            Self::Unreachable => f.write_str("the other end can't be told"),
        }
    }
}

impl core::error::Error for ConnectError {}

/// One end's way to the other.
pub trait Connector {
    /// The other end's domain.
    fn peer(&self) -> DomId;

    /// Writes keys of ours, and then our state.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn publish(
        &mut self,
        keys: &[(&str, &str)],
        state: State,
        deadline: Deadline,
    ) -> Result<(), ConnectError>;

    /// Whether the other end has said something that wasn't looked at. It costs next to nothing to ask.
    fn has_news(&self) -> bool;

    /// The other end's state, as it is now.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn state(&mut self) -> Result<State, ConnectError>;

    /// Waits until the other end has said something, and gives its state, which may be the one before.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn changed(&mut self, deadline: Deadline) -> Result<State, ConnectError>;

    /// A key of the other end's.
    fn key(&self, name: &str) -> Option<String>;

    /// Waits until the other end is in one of these states, from wherever it is: what it says of a connection before is
    /// waited over.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn wait_for(&mut self, wanted: &[State], deadline: Deadline) -> Result<State, ConnectError> {
        let mut state = self.state()?;
        while !wanted.contains(&state) {
            if deadline.has_passed() {
                return Err(ConnectError::Silent { state });
            }
            state = self.changed(deadline)?;
        }
        Ok(state)
    }

    /// The same of an end that has begun: if it closes instead, that is an error.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    fn wait_on(&mut self, wanted: State, deadline: Deadline) -> Result<(), ConnectError> {
        match self.wait_for(&[wanted, State::CLOSING, State::CLOSED], deadline)? {
            state if state == wanted => Ok(()),
            state => Err(ConnectError::Closed { state }),
        }
    }

    /// A key of the other end's, as a `T`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::BadKey`] if it is missing or isn't one.
    fn parse<T: core::str::FromStr>(&self, name: &'static str) -> Result<T, ConnectError> {
        self.key(name).and_then(|value| value.parse().ok()).ok_or(ConnectError::BadKey(name))
    }

    /// Whether the other end has a feature: a key of the value 1.
    fn has(&self, name: &str) -> bool {
        self.key(name).as_deref() == Some("1")
    }
}
