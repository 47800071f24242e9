//! Many references at once, with as few compare-and-exchanges.

use super::cache::BATCH;
use super::stack::{Builder, Chain, MAX_CHAIN};
use super::{Exhausted, Freelist, OwnedRef};
use crate::sync::Vcpu;
use crate::sync::primitive::Ordering;

impl<V: Vcpu> Freelist<V> {
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
}
