//! A set of numbers, changed by all vCPUs at once: one bit per number, in words added as the set grows. The free
//! grant references are such a set.
//!
//! A change is one atomic AND or OR, so there is no ABA problem and no head for all vCPUs to contend for. An AND is
//! repeated only if others took all the wanted bits meanwhile. A taker owns exactly the bits cleared by its AND.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use spin::Once;

use super::atomic::{AtomicU64, Ordering};

/// Numbers in a word.
const BITS: u32 = u64::BITS;
/// Words of the first chunk; each chunk has twice as many as the one before. Loom models use a small one.
const FIRST: u32 = if cfg!(granite_loom) { 1 } else { 64 };
/// Chunks: enough for 2^25 numbers.
const CHUNKS: usize = 13;

/// There isn't enough memory for so many numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// The set. It has no room until [`make_room`](Self::make_room).
pub struct Bits {
    chunks: [Once<Box<[AtomicU64]>>; CHUNKS],
}

impl Bits {
    pub const fn new() -> Self {
        Self { chunks: [const { Once::new() }; CHUNKS] }
    }

    /// Allocates room for all numbers below `end`.
    pub fn make_room(&self, end: u32) -> Result<(), OutOfMemory> {
        let mut room = 0;
        for (chunk, words) in self.chunks.iter().zip((0..).map(|index| FIRST << index)) {
            if room >= end {
                return Ok(());
            }
            chunk.try_call_once(|| zeros(words as usize))?;
            room += words * BITS;
        }
        if room >= end { Ok(()) } else { Err(OutOfMemory) }
    }

    /// Adds numbers. Successive numbers in one word cost one atomic operation together.
    pub fn insert(&self, numbers: impl Iterator<Item = u32>) {
        let (mut word, mut mask) = (0, 0);
        for number in numbers {
            if number / BITS != word {
                self.insert_word(word, mask);
                (word, mask) = (number / BITS, 0);
            }
            mask |= 1 << (number % BITS);
        }
        self.insert_word(word, mask);
    }

    fn insert_word(&self, word: u32, mask: u64) {
        if mask != 0
            && let Some(word) = self.word(word)
        {
            // Release: pairs with the Acquire of `take`: the taker sees the last owner's writes.
            word.fetch_or(mask, Ordering::Release); // insert
        }
    }

    /// Removes the first number at or after `from`, or else the first of all. Returns `None` if the set is empty.
    pub fn remove(&self, from: u32) -> Option<u32> {
        let (first, low) = (from / BITS, !(!0 << (from % BITS)));
        let mut taken = 0;
        // The first word comes twice: the bits from `from` on, and at the end the bits below.
        let mut take_from = |words, part| {
            self.find(words, |word| {
                taken = take(word, part, 1);
                taken != 0
            })
        };
        let index = take_from(first..first + 1, !low)
            .or_else(|| take_from(first + 1..u32::MAX, !0))
            .or_else(|| take_from(0..first, !0))
            .or_else(|| take_from(first..first + 1, low))?;
        Some(index * BITS + taken.trailing_zeros())
    }

    /// Removes up to `max` numbers of the first non-empty word, searching from word `from` on and then from the
    /// start. Calls `give` with each number, and returns the word's index.
    pub fn remove_some(&self, from: u32, max: u32, mut give: impl FnMut(u32)) -> Option<u32> {
        let mut taken = 0;
        let mut take_from = |words| {
            self.find(words, |word| {
                taken = take(word, !0, max);
                taken != 0
            })
        };
        let index = take_from(from..u32::MAX).or_else(|| take_from(0..from))?;
        while taken != 0 {
            give(index * BITS + taken.trailing_zeros());
            taken &= taken - 1;
        }
        Some(index)
    }

    /// Removes the lowest run of `count` consecutive numbers, and returns its first.
    pub fn remove_run(&self, count: u32) -> Option<u32> {
        let mut found = self.find_run(count, 0);
        while let Some(run) = found {
            let Err(lost) = self.remove_range(run.clone()) else { return Some(run.start) };
            found = self.find_run(count, lost);
        }
        None
    }

