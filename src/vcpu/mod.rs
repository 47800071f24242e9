//! Layer 5: several vCPUs. `Platform::start_vcpus` starts every vCPU of the domain. All but the first wait for work:
//! [`spawn`] gives a vCPU a job, which runs on its own stack with interrupts unmasked. [`call_all`] interrupts every
//! vCPU to call a function. [`stop`] ends them in order, and `freeze_others` at once.

mod call;
mod freeze;
mod job;
mod start;

pub use call::{Call, Unanswered, call_all};
pub(crate) use freeze::{freeze_if_told, freeze_others};
pub use job::{Job, NotSpawned, Refused, spawn};
pub use start::{StartError, StopError, stop};
pub(crate) use start::{start_all, start_first};

use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Once;

use crate::event::{EventError, Ipi, VirtualIrq};
use crate::sync::{PerVcpu, per_vcpu, this_vcpu};

/// The number of running vCPUs.
static RUNNING: AtomicUsize = AtomicUsize::new(1);

/// Returns the number of running vCPUs, `n`: they are numbered from 0 to `n - 1`.
pub fn running() -> usize {
    // Acquire: pairs with the Release of `start`: their ports are open.
    RUNNING.load(Ordering::Acquire)
}

/// Returns the number of the calling vCPU.
pub fn current() -> usize {
    this_vcpu::number()
}

/// The ports for reaching a vCPU. They stay open for ever.
#[derive(Debug)]
struct Ports {
    wake: Ipi,
    _timer: VirtualIrq,
}

static PORTS: PerVcpu<Once<Ports>> = per_vcpu!(Once::new());

/// Interrupts a vCPU: if it waits, it checks its condition again; it also answers open calls.
///
/// # Errors
///
/// [`EventError::NoEvents`] if the vCPU doesn't run; otherwise [`EventError::Xen`].
pub(crate) fn wake(vcpu: usize) -> Result<(), EventError> {
    let ports = PORTS.get(vcpu).and_then(Once::get).ok_or(EventError::NoEvents)?;
    ports.wake.send()
}
