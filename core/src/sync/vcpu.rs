//! The identity of the calling vCPU, to find per-vCPU data.

/// Identifies the vCPU of the caller.
///
/// # Safety
///
/// No two callers may get the same number at the same time, even if one has interrupted the other. [`NO_VCPU`] is no
/// number: any caller may get it.
pub unsafe trait Vcpu {
    /// Returns the vCPU's number, from 0 on; [`NO_VCPU`] in an interrupt handler. It may exceed the number of
    /// per-vCPU slots.
    fn index(&self) -> usize;

    /// Runs `run` while no interrupt handler that uses the freelist can run on this vCPU. A kernel masks interrupts;
    /// one whose handlers don't use the freelist just calls `run`.
    fn masked<R>(&self, run: impl FnOnce() -> R) -> R;
}

/// The number for an interrupt handler, because the interrupted code may be using the per-vCPU data.
pub const NO_VCPU: usize = usize::MAX;

// SAFETY: both identify the same caller.
unsafe impl<V: Vcpu> Vcpu for &V {
    #[inline]
    fn index(&self) -> usize {
        (**self).index()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        (**self).masked(run)
    }
}

/// Host threads in the role of vCPUs. Each takes the lowest number not held by a living thread at its first use.
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

    // SAFETY: a number belongs to one thread from its first use to the thread's end.
    unsafe impl super::Vcpu for super::HostThread {
        fn index(&self) -> usize {
            // An ending thread has given up its number. NO_VCPU has no per-vCPU slot.
            INDEX.try_with(|index| index.0).unwrap_or(super::NO_VCPU)
        }

        fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
            run()
        }
    }
}
