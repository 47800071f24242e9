//! Who is told when references come free.

use core::task::Waker;

use super::Freelist;
use crate::sync::Vcpu;
use crate::sync::primitive::{Ordering, fence};

/// How many may wait at once without waking each other.
pub const MAX_WAITERS: usize = 16;

/// Wakers. They are few, and only touched when references are short, so a lock does; it is held for a copy.
pub struct Waiters(spin::Mutex<heapless::Vec<Waker, MAX_WAITERS>>);

impl Waiters {
    pub const fn new() -> Self {
        Self(spin::Mutex::new(heapless::Vec::new()))
    }

    fn add(&self, vcpu: &impl Vcpu, waker: &Waker) {
        // Cloned, and what is not needed dropped and woken, outside the lock: a waker may do anything.
        let new = waker.clone();
        let (unneeded, crowded_out) = vcpu.masked(|| {
            let mut wakers = self.0.lock();
            if wakers.iter().any(|known| known.will_wake(&new)) {
                return (Some(new), None);
            }
            // If there is no room the oldest is woken: it looks for itself, and waits again.
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
    /// Wakes `waker` when references are next freed. Call it after an allocation failed, and then try again: what was
    /// freed in between wakes no one.
    ///
    /// References that another vCPU has cached wake no one until that vCPU frees one, [flushes](Self::flush) or halts.
    pub fn wait(&self, waker: &Waker) {
        self.waiters.add(&self.vcpus, waker);
        self.declare_scarce();
    }

    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed) != 0
    }

    /// To be called when nothing was found. The next free goes past the caches, so that all vCPUs see it. The caller looks
    /// once more after this.
    pub(super) fn declare_scarce(&self) {
        self.scarce.swap(1, Ordering::Relaxed); // not a store: it follows the end of the last shortage
        // Pairs with the fence of `wake_if_scarce`: either the next look here finds what was freed, or the freeing vCPU
        // sees the shortage.
        fence(Ordering::SeqCst); // declare_scarce
    }

    /// To be called after references were added to the shared set.
    pub(super) fn wake_if_scarce(&self) {
        // Pairs with the fence of `declare_scarce`.
        fence(Ordering::SeqCst); // wake_if_scarce
        if self.is_scarce() {
            self.wake();
        }
    }

    /// Ends the shortage and wakes those who wait. In this order: a waiter adds its waker first and declares the shortage
    /// after that, so it is either woken here or leaves the shortage declared.
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
            // Twice: who waits already waits once.
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