    /// Removes all of a range, or none. If a number is missing, returns the end of its word, or the end of the range
    /// if there is no such word.
    fn remove_range(&self, range: Range<u32>) -> Result<(), u32> {
        for (index, mask) in masks(range.clone()) {
            let Some(word) = self.word(index) else { return Err(range.end) };
            let taken = take(word, mask, BITS);
            if taken != mask {
                self.insert_word(index, taken);
                self.insert(range.start..(index * BITS).max(range.start));
                return Err((index + 1) * BITS);
            }
        }
        Ok(())
    }

    /// Returns the first run of `count` numbers at or after `from`. The bits may change during the search.
    fn find_run(&self, count: u32, from: u32) -> Option<Range<u32>> {
        let mut run = from..from;
        for (index, word) in (0..).zip(self.words()).skip((from / BITS) as usize) {
            // Relaxed: `remove_range` takes the bits, or learns that they are gone.
            let word = word.load(Ordering::Relaxed);
            let mut bit = run.end - index * BITS;
            while bit < BITS {
                let ones = (word >> bit).trailing_ones().min(BITS - bit);
                bit += ones;
                run.end += ones;
                if run.end - run.start >= count {
                    return Some(run.start..run.start + count);
                }
                if bit < BITS {
                    bit += (word >> bit).trailing_zeros().min(BITS - bit);
                    run = index * BITS + bit..index * BITS + bit;
                }
            }
        }
        None
    }

    /// Returns the length of the run of numbers right below `end`.
    pub fn count_below(&self, end: u32) -> u32 {
        let has = |number: &u32| {
            let word = self.word(number / BITS).map_or(0, |word| word.load(Ordering::Relaxed));
            word & 1 << (number % BITS) != 0
        };
        (0..end).rev().take_while(has).count() as u32
    }

    /// Returns how many numbers there are. Exact while no vCPU changes the set.
    pub fn count(&self) -> u32 {
        self.words().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Returns whether there are at least `count` numbers.
    pub fn has(&self, count: u32) -> bool {
        let mut seen = 0;
        self.words().any(|word| {
            seen += word.load(Ordering::Relaxed).count_ones();
            seen >= count
        })
    }

    /// Iterates over the numbers. Each word is read once.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(self.words()).flat_map(|(index, word)| {
            let mut left = word.load(Ordering::Relaxed);
            core::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(index * BITS + bit)
            })
        })
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.chunks.iter().map_while(Once::get).flat_map(|chunk| chunk.iter())
    }

    fn word(&self, index: u32) -> Option<&AtomicU64> {
        let chunk = (index / FIRST + 1).ilog2();
        let before = ((1 << chunk) - 1) * FIRST;
        self.chunks.get(chunk as usize)?.get()?.get((index - before) as usize)
    }

    /// Calls `accept` with each non-empty word of a range, and returns the index of the accepted one.
    fn find(&self, range: Range<u32>, mut accept: impl FnMut(&AtomicU64) -> bool) -> Option<u32> {
        let mut before = 0;
        for chunk in self.chunks.iter().map_while(Once::get) {
            let len = chunk.len() as u32;
            let place = |end: u32| end.saturating_sub(before).min(len) as usize;
            let first = place(range.start);
            let mut words = chunk.get(first..place(range.end)).unwrap_or_default().iter();
            // Relaxed: `accept` takes the bits, or learns that they are gone.
            if let Some(found) = words.position(|word| word.load(Ordering::Relaxed) != 0 && accept(word)) {
                return Some(before + (first + found) as u32);
            }
            before += len;
        }
        None
    }
}

/// Takes up to `max` of the bits in `part` out of a word, and returns them.
fn take(word: &AtomicU64, part: u64, max: u32) -> u64 {
    loop {
        let there = word.load(Ordering::Relaxed) & part;
        if there == 0 {
            return 0;
        }
        let wanted = some_of(there, max);
        // Acquire: pairs with the Release of `insert`. The bits in `taken` were set, and no other taker cleared them.
        let taken = word.fetch_and(!wanted, Ordering::Acquire) & wanted; // take
        if taken != 0 {
            return taken;
        }
        // Other vCPUs took all of them meanwhile.
    }
}

/// Returns up to `max` of the bits, the lowest; at least one, if there are any.
fn some_of(bits: u64, max: u32) -> u64 {
    const HALF: u32 = BITS / 2;
    match max {
        BITS.. => bits,
        // A cache's usual request: take all of one half, without counting.
        HALF.. => {
            if bits as u32 != 0 {
                bits & u64::from(u32::MAX)
            } else {
                bits
            }
        }
        _ => {
            let above = (0..max).fold(bits, |left, _| left & left.wrapping_sub(1));
            bits & !above
        }
    }
}

