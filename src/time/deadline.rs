//! The end of a wait that hasn't succeeded.

use core::fmt;
use core::time::Duration;

use super::Instant;

/// The time when an unsuccessful wait ends.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// let soon = Deadline::after(Duration::from_millis(100));
/// while !soon.has_passed() {
///     granite::time::pause();
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(None);

    /// Returns the deadline at `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self(Some(Instant::now() + duration))
    }

    /// Returns the deadline at `instant`.
    pub const fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// Returns its time; `None` for [`NEVER`](Self::NEVER).
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// Returns whether it has passed.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns the earlier of the two.
    pub fn or_earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(own), Some(other)) => Self(Some(own.min(other))),
            (own, other) => Self(own.or(other)),
        }
    }
}

/// The deadline has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline passed")
    }
}

impl core::error::Error for TimedOut {}

#[cfg(test)]
mod tests {
    use super::{Deadline, Instant};
    use core::time::Duration;

    #[test]
    fn never_is_later_than_anything_and_now_has_passed() {
        let early = Deadline::at(Instant::from_nanoseconds(0));
        let late = Deadline::after(Duration::from_secs(1000));
        assert!(early.has_passed() && !late.has_passed() && !Deadline::NEVER.has_passed());
        assert_eq!(Deadline::NEVER.or_earlier(late), late);
        assert_eq!(late.or_earlier(early), early);
        assert_eq!(Deadline::NEVER.or_earlier(Deadline::NEVER).instant(), None);
    }
}
