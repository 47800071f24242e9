//! Jobs for a vCPU.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::start::is_stopping;
use super::{running, wake};
use crate::sync::{IrqMutex, MAX_VCPUS, PerVcpu, per_vcpu, this_vcpu};
use crate::time::{Deadline, TimedOut, wait_until};

type Work = Box<dyn FnOnce() + Send>;

/// The next step of a vCPU.
pub(super) enum Next {
    Job(Work),
    End,
}

/// Each vCPU's waiting job: at most one.
static NEXT: PerVcpu<IrqMutex<Option<Work>>> = per_vcpu!(IrqMutex::new(None));

/// A job given to a vCPU, and its result.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn sum() -> Result<u64, Error> {
/// let job = granite::vcpu::spawn(1, || (1..=1000u64).sum::<u64>())?;
/// job.join(Deadline::after(Duration::from_secs(1))).map_err(|_| "vCPU 1 is busy".into())
/// # }
/// ```
pub struct Job<T> {
    state: Arc<State<T>>,
}

struct State<T> {
    done: AtomicBool,
    result: IrqMutex<Option<T>>,
    /// The vCPUs waiting for its end, one bit each.
    waiting: [AtomicU64; MAX_VCPUS / 64],
}

impl<T> State<T> {
    fn finish(&self, result: T) {
        self.result.with(|place| *place = Some(result));
        // SeqCst: pairs with the SeqCst of `wait`: either the waiter sees the job done, or its bit is seen here. The
        // store is also a Release of the result.
        self.done.store(true, Ordering::SeqCst);
        for (word, waiting) in self.waiting.iter().enumerate() {
            let mut waiting = waiting.load(Ordering::SeqCst);
            while waiting != 0 {
                let _ = wake(word * 64 + waiting.trailing_zeros() as usize); // one that ended waits no more
                waiting &= waiting - 1;
            }
        }
    }
}

/// Why a job was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotSpawned {
    /// The vCPU doesn't run, is stopping, or is the first, which has its own work.
    NoSuchVcpu(usize),
    /// A job is already waiting there.
    Busy(usize),
}

impl fmt::Display for NotSpawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchVcpu(vcpu) => write!(f, "vCPU {vcpu} doesn't take jobs"),
            Self::Busy(vcpu) => write!(f, "vCPU {vcpu} has a waiting job already"),
        }
    }
}

impl core::error::Error for NotSpawned {}

/// A refused job, and the reason.
pub struct Refused<F> {
    /// The reason.
    pub error: NotSpawned,
    /// The work, handed back.
    pub work: F,
}

impl<F> fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> fmt::Display for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> core::error::Error for Refused<F> {}

/// Queues `work` to run on a vCPU after its current job.
///
/// # Errors
///
/// The work, with [`NotSpawned::NoSuchVcpu`] if the vCPU takes no jobs, or [`NotSpawned::Busy`] if a job is already
/// waiting for it.
pub fn spawn<T, F>(vcpu: usize, work: F) -> Result<Job<T>, Refused<F>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let refuse = |error, work| Err(Refused { error, work });
    let Some(place) = NEXT.get(vcpu).filter(|_| (1..running()).contains(&vcpu)) else {
        return refuse(NotSpawned::NoSuchVcpu(vcpu), work);
    };
    let state = Arc::new(State {
        done: AtomicBool::new(false),
        result: IrqMutex::new(None),
        waiting: [const { AtomicU64::new(0) }; MAX_VCPUS / 64],
    });
    let tells = Arc::clone(&state);
    let mut work = Some(work);
    // `next` takes the same lock: an ending vCPU gets no job after its last check.
    let given = place.with(|next| {
        if is_stopping() {
            return Err(NotSpawned::NoSuchVcpu(vcpu));
        }
        if next.is_some() {
            return Err(NotSpawned::Busy(vcpu));
        }
        if let Some(work) = work.take() {
            *next = Some(Box::new(move || tells.finish(work())));
        }
        Ok(())
    });
    if let (Err(error), Some(work)) = (given, work) {
        return refuse(error, work);
    }
    let _ = wake(vcpu); // one that runs has a port
    Ok(Job { state })
}

/// Returns the next step of a vCPU: a job, or its end. Returns `None` if there is neither.
pub(super) fn next(vcpu: usize) -> Option<Next> {
    NEXT.get(vcpu)?.with(|next| match next.take() {
        Some(work) => Some(Next::Job(work)),
        None => is_stopping().then_some(Next::End),
    })
}

impl<T> Job<T> {
    /// Returns whether the job is done.
    pub fn is_done(&self) -> bool {
        // SeqCst: see `State::finish`.
        self.state.done.load(Ordering::SeqCst)
    }

    /// Waits until the job is done; any vCPU may wait.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] after the deadline; the job goes on.
    pub fn wait(&self, deadline: Deadline) -> Result<(), TimedOut> {
        let own = this_vcpu::number();
        if let Some(waiting) = self.state.waiting.get(own / 64) {
            waiting.fetch_or(1 << (own % 64), Ordering::SeqCst); // before the first look; see `State::finish`
        }
        wait_until(deadline, || self.is_done().then_some(()))
    }

    /// Waits until the job is done, and returns its result.
    ///
    /// # Errors
    ///
    /// The job itself, if it isn't done by the deadline.
    pub fn join(self, deadline: Deadline) -> Result<T, Self> {
        match self.wait(deadline) {
            // Once the job is done, its result is present, and only this `Job` takes it.
            Ok(()) => self.state.result.with(Option::take).ok_or(self),
            Err(TimedOut) => Err(self),
        }
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
