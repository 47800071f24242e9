//! Which references are free: a lock-free list in two layers, safe from any context.
//!
//! ```text
//!   vCPU 0: cache ──┐ batches              fresh: never handed out, taken from the front
//!   vCPU 1: cache ──┼──────── shared stack of chains
//!   vCPU 2: cache ──┘
//! ```
//!
//! - A vCPU allocates and frees in its own cache, with plain loads and stores. Interrupt handlers
//!   go to the shared part: they have no vCPU's number ([`Vcpu`]).
//! - Caches exchange whole batches with the shared stack, one compare-and-exchange each, and keep
//!   one more batch where other vCPUs can take it when all else is empty.
//! - References that were never handed out are a range, `fresh..limit`; growth moves the limit.
//! - Nothing is allocated after set-up.
//!
//! A reference that is out is an [`OwnedRef`]: it can't be copied or made up, so it can't be freed twice,
//! and it knows its list. [`leak`](Freelist::leak) makes a plain number of it for code that keeps numbers,
//! and [`adopt`](Freelist::adopt) takes exactly those back.

mod batch;
mod cache;
mod leak;
mod local;
mod lot;
mod reference;
mod run;
mod stack;
mod supply;
mod waiters;

pub use leak::AdoptError;
pub use local::Local;
pub use lot::Lot;
pub use reference::OwnedRef;
pub use run::Run;
pub use waiters::MAX_WAITERS;

use alloc::boxed::Box;
use core::fmt;

use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;
use crate::sync::primitive::{AtomicU32, Ordering};
use cache::{Cache, Own};
use stack::{Chain, Links, MAX_REFS, Stack};
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
    /// References from here to `limit` were never handed out.
    fresh: Line<AtomicU32>,
    /// The end of what the table has room for.
    limit: Line<AtomicU32>,
    /// Somebody found nothing. Frees go past the caches, so that all see them.
    scarce: AtomicU32,
    shared: Line<Stack>,
    /// References out by other ways than the caches, modulo 2^32.
    bypassed: AtomicU32,
    /// How many are collecting a run: they have all free references, for a moment.
    collecting: AtomicU32,
    tickets: AtomicU32,
    caches: Box<[Cache]>,
    links: Links,
    waiters: Waiters,
}

/// A value with its cache line to itself.
#[repr(align(128))]
struct Line<T>(T);

impl<V: Vcpu> Freelist<V> {
    /// A list of references from `first` on, none of which is handed out until [`grow`](Self::grow) says how
    /// many there are. There will be `max` at most, the reserved ones below `first` counted, and `vcpus` of
    /// `caches` numbers at once; more vCPUs than that share what is shared.
    ///
    /// Reference 0 is never handed out, whatever `first` is.
    pub fn new(vcpus: V, first: GrantRef, max: u32, caches: usize) -> Self {
        // Not of `primitive`: lists are told apart in models too, but it isn't what they model.
        static NEXT_ID: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
        let max = max.clamp(1, MAX_REFS);
        let first = first.0.clamp(1, max);
        Self {
            vcpus,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            first,
            fresh: Line(AtomicU32::new(first)),
            limit: Line(AtomicU32::new(first)),
            scarce: AtomicU32::new(0),
            shared: Line(Stack::new()),
            bypassed: AtomicU32::new(0),
            collecting: AtomicU32::new(0),
            tickets: AtomicU32::new(0),
            caches: (0..caches).map(|_| Cache::new()).collect(),
            links: Links::new(max),
            waiters: Waiters::new(),
        }
    }

    /// Says that references below `limit` exist from now on. It never shrinks.
    pub fn grow(&self, limit: u32) {
        // Release: pairs with the Acquire of `take_fresh`: what was done to make the entries is seen by
        // whoever gets their references.
        self.limit.0.fetch_max(limit.min(self.links.count()), Ordering::Release); // grow
        self.wake_if_scarce();
    }

    /// Takes a free reference.
    ///
    /// # Errors
    ///
    /// [`Exhausted`]. References that idle vCPUs have cached, at most 64 each, don't count; see
    /// [`flush`](Self::flush).
    #[inline]
    pub fn alloc(&self) -> Result<OwnedRef, Exhausted> {
        self.local().alloc()
    }

    /// Gives a reference back. Its entry must grant nothing any more.
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
    #[inline]
    pub fn free(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        self.local().free(reference)
    }

    /// The list as the calling vCPU has it, for code that allocates and frees over and over: which vCPU it is
    /// is asked once.
    #[inline]
    pub fn local(&self) -> Local<'_, V> {
        Local::new(self)
    }

    /// Gives back what this vCPU has cached, so that others can have it.
    pub fn flush(&self) {
        let Some(cache) = self.cache() else { return };
        self.unload_all(cache);
        self.wake_if_scarce();
    }

    /// How many references are where. Exact while nobody allocates or frees; a snapshot otherwise.
    pub fn stats(&self) -> Stats {
        let total = self.limit.0.load(Ordering::Relaxed) - self.first;
        let out =
            self.caches.iter().map(Cache::out).fold(self.bypassed.load(Ordering::Relaxed), u32::wrapping_add);
        let in_use = if out > total { 0 } else { out }; // a snapshot may be torn
        let cached = self.caches.iter().map(Cache::held).sum();
        Stats { total, in_use, free: total - in_use, cached }
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

    fn free_chain(&self, cache: Option<Own<'_>>, chain: Option<Chain>) {
        if let Some(chain) = chain {
            self.count_in(cache, chain.len);
            self.shared.0.push(&self.links, chain);
        }
    }

    #[inline]
    fn count_out(&self, cache: Option<Own<'_>>, count: u32) {
        match cache {
            Some(cache) => cache.import(count),
            None => drop(self.bypassed.fetch_add(count, Ordering::Relaxed)),
        }
    }

    #[inline]
    fn count_in(&self, cache: Option<Own<'_>>, count: u32) {
        match cache {
            Some(cache) => cache.export(count),
            None => drop(self.bypassed.fetch_sub(count, Ordering::Relaxed)),
        }
    }
}

impl<V> fmt::Debug for Freelist<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freelist").field("first", &self.first).finish_non_exhaustive()
    }
}
