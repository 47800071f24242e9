//! Tasks waiting for free references.

use core::task::Waker;

use super::Freelist;
use crate::sync::Vcpu;
use crate::sync::atomic::{Ordering, fence};

/// Maximum number of waiters; one more wakes the oldest.
pub const MAX_WAITERS: usize = 16;

/// The wakers. They are few, and only used in a shortage, so a lock suffices. It is held only to copy them.
pub struct Waiters(spin::Mutex<heapless::Vec<Waker, MAX_WAITERS>>);

impl Waiters {
    pub const fn new() -> Self {
        Self(spin::Mutex::new(heapless::Vec::new()))
    }

    fn add(&self, vcpu: &impl Vcpu, waker: &Waker) {
        // Wakers are cloned, dropped and woken outside the lock, because a waker may run any code.
        let new = waker.clone();
        let (unneeded, crowded_out) = vcpu.masked(|| {
            let mut wakers = self.0.lock();
            if wakers.iter().any(|known| known.will_wake(&new)) {
                return (Some(new), None);
            }
            // If there is no room, wake the oldest: it tries again, and waits again.
            let oldest = wakers.is_full().then(|| wakers.remove(0));
            (wakers.push(new).err(), oldest) // there is room now
        });
        drop(unneeded);
        crowded_out.into_iter().for_each(Waker::wake);
    }

    fn wake_all(&self, vcpu: &impl Vcpu) {
        // Woken outside the lock, as above.
        vcpu.masked(|| core::mem::take(&mut *self.0.lock())).into_iter().for_each(Waker::wake);
    }
}

impl<V: Vcpu> Freelist<V> {
    /// Wakes `waker` at the next free. Call it after a failed allocation, and then try again: a free in between woke
    /// no one.
    ///
    /// References cached by another vCPU wake no one until that vCPU frees one, [flushes](Self::flush) or halts.
    pub fn wait(&self, waker: &Waker) {
        self.waiters.add(&self.vcpus, waker);
        self.declare_scarce();
    }

    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed) != 0
    }

    /// Declares a shortage. Call it after a failed search, and search once more. The next free bypasses the caches,
    /// so all vCPUs see it.
    pub(super) fn declare_scarce(&self) {
        self.scarce.swap(1, Ordering::Relaxed); // not a store: it must read the end of the last shortage
        // Pairs with the fence of `wake_if_scarce`: either the next search here finds the freed reference, or the
        // freeing vCPU sees the shortage.
        fence(Ordering::SeqCst); // declare_scarce
    }

    /// Ends a declared shortage. Call it after adding references to the shared set.
    pub(super) fn wake_if_scarce(&self) {
        // Pairs with the fence of `declare_scarce`.
        fence(Ordering::SeqCst); // wake_if_scarce
        if self.is_scarce() {
            self.wake();
        }
    }

    /// Ends the shortage, then wakes the waiters. The order matters: a waiter adds its waker first and declares the
    /// shortage after that, so it is either woken here or leaves the shortage declared.
    #[cold]
    fn wake(&self) {
        self.scarce.store(0, Ordering::Relaxed);
        self.waiters.wake_all(&self.vcpus);
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_WAITERS;
    use crate::abi::grant::GrantRef;
    use crate::freelist::{Freelist, OwnedRef};
    use crate::sync::HostThread;
    use core::sync::atomic::{AtomicU32, Ordering};
    use core::task::Waker;
    use std::sync::Arc;
    use std::task::Wake;
    use std::vec::Vec;

    #[derive(Default)]
    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(list: &Freelist<HostThread>, waker: &Waker) -> Option<OwnedRef> {
        list.alloc()
            .or_else(|_| {
                list.wait(waker);
                list.alloc()
            })
            .ok()
    }

    #[test]
    fn all_who_wait_are_woken_and_whoever_is_crowded_out_is_too() {
        let list = Freelist::new(HostThread, GrantRef::FIRST_FREE, 64).unwrap();
        list.grow(9).unwrap();
        let only = list.alloc().unwrap();
        let counters: Vec<_> = (0..=MAX_WAITERS).map(|_| Arc::new(Counter::default())).collect();
        let wakers: Vec<_> = counters.iter().map(|counter| Waker::from(counter.clone())).collect();
        for waker in &wakers {
            // Twice: a second wait of the same waker adds no second entry.
            for _ in 0..2 {
                assert!(poll(&list, waker).is_none());
            }
        }
        let woken = || counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!((woken()[0], woken()[1..].iter().sum::<u32>()), (1, 0), "the first made room");
        list.free(only).unwrap();
        assert!(woken().iter().all(|&times| times == 1), "{:?}", woken());
        let only = poll(&list, &wakers[3]).unwrap();
        assert!(poll(&list, &wakers[4]).is_none());
        list.grow(10).unwrap();
        assert_eq!(woken()[4], 2, "growth wakes, too");
        list.free(only).unwrap();
    }
}
