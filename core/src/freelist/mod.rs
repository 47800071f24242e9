//! Which references are free: a lock-free set in two layers, safe from any context.
//!
//! ```text
//!   vCPU 0: cache ──┐
//!   vCPU 1: cache ──┼── a bit for each reference, in words that all vCPUs share (`sync::bits`)
//!   vCPU 2: cache ──┘
//! ```
//!
//! - A vCPU allocates and frees in its own cache, with plain loads and stores. Interrupt handlers go to the shared
//!   words: they have no vCPU's number ([`Vcpu`]).
//! - Caches exchange up to 32 references with the shared words by one atomic AND or OR each. All caches together hold
//!   at most a quarter of the references. A vCPU that halts gives its own back ([`flush`](Freelist::flush)).
//! - [`grow`](Freelist::grow) adds references, and memory for their bits.
//!
//! A reference that is out is an [`OwnedRef`]: it can't be copied or made up, so it can't be freed twice, and it knows
//! its list. One that is out and has no owner is [parked](Freelist::park).

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
use crate::sync::bits::Bits;
use crate::sync::primitive::{AtomicU32, Ordering};
use cache::{Cache, Own, SLOTS};
use waiters::Waiters;

/// No reference is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

/// How many references there are, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// References that may be handed out, by the size that the table has now.
    pub total: u32,
    /// Those that are out.
    pub in_use: u32,
    /// Those that aren't.
    pub free: u32,
    /// Of the free ones, those in the caches of vCPUs.
    pub cached: u32,
}

/// The list.
pub struct Freelist<V> {
    vcpus: V,
    /// Tells this list from others.
    id: u32,
    first: u32,
    /// The end of the references that there are.
    limit: AtomicU32,
    /// An allocation found nothing: the next free goes past the caches.
    scarce: AtomicU32,
    free: Bits,
    parked: Bits,
    /// Where `unpark` looks next.
    next_parked: AtomicU32,
    caches: Box<[Cache]>,
    waiters: Waiters,
}

impl<V: Vcpu> Freelist<V> {
    /// A list of references from `first` on, with a cache for each of the first `caches` vCPUs. It is empty until it
    /// [grows](Self::grow). Reference 0 is never handed out, whatever `first` is.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] for the caches.
    pub fn new(vcpus: V, first: GrantRef, caches: usize) -> Result<Self, OutOfMemory> {
        // Not of `primitive`: lists are told apart in models too, but it isn't what they model.
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

    /// Allocates what [`grow`](Self::grow) to this limit needs, so that it can't fail.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], also for more than 2^25 references.
    pub fn make_room(&self, limit: u32) -> Result<(), OutOfMemory> {
        self.free.make_room(limit)?;
        self.parked.make_room(limit)
    }

    /// Adds all references below `limit` that it hasn't yet. It never shrinks.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], and nothing is added.
    pub fn grow(&self, limit: u32) -> Result<(), OutOfMemory> {
        self.make_room(limit)?;
        // Relaxed: of several that grow at once, each adds those from the limit that it found on. The words hand over
        // what was done before.
        let before = self.limit.fetch_max(limit, Ordering::Relaxed);
        let total = limit.max(before) - self.first;
        let share = total / (4 * self.caches.len().max(1) as u32);
        self.caches.iter().for_each(|cache| cache.limit(share));
        self.free.insert(before..limit);
        self.wake_if_scarce(); // grow
        Ok(())
    }

    /// Takes a free reference.
    ///
    /// # Errors
    ///
    /// [`Exhausted`]. References that other vCPUs have cached, at most 64 each, don't count; see [`flush`](Self::flush).
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
        // While references are short, the first look is the second one of a shortage that is known.
        let first = if self.is_scarce() { None } else { self.refill(cache) };
        first.or_else(again).map(|number| self.own(number)).ok_or(Exhausted)
    }

    /// Takes one out of the shared words, and a few more into the cache.
    fn refill(&self, cache: Option<Own<'_>>) -> Option<u32> {
        let Some(cache) = cache else { return self.free.remove(0) };
        let most = if self.is_scarce() { 1 } else { cache.half().max(1) };
        let mut first = None;
        let word = self.free.remove_some(cache.hint(), most, |number| match first {
            None => first = Some(number),
            Some(_) => drop(cache.push(number)), // no more than half of its room
        })?;
        cache.search_at(word);
        first
    }

    /// Gives a reference back. Its entry must grant nothing any more.
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
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

    /// Gives back what this vCPU has cached, so that others can have it. A vCPU does so before it halts.
    pub fn flush(&self) {
        if let Some(cache) = self.cache() {
            self.free.insert(cache.drain(SLOTS as u32));
        }
        self.wake_if_scarce(); // flush
    }

    /// Leaves a reference that is out to the list, which only keeps it for [`unpark`](Self::unpark).
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
    pub fn park(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        self.parked.insert(core::iter::once(reference.number()));
        Ok(())
    }

    /// Takes a parked reference. They come in turns, so that each is looked at.
    pub fn unpark(&self) -> Option<OwnedRef> {
        // Relaxed: where to begin is a hint. The bit itself hands the reference over.
        let number = self.parked.remove(self.next_parked.load(Ordering::Relaxed))?;
        self.next_parked.store(number + 1, Ordering::Relaxed);
        Some(self.own(number))
    }

    /// The references that are parked, as it is while they are read.
    pub fn parked(&self) -> impl Iterator<Item = GrantRef> {
        self.parked.iter().map(GrantRef)
    }

    /// The end of the references that there are.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many references are where. Exact while nobody allocates or frees; a snapshot otherwise.
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

    /// The cache of the calling vCPU; none in an interrupt handler.
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
