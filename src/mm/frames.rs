//! The frame allocator: one bit per frame, for RAM only.

use core::fmt;
use core::ops::Range;

use super::ram::{self, MAX_RANGES, Ram};
use crate::abi::{Gfn, PAGE_SIZE};

/// The number of frames in a large page of 2 MiB.
pub const LARGE_FRAMES: usize = 512;

/// An allocator of RAM frames, single ones or consecutive runs, lowest first.
pub struct Frames {
    spans: heapless::Vec<Span, MAX_RANGES>,
    total: usize,
    free: usize,
}

/// One range of RAM; bit `i` of `used` stands for frame `first + i`.
struct Span {
    first: u64,
    count: usize,
    used: &'static mut [u64],
    /// No frame below this index is free.
    hint: usize,
}

/// A freed frame that wasn't allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// It is free already.
    DoubleFree(Gfn),
    /// It isn't RAM.
    NotRam(Gfn),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoubleFree(gfn) => write!(f, "{gfn} was freed twice"),
            Self::NotRam(gfn) => write!(f, "{gfn} was freed, and isn't RAM"),
        }
    }
}

impl core::error::Error for FrameError {}

impl Frames {
    /// Returns the number of bitmap words needed for an allocator of this RAM.
    pub(crate) fn words_for(ram: &Ram) -> usize {
        ram.ranges.iter().map(|range| words(frames_in(range))).sum()
    }

    /// Creates an allocator with every frame of `ram` free. `bitmap` must have [`words_for`](Self::words_for) words;
    /// RAM beyond it is left out.
    ///
    /// # Safety
    ///
    /// The RAM must have no other owner, except for parts [reserved](Self::reserve) before the first allocation.
    pub(crate) unsafe fn new(ram: &Ram, mut bitmap: &'static mut [u64]) -> Self {
        let mut this = Self { spans: heapless::Vec::new(), total: 0, free: 0 };
        for range in &ram.ranges {
            let count = frames_in(range);
            let Some((used, rest)) = bitmap.split_at_mut_checked(words(count)) else { break };
            bitmap = rest;
            used.fill(0);
            if let Some(last) = used.last_mut() {
                // Bits past the end are never free.
                *last = if count.is_multiple_of(64) { 0 } else { !0 << (count % 64) };
            }
            let span = Span { first: Gfn::containing(range.start).0, count, used, hint: 0 };
            if this.spans.push(span).is_err() {
                break;
            }
            this.total += count;
            this.free += count;
        }
        this
    }

    /// Returns the number of frames, free or not.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Returns the number of free frames.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Reserves the free frames touched by `bytes`. Frames already used, and addresses outside RAM, are ignored.
    pub(crate) fn reserve(&mut self, bytes: Range<u64>) {
        let pages = ram::outward(bytes.start, bytes.end.saturating_sub(bytes.start));
        let wanted = Gfn::containing(pages.start).0..Gfn::containing(pages.end).0;
        for span in &mut self.spans {
            let first = wanted.start.max(span.first);
            let end = wanted.end.min(span.first + span.count as u64);
            for frame in first..end {
                self.free -= usize::from(span.set((frame - span.first) as usize));
            }
        }
    }

    /// Allocates the lowest free frame.
    pub fn allocate(&mut self) -> Option<Gfn> {
        self.allocate_run(1)
    }

    /// Allocates the lowest run of `count` consecutive free frames and returns its first frame.
    pub fn allocate_run(&mut self, count: usize) -> Option<Gfn> {
        if count == 0 || count > self.free {
            return None;
        }
        self.spans.iter_mut().find_map(|span| {
            let index = span.find_run(count)?;
            for i in index..index + count {
                span.set(i);
            }
            // A single frame is the lowest free one: all frames below it are used.
            if count == 1 || index == span.hint {
                span.hint = index + count;
            }
            self.free -= count;
            Some(Gfn(span.first + index as u64))
        })
    }

    /// Allocates the frames of a large page and returns the first.
    pub fn allocate_large(&mut self) -> Option<Gfn> {
        self.spans.iter_mut().find_map(|span| {
            // Large pages lie at multiples of their size.
            let first = span.first.next_multiple_of(LARGE_FRAMES as u64) - span.first;
            let places = (first as usize..).step_by(LARGE_FRAMES);
            let index = places.take_while(|index| index + LARGE_FRAMES <= span.count);
            let mut index = index.skip_while(|index| index + LARGE_FRAMES <= span.hint);
            let index = index.find(|&index| span.find_used(index, LARGE_FRAMES).is_none())?;
            for frame in index..index + LARGE_FRAMES {
                span.set(frame);
            }
            self.free -= LARGE_FRAMES;
            Some(Gfn(span.first + index as u64))
        })
    }

