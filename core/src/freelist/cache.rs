//! A vCPU's own references. Only code of that vCPU uses them, outside of interrupt handlers, so no access needs a
//! locked instruction.

use crate::sync::atomic::{AtomicU32, Ordering};

/// Maximum number of references in a cache. Loom models use a small one.
pub const SLOTS: usize = if cfg!(granite_loom) { 2 } else { 64 };

/// One vCPU's references.
#[repr(C, align(512))] // a power of two, so that its address takes a shift and an addition, but no multiplication
pub struct Cache {
    filled: AtomicU32,
    /// How many it may hold: less than [`SLOTS`] while the table is small.
    max: AtomicU32,
    /// The word of the shared set where this vCPU searches first.
    hint: AtomicU32,
    slots: [AtomicU32; SLOTS],
}

impl Cache {
    /// Creates a vCPU's cache. Each cache begins its search in other cache lines of the shared words, to keep vCPUs
    /// apart.
    pub fn new(vcpu: u32) -> Self {
        const APART: u32 = 16;
        Self {
            filled: AtomicU32::new(0),
            max: AtomicU32::new(0),
            hint: AtomicU32::new(vcpu.wrapping_mul(APART)),
            slots: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Returns the number of references held. Exact while the cache's vCPU leaves it alone.
    pub fn held(&self) -> u32 {
        self.filled.load(Ordering::Relaxed)
    }

    #[inline]
    fn slot(&self, index: u32) -> &AtomicU32 {
        // `index` is below SLOTS: `limit` caps the number held.
        &self.slots[index as usize % SLOTS]
    }

    /// Sets how many references it may hold.
    pub fn limit(&self, max: u32) {
        self.max.store(max.min(SLOTS as u32), Ordering::Relaxed);
    }
}

/// A cache, used by its own vCPU.
#[derive(Clone, Copy)]
pub struct Own<'c>(pub &'c Cache);

impl Own<'_> {
    /// Takes the reference added last.
    #[inline]
    pub fn pop(self) -> Option<u32> {
        let left = self.0.held().checked_sub(1)?;
        let reference = self.0.slot(left).load(Ordering::Relaxed);
        self.0.filled.store(left, Ordering::Relaxed);
        Some(reference)
    }

    /// Adds a reference. Returns `false` if the cache is full.
    #[inline]
    pub fn push(self, reference: u32) -> bool {
        let held = self.0.held();
        let has_room = held < self.0.max.load(Ordering::Relaxed);
        if has_room {
            self.0.slot(held).store(reference, Ordering::Relaxed);
            self.0.filled.store(held + 1, Ordering::Relaxed);
        }
        has_room
    }

    /// Returns half of its capacity, the number of references moved at once. After such a move the cache is half full,
    /// so a vCPU that alternately allocates and frees doesn't go to the shared words each time.
    pub fn half(self) -> u32 {
        self.0.max.load(Ordering::Relaxed).div_ceil(2)
    }

    /// Takes out up to `count` references, the last added.
    pub fn drain(self, count: u32) -> impl ExactSizeIterator<Item = u32> {
        let held = self.0.held();
        let left = held.saturating_sub(count);
        self.0.filled.store(left, Ordering::Relaxed);
        let slots = self.0.slots.get(left as usize..held as usize).unwrap_or_default();
        slots.iter().map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Adds references as long as there is room.
    pub fn push_all(self, references: &mut impl Iterator<Item = u32>) {
        let held = self.0.held() as usize;
        let max = self.0.max.load(Ordering::Relaxed) as usize;
        let slots = self.0.slots.get(held..max).unwrap_or_default();
        // The slots come first in the zip, so a reference without a slot stays in the iterator.
        let kept =
            slots.iter().zip(references).map(|(slot, reference)| slot.store(reference, Ordering::Relaxed));
        let kept = kept.count();
        self.0.filled.store((held + kept) as u32, Ordering::Relaxed);
    }

    /// Returns the word where its search begins.
    pub fn hint(self) -> u32 {
        self.0.hint.load(Ordering::Relaxed)
    }

    /// Sets the word where its next search begins.
    pub fn search_at(self, word: u32) {
        self.0.hint.store(word, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "a promise of one thread")]
mod tests {
    use crate::abi::grant::GrantRef;
    use crate::freelist::Freelist;
    use crate::sync::Vcpu;
    use std::vec::Vec;

    struct First;

    // SAFETY: only this test's one thread uses the list.
    unsafe impl Vcpu for First {
        fn index(&self) -> usize {
            0
        }

        fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
            run()
        }
    }

    #[test]
    fn caches_hold_a_quarter_of_the_references_at_most() {
        for (caches, quarter) in [(1, 25), (2, 12), (5, 5)] {
            let list = Freelist::new(First, GrantRef::FIRST_FREE, caches).unwrap();
            list.grow(108).unwrap();
            let all: Vec<_> = core::iter::from_fn(|| list.alloc().ok()).collect();
            assert_eq!(all.len(), 100);
            // The first free ends the shortage declared by the last allocation.
            for reference in all {
                list.free(reference).unwrap();
                assert!(list.stats().cached <= quarter, "{caches}: {:?}", list.stats());
            }
            assert!(list.stats().cached >= quarter / 2, "{caches}: {:?}", list.stats());
        }
    }
}
