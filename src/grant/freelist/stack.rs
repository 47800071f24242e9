//! The shared part: a stack of chains. A push and a pop are one compare-and-exchange each, however long the
//! chain.

use alloc::boxed::Box;

use crate::sync::primitive::{AtomicU64, Ordering};

/// Bits of a reference's number in a word. References are below 2^24: 32 768 frames of version 1.
const BITS: u32 = 24;
const MASK: u64 = (1 << BITS) - 1;
/// References that can be numbered.
pub const MAX_REFS: u32 = MASK as u32;
/// The longest chain.
pub const MAX_CHAIN: u32 = 4096;
/// No reference: 0 belongs to the toolstack and is in no chain.
const NIL: u32 = 0;

/// One word for each reference. Whoever owns the reference owns its word. In a chain it says what follows:
///
/// | of the first in its chain | of the others |
/// |---|---|
/// | 0 to 23: the next | 0 to 31: the next |
/// | 24 to 47: the first of the chain below | 32 to 63: the one behind that |
/// | 48 to 63: how many the chain has | |
///
/// Nobody looks behind the end of a chain: its length counts, not what its last words say.
///
/// A word may be read while its reference changes hands; a pop that has read such a word fails at its
/// compare-and-exchange, because the head's tag has moved.
pub struct Links {
    words: Box<[AtomicU64]>,
}

impl Links {
    pub fn new(count: u32) -> Self {
        Self { words: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The word of a reference.
    #[inline]
    pub fn word(&self, reference: u32) -> &AtomicU64 {
        match self.words.get(reference as usize) {
            Some(word) => word,
            None => self.no_word(),
        }
    }

    /// No such number is handed out or linked, and looking it up must not be a panic: it gets the word of
    /// reference 0, which has no other use.
    #[cold]
    fn no_word(&self) -> &AtomicU64 {
        &self.words[0]
    }

    /// How many references have words.
    pub fn count(&self) -> u32 {
        self.words.len() as u32
    }

    /// The second reference of a chain that the caller owns.
    #[inline]
    fn next_of_first(&self, first: u32) -> u32 {
        (self.word(first).load(Ordering::Relaxed) & MASK) as u32
    }

    /// The two references behind one that isn't the first of its chain.
    #[inline]
    fn next_two(&self, reference: u32) -> (u32, u32) {
        let word = self.word(reference).load(Ordering::Relaxed);
        (word as u32, (word >> 32) as u32)
    }

    /// Says what follows a reference in its chain.
    #[inline]
    fn link(&self, reference: u32, next: u32, behind: u32) {
        self.word(reference).store(u64::from(behind) << 32 | u64::from(next), Ordering::Relaxed);
    }

    /// Makes a reference the first of a chain. Its word says what the next is, either way.
    fn head(&self, chain: &Chain, below: u32) {
        let word = self.word(chain.first);
        let next = word.load(Ordering::Relaxed) & MASK;
        word.store(u64::from(chain.len) << 48 | u64::from(below) << BITS | next, Ordering::Relaxed);
    }

    /// Of the first of a chain: the first of the chain below, and how many this one has.
    fn below(&self, first: u32) -> (u32, u32) {
        let word = self.word(first).load(Ordering::Relaxed);
        ((word >> BITS & MASK) as u32, (word >> 48) as u32)
    }
}

/// References in a row, owned by whoever has this value.
#[derive(Debug)]
pub struct Chain {
    /// The first.
    pub first: u32,
    /// How many, at least one.
    pub len: u32,
}

/// A chain in the making.
#[derive(Default)]
pub struct Builder {
    first: u32,
    last: u32,
    before_last: u32,
    len: u32,
}

impl Builder {
    /// Adds a reference behind the others; returns how many there are now.
    #[inline]
    pub fn add(&mut self, links: &Links, reference: u32) -> u32 {
        match self.len {
            0 => self.first = reference,
            1 => {}
            _ => links.link(self.before_last, self.last, reference),
        }
        (self.before_last, self.last) = (self.last, reference);
        self.len += 1;
        self.len
    }

    /// The chain, if anything was added.
    #[inline]
    pub fn finish(self, links: &Links) -> Option<Chain> {
        match self.len {
            0 => return None,
            1 => {}
            _ => links.link(self.before_last, self.last, NIL),
        }
        links.link(self.last, NIL, NIL);
        Some(Chain { first: self.first, len: self.len })
    }
}

impl Chain {
    /// Links what `references` yields; nothing if that is nothing. It takes [`MAX_CHAIN`] of them at most.
    pub fn link(links: &Links, references: impl Iterator<Item = u32>) -> Option<Self> {
        let mut builder = Builder::default();
        references.take(MAX_CHAIN as usize).for_each(|reference| {
            builder.add(links, reference);
        });
        builder.finish(links)
    }

    /// Takes up to `count` off the front, gives each to `take`, and returns the rest.
    #[inline]
    pub fn split(self, links: &Links, count: u32, mut take: impl FnMut(u32)) -> Option<Self> {
        let taken = count.min(self.len);
        let rest = self.len - taken;
        let mut next = self.first;
        let mut left = taken;
        if left > 0 {
            // A word is read before its reference is given away: it goes with it.
            next = links.next_of_first(self.first);
            take(self.first);
            left -= 1;
        }
        // Each word tells the next two, so that a step waits for memory half as often.
        while left > 0 {
            let (second, third) = links.next_two(next);
            take(next);
            if left == 1 {
                next = second;
                break;
            }
            take(second);
            next = third;
            left -= 2;
        }
        (rest > 0).then_some(Self { first: next, len: rest })
    }

    /// The chain as one word, for a place that holds one or none.
    pub fn into_word(self) -> u64 {
        u64::from(self.len) << 32 | u64::from(self.first)
    }

    /// Back from such a word.
    pub fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self { first: word as u32, len: (word >> 32) as u32 })
    }
}

