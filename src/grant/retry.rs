//! Retries operations that Xen can't do at the moment ([`Status::EAGAIN`]): a page of the peer is paged out, and
//! paging it in takes milliseconds.

use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;

use crate::abi::XenErrno;
use crate::abi::grant::Status;
use crate::time::{Deadline, Instant, sleep};

/// The total time for an operation's retries.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The first delay. It doubles each time.
const FIRST: Duration = Duration::from_micros(100);
/// The maximum delay.
const LONGEST: Duration = Duration::from_millis(10);

/// The schedule of retries.
struct Backoff {
    delay: Duration,
    deadline: Deadline,
}

impl Backoff {
    fn new() -> Self {
        Self { delay: FIRST, deadline: Deadline::after(TIMEOUT) }
    }

    /// Returns the next delay; `None` after the deadline.
    fn next(&mut self) -> Option<Duration> {
        let delay = (!self.deadline.has_passed()).then_some(self.delay)?;
        self.delay = LONGEST.min(self.delay * 2);
        Some(delay)
    }
}

/// Calls `attempt` until it returns `false`: no operation is left to retry. Sleeps between calls, with growing
/// delays, and gives up after a second.
pub fn retry(mut attempt: impl FnMut() -> bool) {
    if !attempt() {
        return;
    }
    let mut backoff = Backoff::new();
    while let Some(delay) = backoff.next() {
        sleep(delay);
        if !attempt() {
            return;
        }
    }
}

/// As [`retry`], for a task: other tasks run meanwhile. The task wakes itself at once and polls the clock, because
/// no event announces the page's return.
pub async fn retry_async(mut attempt: impl FnMut() -> bool) {
    if !attempt() {
        return;
    }
    let mut backoff = Backoff::new();
    while let Some(delay) = backoff.next() {
        let until = Instant::now() + delay;
        poll_fn(|context| {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if !attempt() {
            return;
        }
    }
}

/// Makes the first call for all operations, and each later call only for those that Xen asks to retry. `called`
/// keeps the first error of all calls, or `Ok`. Returns whether some operations must be retried.
pub fn call<T>(
    operations: &mut [T],
    called: &mut Option<Result<(), XenErrno>>,
    status: impl Fn(&T) -> Status,
    mut call: impl FnMut(&mut [T]) -> Result<(), XenErrno>,
) -> bool {
    let is_first = called.is_none();
    let is_due = |operation: &T| is_first || status(operation) == Status::EAGAIN;
    // Adjacent due operations share one call.
    for some in operations.chunk_by_mut(|a, b| is_due(a) == is_due(b)).filter(|some| is_due(&some[0])) {
        let result = call(some);
        *called = Some(called.map_or(result, |before| before.and(result)));
    }
    operations.iter().any(|operation| status(operation) == Status::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let delays: std::vec::Vec<_> = core::iter::from_fn(|| backoff.next()).take(9).collect();
        assert_eq!(delays[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(delays[6..], [FIRST * 64, LONGEST, LONGEST]);
    }
}
