//! Compares the freelist with those of other systems: `cargo bench --bench freelist`. All figures come from one run,
//! with one thread pinned to each processor; only the ratios matter. `cargo xtask bench` also runs it at the
//! optimisation level of guests.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod patterns;
mod peers;
mod table;

use std::cell::Cell;
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use granite_core::abi::grant::GrantRef;
use granite_core::freelist::{Freelist, OwnedRef};
use granite_core::sync::{NO_VCPU, Vcpu};

use patterns::{PATTERNS, Pattern};
use peers::List;

/// The number of references, equal to a table's default.
pub const COUNT: u32 = 32_768;
/// The number of rounds; each measures every list under every pattern.
const ROUNDS: usize = 21;
/// The maximum number of threads using a list at once.
pub const THREADS: usize = 2;

thread_local! {
    /// The number of this thread.
    pub static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// A thread as a vCPU. The code starting the threads of a round numbers them.
struct Thread;

// SAFETY: each thread of a measurement has its own number, and all are joined before others are started.
unsafe impl Vcpu for Thread {
    #[inline]
    fn index(&self) -> usize {
        THREAD.with(Cell::get)
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

struct Ours(Freelist<Thread>);

impl List for Ours {
    type Ref = OwnedRef;
    type Local<'l> = &'l Freelist<Thread>;
    const NAME: &'static str = "Granite";

    fn new(count: u32) -> Self {
        let list = Freelist::new(Thread, GrantRef::FIRST_FREE, THREADS).unwrap();
        list.grow(count).unwrap();
        Self(list)
    }

    fn local(&self) -> &Freelist<Thread> {
        &self.0
    }

    #[inline]
    fn alloc(list: &&Freelist<Thread>) -> Option<OwnedRef> {
        list.alloc().ok()
    }

    #[inline]
    fn free(list: &&Freelist<Thread>, reference: OwnedRef) {
        assert!(list.free(reference).is_ok());
    }

    fn halt(list: &&Freelist<Thread>) {
        list.flush();
    }

    fn alloc_many(list: &&Freelist<Thread>, count: usize, into: &mut Vec<OwnedRef>) -> bool {
        list.alloc_many(count as u32, into).is_ok()
    }

    fn free_many(list: &&Freelist<Thread>, references: &mut Vec<OwnedRef>) {
        list.free_many(references);
    }
}

/// An interrupt handler: it has no cache.
struct Handler;

// SAFETY: `NO_VCPU` is not a vCPU's number.
unsafe impl Vcpu for Handler {
    #[inline]
    fn index(&self) -> usize {
        NO_VCPU
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

struct InHandlers(Freelist<Handler>);

impl List for InHandlers {
    type Ref = OwnedRef;
    type Local<'l> = &'l Freelist<Handler>;
    const NAME: &'static str = "Granite, in interrupt handlers";

    fn new(count: u32) -> Self {
        let list = Freelist::new(Handler, GrantRef::FIRST_FREE, THREADS).unwrap();
        list.grow(count).unwrap();
        Self(list)
    }

    fn local(&self) -> &Freelist<Handler> {
        &self.0
    }

    #[inline]
    fn alloc(list: &&Freelist<Handler>) -> Option<OwnedRef> {
        list.alloc().ok()
    }

    #[inline]
    fn free(list: &&Freelist<Handler>, reference: OwnedRef) {
        assert!(list.free(reference).is_ok());
    }
}

/// Pins the calling thread to a processor.
pub fn pin(processor: usize) {
    // SAFETY: a set of processors is plain data, and the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Returns the nanoseconds of one `lock cmpxchg` on a word without other users.
fn exchange() -> f64 {
    const TIMES: u64 = 400_000;
    let word = AtomicU64::new(0);
    pin(0);
    let started = Instant::now();
    for i in 0..TIMES {
        let exchanged = black_box(&word).compare_exchange(i, i + 1, Ordering::AcqRel, Ordering::Relaxed);
        black_box(exchanged.is_ok());
    }
    started.elapsed().as_nanos() as f64 / TIMES as f64
}

/// A list's role in the comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Ours,
    /// Printed, but not compared.
    Shown,
    /// Granite must not be slower than this list.
    Peer,
}

/// The figures of one list: for each pattern and number of threads, one figure per round.
struct Row {
    name: &'static str,
    role: Role,
    measure: fn(&Pattern, usize) -> Option<f64>,
    rounds: Vec<[Vec<f64>; THREADS]>,
}

fn row<L: List>(role: Role) -> Row {
    Row {
        name: L::NAME,
        role,
        measure: patterns::measure::<L>,
        rounds: vec![Default::default(); PATTERNS.len()],
    }
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

impl Row {
    fn figure(&self, pattern: usize, threads: usize) -> Option<f64> {
        median(self.rounds[pattern][threads - 1].iter().copied())
    }

    /// Returns how many times as long `other` takes. The ratio is taken round by round, since the processor's clock
    /// changes between rounds.
    fn ratio(&self, other: &Self, pattern: usize, threads: usize) -> Option<f64> {
        let of = |row: &Self| row.rounds[pattern][threads - 1].clone();
        median(of(self).into_iter().zip(of(other)).map(|(own, other)| other / own))
    }
}

fn main() {
    // `cargo test --benches` only checks whether the benchmark runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    // `cargo bench --bench freelist -- burst` measures only the patterns with this text in their names.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut rows = [
        row::<Ours>(Role::Ours),
        row::<InHandlers>(Role::Shown),
        row::<peers::LinuxPrivate>(Role::Shown),
        row::<peers::Linux>(Role::Peer),
        row::<peers::PerCpu>(Role::Peer),
        row::<peers::FreeBsd>(Role::Peer),
        row::<peers::MiniOs>(Role::Peer),
        row::<peers::NetBsd>(Role::Peer),
        row::<peers::UniRs>(Role::Peer),
        row::<peers::Treiber>(Role::Peer),
        row::<peers::Crossbeam>(Role::Peer),
    ];
    let mut exchanges = Vec::new();
    for round in 1..=rounds {
        eprint!("\rround {round} of {rounds}");
        drop(std::io::stderr().flush());
        exchanges.push(exchange());
        let patterns = PATTERNS.iter().enumerate().filter(|(_, pattern)| pattern.name.contains(&filter));
        for (index, pattern) in patterns {
            for row in &mut rows {
                for threads in 1..=THREADS {
                    row.rounds[index][threads - 1].extend((row.measure)(pattern, threads));
                }
            }
        }
    }
    eprintln!();
    table::print(&rows, &exchanges);
}
