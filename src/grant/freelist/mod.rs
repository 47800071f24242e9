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

mod cache;
mod lot;
mod run;
mod stack;
mod waiters;

pub use lot::Lot;
pub use run::Run;
pub use waiters::MAX_WAITERS;

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;
use crate::sync::primitive::{AtomicU32, Ordering, fence};
use cache::{BATCH, Cache, Own};
use stack::{Builder, Chain, Links, MAX_CHAIN, MAX_REFS, Stack};
use waiters::Waiters;

/// A reference that is out, and the right to use its entry. To drop it is to lose the reference.
#[must_use = "a reference that is dropped is lost; free it"]
pub struct OwnedRef(
    // The list in the high half, and the number, which isn't 0. One word, since it is written and read back as
    // one.
    NonZeroU64,
);

impl OwnedRef {
    #[inline]
    fn new(list: u32, number: u32) -> Self {
        // No list hands out reference 0; to lose a number that can't be is better than a panic.
        Self(NonZeroU64::new(u64::from(list) << 32 | u64::from(number)).unwrap_or(NonZeroU64::MAX))
    }

    #[inline]
    fn list(&self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    #[inline]
    fn number(&self) -> u32 {
        self.0.get() as u32
    }

    /// Its number.
    #[inline]
    pub fn get(&self) -> GrantRef {
        GrantRef(self.number())
    }
}

impl fmt::Debug for OwnedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedRef({})", self.number())
    }
}

/// No reference is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted;

/// Why a number is no reference that can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdoptError {
    /// The toolstack owns it.
    Reserved(GrantRef),
    /// The list has no such reference.
    OutOfRange(GrantRef),
    /// It wasn't leaked, or was taken back before: it is free, or it has an owner.
    NotLeaked(GrantRef),
}

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

/// The word of a leaked reference: no link has this value.
const LEAKED: u64 = u64::MAX;

