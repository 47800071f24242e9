//! Trying again what Xen can't do just now ([`Status::EAGAIN`]): a page of the peer's is paged out, and to page it in
//! takes milliseconds.

use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;

use crate::abi::XenErrno;
use crate::abi::grant::Status;
use crate::time::{Deadline, Instant, sleep};

/// How long an operation is tried in all.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long it waits at first; then twice as long each time.
const FIRST: Duration = Duration::from_micros(100);
/// How long it waits at most.
const LONGEST: Duration = Duration::from_millis(10);

/// When to try again.
struct Backoff {
    delay: Duration,
    deadline: Deadline,
}

impl Backoff {
    fn new() -> Self {
        Self { delay: FIRST, deadline: Deadline::after(TIMEOUT) }
    }

    /// How long to wait; `None` after the deadline.
    fn next(&mut self) -> Option<Duration> {
        let delay = (!self.deadline.has_passed()).then_some(self.delay)?;
        self.delay = LONGEST.min(self.delay * 2);
        Some(delay)
    }
}

/// Calls `attempt` until it returns `false`, which is: nothing is to be tried again. Sleeps in between, with growing
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

/// The same for a task: other tasks run meanwhile. It asks for the next turn at once, and looks at the clock then, since
/// nothing announces that a page is back.
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

/// Makes the first call for all operations, and each later one for those that Xen wants to be tried again. `called` is
/// what the calls returned. Returns whether some are to be tried again.
pub fn call<T>(
    operations: &mut [T],
    called: &mut Option<Result<(), XenErrno>>,
    status: impl Fn(&T) -> Status,
    mut call: impl FnMut(&mut [T]) -> Result<(), XenErrno>,
) -> bool {
    let is_first = called.is_none();
    let is_due = |operation: &T| is_first || status(operation) == Status::EAGAIN;
    // Neighbours that are due go into one call.
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
