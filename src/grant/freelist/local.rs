//! The list in the hands of one vCPU: the fast path, and what it falls back to.

use core::fmt;
use core::marker::PhantomData;

use super::cache::{BATCH, Own};
use super::stack::Chain;
use super::{Exhausted, Freelist, OwnedRef};
use crate::sync::Vcpu;
use crate::sync::primitive::Ordering;

/// A [`Freelist`] in the hands of one vCPU. It stays there: it is neither `Send` nor `Sync`.
pub struct Local<'l, V> {
    list: &'l Freelist<V>,
    cache: Option<Own<'l>>,
    _of_this_vcpu: PhantomData<*const ()>,
}

impl<'l, V: Vcpu> Local<'l, V> {
    #[inline]
    pub(super) fn new(list: &'l Freelist<V>) -> Self {
        Self { list, cache: list.cache(), _of_this_vcpu: PhantomData }
    }

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
