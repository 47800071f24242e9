//! Models of the freelist.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};

use granite_core::abi::grant::GrantRef;
use granite_core::freelist::{Freelist, OwnedRef};
use granite_core::sync::{NO_VCPU, Vcpu};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// The maximum number of references; 0 is never handed out. Their bits take two words, and the first chunk of a
/// model has one.
const ALL: u32 = 80;

loom::thread_local! {
    static INDEX: Cell<usize> = Cell::new(NO_VCPU);
}

struct Thread;

// SAFETY: each thread of a model sets its own number.
unsafe impl Vcpu for Thread {
    fn index(&self) -> usize {
        INDEX.with(Cell::get)
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

/// A list, and a cell for each of its references.
struct Model {
    list: Freelist<Thread>,
    cells: Vec<UnsafeCell<u32>>,
}

// SAFETY: loom checks that each cell has one user at a time.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    /// Creates a list of the references from `first` to `last`, with this many caches.
    fn with(first: u32, last: u32, caches: usize) -> Arc<Self> {
        let list = Freelist::new(Thread, GrantRef(first), caches).unwrap();
        list.make_room(ALL).unwrap();
        list.grow(last + 1).unwrap();
        Arc::new(Self { list, cells: (0..ALL).map(|_| UnsafeCell::new(0)).collect() })
    }

    /// Creates a list of the references from 1 to `count`.
    fn new(count: u32, caches: usize) -> Arc<Self> {
        Self::with(1, count, caches)
    }

    /// Writes the cell of the reference.
    fn touch(&self, reference: &OwnedRef) {
        // SAFETY: the owner of the reference owns the cell; loom checks it.
        self.cells[reference.get().0 as usize].with_mut(|cell| unsafe { *cell += 1 });
    }

    fn alloc(&self) -> Option<OwnedRef> {
        let reference = self.list.alloc().ok()?;
        self.touch(&reference);
        Some(reference)
    }

    fn free(&self, reference: OwnedRef) {
        self.touch(&reference);
        self.list.free(reference).unwrap();
    }

    fn many(&self, count: u32) -> Vec<OwnedRef> {
        let mut taken = Vec::new();
        let _ = self.list.alloc_many(count, &mut taken);
        taken.iter().for_each(|reference| self.touch(reference));
        taken
    }

    fn run(&self, count: u32) -> Vec<OwnedRef> {
        let run: Vec<_> = self.list.alloc_run(count).into_iter().flatten().collect();
        run.iter().for_each(|reference| self.touch(reference));
        assert!(run.windows(2).all(|pair| pair[0].get().0 + 1 == pair[1].get().0));
        run
    }

    /// Returns a reference. If none is free, registers `waker` for the next free, then tries again.
    fn wait(&self, waker: &Waker) -> Option<OwnedRef> {
        self.alloc().or_else(|| {
            self.list.wait(waker);
            self.alloc()
        })
    }

    /// Checks at the end that no reference is lost or duplicated, wherever it was cached.
    fn check<'r>(&self, out: impl IntoIterator<Item = &'r OwnedRef>) {
        let mut seen: Vec<u32> = out.into_iter().map(|reference| reference.get().0).collect();
        let mut rest = Vec::new();
        for index in [0, 1, NO_VCPU] {
            INDEX.with(|own| own.set(index));
            rest.extend(std::iter::from_fn(|| self.alloc()));
        }
        seen.extend(rest.iter().map(|reference| reference.get().0));
        let stats = self.list.stats();
        assert_eq!((stats.free, stats.in_use), (0, stats.total));
        seen.sort_unstable();
        assert_eq!(seen, (self.list.limit() - stats.total..self.list.limit()).collect::<Vec<_>>());
    }
}

