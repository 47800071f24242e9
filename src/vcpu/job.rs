//! Work that is given to a vCPU.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::start::is_stopping;
use super::{kick, running};
use crate::sync::{IrqMutex, MAX_VCPUS};
use crate::time::{Deadline, TimedOut, wait_until};

type Work = Box<dyn FnOnce() + Send>;

/// What a vCPU does next.
pub(super) enum Next {
    Job(Work),
    End,
}

/// One place for each vCPU.
static NEXT: [IrqMutex<Option<Work>>; MAX_VCPUS] = [const { IrqMutex::new(None) }; MAX_VCPUS];

/// A job that a vCPU was given.
#[derive(Debug)]
pub struct Job {
    done: Arc<AtomicBool>,
}

/// A job that could not be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotSpawned {
    /// The vCPU doesn't run, or is the first, which has its own work.
    NoSuchVcpu(usize),
    /// One waits there already.
    Busy(usize),
}

impl fmt::Display for NotSpawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchVcpu(vcpu) => write!(f, "vCPU {vcpu} doesn't take jobs"),
            Self::Busy(vcpu) => write!(f, "a job waits for vCPU {vcpu} already"),
        }
    }
}

impl core::error::Error for NotSpawned {}

/// Has a vCPU do something, when it is done with what it is at.
///
/// # Errors
///
/// [`NotSpawned`], and the work is dropped.
pub fn spawn(vcpu: usize, work: impl FnOnce() + Send + 'static) -> Result<Job, NotSpawned> {
    if !(1..running()).contains(&vcpu) {
        return Err(NotSpawned::NoSuchVcpu(vcpu));
    }
    let done = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&done);
    let spawner = super::current();
    let mut work: Option<Work> = Some(Box::new(move || {
        work();
        // Release: pairs with the Acquire of `wait`: what the job did is seen.
        tells.store(true, Ordering::Release);
        let _ = kick(spawner); // who waits there looks again
    }));
    // Under the lock that `next` has: a vCPU that ends has no job behind its last look.
    NEXT[vcpu].with(|next| {
        if is_stopping() {
            return Err(NotSpawned::NoSuchVcpu(vcpu));
        }
        if next.is_some() {
            return Err(NotSpawned::Busy(vcpu));
        }
        *next = work.take();
        Ok(())
    })?;
    let _ = kick(vcpu); // one that runs has a port
    Ok(Job { done })
}

/// What a vCPU is to do next, if there is something: a job, or to end.
pub(super) fn next(vcpu: usize) -> Option<Next> {
    NEXT.get(vcpu)?.with(|next| match next.take() {
        Some(work) => Some(Next::Job(work)),
        None => is_stopping().then_some(Next::End),
    })
}

impl Job {
    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release of the job's end.
        self.done.load(Ordering::Acquire)
    }

    /// Waits until it is done: on the vCPU that gave it, which is woken.
    ///
    /// # Errors
    ///
    /// [`TimedOut`]; the job goes on.
    pub fn wait(&self, deadline: Deadline) -> Result<(), TimedOut> {
        wait_until(deadline, || self.is_done().then_some(()))
    }
}
