//! Models of other systems' lists. Their data structures and locks follow the sources, but without the interrupt
//! masking: a process can't mask interrupts.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::{THREAD, THREADS};

/// A list of references for several threads.
pub trait List: Sync {
    /// An allocated reference.
    type Ref: Send;
    /// The list as seen by one thread.
    type Local<'l>
    where
        Self: 'l;
    const NAME: &'static str;
    /// Whether one thread may give back references taken by another.
    const SHARED: bool = true;

    /// Creates a list of the references from 8 up to `count`, without `count` itself.
    fn new(count: u32) -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn alloc(list: &Self::Local<'_>) -> Option<Self::Ref>;
    fn free(list: &Self::Local<'_>, reference: Self::Ref);

    /// Called when the thread goes idle.
    fn halt(_: &Self::Local<'_>) {}

    /// Takes `count` references: one by one if the other system has no batch call. Returns whether it got them all.
    fn alloc_many(list: &Self::Local<'_>, count: usize, into: &mut Vec<Self::Ref>) -> bool {
        for _ in 0..count {
            match Self::alloc(list) {
                Some(reference) => into.push(reference),
                None => {
                    Self::free_many(list, into);
                    return false;
                }
            }
        }
        true
    }

    fn free_many(list: &Self::Local<'_>, references: &mut Vec<Self::Ref>) {
        references.drain(..).for_each(|reference| Self::free(list, reference));
    }
}

/// Creates a list for use under a lock, head and links in one array: `links[0]` is the head.
fn linked(count: u32) -> Vec<u32> {
    (0..count)
        .map(|i| {
            if i == 0 {
                8
            } else if i + 1 < count {
                i + 1
            } else {
                0
            }
        })
        .collect()
}

fn take(links: &mut [u32]) -> Option<u32> {
    let first = links[0];
    if first == 0 {
        return None;
    }
    links[0] = links[first as usize];
    Some(first)
}

fn put(links: &mut [u32], reference: u32) {
    links[reference as usize] = links[0];
    links[0] = reference;
}

/// Linux, drivers/xen/grant-table.c: a spin lock, a linked stack, a count, and a bit for each free reference.
pub struct Linux(spin::Mutex<LinuxState>);

struct LinuxState {
    links: Vec<u32>,
    bits: Vec<u64>,
    free: u32,
}

impl LinuxState {
    fn take(&mut self) -> Option<u32> {
        let reference = take(&mut self.links)?;
        self.bits[reference as usize / 64] &= !(1 << (reference % 64));
        self.free -= 1;
        Some(reference)
    }

    fn put(&mut self, reference: u32) {
        put(&mut self.links, reference);
        self.bits[reference as usize / 64] |= 1 << (reference % 64);
        self.free += 1;
    }
}

impl List for Linux {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "Linux: spin lock, list, bitmap";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        let bits = vec![!0; count.div_ceil(64) as usize];
        Self(spin::Mutex::new(LinuxState { links: linked(count), bits, free: count - 8 }))
    }

    fn alloc(list: &&Self) -> Option<u32> {
        list.0.lock().take()
    }

    fn free(list: &&Self, reference: u32) {
        list.0.lock().put(reference);
    }

    fn alloc_many(list: &&Self, count: usize, into: &mut Vec<u32>) -> bool {
        let mut state = list.0.lock();
        if (state.free as usize) < count {
            return false;
        }
        into.extend((0..count).map_while(|_| state.take()));
        true
    }

    fn free_many(list: &&Self, references: &mut Vec<u32>) {
        let mut state = list.0.lock();
        references.drain(..).for_each(|reference| state.put(reference));
    }
}

/// Linux's drivers: `gnttab_alloc_grant_references` once, then `gnttab_claim_grant_reference` and
/// `gnttab_release_grant_reference` on the driver's own chain, without a lock.
pub struct LinuxPrivate {
    links: Vec<AtomicU32>,
    next: AtomicU32,
}

/// A driver's chain.
pub struct Chain<'l> {
    links: &'l [AtomicU32],
    head: Cell<u32>,
}

/// The references of one driver. There are two drivers, and one chain for the set-up.
const PRIVATE: u32 = 8192;

impl List for LinuxPrivate {
    type Ref = u32;
    type Local<'l> = Chain<'l>;
    const NAME: &'static str = "Linux: a driver's private chain";
    const SHARED: bool = false;

    fn new(count: u32) -> Self {
        Self { links: linked(count).into_iter().map(AtomicU32::new).collect(), next: AtomicU32::new(8) }
    }

    fn local(&self) -> Chain<'_> {
        let first = self.next.fetch_add(PRIVATE, Ordering::Relaxed);
        self.links[(first + PRIVATE - 1) as usize].store(0, Ordering::Relaxed);
        Chain { links: &self.links, head: Cell::new(first) }
    }

    #[inline]
    fn alloc(chain: &Chain<'_>) -> Option<u32> {
        let first = chain.head.get();
        if first == 0 {
            return None;
        }
        chain.head.set(chain.links[first as usize].load(Ordering::Relaxed));
        Some(first)
    }

    #[inline]
    fn free(chain: &Chain<'_>, reference: u32) {
        chain.links[reference as usize].store(chain.head.get(), Ordering::Relaxed);
        chain.head.set(reference);
    }
}

/// Xen's maptrack handles: one list per CPU, each under its own lock. A CPU with an empty list tries the others.
pub struct PerCpu {
    heads: [Apart; THREADS],
    links: Vec<AtomicU32>,
}

#[repr(align(128))]
struct Apart(spin::Mutex<u32>);

impl List for PerCpu {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "Xen's maptrack: a list a CPU, spin locks";

