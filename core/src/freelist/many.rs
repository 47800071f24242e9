//! Several references at once: any, or consecutive ones.

use alloc::vec::Vec;

use super::cache::Own;
use super::{Exhausted, Freelist, OwnedRef};
use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;

/// Allocated consecutive references. Iterating yields them one by one; dropping the range loses the rest.
#[must_use = "references that are dropped are lost; free them"]
#[derive(Debug)]
pub struct RefRange {
    next: u32,
    end: u32,
    list: u32,
}

impl RefRange {
    /// Returns the first reference not yet yielded.
    pub fn first(&self) -> GrantRef {
        GrantRef(self.next)
    }
}

impl Iterator for RefRange {
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

impl ExactSizeIterator for RefRange {}

impl<V: Vcpu> Freelist<V> {
    /// Allocates `count` references, or none, and appends them to `into`.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if fewer are free, or if `into` can't grow.
    pub fn alloc_many(&self, count: u32, into: &mut Vec<OwnedRef>) -> Result<(), Exhausted> {
        into.try_reserve(count as usize).map_err(|_| Exhausted)?;
        self.gather(count, into).or_else(|Exhausted| {
            self.declare_scarce();
            self.gather(count, into)
        })
    }

    fn gather(&self, count: u32, into: &mut Vec<OwnedRef>) -> Result<(), Exhausted> {
        let (start, cache) = (into.len(), self.cache());
        if let Some(cache) = cache {
            into.extend(cache.drain(count).map(|number| self.own(number)));
        }
        let mut missing = count - (into.len() - start) as u32;
        let mut word = cache.map_or(0, Own::hint);
        // First count the free references: a request that can't succeed must not take references away from other
        // vCPUs. Don't count for a single reference, or once some have been taken.
        while missing > 0 && (missing <= 1 || into.len() > start || self.free.has(missing)) {
            let before = into.len();
            match self.free.remove_some(word, missing, |number| into.push(self.own(number))) {
                Some(found) => word = found,
                None => break,
            }
            missing -= (into.len() - before) as u32;
        }
        if let Some(cache) = cache {
            cache.search_at(word);
        }
        if missing == 0 {
            return Ok(());
        }
        self.free_numbers(into.drain(start..).map(|reference| reference.number()));
        Err(Exhausted)
    }

    /// Frees references. References of another list stay in the vector.
    pub fn free_many(&self, references: &mut Vec<OwnedRef>) {
        let is_own = |reference: &OwnedRef| reference.list() == self.id;
        if references.iter().all(is_own) {
            self.free_numbers(references.drain(..).map(|reference| reference.number()));
        } else {
            let own = references.extract_if(.., |reference| is_own(reference));
            self.free_numbers(own.map(|reference| reference.number()));
        }
    }

    /// Frees references as the iterator yields them. `refuse` gets those of another list.
    pub fn free_all(&self, references: impl Iterator<Item = OwnedRef>, mut refuse: impl FnMut(OwnedRef)) {
        self.free_numbers(references.filter_map(|reference| {
            if reference.list() == self.id {
                return Some(reference.number());
            }
            refuse(reference);
            None
        }));
    }

    fn free_numbers(&self, mut numbers: impl Iterator<Item = u32>) {
        let Some(cache) = self.cache().filter(|_| !self.is_scarce()) else {
            self.free.insert(numbers);
            return self.flush(); // and wakes
        };
        cache.push_all(&mut numbers);
        if let Some(first) = numbers.next() {
            cache.search_at(first / u64::BITS);
            self.free.insert(core::iter::once(first).chain(numbers));
            self.wake_if_scarce();
        }
    }

    /// Allocates the lowest free run of `count` consecutive references.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if no run of `count` references is free, or if other vCPUs have cached a part of it.
    pub fn alloc_run(&self, count: u32) -> Result<RefRange, Exhausted> {
        let run = self.free.remove_run(count).or_else(|| {
            self.flush();
            self.free.remove_run(count)
        });
        // A search that lost part of a run to another vCPU has put the rest back. Waiters may have missed these
        // references meanwhile.
        self.wake_if_scarce(); // run
        let next = run.ok_or(Exhausted)?;
        Ok(RefRange { next, end: next + count, list: self.id })
    }

    /// Returns the length of the run of free references right below the end of the table.
    pub fn free_at_the_end(&self) -> u32 {
        self.flush();
        self.free.count_below(self.limit())
    }
}

#[cfg(test)]
mod tests {
    use crate::abi::grant::GrantRef;
    use crate::freelist::Freelist;
    use crate::sync::HostThread;
    use std::vec::Vec;

    #[test]
    fn references_of_another_list_are_not_freed_here() {
        let list = || {
            let list = Freelist::new(HostThread, GrantRef::FIRST_FREE, 64).unwrap();
            list.grow(12).unwrap();
            list
        };
        let (one, other) = (list(), list());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        one.alloc_many(4, &mut ours).unwrap();
        other.alloc_many(4, &mut theirs).unwrap();
        let mut refused = Vec::new();
        one.free_all(ours.drain(..2).chain(theirs.drain(..)), |reference| refused.push(reference));
        // Two of the four references of `one` are still allocated, and no others.
        assert_eq!((refused.len(), one.stats().free, one.stats().in_use), (4, 2, 2));
        let mut again = Vec::new();
        assert!(one.alloc_many(3, &mut again).is_err());
        other.free_many(&mut refused);
        assert_eq!((refused.len(), other.stats().free), (0, 4));
    }
}
