//! Who is to be told when references come free.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use super::{Exhausted, Freelist, OwnedRef};
use crate::sync::primitive::fence;
use crate::sync::{IrqMutex, Vcpu};

/// How many may wait at once without waking each other.
pub const MAX_WAITERS: usize = 16;

/// Wakers. They are few, and only touched when references are short, so a lock does; it is held for a copy.
pub struct Waiters {
    /// There may be some.
    any: AtomicBool,
    wakers: IrqMutex<heapless::Vec<Waker, MAX_WAITERS>>,
}

impl Waiters {
    pub fn new() -> Self {
        Self { any: AtomicBool::new(false), wakers: IrqMutex::new(heapless::Vec::new()) }
    }

    fn add(&self, waker: &Waker) {
        let crowded_out = self.wakers.with(|wakers| {
            if wakers.iter().any(|known| known.will_wake(waker)) {
                return None;
            }
            // Where there is no room, the oldest is woken: it will look for itself, and wait again.
            let oldest = wakers.is_full().then(|| wakers.remove(0));
            let _ = wakers.push(waker.clone()); // there is room now
            oldest
        });
        self.any.store(true, Ordering::SeqCst);
        if let Some(waker) = crowded_out {
            waker.wake();
        }
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    fn wake_all(&self) {
        if self.any.swap(false, Ordering::SeqCst) {
            // Called outside the lock: a waker may do anything.
            let wakers = self.wakers.with(core::mem::take);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl<V: Vcpu> Freelist<V> {
    /// Takes a free reference, or sees to it that `context` is woken when one is freed.
    ///
    /// What is in the cache of another vCPU wakes nobody until that vCPU frees something or
    /// [flushes](Self::flush): put a deadline on the wait.
    pub fn poll_alloc(&self, context: &mut Context<'_>) -> Poll<OwnedRef> {
        match self.alloc().or_else(|Exhausted| {
            self.waiters.add(context.waker());
            self.alloc() // it looks again after it has told of the shortage
        }) {
            Ok(reference) => Poll::Ready(reference),
            Err(Exhausted) => Poll::Pending,
        }
    }

    /// To be called by whoever put something into the shared part.
    pub(super) fn wake_if_scarce(&self) {
        // Pairs with the fence of `declare_scarce`: either the next look there sees what was put in, or the
        // shortage is seen here.
        fence(Ordering::SeqCst); // wake_if_scarce
        if self.scarce.load(Ordering::Relaxed) != 0 {
            self.wake();
        }
    }

    /// Wakes those that wait. If nobody does, the shortage is over, until somebody finds nothing again.
    #[cold]
    pub(super) fn wake(&self) {
        if self.waiters.any() {
            return self.waiters.wake_all();
        }
        self.scarce.store(0, Ordering::Relaxed);
        // Pairs with the fence of `declare_scarce`: whoever came to wait before this store took the shortage
        // away is seen here; whoever comes later declares another.
        fence(Ordering::SeqCst);
        if self.waiters.any() {
            self.scarce.store(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_WAITERS;
    use crate::abi::grant::GrantRef;
    use crate::grant::freelist::Freelist;
    use crate::sync::HostThread;
    use core::sync::atomic::{AtomicU32, Ordering};
    use core::task::{Context, Poll, Waker};
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

    #[test]
    fn all_who_wait_are_woken_and_whoever_is_crowded_out_is_too() {
        let list = Freelist::new(HostThread, GrantRef::FIRST_FREE, 9, 64);
        list.grow(9);
        let only = list.alloc().unwrap();
        let counters: Vec<_> = (0..=MAX_WAITERS).map(|_| Arc::new(Counter::default())).collect();
        let wakers: Vec<_> = counters.iter().map(|counter| Waker::from(counter.clone())).collect();
        for waker in &wakers {
            // Twice: who waits already waits once.
            for _ in 0..2 {
                assert!(list.poll_alloc(&mut Context::from_waker(waker)).is_pending());
            }
        }
        let woken = || counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!((woken()[0], woken()[1..].iter().sum::<u32>()), (1, 0), "the first made room");
        list.free(only).unwrap();
        assert!(woken().iter().all(|&times| times == 1), "{:?}", woken());
        let Poll::Ready(only) = list.poll_alloc(&mut Context::from_waker(&wakers[3])) else {
            panic!("it is free");
        };
        assert!(list.poll_alloc(&mut Context::from_waker(&wakers[4])).is_pending());
        list.grow(10); // there is only room for 9
        list.free(only).unwrap();
        assert_eq!(woken()[4], 2);
    }
}
