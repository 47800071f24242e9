//! The free references: a lock-free set in two layers, safe from any context.
//!
//! ```text
//!   vCPU 0: cache ──┐
//!   vCPU 1: cache ──┼── a bit for each reference, in words that all vCPUs share (`sync::bits`)
//!   vCPU 2: cache ──┘
//! ```
//!
//! - A vCPU allocates and frees in its own cache, with plain loads and stores. An interrupt handler uses the shared
//!   words instead, because it may have interrupted code that is using the cache. So [`Vcpu`] returns no number in a
//!   handler.
//! - A cache exchanges up to 32 references at once with the shared words, by one atomic AND or OR per word. All
//!   caches together hold at most a quarter of the references. A vCPU that halts gives its own back
//!   ([`flush`](Freelist::flush)).
//! - [`grow`](Freelist::grow) adds references, and memory for their bits.
//!
//! An allocated reference is an [`OwnedRef`]. It can't be copied or forged, so it can't be freed twice, and it knows
//! its list. An allocated reference without an owner is [parked](Freelist::park).

mod cache;
mod many;
mod reference;
mod waiters;

pub use crate::sync::OutOfMemory;
pub use many::RefRange;
pub use reference::OwnedRef;
pub use waiters::MAX_WAITERS;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::bits::Bits;
use cache::{Cache, Own, SLOTS};
use waiters::Waiters;

/// No reference is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

/// The number of references in each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// References that can be allocated in all, at the table's current size.
    pub total: u32,
    /// Allocated references.
    pub in_use: u32,
    /// Free references.
    pub free: u32,
    /// Free references in the caches of vCPUs.
    pub cached: u32,
}

/// A list of free references.
pub struct Freelist<V> {
    vcpus: V,
    /// Distinguishes this list from others.
    id: u32,
    first: u32,
    /// The end of the existing references.
    limit: AtomicU32,
    /// Set after a failed allocation: frees then bypass the caches, so that waiters see them.
    scarce: AtomicU32,
    free: Bits,
    parked: Bits,
    /// Where `unpark` searches next.
    next_parked: AtomicU32,
    caches: Box<[Cache]>,
    waiters: Waiters,
}

impl<V: Vcpu> Freelist<V> {
    /// Creates a list of references from `first` on, with a cache for each of the first `caches` vCPUs. It is empty
    /// until it [grows](Self::grow). Reference 0 is never allocated, whatever `first` is.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if the caches can't be allocated.
    pub fn new(vcpus: V, first: GrantRef, caches: usize) -> Result<Self, OutOfMemory> {
        // `core`'s atomic, not the one of `sync::atomic`: the loom models need distinct numbers too, but don't model
        // this counter.
        static NEXT_ID: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
        let mut all = Vec::new();
        all.try_reserve_exact(caches).map_err(|_| OutOfMemory)?;
        all.extend((0..caches as u32).map(Cache::new));
        let first = first.0.max(1);
        Ok(Self {
            vcpus,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            first,
            limit: AtomicU32::new(first),
            scarce: AtomicU32::new(0),
            free: Bits::new(),
            parked: Bits::new(),
            next_parked: AtomicU32::new(0),
            caches: all.into_boxed_slice(),
            waiters: Waiters::new(),
        })
    }

    /// Allocates the memory for a later [`grow`](Self::grow) to this limit, so that the later call can't fail.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if memory runs out, or for more than 2^25 references.
    pub fn make_room(&self, limit: u32) -> Result<(), OutOfMemory> {
        self.free.make_room(limit)?;
        self.parked.make_room(limit)
    }

    /// Adds all missing references below `limit`. The list never shrinks.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], as in [`make_room`](Self::make_room). No reference is added then.
    pub fn grow(&self, limit: u32) -> Result<(), OutOfMemory> {
        self.make_room(limit)?;
        // Relaxed: of several concurrent callers, each adds the references from the limit it found. It orders nothing
        // else: inserting a bit is a Release, and taking it is an Acquire.
        let before = self.limit.fetch_max(limit, Ordering::Relaxed);
        let total = limit.max(before) - self.first;
        let share = total / (4 * self.caches.len().max(1) as u32);
        self.caches.iter().for_each(|cache| cache.limit(share));
        self.free.insert(before..limit);
        self.wake_if_scarce(); // grow
        Ok(())
    }

