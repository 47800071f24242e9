//! The freelist under real interrupts: threads stand in for vCPUs, and signals arrive at any of their instructions.
//! The signal handler allocates and frees as well.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use granite_core::abi::grant::GrantRef;
use granite_core::freelist::Freelist;
use granite_core::sync::{NO_VCPU, Vcpu};

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(NO_VCPU) };
}

struct Thread;

// SAFETY: each thread has its own number, and the handler has none.
unsafe impl Vcpu for Thread {
    fn index(&self) -> usize {
        INDEX.with(Cell::get)
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        // SAFETY: plain calls on this function's own signal sets.
        let before = unsafe {
            let (mut set, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            before
        };
        let result = run();
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
        result
    }
}

const COUNT: u32 = 2048;
const THREADS: usize = 4;

static LIST: OnceLock<Freelist<Thread>> = OnceLock::new();
/// The owner of each reference: 0 for none, 1 for a thread, 2 for a handler.
static OWNERS: [AtomicU32; COUNT as usize] = [const { AtomicU32::new(0) }; COUNT as usize];
/// How many references the handlers keep between calls.
const KEPT: usize = 64;
static PARKED: AtomicU32 = AtomicU32::new(0);
/// The ids of the threads, for signals.
static IDS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
/// No more signals are sent.
static DONE: AtomicBool = AtomicBool::new(false);
static HANDLED: AtomicU64 = AtomicU64::new(0);
/// How many times in a row a handler found no free reference. Most references are always free.
static REFUSED: AtomicU32 = AtomicU32::new(0);
static TWICE: AtomicBool = AtomicBool::new(false);

fn take(number: GrantRef, owner: u32) {
    if OWNERS[number.0 as usize].swap(owner, Ordering::Relaxed) != 0 {
        TWICE.store(true, Ordering::Relaxed);
    }
}

fn give(number: GrantRef, owner: u32) {
    if OWNERS[number.0 as usize].swap(0, Ordering::Relaxed) != owner {
        TWICE.store(true, Ordering::Relaxed);
    }
}

/// Takes one reference, and frees one taken by an earlier interrupt. It touches only atomics and the thread's
/// number, as a handler may.
extern "C" fn handler(_: libc::c_int) {
    let interrupted = INDEX.with(|index| index.replace(NO_VCPU));
    if let Some(list) = LIST.get() {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        match list.alloc() {
            Ok(reference) => {
                take(reference.get(), 2);
                REFUSED.store(0, Ordering::Relaxed);
                drop(list.park(reference));
                PARKED.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => drop(REFUSED.fetch_add(1, Ordering::Relaxed)),
        }
        if PARKED.load(Ordering::Relaxed) as usize > KEPT
            && let Some(reference) = list.unpark()
        {
            PARKED.fetch_sub(1, Ordering::Relaxed);
            give(reference.get(), 2);
            let _ = list.free(reference);
        }
    }
    INDEX.with(|index| index.set(interrupted));
}

#[test]
fn handlers_and_what_they_interrupt_never_get_the_same_reference() {
    let list = LIST.get_or_init(|| {
        let list = Freelist::new(Thread, GrantRef::FIRST_FREE, THREADS).unwrap();
        list.grow(COUNT).unwrap();
        list
    });
    // SAFETY: the handler does only things allowed in a handler, and the old handler is not needed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let end = Instant::now() + Duration::from_millis(600);
    let running = AtomicU32::new(THREADS as u32);
    std::thread::scope(|scope| {
        let work = |index: usize| {
            let running = &running;
            scope.spawn(move || {
                INDEX.with(|own| own.set(index));
                // SAFETY: returns the id of the calling thread.
                IDS[index].store(unsafe { libc::pthread_self() }, Ordering::Relaxed);
                let mut seed = index as u32 + 1;
                let mut held = Vec::with_capacity(512);
                while Instant::now() < end {
                    for _ in 0..500 {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        match seed >> 28 {
                            0..7 => held.extend(list.alloc().inspect(|own| take(own.get(), 1))),
                            7..13 if !held.is_empty() => {
                                let own = held.swap_remove(seed as usize % held.len());
                                give(own.get(), 1);
                                list.free(own).unwrap();
                            }
                            13 => {
                                let before = held.len();
                                let _ = match seed >> 27 & 1 {
                                    0 => list.alloc_many(seed >> 20 & 63, &mut held),
                                    _ => list.alloc_run((seed >> 20 & 31) + 1).map(|run| held.extend(run)),
                                };
                                held[before..].iter().for_each(|own| take(own.get(), 1));
                            }
                            14 => {
                                held.iter().for_each(|own| give(own.get(), 1));
                                list.free_many(&mut held);
                            }
                            _ => list.flush(),
                        }
                    }
                }
                held.iter().for_each(|own| give(own.get(), 1));
                list.free_many(&mut held);
                list.flush();
                running.fetch_sub(1, Ordering::Relaxed);
                // A thread must stay alive as long as it may be signalled.
                while !DONE.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            })
        };
        let threads: Vec<_> = (0..THREADS).map(work).collect();
        while running.load(Ordering::Relaxed) > 0 {
            for id in IDS.iter().map(|id| id.load(Ordering::Relaxed)).filter(|&id| id != 0) {
                // SAFETY: each thread waits until the others are done, and none is joined before the end of the
                // scope, so the id is valid.
                unsafe { libc::pthread_kill(id, libc::SIGUSR1) };
            }
            std::thread::sleep(Duration::from_micros(30));
        }
        DONE.store(true, Ordering::Relaxed);
        drop(threads);
    });
    while let Some(reference) = list.unpark() {
        give(reference.get(), 2);
        list.free(reference).unwrap();
    }
    assert!(!TWICE.load(Ordering::Relaxed), "a reference had two owners");
    assert!(HANDLED.load(Ordering::Relaxed) > 1000, "{HANDLED:?} interrupts");
    assert_eq!((list.stats().in_use, list.stats().free), (0, COUNT - 8));
    let all: std::collections::BTreeSet<_> =
        std::iter::from_fn(|| list.alloc().ok()).map(|own| own.get()).collect();
    assert_eq!(all.len() as u32, COUNT - 8);
}
