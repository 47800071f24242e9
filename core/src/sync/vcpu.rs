//! Which vCPU runs the caller: what per-vCPU data is found by.

/// Tells which vCPU runs the caller.
///
/// # Safety
///
/// No two callers get the same number at the same time, not even where one has interrupted the other.
pub unsafe trait Vcpu {
    /// The vCPU's number, from 0 on; [`NO_VCPU`] in an interrupt handler. It may be larger than anybody has
    /// room for.
    fn index(&self) -> usize;

    /// Runs `run` while no interrupt handler that uses the freelist can run on this vCPU. A kernel masks interrupts; one
    /// whose handlers don't use the freelist just calls it.
    fn masked<R>(&self, run: impl FnOnce() -> R) -> R;
}

/// What an interrupt handler has for a number: per-vCPU data is in use by whatever it interrupted.
pub const NO_VCPU: usize = usize::MAX;

// SAFETY: it is the same caller.
unsafe impl<V: Vcpu> Vcpu for &V {
    #[inline]
    fn index(&self) -> usize {
        (**self).index()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        (**self).masked(run)
    }
}

/// On the host threads stand in for vCPUs: each has a number, the lowest that no living thread has.
#[cfg(any(test, feature = "std"))]
#[derive(Clone, Copy, Default, Debug)]
pub struct HostThread;

#[cfg(any(test, feature = "std"))]
mod host {
    use std::sync::{Mutex, PoisonError};
    use std::vec::Vec;

    static TAKEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());

    std::thread_local! {
        static INDEX: Index = Index::take();
    }

    struct Index(usize);

    impl Index {
        fn take() -> Self {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            let index = taken.iter().position(|taken| !taken).unwrap_or(taken.len());
            if index == taken.len() {
                taken.push(true);
            } else {
                taken[index] = true;
            }
            Self(index)
        }
    }

    impl Drop for Index {
        fn drop(&mut self) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = false;
        }
    }

    // SAFETY: a number belongs to one thread from its first use to its end.
    unsafe impl super::Vcpu for super::HostThread {
        fn index(&self) -> usize {
            // A thread that is ending has given its number up: nobody has room for this one.
            INDEX.try_with(|index| index.0).unwrap_or(super::NO_VCPU)
        }

        fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
            run()
        }
    }
}
