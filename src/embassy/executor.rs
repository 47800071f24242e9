//! The executor: embassy's, and when to run it.

use core::sync::atomic::{AtomicBool, Ordering};

use alloc::boxed::Box;
use embassy_executor::{Spawner, raw};

use crate::time::{Deadline, wait_until};
use crate::vcpu;

/// Tasks of the vCPU that runs it. They may be woken from any; several vCPUs have an executor each.
#[derive(Default, Debug)]
pub struct Executor {
    // Made by `new`, whatever it will have.
    _private: (),
}

/// That there is something to do, and for whom.
#[derive(Debug)]
struct Signal {
    pending: AtomicBool,
    vcpu: usize,
}

impl Executor {
    /// An executor without tasks.
    pub const fn new() -> Self {
        Self { _private: () }
    }

    /// Runs tasks on the calling vCPU until `is_done`, which is asked after each round of them. `start` spawns the first
    /// ones. What hasn't ended then is never dropped: tasks are for ever, as embassy has them.
    pub fn run_until(self, start: impl FnOnce(Spawner), mut is_done: impl FnMut() -> bool) {
        // For ever: a waker may outlive anything.
        let signal: &'static Signal =
            Box::leak(Box::new(Signal { pending: AtomicBool::new(false), vcpu: vcpu::current() }));
        let context = core::ptr::from_ref(signal).cast_mut().cast();
        let executor: &'static raw::Executor = Box::leak(Box::new(raw::Executor::new(context)));
        start(executor.spawner());
        loop {
            // SAFETY: it is polled here alone, on the vCPU that it was made on, and not by itself: tasks have no way
            // to get hold of it.
            unsafe { executor.poll() };
            if is_done() {
                return;
            }
            // Acquire: pairs with the Release of the pender: what was done before the wake-up is seen.
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

/// Called by embassy when a task becomes ready: by any vCPU, in handlers too.
#[unsafe(export_name = "__pender")]
fn pender(context: *mut ()) {
    // SAFETY: the context is the signal that its executor was made with, which stays for ever.
    let signal = unsafe { &*context.cast::<Signal>() };
    // Release: pairs with the Acquire of `run_until`.
    signal.pending.store(true, Ordering::Release);
    if signal.vcpu != vcpu::current() {
        // It may halt. One that doesn't run any more has nothing to do either.
        let _ = vcpu::kick(signal.vcpu);
    }
}
