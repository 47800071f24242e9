//! The freelist against what other systems use: `cargo bench`. Every figure is of this run, with one thread
//! pinned to each processor, and what counts are the ratios.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

mod peers;

use std::cell::Cell;
use std::hint::black_box;
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use granite::abi::grant::GrantRef;
use granite::grant::freelist::{Freelist, Local, OwnedRef};
use granite::sync::Vcpu;

use peers::List;

/// References, as many as a table has by default.
const COUNT: u32 = 32_768;
/// Rounds; each measures every list under every load.
const ROUNDS: usize = 21;
/// How long a list is measured under one load.
const WINDOW: Duration = Duration::from_millis(10);
const THREADS: usize = 2;

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// The threads of a round are numbered by who starts them.
struct Thread;

// SAFETY: `measure` gives each of its threads another number, and joins them before it starts others.
unsafe impl Vcpu for Thread {
    #[inline]
    fn index(&self) -> usize {
        THREAD.with(Cell::get)
    }
}

struct Ours(Freelist<Thread>);

impl List for Ours {
    type Ref = OwnedRef;
    type Local<'l> = Local<'l, Thread>;
    const NAME: &'static str = "Granite";

    fn new(count: u32) -> Self {
        let list = Freelist::new(Thread, GrantRef::FIRST_FREE, count, THREADS);
        list.grow(count);
        Self(list)
    }

    fn local(&self) -> Local<'_, Thread> {
        self.0.local()
    }

    #[inline]
    fn alloc(local: &Local<'_, Thread>) -> Option<OwnedRef> {
        local.alloc().ok()
    }

    #[inline]
    fn free(local: &Local<'_, Thread>, reference: OwnedRef) {
        assert!(local.free(reference).is_ok());
    }

    fn alloc_batch(local: &Local<'_, Thread>, count: usize, into: &mut Vec<OwnedRef>) -> bool {
        into.reserve(count);
        local.list().alloc_batch(count as u32, |reference| into.push(reference)).is_ok()
    }

    fn free_batch(local: &Local<'_, Thread>, references: &mut Vec<OwnedRef>) {
        assert!(local.list().free_batch(references.drain(..)).is_ok());
    }
}

/// The same, asked each time which vCPU it is.
struct Asking(Freelist<Thread>);

impl List for Asking {
    type Ref = OwnedRef;
    type Local<'l> = &'l Freelist<Thread>;
    const NAME: &'static str = "Granite, asking for the vCPU";

    fn new(count: u32) -> Self {
        Self(Ours::new(count).0)
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

    fn alloc_batch(list: &&Freelist<Thread>, count: usize, into: &mut Vec<OwnedRef>) -> bool {
        into.reserve(count);
        list.alloc_batch(count as u32, |reference| into.push(reference)).is_ok()
    }

    fn free_batch(list: &&Freelist<Thread>, references: &mut Vec<OwnedRef>) {
        assert!(list.free_batch(references.drain(..)).is_ok());
    }
}

/// What each thread does over and over.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// References that are taken at once; 1: one by one.
    batch: usize,
    /// References that are out before and stay out, of [`COUNT`].
    stuck: fn(u32) -> u32,
}

const LOADS: &[Load] = &[
    Load { name: "pair", batch: 1, stuck: |_| 0 },
    Load { name: "batch of 32", batch: 32, stuck: |_| 0 },
    Load { name: "batch of 256", batch: 256, stuck: |_| 0 },
    Load { name: "near exhaustion", batch: 1, stuck: |all| all - 16 },
    Load { name: "1 % stuck", batch: 1, stuck: |all| all / 100 },
];

fn pin(processor: usize) {
    // SAFETY: a set of processors is plain data, and the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Nanoseconds for one reference taken and freed, by one thread of `threads`.
fn measure<L: List>(load: Load, threads: usize) -> f64 {
    let list = L::new(COUNT);
    // One by one from all over the list, as they get stuck in truth.
    let local = list.local();
    let mut taken: Vec<_> = std::iter::from_fn(|| L::alloc(&local)).collect();
    let stuck = taken.split_off(taken.len() - (load.stuck)(COUNT - 8) as usize);
    taken.into_iter().for_each(|reference| L::free(&local, reference));

    let start = Barrier::new(threads + 1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let work = |thread| {
            let (list, start, stop) = (&list, &start, &stop);
            scope.spawn(move || {
                pin(thread);
                THREAD.with(|number| number.set(thread));
                let mut batch = Vec::with_capacity(load.batch);
                let list = list.local();
                start.wait();
                let started = Instant::now();
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    done += several::<L>(&list, load.batch, &mut batch);
                }
                done as f64 / started.elapsed().as_nanos() as f64
            })
        };
        let workers: Vec<_> = (0..threads).map(work).collect();
        start.wait();
        std::thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
        let rate: f64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        drop(stuck);
        threads as f64 / rate
    })
}

