//! Compares the heap with `linked_list_allocator` behind the same lock: the cost of an allocation with a growing
//! number of live objects. `cargo bench --bench heap`. Only the ratios within one run matter.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Instant;

use granite::mm::heap::{Heap, Supply};
use granite::sync::IrqMutex;

const BYTES: usize = 256 << 20;
const LIVE: [usize; 4] = [100, 1_000, 10_000, 50_000];

/// A block of host memory, handed out from the front.
struct Block {
    next: usize,
    end: usize,
}

// SAFETY: each byte of the leaked block is handed out once.
unsafe impl Supply for Block {
    fn extend(&mut self, bytes: usize) -> (*mut u8, usize) {
        let size = bytes.div_ceil(4096) * 4096;
        if size > self.end - self.next {
            return (std::ptr::null_mut(), 0);
        }
        let start = self.next;
        self.next += size;
        (std::ptr::with_exposed_provenance_mut(start), size)
    }
}

fn block() -> Block {
    // SAFETY: the layout isn't empty.
    let start = unsafe { std::alloc::alloc_zeroed(Layout::from_size_align(BYTES, 4096).unwrap()) };
    let next = start.expose_provenance();
    Block { next, end: next + BYTES }
}

/// The other allocator, behind a lock.
struct Linked(IrqMutex<linked_list_allocator::Heap>);

// SAFETY: `linked_list_allocator` is an allocator, and the lock serialises the calls.
unsafe impl GlobalAlloc for Linked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = self.0.with(|heap| heap.allocate_first_fit(layout));
        memory.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let memory = NonNull::new(memory).unwrap();
        // SAFETY: the caller guarantees it.
        self.0.with(|heap| unsafe { heap.deallocate(memory, layout) });
    }
}

/// Returns the mean and the maximum nanoseconds of a free and an allocation, with `live` objects alive.
fn measure(heap: &impl GlobalAlloc, live: usize) -> (f64, u128) {
    let mut seed = 1u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut layout = move || Layout::from_size_align(16 << random(8), 8).unwrap();
    // SAFETY: no layout is empty, and each block is freed once with its own layout.
    unsafe {
        let mut all: Vec<(*mut u8, Layout)> = (0..2 * live)
            .map(|_| {
                let layout = layout();
                (heap.alloc(layout), layout)
            })
            .collect();
        // Free every other object, to leave holes.
        let mut index = 0;
        all.retain(|&(memory, layout)| {
            index += 1;
            if index % 2 == 0 {
                heap.dealloc(memory, layout);
            }
            index % 2 != 0
        });
        let times = (2_000_000 / live).clamp(200, 20_000);
        let (started, mut longest) = (Instant::now(), 0);
        for time in 0..times {
            let began = Instant::now();
            let place = &mut all[(time * 7919) % live];
            heap.dealloc(place.0, place.1);
            let layout = layout();
            *place = (black_box(heap.alloc(layout)), layout);
            longest = longest.max(began.elapsed().as_nanos());
        }
        let mean = started.elapsed().as_nanos() as f64 / times as f64;
        all.into_iter().for_each(|(memory, layout)| heap.dealloc(memory, layout));
        (mean, longest)
    }
}

fn main() {
    let max = if std::env::args().any(|argument| argument == "--bench") { LIVE.len() } else { 1 };
    println!("ns for a free and an allocation, mean (longest), by how many objects are alive\n");
    println!("{:>8} {:>24} {:>24}  ratio", "", "Granite (TLSF)", "linked_list_allocator");
    let mut worst = f64::INFINITY;
    let mut first = 0.0;
    let mut last = 0.0;
    for &live in &LIVE[..max] {
        let (ours, longest) = measure(&Heap::new(block()), live);
        let Block { next, .. } = block();
        // SAFETY: the block is leaked and has no other user.
        let linked =
            unsafe { linked_list_allocator::Heap::new(std::ptr::with_exposed_provenance_mut(next), BYTES) };
        let (theirs, their_longest) = measure(&Linked(IrqMutex::new(linked)), live);
        let (own, other) = (format!("{ours:.0} ({longest})"), format!("{theirs:.0} ({their_longest})"));
        println!("{live:8} {own:>24} {other:>24} {:6.1}", theirs / ours);
        // With a hundred objects, the other allocator's list is short.
        if live >= 1000 {
            worst = worst.min(theirs / ours);
        }
        if first == 0.0 {
            first = ours;
        }
        last = ours;
    }
    let verdict = |holds: bool| if holds { "ok  " } else { "MISS" };
    println!(
        "\n{} from 1000 objects on, against the other: {worst:.1} (wanted: at least 1)",
        verdict(worst >= 1.0)
    );
    let growth = last / first;
    println!(
        "{} with 500 times the objects: {growth:.1} times as long (wanted: at most 10)",
        verdict(growth <= 10.0)
    );
}
