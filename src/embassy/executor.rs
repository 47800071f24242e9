//! The executor: embassy's tasks, and when to poll them.

use core::sync::atomic::{AtomicBool, Ordering};

use alloc::boxed::Box;
use embassy_executor::{Spawner, raw};

use crate::time::{Deadline, wait_until};
use crate::vcpu;

/// The tasks of the vCPU running it. Any vCPU may wake them. Several vCPUs have an executor each.
#[derive(Default, Debug)]
pub struct Executor {
    // Only `new` makes one, so fields can be added later.
    _private: (),
}

/// Whether a task is ready, and which vCPU runs it.
#[derive(Debug)]
struct Signal {
    pending: AtomicBool,
    vcpu: usize,
}

impl Executor {
    /// Makes an executor without tasks.
    pub const fn new() -> Self {
        Self { _private: () }
    }

    /// Runs tasks on the calling vCPU until `is_done` returns true; it is called after each round of tasks. `start`
    /// spawns the first tasks. Tasks still unfinished at the end are never dropped: embassy's tasks live for ever.
    pub fn run_until(self, start: impl FnOnce(Spawner), mut is_done: impl FnMut() -> bool) {
        // For ever: a waker may outlive this call.
        let signal: &'static Signal =
            Box::leak(Box::new(Signal { pending: AtomicBool::new(false), vcpu: vcpu::current() }));
        let context = core::ptr::from_ref(signal).cast_mut().cast();
        let executor: &'static raw::Executor = Box::leak(Box::new(raw::Executor::new(context)));
        start(executor.spawner());
        loop {
            // SAFETY: only this loop polls the executor, on the vCPU where it was made. It is never polled from
            // within `poll`: tasks have no way to reach it.
            unsafe { executor.poll() };
            if is_done() {
                return;
            }
            // Acquire: pairs with the Release of `pender`: the work done before the wake-up is seen.
            let something = || signal.pending.swap(false, Ordering::Acquire).then_some(());
            let _ = wait_until(Deadline::NEVER, something); // there is no deadline
        }
    }

    /// Runs tasks for ever.
    pub fn run(self, start: impl FnOnce(Spawner)) -> ! {
        self.run_until(start, || false);
        crate::arch::halt() // not reached: it is never done
    }
}

/// Marks an executor's tasks as ready. embassy calls it when a task becomes ready, on any vCPU, also in handlers.
#[unsafe(export_name = "__pender")]
fn pender(context: *mut ()) {
    // SAFETY: the context is the signal given to the executor at its creation; it lives for ever.
    let signal = unsafe { &*context.cast::<Signal>() };
    // Release: pairs with the Acquire of `run_until`.
    signal.pending.store(true, Ordering::Release);
    if signal.vcpu != vcpu::current() {
        // The vCPU may be halted. The error is ignored: a vCPU that no longer runs has no tasks to run either.
        let _ = vcpu::wake(signal.vcpu);
    }
}