    /// Frees a frame.
    ///
    /// # Errors
    ///
    /// [`FrameError::NotRam`] if it isn't RAM, [`FrameError::DoubleFree`] if it is free already. Neither changes the
    /// allocator.
    ///
    /// # Safety
    ///
    /// The frame must have been allocated here, not reserved, and must no longer be in use.
    pub unsafe fn release(&mut self, frame: Gfn) -> Result<(), FrameError> {
        let in_span = |span: &&mut Span| (span.first..span.first + span.count as u64).contains(&frame.0);
        let span = self.spans.iter_mut().find(in_span).ok_or(FrameError::NotRam(frame))?;
        if !span.clear((frame.0 - span.first) as usize) {
            return Err(FrameError::DoubleFree(frame));
        }
        self.free += 1;
        Ok(())
    }
}

impl Span {
    fn is_used(&self, index: usize) -> bool {
        self.used[index / 64] & 1 << (index % 64) != 0
    }

    /// Marks a frame as used. Returns whether it was free.
    fn set(&mut self, index: usize) -> bool {
        let was_free = !self.is_used(index);
        self.used[index / 64] |= 1 << (index % 64);
        was_free
    }

    /// Marks a frame as free. Returns whether it was used.
    fn clear(&mut self, index: usize) -> bool {
        let was_used = self.is_used(index);
        self.used[index / 64] &= !(1 << (index % 64));
        self.hint = self.hint.min(index);
        was_used
    }

    fn find_run(&self, count: usize) -> Option<usize> {
        let mut start = self.hint;
        while start + count <= self.count {
            if start.is_multiple_of(64) && self.used[start / 64] == !0 {
                start += 64; // a full word, stepped over at once
                continue;
            }
            match self.find_used(start, count) {
                None => return Some(start),
                Some(last_used) => start = last_used + 1,
            }
        }
        None
    }

    /// Returns the last used frame among the `count` frames from `start` on.
    fn find_used(&self, start: usize, count: usize) -> Option<usize> {
        let mut end = start + count;
        while end > start {
            let word = (end - 1) / 64;
            let low = start.max(word * 64);
            // The bits of this word inside the range.
            let mask = (!0 >> (63 - (end - 1) % 64)) & (!0 << (low % 64));
            let used = self.used[word] & mask;
            if used != 0 {
                return Some(word * 64 + 63 - used.leading_zeros() as usize);
            }
            end = low;
        }
        None
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("total", &self.total).field("free", &self.free).finish_non_exhaustive()
    }
}

fn frames_in(range: &Range<u64>) -> usize {
    ((range.end - range.start) / PAGE_SIZE) as usize
}

fn words(frames: usize) -> usize {
    frames.div_ceil(64)
}

#[cfg(test)]
mod tests {
    use super::{FrameError, Frames};
    use crate::abi::{Gfn, PAGE_SIZE};
    use crate::mm::ram::Ram;
    use std::vec;
    use std::vec::Vec;

    /// Frames 1 to 99 and 1000 to 1063.
    fn frames() -> Frames {
        let map = [(PAGE_SIZE, 99 * PAGE_SIZE), (1000 * PAGE_SIZE, 64 * PAGE_SIZE)];
        let ram = Ram::new(map.into_iter(), core::iter::empty());
        // SAFETY: these frames are never accessed.
        unsafe { Frames::new(&ram, vec![!0; Frames::words_for(&ram)].leak()) }
    }

    fn release(frames: &mut Frames, gfn: u64) -> Result<(), FrameError> {
        // SAFETY: these frames are never accessed.
        unsafe { frames.release(Gfn(gfn)) }
    }

    #[test]
    fn every_frame_comes_once_and_only_ram_comes() {
        let mut frames = frames();
        assert_eq!((frames.total(), frames.free()), (163, 163));
        let all: Vec<_> = core::iter::from_fn(|| frames.allocate()).map(|gfn| gfn.0).collect();
        assert_eq!(all, (1..100).chain(1000..1064).collect::<Vec<_>>());
        assert_eq!(frames.free(), 0);
        assert_eq!(release(&mut frames, 50), Ok(()));
        assert_eq!(frames.allocate(), Some(Gfn(50)));
    }

    #[test]
    fn a_large_page_may_end_where_its_range_does() {
        // Two of them, and one frame too few for a third.
        let ram = Ram::new([(512 * PAGE_SIZE, 1535 * PAGE_SIZE)].into_iter(), core::iter::empty());
        // SAFETY: these frames are never accessed.
        let mut frames = unsafe { Frames::new(&ram, vec![!0; Frames::words_for(&ram)].leak()) };
        let large = core::iter::from_fn(|| frames.allocate_large()).collect::<Vec<_>>();
        assert_eq!((large, frames.free()), (vec![Gfn(512), Gfn(1024)], 511));
        let ram = Ram::new([(512 * PAGE_SIZE, 512 * PAGE_SIZE)].into_iter(), core::iter::empty());
        // SAFETY: as above.
        let mut frames = unsafe { Frames::new(&ram, vec![!0; Frames::words_for(&ram)].leak()) };
        assert_eq!((frames.allocate_large(), frames.free()), (Some(Gfn(512)), 0));
    }

