//! The patterns: how threads use a list, repeatedly.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::peers::List;
use super::{COUNT, THREAD, pin};

/// The time for measuring a list under one pattern.
const WINDOW: Duration = Duration::from_millis(6);

/// The work of each thread.
#[derive(Clone, Copy)]
pub enum Work {
    /// Takes a reference and gives it back.
    Pair,
    /// Takes this many references one by one, and gives them back, the last first.
    Burst(usize),
    /// The same, but gives the first back first.
    Queue(usize),
    /// Takes this many references in one call, and gives them back in one call.
    Many(usize),
    /// One thread takes references, and the other gives them back.
    HandOver,
}

/// A pattern of use.
pub struct Pattern {
    pub name: &'static str,
    pub work: Work,
    /// How many references stay allocated all the time, given the total.
    pub stuck: fn(u32) -> u32,
    /// Whether two threads together want more references than are free.
    pub is_scarce: bool,
}

const fn all_free(name: &'static str, work: Work) -> Pattern {
    Pattern { name, work, stuck: |_| 0, is_scarce: false }
}

pub const PATTERNS: &[Pattern] = &[
    all_free("pair", Work::Pair),
    all_free("burst of 2", Work::Burst(2)),
    all_free("burst of 8", Work::Burst(8)),
    all_free("burst of 32", Work::Burst(32)),
    all_free("queue of 32", Work::Queue(32)),
    all_free("burst of 64", Work::Burst(64)),
    all_free("burst of 200", Work::Burst(200)),
    all_free("queue of 1000", Work::Queue(1000)),
    all_free("32 at once", Work::Many(32)),
    all_free("256 at once", Work::Many(256)),
    Pattern { name: "1 % stuck, 200", work: Work::Burst(200), stuck: |all| all / 100, is_scarce: false },
    Pattern { name: "100 left, 40", work: Work::Burst(40), stuck: |all| all - 100, is_scarce: false },
    Pattern { name: "16 left, 12", work: Work::Burst(12), stuck: |all| all - 16, is_scarce: true },
    all_free("hand-over", Work::HandOver),
];

/// Returns the nanoseconds per reference taken and given back by one of `threads` threads. Returns `None` for a
/// hand-over with one thread, or with a list that isn't [`SHARED`](List::SHARED).
pub fn measure<L: List>(pattern: &Pattern, threads: usize) -> Option<f64> {
    let list = L::new(COUNT);
    THREAD.with(|number| number.set(0));
    let local = list.local();
    let stuck = (pattern.stuck)(COUNT - 8) as usize;
    // Take them one by one from all over the list, as references get stuck in practice.
    let mut stuck_ones = Vec::new();
    if stuck > 0 {
        let mut all: Vec<_> = std::iter::from_fn(|| L::alloc(&local)).collect();
        let step = all.len() as f64 / (all.len() - stuck) as f64;
        let mut next = 0.0;
        for (index, reference) in all.drain(..).enumerate() {
            if index as f64 >= next {
                next += step;
                L::free(&local, reference);
            } else {
                stuck_ones.push(reference);
            }
        }
    }
    L::halt(&local);
    let result = match pattern.work {
        Work::HandOver if threads == 1 || !L::SHARED => None,
        Work::HandOver => Some(hand_over(&list)),
        _ => Some(alone(&list, pattern.work, threads)),
    };
    drop(stuck_ones);
    result
}

fn alone<L: List>(list: &L, work: Work, threads: usize) -> f64 {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = |thread| {
            let (start, stop) = (&start, &stop);
            scope.spawn(move || {
                pin(thread);
                THREAD.with(|number| number.set(thread));
                let local = list.local();
                let mut held = VecDeque::with_capacity(1024);
                let mut many = Vec::with_capacity(1024);
                start.wait();
                let started = Instant::now();
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    done += once::<L>(&local, work, &mut held, &mut many);
                }
                done as f64 / started.elapsed().as_nanos() as f64
            })
        };
        let workers: Vec<_> = (0..threads).map(worker).collect();
        start.wait();
        std::thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        let rate: f64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        threads as f64 / rate
    })
}

/// Takes and gives back about a thousand references. Returns their number.
fn once<L: List>(
    list: &L::Local<'_>,
    work: Work,
    held: &mut VecDeque<L::Ref>,
    many: &mut Vec<L::Ref>,
) -> u64 {
    let mut done = 0;
    match work {
        Work::Pair => {
            for _ in 0..1000 {
                // The compiler keeps all locks and atomics, so no value has to be hidden from it.
                if let Some(reference) = L::alloc(list) {
                    L::free(list, reference);
                    done += 1;
                }
            }
        }
        Work::Burst(count) | Work::Queue(count) => {
            for _ in 0..(1000 / count).max(1) {
                for _ in 0..count {
                    let Some(reference) = L::alloc(list) else { break };
                    held.push_back(black_box(reference));
                }
                done += held.len() as u64;
                let next = match work {
                    Work::Burst(_) => VecDeque::pop_back,
                    _ => VecDeque::pop_front,
                };
                while let Some(reference) = next(held) {
                    L::free(list, black_box(reference));
                }
            }
        }
        Work::Many(count) => {
            for _ in 0..(1000 / count).max(1) {
                if L::alloc_many(list, count, many) {
                    black_box(&mut *many);
                    L::free_many(list, many);
                    done += count as u64;
                }
            }
        }
        Work::HandOver => {}
    }
    done
}

/// The place of a reference on its way from one thread to the other.
struct Place<R>(UnsafeCell<Option<R>>);

// SAFETY: the indices of `hand_over` give each place to one thread at a time.
unsafe impl<R: Send> Sync for Place<R> {}

fn hand_over<L: List>(list: &L) -> f64 {
    const PLACES: u64 = 256;
    let ring: Vec<Place<L::Ref>> = (0..PLACES).map(|_| Place(UnsafeCell::new(None))).collect();
    let (given, taken, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let place = |index: u64| ring[(index % PLACES) as usize].0.get();
    std::thread::scope(|scope| {
        let (ring, given, taken, stop) = (&ring, &given, &taken, &stop);
        let _ = ring;
        let taker = scope.spawn({
            let place = &place;
            move || {
                pin(0);
                THREAD.with(|number| number.set(0));
                let (local, started, mut index) = (list.local(), Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) {
                    // Acquire, here and below: pairs with the other thread's Release.
                    if index - taken.load(Ordering::Acquire) < PLACES
                        && let Some(reference) = L::alloc(&local)
                    {
                        // SAFETY: the place is empty, and the other thread waits for the index.
                        unsafe { *place(index) = Some(reference) };
                        index += 1;
                        given.store(index, Ordering::Release);
                    }
                }
                index as f64 / started.elapsed().as_nanos() as f64
            }
        });
        scope.spawn({
            let place = &place;
            move || {
                pin(1);
                THREAD.with(|number| number.set(1));
                let (local, mut index) = (list.local(), 0);
                loop {
                    if given.load(Ordering::Acquire) > index {
                        // SAFETY: the place is filled, and the other thread waits for the index.
                        if let Some(reference) = unsafe { (*place(index)).take() } {
                            L::free(&local, reference);
                        }
                        index += 1;
                        taken.store(index, Ordering::Release);
                    } else if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        std::thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        1.0 / taker.join().unwrap()
    })
}
