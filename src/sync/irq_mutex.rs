//! A spin lock for data shared with interrupt handlers.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{NO_VCPU, this_vcpu};

/// A spin lock with interrupts masked on the holder's vCPU, so that no handler can wait for the code it interrupted.
///
/// Locked for the duration of a closure, not for a guard's life, so nested locks are released in reverse order, and the
/// last release unmasks the interrupts masked by the first lock.
///
/// ```no_run
/// use granite::sync::IrqMutex;
///
/// static COUNTS: IrqMutex<[u32; 4]> = IrqMutex::new([0; 4]);
///
/// COUNTS.with(|counts| counts[1] += 1); // an interrupt handler may do the same
/// ```
pub struct IrqMutex<T: ?Sized> {
    /// The holder's vCPU number plus 1, so that the holder detects its own mistake. 0 means none: a static lock of
    /// zeros takes no space in the image.
    holder: AtomicUsize,
    inner: spin::Mutex<T>,
}

impl<T> IrqMutex<T> {
    /// Creates an unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { holder: AtomicUsize::new(0), inner: spin::Mutex::new(value) }
    }
}

impl<T: ?Sized> IrqMutex<T> {
    /// Waits for the lock, and calls `access` with it held and interrupts masked. While waiting, interrupts keep
    /// their previous state.
    ///
    /// # Panics
    ///
    /// If the holder's vCPU takes the lock again, inside `access` or in a handler: it would wait for ever.
    #[track_caller]
    pub fn with<R>(&self, mut access: impl FnOnce(&mut T) -> R) -> R {
        loop {
            match self.try_once(access) {
                Ok(result) => return result,
                Err(not_called) => access = not_called,
            }
            // Relaxed: this vCPU sees its own stores, and other vCPUs never store its number.
            let own = this_vcpu::number();
            if own != NO_VCPU && self.holder.load(Ordering::Relaxed) == own + 1 {
                again();
            }
            core::hint::spin_loop();
        }
    }

    fn try_once<R, F: FnOnce(&mut T) -> R>(&self, access: F) -> Result<R, F> {
        let _masked = InterruptGuard::mask();
        let Some(mut guard) = self.inner.try_lock() else { return Err(access) };
        self.holder.store(this_vcpu::number().wrapping_add(1), Ordering::Relaxed);
        let result = access(&mut guard);
        self.holder.store(0, Ordering::Relaxed);
        Ok(result)
    }

    /// Calls `access` only if the lock is free; otherwise returns `None`. For crash reports: the crash may have come
    /// while the lock was held.
    pub fn try_with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.try_once(access).ok()
    }
}

impl<T: ?Sized> fmt::Debug for IrqMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqMutex").field("locked", &self.inner.is_locked()).finish_non_exhaustive()
    }
}

#[cold]
#[track_caller]
#[expect(clippy::panic, reason = "a mistake of the program's own, and a report is better than silence")]
fn again() -> ! {
    panic!("a lock is taken again by its holder")
}

/// A guard that masks interrupts on its vCPU until it is dropped, unless they were masked before. Drop nested guards
/// in reverse order.
///
/// ```no_run
/// let guard = granite::sync::InterruptGuard::mask();
/// // ... no interrupt comes here ...
/// drop(guard);
/// ```
#[derive(Debug)]
#[must_use = "dropping it unmasks"]
pub struct InterruptGuard {
    was_enabled: bool,
    // Neither `Send` nor `Sync`: each vCPU has its own interrupt mask.
    _here: PhantomData<*mut ()>,
}

impl InterruptGuard {
    /// Masks interrupts on this vCPU.
    pub fn mask() -> Self {
        // A host process may not mask interrupts, and has no handlers that would take a lock.
        let was_enabled = cfg!(granite_guest) && x86_64::instructions::interrupts::are_enabled();
        if was_enabled {
            x86_64::instructions::interrupts::disable();
        }
        Self { was_enabled, _here: PhantomData }
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        if self.was_enabled {
            x86_64::instructions::interrupts::enable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::IrqMutex;

    #[test]
    fn a_held_lock_is_not_taken_twice() {
        let lock = IrqMutex::new(1);
        assert_eq!(lock.with(|_| lock.try_with(|_| ())), None);
        lock.with(|value| *value += 1);
        assert_eq!(lock.try_with(|value| *value), Some(2));
    }
}