    #[test]
    fn runs_are_consecutive_and_step_over_what_is_out() {
        let mut frames = frames();
        frames.reserve(10 * PAGE_SIZE..10 * PAGE_SIZE + 1);
        assert_eq!(frames.allocate_run(9), Some(Gfn(1)));
        assert_eq!(frames.allocate_run(64), Some(Gfn(11)));
        assert_eq!(frames.allocate_run(64), Some(Gfn(1000)));
        assert_eq!(frames.allocate_run(64), None, "no run crosses from one range to the next");
        assert_eq!(frames.allocate_run(25), Some(Gfn(75)));
        assert_eq!(frames.allocate_run(0), None);
        assert_eq!(frames.free(), 0);
    }

    /// Frames come lowest first, regardless of runs taken in between.
    #[test]
    fn a_hole_below_a_run_is_not_forgotten() {
        let mut frames = frames();
        frames.reserve(4 * PAGE_SIZE..5 * PAGE_SIZE);
        // Frames 1 to 3 are too few for it.
        assert_eq!(frames.allocate_run(5), Some(Gfn(5)));
        assert_eq!(
            (frames.allocate(), frames.allocate_run(2), frames.allocate()),
            (Some(Gfn(1)), Some(Gfn(2)), Some(Gfn(10)))
        );
        assert_eq!(release(&mut frames, 2), Ok(()));
        assert_eq!((frames.allocate_run(2), frames.allocate()), (Some(Gfn(11)), Some(Gfn(2))));
    }

    /// Otherwise every search would begin again at a reserved frame, such as the null page.
    #[test]
    fn the_search_begins_where_the_last_one_ended() {
        let mut frames = frames();
        frames.reserve(0..2 * PAGE_SIZE);
        (2..100).for_each(|number| assert_eq!(frames.allocate(), Some(Gfn(number))));
        assert_eq!(frames.spans[0].hint, 99);
    }

    #[test]
    fn large_pages_lie_at_multiples_of_their_size() {
        let map = [(300 * PAGE_SIZE, 1800 * PAGE_SIZE)]; // 512, 1024 and 1536 begin one
        let ram = Ram::new(map.into_iter(), core::iter::empty());
        // SAFETY: these frames are never accessed.
        let mut frames = unsafe { Frames::new(&ram, vec![0; Frames::words_for(&ram)].leak()) };
        frames.reserve(1535 * PAGE_SIZE..1536 * PAGE_SIZE);
        assert_eq!(frames.allocate(), Some(Gfn(300)));
        assert_eq!((frames.allocate_large(), frames.allocate_large()), (Some(Gfn(512)), Some(Gfn(1536))));
        assert_eq!((frames.allocate_large(), frames.free()), (None, 1800 - 2 - 2 * 512));
        for number in 512..1024 {
            assert_eq!(release(&mut frames, number), Ok(()));
        }
        assert_eq!(frames.allocate_large(), Some(Gfn(512)));
    }

    #[test]
    fn a_wrong_release_changes_nothing() {
        let mut frames = frames();
        assert_eq!(release(&mut frames, 5), Err(FrameError::DoubleFree(Gfn(5))));
        assert_eq!(release(&mut frames, 100), Err(FrameError::NotRam(Gfn(100))));
        assert_eq!(release(&mut frames, u64::MAX), Err(FrameError::NotRam(Gfn(u64::MAX))));
        assert_eq!(frames.free(), 163);
    }

    #[test]
    fn reserving_counts_each_frame_once() {
        let mut frames = frames();
        frames.reserve(0..u64::MAX);
        assert_eq!(frames.free(), 0);
        frames.reserve(0..PAGE_SIZE * 50);
        assert_eq!((frames.free(), frames.allocate()), (0, None));
    }

    #[test]
    fn random_use_matches_a_simple_oracle() {
        let mut frames = frames();
        let mut out = std::collections::BTreeSet::new();
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (choice, number) = (seed >> 62, (seed >> 32) % 1100);
            if choice == 0 {
                assert_eq!(release(&mut frames, number).is_ok(), out.remove(&number));
            } else {
                let count = 1 + (number % 8) as usize;
                if let Some(Gfn(first)) = frames.allocate_run(count) {
                    assert!((first..first + count as u64).all(|gfn| out.insert(gfn)), "handed out twice");
                }
            }
            assert_eq!(frames.free() + out.len(), frames.total());
        }
    }
}
