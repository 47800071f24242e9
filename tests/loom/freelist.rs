//! The freelist.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use granite::abi::grant::GrantRef;
use granite::grant::freelist::{Freelist, OwnedRef, Run};
use granite::sync::{NO_VCPU, Vcpu};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// References there are; 0 is never out.
const ALL: u32 = 8;

loom::thread_local! {
    static INDEX: Cell<usize> = Cell::new(NO_VCPU);
}

struct Thread;

// SAFETY: each thread of a model sets another number.
unsafe impl Vcpu for Thread {
    fn index(&self) -> usize {
        INDEX.with(Cell::get)
    }
}

/// A list, and what its references stand for.
struct Model {
    list: Freelist<Thread>,
    cells: Vec<UnsafeCell<u32>>,
}

// SAFETY: that the cells are used by one thread at a time is what loom checks.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    /// References 1 to `count`, for so many caches.
    fn new(count: u32, caches: usize) -> Arc<Self> {
        let list = Freelist::new(Thread, GrantRef(1), ALL, caches);
        list.grow(count + 1);
        Arc::new(Self { list, cells: (0..ALL).map(|_| UnsafeCell::new(0)).collect() })
    }

    /// Uses what the reference stands for.
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

    /// At the end nothing is lost and nothing is there twice, wherever it was cached.
    fn check(&self, out: &[&OwnedRef]) {
        let mut seen: Vec<u32> = out.iter().map(|reference| reference.get().0).collect();
        for index in [0, 1, NO_VCPU] {
            INDEX.with(|own| own.set(index));
            while let Some(reference) = self.alloc() {
                seen.push(reference.get().0);
                self.list.leak(reference).unwrap();
            }
        }
        let stats = self.list.stats();
        assert_eq!((stats.free, stats.in_use), (0, stats.total));
        seen.sort_unstable();
        assert_eq!(seen, (1..=stats.total).collect::<Vec<_>>());
    }
}

/// Runs both sides at once, the second on a thread of its own, as vCPUs of these numbers.
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
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Puts all references into the shared stack, each a chain of its own.
fn shared(model: &Model, count: u32) {
    INDEX.with(|index| index.set(NO_VCPU));
    let all: Vec<_> = (0..count).map(|_| model.alloc().unwrap()).collect();
    all.into_iter().for_each(|reference| model.free(reference));
}

#[test]
fn alloc_against_alloc() {
    explore(|| {
        let model = Model::new(2, 2);
        let (a, b) = race(&model, [0, 1], Model::alloc, Model::alloc);
        model.check(&[&a, &b].into_iter().flatten().collect::<Vec<_>>());
    });
}

#[test]
fn alloc_against_free_with_the_same_head_again() {
    explore(|| {
        let model = Model::new(3, 0);
        shared(&model, 3);
        let (a, b) = race(&model, [NO_VCPU; 2], Model::alloc, |model| {
            // The head comes back with another one below it: ABA, but for the tag.
            let (first, second) = (model.alloc()?, model.alloc());
            model.free(first);
            second
        });
        model.check(&[&a, &b].into_iter().flatten().collect::<Vec<_>>());
    });
}

#[test]
fn batch_against_single() {
    explore(|| {
        let model = Model::new(4, 0);
        shared(&model, 2);
        let batch = |model: &Model| {
            let mut taken = Vec::new();
            model.list.alloc_batch(3, |reference| taken.push(reference)).ok()?;
            taken.iter().for_each(|reference| model.touch(reference));
            model.list.free_batch(taken).ok()
        };
        let (_, single) = race(&model, [NO_VCPU; 2], batch, |model| {
            let reference = model.alloc()?;
            model.free(reference);
            model.alloc()
        });
        model.check(&single.iter().collect::<Vec<_>>());
    });
}