/// Runs both sides at once, the second on its own thread, as vCPUs with these numbers.
fn race<A, B: 'static>(
    model: &Arc<Model>,
    vcpus: [usize; 2],
    first: impl FnOnce(&Model) -> A,
    second: impl FnOnce(&Model) -> B + 'static,
) -> (A, B) {
    let other = {
        let model = model.clone();
        thread::spawn(move || {
            INDEX.with(|index| index.set(vcpus[1]));
            second(&model)
        })
    };
    INDEX.with(|index| index.set(vcpus[0]));
    let a = first(model);
    (a, other.join().unwrap())
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

#[test]
fn alloc_against_alloc() {
    explore(|| {
        let model = Model::new(2, 2);
        let (a, b) = race(&model, [0, 1], Model::alloc, Model::alloc);
        model.check(a.iter().chain(&b));
    });
}

/// A freed reference goes to one new owner, along with everything its old owner did.
#[test]
fn alloc_against_free() {
    explore(|| {
        let model = Model::new(2, 0);
        let taken = model.alloc().unwrap();
        let allocs = |model: &Model| [model.alloc(), model.alloc()];
        let (a, b) = race(&model, [NO_VCPU; 2], allocs, move |model| {
            model.free(taken);
            model.alloc()
        });
        model.check(a.iter().flatten().chain(&b));
    });
}

/// With one more reference free than both threads take, neither allocation fails.
#[test]
fn exhausted_only_if_none_is_free() {
    explore(|| {
        let model = Model::new(3, 0);
        let (a, b) = race(&model, [NO_VCPU; 2], Model::alloc, Model::alloc);
        assert!(a.is_some() && b.is_some(), "two of three: {a:?} {b:?}");
        model.check(a.iter().chain(&b));
    });
}

/// An allocation succeeds however often the other thread is faster: of four references, one is left for the third
/// allocation.
#[test]
fn exhausted_only_if_none_is_free_however_often_another_is_first() {
    explore(|| {
        let model = Model::new(4, 0);
        let twice = |model: &Model| [model.alloc(), model.alloc()];
        let (a, b) = race(&model, [NO_VCPU; 2], Model::alloc, twice);
        assert!(a.is_some() && b.iter().all(Option::is_some), "three of four: {a:?} {b:?}");
        model.check(a.iter().chain(b.iter().flatten()));
    });
}

#[test]
fn many_against_single() {
    explore(|| {
        let model = Model::new(3, 0);
        let many = |model: &Model| {
            let mut taken = model.many(2);
            model.list.free_many(&mut taken);
        };
        let ((), single) = race(&model, [NO_VCPU; 2], many, |model| {
            let reference = model.alloc()?;
            model.free(reference);
            model.alloc()
        });
        assert!(single.is_some(), "one is free all the time");
        model.check(&single);
    });
}

#[test]
fn run_against_run_across_words() {
    explore(|| {
        let model = Model::with(62, 66, 0); // 62, 63 | 64, 65, 66
        let (a, b) = race(&model, [NO_VCPU; 2], |model| model.run(3), |model| model.run(3));
        assert!(a.is_empty() || b.is_empty());
        model.check(a.iter().chain(&b));
    });
}

#[test]
fn run_against_alloc_and_free() {
    explore(|| {
        let model = Model::new(3, 0);
        let run = |model: &Model| model.run(2);
        let (run, single) = race(&model, [NO_VCPU; 2], run, |model| {
            let reference = model.alloc()?;
            model.free(reference);
            model.alloc()
        });
        model.check(run.iter().chain(&single));
    });
}

#[test]
fn growth_against_alloc() {
    explore(|| {
        let model = Model::new(1, 1);
        let grow = |model: &Model| {
            // Growth does this for the new entries before it hands out their references.
            // SAFETY: the reference has no owner yet; loom checks it.
            model.cells[2].with_mut(|cell| unsafe { *cell = 7 });
            model.list.grow(3).unwrap();
        };
        let (out, ()) = race(&model, [0, NO_VCPU], |model| [model.alloc(), model.alloc()], grow);
        model.check(out.iter().flatten());
    });
}

#[test]
fn growth_against_growth() {
    explore(|| {
        let model = Model::new(1, 0);
        let grow = |model: &Model| model.list.grow(4).unwrap();
        race(&model, [NO_VCPU; 2], grow, grow);
        model.check([]);
    });
}

/// A full cache gives away half of its references while another vCPU is short of them.
#[test]
fn a_full_cache_against_alloc() {
    explore(|| {
        let model = Model::new(16, 2); // two to a cache
        INDEX.with(|index| index.set(0));
        // Take all references, but no more: a failed allocation would declare a shortage.
        let mut all: Vec<_> = (0..16).map(|_| model.alloc().unwrap()).collect();
        let last = all.split_off(13);
        let frees = move |model: &Model| last.into_iter().for_each(|reference| model.free(reference));
        let ((), other) = race(&model, [0, 1], frees, Model::alloc);
        model.check(all.iter().chain(&other));
    });
}

/// Parking and unparking hand a reference over from one thread to another.
#[test]
fn park_against_unpark() {
    explore(|| {
        let model = Model::new(2, 0);
        let first = model.alloc().unwrap();
        let park = move |model: &Model| {
            model.touch(&first);
            model.list.park(first).unwrap();
        };
        let unpark = |model: &Model| {
            let taken = model.list.unpark()?;
            model.touch(&taken);
            Some(taken)
        };
        let (taken, ()) = race(&model, [NO_VCPU; 2], unpark, park);
        let left = model.list.unpark();
        assert!(taken.is_some() != left.is_some());
        model.check(taken.iter().chain(&left));
    });
}

#[derive(Default)]
struct Counter(AtomicU32);

impl Wake for Counter {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A waiter gets a reference or is woken, unless none is free in the end. It first takes `before` references.
fn holds_and_waits_against<B: 'static>(
    model: &Arc<Model>,
    before: usize,
    vcpus: [usize; 2],
    other: impl FnOnce(&Model) -> B + 'static,
) -> (Vec<OwnedRef>, B) {
    let woken = std::sync::Arc::new(Counter::default());
    let waker = Waker::from(woken.clone());
    let waits = move |model: &Model| {
        let mut taken: Vec<_> = (0..before).filter_map(|_| model.alloc()).collect();
        let got = model.wait(&waker);
        let sleeps = got.is_none();
        taken.extend(got);
        (taken, sleeps)
    };
    let ((taken, sleeps), other) = race(model, vcpus, waits, other);
    let free = model.list.stats().free;
    let is_woken = woken.0.load(Ordering::Relaxed) > 0;
    assert!(!sleeps || is_woken || free == 0, "it sleeps, and {free} are free");
    (taken, other)
}

/// The same, for a waiter without any references before.
fn waits_against<B: 'static>(
    model: &Arc<Model>,
    vcpus: [usize; 2],
    other: impl FnOnce(&Model) -> B + 'static,
) -> (Option<OwnedRef>, B) {
    let (mut taken, other) = holds_and_waits_against(model, 0, vcpus, other);
    (taken.pop(), other)
}

