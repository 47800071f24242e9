//! A vCPU's own references, in front of the shared stack. Only code of its vCPU outside of interrupt
//! handlers uses a cache, so there is no locked instruction here; what others may take is the one chain in
//! `spare`.

use core::num::NonZeroU64;

use super::stack::{Chain, Links};
use crate::sync::primitive::{AtomicU32, AtomicU64, Ordering};

/// References that move between a cache and the shared part at once. Models are small.
pub const BATCH: u32 = if cfg!(granite_loom) { 2 } else { 32 };
/// References that a cache holds: two batches, so that going up and down around a full or empty batch stays
/// inside.
pub const SLOTS: usize = 2 * BATCH as usize;

/// One vCPU's references.
#[repr(align(128))] // two lines: the processor fetches neighbours
pub struct Cache {
    /// An `OwnedRef` that was freed, as it was, or 0: one that comes and goes touches nothing else.
    hot: AtomicU64,
    /// How many slots are filled.
    filled: AtomicU32,
    /// References that came in from the shared part, less those that went back, modulo 2^32.
    imported: AtomicU32,
    slots: [AtomicU32; SLOTS],
    spare: Spare,
}

#[repr(align(128))]
struct Spare(AtomicU64);

impl Cache {
    pub fn new() -> Self {
        Self {
            hot: AtomicU64::new(0),
            filled: AtomicU32::new(0),
            imported: AtomicU32::new(0),
            slots: core::array::from_fn(|_| AtomicU32::new(0)),
            spare: Spare(AtomicU64::new(0)),
        }
    }

    /// How many references it holds, without the spare ones.
    pub fn held(&self) -> u32 {
        self.filled() + u32::from(self.hot.load(Ordering::Relaxed) != 0)
    }

    #[inline]
    fn filled(&self) -> u32 {
        self.filled.load(Ordering::Relaxed)
    }

    /// How many references are out by way of this cache, modulo 2^32. Exact while its vCPU is not at work.
    pub fn out(&self) -> u32 {
        self.imported.load(Ordering::Relaxed).wrapping_sub(self.held())
    }

    /// Takes the spare chain; any vCPU may.
    #[inline]
    pub fn take_spare(&self) -> Option<Chain> {
        if self.spare.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // Acquire: pairs with the Release of `put_spare`: the chain's links come with it. A swap takes all
        // that is there or nothing, so no two can take one chain (where Xen's list broke, XSA-228).
        Chain::from_word(self.spare.0.swap(0, Ordering::Acquire)) // take_spare
    }
}

/// A cache in the hands of its own vCPU.
#[derive(Clone, Copy)]
pub struct Own<'c>(pub &'c Cache);

impl Own<'_> {
    /// Takes the hot one.
    #[inline]
    pub fn pop_hot(self) -> Option<NonZeroU64> {
        let hot = NonZeroU64::new(self.0.hot.load(Ordering::Relaxed))?;
        self.0.hot.store(0, Ordering::Relaxed);
        Some(hot)
    }

    /// Keeps one as the hot one; `false` if there is one.
    #[inline]
    pub fn push_hot(self, reference: NonZeroU64) -> bool {
        let free = self.0.hot.load(Ordering::Relaxed) == 0;
        if free {
            self.0.hot.store(reference.get(), Ordering::Relaxed);
        }
        free
    }

    /// Takes the reference that came last to the slots; then the hot one.
    pub fn pop(self) -> Option<u32> {
        self.pop_slot().or_else(|| self.pop_hot().map(|hot| hot.get() as u32))
    }

    /// Takes one in; `false` if there is no slot for it.
    pub fn push(self, reference: u32) -> bool {
        let held = self.filled();
        let Some(slot) = self.0.slots.get(held as usize) else { return false };
        slot.store(reference, Ordering::Relaxed);
        self.0.filled.store(held + 1, Ordering::Relaxed);
        true
    }

    fn pop_slot(self) -> Option<u32> {
        let left = self.filled().checked_sub(1)?;
        let reference = self.0.slots.get(left as usize)?.load(Ordering::Relaxed);
        self.0.filled.store(left, Ordering::Relaxed);
        Some(reference)
    }

    /// Fills `into` with those that came last, if it holds so many, and returns what was filled.
    #[inline]
    pub fn pop_many(self, into: &mut [u32]) -> &[u32] {
        let left = (self.filled() as usize).saturating_sub(into.len());
        let slots = self.0.slots.get(left..self.filled() as usize).unwrap_or_default();
        slots.iter().zip(&mut *into).for_each(|(slot, place)| *place = slot.load(Ordering::Relaxed));
        self.0.filled.store(left as u32, Ordering::Relaxed);
        &into[..slots.len()]
    }

    /// Takes in what it has room for, and returns the rest.
    #[inline]
    pub fn push_many(self, references: &[u32]) -> &[u32] {
        let held = self.filled() as usize;
        let (kept, rest) = references.split_at(references.len().min(SLOTS - held));
        self.0.slots[held..]
            .iter()
            .zip(kept)
            .for_each(|(slot, &number)| slot.store(number, Ordering::Relaxed));
        self.0.filled.store((held + kept.len()) as u32, Ordering::Relaxed);
        rest
    }

    /// How many slots are filled.
    #[inline]
    pub fn filled(self) -> u32 {
        self.0.filled()
    }

    /// How many are not.
    pub fn room(self) -> u32 {
        SLOTS as u32 - self.filled()
    }

    /// Counts references that came in from the shared part.
    #[inline]
    pub fn import(self, count: u32) {
        self.0.imported.store(self.0.imported.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Counts references that went back.
    #[inline]
    pub fn export(self, count: u32) {
        self.import(0u32.wrapping_sub(count));
    }

    /// Takes in what fits of a chain from the shared part, `most` at the utmost; returns the rest.
    pub fn load(self, links: &Links, chain: Chain, most: u32) -> Option<Chain> {
        let taken = most.min(self.room()).min(chain.len);
        self.import(taken);
        chain.split(links, taken, |reference| {
            self.push(reference);
        })
    }

    /// Makes a chain of up to `count` references, the last to come, for the shared part.
    pub fn unload(self, links: &Links, count: u32) -> Option<Chain> {
        let mut left = count;
        let references = core::iter::from_fn(|| {
            left = left.checked_sub(1)?;
            self.pop()
        });
        let chain = Chain::link(links, references)?;
        self.export(chain.len);
        Some(chain)
    }

    /// Puts a chain where others may take it; returns the one that was there.
    pub fn put_spare(self, chain: Chain) -> Option<Chain> {
        // Release: pairs with the Acquire of `take_spare`. Acquire: for the chain that comes back.
        Chain::from_word(self.0.spare.0.swap(chain.into_word(), Ordering::AcqRel)) // put_spare
    }
}
