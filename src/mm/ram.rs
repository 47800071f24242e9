//! The RAM in guest-physical memory, derived from an untrusted memory map.

use core::ops::Range;

use crate::abi::PAGE_SIZE;

/// Ranges of RAM beyond this many are not used.
pub const MAX_RANGES: usize = 32;
/// RAM above this address is not used: the heap's window lies there.
pub const LIMIT: u64 = 1 << 46;

/// A list of address ranges, apart and in order.
pub type Ranges = heapless::Vec<Range<u64>, MAX_RANGES>;

/// The RAM of a memory map: whole pages, in order, none counted twice. `lost` is set if the map has more ranges than
/// [`MAX_RANGES`].
#[derive(Clone, Debug, Default)]
pub struct Ram {
    /// The ranges, apart and in order.
    pub ranges: Ranges,
    /// Whether some RAM was left out.
    pub lost: bool,
}

impl Ram {
    /// Builds it from ranges of RAM and ranges claimed for other uses. Where the two overlap, the memory is not RAM.
    /// Empty ranges and parts of pages are left out. A range ends at [`LIMIT`] at most, even if its end would wrap.
    pub fn new(
        ram: impl Iterator<Item = (u64, u64)>,
        claimed: impl Iterator<Item = (u64, u64)> + Clone,
    ) -> Self {
        let mut this = Self::default();
        for (start, size) in ram {
            let end = start.saturating_add(size).min(LIMIT) & !(PAGE_SIZE - 1);
            let Some(start) = start.checked_next_multiple_of(PAGE_SIZE) else { continue };
            this.insert(start..end);
        }
        for (start, size) in claimed {
            this.remove(outward(start, size));
        }
        this
    }

    /// Returns the total size in bytes.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    fn insert(&mut self, mut new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        // Merge all ranges touching the new one, then insert the union in its place.
        self.ranges.retain(|range| {
            let touches = range.start <= new.end && new.start <= range.end;
            if touches {
                new = range.start.min(new.start)..range.end.max(new.end);
            }
            !touches
        });
        let at = self.ranges.iter().position(|range| range.start > new.start).unwrap_or(self.ranges.len());
        self.lost |= self.ranges.insert(at, new).is_err();
    }

    /// Removes `hole` from the RAM.
    pub fn remove(&mut self, hole: Range<u64>) {
        // Most entries of a map lie apart from all RAM.
        if !self.ranges.iter().any(|range| range.start < hole.end && hole.start < range.end) {
            return;
        }
        let before = core::mem::take(&mut self.ranges);
        for range in before {
            for piece in without(range, &hole) {
                self.lost |= !piece.is_empty() && self.ranges.push(piece).is_err();
            }
        }
    }
}

/// Returns the pages touched by a range of bytes.
pub fn outward(start: u64, size: u64) -> Range<u64> {
    let end = start.saturating_add(size).min(LIMIT).next_multiple_of(PAGE_SIZE);
    (start & !(PAGE_SIZE - 1)).min(end)..end
}

/// Returns the parts of `range` below and above `hole`; either may be empty.
fn without(range: Range<u64>, hole: &Range<u64>) -> [Range<u64>; 2] {
    if hole.is_empty() {
        return [range, 0..0];
    }
    let below = range.start..range.end.min(hole.start);
    let above = range.start.max(hole.end)..range.end;
    [below, above]
}

/// Returns the parts of `range` outside all of `holes`, in order. The holes must be in order and apart.
pub fn gaps<'h>(range: Range<u64>, holes: &'h [Range<u64>]) -> impl Iterator<Item = Range<u64>> + 'h {
    let mut start = range.start;
    let ends = holes.iter().cloned().chain(core::iter::once(range.end..u64::MAX));
    ends.filter_map(move |hole| {
        let piece = start..hole.start.min(range.end);
        start = start.max(hole.end);
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::{LIMIT, MAX_RANGES, Ram, gaps};
    use core::ops::Range;
    use std::vec::Vec;

    fn ram(ram: &[(u64, u64)], claimed: &[(u64, u64)]) -> Vec<Range<u64>> {
        Ram::new(ram.iter().copied(), claimed.iter().copied()).ranges.to_vec()
    }

    #[test]
    fn ranges_are_sorted_merged_and_cut_to_pages() {
        assert_eq!(ram(&[(0x5800, 0x2000), (0x1001, 0x2fff)], &[]), [0x2000..0x4000, 0x6000..0x7000]);
        assert_eq!(ram(&[(0x3000, 0x1000), (0x1000, 0x2000), (0x2000, 0x4000)], &[]), [0x1000..0x6000]);
        // Ranges that only touch are merged too, on either side.
        assert_eq!(ram(&[(0x1000, 0x1000), (0x2000, 0x1000)], &[]), [0x1000..0x3000]);
        assert_eq!(ram(&[(0x2000, 0x1000), (0x1000, 0x1000)], &[]), [0x1000..0x3000]);
    }

    #[test]
    fn what_is_claimed_twice_is_not_ram() {
        let map = ram(&[(0, 0x10000)], &[(0x3800, 0x10), (0xf000, u64::MAX), (0x8000, 0)]);
        assert_eq!(map, [0..0x3000, 0x4000..0xf000]);
    }

    #[test]
    fn absurd_entries_are_left_out() {
        assert!(
            ram(&[(u64::MAX - 5, 100), (0x1000, 0), (LIMIT + 1, 0x5000), (0x1001, 0xffe)], &[]).is_empty()
        );
        assert_eq!(ram(&[(0x1000, u64::MAX)], &[]), [0x1000..LIMIT]);
    }

    #[test]
    fn more_ranges_than_fit_are_said_to_be_lost() {
        let many = Ram::new((0..100).map(|i| (i * 0x2000, 0x1000)), core::iter::empty());
        assert_eq!((many.ranges.len(), many.lost), (MAX_RANGES, true));
    }

    #[test]
    fn gaps_lie_between_the_holes() {
        let holes = [0..2, 5..6, 8..20];
        assert_eq!(gaps(1..10, &holes).collect::<Vec<_>>(), [2..5, 6..8]);
        assert_eq!(gaps(0..30, &holes).collect::<Vec<_>>(), [2..5, 6..8, 20..30]);
        assert_eq!(gaps(10..12, &holes).count(), 0);
        assert_eq!(gaps(1..3, &[]).collect::<Vec<_>>(), [1..3]);
    }
}