#[test]
fn wait_against_free() {
    explore(|| {
        let model = Model::new(1, 0);
        let taken = model.alloc().unwrap();
        let (got, ()) = waits_against(&model, [NO_VCPU; 2], move |model| model.free(taken));
        model.check(&got);
    });
}

/// A reference freed into a vCPU's cache wakes the waiter when the vCPU halts.
#[test]
fn wait_against_a_vcpu_that_frees_and_halts() {
    explore(|| {
        let model = Model::new(8, 1);
        INDEX.with(|index| index.set(0));
        // No shortage may be declared yet, or the last free would bypass the cache.
        let mut all: Vec<_> = (0..8).map(|_| model.alloc().unwrap()).collect();
        let last = all.pop().unwrap();
        let (got, ()) = waits_against(&model, [NO_VCPU, 0], move |model| {
            model.free(last);
            model.list.flush();
        });
        model.check(all.iter().chain(&got));
    });
}

/// A vCPU refilling its cache keeps the last reference from a waiter only for a moment.
#[test]
fn wait_against_refill() {
    explore(|| {
        let model = Model::new(8, 1);
        let (got, other) = waits_against(&model, [NO_VCPU, 0], Model::alloc);
        model.check(got.iter().chain(&other));
    });
}

#[test]
fn wait_against_alloc_of_one_of_three() {
    explore(|| {
        let model = Model::new(3, 0);
        let (got, other) = waits_against(&model, [NO_VCPU; 2], Model::alloc);
        assert!(got.is_some(), "three are enough for two");
        model.check(got.iter().chain(&other));
    });
}

/// An allocation of several references puts them back if it fails: one of the two was taken meanwhile.
#[test]
fn wait_against_many_that_fail() {
    explore(|| {
        let model = Model::new(2, 0);
        let (taken, many) = holds_and_waits_against(&model, 1, [NO_VCPU; 2], |model| model.many(2));
        model.check(taken.iter().chain(&many));
    });
}

/// An allocation of a run puts its part back if the rest was taken.
#[test]
fn wait_against_a_run_that_fails() {
    explore(|| {
        let model = Model::with(63, 64, 0); // 63 | 64
        let (taken, run) = holds_and_waits_against(&model, 1, [NO_VCPU; 2], |model| model.run(2));
        model.check(taken.iter().chain(&run));
    });
}

#[test]
fn wait_against_growth() {
    explore(|| {
        let model = Model::new(1, 0);
        let taken = model.alloc().unwrap();
        let (got, ()) = waits_against(&model, [NO_VCPU; 2], |model| model.list.grow(3).unwrap());
        model.check(got.iter().chain([&taken]));
    });
}

/// A waiter arrives while another thread's shortage is being ended.
#[test]
fn wait_against_the_end_of_a_shortage() {
    explore(|| {
        let model = Model::new(2, 0);
        let (first, second) = (model.alloc().unwrap(), model.alloc().unwrap());
        assert!(model.alloc().is_none(), "the shortage is declared");
        let (got, ()) = waits_against(&model, [NO_VCPU; 2], move |model| {
            model.free(first);
            model.free(second);
        });
        model.check(&got);
    });
}
