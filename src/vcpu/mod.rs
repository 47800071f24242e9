//! Floor 5: several vCPUs. `Platform::start_vcpus` starts every vCPU of the domain. Each but the first waits for work:
//! [`spawn`] gives it a job, which runs on the vCPU's own stack with interrupts unmasked. [`on_all`] interrupts every
//! vCPU to call a function. [`stop`] ends them in order, and `freeze_others` at once.

mod call;
mod freeze;
mod job;
mod start;

pub use call::{Call, Unanswered, on_all};
pub(crate) use freeze::{freeze_if_told, freeze_others};
pub use job::{Job, NotSpawned, Refused, spawn};
pub use start::{StartError, StopError, stop};
pub(crate) use start::{start_all, start_first};

use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Once;

use crate::event::{EventError, Ipi, VirtualIrq};
use crate::sync::{PerVcpu, per_vcpu, this_vcpu};

/// How many vCPUs run.
static RUNNING: AtomicUsize = AtomicUsize::new(1);

/// How many vCPUs run: their numbers are those below.
pub fn running() -> usize {
    // Acquire: pairs with the Release of `start`: their ports are open.
    RUNNING.load(Ordering::Acquire)
}

/// The number of the vCPU that runs the caller.
pub fn current() -> usize {
    this_vcpu::number()
}

/// What a vCPU is reached by. They stay open for ever.
#[derive(Debug)]
struct Ports {
    kick: Ipi,
    _timer: VirtualIrq,
}

static PORTS: PerVcpu<Once<Ports>> = per_vcpu!(Once::new());

/// Interrupts a vCPU: one that waits looks again at what it waits for, and calls that are open are answered.
///
/// # Errors
///
/// [`EventError`]; [`EventError::NoEvents`] for one that doesn't run.
pub(crate) fn kick(vcpu: usize) -> Result<(), EventError> {
    let ports = PORTS.get(vcpu).and_then(Once::get).ok_or(EventError::NoEvents)?;
    ports.kick.send()
}