    fn new(count: u32) -> Self {
        let half = count / 2;
        let links: Vec<_> = linked(count).into_iter().map(AtomicU32::new).collect();
        links[half as usize - 1].store(0, Ordering::Relaxed);
        Self { heads: [Apart(spin::Mutex::new(8)), Apart(spin::Mutex::new(half))], links }
    }

    fn local(&self) -> &Self {
        self
    }

    #[inline]
    fn alloc(list: &&Self) -> Option<u32> {
        let own = THREAD.with(Cell::get) % THREADS;
        for cpu in [own, 1 - own] {
            let mut head = list.heads[cpu].0.lock();
            if *head != 0 {
                let first = *head;
                *head = list.links[first as usize].load(Ordering::Relaxed);
                return Some(first);
            }
        }
        None
    }

    #[inline]
    fn free(list: &&Self, reference: u32) {
        let mut head = list.heads[THREAD.with(Cell::get) % THREADS].0.lock();
        list.links[reference as usize].store(*head, Ordering::Relaxed);
        *head = reference;
    }
}

/// FreeBSD, sys/dev/xen/grant_table, and Stardust Oxide: a mutex and a linked stack; FreeBSD has batches.
pub struct FreeBsd(Mutex<(Vec<u32>, u32)>);

impl List for FreeBsd {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "FreeBSD, Stardust: mutex, list";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        Self(Mutex::new((linked(count), count - 8)))
    }

    fn alloc(list: &&Self) -> Option<u32> {
        let (links, free) = &mut *list.0.lock().unwrap();
        let reference = take(links)?;
        *free -= 1;
        Some(reference)
    }

    fn free(list: &&Self, reference: u32) {
        let (links, free) = &mut *list.0.lock().unwrap();
        put(links, reference);
        *free += 1;
    }

    fn alloc_many(list: &&Self, count: usize, into: &mut Vec<u32>) -> bool {
        let (links, free) = &mut *list.0.lock().unwrap();
        if (*free as usize) < count {
            return false;
        }
        *free -= count as u32;
        into.extend((0..count).map_while(|_| take(links)));
        true
    }

    fn free_many(list: &&Self, references: &mut Vec<u32>) {
        let (links, free) = &mut *list.0.lock().unwrap();
        *free += references.len() as u32;
        references.drain(..).for_each(|reference| put(links, reference));
    }
}

/// Mini-OS, Unikraft, U-Boot, Zephyr: a linked stack with interrupts off, and a counting semaphore. These systems
/// have one processor; for several, a spin lock takes the place of interrupts off.
pub struct MiniOs {
    free: AtomicI32,
    links: spin::Mutex<Vec<u32>>,
}

impl List for MiniOs {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "Mini-OS: semaphore, list";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        Self { free: AtomicI32::new(count as i32 - 8), links: spin::Mutex::new(linked(count)) }
    }

    fn alloc(list: &&Self) -> Option<u32> {
        if list.free.fetch_sub(1, Ordering::Acquire) <= 0 {
            list.free.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        take(&mut list.links.lock())
    }

    fn free(list: &&Self, reference: u32) {
        put(&mut list.links.lock(), reference);
        list.free.fetch_add(1, Ordering::Release);
    }
}

/// NetBSD, sys/arch/xen/xen/xengnt.c: a mutex, and an array used as a stack.
pub struct NetBsd(Mutex<Vec<u32>>);

impl List for NetBsd {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "NetBSD: mutex, array";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        Self(Mutex::new((8..count).rev().collect()))
    }

    fn alloc(list: &&Self) -> Option<u32> {
        list.0.lock().unwrap().pop()
    }

    fn free(list: &&Self, reference: u32) {
        list.0.lock().unwrap().push(reference);
    }
}

/// uni.rs: a queue under a spin lock.
pub struct UniRs(spin::Mutex<VecDeque<u32>>);

impl List for UniRs {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "uni.rs: spin lock, queue";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        Self(spin::Mutex::new((8..count).collect()))
    }

    fn alloc(list: &&Self) -> Option<u32> {
        list.0.lock().pop_front()
    }

    fn free(list: &&Self, reference: u32) {
        list.0.lock().push_back(reference);
    }
}

/// The textbook lock-free stack, with a tag against ABA.
pub struct Treiber {
    head: AtomicU64,
    links: Vec<AtomicU32>,
}

impl List for Treiber {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "Treiber stack";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        Self { head: AtomicU64::new(8), links: linked(count).into_iter().map(AtomicU32::new).collect() }
    }

    fn alloc(list: &&Self) -> Option<u32> {
        let mut head = list.head.load(Ordering::Acquire);
        loop {
            let first = head as u32;
            if first == 0 {
                return None;
            }
            let below = list.links[first as usize].load(Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(below);
            match list.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(first),
                Err(now) => head = now,
            }
        }
    }

    fn free(list: &&Self, reference: u32) {
        let mut head = list.head.load(Ordering::Relaxed);
        loop {
            list.links[reference as usize].store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(reference);
            match list.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// crossbeam's bounded queue.
pub struct Crossbeam(ArrayQueue<u32>);

impl List for Crossbeam {
    type Ref = u32;
    type Local<'l> = &'l Self;
    const NAME: &'static str = "crossbeam ArrayQueue";

    fn local(&self) -> &Self {
        self
    }

    fn new(count: u32) -> Self {
        let queue = ArrayQueue::new(count as usize);
        (8..count).for_each(|reference| assert!(queue.push(reference).is_ok()));
        Self(queue)
    }

    fn alloc(list: &&Self) -> Option<u32> {
        list.0.pop()
    }

    fn free(list: &&Self, reference: u32) {
        let _ = list.0.push(reference);
    }
}
