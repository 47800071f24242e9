//! Where references come from when a cache has none: the shared stack, fresh ones, or another vCPU's spare ones; and what
//! happens when there are none.

use super::cache::{BATCH, Cache, Own};
use super::stack::{Chain, MAX_CHAIN};
use super::{Exhausted, Freelist, OwnedRef};
use crate::sync::Vcpu;
use crate::sync::primitive::{Ordering, fence};

/// How often to look again while somebody collects a run.
const PATIENCE: u32 = if cfg!(granite_loom) { 1 } else { 20_000 };

impl<V: Vcpu> Freelist<V> {
    /// One reference for who has no cache: a handler, or one vCPU too many.
    #[cold]
    pub(super) fn alloc_bypassing(&self) -> Result<OwnedRef, Exhausted> {
        let take = || {
            let chain = self.take_chain(1)?.0;
            let number = chain.first;
            if let Some(rest) = chain.split(&self.links, 1, |_| {}) {
                self.shared.0.push(&self.links, rest);
            }
            Some(number)
        };
        let again = || {
            self.declare_scarce();
            take()
        };
        let number = take().or_else(again).ok_or(Exhausted)?;
        self.count_out(None, 1);
        Ok(self.own(number))
    }

    /// Fills a cache that is short of references; `false` if there are none to be had.
    pub(super) fn refill(&self, cache: Own<'_>) -> bool {
        if let Some(spare) = cache.0.take_spare() {
            if let Some(rest) = cache.load(&self.links, spare, BATCH) {
                self.shared.0.push(&self.links, rest);
            }
            return true;
        }
        let Some((chain, last)) = self.take_chain(BATCH) else { return false };
        // Of the last ones, half: whoever comes next finds some, too.
        let most = match self.scarce.load(Ordering::Relaxed) {
            0 if last => chain.len.div_ceil(2).min(BATCH),
            0 => BATCH,
            _ => 1,
        };
        if let Some(rest) = cache.load(&self.links, chain, most) {
            self.shared.0.push(&self.links, rest);
        }
        true
    }

    /// A chain from wherever there is one: the shared stack, fresh references (as many as are wanted), or
    /// another vCPU's spare ones. Tells whether it was the last.
    pub(super) fn take_chain(&self, wanted: u32) -> Option<(Chain, bool)> {
        if let Some((chain, last)) = self.shared.0.pop(&self.links) {
            return Some((chain, last && self.fresh_left() == 0));
        }
        if let Some((first, count)) = self.take_fresh(wanted, 1) {
            let chain = Chain::link(&self.links, first..first + count)?;
            return Some((chain, self.fresh_left() == 0));
        }
        let stolen = self.caches.iter().find_map(Cache::take_spare)?;
        Some((stolen, true))
    }

    pub(super) fn fresh_left(&self) -> u32 {
        self.limit.0.load(Ordering::Relaxed).saturating_sub(self.fresh.0.load(Ordering::Relaxed))
    }

    /// Takes up to `wanted` references that were never out, or none if there are fewer than `least`.
    pub(super) fn take_fresh(&self, wanted: u32, least: u32) -> Option<(u32, u32)> {
        let mut fresh = self.fresh.0.load(Ordering::Relaxed);
        loop {
            // Acquire: pairs with the Release of `grow`.
            let left = self.limit.0.load(Ordering::Acquire).saturating_sub(fresh); // take_fresh
            let count = wanted.min(left).min(MAX_CHAIN);
            if count < least.max(1) {
                return None;
            }
            let taken = self.fresh.0.compare_exchange_weak(
                fresh,
                fresh + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Some((fresh, count)),
                Err(now) => fresh = now,
            }
        }
    }

    pub(super) fn unload_all(&self, cache: Own<'_>) {
        let own = core::iter::from_fn(|| cache.unload(&self.links, MAX_CHAIN));
        own.chain(cache.0.take_spare()).for_each(|chain| self.shared.0.push(&self.links, chain));
    }

    /// Nothing was found. From now on frees go to the shared part; the caller looks there once more.
    pub(super) fn declare_scarce(&self) {
        self.scarce.store(1, Ordering::Relaxed);
        // Pairs with the fence of `wake_if_scarce`: either the next look sees what was freed, or the freeing
        // side sees that somebody looked.
        fence(Ordering::SeqCst);
        for _ in 0..PATIENCE {
            // Acquire: pairs with the Release of whoever ends collecting; what it put back can be seen.
            if self.collecting.load(Ordering::Acquire) == 0 {
                break;
            }
            core::hint::spin_loop();
        }
    }
}
