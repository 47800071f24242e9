//! A spin lock that may be taken wherever an interrupt handler may take it too.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// A spin lock that masks interrupts on its vCPU while it is held, so that no handler can wait for the
/// very code that it interrupted.
pub struct IrqMutex<T: ?Sized> {
    inner: spin::Mutex<T>,
}

impl<T> IrqMutex<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Self { inner: spin::Mutex::new(value) }
    }
}

impl<T: ?Sized> IrqMutex<T> {
    /// Waits for the lock, with interrupts masked.
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let masked = Masked::mask();
        IrqGuard { guard: self.inner.lock(), _masked: masked }
    }

    /// Takes the lock if it is free. For reports of a crash, which may have come while it was held.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let masked = Masked::mask();
        let guard = self.inner.try_lock()?;
        Some(IrqGuard { guard, _masked: masked })
    }
}

impl<T: ?Sized> fmt::Debug for IrqMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqMutex").field("locked", &self.inner.is_locked()).finish_non_exhaustive()
    }
}

/// Access to what an [`IrqMutex`] guards.
#[must_use]
pub struct IrqGuard<'a, T: ?Sized> {
    // Fields are dropped in this order: the lock is free before an interrupt can come.
    guard: spin::MutexGuard<'a, T>,
    _masked: Masked,
}

impl<T: ?Sized> Deref for IrqGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: ?Sized> fmt::Debug for IrqGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqGuard").finish_non_exhaustive()
    }
}

/// Interrupts masked for as long as this lives, if they weren't masked before.
struct Masked {
    was_enabled: bool,
}

impl Masked {
    fn mask() -> Self {
        // A host process may not mask interrupts, and has no handlers that would take a lock.
        let was_enabled = cfg!(granite_guest) && x86_64::instructions::interrupts::are_enabled();
        if was_enabled {
            x86_64::instructions::interrupts::disable();
        }
        Self { was_enabled }
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
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        *lock.lock() += 1;
        assert_eq!(*lock.lock(), 2);
    }
}
