//! A point in time.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in time, in nanoseconds since Xen booted. It never goes back, on any vCPU.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// let start = granite::time::Instant::now();
/// info!("{} us passed", start.elapsed().as_micros());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Returns the current time.
    #[inline]
    pub fn now() -> Self {
        Self(super::clock::now())
    }

    /// Returns the time this many nanoseconds after Xen booted.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the nanoseconds since Xen booted.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Returns the time since this instant; zero if it is in the future.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Returns the later instant; `u64::MAX` nanoseconds on overflow.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Returns how much later `self` is; zero if it isn't later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after the boot of Xen", Duration::from_nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Instant;
    use core::time::Duration;

    #[test]
    fn arithmetic_ends_at_the_ends_of_time() {
        let start = Instant::from_nanoseconds(5);
        assert_eq!((start + Duration::from_nanos(3)).nanoseconds(), 8);
        assert_eq!((start + Duration::MAX).nanoseconds(), u64::MAX);
        assert_eq!(start - Instant::from_nanoseconds(2), Duration::from_nanos(3));
        assert_eq!(Instant::from_nanoseconds(2) - start, Duration::ZERO);
    }
}
