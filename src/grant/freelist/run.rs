//! Consecutive references: from the fresh ones, or, when those are used up, picked out of all that are free.

use super::stack::{Chain, MAX_CHAIN};
use super::{Exhausted, Freelist, OwnedRef};
use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;
use crate::sync::primitive::Ordering;

/// Consecutive references that are out. To drop it is to lose them; it yields them one by one.
#[must_use = "references that are dropped are lost; free them"]
#[derive(Debug)]
pub struct Run {
    next: u32,
    end: u32,
    list: u32,
}

impl Run {
    /// The first that it still has.
    pub fn first(&self) -> GrantRef {
        GrantRef(self.next)
    }
}

impl Iterator for Run {
    type Item = OwnedRef;

    fn next(&mut self) -> Option<OwnedRef> {
        let number = self.next;
        (number < self.end).then(|| {
            self.next += 1;
            OwnedRef::new(self.list, number)
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Run {}

impl<V: Vcpu> Freelist<V> {
    /// Takes `count` consecutive references, 4096 at most, from those that were never out. One
    /// compare-and-exchange.
    ///
    /// # Errors
    ///
    /// [`Exhausted`], also for a `count` of 0. [`collect_run`](Self::collect_run) may still find some.
    pub fn alloc_run(&self, count: u32) -> Result<Run, Exhausted> {
        let taken = self.take_fresh(count, count);
        let (next, count) = taken.ok_or(Exhausted)?;
        Ok(self.run(next, count))
    }

    /// Takes `count` consecutive references out of all that are free. It looks at every reference, and has
    /// all free ones for that long: who finds the list empty meanwhile looks again.
    ///
    /// # Errors
    ///
    /// [`Exhausted`], also where there are so many free and no so many in a row, or they lie in the caches of
    /// other vCPUs.
    pub fn collect_run(&self, count: u32) -> Result<Run, Exhausted> {
        if count == 0 || count > MAX_CHAIN {
            return Err(Exhausted);
        }
        self.flush();
        self.collecting.fetch_add(1, Ordering::Relaxed);
        let found = self.pick(count);
        // Release: pairs with the Acquire of `declare_scarce`.
        self.collecting.fetch_sub(1, Ordering::Release);
        self.wake_if_scarce();
        found.map(|first| self.run(first, count)).ok_or(Exhausted)
    }

    fn run(&self, next: u32, count: u32) -> Run {
        self.count_out(None, count);
        Run { next, end: next + count, list: self.id }
    }

    /// Takes all, marks each as this caller's, looks for marks in a row, and puts the others back, in order.
    fn pick(&self, count: u32) -> Option<u32> {
        // Above 2^56: a length that no link has, and a number that no other collector has now.
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let mark = 0xfe << 56 | u64::from(ticket);
        let word = |number| self.links.word(number).load(Ordering::Relaxed);
        let take = |chain: Chain| {
            // All of it, so that nothing is left.
            let _ = chain.split(&self.links, u32::MAX, |number| {
                self.links.word(number).store(mark, Ordering::Relaxed);
            });
        };
        self.shared.0.take_all(&self.links).for_each(take);
        self.caches.iter().filter_map(super::Cache::take_spare).for_each(take);

        let fresh = self.fresh.0.load(Ordering::Relaxed);
        let mut row = 0;
        let found = (self.first..fresh).find(|&number| {
            row = if word(number) == mark { row + 1 } else { 0 };
            row == count
        });
        let found = found.map(|last| last + 1 - count);
        let run = found.map_or(0..0, |first| first..first + count);
        for number in run {
            self.links.word(number).store(0, Ordering::Relaxed);
        }
        // What a link overwrites was looked at before.
        let mut rest = (self.first..fresh).filter(|&number| word(number) == mark);
        while let Some(chain) = Chain::link(&self.links, rest.by_ref()) {
            self.shared.0.push(&self.links, chain);
        }
        found
    }
}