/// How often to look again while somebody collects a run.
const PATIENCE: u32 = if cfg!(granite_loom) { 1 } else { 20_000 };

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
        Local { list: self, cache: self.cache(), _of_this_vcpu: PhantomData }
    }

    /// Takes `count` references, or none, and gives each to `take`. What was freed as a batch of that size
    /// comes back with one compare-and-exchange.
    ///
    /// # Errors
    ///
    /// [`Exhausted`], as [`alloc`](Self::alloc).
    #[inline]
    pub fn alloc_batch(&self, count: u32, mut take: impl FnMut(OwnedRef)) -> Result<(), Exhausted> {
        let (cache, id) = (self.cache(), self.id);
        if let Some(cache) = cache.filter(|_| count <= BATCH) {
            while cache.filled() < count && self.refill(cache) {}
            if cache.filled() >= count {
                // Taken out before any is given away: `take` may come back here.
                let mut numbers = [0; BATCH as usize];
                let numbers = cache.pop_many(&mut numbers[..count as usize]);
                numbers.iter().for_each(|&number| take(OwnedRef::new(id, number)));
                return Ok(());
            }
        }
        let mut gathered = self.gather(count).or_else(|Exhausted| {
            cache.into_iter().for_each(|cache| self.unload_all(cache));
            self.declare_scarce();
            self.gather(count)
        })?;
        while let Some(chain) = gathered {
            gathered = self.links.gathered_next(&chain);
            chain.split(&self.links, u32::MAX, |number| take(OwnedRef::new(id, number)));
        }
        self.count_out(cache, count);
        Ok(())
    }

    /// Gives references back, with one compare-and-exchange for up to 4096.
    ///
    /// # Errors
    ///
    /// How many were of another list; they are lost to this one, and the others are freed.
    #[inline]
    pub fn free_batch(&self, references: impl IntoIterator<Item = OwnedRef>) -> Result<(), usize> {
        let (mut foreign, id) = (0, self.id);
        let mut numbers = references.into_iter().filter_map(|reference| {
            let own = reference.list() == id;
            foreign += usize::from(!own);
            own.then_some(reference.number())
        });
        let cache = self.cache();
        if let Some(cache) = cache {
            if self.scarce.load(Ordering::Relaxed) != 0 {
                self.unload_all(cache);
            } else if numbers.size_hint().1.is_some_and(|most| most <= BATCH as usize) {
                // Read out before any is put away: the iterator may come back here.
                let mut buffer = [0; BATCH as usize];
                let mut filled = 0;
                numbers.by_ref().zip(&mut buffer).for_each(|(number, place)| {
                    *place = number;
                    filled += 1;
                });
                let unkept = cache.push_many(&buffer[..filled]);
                self.free_chain(Some(cache), Chain::link(&self.links, unkept.iter().copied()));
            }
        }
        let (mut builder, links) = (Builder::default(), &self.links);
        numbers.for_each(|number| {
            if builder.add(links, number) == MAX_CHAIN {
                self.free_chain(cache, core::mem::take(&mut builder).finish(&self.links));
            }
        });
        self.free_chain(cache, builder.finish(&self.links));
        self.wake_if_scarce();
        if foreign == 0 { Ok(()) } else { Err(foreign) }
    }

    /// Gives back what this vCPU has cached, so that others can have it.
    pub fn flush(&self) {
        let Some(cache) = self.cache() else { return };
        self.unload_all(cache);
        self.wake_if_scarce();
    }

    /// Makes a plain number of a reference, for code that keeps numbers.
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
    pub fn leak(&self, reference: OwnedRef) -> Result<GrantRef, OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        // Release: pairs with the Acquire of `adopt`, as a free does with the next allocation.
        self.links.word(reference.number()).store(LEAKED, Ordering::Release);
        Ok(reference.get())
    }

    /// Takes a leaked reference back.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] for every number that isn't one of this list's leaked references, also for one that was
    /// taken back before.
    pub fn adopt(&self, number: GrantRef) -> Result<OwnedRef, AdoptError> {
        match number.0 {
            reserved if reserved < self.first => return Err(AdoptError::Reserved(number)),
            beyond if beyond >= self.limit.0.load(Ordering::Relaxed) => {
                return Err(AdoptError::OutOfRange(number));
            }
            _ => {}
        }
        // Acquire: pairs with the Release of `leak`. Of two that adopt one number, one gets it.
        let word = self.links.word(number.0);
        match word.compare_exchange(LEAKED, 0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(self.own(number.0)),
            Err(_) => Err(AdoptError::NotLeaked(number)),
        }
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

    #[cold]
    fn alloc_bypassing(&self) -> Result<OwnedRef, Exhausted> {
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

    fn free_chain(&self, cache: Option<Own<'_>>, chain: Option<Chain>) {
        if let Some(chain) = chain {
            self.count_in(cache, chain.len);
            self.shared.0.push(&self.links, chain);
        }
    }

    /// Fills a cache that is short of references; `false` if there are none to be had.
    fn refill(&self, cache: Own<'_>) -> bool {
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
    fn take_chain(&self, wanted: u32) -> Option<(Chain, bool)> {
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

    fn fresh_left(&self) -> u32 {
        self.limit.0.load(Ordering::Relaxed).saturating_sub(self.fresh.0.load(Ordering::Relaxed))
    }

    /// Takes up to `wanted` references that were never out, or none if there are fewer than `least`.
    fn take_fresh(&self, wanted: u32, least: u32) -> Option<(u32, u32)> {
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

    /// Chains of `count` references together, or none: a list of them, linked as in a stack.
    fn gather(&self, count: u32) -> Result<Option<Chain>, Exhausted> {
        let mut gathered = None;
        let mut missing = count;
        while missing > 0 {
            let Some((chain, _)) = self.take_chain(missing) else {
                self.put_back(gathered);
                return Err(Exhausted);
            };
            let chain = if chain.len > missing {
                let kept = Chain { first: chain.first, len: missing };
                if let Some(rest) = chain.split(&self.links, missing, |_| {}) {
                    self.shared.0.push(&self.links, rest);
                }
                kept
            } else {
                chain
            };
            missing -= chain.len;
            gathered = Some(self.links.gather(chain, gathered));
        }
        Ok(gathered)
    }

    fn put_back(&self, mut gathered: Option<Chain>) {
        while let Some(chain) = gathered {
            gathered = self.links.gathered_next(&chain);
            self.shared.0.push(&self.links, chain);
        }
    }

    fn unload_all(&self, cache: Own<'_>) {
        let own = core::iter::from_fn(|| cache.unload(&self.links, MAX_CHAIN));
        own.chain(cache.0.take_spare()).for_each(|chain| self.shared.0.push(&self.links, chain));
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

    /// Nothing was found. From now on frees go to the shared part; the caller looks there once more.
    fn declare_scarce(&self) {
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

/// A [`Freelist`] in the hands of one vCPU. It stays there: it is neither `Send` nor `Sync`.
pub struct Local<'l, V> {
    list: &'l Freelist<V>,
    cache: Option<Own<'l>>,
    _of_this_vcpu: PhantomData<*const ()>,
}

impl<'l, V: Vcpu> Local<'l, V> {
    /// The list.
    pub fn list(&self) -> &'l Freelist<V> {
        self.list
    }

    /// [`Freelist::alloc`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn alloc(&self) -> Result<OwnedRef, Exhausted> {
        match self.cache.and_then(Own::pop_hot) {
            Some(hot) => Ok(OwnedRef(hot)),
            None => self.alloc_slowly(),
        }
    }

    /// [`Freelist::free`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn free(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        if reference.list() == self.list.id
            && self.list.scarce.load(Ordering::Relaxed) == 0
            && self.cache.is_some_and(|cache| cache.push_hot(reference.0))
        {
            return Ok(());
        }
        self.free_slowly(reference)
    }

    #[inline(never)]
    fn alloc_slowly(&self) -> Result<OwnedRef, Exhausted> {
        let list = self.list;
        let Some(cache) = self.cache else { return list.alloc_bypassing() };
        if cache.filled() == 0 && !list.refill(cache) {
            list.declare_scarce();
            list.refill(cache);
        }
        cache.pop().map(|number| list.own(number)).ok_or(Exhausted)
    }

    #[inline(never)]
    fn free_slowly(&self, reference: OwnedRef) -> Result<(), OwnedRef> {
        let list = self.list;
        if reference.list() != list.id {
            return Err(reference);
        }
        match self.cache.filter(|_| list.scarce.load(Ordering::Relaxed) == 0) {
            // What a cache keeps, nobody can wait for.
            Some(cache) if cache.push(reference.number()) => return Ok(()),
            Some(cache) => {
                // Full: a batch becomes the spare one, and what was spare goes to the shared stack.
                if let Some(batch) = cache.unload(&list.links, BATCH)
                    && let Some(spare) = cache.put_spare(batch)
                {
                    list.shared.0.push(&list.links, spare);
                }
                cache.push(reference.number());
            }
            None => {
                if let Some(cache) = self.cache {
                    list.unload_all(cache);
                }
                let chain = Chain::link(&list.links, core::iter::once(reference.number()));
                list.free_chain(self.cache, chain);
            }
        }
        list.wake_if_scarce();
        Ok(())
    }
}

impl<V> fmt::Debug for Local<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("list", self.list).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Freelist<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freelist").field("first", &self.first).finish_non_exhaustive()
    }
}