/// Splits a range into words: the index of each, and a mask of its bits in the range.
fn masks(range: Range<u32>) -> impl Iterator<Item = (u32, u64)> {
    (range.start / BITS..range.end.div_ceil(BITS)).map(move |index| {
        let low = range.start.saturating_sub(index * BITS);
        let high = (range.end - index * BITS).min(BITS);
        (index, (!0 >> (BITS - (high - low))) << low)
    })
}

fn zeros(words: usize) -> Result<Box<[AtomicU64]>, OutOfMemory> {
    let mut all = Vec::new();
    all.try_reserve_exact(words).map_err(|_| OutOfMemory)?;
    all.extend((0..words).map(|_| AtomicU64::new(0)));
    Ok(all.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::{Bits, OutOfMemory};
    use std::vec::Vec;

    fn bits(numbers: &[u32]) -> Bits {
        let bits = Bits::new();
        bits.make_room(20_000).unwrap();
        bits.insert(numbers.iter().copied());
        bits
    }

    #[test]
    fn each_number_comes_once_from_where_the_search_begins() {
        let all = [0, 63, 64, 4095, 4096, 12_287, 12_288, 19_999];
        for from in [0, 1, 63, 64, 65, 4096, 19_999, 20_000, 28_000] {
            let bits = bits(&all);
            let (below, above): (Vec<u32>, Vec<u32>) = all.iter().partition(|&&number| number < from);
            let taken: Vec<_> = core::iter::from_fn(|| bits.remove(from)).collect();
            assert_eq!(taken, [above, below].concat(), "from {from}");
            assert_eq!(bits.count(), 0);
        }
    }

    #[test]
    fn some_are_the_lowest_of_one_word() {
        let bits = bits(&[130, 131, 140, 150, 191, 192]);
        let mut taken = Vec::new();
        assert_eq!(bits.remove_some(0, 2, |number| taken.push(number)), Some(2));
        assert_eq!(bits.remove_some(0, 32, |number| taken.push(number)), Some(2));
        assert_eq!(taken, [130, 131, 140, 150]);
        assert_eq!(bits.remove_some(3, 64, |number| taken.push(number)), Some(3));
        assert_eq!(bits.remove_some(3, 40, |number| taken.push(number)), Some(2));
        assert_eq!(taken[4..], [192, 191]);
        assert_eq!(bits.remove_some(9, 64, |_| {}), None);
    }

    #[test]
    fn runs_cross_words_and_chunks_and_are_the_lowest() {
        for (start, count) in [(0, 1), (60, 8), (64, 64), (63, 130), (4090, 300), (1, 4096)] {
            let bits = bits(&[]);
            bits.insert(start..start + count);
            bits.insert(19_990..19_991);
            assert_eq!(bits.remove_run(count + 1), None, "{count} from {start}");
            assert_eq!(bits.remove_run(count), Some(start));
            assert_eq!(bits.count(), 1);
        }
        let bits = bits(&[3, 4, 70, 71, 72]);
        assert_eq!((bits.remove_run(3), bits.remove_run(3), bits.remove_run(2)), (Some(70), None, Some(3)));
    }

    #[test]
    fn the_end_is_counted_backwards() {
        let bits = bits(&[60, 62, 63, 64, 65]);
        assert_eq!((bits.count_below(66), bits.count_below(61), bits.count_below(67)), (4, 1, 0));
        assert!(bits.has(5) && !bits.has(6));
        assert_eq!(bits.iter().collect::<Vec<_>>(), [60, 62, 63, 64, 65]);
    }

    #[test]
    fn there_is_an_end_to_what_there_can_be_room_for() {
        let bits = Bits::new();
        assert_eq!((bits.words().count(), bits.remove(0), bits.remove_run(1)), (0, None, None));
        assert_eq!(bits.make_room(4096), Ok(()));
        assert_eq!(bits.words().count(), 64);
        assert_eq!(bits.make_room(4097), Ok(()));
        assert_eq!(bits.words().count(), 192);
        assert_eq!(bits.make_room(u32::MAX), Err(OutOfMemory));
    }
}
