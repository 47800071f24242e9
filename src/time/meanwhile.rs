//! Work done by a vCPU while it waits.

use core::cell::RefCell;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::sync::{PerVcpu, per_vcpu};

/// Work for a waiting vCPU; returns whether there was any.
type Work<'w> = RefCell<&'w mut dyn FnMut() -> bool>;

/// The work of each vCPU while it waits, set by its innermost [`meanwhile`].
static WORK: PerVcpu<AtomicPtr<Work<'static>>> = per_vcpu!(AtomicPtr::new(core::ptr::null_mut()));

/// Runs `run`. Whenever `run` waits on this vCPU, `work` is called first, again and again until it returns `false`
/// because no work was left. So one vCPU can serve both ends of a ring.
pub fn meanwhile<R>(mut work: impl FnMut() -> bool, run: impl FnOnce() -> R) -> R {
    let Some(own) = WORK.own() else { return run() };
    let cell: Work<'_> = RefCell::new(&mut work);
    // Relaxed: only this vCPU accesses it.
    let before = own.swap((&raw const cell).cast_mut().cast(), Ordering::Relaxed);
    let _restored = Restored(own, before);
    run()
}

/// Restores the previous work, also when `run` panics.
struct Restored<'a>(&'a AtomicPtr<Work<'static>>, *mut Work<'static>);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}

/// Does the work, outside interrupt handlers. Returns whether there was any.
pub(super) fn work() -> bool {
    let Some(work) = WORK.own().map(|own| own.load(Ordering::Relaxed)) else { return false };
    // SAFETY: the pointer is null, or points to the cell of a `meanwhile` on this vCPU, further up this very stack;
    // `meanwhile` restores the previous pointer before it returns.
    let Some(work) = (unsafe { work.as_ref() }) else { return false };
    // Work that waits itself isn't started again.
    work.try_borrow_mut().is_ok_and(|mut work| work())
}

#[cfg(test)]
mod tests {
    use super::{meanwhile, work};
    use core::cell::Cell;

    #[test]
    fn a_panic_leaves_no_work_behind() {
        let panicked = std::panic::catch_unwind(|| meanwhile(|| true, || panic!("on purpose")));
        assert!(panicked.is_err() && !work());
    }

    #[test]
    fn work_is_done_while_it_is_wanted_and_not_inside_of_itself() {
        let (inner, outer) = (Cell::new(0), Cell::new(0));
        let count = |cell: &Cell<u32>| {
            cell.set(cell.get() + 1);
            work()
        };
        assert!(!work());
        meanwhile(
            || count(&outer),
            || {
                meanwhile(|| count(&inner), || assert!(!work()));
                assert!(!work());
            },
        );
        assert!(!work());
        assert_eq!((inner.get(), outer.get()), (1, 1));
    }
}