/// A stack of chains. The head has the first reference of the top chain in its low 24 bits, and above them a
/// tag that every change moves: a head that is seen again after 2^40 changes is what ABA would take.
pub struct Stack {
    head: AtomicU64,
}

fn top(head: u64) -> u32 {
    (head & MASK) as u32
}

/// The head after `old`, with this chain on top.
fn successor(old: u64, first: u32) -> u64 {
    (old & !MASK).wrapping_add(1 << BITS) | u64::from(first)
}

impl Stack {
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Puts a chain on top.
    pub fn push(&self, links: &Links, chain: Chain) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            links.head(&chain, top(head));
            // Release: pairs with the Acquires of `pop` and `take_all`: who takes the chain sees its links,
            // and all that its owners did with the references before.
            let pushed = self.head.compare_exchange_weak(
                head,
                successor(head, chain.first),
                Ordering::Release, // push
                Ordering::Relaxed,
            );
            match pushed {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the top chain; tells also whether it was the last.
    pub fn pop(&self, links: &Links) -> Option<(Chain, bool)> {
        // Acquire: pairs with the Release of `push`; the word below is the one that came with this head.
        let mut head = self.head.load(Ordering::Acquire); // pop
        loop {
            let first = top(head);
            if first == NIL {
                return None;
            }
            let (below, len) = links.below(first);
            // Relaxed on success: the load that gave `head` was the Acquire, and heads differ by their tags.
            let popped = self.head.compare_exchange_weak(
                head,
                successor(head, below),
                Ordering::Relaxed,
                Ordering::Acquire, // pop again: as the load above
            );
            match popped {
                Ok(_) => return Some((Chain { first, len }, below == NIL)),
                Err(now) => head = now,
            }
        }
    }

    /// Takes all chains at once. They come one by one from the iterator, which owns them.
    pub fn take_all<'l>(&self, links: &'l Links) -> impl Iterator<Item = Chain> + 'l {
        let mut head = self.head.load(Ordering::Relaxed);
        while top(head) != NIL {
            // Acquire: pairs with the Release of `push`, as in `pop`.
            let taken = self.head.compare_exchange_weak(
                head,
                successor(head, NIL),
                Ordering::Acquire, // take_all
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        let mut first = top(head);
        core::iter::from_fn(move || {
            if first == NIL {
                return None;
            }
            let (below, len) = links.below(first);
            Some(Chain { first: core::mem::replace(&mut first, below), len })
        })
    }
}

/// Chains that one caller has gathered, linked as in a stack.
impl Links {
    /// Puts a chain before those that were gathered; it stands for all of them then.
    pub fn gather(&self, chain: Chain, gathered: Option<Chain>) -> Chain {
        self.head(&chain, gathered.map_or(NIL, |chain| chain.first));
        chain
    }

    /// What was gathered before this one.
    pub fn gathered_next(&self, chain: &Chain) -> Option<Chain> {
        let (first, _) = self.below(chain.first);
        (first != NIL).then(|| Chain { first, len: self.below(first).1 })
    }
}
