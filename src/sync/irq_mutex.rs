//! A spin lock that may be taken wherever an interrupt handler may take it too.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{NO_VCPU, this_vcpu};

/// A spin lock that masks interrupts on its vCPU while it is held, so that no handler can wait for the very
/// code that it interrupted.
///
/// It is held for the length of a call, not of a guard's life: locks are released in the reverse order of
/// being taken, and the last release unmasks what the first taking masked.
pub struct IrqMutex<T: ?Sized> {
    /// The number of the vCPU that holds it, plus 1, for that one to know its own mistake. 0 is none: a static lock of zeros
    /// takes no place in the image.
    holder: AtomicUsize,
    inner: spin::Mutex<T>,
}

impl<T> IrqMutex<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Self { holder: AtomicUsize::new(0), inner: spin::Mutex::new(value) }
    }
}

impl<T: ?Sized> IrqMutex<T> {
    /// Waits for the lock, and calls `access` with it held and interrupts masked. While it waits, interrupts
    /// are as they were.
    ///
    /// # Panics
    ///
    /// If the vCPU that holds the lock takes it again, inside or in a handler: the wait would be for ever.
    #[track_caller]
    pub fn with<R>(&self, mut access: impl FnOnce(&mut T) -> R) -> R {
        loop {
            match self.try_once(access) {
                Ok(result) => return result,
                Err(not_called) => access = not_called,
            }
            // Relaxed: what this vCPU stored it sees; what others store is never its own number.
            let own = this_vcpu::number();
            if own != NO_VCPU && self.holder.load(Ordering::Relaxed) == own + 1 {
                again();
            }
            core::hint::spin_loop();
        }
    }

    fn try_once<R, F: FnOnce(&mut T) -> R>(&self, access: F) -> Result<R, F> {
        let _masked = Masked::mask();
        let Some(mut guard) = self.inner.try_lock() else { return Err(access) };
        self.holder.store(this_vcpu::number().wrapping_add(1), Ordering::Relaxed);
        let result = access(&mut guard);
        self.holder.store(0, Ordering::Relaxed);
        Ok(result)
    }

    /// The same if the lock is free. For reports of a crash, which may have come while it was held.
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

/// Interrupts masked for as long as this lives, if they weren't masked before: on the vCPU that masked them, and with several
/// as long as they are dropped in the reverse order.
#[derive(Debug)]
#[must_use = "dropping it unmasks"]
pub struct Masked {
    was_enabled: bool,
    // Neither sent nor shared: another vCPU's mask is another.
    _here: PhantomData<*mut ()>,
}

impl Masked {
    /// Masks them on this vCPU.
    pub fn mask() -> Self {
        // A host process may not mask interrupts, and has no handlers that would take a lock.
        let was_enabled = cfg!(granite_guest) && x86_64::instructions::interrupts::are_enabled();
        if was_enabled {
            x86_64::instructions::interrupts::disable();
        }
        Self { was_enabled, _here: PhantomData }
    }
}

impl Drop for Masked {
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