#[test]
fn growth_against_alloc() {
    explore(|| {
        let model = Model::new(1, 1);
        let grow = |model: &Model| {
            // What growth does for the new entries, before their references are handed out.
            // SAFETY: nobody has the reference yet; loom checks it.
            model.cells[2].with_mut(|cell| unsafe { *cell = 7 });
            model.list.grow(3);
        };
        let (out, ()) = race(&model, [0, NO_VCPU], |model| [model.alloc(), model.alloc()], grow);
        model.check(&out.iter().flatten().collect::<Vec<_>>());
    });
}

/// The shape of XSA-228: one vCPU's references are stolen while it frees and refills.
#[test]
fn refill_and_steal_against_free() {
    explore(|| {
        let model = Model::new(6, 2);
        INDEX.with(|index| index.set(0));
        // One that is hot, four in slots; the next free makes a batch of two the spare one.
        let mut all: Vec<_> = (0..6).map(|_| model.alloc().unwrap()).collect();
        let last = all.pop();
        all.into_iter().for_each(|reference| model.free(reference));
        let frees = move |model: &Model| {
            last.map(|reference| model.free(reference));
            model.alloc()
        };
        let (kept, stolen) = race(&model, [0, 1], frees, Model::alloc);
        model.check(&[&kept, &stolen].into_iter().flatten().collect::<Vec<_>>());
    });
}

/// A spare batch goes to its owner or to a thief, never to both.
#[test]
fn owner_and_thief_of_a_spare_batch() {
    explore(|| {
        let model = Model::new(6, 2);
        INDEX.with(|index| index.set(0));
        let all: Vec<_> = (0..6).map(|_| model.alloc().unwrap()).collect();
        all.into_iter().for_each(|reference| model.free(reference));
        // All but the spare ones are out.
        let out: Vec<_> = (0..4).map(|_| model.alloc().unwrap()).collect();
        let (a, b) = race(&model, [0, 1], Model::alloc, Model::alloc);
        model.check(&out.iter().chain([&a, &b].into_iter().flatten()).collect::<Vec<_>>());
    });
}

#[test]
fn a_run_collected_against_alloc_and_free() {
    explore(|| {
        let model = Model::new(3, 0);
        shared(&model, 3);
        let collect = |model: &Model| model.list.collect_run(2).map_or(Vec::new(), Run::collect::<Vec<_>>);
        let (run, single) = race(&model, [NO_VCPU; 2], collect, |model| {
            let reference = model.alloc()?;
            model.free(reference);
            model.alloc()
        });
        run.iter().for_each(|reference| model.touch(reference));
        assert!(run.windows(2).all(|pair| pair[0].get().0 + 1 == pair[1].get().0));
        model.check(&run.iter().chain(&single).collect::<Vec<_>>());
    });
}

#[test]
fn two_adopt_one_number() {
    explore(|| {
        let model = Model::new(1, 0);
        let number = model.list.leak(model.alloc().unwrap()).unwrap();
        let adopt = move |model: &Model| model.list.adopt(number).ok().inspect(|own| model.touch(own));
        let (a, b) = race(&model, [NO_VCPU; 2], adopt, adopt);
        assert!(a.is_some() != b.is_some());
        model.check(&[&a, &b].into_iter().flatten().collect::<Vec<_>>());
    });
}

#[derive(Default)]
struct Counter(AtomicU32);

impl Wake for Counter {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who waits gets what is freed, or is woken.
#[test]
fn wait_against_free() {
    explore(|| {
        let model = Model::new(1, 0);
        let taken = model.alloc().unwrap();
        let woken = std::sync::Arc::new(Counter::default());
        let waker = Waker::from(woken.clone());
        let wait = move |model: &Model| match model.list.poll_alloc(&mut Context::from_waker(&waker)) {
            Poll::Ready(reference) => Some(reference),
            Poll::Pending => None,
        };
        let (got, ()) = race(&model, [NO_VCPU; 2], wait, move |model| model.free(taken));
        assert!(got.is_some() || woken.0.load(Ordering::Relaxed) > 0, "a lost wake-up");
        model.check(&got.iter().collect::<Vec<_>>());
    });
}