    /// Allocates a reference.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if no reference is free. References cached by other vCPUs, at most 64 each, don't count; see
    /// [`flush`](Self::flush).
    #[inline]
    pub fn alloc(&self) -> Result<OwnedRef, Exhausted> {
        let cache = self.cache();
        match cache.and_then(Own::pop) {
            Some(number) => Ok(self.own(number)),
            None => self.alloc_shared(cache),
        }
    }

    #[cold]
    fn alloc_shared(&self, cache: Option<Own<'_>>) -> Result<OwnedRef, Exhausted> {
        let again = || {
            self.declare_scarce();
            self.refill(cache)
        };
        // In a known shortage, skip the first search: the one after `declare_scarce` suffices.
        let first = if self.is_scarce() { None } else { self.refill(cache) };
        first.or_else(again).map(|number| self.own(number)).ok_or(Exhausted)
    }

    /// Takes one reference out of the shared words, and moves a few more into the cache.
    fn refill(&self, cache: Option<Own<'_>>) -> Option<u32> {
        let Some(cache) = cache else { return self.free.remove(0) };
        let max = if self.is_scarce() { 1 } else { cache.half().max(1) };
        let mut first = None;
        let word = self.free.remove_some(cache.hint(), max, |number| match first {
            None => first = Some(number),
            // This can't fail: the cache is empty, and it adds at most half the cache's capacity.
            Some(_) => drop(cache.push(number)),
        })?;
        cache.search_at(word);
        first
    }

    /// Frees a reference. Its entry must no longer grant anything.
    ///
    /// # Errors
    ///
    /// The reference itself, if it belongs to another list.
    #[inline]
    pub fn free(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        let (number, cache) = (reference.number(), self.cache());
        if self.is_scarce() || !cache.is_some_and(|cache| cache.push(number)) {
            self.free_shared(number, cache);
        }
        Ok(())
    }

    #[cold]
    fn free_shared(&self, number: u32, cache: Option<Own<'_>>) {
        let mut shared = Some(number);
        if let Some(cache) = cache {
            let count = if self.is_scarce() { u32::MAX } else { cache.half() };
            cache.search_at(number / u64::BITS);
            self.free.insert(cache.drain(count));
            shared = shared.filter(|&number| count == u32::MAX || !cache.push(number));
        }
        self.free.insert(shared.into_iter());
        self.wake_if_scarce(); // free
    }

    /// Gives the references cached by this vCPU back to the shared words, for other vCPUs to allocate. A vCPU calls
    /// it before it halts.
    pub fn flush(&self) {
        if let Some(cache) = self.cache() {
            self.free.insert(cache.drain(SLOTS as u32));
        }
        self.wake_if_scarce(); // flush
    }

    /// Leaves an allocated reference in the list's keeping, until [`unpark`](Self::unpark).
    ///
    /// # Errors
    ///
    /// The reference itself, if it belongs to another list.
    pub fn park(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        self.parked.insert(core::iter::once(reference.number()));
        Ok(())
    }

    /// Takes a parked reference, or returns `None` if there is none. Successive calls go through the parked references
    /// in order, so a caller that polls them reaches each one.
    pub fn unpark(&self) -> Option<OwnedRef> {
        // Relaxed: the start of the search is a hint. The bit itself hands the reference over.
        let number = self.parked.remove(self.next_parked.load(Ordering::Relaxed))?;
        self.next_parked.store(number + 1, Ordering::Relaxed);
        Some(self.own(number))
    }

    /// Returns the parked references. The set may change during the iteration.
    pub fn parked(&self) -> impl Iterator<Item = GrantRef> {
        self.parked.iter().map(GrantRef)
    }

    /// Returns the end of the existing references.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Counts the references in each state. Exact while no vCPU allocates or frees; otherwise a snapshot.
    pub fn stats(&self) -> Stats {
        let total = self.limit() - self.first;
        let cached = self.caches.iter().map(Cache::held).sum::<u32>();
        let free = (self.free.count() + cached).min(total);
        Stats { total, in_use: total - free, free, cached }
    }

    #[inline]
    fn own(&self, number: u32) -> OwnedRef {
        OwnedRef::new(self.id, number)
    }

    /// Returns the calling vCPU's cache, or `None` in an interrupt handler.
    #[inline]
    fn cache(&self) -> Option<Own<'_>> {
        self.caches.get(self.vcpus.index()).map(Own)
    }
}

impl<V> fmt::Debug for Freelist<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freelist").field("first", &self.first).finish_non_exhaustive()
    }
}