/// Takes and frees some references, and tells how many.
fn several<L: List>(list: &L::Local<'_>, batch: usize, buffer: &mut Vec<L::Ref>) -> u64 {
    let mut done = 0;
    if batch == 1 {
        for _ in 0..1000 {
            // Locks and atomics are all left in by the compiler: nothing needs to be hidden from it.
            if let Some(reference) = L::alloc(list) {
                L::free(list, reference);
                done += 1;
            }
        }
        return done;
    }
    for _ in 0..10 {
        if L::alloc_batch(list, batch, buffer) {
            black_box(&mut *buffer);
            L::free_batch(list, buffer);
            done += batch as u64;
        }
    }
    done
}

/// Nanoseconds for one `lock cmpxchg` on a word that nobody else uses.
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

/// The figures of one list: per load and number of threads, one of each round.
struct Row {
    name: &'static str,
    measure: fn(Load, usize) -> f64,
    rounds: Vec<[Vec<f64>; THREADS]>,
}

fn row<L: List>() -> Row {
    Row { name: L::NAME, measure: measure::<L>, rounds: vec![Default::default(); LOADS.len()] }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

impl Row {
    fn figure(&self, load: usize, threads: usize) -> f64 {
        median(self.rounds[load][threads - 1].iter().copied())
    }

    /// How many times the throughput of this list `other` has: round by round, since the processor's clock
    /// moves between them.
    fn ratio(&self, other: &Self, load: usize, threads: usize) -> f64 {
        let of = |row: &Self| row.rounds[load][threads - 1].clone();
        median(of(self).into_iter().zip(of(other)).map(|(figure, other)| figure / other))
    }
}

fn main() {
    // `cargo test --benches` asks only whether it runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let mut rows = [
        row::<Ours>(),
        row::<Asking>(),
        row::<peers::Linux>(),
        row::<peers::FreeBsd>(),
        row::<peers::MiniOs>(),
        row::<peers::NetBsd>(),
        row::<peers::UniRs>(),
        row::<peers::Treiber>(),
        row::<peers::Crossbeam>(),
    ];
    let mut exchanges = Vec::new();
    for round in 1..=rounds {
        eprint!("\rround {round} of {rounds}");
        drop(std::io::stderr().flush());
        exchanges.push(exchange());
        for (index, load) in LOADS.iter().enumerate() {
            for row in &mut rows {
                for threads in 1..=THREADS {
                    row.rounds[index][threads - 1].push((row.measure)(*load, threads));
                }
            }
        }
    }
    eprintln!();
    print(&rows, &exchanges);
}

fn print(rows: &[Row], exchanges: &[f64]) {
    let [ours, _, peers @ ..] = rows else { return };
    println!("one uncontended lock cmpxchg: {:.2} ns\n", median(exchanges.iter().copied()));
    println!(
        "ns for one reference taken and freed, by each of 1 and of 2 threads; in brackets how many times"
    );
    println!("the throughput Granite has. Medians of {} rounds.\n", exchanges.len());
    print!("{:32}", "");
    LOADS.iter().for_each(|load| print!("{:>31}", load.name));
    println!();
    for row in rows {
        print!("{:32}", row.name);
        for load in 0..LOADS.len() {
            for threads in 1..=THREADS {
                print!("{:7.1} ({:5.1})", row.figure(load, threads), row.ratio(ours, load, threads));
            }
            print!(" ");
        }
        println!();
    }
    println!();
    let least = |load: usize, threads: usize| {
        peers.iter().map(|peer| peer.ratio(ours, load, threads)).fold(f64::INFINITY, f64::min)
    };
    let verdict = |what: &str, is: f64, holds: bool, wanted: &str| {
        println!("{} {what}: {is:.2} (wanted: {wanted})", if holds { "ok  " } else { "MISS" });
    };
    let [single, double] = &ours.rounds[0];
    let cost = median(single.iter().zip(exchanges).map(|(pair, exchange)| pair / exchange));
    verdict("a pair, in lock cmpxchg", cost, cost <= 1.0, "at most 1.0");
    let scaling = median(single.iter().zip(double).map(|(one, two)| 2.0 * one / two));
    verdict("two threads, in throughputs of one", scaling, scaling >= 1.8, "at least 1.8");
    let two = least(0, 2);
    verdict("pairs by two threads, against the best peer", two, two >= 10.0, "at least 10");
    for (load, name) in LOADS.iter().enumerate().skip(1) {
        let ratio = least(load, 2);
        let what = format!("{} by two threads, against the best peer", name.name);
        verdict(&what, ratio, ratio >= 1.0, "at least 1.0");
        // A list under a lock that nobody contends for is hard to beat at a batch: for the record.
        println!("     {} by one thread, against the best peer: {:.2}", name.name, least(load, 1));
    }
}
