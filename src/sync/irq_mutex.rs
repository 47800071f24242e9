//! A spin lock that may be taken wherever an interrupt handler may take it too.

use core::fmt;

/// A spin lock that masks interrupts on its vCPU while it is held, so that no handler can wait for the very
/// code that it interrupted.
///
/// It is held for the length of a call, not of a guard's life: locks are released in the reverse order of
/// being taken, and the last release unmasks what the first taking masked.
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
    /// Waits for the lock, and calls `access` with it held and interrupts masked.
    ///
    /// # Panics
    ///
    /// In a guest, if the lock is taken again inside: only one vCPU runs, so the wait would be for ever.
    #[track_caller]
    pub fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> R {
        let _masked = Masked::mask();
        #[cfg(granite_guest)]
        #[expect(
            clippy::panic,
            reason = "a mistake of the program's own, and a report is better than silence"
        )]
        match self.inner.try_lock() {
            Some(mut guard) => access(&mut guard),
            None => panic!("a lock is taken again by its holder"),
        }
        #[cfg(not(granite_guest))]
        access(&mut self.inner.lock())
    }

    /// The same if the lock is free. For reports of a crash, which may have come while it was held.
    pub fn try_with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _masked = Masked::mask();
        self.inner.try_lock().map(|mut guard| access(&mut guard))
    }
}

impl<T: ?Sized> fmt::Debug for IrqMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqMutex").field("locked", &self.inner.is_locked()).finish_non_exhaustive()
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
        assert_eq!(lock.with(|_| lock.try_with(|_| ())), None);
        lock.with(|value| *value += 1);
        assert_eq!(lock.try_with(|value| *value), Some(2));
    }
}
