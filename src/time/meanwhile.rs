//! Work that a vCPU does while it waits.

use core::cell::RefCell;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::sync::{PerVcpu, per_vcpu};

/// Work to do, which says whether there was some.
type Work<'w> = RefCell<&'w mut dyn FnMut() -> bool>;

/// What each vCPU does while it waits, in a [`meanwhile`] of its own.
static WORK: PerVcpu<AtomicPtr<Work<'static>>> = per_vcpu!(AtomicPtr::new(core::ptr::null_mut()));

/// Runs `run`. Whenever it waits on this vCPU, `work` is done first, again and again for as long as that says that there was
/// something to do. So one vCPU can be both ends of a ring.
pub fn meanwhile<R>(mut work: impl FnMut() -> bool, run: impl FnOnce() -> R) -> R {
    let Some(own) = WORK.own() else { return run() };
    let cell: Work<'_> = RefCell::new(&mut work);
    // Relaxed: only this vCPU looks at it.
    let before = own.swap((&raw const cell).cast_mut().cast(), Ordering::Relaxed);
    let _restored = Restored(own, before);
    run()
}

/// Puts back what was before, also when `run` panics.
struct Restored<'a>(&'a AtomicPtr<Work<'static>>, *mut Work<'static>);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}

/// Does the work, outside of interrupt handlers. Returns whether there was some.
pub(super) fn work() -> bool {
    let Some(work) = WORK.own().map(|own| own.load(Ordering::Relaxed)) else { return false };
    // SAFETY: null, or the cell of a `meanwhile` of this vCPU's, which is further up this very stack: it puts the pointer
    // back before it returns.
    let Some(work) = (unsafe { work.as_ref() }) else { return false };
    // Work that waits itself doesn't begin again.
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
